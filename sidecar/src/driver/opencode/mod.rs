//! `opencode`: OpenCode by its server.
//!
//! One `opencode serve` on loopback is kept warm for the run, with a password that nobody else
//! knows: a second turn costs a tenth of a second instead of the four seconds of a process of its
//! own. Prompts, interrupts and answers are requests to it; what happens comes as events.
//!
//! The life of a turn: an order [`DriverOrder::Prompt`] becomes a request with a message id of
//! ours; the server tells of the model's steps, of text piece by piece, of tools (and asks before
//! them, which we answer by the run's mode or pass on as an approval); it is over when the
//! session is idle and all its steps are complete. What is said passes rooms that know nothing of
//! each other:
//!
//! | room | one idea |
//! |---|---|
//! | `launch`, `login` | how the server is started, and as whom |
//! | `http` | requests and streams on loopback |
//! | `server` | the process, and the talk with it in order |
//! | `protocol` | what an event says, read tolerantly |
//! | `session` | what follows from it: a machine without hands |
//! | `permission`, `rules` | what the agent may do, and how that stands among a person's own rules |
//! | `speech`, `failure` | text, words on failures |
//!
//! This module is the hands. A server that has grown too large is begun anew between turns; the
//! session goes on in the next one. Its tools are in sessions of their own and outlive it when it
//! is merely killed, so that it is always asked to end them first.

use std::{process::ExitStatus, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::{sync::mpsc, time::timeout};

pub(super) use self::login::settle as settle_login;
use self::{
    server::{News, Server},
    session::{Effect, Session},
};
use super::{DriverOrder, Said, Seat, Voice, ending, last_words::LastWords, with_files};
use crate::{
    ambient, process,
    wire::{EventBody, Exit, ExitReason, PermissionMode, RunSpec, Stream, TurnOutcome},
};

mod failure;
mod http;
mod launch;
mod login;
mod permission;
mod protocol;
mod rules;
mod server;
mod session;
mod speech;

/// How long a turn that is interrupted may take to end, when the server is to end.
const TURN_GRACE: Duration = Duration::from_secs(2);
/// How long the server may take to end what it has begun.
const DISPOSE_GRACE: Duration = Duration::from_secs(2);
/// How long the server may take to end upon a signal, before it is killed.
const SIGNAL_GRACE: Duration = Duration::from_secs(3);
/// How long what a dead server said last is still read.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// Why the CLI cannot be started, if it is not there.
pub(super) fn absent(spec: &RunSpec, path: Option<&str>) -> Option<String> {
    let launch = launch::launch(spec, path, "");
    let error = process::absent(&launch)?;
    Some(failure::of_start(&launch.program.to_string_lossy(), &error))
}

/// Keeps one server of OpenCode warm and talks to it.
pub async fn drive(
    seat: Seat,
    path: Option<String>,
    model: Option<String>,
    instructions: Option<String>,
) -> Exit {
    let Seat { spec, orders, voice } = seat;
    if !std::path::Path::new(&spec.workdir).is_dir() {
        let message = format!("the work directory `{}` does not exist", spec.workdir);
        return failed(ExitReason::WorkspaceFailed, message);
    }
    let model = match model.filter(|model| !model.is_empty()).map(|model| parse_model(&model)) {
        Some(Err(message)) => return failed(ExitReason::StartFailed, message),
        Some(Ok(model)) => Some(model),
        None => None,
    };
    for line in complaints(&spec) {
        voice.say(Said::Log(Stream::System, format!("{line}\n").into_bytes())).await;
    }
    let terms = server::Terms {
        password: fresh_id().simple().to_string(),
        session: spec.session.clone().filter(|session| !session.is_empty()),
        title: format!("Open Dispatch {}", spec.job_id),
        model,
        agent: permission::agent(spec.permissions.mode),
        rules: permission::rules(&spec.permissions),
        is_bypass: spec.permissions.mode == PermissionMode::Bypass,
        instructions: instructions.filter(|instructions| !instructions.is_empty()),
    };
    let launch = launch::launch(&spec, path.as_deref(), &terms.password);
    let server = match Server::start(&launch, terms.clone()) {
        Ok(server) => server,
        Err(error) => {
            let message = failure::of_start(&launch.program.to_string_lossy(), &error);
            return failed(ExitReason::StartFailed, message);
        }
    };
    let session = Session::new(session::Terms {
        mode: spec.permissions.mode,
        is_job: spec.task.is_some(),
        workdir: spec.workdir.clone(),
        now_ms: Box::new(|| ambient::now().as_millisecond()),
        fresh: Box::new(fresh_id),
    });
    let hands = Hands {
        memory_limit: launch::memory_limit(&spec),
        launch,
        terms,
        server,
        session,
        voice,
        last_words: LastWords::default(),
        is_stopped: false,
        is_due: false,
    };
    hands.run(orders).await
}

/// What of the spec has no effect, in lines for people.
fn complaints(spec: &Arc<RunSpec>) -> Vec<String> {
    let mut lines: Vec<_> = login::settle(spec).err().into_iter().collect();
    lines.extend(permission::foreign(&spec.permissions).map(|rule| {
        format!(
            "the rule {rule:?} allows nothing: OpenCode's rules are such as bash(cargo test *), \
             edit(docs/*) or webfetch"
        )
    }));
    lines
}

/// A model's provider and name.
fn parse_model(model: &str) -> Result<(String, String), String> {
    match model.split_once('/') {
        Some((provider, name)) if !provider.is_empty() && !name.is_empty() => {
            Ok((provider.to_owned(), name.to_owned()))
        }
        _ => Err(format!(
            "the model {model:?} names no provider; write it as provider/model, as \
             `opencode models` lists it"
        )),
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge: a secret, and ids for the machine behind")]
fn fresh_id() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}

fn failed(reason: ExitReason, message: String) -> Exit {
    Exit { code: None, signal: None, reason, message }
}

/// The server, and the machine that decides about it.
struct Hands {
    launch: process::Launch,
    terms: server::Terms,
    server: Server,
    session: Session,
    voice: Voice,
    last_words: LastWords,
    memory_limit: u64,
    is_stopped: bool,
    /// Whether a turn has ended since the server's memory was looked at.
    is_due: bool,
}

/// What the hands wait for.
enum Heard {
    Order(Option<DriverOrder>),
    News(Option<News>),
    Error(Vec<u8>),
    Ended(std::io::Result<ExitStatus>),
}

/// Why the hands wait for nothing any more.
enum End {
    /// The server is gone.
    Gone(Option<ExitStatus>),
    /// It lives and cannot be spoken with.
    Unusable(String),
    /// It is to end.
    Wanted,
}

impl Hands {
    async fn run(mut self, mut orders: mpsc::Receiver<DriverOrder>) -> Exit {
        loop {
            match self.live(&mut orders).await {
                End::Gone(status) => {
                    self.drain().await;
                    let message = failure::of_end(&describe(status), self.last_words.last());
                    return self.conclude(status, message).await;
                }
                End::Unusable(why) => {
                    self.wind_down().await;
                    let message = failure::of_opening(&why, self.last_words.last());
                    let exit = self.conclude(None, message).await;
                    return Exit { reason: ExitReason::StartFailed, ..exit };
                }
                End::Wanted if self.is_stopped || self.session.task_end().is_some() => {
                    let status = self.wind_down().await;
                    return self.conclude(status, String::new()).await;
                }
                End::Wanted => {
                    if let Err(exit) = self.begin_anew().await {
                        return exit;
                    }
                }
            }
        }
    }

    /// Lives with one server, until it is gone or is to end.
    async fn live(&mut self, orders: &mut mpsc::Receiver<DriverOrder>) -> End {
        loop {
            if self.is_stopped || self.session.task_end().is_some() || self.is_too_large() {
                return End::Wanted;
            }
            let heard = tokio::select! {
                biased;
                order = orders.recv() => Heard::Order(order),
                news = self.server.news.recv() => Heard::News(news),
                Some(line) = self.server.errors.recv() => Heard::Error(line),
                status = self.server.child.wait() => Heard::Ended(status),
            };
            match heard {
                Heard::Order(None | Some(DriverOrder::Stop)) => self.is_stopped = true,
                Heard::Order(Some(order)) => self.obey(order).await,
                Heard::News(Some(News::Unusable(why))) => {
                    // One that has ended says more about it by how it did.
                    return match timeout(DRAIN_GRACE, self.server.child.wait()).await {
                        Ok(status) => End::Gone(status.ok()),
                        Err(_) => End::Unusable(why),
                    };
                }
                Heard::News(Some(news)) => self.hear(news).await,
                Heard::News(None) => {
                    return End::Gone(self.server.child.wait().await.ok());
                }
                Heard::Error(line) => self.last_words.keep(&line),
                Heard::Ended(status) => return End::Gone(status.ok()),
            }
        }
    }

    async fn obey(&mut self, order: DriverOrder) {
        let effects = match order {
            DriverOrder::Prompt { turn, text, files } => {
                self.session.prompt(turn, with_files(text, &files))
            }
            DriverOrder::Interrupt => self.session.interrupt(),
            DriverOrder::Answer { request, allow, message, answers } => {
                self.session.answer(request, allow, &message, &answers)
            }
            DriverOrder::Stop => return,
        };
        self.perform(effects).await;
    }

    async fn hear(&mut self, news: News) {
        let effects = match news {
            News::Opened { session, gone } => self.session.opened(&session, gone.as_deref()),
            News::Warm => self.session.warm(),
            News::Event(event) => self.session.on_event(event),
            News::Missed => {
                self.session.missed_some();
                return;
            }
            News::Waiting(requests) => self.session.only_wait(&requests),
            News::Refused(call, why) => self.session.refused(&call, &why),
            News::Checked(turn, works) => self.session.checked(&turn, works),
            News::Disposed | News::Unusable(_) => return,
        };
        self.perform(effects).await;
    }

    async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Say(said) => {
                    self.is_due |= matches!(said, Said::Event(EventBody::TurnEnded { .. }));
                    self.voice.say(said).await;
                }
                Effect::Call(call) => self.server.call(call),
            }
        }
    }

    /// Whether the server takes more memory than it may, and nobody waits for it.
    fn is_too_large(&mut self) -> bool {
        if !self.is_due || self.session.has_turn() {
            return false;
        }
        self.is_due = false;
        self.server.memory().is_some_and(|bytes| bytes > self.memory_limit)
    }

    /// Ends the server and begins it anew, with the same session.
    async fn begin_anew(&mut self) -> Result<(), Exit> {
        let line = "OpenCode's server has grown large and begins anew; the session goes on\n";
        self.voice.say(Said::Log(Stream::System, line.as_bytes().to_vec())).await;
        self.wind_down().await;
        self.terms.session = Some(self.session.id().to_owned());
        match Server::start(&self.launch, self.terms.clone()) {
            Ok(server) => {
                self.server = server;
                Ok(())
            }
            Err(error) => {
                let program = self.launch.program.to_string_lossy();
                Err(failed(ExitReason::StartFailed, failure::of_start(&program, &error)))
            }
        }
    }

    /// Ends the server: first the turn, then all that it has begun, then itself.
    async fn wind_down(&mut self) -> Option<ExitStatus> {
        if self.session.has_turn() {
            let effects = self.session.interrupt();
            self.perform(effects).await;
            if let Ok(gone @ Some(_)) = timeout(TURN_GRACE, self.attend(false)).await {
                return gone;
            }
        }
        if !self.session.id().is_empty() {
            self.server.dispose();
            if let Ok(gone @ Some(_)) = timeout(DISPOSE_GRACE, self.attend(true)).await {
                return gone;
            }
        }
        if let Some(leader) = self.server.child.id() {
            process::signal_group(leader, Signal::TERM);
        }
        if let Ok(status) = timeout(SIGNAL_GRACE, self.server.child.wait()).await {
            return status.ok();
        }
        let _ = self.server.child.start_kill();
        self.server.child.wait().await.ok()
    }

    /// Hears the server while it ends: until nothing of the turn is open, or until all that it
    /// had begun has ended. Answers how the server ended, if it did.
    async fn attend(&mut self, until_disposed: bool) -> Option<ExitStatus> {
        while until_disposed || self.session.has_turn() {
            tokio::select! {
                biased;
                news = self.server.news.recv() => match news {
                    Some(News::Disposed) | None => return None,
                    Some(news) => self.hear(news).await,
                },
                status = self.server.child.wait() => return status.ok(),
            }
        }
        None
    }

    /// Reads what the server said last.
    async fn drain(&mut self) {
        let rest = ending::Rest::new(DRAIN_GRACE);
        while let Some(news) = rest.hear(self.server.news.recv()).await {
            if !matches!(news, News::Unusable(_)) {
                self.hear(news).await;
            }
        }
        let rest = ending::Rest::new(DRAIN_GRACE);
        while let Some(line) = rest.hear(self.server.errors.recv()).await {
            self.last_words.keep(&line);
        }
    }

    async fn conclude(mut self, status: Option<ExitStatus>, message: String) -> Exit {
        let effects = self.session.gone(&message);
        self.perform(effects).await;
        let exit = verdict(&self.session, self.is_stopped, status, message);
        let is_broken_off =
            self.session.task_end().is_none_or(|(outcome, _)| *outcome == TurnOutcome::Interrupted);
        if exit.reason == ExitReason::Failed && is_broken_off {
            for line in self.last_words.all() {
                let line = format!("{line}\n").into_bytes();
                self.voice.say(Said::Log(Stream::System, line)).await;
            }
        }
        exit
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), signal(status))) {
        Some((Some(code), _)) => format!("exit code {code}"),
        Some((None, Some(signal))) => format!("signal {signal}"),
        _ => "no exit code".to_owned(),
    }
}

fn signal(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal()
}

/// How the run ended. A job ends as its task's turn did; how the server ended, which never ends
/// by itself, counts where the task has no end of its own.
fn verdict(
    session: &Session,
    is_stopped: bool,
    status: Option<ExitStatus>,
    message: String,
) -> Exit {
    let end = |code, reason, message| Exit { code, signal: None, reason, message };
    match session.task_end() {
        Some((TurnOutcome::Succeeded, _)) => end(Some(0), ExitReason::Completed, String::new()),
        Some((TurnOutcome::Failed, why)) => end(Some(1), ExitReason::Failed, why.clone()),
        Some((TurnOutcome::Cancelled, _)) => end(None, ExitReason::Cancelled, String::new()),
        Some((TurnOutcome::Interrupted, _)) | None if is_stopped => {
            let is_job = session.is_job();
            let reason = if is_job { ExitReason::Cancelled } else { ExitReason::Completed };
            end((!is_job).then_some(0), reason, String::new())
        }
        Some((TurnOutcome::Interrupted, _)) | None => {
            // A server that ends with 0 in the middle has not done what it was asked.
            let code = status.and_then(|status| status.code()).map(|code| code.max(1));
            Exit { code, signal: status.and_then(signal), reason: ExitReason::Failed, message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_provider() {
        let both = |provider: &str, name: &str| Ok((provider.to_owned(), name.to_owned()));
        assert_eq!(parse_model("anthropic/claude"), both("anthropic", "claude"));
        assert_eq!(parse_model("openrouter/a/b"), both("openrouter", "a/b"));
        for model in ["claude", "/claude", "anthropic/", "/"] {
            assert!(parse_model(model).unwrap_err().contains("provider/model"), "{model}");
        }
    }
}
