//! `edit`, with editors that are scripts.

use crate::{Outcome, World, agent, applied, object};

/// Edits an agent with a script as the editor; it finds the file in `$1`, and how often it was
/// called in `$calls`.
fn edit(world: &World, script: &str) -> Outcome {
    let head = "calls=$(cat calls 2>/dev/null || echo 0); echo $((calls + 1)) > calls\n";
    world.write("editor", format!("{head}cp \"$1\" seen.$calls\n{script}\n"));
    let _ = std::fs::remove_file(world.work().join("calls"));
    let output = world
        .command(&["edit", "agent/a"])
        .env("EDITOR", "sh ./editor")
        .env("TMPDIR", world.work())
        .output()
        .unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn seen(world: &World, call: u32) -> String {
    std::fs::read_to_string(world.work().join(format!("seen.{call}"))).unwrap()
}

#[test]
fn what_is_saved_is_what_is_wanted() {
    let world = World::new();
    applied(&world, &agent("a", "  instructions: Be brief.\n"));
    let edited = edit(&world, "sed -i s/brief/loud/ \"$1\"");
    assert_eq!(edited.whole(), "agent.opendispatch.dev/a edited\n--- stderr\n--- exit code 0\n");
    assert_eq!(object(&world, "agent/a")["spec"]["instructions"], "Be loud.");
    let shown = seen(&world, 0);
    assert!(!shown.contains("status:") && !shown.contains("uid:"), "{shown}");
    // Editors that save by putting another file in the place.
    let edited = edit(&world, "sed s/loud/kind/ \"$1\" > new; mv new \"$1\"");
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    assert_eq!(object(&world, "agent/a")["spec"]["instructions"], "Be kind.");
}

#[test]
fn who_changes_nothing_or_everything_away_cancels() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    let before = object(&world, "agent/a");
    for (script, line) in [
        ("true", "Edit cancelled, no changes made.\n"),
        (": > \"$1\"", "Edit cancelled, the saved file is empty.\n"),
        ("echo '# only this' > \"$1\"", "Edit cancelled, the saved file is empty.\n"),
    ] {
        let edited = edit(&world, script);
        assert_eq!((edited.stderr.as_str(), edited.code), (line, 0), "{script}");
    }
    let fails = edit(&world, "exit 3");
    assert_eq!(fails.code, 1);
    assert!(fails.stderr.contains("set EDITOR"), "{}", fails.stderr);
    assert_eq!(object(&world, "agent/a"), before);
}

#[test]
fn faults_stand_at_the_top_until_they_are_mended() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    let edited = edit(
        &world,
        "case $calls in
           0) echo '  idleTimout: 1h' >> \"$1\" ;;
           1) sed -i 's/^  idleTimout: 1h/  repo: {github: not a repo}/' \"$1\" ;;
           2) sed -i 's/^  repo: .*/  idleTimeout: 1h/' \"$1\" ;;
         esac",
    );
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    assert!(seen(&world, 1).contains("unknown field; did you mean `idleTimeout`?"));
    assert!(seen(&world, 2).contains("# * "), "{}", seen(&world, 2));
    assert!(!seen(&world, 2).contains("did you mean"), "old faults are gone: {}", seen(&world, 2));
    assert_eq!(object(&world, "agent/a")["spec"]["idleTimeout"], "1h");
}

#[test]
fn a_bad_text_that_is_left_so_is_kept_and_not_sent() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    let edited = edit(&world, "[ $calls = 0 ] && echo '  idleTimout: 1h' >> \"$1\"; true");
    assert_eq!(edited.code, 1);
    let kept = edited.stderr.split("kept in ").nth(1).unwrap().trim();
    assert!(std::fs::read_to_string(kept).unwrap().contains("idleTimout: 1h"), "{kept}");
    assert!(object(&world, "agent/a")["spec"]["idleTimeout"].is_null());
}

#[test]
fn what_an_editor_left_that_failed_or_wrote_no_text_is_kept() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    let before = object(&world, "agent/a");
    for script in ["echo '  # mine' >> \"$1\"; exit 3", "printf '  # mine \\377\\n' >> \"$1\""] {
        let edited = edit(&world, script);
        assert_eq!(edited.code, 1, "{script}: {}", edited.stderr);
        let kept = edited.stderr.split("kept in ").nth(1).expect(&edited.stderr).trim();
        let kept = std::fs::read(kept).unwrap();
        assert!(String::from_utf8_lossy(&kept).contains("# mine"), "{script}");
    }
    let untouched = edit(&world, "exit 3");
    assert!(!untouched.stderr.contains("kept in"), "{}", untouched.stderr);
    assert_eq!(object(&world, "agent/a"), before);
}

#[test]
fn without_a_terminal_and_an_editor_nobody_is_waited_for() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    for input in [&b""[..], b"yes\n:wq\n"] {
        let refused = world.od_with(&["edit", "agent/a"], input);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("open-dispatch set, patch or apply"), "{}", refused.stderr);
    }
}

#[test]
fn what_others_write_meanwhile_stays_and_the_same_field_is_asked_for() {
    let world = World::new();
    applied(&world, &agent("a", "  instructions: Be brief.\n"));
    let od = server_command(&world);
    let edited =
        edit(&world, &format!("{od} set a idleTimeout=2h >/dev/null; sed -i s/brief/loud/ \"$1\""));
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    let spec = &object(&world, "agent/a")["spec"];
    assert_eq!((&spec["idleTimeout"], &spec["instructions"]), (&"2h".into(), &"Be loud.".into()));

    let script = format!(
        "if [ $calls = 0 ]; then
           {od} set a instructions=theirs >/dev/null; sed -i s/loud/mine/ \"$1\"
         fi"
    );
    let edited = edit(&world, &script);
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    let asked = seen(&world, 1);
    assert!(asked.contains("# * spec.instructions\n") && asked.contains("Be mine."), "{asked}");
    assert_eq!(object(&world, "agent/a")["spec"]["instructions"], "Be mine.", "it was saved");

    let script = format!(
        "if [ $calls = 0 ]; then
           {od} set a instructions=theirs >/dev/null; sed -i s/mine/other/ \"$1\"
         else : > \"$1\"; fi"
    );
    assert_eq!(edit(&world, &script).code, 0);
    assert_eq!(object(&world, "agent/a")["spec"]["instructions"], "theirs");
}

fn server_command(world: &World) -> String {
    let command = world.command(&[]);
    command.get_program().to_string_lossy().into_owned()
}
