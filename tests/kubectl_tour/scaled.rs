//! How many a Fleet is to have, in the words that kubectl has for that.

use super::{Going, Rig, json};

const FLEET: &str = "\
apiVersion: opendispatch.dev/v1alpha1
kind: Fleet
metadata: {name: NAME}
spec:
  generate: GENERATE
  template: {kind: Agent, spec: {agent: {command: {}}, suspend: true}}
";

fn fleet(name: &str, generate: &str) -> String {
    FLEET.replace("NAME", name).replace("GENERATE", generate)
}

fn replicas(rig: &Rig, name: &str) -> serde_json::Value {
    let fleet = json(&rig.ok(&["get", "fleet", name, "-o", "json"]));
    fleet["spec"]["generate"]["replicas"].clone()
}

#[test]
fn a_fleet_of_replicas_is_scaled_and_its_members_follow() {
    let Some(rig) = Rig::of_kubectl() else { return };
    rig.world.write("fleet.yaml", fleet("many", "{replicas: 2}"));
    rig.ok(&["apply", "-f", "fleet.yaml"]);
    let mut members = Going::start(&rig, &["get", "agents", "-w", "--output-watch-events"]);
    // With a time limit, kubectl waits until there are as many as wanted.
    let scaled = "fleet.opendispatch.dev/many scaled\n";
    let up = rig.ok(&["scale", "fleet/many", "--replicas=3", "--timeout=60s"]);
    assert_eq!(up, scaled);
    assert_eq!(rig.ok(&["get", "agents", "-o", "name"]).lines().count(), 3);
    assert!(members.until("ADDED").unwrap().contains("many"));

    let wrong = rig.run(&["scale", "fleet/many", "--current-replicas=7", "--replicas=1"]);
    assert!(wrong.code == 1 && wrong.err.contains("to be 7, was 3"), "{wrong:?}");
    let stale = rig.run(&["scale", "fleet/many", "--resource-version=1", "--replicas=1"]);
    assert!(stale.code == 1 && stale.err.contains("resource version"), "{stale:?}");
    assert_eq!(replicas(&rig, "many"), 3);
    let right = ["scale", "fleet/many", "--current-replicas=3", "--replicas=1", "--timeout=60s"];
    assert_eq!(rig.ok(&right), scaled);
    assert!(members.until("DELETED").unwrap().contains("many"));
    assert_eq!(rig.ok(&["get", "agents", "-o", "name"]).lines().count(), 1);
    let tried = rig.ok(&["scale", "fleet/many", "--replicas=9", "--dry-run=server"]);
    assert!(tried.starts_with("fleet.opendispatch.dev/many scaled"), "{tried}");
    assert_eq!(replicas(&rig, "many"), 1);
    if rig.knows(24, "get --subresource=scale") {
        let scale = rig.ok(&["get", "fleet/many", "--subresource=scale", "-o", "json"]);
        assert_eq!(json(&scale)["spec"]["replicas"], 1, "{scale}");
    }
    rig.ok(&["delete", "fleet/many", "--timeout=60s"]);
    assert_eq!(rig.ok(&["get", "agents", "-o", "name"]), "", "its members went with it");
}

#[test]
fn what_has_no_replicas_or_is_not_ones_own_is_not_scaled_and_says_what_to_do() {
    let Some(rig) = Rig::of_kubectl() else { return };
    rig.world.write("list.yaml", fleet("listed", "{list: [{name: a}, {name: b}]}"));
    rig.ok(&["apply", "-f", "list.yaml"]);
    let listed = rig.run(&["scale", "fleet/listed", "--replicas=3"]);
    assert!(listed.code == 1, "{listed:?}");
    let mend =
        "says no spec.generate.replicas, so there is nothing to scale; change spec.generate.list";
    assert!(listed.err.contains(mend), "{listed:?}");
    let none = rig.run(&["scale", "agent/listed-a", "--replicas=3"]);
    assert_eq!(none.code, 1, "{none:?}");

    rig.world.write("declared/fleet.yaml", fleet("owned", "{replicas: 2}"));
    let source = "apiVersion: opendispatch.dev/v1alpha1\nkind: Source\nmetadata: {name: team}\n\
                  spec: {from: {directory: {path: declared}}}\n";
    rig.world.write("source.yaml", source);
    rig.ok(&["apply", "-f", "source.yaml"]);
    rig.ok(&["wait", "source/team", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(replicas(&rig, "owned"), 2);
    // As a conflict, kubectl would try it again for five minutes.
    for attempt in [
        &["scale", "fleet/owned", "--replicas=3"][..],
        &["patch", "fleet/owned", "--type=merge", "-p", r#"{"spec":{"generate":{"replicas":3}}}"#],
        &["label", "fleet/owned", "a=b"],
        &["delete", "fleet/owned", "--wait=false"],
    ] {
        let refused = rig.run(attempt);
        assert_eq!(refused.code, 1, "{refused:?}");
        // What is deleted cannot be overridden.
        let ways = match attempt[0] {
            "delete" => ["source team (fleet.yaml:1)", "take it out of fleet.yaml:1", "let it go"],
            _ => ["override it for a time", "change the file", "let it go"],
        };
        for way in ways {
            assert!(refused.err.contains(way), "{way}: {refused:?}");
        }
    }
    assert_eq!(replicas(&rig, "owned"), 2);
    // What turns it off and on is anybody's.
    rig.ok(&["patch", "fleet/owned", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
}
