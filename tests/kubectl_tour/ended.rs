//! The end of objects: asked for, waited for, and not told too early.

use super::{BOTH, Rig, toured};

/// How often an object is deleted while others end.
const ROUNDS: usize = 10;

#[test]
fn it_deletes_and_waits_until_it_is_gone() {
    let Some(rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    let long = BOTH.split("---").nth(1).unwrap().replace("nightly", "long");
    rig.world.write("long.yaml", long.replace("'true'", "sleep 1000"));
    rig.ok(&["apply", "-f", "long.yaml"]);
    let gone = rig.ok(&["delete", "job/long", "--timeout=60s"]);
    assert_eq!(gone, "job.opendispatch.dev \"long\" deleted\n");
    assert_eq!(rig.run(&["get", "job", "long"]).code, 1);
    assert_eq!(rig.ok(&["get", "sprites", "-o", "name"]).matches("long").count(), 0);
    for cascade in ["background", "foreground"] {
        rig.ok(&["apply", "-f", "long.yaml"]);
        let cascade = format!("--cascade={cascade}");
        let said = rig.run(&["delete", "job/long", &cascade, "--wait=true", "--timeout=60s"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    // What an agent or a job owns never stays without it.
    let refused = rig.run(&["delete", "job/nightly", "--cascade=orphan"]);
    assert!(refused.code == 1 && refused.err.contains("Background or Foreground"), "{refused:?}");
    let tried = rig.ok(&["delete", "job/nightly", "--dry-run=server"]);
    assert!(tried.contains("server dry run"), "{tried}");
    rig.ok(&["get", "job/nightly"]);
    rig.ok(&["delete", "-f", "both.yaml"]);
    assert_eq!(rig.run(&["delete", "job/nightly"]).code, 1);
    rig.ok(&["delete", "job/nightly", "--ignore-not-found"]);
}

#[test]
fn it_waits_for_conditions_and_says_when_it_is_too_late() {
    let Some(rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    let said = rig.ok(&["wait", "job/nightly", "--for=condition=Complete", "--timeout=60s"]);
    assert_eq!(said, "job.opendispatch.dev/nightly condition met\n");
    let late = rig.run(&["wait", "job/nightly", "--for=condition=Failed", "--timeout=1s"]);
    assert!(late.code == 1 && late.err.contains("timed out"), "{late:?}");
}

#[test]
fn a_deletion_comes_back_only_when_the_object_is_gone_whatever_else_goes_on() {
    let Some(rig) = Rig::of_kubectl() else { return };
    let job = |name: &str, task: &str| {
        let nightly = BOTH.split("---").nth(1).unwrap();
        nightly.replace("nightly", name).replace("'true'", task)
    };
    for round in 0..ROUNDS {
        // Others of its kind come to their ends meanwhile.
        let others: Vec<String> = (0..3).map(|n| job(&format!("other-{n}"), "sleep 0.2")).collect();
        let all = [job("long", "sleep 1000"), others.join("---")].join("---");
        rig.world.write("all.yaml", all);
        rig.ok(&["apply", "-f", "all.yaml"]);
        rig.ok(&["delete", "job/long", "--timeout=60s"]);
        let left = rig.run(&["get", "job", "long"]);
        assert!(left.code == 1 && left.err.contains("NotFound"), "round {round}: {left:?}");
        rig.ok(&["delete", "jobs", "--all", "--timeout=60s"]);
        let left = rig.ok(&["get", "jobs,sprites", "-o", "name"]);
        assert_eq!(left, "", "round {round}");
    }
}
