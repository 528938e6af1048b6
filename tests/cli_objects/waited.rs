//! `wait` and `events`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::{World, agent, applied, session};

#[test]
fn wait_ends_when_it_is_so_and_says_why_when_it_is_not() {
    let world = World::new();
    applied(&world, &agent("a", "").replace("claude", "command").replace("  suspend: true\n", ""));
    world.od(&["run", "-f", "--name", "bad", "exit 3"]);
    insta::assert_snapshot!(session(
        &world,
        &[
            &["wait", "agent/a", "--for=condition=Ready", "--timeout", "60s"],
            &["wait", "job/bad", "--for=condition=Failed"],
            &["wait", "job/bad", "--for=condition=Complete", "--timeout", "0"],
            &["wait", "job/bad", "--for=jsonpath={.status.exitCode}=3"],
            &["wait", "job/bad", "--for=create"],
            &["wait", "job/missing", "--for=delete"],
            &["wait", "job/missing", "--for=condition=Failed"],
            &["wait", "job/bad", "--for=ready"],
            &["wait", "jobs", "--for=delete"],
            &["wait", "jobs", "--all", "--for=condition=Failed"],
        ]
    ));
}

#[test]
fn wait_sees_an_object_come_and_go() {
    let world = World::new();
    let start = |what: &str| {
        let mut command = world.command(&["wait", "agent/later", what, "--timeout", "60s"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut coming = start("--for=create");
    // It says what it waits for once it has looked, so that the object comes behind that look.
    let mut said = String::new();
    BufReader::new(coming.stderr.take().unwrap()).read_line(&mut said).unwrap_or_default();
    applied(&world, &agent("later", ""));
    let came = coming.wait_with_output().unwrap();
    assert_eq!(came.stdout, b"agent.opendispatch.dev/later created\n", "{said}");
    let going = start("--for=delete");
    assert_eq!(world.od(&["delete", "agent/later"]).code, 0);
    let gone = going.wait_with_output().unwrap();
    assert_eq!(gone.stdout, b"agent.opendispatch.dev/later deleted\n");
}

#[test]
fn events_are_listed_by_object_and_by_type() {
    let world = World::new();
    assert_eq!(world.od(&["events"]).whole(), "--- stderr\nNo events found\n--- exit code 0\n");
    world.od(&["run", "-f", "--name", "one", "true"]);
    let failing = world.od(&["run", "-f", "--name", "two", "--workdir", "/no/such/place", "true"]);
    assert_eq!(failing.code, 125);
    let all = world.od(&["events"]).text();
    assert!(all.starts_with("LAST SEEN"), "{all}");
    assert!(all.contains("job/one") && all.contains("job/two"), "{all}");
    let one = world.od(&["events", "--for", "job/one", "--no-headers"]).text();
    assert!(!one.is_empty() && one.lines().all(|line| line.contains(" job/one ")), "{one}");
    let warnings = world.od(&["events", "--types", "Warning", "--no-headers"]).text();
    assert!(!warnings.is_empty() && warnings.lines().all(|line| line.contains("Warning")));
    assert_eq!(world.od(&["events", "--for", "job/missing"]).code, 1);
    assert_eq!(world.od(&["events", "--types", "Loud"]).code, 2);
    let json = world.od(&["events", "--for", "job/one", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["items"][0]["involvedObject"]["name"], "one");
}

#[test]
fn events_go_on_as_they_happen() {
    let world = World::new();
    let mut watching = world
        .command(&["events", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    world.od(&["run", "-f", "--name", "later", "true"]);
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("later"), "{line}");
    watching.kill().unwrap();
    watching.wait().unwrap();
}
