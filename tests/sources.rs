//! The real server keeps up real directories, with the habits of real editors.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use server::World;

/// By far too long is long enough.
const PATIENCE: Duration = Duration::from_secs(60);

fn agent(name: &str, text: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec: {{agent: {{claude: {{}}}}, suspend: true, instructions: {text}}}\n"
    )
}

/// Waits until a command's standard output holds a text.
#[expect(clippy::disallowed_methods, reason = "a test from outside waits in real time")]
fn until(world: &World, args: &[&str], text: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = world.od(args).text();
        if said.contains(text) {
            return said;
        }
        assert!(Instant::now() < end, "{args:?} never said {text}, but\n{said}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn ready(world: &World, words: &str) -> String {
    let path = "-o=jsonpath={.status.phase} {.status.conditions[0].reason} {.status.conditions[0].message}";
    until(world, &["get", "source", "specs", path], words)
}

/// As editors do: beside the file, and then in its place.
fn save(path: &Path, text: &str) {
    let new = path.with_extension("new~");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn what_is_saved_in_the_default_directory_is_so_and_what_is_broken_changes_nothing() {
    let mut world = World::empty();
    let specs = world.work().join("specs");
    fs::create_dir(&specs).unwrap();
    fs::write(specs.join("a.yaml"), agent("one", "first")).unwrap();
    world.serve(&[]);
    let text = ["get", "agent", "one", "-o=jsonpath={.spec.instructions}"];
    until(&world, &text, "first");
    ready(&world, "Ready Applied");

    save(&specs.join("a.yaml"), &agent("one", "second"));
    until(&world, &text, "second");

    save(&specs.join("b.yaml"), "apiVersion: opendispatch.dev/v1alpha1\nkind: Agnt\n");
    let said = ready(&world, "Failing InvalidFiles");
    assert!(said.contains("b.yaml:2:7: kind: `Agnt` is no kind; did you mean `Agent`?"), "{said}");
    assert_eq!(world.od(&text).text().trim(), "second");
    fs::write(specs.join("b.yaml"), agent("two", "x")).unwrap();
    ready(&world, "2 objects");

    // A directory that is swapped as Kubernetes does it.
    for (version, words) in [("..v1", "third"), ("..v2", "fourth")] {
        fs::create_dir(specs.join(version)).unwrap();
        fs::write(specs.join(version).join("c.yaml"), agent("three", words)).unwrap();
        symlink(version, specs.join("..tmp")).unwrap();
        fs::rename(specs.join("..tmp"), specs.join("..data")).unwrap();
        if version == "..v1" {
            symlink("..data/c.yaml", specs.join("c.yaml")).unwrap();
        }
        until(&world, &["get", "agent", "three", text[3]], words);
    }

    // The directory goes, and comes again: nothing is deleted by that.
    let away = world.work().join("away");
    fs::rename(&specs, &away).unwrap();
    ready(&world, "Failing Missing");
    assert_eq!(world.od(&text).text().trim(), "second");
    fs::rename(&away, &specs).unwrap();
    ready(&world, "Ready Applied");

    // Nothing at all is more than may go.
    for name in ["a.yaml", "b.yaml", "c.yaml"] {
        fs::remove_file(specs.join(name)).unwrap();
    }
    ready(&world, "Failing EmptySet");
    fs::write(specs.join("a.yaml"), agent("one", "fifth")).unwrap();
    until(&world, &text, "fifth");
}

#[test]
fn a_source_rests_while_it_is_suspended_and_confirms_what_it_would_delete() {
    let mut world = World::empty();
    let specs = world.work().join("specs");
    fs::create_dir(&specs).unwrap();
    let many: String = (0..12).map(|n| agent(&format!("a{n}"), "x") + "---\n").collect();
    fs::write(specs.join("a.yaml"), &many).unwrap();
    world.serve(&[]);
    ready(&world, "12 objects");
    assert_eq!(world.od(&["suspend", "source/specs"]).code, 0);
    ready(&world, "Suspended Suspended");
    save(&specs.join("a.yaml"), &agent("a0", "y"));
    assert_eq!(world.od(&["resume", "source/specs"]).code, 0);
    let said = ready(&world, "Held DeletionsHeld");
    assert!(said.contains("11 objects would be deleted, which is more than 10"), "{said}");
    let confirmed = world.od(&["reconcile", "source/specs", "--confirm-deletions"]);
    assert_eq!(confirmed.code, 0, "{}", confirmed.whole());
    ready(&world, "1 object");
    let left = world.od(&["get", "agents", "-o=name"]).text();
    assert_eq!(left.lines().count(), 1, "{left}");
    let again = world.od(&["reconcile", "source/specs", "--confirm-deletions"]);
    assert!(again.stderr.contains("source/specs holds no deletions back"), "{}", again.whole());
}

#[test]
fn doctor_and_describe_tell_what_a_source_reads_declares_and_lacks() {
    let mut world = World::empty();
    let specs = world.work().join("specs");
    fs::create_dir(&specs).unwrap();
    fs::write(specs.join("a.yaml"), format!("# Ours.\n{}", agent("one", "x"))).unwrap();
    world.serve(&[]);
    ready(&world, "Ready Applied");
    let page = world.od(&["describe", "source/specs"]).text();
    assert!(page.contains("agent/one  a.yaml:2"), "{page}");
    let lost = world.work().join("lost");
    let nowhere = world.work().join("nowhere.git");
    let more = format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Source\nmetadata: {{name: lost}}\n\
         spec: {{from: {{directory: {{path: {}}}}}}}\n---\n\
         apiVersion: opendispatch.dev/v1alpha1\nkind: Source\nmetadata: {{name: far}}\n\
         spec: {{from: {{git: {{url: 'file://{}', webhookSecretFromSecret: hook}}}}}}\n---\n\
         apiVersion: opendispatch.dev/v1alpha1\nkind: Source\nmetadata: {{name: rests}}\n\
         spec: {{suspend: true, from: {{directory: {{path: /}}}}}}\n",
        lost.display(),
        nowhere.display()
    );
    fs::write(world.work().join("more.yaml"), more).unwrap();
    let applied = world.od(&["apply", "-f", "more.yaml"]);
    assert_eq!(applied.code, 0, "{}", applied.whole());
    let said = world.od(&["doctor"]).text();
    let line = |words: &str| {
        let found = said.lines().find(|line| line.contains(words));
        found.unwrap_or_else(|| panic!("no {words} in\n{said}")).to_owned()
    };
    assert!(line(&format!("specs reads {}", specs.display())).starts_with("ok"), "{said}");
    assert!(line("lost: ").starts_with("FAILS"), "{said}");
    assert!(line("rests is suspended").starts_with("note"), "{said}");
    assert!(line("nowhere.git").starts_with("FAILS"), "{said}");
    assert!(line("pushes cannot be told by webhook").contains("hook"), "{said}");
}
