//! What a Source declares, as people meet it on the command line: changed for a time, written to its
//! file, compared with it, applied, and refused with the commands to type.
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

use std::time::{Duration, Instant};

use serde_json::Value;
use server::World;

/// Longer than anything here takes, and shorter than the engine's own rounds (5 minutes), so that
/// what would only be seen by them fails.
const SOON: Duration = Duration::from_secs(60);

/// Two agents in one file, as a Source has them.
fn team(idle: &str) -> String {
    let agent = |name: &str| {
        format!(
            "apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {{name: {name}, labels: {{team: one}}}}
spec:
  agent: {{command: {{}}}} # a shell
  idleTimeout: {idle}
  suspend: true
"
        )
    };
    format!("# Ours.\n{}---\n{}", agent("a1"), agent("a2"))
}

/// A server whose Source `specs` has applied the team.
fn world() -> World {
    let mut world = World::empty();
    world.write("specs/team.yaml", team("15m"));
    world.serve(&["--specs", "specs"]);
    until(&world, "the source is applied", |world| {
        field(world, "source/specs", "/status/phase") == "Ready"
            && field(world, "agent/a2", "/status/phase") == "Suspended"
    });
    world
}

/// Looks until something holds.
fn until(world: &World, what: &str, holds: impl Fn(&World) -> bool) {
    let begun = Instant::now();
    while !holds(world) {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A member of an object; null where there is no such object.
fn field(world: &World, object: &str, pointer: &str) -> Value {
    let found = world.od(&["get", object, "-o", "json"]);
    let object: Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
    object.pointer(pointer).cloned().unwrap_or_default()
}

/// A command and what came of it, without what differs from run to run.
fn told(world: &World, args: &[&str]) -> String {
    let outcome = world.od(args);
    let text = without_times(&outcome.whole());
    format!("$ open-dispatch {}\n{text}", args.join(" "))
}

/// A text without times and drawn names.
fn without_times(text: &str) -> String {
    let mut tame = String::new();
    for line in text.lines() {
        let words = line.split(' ').map(|word| {
            if word.starts_with("20") && word.contains('T') {
                "TIME"
            } else if word.contains("a1-") {
                "OVERRIDE"
            } else {
                word
            }
        });
        tame.push_str(&words.collect::<Vec<_>>().join(" "));
        tame.push('\n');
    }
    tame
}

/// The name of the one Override there is.
fn over(world: &World) -> String {
    let names = world.od(&["get", "overrides", "-o", "name"]).text();
    names.trim().rsplit('/').next().unwrap().to_owned()
}

#[test]
fn an_override_ends_once_its_file_says_it_and_then_the_file_has_the_last_word() {
    let world = world();
    let mut set = world.command(&["set", "a1", "idleTimeout=2h", "--write"]);
    let set = set.env("USER", "ada").output().unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let over = format!("override/{}", over(&world));
    // Whom a commit would be by.
    let by = field(&world, &over, "/metadata/annotations/opendispatch.dev~1asked-by");
    assert_eq!(by, "ada");
    until(&world, "the override ends", |world| field(world, &over, "/status/phase") == "Written");
    let text = std::fs::read_to_string(world.work().join("specs/team.yaml")).unwrap();
    assert_eq!(text, team("15m").replacen("15m", "2h", 1));
    assert!(!world.od(&["get", "agents"]).text().contains("drifted"));
    world.write("specs/team.yaml", team("45m"));
    until(&world, "the file is followed", |world| {
        field(world, "agent/a1", "/spec/idleTimeout") == "45m"
    });
}

#[test]
fn what_a_source_declares_is_compared_applied_and_refused_in_words_that_help() {
    let world = world();
    // Nothing differs, so nothing is refused.
    let diff = world.od(&["diff", "-f", "specs"]);
    assert_eq!((diff.code, diff.text()), (0, String::new()), "{}", diff.stderr);
    let same = "agent.opendispatch.dev/a1 unchanged\nagent.opendispatch.dev/a2 unchanged\n";
    for _ in 0..2 {
        let applied = world.od(&["apply", "-f", "specs"]);
        assert_eq!((applied.code, applied.text()), (0, same.to_owned()), "{}", applied.stderr);
    }
    world.write("exported.yaml", world.od(&["export"]).text());
    let exported = world.od(&["apply", "-f", "exported.yaml", "--dry-run=server"]);
    assert_eq!(exported.code, 0, "{}", exported.whole());
    // The account that apply keeps is no drift: the source leaves it.
    let revision = field(&world, "agent/a1", "/metadata/resourceVersion");
    world.od(&["reconcile", "source/specs"]);
    assert_eq!(field(&world, "agent/a1", "/metadata/resourceVersion"), revision);

    world.write("other.yaml", team("45m").split("---").next().unwrap());
    let mut shown = vec![
        told(&world, &["diff", "-f", "other.yaml"]),
        told(&world, &["apply", "-f", "other.yaml"]),
        told(&world, &["apply", "-f", "other.yaml", "--dry-run=server"]),
        told(&world, &["set", "a1", "idleTimeout=45m", "budget.turns=3"]),
        told(&world, &["delete", "agent/a1"]),
        told(&world, &["delete", "agent/a1", "--dry-run=server"]),
        told(&world, &["diff", "agent/a1"]),
    ];
    assert_eq!(field(&world, "agent/a1", "/spec/idleTimeout"), "15m");

    let over = world.od(&["override", "agent/a1", "idleTimeout=2h", "--for", "1h"]);
    assert_eq!(over.code, 0, "{}", over.stderr);
    until(&world, "the drift is told", |world| {
        world.od(&["get", "agent/a1"]).text().contains("Suspended (drifted)")
    });
    shown.push(told(&world, &["diff", "agent/a1"]));
    shown.push(told(&world, &["diff"]));
    shown.push(told(&world, &["diff", "agent/a2"]));
    shown.push(told(&world, &["diff", "agent/nobody"]));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_script_that_says_a_line_which_leaves_a_choice_ends() {
    let world = world();
    let begun = Instant::now();
    let said = world.od_with(&["chat", "--plain"], b"/od-set a1 idleTimeout=45m\n");
    assert!(begun.elapsed() < SOON, "it waits for somebody who chooses");
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.text().contains("Override for 1 h: /od-choose "), "{}", said.text());
    for way in ["--for 1h", "--write", "open-dispatch release", "/od-choose"] {
        assert!(said.stderr.contains(way), "{way}: {}", said.stderr);
    }
    let fine = world.od_with(&["chat", "--plain"], b"/od-list\n");
    assert_eq!(fine.code, 0, "{}", fine.stderr);
    assert_eq!(field(&world, "agent/a1", "/spec/idleTimeout"), "15m");
}

#[test]
fn nothing_in_a_patch_takes_a_field_away() {
    let world = world();
    let over = world.od(&["override", "agent/a1", "-p", "{idleTimeout: null}", "--for", "1h"]);
    assert_eq!(over.code, 0, "{}", over.stderr);
    until(&world, "the field is gone", |world| {
        field(world, "agent/a1", "/spec/idleTimeout").is_null()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_the_api_shows_what_would_be_refused_and_does_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = world();
    let read = |name: &str| std::fs::read_to_string(world.data().join(name)).unwrap();
    let (url, token) = (read("endpoint").trim().to_owned(), read("token").trim().to_owned());
    let client = reqwest::Client::new();
    let ask = async |method: &str, path: &str, sort: &str, body: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{url}/apis/opendispatch.dev/v1alpha1/{path}");
        let request = client.request(method, url).bearer_auth(&token).header("content-type", sort);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let warning = answer.headers().get("warning").map(|it| it.to_str().unwrap().to_owned());
        (answer.status().as_u16(), warning, answer.json::<Value>().await.unwrap())
    };
    const MERGE: &str = "application/merge-patch+json";
    let patch = r#"{"spec": {"idleTimeout": "45m"}}"#;
    let (code, warning, shown) = ask("PATCH", "agents/a1?dryRun=All", MERGE, patch).await;
    assert_eq!((code, &shown["spec"]["idleTimeout"]), (200, &"45m".into()));
    let warning = warning.unwrap();
    assert!(
        warning.starts_with(
            "299 - \"agents \\\"a1\\\" is declared by source specs (team.yaml:2), so this would be \
             refused: override it for a time: open-dispatch override agent/a1"
        ),
        "{warning}"
    );
    // One that changes nothing is warned of nothing.
    let same = r#"{"spec": {"idleTimeout": "15m"}}"#;
    assert_eq!(ask("PATCH", "agents/a1?dryRun=All", MERGE, same).await.1, None);
    let strict = "agents/a1?dryRun=All&ifDeclared=Refuse";
    assert_eq!(ask("PATCH", strict, MERGE, patch).await.0, 403);
    assert_eq!(ask("PATCH", "agents/a1?ifDeclared=no", MERGE, patch).await.0, 422);
    let (code, _, refused) = ask("PATCH", "agents/a1", MERGE, patch).await;
    assert_eq!((code, refused["reason"].as_str()), (403, Some("Owned")));
    assert_eq!(refused["details"]["causes"].as_array().unwrap().len(), 3);
    assert_eq!(ask("DELETE", "agents/a1?dryRun=All", "application/json", "").await.0, 403);
    // What has no dry run is not done when somebody asks for one.
    let json = "application/json";
    for (method, path) in [
        ("POST", "agents/a1/release?dryRun=All"),
        ("POST", "tokens?dryRun=All"),
        ("PUT", "secrets/s?dryRun=All"),
        ("PUT", "access/grants/user:x?dryRun=All"),
        ("POST", "agents/a1/turns?dryRun=All"),
        ("DELETE", "tokens/t?dryRun=All"),
    ] {
        let (code, _, told) = ask(method, path, json, r#"{"name": "t", "role": "viewer"}"#).await;
        assert_eq!(code, 400, "{method} {path}: {told}");
        assert!(told["message"].as_str().unwrap().contains("nothing was done"), "{told}");
    }
    assert_eq!(field(&world, "agent/a1", "/spec/idleTimeout"), "15m");
    assert_eq!(ask("GET", "agents/a1/source", json, "").await.0, 200, "it was not let go");
}
