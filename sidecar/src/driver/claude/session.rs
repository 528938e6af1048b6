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
    asks::{Asks, Follows},
    failure, permission,
    protocol::{self, Ask, Block, Lifecycle, Line, Stream, ToolResult, TurnResult},
    speech::Speech,
    title,
    usage::{Meter, Tally},
};
use crate::{
    driver::{Said, TASK_TURN},
    wire::{self, EventBody, PermissionMode, TurnOutcome, Usage},
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
            Line::Init { session, mode } => {
                self.ready(&mut effects);
                self.mode = mode.or(self.mode.take());
                self.rename(session, &mut effects);
                self.turn_begins(&mut effects);
            }
            Line::Mode { mode } => self.mode = Some(mode),
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
                if nested && self.turn().is_some() {
                    self.ask_cost(&mut effects);
                }
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
            Line::Ask(ask) => self.on_ask(*ask, &mut effects),
            Line::Withdrawn { request } => {
                let withdrawn = self.asks.withdraw(request);
                effects.extend(withdrawn.map(|event| Effect::Say(Said::Event(event))));
            }
            Line::Answered { request, text } => {
                if self.hello.as_ref() == Some(&request) {
                    self.hello = None;
                    self.ready(&mut effects);
                }
                self.on_cost(&request, text.as_deref(), &mut effects);
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
            Stream::Message { id, input } => {
                self.speech.message(id);
                self.tally.reads(*input);
            }
            Stream::Ends { input, output, goes_on } => {
                self.tally.wrote(*input, *output);
                if *goes_on && self.turn().is_some() {
                    self.ask_cost(effects);
                }
            }
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

    fn on_ask(&mut self, ask: Ask, effects: &mut Vec<Effect>) {
        let wish = permission::Request {
            tool: &ask.tool,
            needs_person: ask.needs_person,
            is_planning: self.is_planning(),
        };
        let decision = permission::decide(self.terms.mode, self.terms.is_job, wish);
        let turn = self.turn().unwrap_or_default().to_owned();
        effects.push(match self.asks.ask(ask, decision, &turn, &self.terms.workdir) {
            Follows::Answer(line) => Effect::Write(line),
            Follows::Asked(approval) => Effect::Say(Said::Event(approval)),
        });
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

    fn on_cost(&mut self, request: &str, text: Option<&str>, effects: &mut Vec<Effect>) {
        let Some((told, is_stale)) = self.tally.answered(request, text) else { return };
        if let Some((turn, usage)) = told {
            effects.push(Effect::Say(Said::Event(EventBody::Usage { turn, usage })));
        }
        if is_stale {
            self.ask_cost(effects);
        }
    }

    fn on_result(&mut self, result: &TurnResult, effects: &mut Vec<Effect>) {
        if !self.is_ready
            && failure::is_session_gone(result)
            && let Some(id) = &self.terms.resumes
        {
            let told = failure::session_gone(id);
            self.is_gone = true;
            effects.push(Effect::Say(Said::Log(wire::Stream::System, told.into_bytes())));
            return;
        }
        self.tally.ends(result.total_usd);
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
