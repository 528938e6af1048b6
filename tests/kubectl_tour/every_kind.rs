//! What kubectl does to one kind, it does to all.

use serde_json::{Value, json as value};

use super::{
    Going, Rig, edited, json,
    kinds::{CASES, Case},
};
use open_dispatch::resource::Kind;

#[test]
fn every_kind_is_applied_compared_and_tried() {
    let Some(rig) = Rig::of_kubectl() else { return };
    for case in &CASES {
        let (file, word, full) = (case.write(&rig, 0), case.word(), case.full());
        let tried = rig.ok(&["apply", "-f", &file, "--dry-run=server"]);
        assert_eq!(tried, format!("{full} created (server dry run)\n"));
        assert_eq!(rig.run(&["get", &word]).code, 1, "{word} was tried and not made");
        assert_eq!(rig.run(&["diff", "-f", &file]).code, 1, "{word} is not there yet");
        assert_eq!(rig.ok(&["apply", "-f", &file]), format!("{full} created\n"));
        assert_eq!(rig.ok(&["apply", "-f", &file]), format!("{full} unchanged\n"));
        let same = rig.run(&["diff", "-f", &file]);
        assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");

        case.write(&rig, 1);
        let differs = rig.run(&["diff", "-f", &file]);
        let line = case.line(1);
        let told = |it: &str| it.starts_with('+') && it.trim_end().ends_with(&line);
        assert!(differs.code == 1 && differs.out.lines().any(told), "{differs:?}");
        assert_eq!(rig.ok(&["apply", "-f", &file]), format!("{full} configured\n"));
        assert_eq!(case.found(&rig), case.value(1));

        let again = rig.run(&["create", "-f", &file]);
        assert!(again.code == 1 && again.err.contains("AlreadyExists"), "{again:?}");
        rig.world.write(&file, case.yaml(1).replace("spec: {", "spec: {nothing: 1, "));
        let unknown = rig.run(&["apply", "-f", &file]);
        assert!(unknown.code == 1 && unknown.err.contains("nothing"), "{unknown:?}");
        // Whatever kubectl checks by itself, the server checks, too.
        let unchecked = rig.run(&["apply", "-f", &file, "--validate=false"]);
        assert_eq!(case.found(&rig), case.value(1), "{unchecked:?}");
    }
    let all = rig.ok(&["get", "open-dispatch", "-o", "name"]);
    for case in &CASES {
        assert!(all.contains(&case.full()), "{all}");
    }
}

#[test]
fn every_kind_is_applied_on_the_server_and_conflicts_are_told() {
    let Some(rig) = Rig::of_kubectl() else { return };
    for case in &CASES {
        let (file, full) = (case.write(&rig, 0), case.full());
        let applied = format!("{full} serverside-applied\n");
        assert_eq!(rig.ok(&["apply", "--server-side", "-f", &file]), applied);
        let version = || case.read(&rig)["metadata"]["generation"].clone();
        let before = version();
        assert_eq!(rig.ok(&["apply", "--server-side", "-f", &file]), applied);
        assert_eq!(version(), before, "{full}: what is so already is not written");

        case.write(&rig, 1);
        let theirs = ["apply", "--server-side", "--field-manager=other", "-f", &file];
        let refused = rig.run(&theirs);
        assert!(refused.code == 1 && refused.err.contains("conflict"), "{refused:?}");
        assert!(refused.err.contains(&format!(".{}", case.path())), "{refused:?}");
        assert_eq!(case.found(&rig), case.value(0));
        rig.ok(&[&theirs[..], &["--force-conflicts"]].concat());
        assert_eq!(case.found(&rig), case.value(1));
        // Each has what it set last, as the account says.
        let managers = case.read(&rig)["metadata"]["managedFields"].clone();
        let of = |name: &str| -> Value {
            let all = managers.as_array().cloned().unwrap_or_default();
            let apply = |it: &Value| it["manager"] == name && it["operation"] == "Apply";
            all.into_iter().find(apply).map(|it| it["fieldsV1"].clone()).unwrap_or_default()
        };
        if !managers.is_null() {
            let field = case.pointer.replace('/', "/f:");
            assert!(of("other").pointer(&field).is_some(), "{managers}");
            assert!(of("kubectl").pointer(&field).is_none(), "{managers}");
        }
    }
}

#[test]
fn every_kind_is_labelled_annotated_patched_edited_and_replaced() {
    let Some(rig) = Rig::of_kubectl() else { return };
    for case in &CASES {
        case.create(&rig);
        // What has ended goes on to be waited for, whatever is changed of it then.
        settled(&rig, case);
        let word = &*case.word();
        rig.ok(&["label", word, "stage=prod"]);
        assert_eq!(rig.run(&["label", word, "stage=test"]).code, 1, "{word}: it is taken");
        rig.ok(&["label", word, "stage=test", "--overwrite"]);
        rig.ok(&["annotate", word, "why=because", "example.org/x=y"]);
        let metadata = &case.read(&rig)["metadata"];
        assert_eq!(metadata["labels"], value!({"app": "tour", "stage": "test"}), "{word}");
        assert_eq!(metadata["annotations"]["why"], "because", "{word}");
        let chosen = rig.ok(&["get", case.kind.plural(), "-l", "stage=test", "-o", "name"]);
        assert_eq!(chosen, format!("{}\n", case.full()));
        rig.ok(&["label", word, "stage-"]);
        rig.ok(&["annotate", word, "why-"]);
        let metadata = &case.read(&rig)["metadata"];
        assert_eq!(metadata["labels"], value!({"app": "tour"}), "{word}");
        assert!(metadata["annotations"]["why"].is_null(), "{word}");

        let patch = |sort: &str, patch: &str| {
            rig.run(&["patch", word, &format!("--type={sort}"), "-p", patch])
        };
        assert_eq!(patch("merge", &case.merge(1)).code, 0);
        assert_eq!(case.found(&rig), case.value(1));
        let operations = |op: &str, n: usize| {
            value!([{"op": op, "path": case.pointer, "value": case.value(n)}]).to_string()
        };
        assert_eq!(patch("json", &operations("replace", 2)).code, 0);
        assert_eq!(case.found(&rig), case.value(2));
        assert_eq!(patch("json", &operations("test", 0)).code, 1, "{word}: the test fails");
        let bad = patch("merge", r#"{"spec":{"nothing":1}}"#);
        assert!(bad.code == 1 && bad.err.contains("nothing"), "{bad:?}");
        let strategic = patch("strategic", "{}");
        assert!(strategic.code == 1, "{strategic:?}");

        let leaf = case.leaf();
        let script = format!("sed -i 's/^\\( *\\){leaf}: .*/\\1{}/' \"$1\"", case.line(3));
        let said = edited(&rig, &script, word);
        assert!(said.code == 0 && said.out.contains("edited"), "{said:?}");
        assert_eq!(case.found(&rig), case.value(3));
        let left = edited(&rig, "true", word);
        assert!(left.err.contains("cancelled, no changes made"), "{left:?}");

        settled(&rig, case);
        let text = rig.ok(&["get", word, "-o", "yaml"]);
        let version = case.read(&rig)["metadata"]["resourceVersion"].clone();
        rig.world.write("read.yaml", &text);
        assert_eq!(rig.ok(&["replace", "-f", "read.yaml"]), format!("{} replaced\n", case.full()));
        let after = case.read(&rig)["metadata"]["resourceVersion"].clone();
        assert_eq!(after, version, "{word}: a write that changes nothing is none");
        rig.ok(&["label", word, "later=yes"]);
        let stale = rig.run(&["replace", "-f", "read.yaml"]);
        assert!(stale.code == 1 && stale.err.contains("Conflict"), "{stale:?}");
        if rig.knows(24, "get --subresource=status") {
            let status = json(&rig.ok(&["get", word, "--subresource=status", "-o", "json"]));
            assert_eq!(status["status"]["phase"], case.phase, "{status}");
        }
    }
}

/// Waits until it is what its controller makes of it, so that nobody else writes it.
fn settled(rig: &Rig, case: &Case) {
    let condition = format!("--for=condition={}", case.condition);
    let said = rig.ok(&["wait", &case.word(), &condition, "--timeout=60s"]);
    assert_eq!(said, format!("{} condition met\n", case.full()));
}

#[test]
fn every_kind_is_shown_described_and_explained() {
    let Some(rig) = Rig::of_kubectl() else { return };
    for case in &CASES {
        case.create(&rig);
        settled(&rig, case);
        let (word, plural) = (&*case.word(), case.kind.plural());
        let columns = |args: &[&str]| rig.ok(args).lines().next().unwrap().to_owned();
        let narrow = columns(&["get", plural]);
        let wide = columns(&["get", plural, "-o", "wide"]);
        assert!(narrow.starts_with("NAME") && wide.len() > narrow.len(), "{narrow}\n{wide}");
        let row = rig.ok(&["get", word, "--no-headers"]);
        assert!(row.starts_with("tour ") && row.contains(case.phase), "{row}");
        let short = rig.ok(&["get", case.kind.short(), "-o", "name"]);
        assert_eq!(short, format!("{}\n", case.full()));

        let told = rig.ok(&["describe", word]);
        for part in ["Name:", "Labels:", "Spec:", "Status:", "Conditions:", "Events:"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(told.contains(case.phase), "{told}");

        let field = format!("{}.{}", case.kind.singular(), case.path());
        let explained = rig.ok(&["explain", &field]);
        let named = explained.lines().find(|it| it.starts_with("FIELD:")).unwrap();
        assert!(named.contains(case.leaf()), "{explained}");
        assert!(named.ends_with("<string>") || named.ends_with("<integer>"), "{explained}");
        let about = explained.split_once("DESCRIPTION:").unwrap().1;
        assert!(about.trim().len() > 20 && !about.contains("<empty>"), "{explained}");
        let spec = format!("{}.spec", case.kind.singular());
        assert!(rig.ok(&["explain", &spec, "--recursive"]).contains(case.leaf()));
        let none = format!("{spec}.nothing");
        assert_ne!(rig.run(&["explain", &none]).code, 0);
    }
    // What a kind is for, and each field of its status, is told for Sprites, too.
    for path in ["sprite", "sprite.spec.running", "sprite.status.phase"] {
        let explained = rig.ok(&["explain", path]);
        assert!(!explained.contains("<empty>"), "{explained}");
    }
}

#[test]
fn every_kind_is_watched_and_no_change_is_lost_by_a_crash() {
    let Some(mut rig) = Rig::of_kubectl() else { return };
    let mut before = Vec::new();
    for case in &CASES {
        case.create(&rig);
        settled(&rig, case);
        let (kind, word) = (case.kind.singular(), case.word());
        // By its name, and all of its kind.
        let mut one = Going::start(&rig, &["get", &word, "-w", "--output-watch-events"]);
        let mut all = Going::start(&rig, &["get", kind, "-w", "--output-watch-events"]);
        assert!(one.until("ADDED").is_some() && all.until("ADDED").is_some(), "{word}");
        rig.ok(&["label", &word, "seen=yes"]);
        for watch in [&mut one, &mut all] {
            assert!(watch.until("MODIFIED").unwrap().contains("tour"), "{word}");
        }
        let path = format!("/apis/opendispatch.dev/v1alpha1/{}", case.kind.plural());
        let list = json(&rig.ok(&["get", "--raw", &path]));
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        rig.ok(&["annotate", &word, "step=before"]);
        before.push((case, one, all, path, revision));
    }
    rig.world.kill_server();
    for (case, one, all, ..) in &mut before {
        for watch in [one, all] {
            assert!(watch.until("no line has this").is_none(), "{}: it is over", case.word());
        }
    }
    rig.world.serve(&[]);
    for (case, _, _, path, revision) in before {
        let word = case.word();
        rig.ok(&["annotate", &word, "step=after", "--overwrite"]);
        // Where the first watch ended, the next one goes on: each change once, in order.
        let path = format!("{path}?watch=1&timeoutSeconds=1&resourceVersion={revision}");
        let mut steps: Vec<Value> = rig
            .ok(&["get", "--raw", &path])
            .lines()
            .map(|line| json(line)["object"]["metadata"]["annotations"]["step"].clone())
            .collect();
        // What the controller says of it comes between.
        steps.dedup();
        assert_eq!(steps, ["before", "after"], "{word}");
        let mut after = Going::start(&rig, &["get", &word, "-w", "--output-watch-events"]);
        assert!(after.until("ADDED").is_some(), "{word}");
        rig.ok(&["delete", &word, "--timeout=60s"]);
        assert!(after.until("DELETED").is_some(), "{word}");
    }
}

#[test]
fn every_kind_is_waited_for_and_deleted() {
    let Some(rig) = Rig::of_kubectl() else { return };
    for case in &CASES {
        case.create(&rig);
        settled(&rig, case);
        let (word, plural) = (&*case.word(), case.kind.plural());
        let late = rig.run(&["wait", word, "--for=condition=Never", "--timeout=1s"]);
        assert!(late.code == 1 && late.err.contains("timed out"), "{late:?}");
        if rig.knows(23, "wait --for=jsonpath") {
            let phase = format!("--for=jsonpath={{.status.phase}}={}", case.phase);
            rig.ok(&["wait", word, &phase, "--timeout=60s"]);
        }
        let tried = rig.ok(&["delete", word, "--dry-run=server"]);
        assert!(tried.contains("deleted (server dry run)"), "{tried}");
        let gone = rig.ok(&["delete", word, "--timeout=60s"]);
        assert_eq!(gone, format!("{}.opendispatch.dev \"tour\" deleted\n", case.kind.singular()));
        let missing = rig.run(&["get", word]);
        let expected =
            format!("Error from server (NotFound): {plural}.opendispatch.dev \"tour\" not found\n");
        assert_eq!((missing.code, missing.err), (1, expected));
        rig.ok(&["delete", word, "--ignore-not-found"]);

        // Whoever does not wait for it can wait for it.
        case.create(&rig);
        rig.ok(&["delete", word, "--wait=false", "--cascade=foreground"]);
        let over = rig.run(&["wait", word, "--for=delete", "--timeout=60s"]);
        assert!(over.code == 0 || over.err.contains("no matching resources"), "{over:?}");
        assert_eq!(rig.run(&["get", word]).code, 1);

        // And all of a kind by their labels.
        case.create(&rig);
        rig.ok(&["delete", plural, "-l", "app=tour", "--timeout=60s"]);
        assert_eq!(rig.ok(&["get", plural, "-o", "name"]), "");
    }
}

#[test]
fn nobody_writes_a_sprite() {
    let Some(rig) = Rig::of_kubectl() else { return };
    let long = "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {name: long}\n\
                spec: {agent: {command: {}}, task: sleep 1000}\n";
    rig.world.write("long.yaml", long);
    let mut watch = Going::start(&rig, &["get", "sprites", "-w", "--output-watch-events"]);
    rig.ok(&["apply", "-f", "long.yaml"]);
    assert!(watch.until("ADDED").unwrap().contains("long"));
    assert!(watch.until("Running").is_some());
    let name = rig.ok(&["get", "sprites", "-o", "name"]);
    let word = name.trim().replace(".opendispatch.dev", "");
    let told = rig.ok(&["describe", &word]);
    for part in ["Owner References:", "Spec:", "Status:", "Conditions:", "Events:"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let read = || json(&rig.ok(&["get", &word, "-o", "json"]));
    let before = read();
    let another = "apiVersion: opendispatch.dev/v1alpha1\nkind: Sprite\nmetadata: {name: long-2}\n\
                   spec: {agent: {command: {}}, runtime: {local: {}}, task: 'true', attempt: 1, \
                   permissions: {mode: bypass}, running: true}\n";
    rig.world.write("another.yaml", another);
    rig.world.write("changed.yaml", rig.ok(&["get", &word, "-o", "yaml"]).replace("1000", "1"));
    let remove = r#"[{"op":"remove","path":"/spec/task"}]"#;
    for attempt in [
        &["create", "-f", "another.yaml"][..],
        &["apply", "--server-side", "-f", "another.yaml"],
        &["replace", "-f", "changed.yaml"],
        &["patch", &word, "--type=merge", "-p", r#"{"spec":{"running":false}}"#],
        &["patch", &word, "--type=merge", "-p", r#"{"spec":{"stop":"Cancelled"}}"#],
        &["patch", &word, "--type=json", "-p", remove],
    ] {
        let refused = rig.run(attempt);
        assert_eq!(refused.code, 1, "{refused:?}");
        let says = |it: &&str| refused.err.contains(it);
        let reasons = ["controllers alone", "only running and stop", "declare a Job"];
        assert!(reasons.iter().any(says), "{refused:?}");
    }
    // Its labels are for people; and as a pod may, it may be deleted, and its owner sees to it.
    rig.ok(&["label", &word, "a=b"]);
    let after = read();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(rig.ok(&["get", "sprites", "-l", "a=b", "-o", "name"]), name);
    rig.ok(&["delete", "job/long", "--timeout=60s"]);
    assert!(watch.until("DELETED").is_some());
    assert_eq!(rig.ok(&["get", Kind::Sprite.plural(), "-o", "name"]), "");
}
