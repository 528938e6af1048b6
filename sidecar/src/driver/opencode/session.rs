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

use super::{
    failure,
    permission::{self, Decision},
    protocol::{Answer, Event, Fault, Kind, Part, Request, Status, ToolState},
    speech::Speech,
};
use crate::{
    driver::{Said, TASK_TURN, words},
    wire::{ApprovalKind, EventBody, PermissionMode, Question, Stream, TurnOutcome, Usage},
};

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
    /// The steps of turns that are over: what still comes of them begins nothing.
    old: BTreeSet<String>,
    task_end: Option<(TurnOutcome, String)>,
}

/// A turn that is open.
#[derive(Default)]
struct Turn {
    id: String,
    /// The id of the person's message; none in a turn that the agent began.
    prompt: Option<String>,
    /// Whether the person's message stands in the session.
    is_begun: bool,
    is_interrupting: bool,
    is_idle: bool,
    /// Whether the server was asked what it does since it was idle last.
    is_checked: bool,
    /// The model's steps, by their ids.
    steps: BTreeMap<String, Answer>,
    /// Steps of subagents, which count and are not heard.
    nested: BTreeMap<String, Answer>,
    speech: Speech,
    /// The tool uses that were told of, and whether each has ended.
    tools: BTreeMap<String, bool>,
    fault: Option<Fault>,
    told: Usage,
}

/// What a person is asked.
enum Asked {
    Permission,
    Questions(Vec<Question>),
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

    /// A person has decided.
    pub(super) fn answer(
        &mut self,
        request: String,
        allow: bool,
        words: &str,
        answers: &BTreeMap<String, String>,
    ) -> Vec<Effect> {
        // An answer to what is not asked any more, or was answered before, has no effect.
        let Some(asked) = self.asked.remove(&request) else { return Vec::new() };
        vec![Effect::Call(match asked {
            Asked::Permission => {
                let refusal = (!allow).then(|| permission::refusal(words).to_owned());
                Call::Permit { request, refusal }
            }
            Asked::Questions(questions) => {
                let answers = replies(&questions, allow, words, answers);
                Call::Reply { request, answers }
            }
        })]
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
            // What was answered may not be waited for any more.
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

    /// Of all that is asked only these requests still wait.
    pub(super) fn only_wait(&mut self, requests: &BTreeSet<String>) -> Vec<Effect> {
        let gone: Vec<_> =
            self.asked.keys().filter(|request| !requests.contains(*request)).cloned().collect();
        let mut effects = Vec::new();
        for request in gone {
            self.withdraw(request, &mut effects);
        }
        effects
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

    /// The server says something.
    pub(super) fn on_event(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Answer { session, answer } if session == self.id => {
                self.on_step(answer, &mut effects);
            }
            Event::Answer { answer, .. } => {
                if let Some(turn) = self.turn.as_mut().filter(|_| !answer.id.is_empty()) {
                    turn.nested.insert(answer.id.clone(), answer);
                    self.tell_usage(&mut effects);
                }
            }
            Event::Prompted { message, .. } => {
                if let Some(turn) = &mut self.turn
                    && turn.prompt.as_ref() == Some(&message)
                {
                    turn.is_begun = true;
                }
            }
            Event::Part { session, message, part } => {
                self.on_part(session == self.id, &message, part, &mut effects);
            }
            Event::Delta { session, part, text, .. } if session == self.id => {
                let said = self.turn.as_mut().and_then(|turn| turn.speech.delta(&part, &text));
                if let Some((kind, text)) = said {
                    self.utter(kind, Some(text), &mut effects);
                }
            }
            Event::Status { session, status } if session == self.id => {
                self.on_status(status, &mut effects);
            }
            Event::Failed { session, fault } if session == self.id => {
                // A fault of the turn before may come late, and is none of this one.
                if let Some(turn) = self.turn.as_mut().filter(|turn| turn.is_begun) {
                    turn.fault.get_or_insert(fault);
                }
            }
            Event::Asked(request) => self.on_request(request, &mut effects),
            Event::Questioned { request, questions, input } => {
                self.on_questions(request, questions, input, &mut effects);
            }
            Event::Settled { request } => self.withdraw(request, &mut effects),
            Event::Delta { .. } | Event::Status { .. } | Event::Failed { .. } | Event::Other => {}
        }
        self.settle(&mut effects);
        effects
    }

    fn on_step(&mut self, step: Answer, effects: &mut Vec<Effect>) {
        if step.id.is_empty() || self.old.contains(&step.id) {
            return;
        }
        if self.turn.is_none() {
            if step.is_complete {
                return;
            }
            let id = (self.terms.fresh)().to_string();
            let origin = Some("agent".to_owned());
            effects.push(say(EventBody::TurnAccepted { turn: id.clone(), origin }));
            self.turn = Some(Turn { id, is_begun: true, ..Turn::default() });
        }
        let Some(turn) = &mut self.turn else { return };
        let is_known = turn.steps.contains_key(&step.id);
        let answers = turn.prompt.as_ref() == Some(&step.parent);
        if step.is_complete && !is_known && !answers {
            // Read anew after a gap: of a turn long ago.
            return;
        }
        let is_new = turn.steps.insert(step.id.clone(), step).is_none();
        turn.is_begun = true;
        if is_new {
            turn.is_idle = false;
            if turn.is_interrupting {
                effects.push(Effect::Call(Call::Abort));
            }
        }
        self.tell_usage(effects);
    }

    fn on_part(&mut self, is_ours: bool, message: &str, part: Part, effects: &mut Vec<Effect>) {
        let Some(turn) = &mut self.turn else { return };
        match part {
            // What a subagent says is said to the agent; what a person says is known.
            Part::Said { id, kind, text, .. } if is_ours && turn.steps.contains_key(message) => {
                let said = turn.speech.part(&id, kind, &text);
                self.utter(kind, said, effects);
            }
            Part::Tool { .. } if is_ours && !turn.steps.contains_key(message) => {}
            Part::Tool { call, name, state, input } => match state {
                ToolState::Pending => {}
                ToolState::Running => self.tool_begins(&call, name, &input, effects),
                ToolState::Ended { failed } => {
                    self.tool_begins(&call, name, &input, effects);
                    self.tool_ends(call, failed, effects);
                }
            },
            Part::Said { .. } | Part::Other => {}
        }
    }

    fn tool_begins(
        &mut self,
        call: &str,
        name: String,
        input: &serde_json::Value,
        effects: &mut Vec<Effect>,
    ) {
        let Some(turn) = &mut self.turn else { return };
        // A use is told of with its first state that is no mere intention, and ends once.
        if turn.tools.contains_key(call) {
            return;
        }
        turn.tools.insert(call.to_owned(), false);
        let title = permission::tool_title(&name, input, &self.terms.workdir);
        let turn = turn.id.clone();
        effects.push(say(EventBody::Tool { turn, id: call.to_owned(), name, title }));
    }

    fn tool_ends(&mut self, call: String, failed: bool, effects: &mut Vec<Effect>) {
        let Some(turn) = &mut self.turn else { return };
        if let Some(has_ended @ false) = turn.tools.get_mut(&call) {
            *has_ended = true;
            effects.push(say(EventBody::ToolEnded { turn: turn.id.clone(), id: call, failed }));
        }
    }

    fn utter(&self, kind: Kind, said: Option<String>, effects: &mut Vec<Effect>) {
        let (Some(said), Some(turn)) = (said, &self.turn) else { return };
        effects.push(Effect::Say(match kind {
            Kind::Text => Said::Text(turn.id.clone(), said.into_bytes()),
            Kind::Thought => Said::Thought(turn.id.clone(), said.into_bytes()),
        }));
    }

    fn on_status(&mut self, status: Status, effects: &mut Vec<Effect>) {
        let now = (self.terms.now_ms)();
        let Some(turn) = &mut self.turn else { return };
        match status {
            Status::Idle => turn.is_idle = turn.is_begun,
            Status::Busy => {
                // An interrupt that came before the session worked was not heard.
                if turn.is_interrupting && turn.is_idle {
                    effects.push(Effect::Call(Call::Abort));
                }
                turn.is_idle = false;
            }
            Status::Retry { attempt, message, next_ms } => {
                turn.is_idle = false;
                let delay_ms = u64::try_from(next_ms.saturating_sub(now)).unwrap_or_default();
                let message = failure::of_retry(&message);
                // It is tried for ever.
                effects.push(say(EventBody::Retry { attempt, of: 0, message, delay_ms }));
            }
        }
        turn.is_checked &= turn.is_idle;
    }

    fn on_request(&mut self, request: Request, effects: &mut Vec<Effect>) {
        if self.asked.contains_key(&request.id) {
            return;
        }
        match permission::decide(self.terms.mode) {
            Decision::Allow => {
                effects.push(Effect::Call(Call::Permit { request: request.id, refusal: None }));
            }
            Decision::Deny(why) => {
                let refusal = Some(why.to_owned());
                effects.push(Effect::Call(Call::Permit { request: request.id, refusal }));
            }
            Decision::Ask => {
                effects.push(say(EventBody::Approval {
                    turn: self.turn_id(),
                    request: request.id.clone(),
                    tool: request.permission.clone(),
                    title: permission::title(&request, &self.terms.workdir),
                    input: words::fitting(&permission::input(&request)),
                    kind: ApprovalKind::Tool,
                    rule: permission::rule(&request),
                    questions: Vec::new(),
                }));
                self.asked.insert(request.id, Asked::Permission);
            }
        }
    }

    fn on_questions(
        &mut self,
        request: String,
        questions: Vec<Question>,
        input: serde_json::Value,
        effects: &mut Vec<Effect>,
    ) {
        if self.asked.contains_key(&request) {
            return;
        }
        match permission::decide_on_questions(self.terms.mode, self.terms.is_job) {
            Decision::Deny(why) => {
                let answers = questions.iter().map(|_| vec![why.to_owned()]).collect();
                effects.push(Effect::Call(Call::Reply { request, answers }));
            }
            Decision::Allow | Decision::Ask => {
                let input = serde_json::json!({"questions": input});
                effects.push(say(EventBody::Approval {
                    turn: self.turn_id(),
                    request: request.clone(),
                    tool: "question".to_owned(),
                    title: permission::tool_title("question", &input, &self.terms.workdir),
                    input: words::fitting(&input),
                    kind: ApprovalKind::Question,
                    rule: None,
                    questions: questions.clone(),
                }));
                self.asked.insert(request, Asked::Questions(questions));
            }
        }
    }

    fn turn_id(&self) -> String {
        self.turn.as_ref().map(|turn| turn.id.clone()).unwrap_or_default()
    }

    fn withdraw(&mut self, request: String, effects: &mut Vec<Effect>) {
        if self.asked.remove(&request).is_some() {
            effects.push(say(EventBody::ApprovalWithdrawn { request }));
        }
    }

    fn tell_usage(&mut self, effects: &mut Vec<Effect>) {
        let Some(turn) = &mut self.turn else { return };
        let usage = turn.usage();
        if usage != turn.told {
            turn.told = usage;
            effects.push(say(EventBody::Usage { turn: turn.id.clone(), usage }));
        }
    }

    /// Ends the turn if it is over. Where it may be and that is not clear, the server is asked.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        let Some(turn) = &mut self.turn else { return };
        if !turn.is_begun || !turn.is_idle {
            return;
        }
        let is_complete = turn.steps.values().all(|step| step.is_complete);
        if is_complete && !turn.steps.is_empty() {
            self.conclude(effects);
        } else if !std::mem::replace(&mut turn.is_checked, true) {
            effects.push(Effect::Call(Call::Check { turn: turn.id.clone() }));
        }
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

impl Turn {
    fn usage(&self) -> Usage {
        let steps = || self.steps.values().chain(self.nested.values());
        Usage {
            cost_micro_usd: (steps().map(|step| step.usd).sum::<f64>().max(0.0) * 1e6).round()
                as u64,
            input_tokens: steps().map(|step| step.input).sum(),
            output_tokens: steps().map(|step| step.output).sum(),
        }
    }

    fn verdict(&self) -> (TurnOutcome, String) {
        let last = self.steps.values().next_back();
        let fault = self.fault.as_ref().or_else(|| last.and_then(|step| step.fault.as_ref()));
        let is_finished = last.is_some_and(|step| step.finish == "stop");
        match fault {
            Some(fault) if fault.is_abort() => (TurnOutcome::Cancelled, String::new()),
            _ if self.is_interrupting && !is_finished => (TurnOutcome::Cancelled, String::new()),
            Some(fault) => (TurnOutcome::Failed, failure::of_turn(fault)),
            None if last.is_none() => (TurnOutcome::Failed, failure::NO_ANSWER.to_owned()),
            None => (TurnOutcome::Succeeded, String::new()),
        }
    }
}

fn say(event: EventBody) -> Effect {
    Effect::Say(Said::Event(event))
}

/// A person's answers in the order of the questions. What was not answered is said to be so, in
/// words that let the model go on.
fn replies(
    questions: &[Question],
    allow: bool,
    words: &str,
    answers: &BTreeMap<String, String>,
) -> Vec<Vec<String>> {
    let one = |question: &Question| {
        let given = answers.get(&question.text).map(|answer| answer.trim());
        match given.filter(|answer| allow && !answer.is_empty()) {
            Some(answer) if question.many && !question.options.iter().any(|it| it == answer) => {
                answer.split(',').map(|part| part.trim().to_owned()).collect()
            }
            Some(answer) => vec![answer.to_owned()],
            None => vec![permission::no_answer(words).to_owned()],
        }
    };
    questions.iter().map(one).collect()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
