//! Who may know whom: the table of `src/lib.rs`, held against the sources.
//!
//! A room that names another one anywhere (in a `use`, in a path, in a test of its own) knows
//! it. What the table does not allow fails here, with the file and the line.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What each room may know, beside itself and `ambient`, which is handed to everybody.
const MAY_KNOW: [(&str, &[&str]); 16] = [
    ("access", &["store"]),
    ("ambient", &[]),
    (
        "app",
        &[
            "chat",
            "config",
            "metrics",
            "reconcile",
            "resource",
            "runtime",
            "secrets",
            "server",
            "source",
            "store",
            "token",
        ],
    ),
    ("chat", &["access", "reconcile", "resource", "store"]),
    (
        "cli",
        &["app", "chat", "config", "dev_fly", "resource", "runtime", "secrets", "source", "token"],
    ),
    ("config", &["resource"]),
    ("dev_fly", &[]),
    ("metrics", &[]),
    ("reconcile", &["metrics", "resource", "runtime", "store"]),
    ("resource", &[]),
    ("runtime", &["resource", "secrets"]),
    ("secrets", &[]),
    ("server", &["access", "metrics", "resource", "secrets", "store", "token"]),
    ("source", &["reconcile", "resource", "secrets", "store"]),
    ("store", &["resource"]),
    ("token", &[]),
];

/// Where a room may know less of another than the whole of it: the files that may name it, and
/// what of it they may name.
const NARROW: [(&str, &str, &[&str], &[&str]); 10] = [
    // The names of the agents, images and regions, which a variable may say.
    (
        "config",
        "resource",
        &["error.rs", "fly.rs", "mod.rs", "read.rs"],
        &["resolve", "fly", "images"],
    ),
    // The engine's doors for a controller, and none of its controllers.
    ("chat", "reconcile", &["outbox/"], &["Controller", "Error", "Next", "Wake"]),
    ("source", "reconcile", &["controller", "over/"], &["Controller", "Error", "Next", "Wake"]),
    // The words that a terminal and the console share; nothing that writes.
    // And what an app of a platform is made from, for who makes one and who checks it.
    ("cli", "chat", &["chat/", "slack.rs", "doctor/"], &["frames", "grammar", "slack"]),
    // Whether repositories answer, for who asks whether a server can work.
    ("cli", "source", &["doctor/sources.rs"], &["git"]),
    ("cli", "secrets", &["doctor/sources.rs"], &["Secrets"]),
    // The client of Fly's API, for who asks whether the token is good.
    ("cli", "runtime", &["doctor/fly.rs"], &["fly"]),
    // The command that plays Fly, for who has no account.
    (
        "cli",
        "dev_fly",
        &["dev_fly.rs"],
        &["DevFly", "DevFlyConfig", "Found", "Guest", "Line", "Switches"],
    ),
    // And keeps the token of it.
    ("cli", "token", &["dev_fly.rs"], &["secret_file"]),
    // The commands that bring a server up, or work on its data directory while none runs.
    ("cli", "app", &["serve.rs", "backup.rs"], &["House", "LogTo", "Running", "Error", "backup"]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The paths that begin with `crate::`, with groups in braces opened: `crate::a::{b, c::d}`
/// names `a::b` and `a::c::d`. With each, the line on which it stands.
fn paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        // `$crate::` is ours too; `sprite_crate::` would be somebody else's.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = text[..at].matches('\n').count() + 1;
        let mut names = Vec::new();
        tree(&text[at + "crate::".len()..], "", &mut names);
        found.extend(names.into_iter().map(|name| (line, name)));
    }
    found
}

/// Reads one tree of a `use`; answers with what stands behind it.
fn tree<'a>(text: &'a str, front: &str, names: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix('}') {
                return behind;
            }
            rest = tree(rest, front, names).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
            if !rest.contains('}') {
                return rest;
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let name = if front.is_empty() { word.to_owned() } else { format!("{front}::{word}") };
    match rest.strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => tree(rest, &name, names),
        _ => {
            names.push(name);
            // `as other` renames, which hides nothing.
            rest.strip_prefix(" as ").map_or(rest, |rest| {
                rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
            })
        }
    }
}

/// What of a source is code: comments may speak of everybody.
fn code(text: &str) -> String {
    let line = |line: &str| {
        let comment = line.trim_start().starts_with("//");
        if comment { String::new() } else { line.to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What one file says that it may not say.
fn trespasses(room: &str, file: &str, text: &str) -> Vec<String> {
    let (_, allowed) = MAY_KNOW.iter().find(|(name, _)| *name == room).unwrap();
    let mut wrong = Vec::new();
    for (line, path) in paths(&code(text)) {
        let (other, what) = path.split_once("::").unwrap_or((&path, ""));
        if other == room || other == "ambient" || !MAY_KNOW.iter().any(|(name, _)| *name == other) {
            continue;
        }
        let narrow = NARROW.iter().find(|(from, to, ..)| *from == room && *to == other);
        let narrow = narrow.is_none_or(|(_, _, files, items)| {
            let first = what.split("::").next().unwrap_or_default();
            files.iter().any(|start| file.starts_with(start)) && items.contains(&first)
        });
        if !allowed.contains(&other) || !narrow {
            wrong.push(format!("src/{room}/{file}:{line} knows {path}"));
        }
    }
    wrong
}

fn rooms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn no_room_knows_what_it_may_not() {
    let mut files = Vec::new();
    sources(&rooms(), &mut files);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files {
        let inside = path.strip_prefix(rooms()).unwrap().to_string_lossy().into_owned();
        let (room, file) = match inside.split_once('/') {
            Some((room, file)) => (room.to_owned(), file.to_owned()),
            None => (inside.trim_end_matches(".rs").to_owned(), String::new()),
        };
        if matches!(room.as_str(), "lib" | "main") {
            continue;
        }
        assert!(MAY_KNOW.iter().any(|(name, _)| *name == room), "src/{room} stands in no table");
        wrong.extend(trespasses(&room, &file, &fs::read_to_string(&path).unwrap()));
        seen.insert(room);
    }
    assert_eq!(seen.len(), MAY_KNOW.len(), "a room of the table is gone: {seen:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_names_every_room() {
    let map = fs::read_to_string(rooms().join("lib.rs")).unwrap();
    for (room, _) in MAY_KNOW {
        assert!(map.contains(&format!("//! | [`{room}`] |")), "{room} stands not on the map");
        assert!(map.contains(&format!("\npub mod {room};")), "{room} is no room");
    }
}

#[test]
fn a_trespass_is_found_however_it_is_written() {
    let found = |room: &str, file: &str, text: &str| trespasses(room, file, text).len();
    assert_eq!(found("server", "a.rs", "use crate::runtime::Runtime;"), 1);
    assert_eq!(found("server", "a.rs", "use crate::{\n    store,\n    runtime::{A, B},\n};"), 2);
    assert_eq!(found("server", "a.rs", "fn f() { crate::reconcile::Engine::new() }"), 1);
    assert_eq!(found("chat", "outbox/mod.rs", "use crate::reconcile::{Controller, Wake as W};"), 0);
    assert_eq!(
        found("chat", "outbox/mod.rs", "use crate::reconcile::controllers::JobController;"),
        1
    );
    assert_eq!(found("chat", "console.rs", "use crate::reconcile::Controller;"), 1);
    assert_eq!(found("cli", "run.rs", "use crate::app::House;"), 1);
    assert_eq!(found("cli", "serve.rs", "use crate::{ambient::Ambient, app::{House, LogTo}};"), 0);
    assert_eq!(found("server", "a.rs", "// crate::runtime is far away\nuse crate::store;"), 0);
}

/// The program is the command line, and nothing else.
#[test]
fn main_knows_the_command_line_alone() {
    let text = code(&fs::read_to_string(rooms().join("main.rs")).unwrap());
    let named: BTreeSet<&str> = text
        .match_indices("open_dispatch::")
        .map(|(at, name)| text[at + name.len()..].split("::").next().unwrap_or_default())
        .collect();
    assert_eq!(named, BTreeSet::from(["cli"]));
}
