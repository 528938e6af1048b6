//! The line editor of a terminal: history, completion, and printing above the prompt.

use std::{
    collections::HashSet,
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    stdio::stdin,
    termios::{OptionalActions, Termios, tcgetattr, tcsetattr},
};
use rustyline::{
    Config, Context, Editor, ExternalPrinter as _, Helper, Prompt,
    completion::Completer,
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::{FileHistory, History as _},
    validate::Validator,
};
use tokio::sync::mpsc;

use super::{
    Input, Screen,
    address::{self, Addressed, AgentLine},
    asks::Ask,
};
use crate::chat::grammar::{RUN_FLAGS, Verb};

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

/// The names that completion knows, and whom plain lines are for.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    jobs: Vec<String>,
    agents: Vec<AgentLine>,
    /// Whom plain lines are for, if somebody was chosen.
    current: Option<String>,
    /// Whom the last line was for.
    spoken_to: Option<String>,
    /// What was told to wait for an answer.
    asked: Option<Ask>,
    /// The requests that were answered here.
    answered: HashSet<(String, String)>,
}

impl Words {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the jobs' names.
    pub(super) fn know(&self, jobs: Vec<String>) {
        self.lock().jobs = jobs;
    }

    /// Learns how the agents are.
    pub(super) fn know_agents(&self, agents: Vec<AgentLine>) {
        self.lock().agents = agents;
    }

    /// Reads whom a line is for.
    pub(super) fn address(&self, line: &str) -> Addressed {
        let mut known = self.lock();
        if let Some(answer) = known.asked.as_ref().and_then(|ask| ask.answer(line)) {
            if let Some(ask) = known.asked.take() {
                known.answered.insert((ask.agent, ask.request));
            }
            return Addressed::Say(answer);
        }
        let Known { agents, current, .. } = &mut *known;
        let addressed = address::address(line, current, agents);
        if let Addressed::Say(said) = &addressed
            && let Some(rest) = said.strip_prefix("/od-send ")
        {
            known.spoken_to = rest.split_whitespace().next().map(str::to_owned);
        }
        addressed
    }

    /// The agent that is spoken to, if a turn of it runs.
    pub(super) fn busy(&self) -> Option<String> {
        let known = self.lock();
        let spoken_to = known.spoken_to.as_deref().or(known.current.as_deref());
        let agent = address::meant(spoken_to, &known.agents)?;
        agent.busy.then(|| agent.name.clone())
    }

    /// Learns that an agent is there and how it is, or that it is gone.
    pub(super) fn know_agent(&self, agent: AgentLine, there: bool) {
        let agents = &mut self.lock().agents;
        let at = agents.iter().position(|known| known.name == agent.name);
        match (at, there) {
            (Some(at), true) => agents[at] = agent,
            (Some(at), false) => drop(agents.remove(at)),
            (None, true) => agents.push(agent),
            (None, false) => {}
        }
    }

    /// Learns of one more job, or of one less.
    pub(super) fn know_job(&self, name: String, there: bool) {
        let jobs = &mut self.lock().jobs;
        jobs.retain(|known| *known != name);
        if there {
            jobs.push(name);
        }
    }

    /// The agents that are spoken to and wait for an answer.
    pub(super) fn waiting(&self) -> Vec<String> {
        let known = self.lock();
        let mut names: Vec<String> = [known.current.as_deref(), known.spoken_to.as_deref()]
            .into_iter()
            .filter_map(|name| address::meant(name, &known.agents))
            .filter(|agent| agent.waits)
            .map(|agent| agent.name.clone())
            .collect();
        names.dedup();
        names
    }

    /// Learns what waits for an answer, the most urgent first. What is to be told of it.
    pub(super) fn know_asks(&self, asks: Vec<Ask>) -> Option<Ask> {
        let mut known = self.lock();
        let open = |ask: &Ask| {
            let id = (ask.agent.clone(), ask.request.clone());
            !known.answered.contains(&id)
        };
        if known.asked.as_ref().is_some_and(|asked| asks.contains(asked)) {
            return None;
        }
        let next = asks.iter().find(|ask| open(ask)).cloned();
        // What waits no more can be asked for anew under its id.
        known.answered.retain(|(agent, request)| {
            asks.iter().any(|ask| ask.agent == *agent && ask.request == *request)
        });
        known.asked = None;
        next
    }

    /// From now on, a line may answer this: it was told.
    pub(super) fn told(&self, ask: Ask) {
        self.lock().asked = Some(ask);
    }

    pub(super) fn prompt(&self) -> String {
        let known = self.lock();
        let agent = address::meant(known.current.as_deref(), &known.agents);
        let asks = agent.is_some_and(|agent| {
            known.asked.as_ref().is_some_and(|asked| asked.agent == agent.name)
        });
        address::prompt(agent, asks)
    }

    fn names(&self) -> Vec<String> {
        let known = self.lock();
        let agents = known.agents.iter().map(|agent| agent.name.clone());
        agents.chain(known.jobs.iter().cloned()).collect()
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

/// Starts the editor on a thread of its own; answers with how to print above its prompt.
pub(super) fn start(
    history: Option<PathBuf>,
    words: Arc<Words>,
    inputs: mpsc::Sender<Input>,
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
    if let Some(path) = &history {
        // The first chat of all has no history.
        let _ = editor.load_history(path);
    }
    let mut printer = editor.create_external_printer()?;
    std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || {
        read(&mut editor, &empty, &prompts, &inputs);
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
    inputs: &mpsc::Sender<Input>,
) {
    let mut interrupted = false;
    loop {
        empty.store(true, Ordering::Relaxed);
        let again = std::mem::take(&mut interrupted);
        let input = match editor.readline(&LivePrompt::new(words)) {
            Ok(line) => Input::Line(line),
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
        let over = !matches!(input, Input::Line(_) | Input::Interrupt);
        if inputs.blocking_send(input).is_err() || over {
            return;
        }
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
    fn a_task_is_not_completed() {
        assert_eq!(candidates("/od-run ls --a"), Vec::<String>::new());
        assert_eq!(candidates("/od-run -- --a"), Vec::<String>::new());
        assert_eq!(candidates("/od-logs run-a "), Vec::<String>::new());
    }
}
