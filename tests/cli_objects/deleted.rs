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
