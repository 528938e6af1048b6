//! What follows from what the server says: steps, text, tools, and what the session does.

use super::{
    super::{
        failure, permission,
        protocol::{Answer, Event, Kind, Part, Status, ToolState},
    },
    Call, Effect, Session, Turn, say,
};
use crate::{driver::Said, wire::EventBody};

impl Session {
    /// The server says something.
    pub(in super::super) fn on_event(&mut self, event: Event) -> Vec<Effect> {
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
}
