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
const OBJECTS: [&str; 12] = [
    "get", "describe", "edit", "patch", "label", "annotate", "scale", "delete", "wait", "export",
    "rollout", "explain",
];
/// Commands whose words are KIND/NAME and nothing else, and the kinds that they are for.
const SLASHED: [(&str, &[Kind]); 5] = [
    ("suspend", &POWERED),
    ("resume", &POWERED),
    ("reconcile", &[Kind::Source]),
    ("release", &DECLARED),
    ("diff", &DECLARED),
];
/// What can be turned off and on.
const POWERED: [Kind; 4] = [Kind::Agent, Kind::Fleet, Kind::Schedule, Kind::Source];
/// What files declare.
const DECLARED: [Kind; 4] = [Kind::Agent, Kind::Job, Kind::Fleet, Kind::Schedule];
/// Commands whose first word is an agent.
const AGENTS: [&str; 4] = ["send", "stop", "start", "turns"];
/// Commands whose words are an agent or a job.
const EITHER: [&str; 6] = ["logs", "cancel", "retry", "set", "approve", "override"];

/// What is asked for at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked<'w> {
    /// A kind.
    Kinds,
    /// The names of a kind's objects.
    Names(Kind),
    /// The names of a kind's objects, behind what stands there: the kind as it was typed, and a slash.
    Behind(Kind, &'w str),
    /// The objects of these kinds, as KIND/NAME.
    Slashed(&'static [Kind]),
    /// Agents and jobs.
    Either,
}

/// Prints the candidates for the end of a line: its words behind the program's name, of which the last
/// one is being typed.
///
/// # Errors
/// Only that nobody reads.
pub async fn complete(words: &[String]) -> Result<u8, Error> {
    let words = joined(words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
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
    // The kinds, and what stands in front of the names of each.
    let of: Vec<(Kind, String)> = match asked {
        Asked::Kinds => {
            let names = Kind::ALL.into_iter().flat_map(|kind| [kind.singular(), kind.plural()]);
            return names.map(str::to_owned).collect();
        }
        Asked::Names(kind) => vec![(kind, String::new())],
        Asked::Behind(kind, typed) => vec![(kind, format!("{typed}/"))],
        Asked::Slashed(kinds) => {
            kinds.iter().map(|kind| (*kind, format!("{}/", kind.singular()))).collect()
        }
        Asked::Either => vec![(Kind::Agent, String::new()), (Kind::Job, String::new())],
    };
    let Ok(client) = Client::find(&server(words, std::env::var("HOME").ok().as_deref())) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (kind, before) in of {
        let listed = client.get(&collection(kind), &[("limit", MOST)], AS_JSON).await;
        let Ok(list) = listed else { continue };
        let items = list["items"].as_array().into_iter().flatten();
        let names = items.filter_map(|item| item["metadata"]["name"].as_str());
        found.extend(names.map(|name| format!("{before}{name}")));
    }
    found.sort();
    found
}

/// The words of a line as they were typed: bash takes what stands in `--data=DIR` and in an address
/// for words of their own. Pure.
fn joined(words: &[String]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut goes_on = false;
    for word in words.iter().skip_while(|it| *it == "--") {
        let between = !word.is_empty() && word.chars().all(|it| matches!(it, '=' | ':'));
        match joined.last_mut().filter(|_| goes_on || between) {
            Some(last) => last.push_str(word),
            None => joined.push(word.clone()),
        }
        goes_on = between;
    }
    joined
}

/// Which server a line means. A home that a shell would have put in is put in here. Pure.
fn server(words: &[&str], home: Option<&str>) -> ServerArgs {
    let value = |flag: &str| {
        let at = words.iter().position(|word| {
            word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })?;
        let behind = words[at].strip_prefix(flag).and_then(|rest| rest.strip_prefix('='));
        let value = behind.or_else(|| words.get(at + 1).copied())?;
        Some(match (value.strip_prefix("~/"), home) {
            (Some(below), Some(home)) => format!("{home}/{below}"),
            _ => value.to_owned(),
        })
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
    if let Some((_, kinds)) = SLASHED.iter().find(|(it, _)| it == verb) {
        return Some(match typed.split_once('/') {
            Some((kind, _)) => Asked::Behind(Kind::find(kind)?, kind),
            None => Asked::Slashed(kinds),
        });
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
            let script = script.replace("open__subcmd__dispatch", "open__dispatch");
            let registered = "complete -F _open_dispatch_objects";
            format!("{}\n{BASH}", script.replace("complete -F _open__dispatch", registered))
        }
        Shell::Zsh => {
            let script = script.replacen(ZSH_BEGIN, &format!("{ZSH_BEGIN}{ZSH}"), 1);
            flags_behind_words(&script, &Cli::command())
        }
        Shell::Fish => format!("{script}{}{FISH}", words_for_fish(&Cli::command())),
        _ => script,
    }
}

/// Behind the script of bash: its function is asked where no object is to stand. The bash of macOS,
/// which is of 2007, has to understand it.
const BASH: &str = r#"_open_dispatch_objects() {
    local candidate
    local -a found=()
    while IFS= read -r candidate; do
        found+=("$candidate")
    done < <("${COMP_WORDS[0]/#\~\//$HOME/}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if (( ${#found[@]} )); then
        COMPREPLY=("${found[@]}")
    else
        _open__dispatch "$@"
    fi
}
"#;
/// How the function in the script of zsh begins.
const ZSH_BEGIN: &str = "_open-dispatch() {\n";
/// At the beginning of that function.
const ZSH: &str = r#"    local -a objects
    objects=(${(f)"$(${~words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#objects} )); then
        compadd -a objects
        return
    fi
"#;
/// Behind the script of fish. Where there are objects, no files are offered beside them.
const FISH: &str = r#"function __open_dispatch_objects
    set -l line (commandline -opc)
    set -l program (string replace -r '^~/' "$HOME/" -- $line[1])
    $program __complete -- $line[2..] (commandline -ct) 2>/dev/null
end
complete -c open-dispatch -f -n 'set -g __open_dispatch_found (__open_dispatch_objects); test -n "$__open_dispatch_found"' -a '$__open_dispatch_found'
"#;

/// The script of zsh, where flags are offered behind words as well: with two colons, zsh would take all
/// that follows for words. That is so for what goes on to the end of the line, such as a message.
fn flags_behind_words(script: &str, program: &Command) -> String {
    let to_the_end: Vec<String> = program
        .get_subcommands()
        .flat_map(Command::get_positionals)
        .filter(|arg| arg.is_trailing_var_arg_set())
        .map(|arg| format!("'*::{} --", arg.get_id()))
        .collect();
    let mut lines = Vec::new();
    for line in script.lines() {
        match line.strip_prefix("'*::") {
            Some(rest) if !to_the_end.iter().any(|it| line.starts_with(it.as_str())) => {
                lines.push(format!("'*:{rest}\n"));
            }
            _ => lines.push(format!("{line}\n")),
        }
    }
    lines.concat()
}

/// The words that a command takes of a list, which the script of fish leaves out by itself.
fn words_for_fish(program: &Command) -> String {
    let mut lines = String::new();
    for command in program.get_subcommands() {
        for value in command.get_positionals().flat_map(clap::Arg::get_possible_values) {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help.replace('\\', "\\\\").replace('\'', "\\'");
            lines += &format!(
                "complete -c open-dispatch -n '__fish_open_dispatch_using_subcommand {}' -f -a {} -d '{help}'\n",
                command.get_name(),
                value.get_name(),
            );
        }
    }
    lines
}

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
            ("label agent a x=", Some(Asked::Names(Kind::Agent))),
            ("suspend ", Some(Asked::Slashed(&POWERED))),
            ("suspend ag", Some(Asked::Slashed(&POWERED))),
            ("suspend ag/", Some(Asked::Behind(Kind::Agent, "ag"))),
            ("reconcile source/a ", Some(Asked::Slashed(&[Kind::Source]))),
            ("diff ", Some(Asked::Slashed(&DECLARED))),
            ("diff nothing/", None),
            ("override ", Some(Asked::Either)),
            ("override bot ", None),
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
        let slashed = SLASHED.map(|(verb, _)| verb);
        let all = OBJECTS.iter().chain(&AGENTS).chain(&EITHER).chain(&slashed);
        let missing: Vec<&&str> =
            all.filter(|verb| program.find_subcommand(verb).is_none()).collect();
        assert_eq!(missing, Vec::<&&str>::new());
    }

    #[test]
    fn what_bash_takes_apart_is_one_word_again() {
        let of = |line: &str| joined(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("-- get ag --data = /d "), ["get", "ag", "--data=/d", ""]);
        assert_eq!(
            of("-- get --server http : //[ :: 1] : 80 x"),
            ["get", "--server", "http://[::1]:80", "x"]
        );
        assert_eq!(of("-- get ag --data = "), ["get", "ag", "--data="]);
        assert_eq!(of("-- get ag "), ["get", "ag", ""]);
    }

    #[test]
    fn a_line_says_which_server_is_asked() {
        let of = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let found = server(&words, Some("/home/a"));
            (found.data.map(|it| it.display().to_string()), found.server)
        };
        let data = |at: &str| (Some(at.to_owned()), None);
        assert_eq!(of("get ag --data /d "), data("/d"));
        assert_eq!(of("get ag --data=/d "), data("/d"));
        assert_eq!(of("get ag --data ~/d "), data("/home/a/d"));
        assert_eq!(of("get ag --server=http://h "), (None, Some("http://h".to_owned())));
        assert_eq!(of("get ag --database /d "), (None, None));
        assert_eq!(of("get ag --data"), (None, None));
    }

    #[test]
    fn zsh_offers_flags_behind_words_save_in_a_message() {
        let script = completion(Shell::Zsh);
        assert!(script.contains("\n'*:what -- "), "flags may stand behind what to get");
        assert!(!script.contains("\n'*::what -- "), "two colons end the flags");
        assert!(script.contains("\n'*::message -- "), "a message goes on to the end of the line");
    }

    #[test]
    fn fish_is_told_the_words_of_a_list() {
        let script = completion(Shell::Fish);
        assert!(script.contains("using_subcommand completion' -f -a zsh -d ''\n"), "{script}");
        assert!(script.contains("using_subcommand approve' -f -a always -d '"), "{script}");
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
