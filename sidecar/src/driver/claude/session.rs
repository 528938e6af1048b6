//! One conversation with Claude Code, as a machine without hands: lines and orders in, effects
//! out. What it decides rests on nothing but what it was given, so that every test of it is a
//! list of lines.
//!
//! Whose turn it is: the CLI works through user messages one by one, folds one that comes in the
//! middle into the turn that runs, and begins turns by itself when a background task has ended.
//! So results are never counted. Each prompt carries a stamp (a uuid); the CLI says when it
//! starts on a stamp, and lists in a result the stamps that it answers. A turn that begins while
//! no stamp of ours was started is the agent's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;
use uuid::Uuid;

use super::{
    asks::Asks,
    failure, permission, protocol,
    speech::Speech,
    usage::{Meter, Tally},
};
use crate::{
    driver::{Said, TASK_TURN},
    wire::{self, EventBody, PermissionMode, TurnOutcome, Usage},
};

mod lines;

/// What the hands are to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// Say this to the server.
    Say(Said),
    /// Write this line to the CLI.
    Write(Value),
}

/// What the conversation is about.
pub(super) struct Terms {
    /// How to answer requests.
    pub mode: PermissionMode,
    /// Whether the run works at a single task.
    pub is_job: bool,
    /// Where the CLI works, for titles.
    pub workdir: String,
    /// The session that the CLI was told to resume.
    pub resumes: Option<String>,
    /// Ids that nobody had before.
    pub fresh: Box<dyn FnMut() -> Uuid + Send>,
}

/// The machine.
pub(super) struct Session {
    terms: Terms,
    id: Option<String>,
    is_ready: bool,
    /// The id of our request by which the CLI says that it is ready.
    hello: Option<String>,
    /// Whether this CLI tells when it starts on a stamp. Old ones do not.
    tells_lifecycle: bool,
    prompt: Option<Prompt>,
    /// Prompts that came before the last one was answered, with their turns.
    waiting: VecDeque<(String, String)>,
    /// The id of the turn that the CLI began by itself.
    own_turn: Option<String>,
    speech: Speech,
    open_tools: BTreeSet<String>,
    asks: Asks,
    /// The CLI's permission mode, once it has told it.
    mode: Option<String>,
    /// Whether the session to resume is gone.
    is_gone: bool,
    /// The error of the last message of the model.
    error: Option<String>,
    is_interrupting: bool,
    tasks: BTreeSet<String>,
    /// Whether the CLI still has to tell its model that a task has ended.
    owes_turn: bool,
    meter: Meter,
    tally: Tally,
    task_end: Option<(TurnOutcome, String)>,
    /// The end of the task's turn, kept back until its background tasks have ended as well:
    /// upon it the run is ended.
    held_end: Option<EventBody>,
}

struct Prompt {
    turn: String,
    stamp: String,
    text: String,
    is_started: bool,
}

impl Session {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            id: None,
            is_ready: false,
            hello: None,
            tells_lifecycle: false,
            prompt: None,
            waiting: VecDeque::new(),
            own_turn: None,
            speech: Speech::default(),
            open_tools: BTreeSet::new(),
            asks: Asks::default(),
            mode: None,
            is_gone: false,
            error: None,
            is_interrupting: false,
            tasks: BTreeSet::new(),
            owes_turn: false,
            meter: Meter::default(),
            tally: Tally::default(),
            task_end: None,
            held_end: None,
        }
    }

    /// The CLI runs: greet it, so that it says when it is ready. What a session that is resumed
    /// has cost before is no turn's of this run.
    pub(super) fn begin(&mut self) -> Vec<Effect> {
        let id = self.fresh();
        self.hello = Some(id.clone());
        let mut effects = vec![Effect::Write(protocol::request(&id, "initialize"))];
        self.ask_cost(&mut effects);
        effects
    }

    /// Whether the session to resume is gone, so that a CLI with a new one has to be started
    /// once this one has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Another CLI runs, with a new session. The prompt that the last one did not start on is
    /// given to it.
    pub(super) fn begin_anew(&mut self) -> Vec<Effect> {
        self.is_gone = false;
        self.terms.resumes = None;
        self.tally = Tally::default();
        if let Some(prompt) = self.prompt.take() {
            self.waiting.push_front((prompt.turn, prompt.text));
        }
        let is_interrupting = self.is_interrupting;
        let mut effects = self.begin();
        self.prompt_next(&mut effects);
        if is_interrupting {
            effects.extend(self.interrupt());
        }
        effects
    }

    /// A person speaks. One prompt is given to the CLI at a time, so that each has its own end.
    pub(super) fn prompt(&mut self, turn: String, text: &str) -> Vec<Effect> {
        self.waiting.push_back((turn, text.to_owned()));
        let mut effects = Vec::new();
        self.prompt_next(&mut effects);
        effects
    }

    fn prompt_next(&mut self, effects: &mut Vec<Effect>) {
        if self.prompt.is_some() {
            return;
        }
        let Some((turn, text)) = self.waiting.pop_front() else { return };
        if self.terms.mode == PermissionMode::Plan && !self.is_planning() {
            // A plan that was approved held for the turn in which it was.
            let id = self.fresh();
            let mode = permission::cli_mode(self.terms.mode);
            effects.push(Effect::Write(protocol::set_mode(&id, mode)));
        }
        let stamp = self.fresh();
        effects.push(Effect::Write(protocol::user_message(&text, &stamp)));
        self.prompt = Some(Prompt { turn, stamp, text, is_started: false });
        self.is_interrupting = false;
    }

    /// Interrupt what runs. Where the CLI has not started on the prompt yet, it is interrupted
    /// again as soon as it has.
    pub(super) fn interrupt(&mut self) -> Vec<Effect> {
        if !self.has_turn() {
            return Vec::new();
        }
        self.is_interrupting = true;
        vec![self.write_interrupt()]
    }

    /// A person has decided.
    pub(super) fn answer(
        &mut self,
        request: &str,
        allow: bool,
        words: &str,
        answers: &BTreeMap<String, String>,
    ) -> Vec<Effect> {
        let answer = self.asks.answer(request, allow, words, answers);
        answer.map(Effect::Write).into_iter().collect()
    }

    /// The run is to end: interrupt the turn and stop the background tasks, since the CLI would
    /// wait for both.
    pub(super) fn stop(&mut self) -> Vec<Effect> {
        let mut effects = self.interrupt();
        if !self.tasks.is_empty() && !self.terms.is_job {
            let told = failure::tasks_ended(self.tasks.len());
            effects.push(Effect::Say(Said::Log(wire::Stream::System, told.into_bytes())));
        }
        for task in std::mem::take(&mut self.tasks) {
            let id = self.fresh();
            effects.push(Effect::Write(protocol::stop_task(&id, &task)));
        }
        self.settle(&mut effects);
        effects
    }

    /// Nothing will begin by itself any more, or is not waited for.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.owes_turn = false;
        if let Some(ended) = self.held_end.take() {
            effects.push(Effect::Say(Said::Event(ended)));
        }
    }

    /// The CLI has not begun the turn that it owed.
    pub(super) fn expect_nothing(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.settle(&mut effects);
        effects
    }

    /// The CLI is gone: what was open ends with this message.
    pub(super) fn gone(&mut self, message: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        let outcome =
            if self.is_interrupting { TurnOutcome::Cancelled } else { TurnOutcome::Interrupted };
        // It counts for the turn that spoke last.
        let mut usage = self.tally.so_far();
        self.tally.ends(None);
        let prompt = self.prompt.take().map(|prompt| prompt.turn);
        for turn in self.own_turn.take().into_iter().chain(prompt) {
            self.end_turn(turn, outcome, message, std::mem::take(&mut usage), &mut effects);
        }
        for (turn, _) in std::mem::take(&mut self.waiting) {
            self.end_turn(turn, outcome, message, Usage::default(), &mut effects);
        }
        self.tasks.clear();
        self.settle(&mut effects);
        effects
    }

    /// Whether the run works at a single task.
    pub(super) fn is_job(&self) -> bool {
        self.terms.is_job
    }

    /// How the run's task has ended, where it is a job whose task has.
    pub(super) fn task_end(&self) -> Option<&(TurnOutcome, String)> {
        self.task_end.as_ref()
    }

    /// Whether nothing runs and nothing will begin by itself.
    pub(super) fn is_quiet(&self) -> bool {
        !self.has_turn() && self.tasks.is_empty() && !self.owes_turn
    }

    /// Whether nothing runs but a turn that the CLI is expected to begin by itself.
    pub(super) fn awaits_own_turn(&self) -> bool {
        !self.has_turn() && self.tasks.is_empty() && self.owes_turn
    }

    fn end_turn(
        &mut self,
        turn: String,
        outcome: TurnOutcome,
        message: &str,
        usage: Usage,
        effects: &mut Vec<Effect>,
    ) {
        for id in std::mem::take(&mut self.open_tools) {
            let ended = EventBody::ToolEnded { turn: turn.clone(), id, failed: true };
            effects.push(Effect::Say(Said::Event(ended)));
        }
        let withdrawn = self.asks.withdraw_all();
        effects.extend(withdrawn.map(|event| Effect::Say(Said::Event(event))));
        if let Some(text) = self.speech.close() {
            effects.push(Effect::Say(Said::Text(turn.clone(), text.into_bytes())));
        }
        self.speech = Speech::default();
        let is_task = self.terms.is_job && turn == TASK_TURN;
        if is_task {
            self.task_end = Some((outcome, message.to_owned()));
        }
        let message = (!message.is_empty()).then(|| message.to_owned());
        let ended = EventBody::TurnEnded { turn, outcome, message, usage };
        let goes_on = !self.tasks.is_empty() || self.owes_turn;
        if is_task && outcome == TurnOutcome::Succeeded && goes_on {
            self.held_end = Some(ended);
        } else {
            effects.push(Effect::Say(Said::Event(ended)));
        }
    }

    /// Whether the CLI only plans. It begins in the mode that it was started in.
    fn is_planning(&self) -> bool {
        let plan = permission::cli_mode(PermissionMode::Plan);
        self.mode.as_deref().unwrap_or(permission::cli_mode(self.terms.mode)) == plan
    }

    /// Asks what the session has cost, unless that is asked already.
    fn ask_cost(&mut self, effects: &mut Vec<Effect>) {
        if self.tally.is_to_ask() {
            let id = self.fresh();
            effects.push(Effect::Write(protocol::request(&id, "get_session_cost")));
            self.tally.asks(id);
        }
    }

    fn open_speech(&mut self) {
        if let Some(turn) = self.turn().map(str::to_owned) {
            self.tally.turn(&turn);
        }
        self.speech = Speech::default();
        self.error = None;
    }

    /// The turn that speaks now.
    fn turn(&self) -> Option<&str> {
        self.own_turn.as_deref().or(self.prompt.as_ref().map(|prompt| prompt.turn.as_str()))
    }

    fn has_turn(&self) -> bool {
        self.own_turn.is_some() || self.prompt.is_some() || !self.waiting.is_empty()
    }

    fn write_interrupt(&mut self) -> Effect {
        let id = self.fresh();
        Effect::Write(protocol::request(&id, "interrupt"))
    }

    fn fresh(&mut self) -> String {
        (self.terms.fresh)().to_string()
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
