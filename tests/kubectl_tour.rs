//! Promise: real kubectl is a client of this server, with no Kubernetes anywhere: it reads, writes,
//! watches, explains and deletes all kinds, over TLS, with a token of its own.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/clients.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod clients;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

#[path = "kubectl_tour/ended.rs"]
mod ended;
#[path = "kubectl_tour/every_kind.rs"]
mod every_kind;
#[path = "kubectl_tour/kinds.rs"]
mod kinds;
#[path = "kubectl_tour/scaled.rs"]
mod scaled;
#[path = "kubectl_tour/watched.rs"]
mod watched;

use std::{fs, os::unix::fs::PermissionsExt as _};

use clients::Rig;
use open_dispatch::resource::Kind;

use serde_json::Value;
use watched::Going;

/// An Agent that does nothing, and a Job that ends at once.
const BOTH: &str = "\
apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: bot, labels: {team: red, app: tour}}
spec: {agent: {command: {}}, suspend: true, idleTimeout: 15m}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {name: nightly, labels: {team: blue, app: tour}}
spec: {agent: {command: {}}, task: 'true', ttlAfterFinished: 1d}
";

fn toured(rig: &Rig) {
    rig.world.write("both.yaml", BOTH);
    let said = rig.ok(&["apply", "-f", "both.yaml"]);
    assert_eq!(said, "agent.opendispatch.dev/bot created\njob.opendispatch.dev/nightly created\n");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The first words of each line.
fn names(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

/// What `kubectl edit` says where this script is the editor.
fn edited(rig: &Rig, script: &str, object: &str) -> clients::Said {
    let path = rig.world.work().join("editor");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = rig.command(&["edit", object]);
    command.env("KUBE_EDITOR", &path);
    clients::Said::of(&["edit", object], &command.output().unwrap())
}

#[test]
fn it_finds_its_way_and_knows_every_kind() {
    let Some(rig) = Rig::of_kubectl() else { return };
    let resources = rig.ok(&["api-resources", "--api-group=opendispatch.dev", "-o", "wide"]);
    for kind in Kind::ALL {
        let line = resources.lines().find(|line| line.starts_with(kind.plural())).unwrap();
        for word in [kind.name(), "false", "get", "list", "watch", "delete", "patch"] {
            assert!(line.contains(word), "{line}");
        }
    }
    assert!(rig.ok(&["api-versions"]).contains("opendispatch.dev/v1alpha1"));
    let version = rig.ok(&["version", "-o", "json"]);
    assert_eq!(json(&version)["serverVersion"]["minor"], "32", "{version}");
    for kind in Kind::ALL {
        let told = rig.ok(&["explain", kind.plural()]);
        assert!(told.contains(kind.name()) && told.contains("DESCRIPTION"), "{told}");
        let told = rig.ok(&["explain", &format!("{}.spec", kind.singular()), "--recursive"]);
        assert!(told.contains("FIELDS"), "{told}");
        let none = rig.run(&["get", kind.plural()]);
        assert_eq!((none.code, none.err.as_str()), (0, "No resources found\n"), "{none:?}");
    }
    let told = rig.ok(&["explain", "job.spec.task"]);
    assert!(told.contains("<string>"), "{told}");
    assert_ne!(rig.run(&["explain", "job.spec.nothing"]).code, 0);
    assert_ne!(rig.run(&["get", "pods"]).code, 0, "there is no Kubernetes");
}

#[test]
fn it_reads_in_every_form() {
    let Some(rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    let table = rig.ok(&["get", "agents"]);
    assert!(table.starts_with("NAME") && table.contains("AGE"), "{table}");
    assert_eq!(names(&table), ["bot"]);
    let wide = rig.ok(&["get", "jobs", "-o", "wide"]);
    assert!(
        wide.lines().next().unwrap().len() > rig.ok(&["get", "jobs"]).lines().next().unwrap().len()
    );
    for short in
        ["ag", "agent", "agents", "agents.opendispatch.dev", "agent.v1alpha1.opendispatch.dev"]
    {
        assert_eq!(rig.ok(&["get", short, "-o", "name"]), "agent.opendispatch.dev/bot\n");
    }
    let one = json(&rig.ok(&["get", "agent", "bot", "-o", "json"]));
    assert_eq!((&one["kind"], &one["spec"]["suspend"]), (&"Agent".into(), &true.into()));
    let list = json(&rig.ok(&["get", "agents,jobs", "-o", "json"]));
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let yaml: Value = serde_saphyr::from_str(&rig.ok(&["get", "ag/bot", "-o", "yaml"])).unwrap();
    assert_eq!(yaml["metadata"]["labels"]["team"], "red");
    let path = "jsonpath={.items[*].metadata.name}";
    assert_eq!(rig.ok(&["get", "jobs", "-o", path]), "nightly");
    let columns = "custom-columns=N:.metadata.name,T:.metadata.labels.team";
    assert_eq!(rig.ok(&["get", "jobs", "-o", columns]), "N         T\nnightly   blue\n");
    assert!(rig.ok(&["get", "agents", "--show-labels"]).contains("app=tour,team=red"));
    assert_eq!(names(&rig.ok(&["get", "agents", "-l", "team in (red,green),app"])), ["bot"]);
    assert_eq!(rig.ok(&["get", "agents", "-l", "team!=red"]), "");
    assert!(rig.ok(&["get", "agents", "-L", "team"]).contains("TEAM"));
    let by_name = rig.ok(&["get", "jobs", "--field-selector", "metadata.name=nightly"]);
    assert_eq!(names(&by_name), ["nightly"]);
    let bad = rig.run(&["get", "jobs", "--field-selector", "spec.nothing=x"]);
    assert!(bad.code == 1 && bad.err.contains("BadRequest"), "{bad:?}");
    let all = rig.ok(&["get", "all", "-o", "name"]);
    assert!(
        all.contains("agent.opendispatch.dev/bot") && all.contains("job.opendispatch.dev/nightly")
    );
    let missing = rig.run(&["get", "job", "none"]);
    assert_eq!(
        missing.err,
        "Error from server (NotFound): jobs.opendispatch.dev \"none\" not found\n"
    );
    assert_eq!(rig.run(&["get", "job", "none", "--ignore-not-found"]).code, 0);
}

#[test]
fn it_sorts_and_pages_through_many() {
    let Some(rig) = Rig::of_kubectl() else { return };
    let agent = |n: usize| BOTH.split("---").next().unwrap().replace("bot", &format!("bot-{n:02}"));
    let many: Vec<String> = (0..25).map(agent).collect();
    rig.world.write("many.yaml", many.join("---\n"));
    rig.ok(&["apply", "-f", "many.yaml"]);
    let paged = rig.ok(&["get", "agents", "--chunk-size=7", "-o", "name"]);
    assert_eq!(paged.lines().count(), 25);
    let sorted = rig.ok(&["get", "agents", "--sort-by=.metadata.name", "-o", "name"]);
    let mut expected: Vec<&str> = sorted.lines().collect();
    expected.sort_unstable();
    assert_eq!(sorted.lines().collect::<Vec<_>>(), expected);
    rig.ok(&["delete", "agents", "-l", "app=tour"]);
    assert_eq!(rig.ok(&["get", "agents"]), "");
}

#[test]
fn it_describes_with_conditions_and_events() {
    let Some(rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    rig.ok(&["wait", "job/nightly", "--for=condition=Complete", "--timeout=60s"]);
    for object in ["agent/bot", "job/nightly"] {
        let told = rig.ok(&["describe", object]);
        for word in ["Name:", "Labels:", "Spec:", "Status:", "Events:"] {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
    let told = rig.ok(&["describe", "job", "nightly"]);
    assert!(told.contains("Type:"), "conditions: {told}");
    let events = rig.ok(&["get", "events"]);
    assert!(events.contains("job/nightly"), "{events}");
    if rig.knows(26, "events") {
        let events = rig.ok(&["events", "--for", "job/nightly"]);
        assert!(events.contains("Job/nightly"), "{events}");
    }
    let told = told.split_once("Events:").unwrap().1;
    assert!(!told.contains("<none>"), "{told}");
}

#[test]
fn it_applies_compares_and_tries() {
    let Some(rig) = Rig::of_kubectl() else { return };
    rig.world.write("both.yaml", BOTH);
    let tried = rig.ok(&["apply", "-f", "both.yaml", "--dry-run=server"]);
    assert!(tried.contains("agent.opendispatch.dev/bot created (server dry run)"), "{tried}");
    let tried = rig.ok(&["apply", "-f", "both.yaml", "--dry-run=client"]);
    assert!(tried.contains("created (dry run)"), "{tried}");
    assert_eq!(rig.ok(&["get", "agents"]), "", "nothing was written");
    let differs = rig.run(&["diff", "-f", "both.yaml"]);
    assert_eq!(differs.code, 1, "{differs:?}");
    toured(&rig);
    let again = rig.ok(&["apply", "-f", "both.yaml"]);
    let same = "agent.opendispatch.dev/bot unchanged\njob.opendispatch.dev/nightly unchanged\n";
    assert_eq!(again, same);
    let same = rig.run(&["diff", "-f", "both.yaml"]);
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");

    rig.world.write("both.yaml", BOTH.replace("15m", "20m").replace("team: red, ", ""));
    let differs = rig.run(&["diff", "-f", "both.yaml"]);
    assert!(differs.code == 1 && differs.out.contains("+  idleTimeout: 20m"), "{differs:?}");
    let set = rig.ok(&["apply", "-f", "both.yaml"]);
    assert!(set.contains("bot configured") && set.contains("nightly unchanged"), "{set}");
    let bot = json(&rig.ok(&["get", "agent", "bot", "-o", "json"]));
    assert_eq!(bot["spec"]["idleTimeout"], "20m");
    assert!(bot["metadata"]["labels"]["team"].is_null(), "what was left out is gone");

    rig.world.write("bad.yaml", BOTH.replace("suspend: true", "suspended: true"));
    let bad = rig.run(&["apply", "-f", "bad.yaml"]);
    assert!(bad.code == 1 && bad.err.contains("suspended"), "{bad:?}");
    rig.world.write("bad.yaml", BOTH.replace("idleTimeout: 15m", "idleTimeout: soon"));
    let bad = rig.run(&["apply", "-f", "bad.yaml", "--validate=false"]);
    assert!(bad.code == 1 && bad.err.contains("idleTimeout"), "{bad:?}");
    let bad = rig.run(&["create", "-f", "both.yaml"]);
    assert!(bad.code == 1 && bad.err.contains("AlreadyExists"), "{bad:?}");
    rig.ok(&["replace", "-f", "both.yaml"]);
}

#[test]
fn it_applies_on_the_server_and_is_told_of_conflicts() {
    let Some(rig) = Rig::of_kubectl() else { return };
    rig.world.write("both.yaml", BOTH);
    let said = rig.ok(&["apply", "--server-side", "-f", "both.yaml"]);
    assert!(said.contains("agent.opendispatch.dev/bot serverside-applied"), "{said}");
    rig.world.write("other.yaml", BOTH.replace("15m", "20m"));
    let theirs = ["apply", "--server-side", "--field-manager=other", "-f", "other.yaml"];
    let refused = rig.run(&theirs);
    assert!(refused.code == 1 && refused.err.contains("conflict"), "{refused:?}");
    assert!(refused.err.contains(".spec.idleTimeout"), "{refused:?}");
    let forced = [&theirs[..], &["--force-conflicts"]].concat();
    rig.ok(&forced);
    let bot = json(&rig.ok(&["get", "agent", "bot", "-o", "json"]));
    assert_eq!(bot["spec"]["idleTimeout"], "20m");
    let tried = rig.ok(&[
        "apply",
        "--server-side",
        "--dry-run=server",
        "-f",
        "other.yaml",
        "--field-manager=other",
    ]);
    assert!(tried.contains("server dry run"), "{tried}");
}

#[test]
fn it_prunes_what_a_file_no_longer_names() {
    let Some(rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    rig.world.write("one.yaml", BOTH.split("---").next().unwrap());
    let kinds = if rig.minor() < 26 { "--prune-whitelist" } else { "--prune-allowlist" };
    let kinds = &*format!("{kinds}=opendispatch.dev/v1alpha1/Job");
    let said = rig.ok(&["apply", "-f", "one.yaml", "--prune", "-l", "app=tour", kinds]);
    assert!(said.contains("nightly pruned"), "{said}");
    // One that is gone already is none that this kubectl waits for.
    let gone = rig.run(&["wait", "job/nightly", "--for=delete", "--timeout=60s"]);
    assert!(gone.code == 0 || gone.err.contains("no matching resources"), "{gone:?}");
    assert_eq!(rig.ok(&["get", "jobs", "-o", "name"]), "");
    assert_eq!(rig.ok(&["get", "agents", "-o", "name"]), "agent.opendispatch.dev/bot\n");
}

#[test]
fn it_edits_patches_labels_and_annotates() {
    let Some(rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    let said = edited(&rig, "sed -i 's/idleTimeout: 15m/idleTimeout: 25m/' \"$1\"", "agent/bot");
    assert!(said.code == 0 && said.out.contains("bot edited"), "{said:?}");
    let left = edited(&rig, "true", "agent/bot");
    assert!(left.err.contains("cancelled, no changes made"), "{left:?}");
    let spec = |member: &str| {
        json(&rig.ok(&["get", "agent", "bot", "-o", "json"]))["spec"][member].clone()
    };
    assert_eq!(spec("idleTimeout"), "25m");

    rig.ok(&["patch", "agent", "bot", "--type=merge", "-p", r#"{"spec":{"idleTimeout":"30m"}}"#]);
    assert_eq!(spec("idleTimeout"), "30m");
    let json_patch = r#"[{"op":"replace","path":"/spec/idleTimeout","value":"35m"}]"#;
    rig.ok(&["patch", "agent", "bot", "--type=json", "-p", json_patch]);
    assert_eq!(spec("idleTimeout"), "35m");
    let failing = r#"[{"op":"test","path":"/spec/idleTimeout","value":"1m"}]"#;
    assert_eq!(rig.run(&["patch", "agent", "bot", "--type=json", "-p", failing]).code, 1);
    let strategic = rig.run(&["patch", "agent", "bot", "-p", "{}"]);
    assert!(
        strategic.code == 1 && strategic.err.contains("415")
            || strategic.err.contains("UnsupportedMediaType")
            || strategic.err.contains("strategic"),
        "{strategic:?}"
    );
    let bad =
        rig.run(&["patch", "agent", "bot", "--type=merge", "-p", r#"{"spec":{"nothing":1}}"#]);
    assert!(bad.code == 1 && bad.err.contains("nothing"), "{bad:?}");

    rig.ok(&["label", "agent", "bot", "stage=prod"]);
    let taken = rig.run(&["label", "agent", "bot", "stage=test"]);
    assert_eq!(taken.code, 1, "{taken:?}");
    rig.ok(&["label", "agent", "bot", "stage=test", "--overwrite"]);
    rig.ok(&["label", "agents", "-l", "stage=test", "more=yes"]);
    rig.ok(&["label", "agent", "bot", "stage-"]);
    rig.ok(&["annotate", "agent", "bot", "why=because", "example.org/x=y"]);
    let bot = json(&rig.ok(&["get", "agent", "bot", "-o", "json"]));
    assert_eq!(bot["metadata"]["labels"]["more"], "yes");
    assert!(bot["metadata"]["labels"]["stage"].is_null());
    assert_eq!(bot["metadata"]["annotations"]["why"], "because");
    let stale = rig.run(&["annotate", "agent", "bot", "x=y", "--resource-version=1"]);
    assert!(stale.code == 1, "{stale:?}");
}

#[test]
fn each_role_may_with_kubectl_what_it_may() {
    let Some(mut rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    assert_eq!(rig.ok(&["auth", "can-i", "create", "tokens.opendispatch.dev"]).trim(), "yes");
    rig.kubeconfig = rig.as_role("viewer");
    rig.ok(&["get", "agents"]);
    assert_eq!(rig.run(&["auth", "can-i", "list", "agents.opendispatch.dev"]).out, "yes\n");
    let may_not = rig.run(&["auth", "can-i", "delete", "jobs.opendispatch.dev"]);
    assert!(may_not.code == 1 && may_not.out.starts_with("no - token:viewer has"), "{may_not:?}");
    if rig.knows(28, "auth whoami") {
        assert!(rig.ok(&["auth", "whoami"]).contains("token:viewer"));
    }
    let refused = rig.run(&["delete", "job/nightly"]);
    assert!(refused.err.starts_with("Error from server (Forbidden): jobs.opendispatch.dev \"nightly\" is forbidden: token \"viewer\" has the role viewer and may not delete"), "{refused:?}");
    rig.world.od(&["token", "revoke", "viewer"]);
    let refused = rig.run(&["get", "agents"]);
    assert!(refused.code == 1 && refused.err.contains("You must be logged in"), "{refused:?}");
}

#[test]
fn what_was_read_can_be_written_back() {
    let Some(rig) = Rig::of_kubectl() else { return };
    rig.world.write("both.yaml", BOTH);
    // Not by apply, which would note on the object what was applied.
    rig.ok(&["create", "-f", "both.yaml"]);
    rig.ok(&["wait", "job/nightly", "--for=condition=Complete", "--timeout=60s"]);
    for object in ["agent/bot", "job/nightly"] {
        let text = rig.ok(&["get", object, "-o", "yaml"]);
        rig.world.write("read.yaml", &text);
        rig.ok(&["replace", "-f", "read.yaml"]);
        let version = |text: &str| {
            let value: Value = serde_saphyr::from_str(text).unwrap();
            value["metadata"]["resourceVersion"].clone()
        };
        let after = rig.ok(&["get", object, "-o", "yaml"]);
        assert_eq!(version(&after), version(&text), "a write that changes nothing is none");
        rig.ok(&["apply", "-f", "read.yaml"]);
        rig.ok(&["delete", object, "--timeout=60s"]);
    }
}
