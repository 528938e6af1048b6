//! The terminal's side of the console: lines in, frames out.
//!
//! Three things run side by side. The *reader* takes lines from the keyboard or a pipe. The
//! *speaker* says them to the server, each under a request id that it repeats until the server
//! answers; so a line that was typed while the server restarted is neither lost nor taken twice.
//! The *listener* hears frames, prints what is new in them ([`paper`]), and acknowledges what is
//! printed; so the server sends again what was on its way when one of the two went away.
//!
//! At a terminal, lines are edited with history and completion, and what comes in is printed
//! above the prompt. With a pipe, lines are read to their end, and the outcome of everything
//! that was asked is waited for.

mod address;
mod asks;
mod editor;
mod learn;
mod markdown;
mod paper;
mod table;
mod wire;
mod words;

use std::{
    collections::{HashSet, VecDeque},
    io::{IsTerminal as _, Write},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader},
    sync::{mpsc, watch},
};

pub use paper::{Delta, delta};
pub use wire::{Find, Server};

use crate::{
    ambient::Ambient,
    chat::frames::{Frame, FrameOp, Said},
};
use paper::{Paper, Style};
use wire::Problem;
use words::Words;

/// How long to wait before asking again a server that did not answer.
const AGAIN: Duration = Duration::from_millis(250);
/// How many lines are taken from the keyboard while one waits for its server.
const AHEAD: usize = 16;

/// What a chat needs.
#[derive(Clone)]
pub struct Options {
    /// How to reach the server.
    pub server: Server,
    /// The channel to chat in.
    pub channel: String,
    /// Whether the server ends with this chat.
    pub ends_server: bool,
    /// Where lines that were typed are kept, if anywhere.
    pub history: Option<PathBuf>,
    /// Whether `NO_COLOR` is set to something.
    pub no_color: bool,
    /// Whether text is shown as it is, without the look of Markdown.
    pub plain: bool,
    /// Whether what is printed goes to a terminal.
    pub at_terminal: bool,
    /// Time and ids.
    pub ambient: Ambient,
}

/// Why a chat ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server will not have it.
    #[error("the server refused the chat: {0}")]
    Refused(String),
    /// Nobody takes the output any more.
    #[error("cannot write to the terminal: {0}")]
    Output(std::io::Error),
    /// The keyboard or the pipe cannot be read.
    #[error("cannot read what is typed: {0}")]
    Input(String),
    /// What was said at a pipe leaves a choice, and nobody is there to make it.
    #[error(
        "a choice is left, and nobody answers at a pipe, so that was not done; say one of its lines \
         with /od-choose, or say at once how: open-dispatch override KIND/NAME FIELD=VALUE --for 1h \
         changes it for a time, --write writes it to the file, open-dispatch release KIND/NAME lets it \
         go, and apply -f applies YAML"
    )]
    Unchosen,
}

/// What comes from the keyboard or the pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Input {
    /// A line, as it is to be said.
    Line(String),
    /// Something to tell whoever typed.
    Note(String),
    /// Nothing more comes, and the outcome of what was asked is waited for.
    End,
    /// The person wants what runs to end; where nothing runs, to leave.
    Interrupt,
    /// The person wants to leave, now.
    Leave,
    /// It cannot be read.
    Broken(String),
}

/// What is typed, as it comes.
struct Inputs {
    /// What waits to be said, in its order.
    lines: mpsc::Receiver<Input>,
    /// What does not wait for the lines before it while one of them waits for its server.
    now: mpsc::UnboundedReceiver<Input>,
}

impl Inputs {
    /// The next thing; what was typed first comes first. Nothing where nothing more comes.
    async fn next(&mut self) -> Option<Input> {
        tokio::select! {
            biased;
            // The last words before the end are no line.
            line = self.lines.recv() => line.or_else(|| self.now.try_recv().ok()),
            Some(now) = self.now.recv() => Some(now),
        }
    }

    /// How many lines wait.
    fn waiting(&mut self) -> usize {
        let waiting = std::iter::from_fn(|| self.lines.try_recv().ok());
        waiting.filter(|input| matches!(input, Input::Line(_))).count()
    }
}

/// Where text goes; called from one thread at a time, and may block.
type Screen = Box<dyn FnMut(&str) -> std::io::Result<()> + Send>;

/// The first lines that a newcomer sees.
#[must_use]
pub fn banner(channel: &str, ends_server: bool) -> String {
    let leaving = if ends_server {
        "Ctrl-D stops this server; jobs that run go on, and the next server takes them over."
    } else {
        "Ctrl-D leaves, and what runs keeps running."
    };
    format!(
        "Open Dispatch, channel {channel}. Try this first: /od-run echo hello\n\
         With Claude Code installed: /od-run --agent claude --workdir PATH what to do\n\
         /od-help lists all commands. {leaving}\n"
    )
}

/// Chats until the person leaves: at a terminal if there is one, else from standard input.
///
/// # Errors
/// See [`Error`].
pub async fn run(options: Options) -> Result<(), Error> {
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        at_terminal(options).await
    } else {
        piped(options, BufReader::new(tokio::io::stdin()), std::io::stdout()).await
    }
}

/// Chats with lines from a pipe: says each, prints what comes, and ends once the outcome of
/// everything that was asked is printed.
///
/// # Errors
/// See [`Error`].
pub async fn piped(
    options: Options,
    input: impl AsyncBufRead + Unpin + Send + 'static,
    mut output: impl Write + Send + 'static,
) -> Result<(), Error> {
    let (lines, receiver) = mpsc::channel(16);
    // A pipe has no hurry.
    let inputs = Inputs { lines: receiver, now: mpsc::unbounded_channel().1 };
    let words = Arc::new(Words::default());
    let names = Arc::clone(&words);
    let reader = tokio::spawn(async move {
        let mut input = input;
        loop {
            let mut line = Vec::new();
            let read = match input.read_until(b'\n', &mut line).await {
                Ok(0) => Input::End,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line);
                    names.heard(text.trim_end_matches(['\n', '\r']))
                }
                Err(error) => Input::Broken(error.to_string()),
            };
            let over = !matches!(read, Input::Line(_) | Input::Note(_));
            if lines.send(read).await.is_err() || over {
                return;
            }
        }
    });
    let screen: Screen = Box::new(move |text| {
        output.write_all(text.as_bytes())?;
        output.flush()
    });
    let harmless = options.at_terminal;
    let style = Style { whole_lines: false, color: false, markdown: false, harmless };
    let answer = converse(options, inputs, screen, style, words).await;
    reader.abort();
    answer
}

async fn at_terminal(options: Options) -> Result<(), Error> {
    let words = Arc::new(Words::default());
    let (lines, lines_read) = mpsc::channel(editor::WAITING);
    let (now, now_read) = mpsc::unbounded_channel();
    let keys = editor::Keys { lines, now };
    let inputs = Inputs { lines: lines_read, now: now_read };
    // In front of the first prompt.
    let mut terminal = std::io::stdout();
    terminal
        .write_all(banner(&options.channel, options.ends_server).as_bytes())
        .and_then(|()| terminal.flush())
        .map_err(Error::Output)?;
    learn::first(&options, &words).await;
    let _borrowed = editor::Borrowed::terminal();
    let clock = Arc::clone(&options.ambient.clock);
    let screen = editor::start(options.history.clone(), Arc::clone(&words), keys, clock)
        .map_err(|error| Error::Input(error.to_string()))?;
    let style = Style {
        whole_lines: true,
        color: !options.no_color && !options.plain,
        markdown: !options.no_color && !options.plain,
        harmless: true,
    };
    converse(options, inputs, screen, style, words).await
}

/// What speaker and listener share.
struct Shared {
    options: Options,
    /// This terminal's name, under which it acknowledges.
    client: String,
    /// Deliveries whose last frame was printed.
    ended: watch::Sender<HashSet<String>>,
    /// Messages that wait for a choice.
    open: Mutex<HashSet<String>>,
    /// Whether the terminal was ever attached: what is said before that may be answered to others.
    attached: watch::Sender<bool>,
    screen: Mutex<Screen>,
    paper: Mutex<Paper>,
}

impl Shared {
    /// Prints, on a thread that may block.
    async fn print(self: &Arc<Self>, text: String) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let printing = tokio::task::spawn_blocking(move || {
            let mut screen = shared.screen.lock().unwrap_or_else(PoisonError::into_inner);
            screen(&text)
        });
        match printing.await {
            Ok(answer) => answer.map_err(Error::Output),
            Err(error) => Err(Error::Output(std::io::Error::other(error))),
        }
    }

    /// Prints a line that is not from the conversation.
    async fn note(self: &Arc<Self>, line: &str) -> Result<(), Error> {
        let text = self.paper.lock().unwrap_or_else(PoisonError::into_inner).note(line);
        self.print(text).await
    }
}

async fn converse(
    options: Options,
    mut inputs: Inputs,
    screen: Screen,
    style: Style,
    words: Arc<Words>,
) -> Result<(), Error> {
    let shared = Arc::new(Shared {
        client: options.ambient.ids.uid(),
        options,
        ended: watch::Sender::new(HashSet::new()),
        open: Mutex::default(),
        attached: watch::Sender::new(false),
        screen: Mutex::new(screen),
        paper: Mutex::new(Paper::new(style)),
    });
    let listening = listen(Arc::clone(&shared));
    // Nobody is asked anything at a pipe, and it has no prompt.
    let learning = async {
        match style.whole_lines {
            true => learn::learn(&shared, &words).await,
            false => std::future::pending().await,
        }
    };
    let speaking = async {
        let mut asked: Vec<String> = Vec::new();
        // What was typed while a line waits for its server.
        let mut typed = VecDeque::new();
        loop {
            let input = match typed.pop_front() {
                Some(input) => Some(input),
                None => inputs.next().await,
            };
            match input {
                Some(Input::Line(line)) if line.trim().is_empty() => {}
                Some(Input::Interrupt) => match words.busy() {
                    Some(agent) => {
                        let line = format!("· interrupting {agent}; Ctrl-D leaves, and it goes on");
                        shared.note(&line).await?;
                        typed.push_front(Input::Line(format!("/od-cancel {agent}")));
                    }
                    None => return leave(&shared).await,
                },
                Some(Input::Note(note)) => shared.note(&note).await?,
                Some(Input::Line(line)) => {
                    let mut saying = pin!(say(&shared, line.clone()));
                    loop {
                        tokio::select! {
                            biased;
                            taken = &mut saying => {
                                asked.extend(taken?);
                                break;
                            }
                            Some(now) = inputs.now.recv() => match now {
                                Input::Leave => {
                                    let is_line = |input: &&Input| matches!(input, Input::Line(_));
                                    let more = typed.iter().filter(is_line).count();
                                    let told = not_said(&line, more + inputs.waiting());
                                    shared.note(&told).await?;
                                    return leave(&shared).await;
                                }
                                Input::Note(note) => shared.note(&note).await?,
                                Input::Broken(why) => return Err(Error::Input(why)),
                                now => typed.push_front(now),
                            },
                            more = inputs.lines.recv(), if typed.len() < AHEAD => match more {
                                Some(more) => typed.push_back(more),
                                // Nothing comes any more, and that is told once the line is said.
                                None => typed.resize(AHEAD, Input::End),
                            },
                        }
                    }
                }
                Some(Input::Leave) => return leave(&shared).await,
                Some(Input::Broken(why)) => return Err(Error::Input(why)),
                Some(Input::End) | None => break,
            }
        }
        let mut ended = shared.ended.subscribe();
        // The sender lives in `shared`, so this ends only when all was printed.
        let _ = ended.wait_for(|ended| asked.iter().all(|id| ended.contains(id))).await;
        let open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = open.iter().any(|it| asked.iter().any(|id| id == paper::delivery_of(it)));
        match waits && !style.whole_lines {
            true => Err(Error::Unchosen),
            false => Ok(()),
        }
    };
    tokio::select! {
        answer = listening => answer,
        answer = learning => answer,
        answer = speaking => answer,
    }
}

/// What to say to somebody who leaves while a line waits for its server, and more behind it.
fn not_said(line: &str, more: usize) -> String {
    match more {
        0 => format!("! not said: {line}"),
        1 => format!("! not said: {line}, and 1 more line"),
        more => format!("! not said: {line}, and {more} more lines"),
    }
}

/// Says a line until the server has taken it; answers with the deliveries that answer it.
async fn say(shared: &Arc<Shared>, text: String) -> Result<Vec<String>, Error> {
    let options = &shared.options;
    // The sender lives in `shared`. Whoever is not attached hears no answer.
    let _ = shared.attached.subscribe().wait_for(|attached| *attached).await;
    let said = Said {
        request_id: options.ambient.ids.uid(),
        channel: options.channel.clone(),
        text,
        attachments: Vec::new(),
        author: None,
    };
    loop {
        match options.server.say(&said).await {
            Ok(heard) => return Ok(heard.deliveries),
            // Nobody can mend that by saying it again.
            Err(Problem::Refused(why)) => {
                shared.note(&format!("! {why}")).await?;
                return Ok(Vec::new());
            }
            Err(Problem::Away(_)) => options.ambient.clock.sleep(AGAIN).await,
        }
    }
}

/// Hears frames for ever, over all restarts of the server.
async fn listen(shared: Arc<Shared>) -> Result<(), Error> {
    let options = &shared.options;
    let mut told = false;
    loop {
        let ever = *shared.attached.borrow();
        let why = match options.server.attach(&options.channel, &shared.client, ever).await {
            Ok(mut frames) => {
                if std::mem::take(&mut told) {
                    shared.note("· the server is back").await?;
                }
                shared.attached.send_replace(true);
                loop {
                    match frames.next(&*options.ambient.clock).await {
                        Ok(frame) => hear(&shared, frame).await?,
                        Err(Problem::Refused(why) | Problem::Away(why)) => break why,
                    }
                }
            }
            Err(Problem::Refused(why)) => return Err(Error::Refused(why)),
            Err(Problem::Away(why)) => {
                if !std::mem::replace(&mut told, true) {
                    let away = if ever { "the server went away" } else { "no server answers" };
                    shared
                        .note(&format!(
                            "· {away} ({why}); trying again until it does, Ctrl-D leaves"
                        ))
                        .await?;
                }
                why
            }
        };
        tracing::debug!("attaching again: {why}");
        options.ambient.clock.sleep(AGAIN).await;
    }
}

/// Prints what is new in a frame, and acknowledges it.
async fn hear(shared: &Arc<Shared>, frame: Frame) -> Result<(), Error> {
    let text = shared.paper.lock().unwrap_or_else(PoisonError::into_inner).show(&frame.op);
    shared.print(text).await?;
    if frame.n > 0 {
        let options = &shared.options;
        // A lost acknowledgement costs a repetition, which prints nothing.
        let _ = options.server.acknowledge(&options.channel, &shared.client, frame.n).await;
    }
    // Only now: whoever waits for this end may end the process.
    let (message, text, last) = match &frame.op {
        FrameOp::Edit { id, text, last } => (id, text, *last),
        FrameOp::Post { id, text } => (id, text, false),
        FrameOp::Heartbeat => return Ok(()),
    };
    let (id, waits) = (paper::delivery_of(message), paper::waits_for_choice(message, text));
    let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
    if waits {
        open.insert(message.clone());
    } else {
        open.remove(message);
    }
    drop(open);
    if last || waits {
        shared.ended.send_modify(|ended| {
            ended.insert(id.to_owned());
        });
    }
    Ok(())
}

/// Says what keeps running.
async fn leave(shared: &Arc<Shared>) -> Result<(), Error> {
    let Options { server, channel, .. } = &shared.options;
    let line = match server.jobs(channel).await {
        Ok(jobs) => {
            let jobs = jobs.into_iter().filter(|job| !job.ended);
            let jobs = jobs.map(|job| format!("job/{}", job.name));
            let agents = server.agents(channel).await.unwrap_or_default();
            let agents = agents.into_iter().filter(|agent| agent.busy || agent.queued > 0);
            let agents = agents.map(|agent| format!("agent/{}", agent.name));
            keeps_running(&agents.chain(jobs).collect::<Vec<_>>())
        }
        Err(_) => Some("The server does not answer; what it runs keeps running.".to_owned()),
    };
    match line {
        Some(line) => shared.note(&line).await,
        None => Ok(()),
    }
}

/// What to say to somebody who leaves while jobs run.
fn keeps_running(names: &[String]) -> Option<String> {
    const SHOWN: usize = 5;
    let first = names.first()?;
    let verb = if names.len() == 1 { "keeps" } else { "keep" };
    let shown = names[..names.len().min(SHOWN)].join(", ");
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{shown}{more} {verb} running. open-dispatch logs -f {first} follows, open-dispatch \
         chat comes back."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_told_what_to_type_and_what_leaving_means() {
        let names = |n: usize| (0..n).map(|n| format!("job/run-{n}")).collect::<Vec<_>>();
        let leaving: Vec<String> =
            [1, 2, 7].iter().filter_map(|n| keeps_running(&names(*n))).collect();
        assert_eq!(keeps_running(&[]), None);
        insta::assert_snapshot!(format!(
            "{}-----\n{}-----\n{}",
            banner("main", false),
            banner("main", true),
            leaving.join("\n")
        ));
    }
}
