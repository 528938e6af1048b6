//! `claude`: Claude Code over its stream-json control protocol.
//!
//! One process is kept warm and takes turn after turn on its standard input: a second turn costs
//! some 30 ms instead of the half second of a new process, and permission requests, interrupts
//! and answers travel on the same pipe.
//!
//! The life of a turn: an order [`DriverOrder::Prompt`] becomes a user message with a stamp; the
//! CLI says that the turn begins, streams text, uses tools (and asks before it does, which we
//! answer by the run's mode or pass on as an approval), and ends it with a result that names the
//! stamp. Each of its lines passes three rooms that know nothing of each other:
//!
//! | room | one idea |
//! |---|---|
//! | [`pipes`](super::pipes) | lines in and out, of any length |
//! | `protocol` | what a line says, read tolerantly |
//! | `session` | what follows from it: a machine without hands |
//!
//! This module is the hands. A job's CLI is ended (by closing its input, upon which it exits)
//! once the task's turn has ended and no background task is left; any other CLI is ended when
//! the run is.

use std::{process::ExitStatus, time::Duration};

use tokio::{process::Child, sync::mpsc};
use uuid::Uuid;

use self::{
    protocol::Line,
    session::{Effect, Session, Terms},
};
use super::{DriverOrder, Said, Seat, Voice, ending, last_words::LastWords, pipes, with_files};
use crate::{
    process,
    wire::{Exit, ExitReason, Stream, TurnOutcome},
};

mod asks;
mod failure;
mod launch;
mod permission;
mod protocol;
mod question;
mod rule;
mod session;
mod speech;
mod title;
mod usage;

/// How long a job waits for the turn that the CLI begins by itself after a background task.
const OWN_TURN_GRACE: Duration = Duration::from_secs(3);
/// How long a CLI whose input is closed and whose job is done may be silent. After that it is
/// left to the runner, which clears the process tree.
const END_GRACE: Duration = Duration::from_secs(30);
/// How long output is still read when the CLI is gone but something of its tree holds the pipe.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Why the CLI cannot be started, if it is not there.
pub(super) fn absent(spec: &crate::wire::RunSpec, path: Option<&str>) -> Option<String> {
    let launch = launch::launch(spec, path, None, None, None);
    let error = process::absent(&launch)?;
    Some(failure::of_start(&launch.program.to_string_lossy(), &error))
}

/// Keeps one Claude Code process warm and speaks its control protocol.
pub async fn drive(
    seat: Seat,
    path: Option<String>,
    model: Option<String>,
    instructions: Option<String>,
) -> Exit {
    let Seat { spec, orders, voice } = seat;
    let workdir = std::path::Path::new(&spec.workdir);
    if !workdir.is_dir() {
        let message = format!("the work directory `{}` does not exist", spec.workdir);
        return failed(ExitReason::WorkspaceFailed, message);
    }
    let start = |session: Option<&str>| {
        let (model, instructions) = (model.as_deref(), instructions.as_deref());
        let launch = launch::launch(&spec, path.as_deref(), model, instructions, session);
        process::start(&launch).map_err(|error| {
            let message = failure::of_start(&launch.program.to_string_lossy(), &error);
            failed(ExitReason::StartFailed, message)
        })
    };
    let child = match start(spec.session.as_deref()) {
        Ok(child) => child,
        Err(exit) => return exit,
    };
    let session = Session::new(Terms {
        mode: spec.permissions.mode,
        is_job: spec.task.is_some(),
        workdir: spec.workdir.clone(),
        resumes: spec.session.clone(),
        fresh: Box::new(fresh_id),
    });
    Hands::new(child, session, voice).run(orders, || start(None)).await
}

#[expect(clippy::disallowed_methods, reason = "the edge: the machine behind it takes ids as given")]
fn fresh_id() -> Uuid {
    Uuid::now_v7()
}

fn failed(reason: ExitReason, message: String) -> Exit {
    Exit { code: None, signal: None, reason, message }
}

/// The process, and the machine that decides about it.
struct Hands {
    child: Child,
    session: Session,
    voice: Voice,
    /// Closed once the CLI is to end.
    input: Option<mpsc::UnboundedSender<serde_json::Value>>,
    output: pipes::Lines,
    errors: pipes::Lines,
    last_words: LastWords,
    is_stopped: bool,
}

/// What the hands wait for.
enum Heard {
    Order(Option<DriverOrder>),
    Output(Vec<u8>),
    OutputEnded,
    Error(Vec<u8>),
    Ended(std::io::Result<ExitStatus>),
    Silence,
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
            is_stopped: false,
        }
    }

    /// Attends to the CLI until it has ended, and then to the one that `anew` starts where the
    /// session to resume turned out to be gone.
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<DriverOrder>,
        anew: impl Fn() -> Result<Child, Exit>,
    ) -> Exit {
        let hello = self.session.begin();
        self.perform(hello).await;
        loop {
            let status = self.attend(&mut orders).await;
            self.drain().await;
            if !self.session.is_gone() || self.is_stopped {
                return self.conclude(status).await;
            }
            let child = match anew() {
                Ok(child) => child,
                Err(exit) => {
                    let effects = self.session.gone(&exit.message);
                    self.perform(effects).await;
                    return exit;
                }
            };
            self.take(child);
            let hello = self.session.begin_anew();
            self.perform(hello).await;
        }
    }

    /// Puts another CLI in the place of the one that has ended.
    fn take(&mut self, mut child: Child) {
        self.input = Some(pipes::writer(child.stdin.take()));
        self.output = pipes::lines(child.stdout.take(), Some(&self.voice));
        self.errors = pipes::lines(child.stderr.take(), None);
        self.child = child;
        self.last_words = LastWords::default();
    }

    /// Hears orders and the CLI until that has ended, or is not waited for any more.
    async fn attend(&mut self, orders: &mut mpsc::Receiver<DriverOrder>) -> Option<ExitStatus> {
        let mut reads_output = true;
        let mut reads_orders = true;
        loop {
            self.end_when_done().await;
            let patience = self.patience();
            let heard = tokio::select! {
                biased;
                order = orders.recv(), if reads_orders => Heard::Order(order),
                line = self.output.recv(), if reads_output => {
                    line.map_or(Heard::OutputEnded, Heard::Output)
                }
                Some(line) = self.errors.recv() => Heard::Error(line),
                status = self.child.wait() => Heard::Ended(status),
                () = ending::silence(patience) => Heard::Silence,
            };
            match heard {
                Heard::Order(None) => {
                    reads_orders = false;
                    self.stop().await;
                }
                Heard::Order(Some(order)) => self.obey(order).await,
                Heard::Output(line) => self.read(&line).await,
                Heard::OutputEnded => reads_output = false,
                Heard::Error(line) => self.last_words.keep(&line),
                Heard::Ended(status) => return status.ok(),
                Heard::Silence if self.input.is_some() => {
                    let effects = self.session.expect_nothing();
                    self.perform(effects).await;
                }
                Heard::Silence => return None,
            }
        }
    }

    async fn obey(&mut self, order: DriverOrder) {
        let effects = match order {
            DriverOrder::Prompt { turn, text, files } => {
                self.session.prompt(turn, &with_files(text, &files))
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
            let effects = self.session.stop();
            self.perform(effects).await;
            self.input = None;
        }
    }

    async fn read(&mut self, line: &[u8]) {
        let line = Line::parse(line);
        if let Line::Noise(noise) = &line {
            self.last_words.keep(noise.as_bytes());
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
                        // A writer that is gone means a CLI that is; its end is seen elsewhere.
                        let _ = input.send(line);
                    }
                }
            }
        }
    }

    /// Ends the CLI of a job that is done. Background tasks of a job that has failed or was
    /// cancelled are not waited for.
    async fn end_when_done(&mut self) {
        let Some((outcome, _)) = self.session.task_end() else { return };
        if *outcome != TurnOutcome::Succeeded && self.input.is_some() {
            let effects = self.session.stop();
            self.perform(effects).await;
            self.input = None;
        }
        if self.session.is_quiet() {
            self.input = None;
        }
    }

    /// How long silence is borne. A turn may be silent for as long as the runner allows.
    fn patience(&self) -> Option<Duration> {
        self.session.task_end()?;
        match self.input {
            None => Some(END_GRACE),
            Some(_) if self.session.awaits_own_turn() => Some(OWN_TURN_GRACE),
            Some(_) => None,
        }
    }

    /// Reads what the CLI printed last.
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
        let how = ending::describe(status);
        let message = match self.is_stopped {
            true => String::new(),
            false => failure::of_end(&how, self.last_words.last()),
        };
        let effects = self.session.gone(&message);
        self.perform(effects).await;
        let task = self.session.task_end();
        let is_job = self.session.is_job();
        let exit = ending::verdict(task, is_job, self.is_stopped, status, message);
        if exit.reason == ExitReason::Failed && task.is_none_or(ending::is_broken_off) {
            for line in self.last_words.all() {
                let line = format!("{line}\n").into_bytes();
                self.voice.say(Said::Log(Stream::System, line)).await;
            }
        }
        exit
    }
}
