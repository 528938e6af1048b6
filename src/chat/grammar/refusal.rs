//! Why a line is no good, with the mend. Each is one line that a person reads.

use super::Verb;
use crate::resource::NotASpan;

/// Why a line is no good, with the mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such command.
    #[error("/{word} is no command{}", suggest("/", nearest))]
    UnknownCommand {
        /// What was typed, without the slash.
        word: String,
        /// The command that is nearest to it.
        nearest: Option<&'static str>,
    },
    /// No such flag.
    #[error("{flag} is no flag of /{}{}{}", verb.name(), suggest("", nearest), dash(*verb))]
    UnknownFlag {
        /// The command.
        verb: Verb,
        /// What was typed.
        flag: String,
        /// The flag that is nearest to it.
        nearest: Option<&'static str>,
    },
    /// A switch that is neither on nor off.
    #[error("{0}: `{1}` is neither true nor false; write {0} alone, or {0}=false")]
    Switch(&'static str, String),
    /// A flag without its value.
    #[error("{0} needs a value, as in {0}={example}", example = example(.0))]
    NoValue(&'static str),
    /// A quote that does not end.
    #[error("the quote behind {0} does not end; close it, or leave it out")]
    OpenQuote(String),
    /// A closing quote with something glued to it.
    #[error("put a space behind the closing quote of {0}")]
    Glued(String),
    /// A flag that stands there twice.
    #[error("{0} stands there twice; keep one of them")]
    Twice(&'static str),
    /// A run without a task.
    #[error("there is no task; say what to do, as in /od-run echo hello")]
    NoTask,
    /// A message without words.
    #[error("there is no message; say it behind the name, as in /od-send api-bot run the tests")]
    NoMessage,
    /// A length of time that is none.
    #[error("--timeout: {0}")]
    Timeout(NotASpan),
    /// A permission mode that is none.
    #[error("--permissions: `{0}` is no mode; the modes are ask, acceptEdits, plan and bypass")]
    Permissions(String),
    /// A way of keeping agents apart that is none.
    #[error("--isolation: `{0}` is no isolation; there are none, worktree and sandbox")]
    Isolation(String),
    /// A runtime that is none.
    #[error("--runtime: `{0}` is no runtime; there are local and fly")]
    Runtime(String),
    /// A choice that no button makes.
    #[error("/od-pick belongs to buttons; begin your message with the name of the agent instead")]
    Pick,
    /// A choice that no button makes.
    #[error("/od-choose belongs to buttons; say the change again, and press one below the answer")]
    Choose,
    /// Something that is not done with schedules.
    #[error(
        "`{0}` is nothing that /od-schedule does; it does list, add, run, suspend, resume and delete"
    )]
    Scheduling(String),
    /// A schedule without a time.
    #[error(
        "say when: five fields (minute, hour, day of month, month, day of week) or a word such as \
         @daily, as in /od-schedule add \"0 9 * * MON-FRI\" run the tests"
    )]
    NoCron,
    /// A change of nothing.
    #[error("there is no change; write field=value, as in /od-set api-bot budget.usd=5")]
    NoChange,
    /// An assignment that is none.
    #[error("`{0}` is no change; write field=value, as in /od-set api-bot budget.usd=5")]
    NoAssignment(String),
    /// A number of members that is none.
    #[error("{} as in /od-scale crew 3", replicas(.0))]
    Replicas(String),
    /// A field that is set twice.
    #[error("{0} is set twice; keep one of them")]
    SetTwice(String),
    /// A field that stands in a list.
    #[error("{0} stands in a list; set the list as a whole, as in env=[{{name: A, value: b}}]")]
    InList(String),
    /// A value that is no YAML.
    #[error("{field}: the value is no YAML: {why}")]
    BadValue {
        /// The field.
        field: String,
        /// What the reader says.
        why: String,
    },
    /// A command that needs a name.
    #[error("/{} needs {}", .0.name(), needs(*.0))]
    NoName(Verb),
    /// More words than the command takes.
    #[error("/{} takes {}; `{extra}` is too much", verb.name(), takes(*verb))]
    TooMuch {
        /// The command.
        verb: Verb,
        /// What is too much.
        extra: String,
    },
}

fn replicas(said: &str) -> String {
    match said {
        "" => "say how many members it is to have,".to_owned(),
        said => format!("`{said}` is no number of members; write one,"),
    }
}

fn suggest(prefix: &str, nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {prefix}{nearest}?"),
        None if prefix.is_empty() => String::new(),
        None => "; /od-help lists them".to_owned(),
    }
}

fn dash(verb: Verb) -> &'static str {
    match verb {
        Verb::Run | Verb::Schedule => " (a task that begins with a dash goes behind --)",
        _ => "",
    }
}

fn example(flag: &str) -> &'static str {
    match flag {
        "--name" => "nightly",
        "--tz" => "Europe/Berlin",
        "--agent" => "claude",
        "--model" => "claude-sonnet-4-5",
        "--workdir" => "~/projects/api",
        "--repo" => "owner/project",
        "--branch" => "main",
        "--runtime" => "fly",
        "--image" => "node",
        "--timeout" => "10m",
        "--isolation" => "worktree",
        "--instructions" => "\"Prefer small commits.\"",
        _ => "bypass",
    }
}

fn needs(verb: Verb) -> &'static str {
    match verb {
        Verb::Send => "the name of an agent and a message; /od-list lists the agents",
        Verb::Stop => "the name of an agent, or --all; /od-list lists the agents",
        Verb::Schedule => "the name of a schedule; /od-schedule list lists them",
        Verb::Scale => "the name of a fleet, and how many members it is to have",
        _ => "the name of an agent or a job; /od-list and /od-jobs list them",
    }
}

fn takes(verb: Verb) -> &'static str {
    match verb {
        Verb::Jobs | Verb::Whoami | Verb::List => "nothing behind it",
        Verb::Help => "one command at most",
        Verb::Schedule => "one name behind run, suspend, resume and delete, and none behind list",
        Verb::Start => "a name and a path, which needs quotes if it has spaces",
        Verb::Retry => "one name, and --force",
        Verb::Scale => "the name of a fleet and one number",
        Verb::Stop => "one name, or --all",
        _ => "one name",
    }
}
