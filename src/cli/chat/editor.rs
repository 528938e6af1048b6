//! The line editor of a terminal: history, completion, and printing above the prompt.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{
    stdio::stdin,
    termios::{OptionalActions, Termios, tcgetattr, tcsetattr},
};
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    ExternalPrinter as _, Helper, KeyCode, KeyEvent, Modifiers, Prompt, RepeatCount,
    completion::Completer,
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::{FileHistory, History as _},
    validate::Validator,
};
use tokio::sync::mpsc;

use super::{Input, Screen, address, words::Words};
use crate::{
    ambient::Clock,
    chat::grammar::{RUN_FLAGS, Verb},
};

/// The longest line that is typed, in bytes: what draws it takes longer the longer it is. What is
/// pasted in one piece, as terminals can say that it is, has no such end.
const LONGEST: usize = 16 * 1024;
/// How many lines wait to be said. No person types more; a paste does.
pub(super) const WAITING: usize = 64;
/// A line that comes quicker than this was pasted with the one before.
const QUICK: Duration = Duration::from_millis(200);
/// How many lines are remembered.
const HISTORY: usize = 2_000;
/// The agents that a run can name.
const AGENTS: [&str; 2] = ["claude", "command"];
/// The modes that a run can name.
const MODES: [&str; 4] = ["acceptEdits", "ask", "bypass", "plan"];

/// The terminal's settings as they were before the editor changed them. Dropping this gives them
/// back: a signal ends the chat while the editor still waits for a key, and nobody else would.
pub(super) struct Borrowed(Option<Termios>);

impl Borrowed {
    pub(super) fn terminal() -> Self {
        Self(tcgetattr(stdin()).ok())
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(before) = &self.0 else { return };
        let changed = |now: Termios| {
            now.local_modes != before.local_modes || now.input_modes != before.input_modes
        };
        if !tcgetattr(stdin()).is_ok_and(changed) {
            return;
        }
        // The next line shall not stand behind the prompt. A terminal that is gone needs neither.
        let _ = std::io::stdout().write_all(b"\n");
        let _ = std::io::stdout().flush();
        let _ = tcsetattr(stdin(), OptionalActions::Now, before);
    }
}

/// What redraws the prompt when it is printed above it: nothing that can be seen.
pub(super) const REDRAW: &str = "\x1b[A\n";

/// A prompt that changes while it stands there. The editor borrows its text, and asks for its
/// width once: so all texts have the same, and those that were shown stay until its line ends.
struct LivePrompt<'a> {
    words: &'a Words,
    room: usize,
    shown: Shown,
}

struct Shown {
    text: String,
    next: OnceLock<Box<Shown>>,
}

impl<'a> LivePrompt<'a> {
    fn new(words: &'a Words) -> Self {
        let text = words.prompt();
        let room = text.chars().count();
        Self { words, room, shown: Shown { text, next: OnceLock::new() } }
    }
}

impl Prompt for LivePrompt<'_> {
    fn raw(&self) -> &str {
        let text = address::fitted(&self.words.prompt(), self.room);
        let mut shown = &self.shown;
        // As many as there are states.
        while shown.text != text {
            let new = || Box::new(Shown { text: text.clone(), next: OnceLock::new() });
            shown = shown.next.get_or_init(new);
        }
        &shown.text
    }
}

/// Where the keyboard's thread puts what it reads. It never waits: somebody who wants to leave would
/// not be heard.
#[derive(Clone)]
pub(super) struct Keys {
    /// What waits to be said.
    pub(super) lines: mpsc::Sender<Input>,
    /// What does not wait for the lines before it.
    pub(super) now: mpsc::UnboundedSender<Input>,
}

/// Starts the editor on a thread of its own; answers with how to print above its prompt.
pub(super) fn start(
    history: Option<PathBuf>,
    words: Arc<Words>,
    keys: Keys,
    clock: Arc<dyn Clock>,
) -> Result<Screen, ReadlineError> {
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .auto_add_history(true)
        .build();
    let mut editor: Editor<Help, FileHistory> = Editor::with_config(config)?;
    let empty = Arc::new(AtomicBool::new(true));
    let prompts = Arc::clone(&words);
    editor.set_helper(Some(Help { words, empty: Arc::clone(&empty) }));
    let bound = Bound { keys: keys.clone(), told: AtomicBool::new(false) };
    editor.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(bound)));
    if let Some(path) = &history {
        // The first chat of all has no history.
        let _ = editor.load_history(path);
    }
    let mut printer = editor.create_external_printer()?;
    std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || {
        read(&mut editor, &empty, &prompts, &keys, &*clock);
        if let Some(path) = history
            && let Err(error) = editor.history_mut().save(&path)
        {
            tracing::debug!("the history cannot be kept in {}: {error}", path.display());
        }
    })?;
    Ok(Box::new(move |text| printer.print(text.to_owned()).map_err(std::io::Error::other)))
}

fn read(
    editor: &mut Editor<Help, FileHistory>,
    empty: &AtomicBool,
    words: &Words,
    keys: &Keys,
    clock: &dyn Clock,
) {
    let mut interrupted = false;
    let mut flood = Flood::default();
    loop {
        empty.store(true, Ordering::Relaxed);
        let again = std::mem::take(&mut interrupted);
        let began = clock.elapsed();
        let input = match editor.readline(&LivePrompt::new(words)) {
            // Read at once, so that the next prompt knows whom lines are for by now.
            Ok(line) => words.heard(&line),
            // The first Ctrl-C on an empty line ends a turn that runs; the second leaves.
            Err(ReadlineError::Interrupted)
                if !again && empty.load(Ordering::Relaxed) && words.busy().is_some() =>
            {
                interrupted = true;
                Input::Interrupt
            }
            // Ctrl-C takes back what was typed; on an empty line it means to leave.
            Err(ReadlineError::Interrupted) if !empty.load(Ordering::Relaxed) => continue,
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => Input::Leave,
            Err(error) => Input::Broken(error.to_string()),
        };
        let over = !matches!(input, Input::Line(_) | Input::Note(_) | Input::Interrupt);
        let taken = if over || matches!(input, Input::Interrupt) {
            keys.now.send(input).is_ok()
        } else {
            flood.line_up(input, clock.elapsed().saturating_sub(began), keys)
        };
        if over || !taken {
            return;
        }
    }
}

/// Lines that come in one go, more of them than can wait.
#[derive(Default)]
struct Flood {
    /// How many were left out so far; none where there is no flood.
    left_out: usize,
}

impl Flood {
    /// Lets a line wait to be said, unless too many wait already: then all is left out that comes
    /// in one go with it, each `after` a short while. Both are told. Whether anybody takes lines still.
    fn line_up(&mut self, line: Input, after: Duration, keys: &Keys) -> bool {
        if self.left_out > 0 && after >= QUICK {
            let lines = if self.left_out == 1 { "line was" } else { "lines were" };
            let told = format!("· {} {lines} left out", std::mem::take(&mut self.left_out));
            if keys.now.send(Input::Note(told)).is_err() {
                return false;
            }
        }
        if self.left_out > 0 {
            self.left_out += 1;
            return !keys.lines.is_closed();
        }
        match keys.lines.try_send(line) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.left_out = 1;
                let told =
                    format!("! more than {WAITING} lines at once; the rest of them is left out");
                keys.now.send(Input::Note(told)).is_ok()
            }
        }
    }
}

/// Takes no more letters than a line can hold.
struct Bound {
    keys: Keys,
    /// Whether that was told, of this line.
    told: AtomicBool,
}

impl ConditionalEventHandler for Bound {
    fn handle(&self, event: &Event, _: RepeatCount, _: bool, at: &EventContext) -> Option<Cmd> {
        let is_text = matches!(
            event.get(0),
            Some(KeyEvent(KeyCode::Char(_), Modifiers::NONE | Modifiers::SHIFT))
                | Some(KeyEvent(KeyCode::Tab, _))
        );
        if !is_text || at.line().len() < LONGEST {
            self.told.fetch_and(!is_text, Ordering::Relaxed);
            return None;
        }
        if !self.told.load(Ordering::Relaxed) {
            let line = format!(
                "! a line holds {} KiB; what is typed behind that is left out",
                LONGEST / 1024
            );
            let told = self.keys.now.send(Input::Note(line)).is_ok();
            self.told.store(told, Ordering::Relaxed);
        }
        Some(Cmd::Noop)
    }
}

struct Help {
    words: Arc<Words>,
    /// Whether the line is empty, as of the last key.
    empty: Arc<AtomicBool>,
}

impl Helper for Help {}
impl Highlighter for Help {}
impl Validator for Help {}

impl Hinter for Help {
    type Hint = String;

    /// Gives no hints; asked at each key, it sees what is typed.
    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.empty.store(line.is_empty(), Ordering::Relaxed);
        None
    }
}

impl Completer for Help {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> Result<(usize, Vec<String>), ReadlineError> {
        Ok(complete(&line[..at], &self.words.names()))
    }
}

/// What can stand at the end of a line: from where on, and the candidates.
fn complete(line: &str, jobs: &[String]) -> (usize, Vec<String>) {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = &line[start..];
    let before: Vec<&str> = line[..start].split_whitespace().collect();
    let matching = |candidates: Vec<String>| {
        let fit = candidates.into_iter().filter(|candidate| candidate.starts_with(word));
        (start, fit.map(|candidate| format!("{candidate} ")).collect())
    };
    if before.is_empty()
        && let Some(name) = word.strip_prefix('@')
    {
        let fit = jobs.iter().filter(|known| known.starts_with(name));
        return (start, fit.map(|name| format!("@{name} ")).collect());
    }
    let Some(command) = before.first() else {
        let slash = if word.is_empty() || word.starts_with('/') { "/" } else { "" };
        return matching(Verb::ALL.map(|verb| format!("{slash}{}", verb.name())).to_vec());
    };
    if *command == "/use" && before.len() == 1 {
        return matching(jobs.to_vec());
    }
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match Verb::find(command) {
        Some(Verb::Run) => match before.last() {
            Some(&"--agent") => matching(owned(&AGENTS)),
            Some(&"--permissions") => matching(owned(&MODES)),
            _ if word.starts_with('-') && in_flags(&before[1..]) => matching(owned(&RUN_FLAGS)),
            _ => (start, Vec::new()),
        },
        Some(
            Verb::Status | Verb::Logs | Verb::Cancel | Verb::Retry | Verb::Approve | Verb::Send,
        ) if before.len() == 1 => matching(jobs.to_vec()),
        Some(Verb::Help) if before.len() == 1 => {
            matching(Verb::ALL.map(|verb| verb.name().to_owned()).to_vec())
        }
        _ => (start, Vec::new()),
    }
}

/// Whether a run's words so far are flags and their values only.
fn in_flags(words: &[&str]) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with("--") || *word == "--" {
            return false;
        }
        if !word.contains('=') {
            words.next();
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(line: &str) -> Vec<String> {
        complete(line, &["run-a".to_owned(), "run-b".to_owned(), "nightly".to_owned()]).1
    }

    #[test]
    fn commands_flags_values_and_names_are_completed() {
        assert_eq!(candidates("/od-r"), ["/od-run ", "/od-retry "]);
        assert_eq!(candidates("od-w"), ["od-whoami "]);
        assert_eq!(candidates("").len(), Verb::ALL.len());
        assert_eq!(candidates("/od-run --a"), ["--agent "]);
        assert_eq!(candidates("/od-run --agent cl"), ["claude "]);
        assert_eq!(
            candidates("/od-run --permissions "),
            ["acceptEdits ", "ask ", "bypass ", "plan "]
        );
        assert_eq!(candidates("/od-run --name x --wo"), ["--workdir "]);
        assert_eq!(candidates("/od-logs run-"), ["run-a ", "run-b "]);
        assert_eq!(candidates("/od-help od-c"), ["od-cancel "]);
    }

    #[test]
    fn what_comes_in_one_go_with_too_many_lines_is_left_out_and_told() {
        let (lines, mut waiting) = mpsc::channel(WAITING);
        let (now, mut told) = mpsc::unbounded_channel();
        let keys = Keys { lines, now };
        let mut flood = Flood::default();
        let line = |n: usize| Input::Line(n.to_string());
        // Nobody takes a line, and yet nobody waits: Ctrl-D is to be heard.
        for n in 0..100 {
            assert!(flood.line_up(line(n), Duration::ZERO, &keys));
        }
        let note = "! more than 64 lines at once; the rest of them is left out";
        assert_eq!(told.try_recv(), Ok(Input::Note(note.to_owned())));
        assert!(told.is_empty(), "that is told once");
        for n in 0..WAITING {
            assert_eq!(waiting.try_recv(), Ok(line(n)));
        }
        let almost = QUICK.saturating_sub(Duration::from_millis(1));
        assert!(flood.line_up(line(100), almost, &keys));
        assert!(waiting.is_empty(), "it came with the others, though there is room by now");
        assert!(flood.line_up(line(101), QUICK, &keys));
        assert_eq!(waiting.try_recv(), Ok(line(101)), "whoever types again is heard again");
        assert_eq!(told.try_recv(), Ok(Input::Note("· 37 lines were left out".to_owned())));
        drop(waiting);
        assert!(!flood.line_up(line(102), QUICK, &keys), "the chat is over");
    }

    #[test]
    fn a_task_is_not_completed() {
        assert_eq!(candidates("/od-run ls --a"), Vec::<String>::new());
        assert_eq!(candidates("/od-run -- --a"), Vec::<String>::new());
        assert_eq!(candidates("/od-logs run-a "), Vec::<String>::new());
    }
}
