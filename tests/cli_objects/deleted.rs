//! `delete`.

use crate::{World, agent, applied, session};

#[test]
fn objects_are_deleted_by_name_by_label_and_by_file() {
    let world = World::new();
    let all: Vec<String> = ["a", "b", "c", "d"]
        .map(|name| agent(name, "").replace("}\nspec", ", labels: {set: x}}\nspec"))
        .to_vec();
    applied(&world, &all.join("---\n"));
    applied(&world, &agent("other", ""));
    world.write("specs/deep/d.yaml", &all[3]);
    insta::assert_snapshot!(session(
        &world,
        &[
            &["delete", "agent/a", "--dry-run=client"],
            &["delete", "agents", "-l", "set=x", "--dry-run=server"],
            &["delete", "agent/a", "agent/missing"],
            &["delete", "agent/missing", "--ignore-not-found"],
            &["delete", "-f", "specs", "-R"],
            &["delete", "agents"],
            &["delete", "agent/b", "-l", "set=x"],
            &["delete", "agents", "-l", "set=x", "--wait=false", "--cascade=foreground"],
            &["delete", "agents", "-l", "set=none"],
        ]
    ));
    let rest = world.od(&["wait", "agent/b", "agent/c", "--for=delete"]);
    assert_eq!(rest.code, 0, "{}", rest.stderr);
    assert_eq!(world.od(&["get", "agents", "-o", "name"]).text(), "agent.opendispatch.dev/other\n");
    let all = world.od(&["delete", "agents", "--all"]);
    assert_eq!(all.text(), "agent.opendispatch.dev \"other\" deleted\n", "{}", all.stderr);
}

#[test]
fn what_a_fleet_made_stays_where_somebody_says_so_and_of_others_that_is_refused() {
    let world = World::new();
    applied(&world, &agent("alone", ""));
    applied(
        &world,
        "apiVersion: opendispatch.dev/v1alpha1
kind: Fleet
metadata: {name: crew}
spec:
  generate: {replicas: 2}
  template: {kind: Agent, metadata: {}, spec: {agent: {claude: {}}, suspend: true}}
",
    );
    let made = world.od(&["wait", "agent/crew-2", "--for=create", "--timeout", "60s"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let refused = world.od(&["delete", "agent/alone", "--cascade=orphan"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("Orphan is for fleets and schedules alone"),
        "{}",
        refused.stderr
    );
    let gone = world.od(&["delete", "fleet/crew", "--cascade=orphan", "--timeout", "60s"]);
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    let left = world.od(&["get", "agents", "-o", "name"]).text();
    let all = ["alone", "crew-1", "crew-2"].map(|name| format!("agent.opendispatch.dev/{name}\n"));
    assert_eq!(left, all.concat());
    let object = crate::object(&world, "agent/crew-1");
    assert!(object["metadata"]["ownerReferences"].is_null(), "it belongs to nobody");
}
