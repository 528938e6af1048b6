//! `apply`, `diff`, `create` and `replace`.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use crate::{World, agent, applied, apply, object, session};

#[test]
fn a_directory_is_read_with_what_is_below_it_only_when_that_is_meant() {
    let world = World::new();
    world.write("specs/a.yaml", agent("a", ""));
    world.write("specs/deep/er/b.yml", agent("b", ""));
    world.write("specs/schema/agent.json", "{\"no\": \"object\"}");
    world.write("specs/.git/c.yaml", "no: object");
    std::os::unix::fs::symlink(world.work(), world.work().join("specs/loop")).unwrap();
    let flat = world.od(&["apply", "-f", "specs"]);
    assert_eq!(flat.whole(), "agent.opendispatch.dev/a created\n--- stderr\n--- exit code 0\n");
    let deep = world.od(&["apply", "-f", "specs", "-R"]);
    assert_eq!(
        deep.text(),
        "agent.opendispatch.dev/a unchanged\nagent.opendispatch.dev/b created\n",
        "{}",
        deep.stderr
    );
}

#[test]
fn every_fault_of_every_place_is_told_and_nothing_is_applied() {
    let world = World::new();
    world.write("good.yaml", agent("good", ""));
    world.write("again.yaml", agent("good", ""));
    world.write("bad/broken.yaml", "kind: [Agent\n");
    world.write("bad/field.yaml", agent("field", "  instrucsions: x\n"));
    world.write("bad/bytes.yaml", b"\xff\xfe");
    world.write("empty/readme.txt", "nothing here");
    insta::assert_snapshot!(session(
        &world,
        &[
            &["apply", "-f", "good.yaml", "-f", "again.yaml", "-f", "bad", "-f", "missing.yaml"],
            &["apply", "-f", "empty"],
            &["apply", "-f", "good.yaml", "--prune"],
            &["apply", "-f", "good.yaml", "--prune", "--applyset", "No Name"],
            &["apply", "-f", "good.yaml", "--validate=ignore"],
            &["apply"],
            &["get", "agents"],
        ]
    ));
}

#[test]
fn a_dry_run_of_either_sort_changes_nothing() {
    let world = World::new();
    world.write("a.yaml", agent("a", ""));
    let before = world.od(&["get", "agents", "-o", "json"]).text();
    insta::assert_snapshot!(session(
        &world,
        &[
            &["apply", "-f", "a.yaml", "--dry-run=client"],
            &["apply", "-f", "a.yaml", "--dry-run=server", "--validate=strict"],
            &["create", "-f", "a.yaml", "--dry-run"],
            &["create", "-f", "a.yaml", "--dry-run=server", "-o", "name"],
        ]
    ));
    assert_eq!(world.od(&["get", "agents", "-o", "json"]).text(), before);
}

#[test]
fn what_left_the_files_of_a_set_is_pruned_and_nothing_else() {
    let world = World::new();
    let set = ["--prune", "--applyset", "main"];
    applied(&world, &agent("by-hand", ""));
    let three = [agent("a", ""), agent("b", ""), agent("c", "")].join("---\n");
    assert_eq!(apply(&world, &three, &set).code, 0);
    // Who copies an object copies its annotations, and must not lose the copy by that.
    let copy = world.od(&["get", "agent/b", "-o", "yaml"]).text();
    let copied = world.od_with(
        &["create", "-f", "-"],
        copy.replace("name: b", "name: copy").replace("uid:", "# uid:").as_bytes(),
    );
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let two = [agent("a", ""), agent("d", "")].join("---\n");
    let dry = apply(&world, &two, &[&set[..], &["--dry-run=server"]].concat());
    let real = apply(&world, &two, &set);
    let again = apply(&world, &two, &set);
    let other = apply(&world, &agent("a", ""), &["--prune", "--applyset", "other"]);
    insta::assert_snapshot!([dry, real, again, other].map(|it| it.whole()).join("\n"));
    let left = world.od(&["get", "agents", "-o", "name"]).text();
    let names: Vec<&str> = left.lines().filter_map(|line| line.split('/').nth(1)).collect();
    assert_eq!(names, ["a", "by-hand", "copy", "d"]);
}

#[test]
fn a_set_that_is_empty_or_broken_prunes_nothing() {
    let world = World::new();
    world.write("set/a.yaml", agent("a", ""));
    let set = ["apply", "-f", "set", "--prune", "--applyset", "main"];
    assert_eq!(world.od(&set).code, 0);
    world.write("set/a.yaml", "");
    let empty = world.od(&set);
    insta::assert_snapshot!(empty.whole(), @"
    --- stderr
    set: no object stands there, and --prune would delete all that did; leave it out
    --- exit code 1
    ");
    world.write("set/a.yaml", "kind: [");
    assert_eq!(world.od(&set).code, 1);
    world.write("set/a.yaml", agent("b", "  idleTimeout: soon\n"));
    assert_eq!(world.od(&set).code, 1);
    assert_eq!(world.od(&["get", "agents", "-o", "name"]).text(), "agent.opendispatch.dev/a\n");
}

#[test]
fn an_object_that_is_applied_without_a_set_stays_in_the_one_it_is_in() {
    let world = World::new();
    let set = ["--prune", "--applyset", "main"];
    assert_eq!(apply(&world, &agent("a", ""), &set).code, 0);
    applied(&world, &agent("a", "  instructions: Be brief.\n"));
    let other = apply(&world, &agent("b", ""), &set);
    assert!(other.text().contains("agent.opendispatch.dev/a pruned\n"), "{}", other.whole());
}

#[test]
fn diff_says_by_its_exit_code_and_its_lines_what_apply_would_change() {
    let world = World::new();
    let spec = "  env: [{name: GH_TOKEN, value: hunter2}, {name: RUST_LOG, value: info}]\n";
    world.write("a.yaml", agent("a", spec));
    applied(&world, &agent("a", spec));
    let same = world.od(&["diff", "-f", "a.yaml"]);
    assert_eq!(same.whole(), "--- stderr\n--- exit code 0\n");
    let changed = spec.replace("hunter2", "hunter3").replace("info", "debug");
    world.write("a.yaml", agent("a", &changed) + "---\n" + &agent("new", ""));
    world.write("bad.yaml", agent("a", "  idleTimeout: soon\n"));
    let before = object(&world, "agent/a");
    let shown = session(
        &world,
        &[&["diff", "-f", "a.yaml"], &["diff", "-f", "bad.yaml"], &["diff", "-f", "missing.yaml"]],
    );
    assert!(!shown.contains("hunter"), "{shown}");
    insta::assert_snapshot!(shown);
    assert_eq!(object(&world, "agent/a"), before, "a diff changes nothing");
    let external = world
        .command(&["diff", "-f", "a.yaml"])
        .env("OPEN_DISPATCH_EXTERNAL_DIFF", "diff -r -N -U 0")
        .output()
        .unwrap();
    let text = String::from_utf8(external.stdout).unwrap();
    assert_eq!(external.status.code(), Some(1), "{text}");
    assert!(text.contains("+  - name: RUST_LOG\n") || text.contains("+    value: debug"), "{text}");
    assert!(!text.contains("hunter"), "{text}");
    let none = world
        .command(&["diff", "-f", "a.yaml"])
        .env("OPEN_DISPATCH_EXTERNAL_DIFF", "/no/such/program")
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn diff_without_a_server_is_trouble_and_no_difference() {
    let world = World::empty();
    world.write("a.yaml", agent("a", ""));
    let diff = world.od(&["diff", "-f", "a.yaml"]);
    assert_eq!(diff.code, 2, "{}", diff.stderr);
}

#[test]
fn diff_shows_what_a_set_would_lose() {
    let world = World::new();
    let set = ["--prune", "--applyset", "main"];
    let both = agent("a", "") + "---\n" + &agent("b", "");
    assert_eq!(apply(&world, &both, &set).code, 0);
    world.write("a.yaml", agent("a", ""));
    let diff = world.od(&[&["diff", "-f", "a.yaml"], &set[..]].concat());
    assert_eq!(diff.code, 1, "{}", diff.stderr);
    assert!(diff.text().contains("--- live/agent.opendispatch.dev.b\n+++ /dev/null\n"));
    assert!(!diff.text().contains("live/agent.opendispatch.dev.a"));
}

#[test]
fn an_address_is_a_file_and_hears_nothing_of_us() {
    let world = World::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/agents.yaml", listener.local_addr().unwrap());
    let body = agent("far", "");
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for status in ["200 OK", "404 Not Found"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(format!("{answer}{body}").as_bytes()).unwrap();
            asked.push(String::from_utf8(head).unwrap().to_lowercase());
        }
        asked
    });
    let found = world.od(&["apply", "-f", &url]);
    assert_eq!(found.text(), "agent.opendispatch.dev/far created\n", "{}", found.stderr);
    let missing = world.od(&["apply", "-f", &url]);
    assert_eq!(missing.stderr, format!("{url}: it answers 404 Not Found\n"));
    for head in serving.join().unwrap() {
        assert!(!head.contains("authorization") && !head.contains("open-dispatch-by"), "{head}");
    }
}

#[test]
fn create_creates_once_and_replace_takes_away_what_a_file_does_not_say() {
    let world = World::new();
    world.write("a.yaml", agent("a", "  instructions: Be brief.\n"));
    world.write("b.yaml", agent("b", "") + "---\n" + &agent("a", ""));
    world.write("made-up.yaml", agent("x", "").replace("name: x", "generateName: made-"));
    insta::assert_snapshot!(session(
        &world,
        &[
            &["create", "-f", "a.yaml"],
            &["create", "-f", "b.yaml"],
            &["replace", "-f", "b.yaml"],
            &["create", "-f", "made-up.yaml", "--dry-run=client"],
            &["apply", "-f", "made-up.yaml"],
        ]
    ));
    assert!(object(&world, "agent/a")["spec"]["instructions"].is_null());
    let made = world.od(&["create", "-f", "made-up.yaml", "-o", "name"]).text();
    assert!(made.starts_with("agent.opendispatch.dev/made-"), "{made}");
    let old = world.od(&["get", "agent/a", "-o", "yaml"]).text();
    applied(&world, &agent("a", "  instructions: Be loud.\n"));
    let stale = world.od_with(&["replace", "-f", "-"], old.as_bytes());
    assert_eq!(stale.code, 1);
    assert!(stale.stderr.starts_with("Error from server (Conflict)"), "{}", stale.stderr);
    let fresh = world.od(&["get", "agent/a", "-o", "yaml"]).text();
    let replaced = world.od_with(&["replace", "-f", "-"], fresh.as_bytes());
    assert_eq!(replaced.code, 0, "{}", replaced.stderr);
}

#[test]
fn a_file_that_names_no_agent_is_taken_and_nothing_is_said_that_it_does_not_say() {
    let world = World::new();
    world.write(
        "all.yaml",
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Schedule\nmetadata: {name: nightly}\nspec:\n  \
         schedule: '@daily'\n  suspend: true\n  jobTemplate: {spec: {task: 'true'}}\n---\napiVersion: \
         opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {name: bot}\nspec: {suspend: true}\n",
    );
    for verb in ["create", "apply"] {
        let made = world.od(&[verb, "-f", "all.yaml"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let schedule = object(&world, "schedule/nightly");
        let spec = &schedule["spec"]["jobTemplate"]["spec"];
        assert_eq!(spec["agent"], serde_json::json!({"command": {}}), "the server's usual one");
        assert_eq!(object(&world, "agent/bot")["spec"]["agent"], spec["agent"]);
        let diff = world.od(&["diff", "-f", "all.yaml"]);
        assert_eq!((diff.code, diff.text().as_str()), (0, ""), "{}", diff.stderr);
    }
    // Where it runs, and what works, is not this file's to say.
    let bot = object(&world, "agent/bot");
    let last = &bot["metadata"]["annotations"]["opendispatch.dev/last-applied-configuration"];
    assert_eq!(
        last.as_str().map(|it| it.contains("runtime") || it.contains("agent\"")),
        Some(false),
        "{last}"
    );
}

#[test]
fn an_empty_place_prunes_nothing_and_neither_does_more_than_is_allowed() {
    let world = World::new();
    let set = ["--prune", "--applyset", "main"];
    for n in 0..12 {
        world.write(&format!("b/{n}.yaml"), agent(&format!("b-{n}"), ""));
    }
    world.write("a/a.yaml", agent("a", ""));
    let prune = |more: &[&str]| {
        let words = [&["apply", "-f", "a"][..], &set, more].concat();
        world.od(&words)
    };
    let first = prune(&["-f", "b"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let there = world.od(&["get", "agents"]).text();
    // The mount is not there: all of b would go.
    std::fs::rename(world.work().join("b"), world.work().join("away")).unwrap();
    std::fs::create_dir(world.work().join("b")).unwrap();
    for verb in ["apply", "diff"] {
        let words = [&[verb, "-f", "a", "-f", "b"][..], &set].concat();
        let refused = world.od(&words);
        assert_eq!(refused.code, if verb == "apply" { 1 } else { 2 }, "{}", refused.whole());
        assert!(
            refused.stderr.contains("b: no object stands there, and --prune"),
            "{}",
            refused.stderr
        );
    }
    // Without the place they are meant to go, and are too many; nothing is applied either.
    world.write("a/new.yaml", agent("new", ""));
    for more in [&[][..], &["--dry-run=server"], &["--max-deletions", "11"]] {
        let refused = prune(more);
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("would delete 12 objects"), "{}", refused.stderr);
    }
    assert_eq!(world.od(&["get", "agents"]).text().lines().count(), there.lines().count());
    let dry = prune(&["--max-deletions", "12", "--dry-run=server"]);
    assert_eq!((dry.code, dry.text().matches("pruned (server dry run)").count()), (0, 12));
    let done = prune(&["--max-deletions", "12"]);
    assert_eq!((done.code, done.text().matches(" pruned\n").count()), (0, 12), "{}", done.stderr);
}
