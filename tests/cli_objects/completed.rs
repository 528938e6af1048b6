//! The completion script of bash in a real bash: words, flags, and the objects of a running server.

use std::{fs, path::Path, process::Command};

use super::{
    agent,
    server::{PROGRAM, World},
};

/// What a bash has the function that the script registers offer at the end of a line.
const LINE: &str = r#"
source "$1"; shift
registered=$(complete -p open-dispatch)
function=${registered##*-F }; function=${function%% *}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
"$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// What is offered at the end of a line, whose words are those that bash makes of it; nothing may stand
/// on standard error, where it would break the line.
fn offered(world: &World, data: &Path, words: &[&str]) -> Vec<String> {
    let script = world.work().join("script");
    fs::write(&script, world.od(&["completion", "bash"]).stdout).unwrap();
    let like = world.command(&[]);
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-c", LINE, "bash"]).arg(script).arg(PROGRAM).args(words);
    bash.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = bash.env("OPEN_DISPATCH_DATA", data).output().unwrap();
    let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{words:?}");
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_words_flags_and_the_objects_that_there_are() {
    let world = World::new();
    world.write("both.yaml", format!("{}---\n{}", agent("one", ""), agent("two", "")));
    assert_eq!(world.od(&["apply", "-f", "both.yaml"]).code, 0);
    let data = world.data();
    let named = data.display().to_string();
    for (words, expected) in [
        (&["ge"] as &[&str], &["get"] as &[&str]),
        (&["rollout", "re"], &["restart"]),
        (&["get", "agents", "--show-l"], &["--show-labels"]),
        (&["start", "x", "--agent", "cl"], &["claude"]),
        (&["get", "ag"], &["agent", "agents"]),
        (&["get", "agents", ""], &["one", "two"]),
        (&["get", "-o", "wide", "agents", "tw"], &["two"]),
        (&["describe", "agent/"], &["agent/one", "agent/two"]),
        (&["suspend", "ag"], &["agent/one", "agent/two"]),
        (&["send", ""], &["one", "two"]),
        (&["set", "o"], &["one"]),
    ] {
        assert_eq!(offered(&world, &data, words), expected, "{words:?}");
    }
    let shells = offered(&world, &data, &["completion", ""]);
    assert!(["bash", "fish", "zsh"].iter().all(|it| shells.iter().any(|shell| shell == it)));

    // The server is the one that the line names, in whichever way; and where there is none, no object
    // is offered, and no error.
    let elsewhere = world.work().join("nothing");
    for words in [
        &["get", "agents", "--data", "=", &named, ""] as &[&str],
        &["get", "agents", "--data", &named, ""],
    ] {
        assert_eq!(offered(&world, &elsewhere, words), ["one", "two"], "{words:?}");
    }
    let none = offered(&world, &elsewhere, &["get", "agents", ""]);
    assert!(none.iter().all(|it| it.starts_with('-')), "{none:?}");
}
