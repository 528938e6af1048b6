//! One conversation with OpenCode, as a machine without hands: events and orders in, effects
//! out. What it decides rests on nothing but what it was given, so that every test of it is a
//! list of events.
//!
//! Whose turn it is: one prompt is given at a time, and what the session does from then on until
//! it is idle belongs to it (the model's steps, and what OpenCode puts in between, such as a
//! compaction). What begins while no prompt was given is the agent's own.
//!
//! When a turn is over: the session says that it is idle, and every step of the turn is complete.
//! Neither alone is enough. A step of many is complete long before the end, and upon an interrupt
//! or an error the session is idle twice, first before its last step is closed. Where the two do
//! not meet, the server is asked what it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::{asks::Asked, turn::Turn};
use super::failure;
use crate::{
    driver::{Said, TASK_TURN},
    wire::{EventBody, PermissionMode, Stream, TurnOutcome, Usage},
};

mod asks;
mod events;
mod turn;

/// What the hands are to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// Say this to the reporter.
    Say(Said),
    /// Ask the server for this.
    Call(Call),
}

/// What the server is asked for, always in the order in which it was decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// Work on a prompt.
    Prompt {
        /// The message's id.
        message: String,
        /// The prompt.
        text: String,
    },
    /// Interrupt what runs.
    Abort,
    /// Answer a request for a permission.
    Permit {
        /// The request.
        request: String,
        /// Why not; none where it may.
        refusal: Option<String>,
    },
    /// Answer questions.
    Reply {
        /// The request.
        request: String,
        /// The answers to each question, in order.
        answers: Vec<Vec<String>>,
    },
    /// Say whether the session works, after a short while.
    Check {
        /// The turn that may be over.
        turn: String,
    },
}

/// What the conversation is about.
pub(super) struct Terms {
    /// How to answer requests.
    pub mode: PermissionMode,
    /// Whether the run works at a single task.
    pub is_job: bool,
    /// Where the agent works, for titles.
    pub workdir: String,
    /// Milliseconds since 1970.
    pub now_ms: Box<dyn FnMut() -> i64 + Send>,
    /// Ids that nobody had before.
    pub fresh: Box<dyn FnMut() -> uuid::Uuid + Send>,
}

/// The machine.
pub(super) struct Session {
    terms: Terms,
    id: String,
    is_ready: bool,
    turn: Option<Turn>,
    /// Prompts that came while a turn was open, with their turns.
    waiting: VecDeque<(String, String)>,
    asked: BTreeMap<String, Asked>,
    /// The requests that were answered: what stood when the stream broke may be told once more
    /// behind the answer, and nobody is asked twice.
    answered: BTreeSet<String>,
    /// The steps of turns that are over: what still comes of them begins nothing.
    old: BTreeSet<String>,
    task_end: Option<(TurnOutcome, String)>,
}

impl Session {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            id: String::new(),
            is_ready: false,
            turn: None,
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            answered: BTreeSet::new(),
            old: BTreeSet::new(),
            task_end: None,
        }
    }

    /// The session on the server; empty while there is none.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The server has opened a session, instead of one that is gone where there is such.
    pub(super) fn opened(&mut self, id: &str, gone: Option<&str>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(gone) = gone {
            let line = format!("the session {gone} is gone; a new one begins\n");
            effects.push(Effect::Say(Said::Log(Stream::System, line.into_bytes())));
        }
        if self.id != id {
            id.clone_into(&mut self.id);
            effects.push(say(EventBody::Session { id: id.to_owned() }));
        }
        effects
    }

    /// The server is warm.
    pub(super) fn warm(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.is_ready, true) {
            return Vec::new();
        }
        vec![say(EventBody::Ready {})]
    }

    /// A person speaks.
    pub(super) fn prompt(&mut self, turn: String, text: String) -> Vec<Effect> {
        self.waiting.push_back((turn, text));
        let mut effects = Vec::new();
        self.prompt_next(&mut effects);
        effects
    }

    fn prompt_next(&mut self, effects: &mut Vec<Effect>) {
        if self.turn.is_some() {
            return;
        }
        let Some((id, text)) = self.waiting.pop_front() else { return };
        let message = self.message_id();
        self.turn = Some(Turn { id, prompt: Some(message.clone()), ..Turn::default() });
        effects.push(Effect::Call(Call::Prompt { message, text }));
    }

    /// An id for a message. OpenCode orders messages by their ids, which begin with the time.
    fn message_id(&mut self) -> String {
        let time = ((self.terms.now_ms)() << 12) & 0xffff_ffff_ffff;
        let unique = (self.terms.fresh)().simple().to_string();
        format!("msg_{time:012x}{}", &unique[unique.len() - 14..])
    }

    /// Interrupt what runs. Where the server has not begun yet, it is interrupted again as soon
    /// as it has.
    pub(super) fn interrupt(&mut self) -> Vec<Effect> {
        let Some(turn) = &mut self.turn else { return Vec::new() };
        turn.is_interrupting = true;
        let mut effects = vec![Effect::Call(Call::Abort)];
        // The agent's own turn runs, and the person's has not come to its place yet.
        for (turn, _) in std::mem::take(&mut self.waiting) {
            let (outcome, usage) = (TurnOutcome::Cancelled, Usage::default());
            effects.push(say(EventBody::TurnEnded { turn, outcome, message: None, usage }));
        }
        effects
    }

    /// The server did not do what it was asked for.
    pub(super) fn refused(&mut self, call: &Call, why: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        match (call, &self.turn) {
            (Call::Prompt { message, .. }, Some(turn)) if turn.prompt.as_ref() == Some(message) => {
                let why = failure::of_prompt(why);
                self.end_turn(TurnOutcome::Failed, &why, &mut effects);
                self.prompt_next(&mut effects);
            }
            // The next one may be heard; the reporter does not wait for ever.
            (Call::Check { turn }, Some(open)) if open.id == *turn => {
                effects.push(Effect::Call(call.clone()));
            }
            // It may not be waited for any more. If it is, it is told again, and asked again.
            (Call::Permit { request, .. } | Call::Reply { request, .. }, _) => {
                self.answered.remove(request);
            }
            _ => {}
        }
        effects
    }

    /// The server says whether the session works at this turn.
    pub(super) fn checked(&mut self, turn: &str, works: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(turn) = self.turn.as_mut().filter(|open| open.id == turn) {
            if works {
                turn.is_idle = false;
                turn.is_checked = false;
            } else if turn.is_begun && turn.is_idle {
                self.conclude(&mut effects);
            }
        }
        effects
    }

    /// Some events were missed. What was said in the meantime is read anew, as events.
    pub(super) fn missed_some(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.speech.missed_some();
        }
    }

    /// The server is gone: what was open ends with this message.
    pub(super) fn gone(&mut self, message: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        let is_interrupting = self.turn.as_ref().is_some_and(|turn| turn.is_interrupting);
        let outcome =
            if is_interrupting { TurnOutcome::Cancelled } else { TurnOutcome::Interrupted };
        self.end_turn(outcome, message, &mut effects);
        for (id, _) in std::mem::take(&mut self.waiting) {
            self.turn = Some(Turn { id, ..Turn::default() });
            self.end_turn(TurnOutcome::Interrupted, message, &mut effects);
        }
        effects
    }

    /// How the run's task has ended, where it is a job whose task has.
    pub(super) fn task_end(&self) -> Option<&(TurnOutcome, String)> {
        self.task_end.as_ref()
    }

    /// Whether the run works at a single task.
    pub(super) fn is_job(&self) -> bool {
        self.terms.is_job
    }

    /// Whether a turn is open or waits.
    pub(super) fn has_turn(&self) -> bool {
        self.turn.is_some() || !self.waiting.is_empty()
    }

    fn conclude(&mut self, effects: &mut Vec<Effect>) {
        let Some(turn) = &self.turn else { return };
        let (outcome, message) = turn.verdict();
        self.end_turn(outcome, &message, effects);
        self.prompt_next(effects);
    }

    fn end_turn(&mut self, outcome: TurnOutcome, message: &str, effects: &mut Vec<Effect>) {
        let Some(mut turn) = self.turn.take() else { return };
        for (id, has_ended) in std::mem::take(&mut turn.tools) {
            if !has_ended {
                let turn = turn.id.clone();
                effects.push(say(EventBody::ToolEnded { turn, id, failed: true }));
            }
        }
        for request in std::mem::take(&mut self.asked).into_keys() {
            effects.push(say(EventBody::ApprovalWithdrawn { request }));
        }
        if let Some(text) = turn.speech.close() {
            effects.push(Effect::Say(Said::Text(turn.id.clone(), text.into_bytes())));
        }
        if self.terms.is_job && turn.id == TASK_TURN {
            self.task_end = Some((outcome, message.to_owned()));
        }
        let usage = turn.usage();
        // Only what may still come late: of the turn that ends now.
        self.old = turn.steps.into_keys().collect();
        let message = (!message.is_empty()).then(|| message.to_owned());
        effects.push(say(EventBody::TurnEnded { turn: turn.id, outcome, message, usage }));
    }
}

fn say(event: EventBody) -> Effect {
    Effect::Say(Said::Event(event))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
