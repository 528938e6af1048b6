//! What follows from each line of the CLI.

use std::collections::BTreeSet;

use super::{Effect, Session};
use crate::{
    driver::{
        Said,
        claude::{
            asks::Follows,
            failure, permission,
            protocol::{self, Ask, Block, Lifecycle, Line, Stream, ToolResult, TurnResult},
            title,
        },
    },
    wire::{self, EventBody, TurnOutcome, Usage},
};

impl Session {
    /// The CLI has printed a line.
    pub(in crate::driver::claude) fn on_line(&mut self, line: Line) -> Vec<Effect> {
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
}
