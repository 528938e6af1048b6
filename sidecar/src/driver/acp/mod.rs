//! `acp`: any agent that speaks the Agent Client Protocol, version 1, on its standard streams.
//! Codex and Gemini among them.
//!
//! One process is kept warm and takes turn after turn in one session: a second turn costs tens
//! of milliseconds. A turn is the request `session/prompt`, and its end is that request's answer; what
//! the agent says, thinks and does meanwhile comes as notifications, and what it may not do
//! unasked as requests, which we answer by the run's mode and rules or pass on as approvals.
//!
//! The agent reads and writes files by itself, and runs its own commands: we offer it neither
//! files nor terminals, so that it works as it does without us. Each of its lines passes rooms that
//! know nothing of each other:
//!
//! | room | one idea |
//! |---|---|
//! | [`pipes`](super::pipes) | lines in and out, of any length |
//! | `protocol` | what a line says, read tolerantly |
//! | `rest` | how long a session waits before it may be loaded again |
//! | `opening` | from a process to a session, with the mode and model that were wanted |
//! | `session` | what follows from a line: a machine without hands |
//! | `turn` | what is said and done in one turn |
//! | `permission`, `rules`, `modes`, `questions` | who decides, and how it is said |
//!
//! This module is the hands. A command that a cancelled turn has left running is ended here, since
//! some agents leave it (see [`crate::process::Roster`]). A job's agent is ended, by closing its
//! input, once the task's turn has ended; any other agent is ended when the run is.

use std::{process::ExitStatus, time::Duration};

use tokio::{process::Child, sync::mpsc};
use uuid::Uuid;

use self::{
    protocol::Line,
    session::{Effect, Session, Terms},
};
use super::{DriverOrder, Said, Seat, Voice, ending, last_words::LastWords, pipes, with_files};
use crate::{
    ambient,
    process::{self, Launch, Roster},
    wire::{Exit, ExitReason, RunSpec, Stream},
};

mod failure;
mod modes;
mod opening;
mod permission;
mod protocol;
mod questions;
mod rest;
mod rules;
mod session;
mod turn;
mod usage;

/// How long an agent whose input is closed may be silent. After that it is left to the runner,
/// which clears the process tree.
const END_GRACE: Duration = Duration::from_secs(30);
/// The same for an agent that could not be used, or has closed its output.
const FAILED_GRACE: Duration = Duration::from_secs(2);
/// How long output is still read when the agent is gone but something of its tree holds the pipe.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Why the agent cannot be started here, if it cannot.
pub(super) fn absent(spec: &RunSpec, command: &[String]) -> Option<String> {
    let error = process::absent(&launch(spec, command))?;
    Some(failure::of_start(program(command), &error))
}

/// Keeps one agent warm and speaks its protocol.
pub async fn drive(
    seat: Seat,
    command: Vec<String>,
    model: Option<String>,
    instructions: Option<String>,
) -> Exit {
    let Seat { spec, orders, voice } = seat;
    if !std::path::Path::new(&spec.workdir).is_dir() {
        let message = format!("the work directory `{}` does not exist", spec.workdir);
        return failed(ExitReason::WorkspaceFailed, message);
    }
    let child = match process::start(&launch(&spec, &command)) {
        Ok(child) => child,
        Err(error) => {
            let message = failure::of_start(program(&command), &error);
            return failed(ExitReason::StartFailed, message);
        }
    };
    let session = Session::new(Terms {
        program: program(&command).to_owned(),
        permissions: spec.permissions.clone(),
        is_job: spec.task.is_some(),
        workdir: spec.workdir.clone(),
        session: spec.session.clone(),
        model: model.filter(|model| !model.trim().is_empty()),
        instructions,
        fresh: Box::new(fresh_name),
    });
    let rest = rest::needed(spec.session.as_deref(), &spec.env, ambient::now());
    Hands::new(child, session, voice).run(orders, rest).await
}

/// What to start for a run. The environment is the spec's and nothing else.
fn launch(spec: &RunSpec, command: &[String]) -> Launch {
    Launch {
        program: program(command).into(),
        args: command.iter().skip(1).map(Into::into).collect(),
        env: spec.env.iter().map(|it| ((&it.name).into(), (&it.value).into())).collect(),
        workdir: spec.workdir.clone().into(),
        hide: spec.hide.iter().map(Into::into).collect(),
    }
}

fn program(command: &[String]) -> &str {
    command.first().map(String::as_str).unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: the machine behind it takes names as given"
)]
fn fresh_name() -> String {
    format!("ask_{:08x}", Uuid::new_v4().as_fields().0)
}

fn failed(reason: ExitReason, message: String) -> Exit {
    Exit { code: None, signal: None, reason, message }
}

/// The process, and the machine that decides about it.
struct Hands {
    child: Child,
    session: Session,
    voice: Voice,
    /// Closed once the agent is to end.
    input: Option<mpsc::UnboundedSender<serde_json::Value>>,
    output: pipes::Lines,
    errors: pipes::Lines,
    last_words: LastWords,
    /// Which processes there were when the turn began.
    roster: Option<Roster>,
    is_stopped: bool,
    /// Whether it has closed its output by itself.
    is_mute: bool,
    /// Why the agent could not be used.
    unusable: Option<String>,
}

/// What the hands wait for.
enum Heard {
    Order(Option<DriverOrder>),
    Output(Vec<u8>),
    OutputEnded,
    Error(Vec<u8>),
    Ended(std::io::Result<ExitStatus>),
    Silence,
    /// The session has rested.
    Rested,
}

impl Hands {
    fn new(mut child: Child, session: Session, voice: Voice) -> Self {
        Self {
            input: Some(pipes::writer(child.stdin.take())),
            output: pipes::lines(child.stdout.take(), Some(&voice)),
            errors: pipes::lines(child.stderr.take(), None),
            child,
            session,
            voice,
            last_words: LastWords::default(),
            roster: None,
            is_stopped: false,
            is_mute: false,
            unusable: None,
        }
    }

    async fn run(
        mut self,
        mut orders: mpsc::Receiver<DriverOrder>,
        rest: Option<Duration>,
    ) -> Exit {
        let mut is_resting = rest.is_some();
        let rested = ending::silence(rest);
        tokio::pin!(rested);
        match rest {
            Some(rest) => self.tell_rest(rest).await,
            None => self.greet().await,
        }
        let mut reads_output = true;
        let mut reads_orders = true;
        let status = loop {
            if self.session.task_end().is_some() {
                self.input = None;
            }
            let patience = self.patience();
            let heard = tokio::select! {
                biased;
                order = orders.recv(), if reads_orders => Heard::Order(order),
                line = self.output.recv(), if reads_output => {
                    line.map_or(Heard::OutputEnded, Heard::Output)
                }
                Some(line) = self.errors.recv() => Heard::Error(line),
                status = self.child.wait() => Heard::Ended(status),
                () = &mut rested, if is_resting => Heard::Rested,
                () = ending::silence(patience) => Heard::Silence,
            };
            match heard {
                Heard::Order(None) => {
                    reads_orders = false;
                    self.stop().await;
                }
                Heard::Order(Some(order)) => self.obey(order).await,
                Heard::Output(line) => self.read(&line).await,
                Heard::OutputEnded => {
                    reads_output = false;
                    // What it would answer cannot be heard any more.
                    self.is_mute = self.input.take().is_some();
                }
                Heard::Error(line) => self.last_words.keep(&line),
                Heard::Ended(status) => break status.ok(),
                Heard::Rested => {
                    is_resting = false;
                    self.greet().await;
                }
                Heard::Silence if self.input.is_some() => {
                    let effects = self.session.on_silence();
                    self.perform(effects).await;
                }
                Heard::Silence => break None,
            }
        };
        self.drain().await;
        self.conclude(status).await
    }

    async fn greet(&mut self) {
        let hello = self.session.begin();
        self.perform(hello).await;
    }

    async fn tell_rest(&self, rest: Duration) {
        let line = format!(
            "the session goes on in {} s: Gemini loses one that is loaded within the minute in \
             which it was begun",
            rest.as_secs() + 1,
        );
        self.log(&line).await;
    }

    async fn obey(&mut self, order: DriverOrder) {
        let effects = match order {
            DriverOrder::Prompt { turn, text, files } => {
                self.session.prompt(turn, with_files(text, &files))
            }
            DriverOrder::Interrupt => self.session.interrupt(),
            DriverOrder::Answer { request, allow, message, answers } => {
                self.session.answer(&request, allow, &message, &answers)
            }
            DriverOrder::Stop => return self.stop().await,
        };
        self.perform(effects).await;
    }

    async fn stop(&mut self) {
        if !self.is_stopped {
            self.is_stopped = true;
            let effects = self.session.interrupt();
            self.perform(effects).await;
            self.input = None;
        }
    }

    async fn read(&mut self, line: &[u8]) {
        let line = Line::parse(line);
        if let Line::Noise(noise) = &line {
            self.last_words.keep(noise);
        }
        let effects = self.session.on_line(line);
        self.perform(effects).await;
    }

    async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Say(said) => self.voice.say(said).await,
                Effect::Write(line) => {
                    if let Some(input) = &self.input {
                        // A writer that is gone means an agent that is; its end is seen elsewhere.
                        let _ = input.send(line);
                    }
                }
                Effect::Watch => self.roster = self.child.id().and_then(|id| Roster::of(id).ok()),
                Effect::Sweep => self.sweep().await,
                Effect::Fail(why) => {
                    self.unusable = Some(why);
                    self.input = None;
                }
            }
        }
    }

    /// Ends what the turn has left running.
    async fn sweep(&mut self) {
        let Some(roster) = self.roster.take() else { return };
        if let Err(error) = roster.end_newcomers().await {
            self.log(&format!("what the turn left running could not be ended: {error}")).await;
        }
    }

    async fn log(&self, line: &str) {
        let line = format!("{line}\n").into_bytes();
        self.voice.say(Said::Log(Stream::System, line)).await;
    }

    /// How long silence is borne. A turn may be silent for as long as the runner allows.
    fn patience(&self) -> Option<Duration> {
        let is_lost = self.is_mute || self.unusable.is_some();
        match (&self.input, is_lost) {
            (Some(_), _) => self.session.patience(),
            (None, false) => Some(END_GRACE),
            (None, true) => Some(FAILED_GRACE),
        }
    }

    /// Reads what the agent printed last.
    async fn drain(&mut self) {
        let rest = ending::Rest::new(DRAIN_GRACE);
        while let Some(line) = rest.hear(self.output.recv()).await {
            self.read(&line).await;
        }
        let rest = ending::Rest::new(DRAIN_GRACE);
        while let Some(line) = rest.hear(self.errors.recv()).await {
            self.last_words.keep(&line);
        }
    }

    async fn conclude(mut self, status: Option<ExitStatus>) -> Exit {
        let message = match (&self.unusable, self.is_stopped) {
            (Some(why), _) => why.clone(),
            (None, true) => String::new(),
            (None, false) if self.is_mute && status.is_none() => self.session.agent().of_muteness(),
            (None, false) => {
                let how = ending::describe(status);
                self.session.agent().of_end(&how, self.last_words.last())
            }
        };
        let effects = self.session.gone(&message);
        self.perform(effects).await;
        if self.unusable.is_some() && !self.is_stopped {
            self.tell_last_words().await;
            return failed(ExitReason::StartFailed, message);
        }
        let task = self.session.task_end();
        let is_job = self.session.is_job();
        let exit = ending::verdict(task, is_job, self.is_stopped, status, message);
        if exit.reason == ExitReason::Failed && task.is_none_or(ending::is_broken_off) {
            self.tell_last_words().await;
        }
        exit
    }

    async fn tell_last_words(&self) {
        for line in self.last_words.all() {
            self.log(line).await;
        }
    }
}
