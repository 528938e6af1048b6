//! The commands as Discord shows them, and what somebody filled in as one line of our grammar.
//! Pure.
//!
//! A command's options are the grammar's arguments under their own names; which there are stands
//! in one table ([`of`]), from which commands are registered and lines are made. What a person
//! fills in reaches the grammar byte for byte: a value is quoted where the grammar would end it
//! too early, and a task or a message stands at the end, as it is.

use serde_json::{Value, json};

use crate::chat::grammar::{RUN_FLAGS, SCHEDULE_WORDS, START_FLAGS, Verb};

/// An option of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opt {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is.
    what: &'static str,
    /// Where it stands in the line.
    pub(super) place: Place,
    required: bool,
}

/// Where an option stands in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A word in front: the name of an agent or a job.
    Name,
    /// A word in front that is no name of an agent or a job.
    Word,
    /// A path in front.
    Path,
    /// A flag with a value.
    Flag(&'static str),
    /// A flag without one.
    Switch(&'static str),
    /// The rest of the line, as it is.
    Rest,
    /// A word of a fixed list: a command.
    Command,
    /// A word of a fixed list: what is done with schedules.
    Schedules,
    /// How many agents are meant, if not one.
    All,
    /// Beside the line: a file.
    File,
}

const fn opt(name: &'static str, what: &'static str, place: Place, required: bool) -> Opt {
    Opt { name, what, place, required }
}

/// All agents that listen in this channel.
const HERE: &str = "here";
/// All agents that there are.
const EVERYWHERE: &str = "everywhere";

const WHO: Opt = opt("name", "The agent or job", Place::Name, true);

/// The options of a command, in the order in which Discord shows them.
pub(super) fn of(verb: Verb) -> Vec<Opt> {
    let flags = |all: &[&'static str]| -> Vec<Opt> {
        let name = |flag: &&'static str| flag.trim_start_matches('-');
        let place = |flag: &'static str| match flag {
            "--persistent" => Place::Switch(flag),
            _ => Place::Flag(flag),
        };
        all.iter().map(|flag| opt(name(flag), what(flag), place(flag), false)).collect()
    };
    match verb {
        Verb::Start => {
            let mut all = vec![
                opt("name", "What to call the agent", Place::Name, false),
                opt("path", "Where it works: a directory on the server", Place::Path, false),
            ];
            all.extend(flags(&START_FLAGS));
            all
        }
        Verb::Run => {
            let mut all = vec![opt("task", "What is to be done", Place::Rest, true)];
            all.extend(flags(&RUN_FLAGS));
            all
        }
        Verb::Send => vec![
            opt("name", "The agent", Place::Name, true),
            opt("message", "What to say to it", Place::Rest, true),
            opt("file", "A file for it", Place::File, false),
        ],
        Verb::Stop => vec![
            opt("name", "The agent", Place::Name, false),
            opt("all", "All agents instead: of this channel, or of all", Place::All, false),
        ],
        Verb::List | Verb::Jobs | Verb::Whoami => Vec::new(),
        Verb::Schedule => vec![
            opt("do", "What to do with schedules", Place::Schedules, true),
            opt(
                "with",
                "The name; to add one: \"CRON\" [--tz ZONE] [flags] task",
                Place::Rest,
                false,
            ),
        ],
        Verb::Status | Verb::Logs | Verb::Cancel | Verb::Delete => vec![WHO],
        Verb::Retry => vec![
            WHO,
            opt("force", "An agent begins a new session for that", Place::Switch("--force"), false),
        ],
        Verb::Approve => {
            vec![
                WHO,
                opt("answer", "yes, always, no, and what you have to say", Place::Rest, false),
            ]
        }
        Verb::Set => vec![WHO, opt("changes", "Such as model=opus timeout=1h", Place::Rest, true)],
        Verb::Scale => vec![
            opt("fleet", "The fleet", Place::Word, true),
            opt("members", "How many members it is to have", Place::Rest, true),
        ],
        Verb::Apply => vec![
            opt("yaml", "What is to be, as YAML", Place::Rest, false),
            opt("file", "The same as a file", Place::File, false),
        ],
        Verb::Diff => vec![
            opt("what", "An agent or a job, or YAML", Place::Rest, false),
            opt("file", "YAML as a file", Place::File, false),
        ],
        Verb::Export => vec![opt("names", "What to show; all without", Place::Rest, false)],
        Verb::Help => vec![opt("command", "The command to explain", Place::Command, false)],
    }
}

fn what(flag: &str) -> &'static str {
    match flag {
        "--name" => "What to call the job",
        "--agent" => "Which agent works: claude, opencode, codex, gemini, command",
        "--model" => "Its model",
        "--workdir" => "Where it works: a directory on the server",
        "--repo" => "A repository to clone: owner/project, or an address",
        "--branch" => "The repository's branch",
        "--runtime" => "Where it runs: here, or as a Fly Machine",
        "--image" => "The image of its Fly Machine, or an alias",
        "--persistent" => "Its Fly Machine keeps home and clone while it sleeps",
        "--timeout" => "How long it may take, such as 30m",
        "--permissions" => "What it may do unasked",
        "--isolation" => "How far it is kept apart",
        "--instructions" => "What is added to its instructions",
        _ => "As od-help says",
    }
}

fn choices(place: Place) -> Vec<&'static str> {
    match place {
        Place::Flag("--permissions") => vec!["ask", "acceptEdits", "plan", "bypass"],
        Place::Flag("--isolation") => vec!["none", "worktree", "sandbox"],
        Place::Flag("--runtime") => vec!["local", "fly"],
        Place::Command => Verb::ALL.map(Verb::name).to_vec(),
        Place::Schedules => SCHEDULE_WORDS.to_vec(),
        Place::All => vec![HERE, EVERYWHERE],
        _ => Vec::new(),
    }
}

/// What a command does, in at most 100 characters.
fn about(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "Begin a conversation with an agent, or go on with one that was stopped",
        Verb::Send => "Say something to an agent, from wherever",
        Verb::Stop => "Stop an agent; its session stays",
        Verb::List => "List the agents",
        Verb::Run => "Run one task",
        Verb::Jobs => "List the last jobs",
        Verb::Schedule => "Run tasks at times",
        Verb::Status => "Describe an agent or a job",
        Verb::Logs => "Show the last lines of an agent or a job",
        Verb::Cancel => "End what an agent or a job is at",
        Verb::Retry => "Do what failed again",
        Verb::Approve => "Answer what an agent asks for",
        Verb::Set => "Change fields of an agent, a job, a fleet or a schedule",
        Verb::Scale => "Say how many members a fleet has",
        Verb::Delete => "Delete an agent or a job",
        Verb::Apply => "Make agents and jobs as YAML says, once you have seen what would change",
        Verb::Diff => "Show what YAML would change, or what differs from its file",
        Verb::Export => "Show agents, jobs, fleets and schedules as YAML",
        Verb::Help => "Help, on one command or all",
        Verb::Whoami => "Say who the server takes you for",
    }
}

/// All commands, as Discord registers them.
pub(super) fn commands() -> Value {
    let one = |verb: Verb| {
        let options: Vec<Value> = of(verb).into_iter().map(option).collect();
        json!({"type": 1, "name": verb.name(), "description": about(verb), "options": options})
    };
    Verb::ALL.map(one).to_vec().into()
}

fn option(option: Opt) -> Value {
    let kind = match option.place {
        Place::Switch(_) => 5,
        Place::File => 11,
        _ => 3,
    };
    let mut value = json!({
        "type": kind,
        "name": option.name,
        "description": option.what,
        "required": option.required,
    });
    let choices = choices(option.place);
    if !choices.is_empty() {
        let choice = |choice: &str| json!({"name": choice, "value": choice});
        value["choices"] = choices.into_iter().map(choice).collect();
    } else if option.place == Place::Name {
        value["autocomplete"] = true.into();
    }
    value
}

/// What somebody filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filled {
    /// A text.
    Text(String),
    /// Yes or no.
    Switch(bool),
}

/// A value that the grammar cannot be given in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` holds spaces and both kinds of quotes; leave out one kind")]
pub(super) struct Unquotable(&'static str);

/// The line that says the same.
///
/// # Errors
/// A value that cannot be written as one.
pub(super) fn line(verb: Verb, filled: &[(String, Filled)]) -> Result<String, Unquotable> {
    let mut line = format!("/{}", verb.name());
    let mut rest = None;
    let mut named = false;
    // In the table's order: names stand in front.
    for option in of(verb) {
        let value = filled.iter().find(|(name, _)| name == option.name).map(|(_, value)| value);
        match (option.place, value) {
            (Place::Name | Place::Word, Some(Filled::Text(text))) => {
                named = true;
                line.push(' ');
                line.push_str(text.trim());
            }
            (Place::Path, Some(Filled::Text(text))) => {
                // What looks like a name is one, unless a name stands in front of it.
                let is_name = !named && !text.starts_with(['/', '~', '.']) && !text.contains('/');
                let text = if is_name { format!("./{text}") } else { text.clone() };
                line.push(' ');
                line.push_str(&quoted(option.name, &text)?);
            }
            (Place::Flag(flag), Some(Filled::Text(text))) => {
                line.push_str(&format!(" {flag}={}", quoted(option.name, text)?));
            }
            (Place::Switch(flag), Some(Filled::Switch(true))) => {
                line.push(' ');
                line.push_str(flag);
            }
            (Place::All, Some(Filled::Text(text))) => line.push_str(match text.as_str() {
                EVERYWHERE => " --all everywhere",
                _ => " --all",
            }),
            (Place::Command | Place::Schedules, Some(Filled::Text(text))) => {
                line.push_str(&format!(" {text}"))
            }
            (Place::Rest, Some(Filled::Text(text))) => rest = Some(text),
            _ => {}
        }
    }
    if let Some(rest) = rest {
        // Only a run reads flags in front of what stands there; a dash would begin one.
        let dash = |c: char| matches!(c, '-' | '\u{2013}' | '\u{2014}' | '\u{2015}');
        if verb == Verb::Run && rest.trim_start().starts_with(dash) {
            line.push_str(" --");
        }
        line.push(' ');
        line.push_str(rest);
    }
    Ok(line)
}

/// A value as the grammar reads it as one.
fn quoted(name: &'static str, text: &str) -> Result<String, Unquotable> {
    const DOUBLE: [char; 7] =
        ['"', '\u{201C}', '\u{201D}', '\u{201E}', '\u{201F}', '\u{AB}', '\u{BB}'];
    const SINGLE: [char; 4] = ['\'', '\u{2018}', '\u{2019}', '\u{201A}'];
    let quote = |c: char| DOUBLE.contains(&c) || SINGLE.contains(&c);
    let dash = |c: char| matches!(c, '-' | '\u{2013}' | '\u{2014}' | '\u{2015}');
    if !text.is_empty()
        && !text.contains(char::is_whitespace)
        && !text.starts_with(|c| quote(c) || dash(c))
    {
        return Ok(text.to_owned());
    }
    if !text.contains(DOUBLE) {
        return Ok(format!("\"{text}\""));
    }
    if !text.contains(SINGLE) {
        return Ok(format!("'{text}'"));
    }
    Err(Unquotable(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::grammar::{self, Command, Line, Stop};

    fn text(name: &str, value: &str) -> (String, Filled) {
        (name.to_owned(), Filled::Text(value.to_owned()))
    }

    fn parse(line: &str) -> Command {
        match grammar::parse(line) {
            Ok(Line::Command(command)) => command,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn every_command_is_registered_within_what_discord_takes() {
        let commands = commands();
        for command in commands.as_array().unwrap() {
            let short =
                |value: &Value| value["description"].as_str().unwrap().chars().count() <= 100;
            let options = command["options"].as_array().unwrap();
            assert!(short(command) && options.iter().all(short), "{command}");
            assert!(options.len() <= 25, "{command}");
            let required: Vec<bool> = options.iter().map(|it| it["required"] == true).collect();
            assert!(required.is_sorted_by(|a, b| a >= b), "required ones go first: {command}");
            assert!(
                options.iter().all(|it| it["choices"].as_array().is_none_or(|all| all.len() <= 25))
            );
        }
        assert_eq!(commands.as_array().unwrap().len(), Verb::ALL.len());
        insta::assert_json_snapshot!(commands);
    }

    #[test]
    fn every_command_becomes_the_line_that_says_the_same() {
        let all = Verb::ALL.map(|verb| {
            let fill = |option: Opt| {
                let value = match option.place {
                    Place::Name | Place::Word => Filled::Text("api".into()),
                    Place::Rest if verb == Verb::Scale => Filled::Text("3".into()),
                    Place::Path => Filled::Text("my dir".into()),
                    Place::Flag("--permissions") => Filled::Text("plan".into()),
                    Place::Flag("--isolation") => Filled::Text("none".into()),
                    Place::Flag("--runtime") => Filled::Text("local".into()),
                    Place::Flag("--timeout") => Filled::Text("5m".into()),
                    Place::Flag("--instructions") => Filled::Text("don't \u{2026} stop".into()),
                    Place::Flag(_) => Filled::Text("x".into()),
                    Place::Switch(_) => Filled::Switch(verb == Verb::Retry),
                    Place::Rest if verb == Verb::Schedule => Filled::Text("api".into()),
                    Place::Schedules => Filled::Text("run".into()),
                    Place::Rest if verb == Verb::Set => Filled::Text("model=x".into()),
                    Place::Rest => Filled::Text("it's  \"so\"\nand so".into()),
                    Place::Command => Filled::Text("od-run".into()),
                    // One or all.
                    Place::All => return None,
                    Place::File => return None,
                };
                Some((option.name.to_owned(), value))
            };
            let filled: Vec<_> = of(verb).into_iter().filter_map(fill).collect();
            let line = line(verb, &filled).unwrap();
            format!("{line:?}\n  {:?}", parse(&line))
        });
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn all_agents_are_those_of_the_channel_unless_everywhere_is_said() {
        for (value, stop) in [(HERE, Stop::Here), (EVERYWHERE, Stop::Everywhere)] {
            let line = line(Verb::Stop, &[text("all", value)]).unwrap();
            assert_eq!(parse(&line), Command::Stop(stop), "{line}");
        }
    }

    #[test]
    fn a_path_alone_is_a_path_and_no_name() {
        let line = line(Verb::Start, &[text("path", "web")]).unwrap();
        let Command::Start(start) = parse(&line) else { panic!("{line}") };
        assert_eq!((start.name, start.path.as_deref()), (None, Some("./web")));
    }

    #[test]
    fn what_cannot_be_quoted_is_refused_with_the_mend() {
        let refused = line(Verb::Run, &[text("task", "x"), text("model", "it's \"it\"")]);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "`model` holds spaces and both kinds of quotes; leave out one kind"
        );
    }

    proptest! {
        #[test]
        fn a_message_arrives_byte_for_byte(message in "[^\0]{1,60}") {
            prop_assume!(!message.trim().is_empty());
            let line = line(Verb::Send, &[text("name", "api"), text("message", &message)]).unwrap();
            let Command::Send { text, .. } = parse(&line) else { panic!("{line}") };
            prop_assert_eq!(text, message);
        }

        #[test]
        fn a_task_and_a_flag_arrive_byte_for_byte(
            task in "[-–\"' a-z]{0,9}[a-z]", model in "[-–\"' a-z=]{0,8}[a-z]",
        ) {
            let model = model.trim().to_owned();
            let filled = [text("task", &task), text("model", &model)];
            if let Ok(line) = line(Verb::Run, &filled) {
                let Command::Run(run) = parse(&line) else { panic!("{line}") };
                prop_assert_eq!(run.task.as_str(), task.trim_start());
                prop_assert_eq!(run.flags.model, Some(model));
            }
        }
    }
}
