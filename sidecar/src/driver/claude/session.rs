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
    failure,
    permission::{self, Decision},
    protocol::{self, Block, Lifecycle, Line, Stream, ToolResult, TurnResult},
    speech::Speech,
    title,
    usage::Meter,
};
use crate::{
    driver::{Said, TASK_TURN, words},
    wire::{ApprovalKind, EventBody, PermissionMode, TurnOutcome, Usage},
};

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
    asked: BTreeMap<String, Asked>,
    /// The error of the last message of the model.
    error: Option<String>,
    is_interrupting: bool,
    tasks: BTreeSet<String>,
    /// Whether the CLI still has to tell its model that a task has ended.
    owes_turn: bool,
    meter: Meter,
    task_end: Option<(TurnOutcome, String)>,
    /// The end of the task's turn, kept back until its background tasks have ended as well:
    /// upon it the run is ended.
    held_end: Option<EventBody>,
}

struct Prompt {
    turn: String,
    stamp: String,
    is_started: bool,
}

struct Asked {
    tool: String,
    input: Value,
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
            asked: BTreeMap::new(),
            error: None,
            is_interrupting: false,
            tasks: BTreeSet::new(),
            owes_turn: false,
            meter: Meter::default(),
            task_end: None,
            held_end: None,
        }
    }

    /// The CLI runs: greet it, so that it says when it is ready.
    pub(super) fn begin(&mut self) -> Vec<Effect> {
        let id = self.fresh();
        self.hello = Some(id.clone());
        vec![Effect::Write(protocol::request(&id, "initialize"))]
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
        let stamp = self.fresh();
        effects.push(Effect::Write(protocol::user_message(&text, &stamp)));
        self.prompt = Some(Prompt { turn, stamp, is_started: false });
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
    pub(super) fn answer(&mut self, request: &str, allow: bool, words: &str) -> Vec<Effect> {
        // An answer to what is not asked any more, or was answered before, has no effect.
        let Some(asked) = self.asked.remove(request) else { return Vec::new() };
        let input =
            allow.then(|| permission::allowed_input(&asked.tool, &asked.input, words)).flatten();
        vec![Effect::Write(match input {
            Some(input) => protocol::allow(request, &input),
            None => protocol::deny(request, permission::refusal(&asked.tool, words)),
        })]
    }

    /// The run is to end: interrupt the turn and stop the background tasks, since the CLI would
    /// wait for both.
    pub(super) fn stop(&mut self) -> Vec<Effect> {
        let mut effects = self.interrupt();
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
        if let Some(turn) = self.own_turn.take() {
            self.end_turn(turn, outcome, message, Usage::default(), &mut effects);
        }
        if let Some(prompt) = self.prompt.take() {
            self.end_turn(prompt.turn, outcome, message, Usage::default(), &mut effects);
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

    /// The CLI has printed a line.
    pub(super) fn on_line(&mut self, line: Line) -> Vec<Effect> {
        let mut effects = Vec::new();
        match line {
            Line::Init { session } => {
                self.ready(&mut effects);
                self.rename(session, &mut effects);
                self.turn_begins(&mut effects);
            }
            Line::Reset { session } => self.rename(session, &mut effects),
            Line::Retry { attempt, of, delay_ms, status, kind } => {
                let message = failure::of_retry(status, &kind);
                let retry = EventBody::Retry { attempt, of, message, delay_ms };
                effects.push(Effect::Say(Said::Event(retry)));
            }
            Line::Lifecycle { uuid, state } => self.on_lifecycle(&uuid, state, &mut effects),
            Line::Tasks(tasks) => self.on_tasks(tasks.into_iter().collect()),
            Line::TaskEnded { task } => {
                if self.tasks.remove(&task) {
                    self.owes_turn = true;
                }
            }
            Line::Stream(stream) => self.on_stream(&stream, &mut effects),
            Line::Assistant { message, blocks, nested, error } => {
                self.error = error;
                for block in blocks {
                    self.on_block(&message, block, nested, &mut effects);
                }
            }
            Line::ToolResults(results) => {
                for result in results {
                    self.tool_ended(result, &mut effects);
                }
            }
            Line::Result(result) => self.on_result(&result, &mut effects),
            Line::Ask { request, tool, input, needs_person } => {
                let wish = permission::Request { tool: &tool, needs_person };
                let decision = permission::decide(self.terms.mode, self.terms.is_job, wish);
                self.on_ask(request, Asked { tool, input }, decision, &mut effects);
            }
            Line::Withdrawn { request } => self.withdraw(request, &mut effects),
            Line::Answered { request } => {
                if self.hello.as_ref() == Some(&request) {
                    self.hello = None;
                    self.ready(&mut effects);
                }
            }
            Line::Foreign { request, subtype } => {
                effects.push(Effect::Write(protocol::unsupported(&request, &subtype)));
            }
            Line::Other | Line::Noise(_) => {}
        }
        self.prompt_next(&mut effects);
        if self.is_quiet() {
            self.settle(&mut effects);
        }
        effects
    }

    fn ready(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_ready {
            self.is_ready = true;
            effects.push(Effect::Say(Said::Event(EventBody::Ready {})));
        }
    }

    fn rename(&mut self, session: Option<String>, effects: &mut Vec<Effect>) {
        if let Some(id) = session
            && self.id.as_ref() != Some(&id)
        {
            self.id = Some(id.clone());
            effects.push(Effect::Say(Said::Event(EventBody::Session { id })));
        }
    }

    fn turn_begins(&mut self, effects: &mut Vec<Effect>) {
        if self.own_turn.is_some() {
            return;
        }
        let tells = self.tells_lifecycle;
        match &mut self.prompt {
            Some(prompt) if prompt.is_started || !tells => {
                prompt.is_started = true;
                self.open_speech();
                if self.is_interrupting {
                    effects.push(self.write_interrupt());
                }
            }
            _ => {
                let turn = self.fresh();
                self.own_turn = Some(turn.clone());
                self.owes_turn = false;
                self.open_speech();
                let origin = Some("agent".to_owned());
                effects.push(Effect::Say(Said::Event(EventBody::TurnAccepted { turn, origin })));
            }
        }
    }

    fn on_lifecycle(&mut self, uuid: &str, state: Lifecycle, effects: &mut Vec<Effect>) {
        self.tells_lifecycle = true;
        let Some(prompt) = self.prompt.as_mut().filter(|prompt| prompt.stamp == uuid) else {
            return;
        };
        match state {
            Lifecycle::Started => {
                prompt.is_started = true;
                // The prompt was folded into the turn that the CLI had begun by itself: from
                // here on it is the person's.
                if let Some(turn) = self.own_turn.take() {
                    let usage = Usage::default();
                    self.end_turn(turn, TurnOutcome::Succeeded, "", usage, effects);
                    self.open_speech();
                }
            }
            Lifecycle::Cancelled if !prompt.is_started => {
                let turn = std::mem::take(&mut prompt.turn);
                self.prompt = None;
                let usage = Usage::default();
                self.end_turn(turn, TurnOutcome::Cancelled, "", usage, effects);
            }
            Lifecycle::Queued | Lifecycle::Completed | Lifecycle::Cancelled => {}
        }
    }

    fn on_tasks(&mut self, tasks: BTreeSet<String>) {
        if self.tasks.difference(&tasks).next().is_some() {
            self.owes_turn = true;
        }
        self.tasks = tasks;
    }

    fn on_stream(&mut self, stream: &Stream, effects: &mut Vec<Effect>) {
        match stream {
            Stream::Message { id } => self.speech.message(id),
            Stream::Block { kind, text } => {
                let piece = self.speech.block(*kind, text);
                self.utter(*kind, piece, effects);
            }
            Stream::Delta { kind, text } => {
                let piece = self.speech.delta(*kind, text);
                self.utter(*kind, piece, effects);
            }
        }
    }

    fn on_block(&mut self, message: &str, block: Block, nested: bool, out: &mut Vec<Effect>) {
        match block {
            // What a subagent says is said to the agent. What an error says stands in the
            // turn's end.
            Block::Said { .. } if nested || self.error.is_some() => {}
            Block::Said { kind, text } => {
                let piece = self.speech.finished(message, kind, &text);
                self.utter(kind, piece, out);
            }
            Block::Tool { id, name, input } => {
                let Some(turn) = self.turn() else { return };
                let title = title::title(&name, &input, &self.terms.workdir);
                let tool = EventBody::Tool { turn: turn.to_owned(), id: id.clone(), name, title };
                self.open_tools.insert(id);
                out.push(Effect::Say(Said::Event(tool)));
            }
            Block::ToolEnded(result) => self.tool_ended(result, out),
        }
    }

    fn tool_ended(&mut self, result: ToolResult, effects: &mut Vec<Effect>) {
        if !self.open_tools.remove(&result.id) {
            return;
        }
        if let Some(turn) = self.turn() {
            let turn = turn.to_owned();
            let ended = EventBody::ToolEnded { turn, id: result.id, failed: result.failed };
            effects.push(Effect::Say(Said::Event(ended)));
        }
    }

    fn utter(&self, kind: protocol::Kind, piece: Option<String>, effects: &mut Vec<Effect>) {
        let (Some(piece), Some(turn)) = (piece, self.turn()) else { return };
        let turn = turn.to_owned();
        effects.push(Effect::Say(match kind {
            protocol::Kind::Text => Said::Text(turn, piece.into_bytes()),
            protocol::Kind::Thought => Said::Thought(turn, piece.into_bytes()),
        }));
    }

    fn on_ask(&mut self, id: String, asked: Asked, decision: Decision, out: &mut Vec<Effect>) {
        match decision {
            Decision::Allow => out.push(Effect::Write(protocol::allow(&id, &asked.input))),
            Decision::Deny(why) => out.push(Effect::Write(protocol::deny(&id, why))),
            Decision::Ask => {
                let approval = EventBody::Approval {
                    turn: self.turn().unwrap_or_default().to_owned(),
                    request: id.clone(),
                    tool: asked.tool.clone(),
                    title: title::title(&asked.tool, &asked.input, &self.terms.workdir),
                    input: words::fitting(&asked.input),
                    kind: ApprovalKind::Tool,
                    rule: None,
                    questions: Vec::new(),
                };
                self.asked.insert(id, asked);
                out.push(Effect::Say(Said::Event(approval)));
            }
        }
    }

    fn withdraw(&mut self, request: String, effects: &mut Vec<Effect>) {
        if self.asked.remove(&request).is_some() {
            effects.push(Effect::Say(Said::Event(EventBody::ApprovalWithdrawn { request })));
        }
    }

    fn on_result(&mut self, result: &TurnResult, effects: &mut Vec<Effect>) {
        self.rename(result.session.clone(), effects);
        let usage = self.meter.share(result.usage);
        let (outcome, message) = self.verdict(result);
        self.error = None;
        if self.answers_prompt(result) {
            if let Some(turn) = self.own_turn.take() {
                self.end_turn(turn, outcome, &message, Usage::default(), effects);
            }
            if let Some(prompt) = self.prompt.take() {
                self.say_unsaid(result, &prompt.turn, effects);
                self.end_turn(prompt.turn, outcome, &message, usage, effects);
            }
        } else if let Some(turn) = self.own_turn.take() {
            self.say_unsaid(result, &turn, effects);
            self.end_turn(turn, outcome, &message, usage, effects);
        }
        if !self.has_turn() {
            self.is_interrupting = false;
        }
    }

    /// Whether a result ends the person's turn: it names its stamp; or it names none, and no
    /// other turn can be meant.
    fn answers_prompt(&self, result: &TurnResult) -> bool {
        let Some(prompt) = &self.prompt else { return false };
        if result.answers.contains(&prompt.stamp) {
            return true;
        }
        let is_started = prompt.is_started || !self.tells_lifecycle;
        let is_agents = result.origin.as_deref().is_some_and(|origin| origin != "human");
        result.answers.is_empty() && is_started && !is_agents && self.own_turn.is_none()
    }

    fn verdict(&self, result: &TurnResult) -> (TurnOutcome, String) {
        if result.terminal_reason.starts_with("aborted") {
            return (TurnOutcome::Cancelled, String::new());
        }
        if result.is_error || result.subtype.starts_with("error") {
            if self.is_interrupting && result.api_status.is_none() && self.error.is_none() {
                return (TurnOutcome::Cancelled, String::new());
            }
            return (TurnOutcome::Failed, failure::of_turn(result, self.error.as_deref()));
        }
        (TurnOutcome::Succeeded, String::new())
    }

    /// Some answers (those of slash commands) come in the result alone.
    fn say_unsaid(&mut self, result: &TurnResult, turn: &str, effects: &mut Vec<Effect>) {
        if result.is_error || result.text.is_empty() || self.speech.has_text() {
            return;
        }
        let kind = protocol::Kind::Text;
        if let Some(text) = self.speech.finished("", kind, &result.text) {
            effects.push(Effect::Say(Said::Text(turn.to_owned(), text.into_bytes())));
        }
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
        for request in std::mem::take(&mut self.asked).into_keys() {
            effects.push(Effect::Say(Said::Event(EventBody::ApprovalWithdrawn { request })));
        }
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

    fn open_speech(&mut self) {
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
