//! Completion of objects: what a shell offers where a kind, or the name of an object, is to stand.
//!
//! The scripts of [`completion`] know all words and flags by themselves. Where the word that is being
//! typed may be an object, they call the program again, under a word of its own ([`WORD`]), with the
//! line so far; it asks the server, and prints a candidate a line. Whatever goes wrong there prints
//! nothing, so that a shell never shows an error in the middle of a line.

use std::time::Duration;

use clap::{ArgAction, Command, CommandFactory as _};
use clap_complete::Shell;

use super::{
    args::{Cli, ServerArgs},
    client::{AS_JSON, Client, collection},
    error::Error,
    out,
};
use crate::resource::Kind;

/// The word by which the scripts call. It stands in no help.
pub const WORD: &str = "__complete";
/// How long a person may wait for candidates.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many objects of a kind are offered.
const MOST: &str = "500";

/// Commands whose words are kinds and names, as kubectl has them.
const OBJECTS: [&str; 17] = [
    "get",
    "describe",
    "edit",
    "patch",
    "label",
    "annotate",
    "scale",
    "delete",
    "wait",
    "export",
    "suspend",
    "resume",
    "reconcile",
    "override",
    "release",
    "rollout",
    "explain",
];
/// Commands whose first word is an agent.
const AGENTS: [&str; 4] = ["send", "stop", "start", "turns"];
/// Commands whose words are an agent or a job.
const EITHER: [&str; 5] = ["logs", "cancel", "retry", "set", "approve"];

/// What is asked for at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked<'w> {
    /// A kind.
    Kinds,
    /// The names of a kind's objects.
    Names(Kind),
    /// The names of a kind's objects, behind what stands there: the kind as it was typed, and a slash.
    Behind(Kind, &'w str),
    /// Agents and jobs.
    Either,
}

/// Prints the candidates for the end of a line: its words behind the program's name, of which the last
/// one is being typed.
///
/// # Errors
/// Only that nobody reads.
pub async fn complete(words: &[String]) -> Result<u8, Error> {
    let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|it| *it == "--").collect();
    let Some(asked) = asked(&words, &Cli::command()) else { return Ok(0) };
    let found = tokio::time::timeout(PATIENCE, candidates(asked, &words)).await;
    let typed = words.last().copied().unwrap_or_default();
    for candidate in found.unwrap_or_default() {
        if candidate.starts_with(typed) {
            out::line(candidate)?;
        }
    }
    Ok(0)
}

async fn candidates(asked: Asked<'_>, words: &[&str]) -> Vec<String> {
    let (of, before) = match asked {
        Asked::Kinds => {
            let names = Kind::ALL.into_iter().flat_map(|kind| [kind.singular(), kind.plural()]);
            return names.map(str::to_owned).collect();
        }
        Asked::Names(kind) => (vec![kind], String::new()),
        Asked::Behind(kind, typed) => (vec![kind], format!("{typed}/")),
        Asked::Either => (vec![Kind::Agent, Kind::Job], String::new()),
    };
    let Ok(client) = Client::find(&server(words)) else { return Vec::new() };
    let mut found = Vec::new();
    for kind in of {
        let listed = client.get(&collection(kind), &[("limit", MOST)], AS_JSON).await;
        let Ok(list) = listed else { continue };
        let items = list["items"].as_array().into_iter().flatten();
        let names = items.filter_map(|item| item["metadata"]["name"].as_str());
        found.extend(names.map(|name| format!("{before}{name}")));
    }
    found.sort();
    found
}

/// Which server a line means.
fn server(words: &[&str]) -> ServerArgs {
    let value = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).map(|word| (*word).to_owned())
    };
    ServerArgs { data: value("--data").map(Into::into), server: value("--server") }
}

/// What may stand at the end of a line, if it is an object. Pure.
fn asked<'w>(words: &[&'w str], program: &Command) -> Option<Asked<'w>> {
    let (typed, before) = words.split_last()?;
    let (verb, before) = before.split_first()?;
    let mut command = program.find_subcommand(verb)?;
    let mut said: Vec<&str> = Vec::new();
    let mut takes = None;
    for word in before {
        if takes.take().is_some() {
            continue;
        }
        match word.strip_prefix('-') {
            Some(_) => takes = value_of(command, word),
            None => match command.find_subcommand(word).filter(|_| said.is_empty()) {
                Some(below) => command = below,
                None => said.push(word),
            },
        }
    }
    if let Some(flag) = takes {
        // The value of a flag is a file or a word, save for this one.
        return (*verb == "events" && flag == "what_for").then(|| object(typed));
    }
    if typed.starts_with('-') || command.has_subcommands() {
        return None;
    }
    if AGENTS.contains(verb) {
        return said.is_empty().then_some(Asked::Names(Kind::Agent));
    }
    if EITHER.contains(verb) {
        let first = said.is_empty() || *verb == "cancel";
        return first.then(|| if typed.contains('/') { object(typed) } else { Asked::Either });
    }
    if !OBJECTS.contains(verb) {
        return None;
    }
    match said.first() {
        None => Some(object(typed)),
        Some(_) if *verb == "explain" => None,
        // KIND/NAME may be followed by others.
        Some(first) if first.contains('/') => Some(object(typed)),
        Some(first) => Kind::find(first).map(Asked::Names),
    }
}

/// A kind, or a name behind it.
fn object(typed: &str) -> Asked<'_> {
    match typed.split_once('/').map(|(kind, _)| (Kind::find(kind), kind)) {
        Some((Some(kind), typed)) => Asked::Behind(kind, typed),
        _ => Asked::Kinds,
    }
}

/// The name of a flag whose value is the next word.
fn value_of(command: &Command, word: &str) -> Option<String> {
    let is_it = |arg: &&clap::Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short() == word.chars().last(),
    };
    let arg = command.get_arguments().find(is_it)?;
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    (takes && !arg.is_require_equals_set()).then(|| arg.get_id().to_string())
}

/// The script of a shell, which asks this program for objects where it knows how.
#[must_use]
pub fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "open-dispatch", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // clap_complete calls a program with a dash in its name in two ways there, and so would offer
        // no flag of any command.
        Shell::Bash => {
            format!("{}\n{BASH}", script.replace("open__subcmd__dispatch", "open__dispatch"))
        }
        Shell::Zsh => script.replacen(ZSH_BEGIN, &format!("{ZSH_BEGIN}{ZSH}"), 1),
        Shell::Fish => format!("{script}{FISH}"),
        _ => script,
    }
}

/// Behind the script of bash: its function is asked where no object is to stand.
const BASH: &str = r#"_open_dispatch_objects() {
    local found
    found=$("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ -n "$found" ]]; then
        mapfile -t COMPREPLY <<< "$found"
    else
        _open__dispatch "$@"
    fi
}

complete -F _open_dispatch_objects -o nosort -o bashdefault -o default open-dispatch
"#;
/// How the function in the script of zsh begins.
const ZSH_BEGIN: &str = "_open-dispatch() {\n";
/// At the beginning of that function.
const ZSH: &str = r#"    local -a objects
    objects=(${(f)"$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#objects} )); then
        compadd -a objects
        return
    fi
"#;
/// Behind the script of fish, which offers all that any line of it says.
const FISH: &str = "complete -c open-dispatch -a \
                    '(open-dispatch __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'w>(line: &'w str) -> Option<Asked<'w>> {
        let words: Vec<&'w str> = line.split(' ').collect();
        asked(&words, &Cli::command())
    }

    #[test]
    fn an_object_is_offered_where_one_may_stand() {
        for (line, expected) in [
            ("get ", Some(Asked::Kinds)),
            ("get ag", Some(Asked::Kinds)),
            ("get agents ", Some(Asked::Names(Kind::Agent))),
            ("get ag a b ", Some(Asked::Names(Kind::Agent))),
            ("get -o wide job ", Some(Asked::Names(Kind::Job))),
            ("get -o ", None),
            ("get job -l ", None),
            ("get job --sho", None),
            ("describe agent/", Some(Asked::Behind(Kind::Agent, "agent"))),
            ("describe ag/x", Some(Asked::Behind(Kind::Agent, "ag"))),
            ("describe agent/a job/", Some(Asked::Behind(Kind::Job, "job"))),
            ("describe nothing/", Some(Asked::Kinds)),
            ("get nothing ", None),
            ("rollout ", None),
            ("rollout restart ", Some(Asked::Kinds)),
            ("rollout status fleet/", Some(Asked::Behind(Kind::Fleet, "fleet"))),
            ("send ", Some(Asked::Names(Kind::Agent))),
            ("send -f ", Some(Asked::Names(Kind::Agent))),
            ("send bot ", None),
            ("logs ", Some(Asked::Either)),
            ("logs job/", Some(Asked::Behind(Kind::Job, "job"))),
            ("logs nightly ", None),
            ("events --for agent/", Some(Asked::Behind(Kind::Agent, "agent"))),
            ("events --types ", None),
            ("explain ", Some(Asked::Kinds)),
            ("apply -f ", None),
            ("serve ", None),
            ("nothing ", None),
            ("get", None),
        ] {
            assert_eq!(of(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_verb_that_is_known_here_is_a_command() {
        let program = Cli::command();
        let all = OBJECTS.iter().chain(&AGENTS).chain(&EITHER);
        let missing: Vec<&&str> =
            all.filter(|verb| program.find_subcommand(verb).is_none()).collect();
        assert_eq!(missing, Vec::<&&str>::new());
    }

    #[test]
    fn the_scripts_of_the_shells_ask_for_objects() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completion(shell);
            assert_eq!(script.matches("__complete").count(), 1, "{shell}");
        }
        assert!(!completion(Shell::Elvish).contains("__complete"));
    }
}
