//! `explain`, `schema`, `api-resources`, `export`, `completion` and `auth`.

use std::{fs, path::Path};

use crate::{World, agent, applied, apply, object, session};

#[test]
fn explain_needs_no_server() {
    let world = World::empty();
    let explained = world.od(&["explain", "agent.spec.budget"]);
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    assert!(explained.text().contains("usd  <"), "{}", explained.text());
    assert_eq!(world.od(&["explain", "agent.spec.bugdet"]).code, 2);
    assert_eq!(world.od(&["explain", "pod"]).code, 1);
    assert_eq!(world.od(&["explain", "job", "--recursive"]).code, 0);
}

#[test]
fn the_published_schemas_are_what_the_program_writes() {
    let world = World::empty();
    let written = world.od(&["schema", "--out", "schema"]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/schema");
    let mut files = 0;
    for entry in fs::read_dir(world.work().join("schema")).unwrap() {
        let path = entry.unwrap().path();
        let there = fs::read_to_string(published.join(path.file_name().unwrap())).unwrap();
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(json(&fs::read_to_string(&path).unwrap()), json(&there), "{}", path.display());
        files += 1;
    }
    assert!(files >= 4, "a kind each, and the configuration");
    let again = world.od(&["schema", "--out", "schema"]).text();
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    let one = world.od(&["schema", "agent"]);
    assert_eq!(one.text(), fs::read_to_string(world.work().join("schema/agent.json")).unwrap());
    assert_eq!(world.od(&["schema", "pod"]).code, 1);
    world.write("file", "");
    assert_eq!(world.od(&["schema", "--out", "file/below"]).code, 1);
}

#[test]
fn the_kinds_are_listed_with_their_names() {
    let world = World::new();
    let all = world.od(&["api-resources"]).text();
    assert!(all.starts_with("NAME"), "{all}");
    let agents = all.lines().find(|line| line.starts_with("agents ")).unwrap();
    let words: Vec<&str> = agents.split_whitespace().collect();
    assert_eq!(words, ["agents", "ag", "opendispatch.dev/v1alpha1", "false", "Agent"]);
    let names = world.od(&["api-resources", "--verbs", "create,delete", "-o", "name"]).text();
    assert!(names.contains("jobs.opendispatch.dev\n"), "{names}");
    assert!(!names.contains("sprites"), "nobody declares a sprite: {names}");
    assert!(world.od(&["api-resources", "-o", "wide"]).text().contains("VERBS"));
    assert!(!world.od(&["api-resources", "--no-headers"]).text().contains("NAME"));
}

#[test]
fn what_is_exported_is_what_a_file_would_say_and_applies_unchanged() {
    let world = World::new();
    let spec =
        "  env: [{name: A, value: '1'}]\n  instructions: |\n    Be brief.\n    # And kind.\n";
    applied(&world, &(agent("a", spec) + "---\n" + &agent("b", "")));
    world.od(&["run", "-f", "--name", "once", "true"]);
    let all = world.od(&["export"]);
    insta::assert_snapshot!(all.whole());
    let before = object(&world, "agent/a")["spec"].clone();
    let again = apply(&world, &all.text(), &[]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(object(&world, "agent/a")["spec"], before);

    let files = world.od(&["export", "agents", "--out", "files/made"]);
    assert_eq!(files.text(), "files/made/agent-a.yaml\nfiles/made/agent-b.yaml\n");
    assert_eq!(world.od(&["export", "agents", "--out", "files/made"]).code, 0, "nothing differs");
    world.write("files/made/agent-b.yaml", "# mine\n");
    let refused = world.od(&["export", "agents", "--out", "files/made"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("agent-b.yaml: is there"), "{}", refused.stderr);
    let forced = world.od(&["export", "agents", "--out", "files/made", "--force"]);
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    let same = world.od(&["apply", "-f", "files/made"]).text();
    assert_eq!(same, "agent.opendispatch.dev/a unchanged\nagent.opendispatch.dev/b unchanged\n");
    assert!(world.od(&["export", "job/once"]).text().contains("task: \"true\"\n"));
    assert_eq!(world.od(&["export", "agent/missing"]).code, 1);
}

#[test]
fn what_is_laid_over_a_file_for_a_time_is_not_exported_and_that_is_said() {
    let mut world = World::empty();
    world.write("specs/bot.yaml", agent("bot", ""));
    world.serve(&[]);
    let there = world.od(&["wait", "agent/bot", "--for=create", "--timeout", "60s"]);
    assert_eq!(there.code, 0, "{}", there.stderr);
    let before = world.od(&["export", "agent/bot"]).text();
    let over = world.od(&["override", "agent/bot", "idleTimeout=33m"]);
    assert_eq!(over.code, 0, "{}", over.stderr);
    assert_eq!(object(&world, "agent/bot")["spec"]["idleTimeout"], "33m");
    let written = world.od(&["override", "agent/bot", "turnTimeout=7m", "--write"]);
    let older = "stays laid over what the file says until";
    assert!(written.code == 0 && written.stderr.contains(older), "{}", written.stderr);
    let before = before + "  turnTimeout: 7m\n";
    for what in [&["agent/bot"] as &[&str], &["agents"]] {
        let export = world.od(&[&["export"], what].concat());
        assert_eq!(export.text(), before);
        let told = &export.stderr;
        assert!(told.contains("override bot-") && told.contains("as the file says it"), "{told}");
    }
}

#[test]
fn who_asks_what_it_may_do_is_answered_by_the_server() {
    let world = World::new();
    for (words, text) in [
        (&["auth", "can-i", "create", "agents"] as &[&str], "yes\n"),
        (&["auth", "can-i", "delete", "job/nightly"], "yes\n"),
        (&["auth", "can-i", "update", "agents", "--subresource", "status", "-q"], ""),
    ] {
        let asked = world.od(words);
        assert_eq!((asked.text().as_str(), asked.code), (text, 0), "{}", asked.stderr);
    }
    let who = world.od(&["auth", "whoami"]);
    assert!(who.text().starts_with("Username  "), "{}", who.whole());
}

#[test]
fn every_shell_gets_a_completion_script() {
    let world = World::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.od(&["completion", shell]);
        assert_eq!(script.code, 0, "{}", script.stderr);
        for verb in ["explain", "rollout", "api-resources", "annotate"] {
            assert!(script.text().contains(verb), "{shell} lacks {verb}");
        }
    }
    assert_eq!(world.od(&["completion", "tcsh"]).code, 2);
}

#[test]
fn a_word_that_is_no_kind_is_refused_by_each_verb() {
    let world = World::new();
    insta::assert_snapshot!(session(
        &world,
        &[
            &["wait", "pod/x", "--for=delete"],
            &["edit", "pod/x"],
            &["label", "pod/x", "a=b"],
            &["scale", "pod/x", "--replicas", "1"],
            &["rollout", "status", "pod/x"],
            &["events", "--for", "pod/x"],
            &["export", "pods"],
            &["auth", "can-i", "get", "pods"],
        ]
    ));
}

/// What bash offers for a line, by the script that we print.
fn offered(world: &World, line: &[&str]) -> Vec<String> {
    world.write("completion.bash", world.od(&["completion", "bash"]).stdout);
    let program = env!("CARGO_BIN_EXE_open-dispatch");
    let words: Vec<String> = std::iter::once(program)
        .chain(line.iter().copied())
        .map(|word| format!("'{word}'"))
        .collect();
    let at = words.len() - 1;
    let script = format!(
        "source ./completion.bash; COMP_WORDS=({}); COMP_CWORD={at}; \
         _open_dispatch_objects '{program}' \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{}]}}\"; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        at - 1
    );
    let mut bash = std::process::Command::new("bash");
    bash.args(["--norc", "-c", &script]).env_clear().current_dir(world.work());
    for (name, value) in world.command(&[]).get_envs() {
        bash.env(name, value.unwrap_or_default());
    }
    let output = bash.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_offers_the_objects_that_the_server_has_and_else_words_and_flags() {
    let mut world = World::new();
    for name in ["bot-one", "bot-two", "other"] {
        applied(&world, &agent(name, ""));
    }
    assert_eq!(offered(&world, &["get", "agents", "bot-"]), ["bot-one", "bot-two"]);
    assert_eq!(offered(&world, &["describe", "agent/o"]), ["agent/other"]);
    assert_eq!(offered(&world, &["send", "-f", "o"]), ["other"]);
    assert_eq!(offered(&world, &["get", "sour"]), ["source", "sources"]);
    assert_eq!(offered(&world, &["get", "--ignore"]), ["--ignore-not-found"]);
    assert_eq!(offered(&world, &["expl"]), ["explain"]);
    // Where nobody answers, nothing is offered, and nothing is said.
    world.kill_server();
    assert_eq!(offered(&world, &["get", "agents", "bot-"]), Vec::<String>::new());
    let silent = world.od(&["__complete", "--", "get", "agents", "bot-"]);
    assert_eq!((silent.code, silent.whole()), (0, "--- stderr\n--- exit code 0\n".to_owned()));
}

#[test]
fn namespaces_are_taken_and_mean_nothing() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    let plain = world.od(&["get", "agents", "-o", "name"]).whole();
    for words in [
        &["get", "agents", "-o", "name", "-A"][..],
        &["get", "agents", "-o", "name", "-n", "default"],
        &["get", "agents", "-o", "name", "--namespace", "team"],
    ] {
        assert_eq!(world.od(words).whole(), plain, "{words:?}");
    }
    let gone = world.od(&["delete", "agent/a", "-n", "default"]);
    assert_eq!(gone.code, 0, "{}", gone.stderr);
}
