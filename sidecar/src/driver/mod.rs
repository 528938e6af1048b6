//! Drivers: each turns one agent CLI's protocol into our events.
//!
//! A driver gets a [`Seat`]: what it is to do, orders to obey, a [`Voice`] to speak with. It
//! starts the CLI through [`crate::process`], and ends when the CLI has ended, with an [`Exit`].
//! It never numbers, masks, spools or posts anything, never decides on time-outs and never
//! kills: the runner around it does. So a driver is the protocol and nothing else.
//!
//! Cancelling is polite here (the CLI's own interrupt). If that has no effect in time, the
//! runner kills the tree, and the driver sees its CLI end.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tokio::sync::mpsc;

use crate::wire::{AgentSpec, EventBody, Exit, ExitReason, RunSpec, Stream};

pub mod acp;
pub mod claude;
pub mod command;
mod ending;
mod flow;
mod last_words;
pub mod opencode;
mod pipes;
mod words;

/// The turn id under which a job's single task runs.
pub const TASK_TURN: &str = "task";

/// The most bytes that are said at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What a driver is given.
pub struct Seat {
    /// What the run is to do.
    pub spec: Arc<RunSpec>,
    /// Orders, in order. A closed channel means: end.
    pub orders: mpsc::Receiver<DriverOrder>,
    /// Where to speak.
    pub voice: Voice,
}

/// What a driver can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverOrder {
    /// Prompt the CLI. Comes only while no turn runs. The driver answers with exactly one
    /// `TurnEnded` for it.
    Prompt {
        /// The turn.
        turn: String,
        /// The prompt, byte for byte.
        text: String,
        /// The files that came with it, where they lie now.
        files: Vec<PathBuf>,
    },
    /// Interrupt what runs, politely.
    Interrupt,
    /// The answer to an approval.
    Answer {
        /// The CLI's id of the request.
        request: String,
        /// Whether it may.
        allow: bool,
        /// What to tell the agent when it may not.
        message: String,
        /// For a question: the answers by the questions' texts.
        answers: BTreeMap<String, String>,
    },
    /// End the CLI politely, and return.
    Stop,
}

/// A prompt for a CLI that reads, with the list of the files that came with it.
fn with_files(mut text: String, files: &[PathBuf]) -> String {
    if !files.is_empty() {
        text.push_str("\n\nAttached files:");
        for file in files {
            text.push_str("\n- ");
            text.push_str(&file.to_string_lossy());
        }
    }
    text
}

/// How a driver speaks. Waits while the spool is busy, so that a loud agent cannot fill memory.
#[derive(Clone)]
pub struct Voice(mpsc::Sender<Said>);

/// What a driver said; the spool's writer masks, splits and numbers it.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// An event that is whole and small.
    Event(EventBody),
    /// Bytes that the agent printed.
    Log(Stream, Vec<u8>),
    /// Text that the agent says to its person, as a delta, in this turn.
    Text(String, Vec<u8>),
    /// Thinking that the agent shows, as a delta, in this turn.
    Thought(String, Vec<u8>),
}

impl Voice {
    /// A voice into a channel.
    #[must_use]
    pub fn new(channel: mpsc::Sender<Said>) -> Self {
        Self(channel)
    }

    /// Says something, what is long in pieces, so that what waits is never much. Once the run is
    /// over nobody listens, and nothing happens.
    pub async fn say(&self, said: Said) {
        match said {
            Said::Event(_) => self.send(said).await,
            Said::Log(stream, bytes) => {
                for piece in pieces(&bytes) {
                    self.send(Said::Log(stream, piece)).await;
                }
            }
            Said::Text(turn, bytes) => {
                for piece in pieces(&bytes) {
                    self.send(Said::Text(turn.clone(), piece)).await;
                }
            }
            Said::Thought(turn, bytes) => {
                for piece in pieces(&bytes) {
                    self.send(Said::Thought(turn.clone(), piece)).await;
                }
            }
        }
    }

    /// The same voice for whoever must not keep the run's end from being heard: it is mute once all
    /// others are gone.
    pub(in crate::driver) fn faint(&self) -> FaintVoice {
        FaintVoice(self.0.downgrade())
    }

    async fn send(&self, said: Said) {
        let _ = self.0.send(said).await;
    }

    /// Says an event.
    pub async fn event(&self, event: EventBody) {
        self.say(Said::Event(event)).await;
    }
}

/// A voice that does not keep what it speaks into open.
pub(in crate::driver) struct FaintVoice(mpsc::WeakSender<Said>);

impl FaintVoice {
    /// Says something, if anybody else can still say anything.
    pub(in crate::driver) async fn say(&self, said: Said) {
        if let Some(sender) = self.0.upgrade() {
            Voice(sender).say(said).await;
        }
    }
}

/// Bytes in pieces of which none is long, cut between characters where they are text.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let is_cut = |at: &usize| bytes.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
        let most = bytes.len().min(PIECE_BYTES);
        // A character has at most four bytes; what is longer is no text.
        let at = (most.saturating_sub(3)..=most).rev().find(is_cut).filter(|at| *at > 0);
        let (piece, rest) = bytes.split_at(at.unwrap_or(most));
        bytes = rest;
        Some(piece.to_vec())
    })
}

/// How a run ends whose CLI is not on this machine; none if it is here, or may come with the
/// workspace.
#[must_use]
pub fn absent(spec: &RunSpec) -> Option<Exit> {
    let message = match &spec.agent {
        AgentSpec::Command { shell } => command::absent(spec, shell.as_deref()),
        AgentSpec::Claude { path, .. } => claude::absent(spec, path.as_deref()),
        AgentSpec::Opencode { path, .. } => opencode::absent(spec, path.as_deref()),
        AgentSpec::Acp { command, .. } => acp::absent(spec, command),
    }?;
    Some(Exit { code: None, signal: None, reason: ExitReason::StartFailed, message })
}

/// Puts the log-in for OpenCode that came with a machine where OpenCode looks for it, unless one is
/// there already.
///
/// # Errors
/// One line on what kept it from being used.
pub fn settle_opencode_login(spec: &RunSpec) -> Result<(), String> {
    opencode::settle_login(spec)
}

/// Runs the spec's CLI until it ends.
pub async fn drive(seat: Seat) -> Exit {
    match seat.spec.agent.clone() {
        AgentSpec::Command { shell } => command::drive(seat, shell).await,
        AgentSpec::Claude { path, model, instructions } => {
            claude::drive(seat, path, model, instructions).await
        }
        AgentSpec::Opencode { path, model, instructions } => {
            opencode::drive(seat, path, model, instructions).await
        }
        AgentSpec::Acp { command, model, instructions } => {
            acp::drive(seat, command, model, instructions).await
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn what_is_long_is_said_in_pieces_that_are_text_by_themselves() {
        let (sender, mut said) = mpsc::channel(64);
        let text = "\u{20ac}".repeat(50_000);
        Voice::new(sender).say(Said::Text("t".into(), text.clone().into_bytes())).await;
        let mut heard = String::new();
        while let Some(Said::Text(turn, piece)) = said.recv().await {
            assert!(turn == "t" && piece.len() <= PIECE_BYTES);
            heard.push_str(&String::from_utf8(piece).expect("whole characters"));
        }
        assert!(heard == text);
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole(seed in prop::collection::vec(any::<u8>(), 1..40), times in 1..9000_usize) {
            let bytes = seed.repeat(times);
            let cut: Vec<_> = pieces(&bytes).collect();
            prop_assert!(cut.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_BYTES));
            prop_assert!(cut.concat() == bytes);
        }
    }
}
