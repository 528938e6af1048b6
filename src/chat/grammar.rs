//! What a line of chat means: one grammar for every platform, pure.
//!
//! A command is a word `/od-…` (the slash may be missing, the case does not matter), then
//! flags, then words or, for a run, the task. The task is the rest of the line byte for byte:
//! nothing is tokenised, so apostrophes, newlines, quotes and double spaces survive. Only the
//! flags in front of it are read word by word, and forgivingly: phones turn `--` into a long
//! dash and straight quotes into curly ones.

use crate::resource::{NotASpan, PermissionMode, Span};

/// The commands of the grammar, built or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `/od-run`
    Run,
    /// `/od-jobs`
    Jobs,
    /// `/od-status`
    Status,
    /// `/od-logs`
    Logs,
    /// `/od-cancel`
    Cancel,
    /// `/od-retry`
    Retry,
    /// `/od-approve`
    Approve,
    /// `/od-help`
    Help,
    /// `/od-whoami`
    Whoami,
}

impl Verb {
    /// All of them, in the order in which help shows them.
    pub const ALL: [Self; 9] = [
        Self::Run,
        Self::Jobs,
        Self::Status,
        Self::Logs,
        Self::Cancel,
        Self::Retry,
        Self::Approve,
        Self::Help,
        Self::Whoami,
    ];

    /// The command's name behind the slash.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "od-run",
            Self::Jobs => "od-jobs",
            Self::Status => "od-status",
            Self::Logs => "od-logs",
            Self::Cancel => "od-cancel",
            Self::Retry => "od-retry",
            Self::Approve => "od-approve",
            Self::Help => "od-help",
            Self::Whoami => "od-whoami",
        }
    }

    /// Finds a command by its name, with or without slash and `od-`, whatever the case.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        let word = word.trim_start_matches('/').to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|verb| verb.name() == word || verb.name().strip_prefix("od-") == Some(&word))
    }
}

/// Commands that the grammar will have and this version does not.
const NOT_BUILT: [&str; 9] = [
    "od-start",
    "od-stop",
    "od-list",
    "od-send",
    "od-set",
    "od-delete",
    "od-apply",
    "od-export",
    "od-diff",
];

/// The flags of a run, in the order in which help shows them.
pub const RUN_FLAGS: [&str; 8] = [
    "--name",
    "--agent",
    "--model",
    "--workdir",
    "--repo",
    "--branch",
    "--timeout",
    "--permissions",
];

/// Flags of a run that the grammar will have and this version does not.
const FLAGS_NOT_BUILT: [&str; 3] = ["--image", "--runtime", "--persistent"];

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A command.
    Command(Command),
    /// No command: a message to whoever listens in this conversation.
    Plain(String),
}

/// A command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run one task.
    Run(Box<Run>),
    /// List the last jobs.
    Jobs,
    /// Describe a job.
    Status(String),
    /// Show a job's last lines.
    Logs(String),
    /// End a job.
    Cancel(String),
    /// Run a job's task again, as a new job.
    Retry(String),
    /// Answer what an agent asks for.
    Approve {
        /// The job.
        job: String,
        /// Whether it may.
        allow: bool,
        /// The CLI's id of the request; none for the oldest that waits.
        request: Option<String>,
    },
    /// Help, on one command or all.
    Help(Option<Verb>),
    /// Say who the server takes the person for.
    Whoami,
}

/// The arguments of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// The job's name.
    pub name: Option<String>,
    /// Which agent CLI works.
    pub agent: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Where to work.
    pub workdir: Option<String>,
    /// The repository to clone.
    pub repo: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
    /// The wall time of the attempt.
    pub timeout: Option<Span>,
    /// What the agent may do unasked.
    pub permissions: Option<PermissionMode>,
    /// The task, byte for byte.
    pub task: String,
}

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
    /// A command that is not built.
    #[error("/{0} is not supported yet; /od-help lists what is")]
    NotBuilt(&'static str),
    /// No such flag.
    #[error(
        "{flag} is no flag of /od-run{} (a task that begins with a dash goes behind --)",
        suggest("", nearest)
    )]
    UnknownFlag {
        /// What was typed.
        flag: String,
        /// The flag that is nearest to it.
        nearest: Option<&'static str>,
    },
    /// A flag that is not built.
    #[error("{0} is not supported yet; /od-help run lists the flags that are")]
    FlagNotBuilt(&'static str),
    /// A flag without its value.
    #[error("{0} needs a value, as in {0}={example}", example = example(.0))]
    NoValue(&'static str),
    /// A quote that does not end.
    #[error("the quote behind {0} does not end; close it, or leave it out")]
    OpenQuote(&'static str),
    /// A closing quote with something glued to it.
    #[error("put a space behind the closing quote of {0}")]
    Glued(&'static str),
    /// A flag that stands there twice.
    #[error("{0} stands there twice; keep one of them")]
    Twice(&'static str),
    /// A run without a task.
    #[error("there is no task; say what to do, as in /od-run echo hello")]
    NoTask,
    /// A length of time that is none.
    #[error("--timeout: {0}")]
    Timeout(NotASpan),
    /// A permission mode that is none.
    #[error("--permissions: `{0}` is no mode; the modes are ask, acceptEdits, plan and bypass")]
    Permissions(String),
    /// An answer that is neither yes nor no.
    #[error("`{0}` is no answer; say yes or no, as in /od-approve NAME no")]
    NoAnswer(String),
    /// A command that needs a name.
    #[error("/{} needs the name of a job; /od-jobs lists them", .0.name())]
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

fn suggest(prefix: &str, nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {prefix}{nearest}?"),
        None if prefix.is_empty() => String::new(),
        None => "; /od-help lists them".to_owned(),
    }
}

fn example(flag: &str) -> &'static str {
    match flag {
        "--name" => "nightly",
        "--agent" => "claude",
        "--model" => "claude-sonnet-4-5",
        "--workdir" => "~/projects/api",
        "--repo" => "owner/project",
        "--branch" => "main",
        "--timeout" => "10m",
        _ => "bypass",
    }
}

fn takes(verb: Verb) -> &'static str {
    match verb {
        Verb::Jobs | Verb::Whoami => "nothing behind it",
        Verb::Help => "one command at most",
        Verb::Approve => "a name, yes or no, and the id of a request",
        _ => "one name",
    }
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it, and the mend.
pub fn parse(text: &str) -> Result<Line, Refusal> {
    let trimmed = text.trim_start();
    let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
    let (word, rest) = trimmed.split_at(end);
    let Some(name) = command_word(word) else { return Ok(Line::Plain(text.to_owned())) };
    if let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.name() == name) {
        return arguments(verb, rest).map(Line::Command);
    }
    if let Some(known) = NOT_BUILT.into_iter().find(|known| *known == name) {
        return Err(Refusal::NotBuilt(known));
    }
    let nearest = nearest_command(&name);
    Err(Refusal::UnknownCommand { word: name, nearest })
}

/// The lower-case name of a command, if the first word of a line means to be one: `/word`, or
/// `od-word` without the slash. A path such as `/etc/hosts` is no command.
fn command_word(word: &str) -> Option<String> {
    let bare = word.strip_prefix('/');
    let name = bare.unwrap_or(word).to_ascii_lowercase();
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (letters && starts && (bare.is_some() || name.starts_with("od-"))).then_some(name)
}

fn arguments(verb: Verb, rest: &str) -> Result<Command, Refusal> {
    match verb {
        Verb::Run => run(rest).map(|run| Command::Run(Box::new(run))),
        Verb::Jobs => words::<0>(verb, rest).map(|_| Command::Jobs),
        Verb::Whoami => words::<0>(verb, rest).map(|_| Command::Whoami),
        Verb::Status => job_name(verb, rest).map(Command::Status),
        Verb::Logs => job_name(verb, rest).map(Command::Logs),
        Verb::Cancel => job_name(verb, rest).map(Command::Cancel),
        Verb::Retry => job_name(verb, rest).map(Command::Retry),
        Verb::Approve => approve(rest),
        Verb::Help => help(rest),
    }
}

fn approve(rest: &str) -> Result<Command, Refusal> {
    let words = words::<3>(Verb::Approve, rest)?;
    let job = job_name(Verb::Approve, words.first().copied().unwrap_or_default())?;
    let allow = match words.get(1).map(|word| word.to_ascii_lowercase()).as_deref() {
        None | Some("yes" | "y") => true,
        Some("no" | "n") => false,
        Some(_) => return Err(Refusal::NoAnswer(words[1].to_owned())),
    };
    let request = words.get(2).map(|word| (*word).to_owned());
    Ok(Command::Approve { job, allow, request })
}

/// At most `N` words.
fn words<const N: usize>(verb: Verb, rest: &str) -> Result<Vec<&str>, Refusal> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words.get(N) {
        Some(_) => Err(Refusal::TooMuch { verb, extra: words[N..].join(" ") }),
        None => Ok(words),
    }
}

fn job_name(verb: Verb, rest: &str) -> Result<String, Refusal> {
    let words = words::<1>(verb, rest)?;
    let word = words.first().ok_or(Refusal::NoName(verb))?;
    // People paste what `kubectl` and the command line print.
    Ok(["job/", "jobs/", "job.opendispatch.dev/"]
        .into_iter()
        .find_map(|prefix| word.strip_prefix(prefix))
        .unwrap_or(word)
        .to_owned())
}

fn help(rest: &str) -> Result<Command, Refusal> {
    let words = words::<1>(Verb::Help, rest)?;
    let Some(word) = words.first() else { return Ok(Command::Help(None)) };
    match Verb::find(word) {
        Some(verb) => Ok(Command::Help(Some(verb))),
        None => {
            let name = word.trim_start_matches('/').to_ascii_lowercase();
            let full = if name.starts_with("od-") { name } else { format!("od-{name}") };
            match NOT_BUILT.into_iter().find(|known| *known == full) {
                Some(known) => Err(Refusal::NotBuilt(known)),
                None => {
                    let nearest = nearest_command(&full);
                    Err(Refusal::UnknownCommand { word: full, nearest })
                }
            }
        }
    }
}

fn run(rest: &str) -> Result<Run, Refusal> {
    let mut run = Run::default();
    let mut rest = rest.trim_start();
    while let Some((flag, behind)) = take_flag(rest)? {
        let Some(flag) = flag else {
            // `--`: the flags end here.
            rest = behind.trim_start();
            break;
        };
        let (value, behind) = take_value(flag, behind)?;
        set(&mut run, flag, value)?;
        rest = behind.trim_start();
    }
    run.task = unquoted(rest).to_owned();
    if run.task.trim().is_empty() {
        return Err(Refusal::NoTask);
    }
    Ok(run)
}

/// How many bytes of dashes begin a flag here: `--`, or the long dash that phones make of it.
fn dashes(text: &str) -> Option<usize> {
    if text.starts_with("--") {
        return Some(2);
    }
    text.chars()
        .next()
        .filter(|c| matches!(c, '\u{2013}' | '\u{2014}' | '\u{2015}'))
        .map(char::len_utf8)
}

type Taken<'a> = Option<(Option<&'static str>, &'a str)>;

/// The flag that stands in front, and what is behind it; no flag inside for a bare `--`.
fn take_flag(text: &str) -> Result<Taken<'_>, Refusal> {
    let Some(length) = dashes(text) else { return Ok(None) };
    let body = &text[length..];
    let end = body.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(body.len());
    let (word, behind) = body.split_at(end);
    if word.is_empty() {
        // A bare dash ends the flags; `--=x` is the task's own.
        return Ok((!behind.starts_with('=')).then_some((None, behind)));
    }
    if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        // `---` or `--5`: the task's own.
        return Ok(None);
    }
    let spelled = format!("--{}", word.to_ascii_lowercase());
    if let Some(known) = RUN_FLAGS.into_iter().find(|known| *known == spelled) {
        return Ok(Some((Some(known), behind)));
    }
    if let Some(known) = FLAGS_NOT_BUILT.into_iter().find(|known| *known == spelled) {
        return Err(Refusal::FlagNotBuilt(known));
    }
    let nearest = nearest(&spelled, RUN_FLAGS);
    Err(Refusal::UnknownFlag { flag: format!("--{word}"), nearest })
}

fn is_double(c: char) -> bool {
    matches!(c, '"' | '\u{201C}' | '\u{201D}' | '\u{201E}' | '\u{201F}' | '\u{AB}' | '\u{BB}')
}

fn is_single(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201A}')
}

/// A flag's value, and what is behind it.
fn take_value<'a>(flag: &'static str, text: &'a str) -> Result<(String, &'a str), Refusal> {
    let glued = text.strip_prefix('=');
    let text = glued.unwrap_or_else(|| text.trim_start());
    if text.is_empty() || glued.is_some_and(|value| value.starts_with(char::is_whitespace)) {
        return Err(Refusal::NoValue(flag));
    }
    let first = text.chars().next().unwrap_or_default();
    let closes: fn(char) -> bool = if is_double(first) {
        is_double
    } else if is_single(first) {
        is_single
    } else {
        if glued.is_none() && dashes(text).is_some() {
            return Err(Refusal::NoValue(flag));
        }
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let inside = &text[first.len_utf8()..];
    let end = inside.find(closes).ok_or(Refusal::OpenQuote(flag))?;
    let (value, behind) = inside.split_at(end);
    let behind = &behind[behind.chars().next().map_or(0, char::len_utf8)..];
    if !behind.is_empty() && !behind.starts_with(char::is_whitespace) {
        return Err(Refusal::Glued(flag));
    }
    if value.is_empty() {
        return Err(Refusal::NoValue(flag));
    }
    Ok((value.to_owned(), behind))
}

fn set(run: &mut Run, flag: &'static str, value: String) -> Result<(), Refusal> {
    fn once<T>(slot: &mut Option<T>, flag: &'static str, value: T) -> Result<(), Refusal> {
        match slot.replace(value) {
            Some(_) => Err(Refusal::Twice(flag)),
            None => Ok(()),
        }
    }
    match flag {
        "--name" => once(&mut run.name, flag, value),
        "--agent" => once(&mut run.agent, flag, value.to_ascii_lowercase()),
        "--model" => once(&mut run.model, flag, value),
        "--workdir" => once(&mut run.workdir, flag, value),
        "--repo" => once(&mut run.repo, flag, value),
        "--branch" => once(&mut run.branch, flag, value),
        "--timeout" => once(&mut run.timeout, flag, value.parse().map_err(Refusal::Timeout)?),
        _ => once(&mut run.permissions, flag, permission_mode(&value)?),
    }
}

fn permission_mode(word: &str) -> Result<PermissionMode, Refusal> {
    match word.to_ascii_lowercase().as_str() {
        "ask" => Ok(PermissionMode::Ask),
        "acceptedits" => Ok(PermissionMode::AcceptEdits),
        "plan" => Ok(PermissionMode::Plan),
        "bypass" => Ok(PermissionMode::Bypass),
        _ => Err(Refusal::Permissions(word.to_owned())),
    }
}

/// A task that is one quoted string as a whole (`"run the tests"`) loses its quotes; any other
/// stays as it is, so that `echo "a b"` reaches the shell unharmed.
fn unquoted(task: &str) -> &str {
    let whole = task.trim_end();
    for (open, close) in [('"', '"'), ('\u{201C}', '\u{201D}'), ('\u{201E}', '\u{201C}')] {
        let inside = whole.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(inside) = inside
            && !inside.contains(is_double)
            && !inside.trim().is_empty()
        {
            return inside;
        }
    }
    task
}

/// The built command that is nearest to a word.
fn nearest_command(word: &str) -> Option<&'static str> {
    let full = if word.starts_with("od-") { word.to_owned() } else { format!("od-{word}") };
    nearest(&full, Verb::ALL.map(Verb::name))
}

/// The candidate that is nearest to a word, if one is near.
pub(crate) fn nearest<T: AsRef<str>>(
    word: &str,
    candidates: impl IntoIterator<Item = T>,
) -> Option<T> {
    let most = word.chars().count().div_ceil(3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate.as_ref()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task_of(line: &str) -> String {
        match parse(line) {
            Ok(Line::Command(Command::Run(run))) => run.task,
            other => panic!("{line:?} is no run but {other:?}"),
        }
    }

    fn run_of(line: &str) -> Run {
        match parse(line) {
            Ok(Line::Command(Command::Run(run))) => *run,
            other => panic!("{line:?} is no run but {other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        match parse(line) {
            Err(refusal) => refusal.to_string(),
            Ok(line) => panic!("{line:?} was taken"),
        }
    }

    proptest! {
        #[test]
        fn every_byte_of_a_task_survives_behind_the_end_of_flags(task in "[^\\s\"“„][\\s\\S]*") {
            prop_assert_eq!(task_of(&format!("/od-run -- {task}")), task);
        }

        #[test]
        fn every_byte_of_a_task_survives_without_flags(task in "[^\\s\"“„\u{2013}-\u{2015}-][\\s\\S]*") {
            prop_assert_eq!(task_of(&format!("/od-run {task}")), task);
        }

        #[test]
        fn every_byte_of_a_task_survives_behind_flags(
            name in "[a-z]{1,9}", task in "[^\\s\"“„\u{2013}-\u{2015}-][\\s\\S]*",
        ) {
            let run = run_of(&format!("od-run —name “{name}” --agent=claude {task}"));
            prop_assert_eq!(run.name, Some(name));
            prop_assert_eq!(run.agent.as_deref(), Some("claude"));
            prop_assert_eq!(run.task, task);
        }

        #[test]
        fn no_line_makes_the_parser_panic(line in "(/?od-(run|logs|help|x)? ?)?[\\s\\S]{0,40}") {
            let _ = parse(&line);
        }
    }

    #[test]
    fn a_shell_line_keeps_its_quotes_and_a_whole_quoted_task_loses_them() {
        assert_eq!(task_of(r#"/od-run echo "a b""#), r#"echo "a b""#);
        assert_eq!(task_of(r#"/od-run "run the tests""#), "run the tests");
        assert_eq!(task_of("/od-run “run the tests”"), "run the tests");
        assert_eq!(task_of(r#"/od-run "a" && "b""#), r#""a" && "b""#);
        assert_eq!(task_of("/od-run don't  break\nthe 'tests'"), "don't  break\nthe 'tests'");
        assert_eq!(task_of("/od-run 'ls'"), "'ls'");
    }

    #[test]
    fn a_command_needs_no_slash_and_any_case_will_do() {
        assert_eq!(parse("Od-Jobs"), Ok(Line::Command(Command::Jobs)));
        assert_eq!(parse("/OD-STATUS job/x"), Ok(Line::Command(Command::Status("x".into()))));
        assert_eq!(parse("/od-help run"), Ok(Line::Command(Command::Help(Some(Verb::Run)))));
        assert_eq!(parse("hello there"), Ok(Line::Plain("hello there".into())));
        assert_eq!(parse("/etc/hosts is odd"), Ok(Line::Plain("/etc/hosts is odd".into())));
    }

    #[test]
    fn an_answer_is_yes_where_none_is_given() {
        let answer = |allow, request: Option<&str>| {
            let (job, request) = ("x".to_owned(), request.map(str::to_owned));
            Ok(Line::Command(Command::Approve { job, allow, request }))
        };
        assert_eq!(parse("/od-approve job/x"), answer(true, None));
        assert_eq!(parse("/od-approve x Yes"), answer(true, None));
        assert_eq!(parse("od-approve x no r1"), answer(false, Some("r1")));
    }

    #[test]
    fn flags_are_read_as_phones_write_them() {
        let run = run_of(
            "/od-run —name=nightly –agent claude --workdir ‘~/my projects’ --repo owner/project \
             --branch main --timeout 1h30m --permissions acceptEdits —model “opus” fix -- it",
        );
        insta::assert_debug_snapshot!(run);
    }

    #[test]
    fn what_only_looks_like_a_flag_belongs_to_the_task() {
        assert_eq!(task_of("/od-run -la"), "-la");
        assert_eq!(task_of("/od-run --- a"), "--- a");
        assert_eq!(task_of("/od-run -- --name x"), "--name x");
        assert_eq!(task_of("/od-run ls --name x"), "ls --name x");
    }

    #[test]
    fn every_refusal_names_the_place_and_the_mend() {
        let lines = [
            "/od-rnu echo",
            "/help",
            "/frobnicate",
            "od-nothing-like-it",
            "/od-start bot",
            "/od-run",
            "/od-run   \n ",
            "/od-run --nmae x y",
            "/od-run --frobnicate x",
            "/od-run --image x y",
            "/od-run --name",
            "/od-run --name --agent claude x",
            "/od-run --name= x",
            "/od-run --name \"\" x",
            "/od-run --name \"x y",
            "/od-run --name \"x\"y z",
            "/od-run --name a --name b x",
            "/od-run --timeout 10 x",
            "/od-run --permissions yes x",
            "/od-status",
            "/od-logs a b c",
            "/od-jobs all",
            "/od-approve",
            "/od-approve x perhaps",
            "/od-approve x yes r1 r2",
            "/od-help rnu",
            "/od-help send",
            "/od-help a b",
        ];
        let text: String =
            lines.iter().map(|line| format!("{line:?}\n    {}\n", refusal(line))).collect();
        insta::assert_snapshot!(text);
    }
}
