//! `label`, `annotate`, `patch`, `scale` and `rollout`.

use crate::{World, agent, applied, object, session};

#[test]
fn labels_are_set_taken_away_and_not_overwritten_by_mistake() {
    let world = World::new();
    applied(&world, &(agent("a", "") + "---\n" + &agent("b", "")));
    insta::assert_snapshot!(session(
        &world,
        &[
            &["label", "agent/a", "team=x"],
            &["label", "agent", "a", "b", "team=x"],
            &["label", "agents", "a", "team=y"],
            &["label", "agents", "a", "team=y", "--overwrite", "--dry-run=server"],
            &["label", "agents", "a", "team=y", "--overwrite"],
            &["label", "agents", "-l", "team=x", "tier=test"],
            &["label", "agents", "--all", "tier-"],
            &["label", "agent/a", "--list"],
            &["label", "agent/a", "bad key=x"],
            &["label", "agent/missing", "a=b"],
            &["label", "agents", "a=b"],
            &["label", "agent/a"],
            &["annotate", "agent/a", "example.org/owner=the payments team"],
            &["annotate", "agent/a", "example.org/owner-"],
        ]
    ));
    assert_eq!(object(&world, "agent/a")["metadata"]["labels"]["team"], "y");
    assert_eq!(object(&world, "agent/b")["metadata"]["labels"]["team"], "x");
}

#[test]
fn a_patch_merges_by_yaml_or_json_and_bad_ones_are_told() {
    let world = World::new();
    applied(&world, &agent("a", "  instructions: Be brief.\n"));
    world.write("patch.yaml", "spec:\n  idleTimeout: 1h\n  instructions: null\n");
    insta::assert_snapshot!(session(
        &world,
        &[
            &["patch", "agent/a", "--patch-file", "patch.yaml", "--dry-run=server"],
            &["patch", "agent/a", "--patch-file", "patch.yaml", "--dry-run=client"],
            &["patch", "agent/a", "--patch-file", "patch.yaml"],
            &["patch", "agent", "a", "-p", r#"{"spec": {"idleTimeout": "1h"}}"#],
            &["patch", "agent/a", "-p", "{spec: {idleTimeout: soon}}"],
            &["patch", "agent/a", "-p", "{spec: {idleTimout: 1h}}"],
            &["patch", "agent/a", "-p", "spec: ["],
            &["patch", "agent/a", "-p", "just text"],
            &["patch", "agent/a", "--type", "json", "-p", "{}"],
            &["patch", "agent/a", "--type", "strategic", "-p", "{}"],
            &["patch", "agent/a", "--patch-file", "missing.yaml"],
            &["patch", "agent/a"],
            &["patch", "agents", "-p", "{}"],
        ]
    ));
    let spec = &object(&world, "agent/a")["spec"];
    assert_eq!(spec["idleTimeout"], "1h");
    assert!(spec["instructions"].is_null());
}

#[test]
fn operations_change_what_they_name_and_fail_whole() {
    let world = World::new();
    applied(&world, &agent("a", "  instructions: Be brief.\n"));
    let patch =
        |operations: &str| world.od(&["patch", "agent/a", "--type", "json", "-p", operations]);
    let good = patch(
        r#"[{"op": "test", "path": "/spec/suspend", "value": true},
        {"op": "replace", "path": "/spec/instructions", "value": "Be loud."}]"#,
    );
    assert_eq!(good.text(), "agent.opendispatch.dev/a patched\n", "{}", good.stderr);
    let bad = patch(
        r#"[{"op": "remove", "path": "/spec/instructions"},
        {"op": "test", "path": "/spec/suspend", "value": false}]"#,
    );
    assert_eq!(bad.code, 1, "{}", bad.stderr);
    assert_eq!(object(&world, "agent/a")["spec"]["instructions"], "Be loud.");
}

#[test]
fn what_has_no_replicas_says_so() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    for word in ["agent/a", "job/x"] {
        let scale = world.od(&["scale", word, "--replicas", "3"]);
        assert_eq!(scale.code, 2, "{}", scale.stderr);
        assert!(scale.stderr.contains("have no replicas"), "{}", scale.stderr);
    }
}

#[test]
fn a_restarted_agent_gets_a_new_sprite_and_the_rollout_waits_for_it() {
    let world = World::new();
    applied(&world, &agent("a", "").replace("claude", "command").replace("  suspend: true\n", ""));
    let first = world.od(&["rollout", "status", "agent/a", "--timeout", "60s"]);
    assert_eq!(first.text(), "agent.opendispatch.dev/a is rolled out\n", "{}", first.stderr);
    let sprite = || object(&world, "agent/a")["status"]["incarnation"].as_u64();
    assert_eq!(sprite(), Some(1));
    let restart = world.od(&["rollout", "restart", "agent/a"]);
    assert_eq!(restart.text(), "agent.opendispatch.dev/a restarted\n", "{}", restart.stderr);
    let again = world.od(&["rollout", "status", "agent/a", "--timeout", "60s"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(sprite(), Some(2));
    let history = world.od(&["rollout", "history", "agent/a"]).text();
    assert!(history.lines().count() >= 3 && history.contains("NUMBER"), "{history}");
    insta::assert_snapshot!(session(
        &world,
        &[
            &["rollout", "undo", "agent/a"],
            &["rollout", "restart", "job/x"],
            &["rollout", "status", "sprite/x"],
            &["rollout", "restart", "agent/missing"],
        ]
    ));
}

/// A Fleet that makes nothing.
fn fleet(name: &str, generate: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1
kind: Fleet
metadata: {{name: {name}}}
spec:
  suspend: true
  generate: {generate}
  template: {{kind: Agent, metadata: {{}}, spec: {{agent: {{command: {{}}}}}}}}
"
    )
}

#[test]
fn a_fleet_is_scaled_and_one_that_cannot_be_says_so() {
    let world = World::new();
    applied(&world, &fleet("crew", "{replicas: 2}"));
    applied(&world, &fleet("named", "{list: [{name: a}]}"));
    let replicas = || object(&world, "fleet/crew")["spec"]["generate"]["replicas"].as_u64();
    let scale = |more: &[&str]| world.od(&[&["scale", "fleet/crew"], more].concat());
    let dry = scale(&["--replicas", "3", "--dry-run=server"]);
    assert_eq!((dry.code, replicas()), (0, Some(2)), "{}", dry.stderr);
    let done = scale(&["--replicas", "3"]);
    assert_eq!((done.code, replicas()), (0, Some(3)), "{}", done.stderr);
    let other = scale(&["--replicas", "5", "--current-replicas", "2"]);
    assert_eq!((other.code, replicas()), (1, Some(3)), "{}", other.stderr);
    let same = scale(&["--replicas", "5", "--current-replicas", "3"]);
    assert_eq!((same.code, replicas()), (0, Some(5)), "{}", same.stderr);
    let named = world.od(&["scale", "fleet/named", "--replicas", "3"]);
    assert_eq!(named.code, 2, "{}", named.stderr);
    let told = &named.stderr;
    assert!(told.contains("spec.generate.list makes a member of each entry"), "{told}");
    assert!(told.contains("open-dispatch edit fleet.opendispatch.dev/named"), "{told}");
    applied(&world, &fleet("crossed", "{matrix: {a: [x, y]}}"));
    let crossed = world.od(&["scale", "fleet/crossed", "--replicas", "3", "--dry-run=client"]);
    assert!(crossed.stderr.contains("spec.generate.matrix"), "{}", crossed.stderr);
}

#[test]
fn an_agent_that_a_source_declares_begins_anew_and_is_restarted_all_the_same() {
    let mut world = World::empty();
    world.write("specs/bot.yaml", agent("bot", ""));
    world.serve(&[]);
    let there = world.od(&["wait", "agent/bot", "--for=create", "--timeout", "60s"]);
    assert_eq!(there.code, 0, "{}", there.stderr);
    let owned = world.od(&["label", "agent/bot", "a=b"]);
    assert_eq!(owned.code, 1);
    assert!(owned.stderr.contains("declared by source specs"), "{}", owned.stderr);
    let forced = world.od(&["retry", "--force", "agent/bot"]);
    assert_eq!(
        forced.text(),
        "agent.opendispatch.dev/bot begins a new session\n",
        "{}",
        forced.stderr
    );
    let restarted = world.od(&["rollout", "restart", "agent/bot"]);
    assert_eq!(restarted.text(), "agent.opendispatch.dev/bot restarted\n", "{}", restarted.stderr);
    let object = object(&world, "agent/bot");
    let annotations = object["metadata"]["annotations"].as_object().unwrap();
    assert!(annotations.keys().any(|key| key.contains("fresh-session")), "{annotations:?}");
    // The file is read again, and leaves both.
    let read = world.od(&["reconcile", "source/specs"]);
    assert_eq!(read.code, 0, "{}", read.stderr);
}
