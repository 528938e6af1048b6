//! One conversation with an ACP agent, as a machine without hands: lines and orders in, effects
//! out. What it decides rests on nothing but what it was given, so that every test of it is a
//! list of lines.
//!
//! A turn is a request, and its end is that request's answer: so there is nothing to count, and
//! nothing that an agent says between two turns can end one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES, ContentBlock, Error, NoticeSeverity, PromptRequest, SessionInfoUpdate,
    SessionNotification, SessionUpdate, StopReason, TextContent,
};
use serde_json::Value;

use self::asks::Asked;
use super::{
    failure::{Agent, said},
    opening::{Opening, Step, Wanted},
    protocol::{self, Line},
    turn::{self, Turn},
    usage::Meter,
};
use crate::{
    driver::{Said, TASK_TURN, words},
    wire::{EventBody, Permissions, Stream, TurnOutcome, Usage},
};

mod asks;
#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

/// How long an agent may be silent before it has a session: some fetch themselves first.
const OPENING: Duration = Duration::from_secs(180);
/// How long it has to be silent before a replayed history counts as over.
const SETTLED: Duration = Duration::from_millis(250);
/// After how many lines a replayed history counts as over, silent or not.
const MOST_REPLAYED: u32 = 10_000;
/// How many notices are known, so that each is told once.
const MOST_NOTICES: usize = 100;

/// What the hands are to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// Say this to the server.
    Say(Said),
    /// Write this line to the agent.
    Write(Value),
    /// Take down which processes there are: a turn begins.
    Watch,
    /// End the commands that the turn has left running.
    Sweep,
    /// The agent cannot be used, for this reason.
    Fail(String),
}

/// What the conversation is about.
pub(super) struct Terms {
    /// What the agent was started as.
    pub program: String,
    /// How to answer requests.
    pub permissions: Permissions,
    /// Whether the run works at a single task.
    pub is_job: bool,
    /// Where the agent works.
    pub workdir: String,
    /// The session to resume.
    pub session: Option<String>,
    /// The model, where it is not the agent's own choice.
    pub model: Option<String>,
    /// What is put in front of a session's first prompt.
    pub instructions: Option<String>,
    /// Makes a name for a request that a person is to answer. Agents count theirs from zero in
    /// each process, and an answer that comes late must not meet another request.
    pub fresh: Box<dyn FnMut() -> String + Send + Sync>,
}

/// The machine.
pub(super) struct Session {
    terms: Terms,
    opening: Opening,
    stage: Stage,
    next_id: u64,
    /// Prompts that wait for the session or for the last one's end, with their turns.
    waiting: VecDeque<(String, String)>,
    /// The turn that runs, and the id of its request.
    open: Option<(u64, Turn)>,
    /// What waits for a person, by our names.
    asked: BTreeMap<String, Asked>,
    is_interrupting: bool,
    /// What the agent gave notice of: some do so again in every turn.
    notices: BTreeSet<String>,
    /// Whether text without a message's id is not the model's: so it is with Codex.
    holds_text: bool,
    meter: Meter,
    task_end: Option<(TurnOutcome, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The request with this id is to be answered first.
    Opening(u64),
    /// So many lines of a history have come.
    Settling(u32),
    Open,
    Failed,
}

impl Session {
    pub(super) fn new(terms: Terms) -> Self {
        let wanted = Wanted {
            workdir: terms.workdir.clone(),
            session: terms.session.clone(),
            mode: terms.permissions.mode,
            model: terms.model.clone(),
        };
        Self {
            opening: Opening::new(terms.program.clone(), wanted),
            terms,
            stage: Stage::Opening(0),
            next_id: 0,
            waiting: VecDeque::new(),
            open: None,
            asked: BTreeMap::new(),
            is_interrupting: false,
            notices: BTreeSet::new(),
            holds_text: false,
            meter: Meter::default(),
            task_end: None,
        }
    }

    /// The agent runs: greet it.
    pub(super) fn begin(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let step = self.opening.begin();
        self.take(vec![step], &mut effects);
        effects
    }

    /// A person speaks.
    pub(super) fn prompt(&mut self, turn: String, text: String) -> Vec<Effect> {
        self.waiting.push_back((turn, text));
        let mut effects = Vec::new();
        self.prompt_next(&mut effects);
        effects
    }

    fn prompt_next(&mut self, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Open || self.open.is_some() {
            return;
        }
        let Some((turn, text)) = self.waiting.pop_front() else { return };
        let Some(session) = self.opening.session.clone() else { return };
        let mut blocks = Vec::new();
        if std::mem::take(&mut self.opening.is_new) {
            // Only now is there something in the session that is worth coming back to.
            effects.push(event(EventBody::Session { id: session.clone() }));
            let instructions = self.terms.instructions.clone();
            blocks.extend(instructions.filter(|text| !text.trim().is_empty()));
        }
        blocks.push(text);
        let blocks = blocks.into_iter().map(|text| ContentBlock::Text(TextContent::new(text)));
        let request = PromptRequest::new(session, blocks.collect());
        let id = self.fresh();
        effects.push(Effect::Watch);
        effects.push(write(protocol::request(id, AGENT_METHOD_NAMES.session_prompt, &request)));
        self.meter.begin();
        self.is_interrupting = false;
        self.open = Some((id, Turn::new(turn)));
    }

    /// Interrupt what runs. What waits is not begun any more.
    pub(super) fn interrupt(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (turn, _) in std::mem::take(&mut self.waiting) {
            self.end(Turn::new(turn), TurnOutcome::Cancelled, "", Usage::default(), &mut effects);
        }
        if self.open.is_none() {
            return effects;
        }
        self.is_interrupting = true;
        let session = self.opening.session.clone().unwrap_or_default();
        effects.push(write(protocol::cancel(&session)));
        self.withdraw_all(&mut effects);
        effects
    }

    /// The agent is gone: what was open ends with this message.
    pub(super) fn gone(&mut self, message: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        let outcome = match self.stage {
            Stage::Failed => TurnOutcome::Failed,
            _ => TurnOutcome::Interrupted,
        };
        if let Some((_, turn)) = self.open.take() {
            let outcome = if self.is_interrupting { TurnOutcome::Cancelled } else { outcome };
            let usage = Usage { cost_micro_usd: self.meter.share(), ..Usage::default() };
            self.end(turn, outcome, message, usage, &mut effects);
        }
        for (turn, _) in std::mem::take(&mut self.waiting) {
            self.end(Turn::new(turn), outcome, message, Usage::default(), &mut effects);
        }
        self.withdraw_all(&mut effects);
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

    /// Who speaks.
    pub(super) fn agent(&self) -> &Agent {
        &self.opening.agent
    }

    /// How long silence says nothing; none while it never does.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self.stage {
            Stage::Opening(_) => Some(OPENING),
            Stage::Settling(_) => Some(SETTLED),
            Stage::Open | Stage::Failed => None,
        }
    }

    /// The agent was silent for as long.
    pub(super) fn on_silence(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.stage {
            Stage::Opening(_) => {
                let why = self.opening.agent.of_silence();
                self.fail(why, &mut effects);
            }
            Stage::Settling(_) => self.ready(&mut effects),
            Stage::Open | Stage::Failed => {}
        }
        effects
    }

    /// The agent has printed a line.
    pub(super) fn on_line(&mut self, line: Line) -> Vec<Effect> {
        let mut effects = Vec::new();
        match line {
            Line::Update(update) => self.on_update(*update, &mut effects),
            Line::Ask { id, request } => self.on_ask(id, *request, &mut effects),
            Line::Elicit { id, form } => self.on_form(id, &form, &mut effects),
            Line::Refused { id, error } => effects.push(write(protocol::refuse(&id, &error))),
            Line::Withdrawn { id } => self.withdraw(&id, &mut effects),
            Line::Answer { id, result } => self.on_answer(id, result, &mut effects),
            Line::Other => {}
            Line::Noise(bytes) => {
                if !bytes.trim_ascii().is_empty() {
                    effects
                        .push(Effect::Say(Said::Log(Stream::Stdout, [&bytes[..], b"\n"].concat())));
                }
            }
        }
        if let Stage::Settling(lines) = self.stage {
            if lines >= MOST_REPLAYED {
                self.ready(&mut effects);
            } else {
                self.stage = Stage::Settling(lines + 1);
            }
        }
        self.prompt_next(&mut effects);
        effects
    }

    fn on_answer(&mut self, id: u64, answer: Result<Value, Error>, out: &mut Vec<Effect>) {
        if self.stage == Stage::Opening(id) {
            match self.opening.on_answer(answer) {
                Ok(steps) => self.take(steps, out),
                Err(why) => self.fail(why, out),
            }
        } else if let Some((_, turn)) = self.open.take_if(|(open, _)| *open == id) {
            self.on_end(turn, answer, out);
        }
    }

    fn take(&mut self, steps: Vec<Step>, effects: &mut Vec<Effect>) {
        for step in steps {
            match step {
                Step::Send(method, params) => {
                    let id = self.fresh();
                    self.stage = Stage::Opening(id);
                    effects.push(write(protocol::request(id, method, &params)));
                }
                Step::Say(text) => effects.push(log(&text)),
                Step::Settle => self.stage = Stage::Settling(0),
                Step::Ready => self.ready(effects),
            }
        }
    }

    fn ready(&mut self, effects: &mut Vec<Effect>) {
        self.stage = Stage::Open;
        if let Some(id) = self.opening.session.clone().filter(|_| !self.opening.is_new) {
            effects.push(event(EventBody::Session { id }));
        }
        effects.push(event(EventBody::Ready {}));
        self.prompt_next(effects);
    }

    fn fail(&mut self, why: String, effects: &mut Vec<Effect>) {
        self.stage = Stage::Failed;
        effects.push(Effect::Fail(why));
    }

    fn on_update(&mut self, update: SessionNotification, effects: &mut Vec<Effect>) {
        // What others say in sessions of their own is said to the agent.
        if self.opening.session.as_deref().is_some_and(|id| *id != *update.session_id.0) {
            return;
        }
        let update = match update.update {
            SessionUpdate::UsageUpdate(usage) => {
                if let Some(cost) = usage.cost.filter(|cost| cost.currency == "USD") {
                    self.on_cost(cost.amount, effects);
                }
                return;
            }
            SessionUpdate::Notice(notice) => {
                let description = notice.description.unwrap_or_default();
                let text = format!("{} {description}", notice.title);
                let text = words::one_line(&text, 1000);
                // What is only nice to know would stand in every turn.
                let matters =
                    matches!(notice.severity, NoticeSeverity::Warning | NoticeSeverity::Error);
                if matters && self.notices.len() < MOST_NOTICES && self.notices.insert(text.clone())
                {
                    effects.push(log(&text));
                }
                return;
            }
            update => update,
        };
        // A replayed history was shown when it happened.
        if self.stage != Stage::Open {
            return;
        }
        let mut said = Vec::new();
        match (&mut self.open, update) {
            (Some((_, turn)), SessionUpdate::AgentMessageChunk(chunk)) => {
                turn.on_text(&chunk, self.holds_text, &mut said);
            }
            (None, SessionUpdate::AgentMessageChunk(chunk)) => {
                // Nobody asked for it, and nothing would say where it ends.
                let text = turn::text_of(&chunk.content);
                said.push(Said::Log(Stream::Stdout, text.into_bytes()));
            }
            (Some((_, turn)), SessionUpdate::AgentThoughtChunk(chunk)) => {
                turn.on_thought(&turn::text_of(&chunk.content), &mut said);
            }
            (Some((_, turn)), SessionUpdate::ToolCall(call)) => turn.on_tool(call, &mut said),
            (Some((_, turn)), SessionUpdate::ToolCallUpdate(update)) => {
                turn.on_tool_update(update, &mut said);
            }
            (Some((_, turn)), SessionUpdate::Plan(plan)) => turn.on_plan(&plan, &mut said),
            (_, SessionUpdate::SessionInfoUpdate(info)) => self.on_info(&info, effects),
            _ => {}
        }
        effects.extend(said.into_iter().map(Effect::Say));
    }

    fn on_cost(&mut self, usd: f64, effects: &mut Vec<Effect>) {
        let before = self.meter.share();
        let cost_micro_usd = self.meter.tell(usd);
        if let Some((_, turn)) = &self.open
            && cost_micro_usd != before
        {
            let usage = Usage { cost_micro_usd, ..Usage::default() };
            effects.push(event(EventBody::Usage { turn: turn.id().to_owned(), usage }));
        }
    }

    /// Codex says here what the protocol has no word for: that its model fails, or is tried again.
    fn on_info(&mut self, info: &SessionInfoUpdate, effects: &mut Vec<Effect>) {
        let Some(codex) = info.meta.as_ref().and_then(|meta| meta.get("codex")) else { return };
        self.holds_text = true;
        if let (Some((_, turn)), Some(status)) =
            (&mut self.open, codex["threadStatus"]["type"].as_str())
        {
            match status {
                "systemError" => turn.set_broken(true),
                "active" => turn.set_broken(false),
                _ => {}
            }
        }
        let error = &codex["error"];
        if error["willRetry"] == true {
            effects.push(event(retry(error)));
        }
    }

    fn on_end(&mut self, turn: Turn, answer: Result<Value, Error>, effects: &mut Vec<Effect>) {
        let (outcome, message, usage) = match &answer {
            Ok(answer) => {
                let (outcome, message) = self.verdict(&turn, answer);
                (outcome, message, self.meter.usage(answer))
            }
            Err(error) => {
                let usage = Usage { cost_micro_usd: self.meter.share(), ..Usage::default() };
                match self.is_interrupting {
                    true => (TurnOutcome::Cancelled, String::new(), usage),
                    false => (TurnOutcome::Failed, self.opening.agent.of_turn(error), usage),
                }
            }
        };
        let sweeps = self.is_interrupting && turn.has_run_commands();
        self.withdraw_all(effects);
        if sweeps {
            effects.push(Effect::Sweep);
        }
        self.end(turn, outcome, &message, usage, effects);
    }

    fn verdict(&self, turn: &Turn, answer: &Value) -> (TurnOutcome, String) {
        let reason = serde_json::from_value(answer["stopReason"].clone());
        match reason {
            Ok(StopReason::Cancelled) => (TurnOutcome::Cancelled, String::new()),
            Ok(StopReason::EndTurn) => match turn.failure() {
                Some(why) => (TurnOutcome::Failed, self.opening.agent.of_words(why)),
                None => (TurnOutcome::Succeeded, String::new()),
            },
            Ok(reason) => {
                let why = self.opening.agent.of_stop(reason).unwrap_or_default();
                (TurnOutcome::Failed, why)
            }
            Err(_) => {
                let reason = words::one_line(&answer["stopReason"].to_string(), 100);
                let why = Error::new(0, format!("the turn ended for the reason {reason}"));
                (TurnOutcome::Failed, said(&why))
            }
        }
    }

    fn end(
        &mut self,
        mut turn: Turn,
        outcome: TurnOutcome,
        message: &str,
        usage: Usage,
        effects: &mut Vec<Effect>,
    ) {
        let mut said = Vec::new();
        turn.end(&mut said);
        effects.extend(said.into_iter().map(Effect::Say));
        if self.terms.is_job && turn.id() == TASK_TURN {
            self.task_end = Some((outcome, message.to_owned()));
        }
        let message = (!message.is_empty()).then(|| message.to_owned());
        let turn = turn.id().to_owned();
        effects.push(event(EventBody::TurnEnded { turn, outcome, message, usage }));
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// What Codex says of a try that failed: "Reconnecting... 2/5", and why.
fn retry(error: &Value) -> EventBody {
    let said = error["message"].as_str().unwrap_or_default();
    let count = said.split_whitespace().find_map(|word| {
        let (attempt, of) = word.split_once('/')?;
        Some((attempt.parse().ok()?, of.parse().ok()?))
    });
    let (attempt, of) = count.unwrap_or_default();
    let why = error["additionalDetails"].as_str().filter(|why| !why.trim().is_empty());
    let message = words::one_line(why.unwrap_or(said), 400);
    EventBody::Retry { attempt, of, message, delay_ms: 0 }
}

fn event(body: EventBody) -> Effect {
    Effect::Say(Said::Event(body))
}

fn write(line: Value) -> Effect {
    Effect::Write(line)
}

/// A line of ours, for the log.
fn log(text: &str) -> Effect {
    Effect::Say(Said::Log(Stream::System, format!("{text}\n").into_bytes()))
}
