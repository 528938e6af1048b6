//! A turn that is open: what is known of it, what it used, and how it ends.

use std::collections::BTreeMap;

use super::super::{
    failure,
    protocol::{Answer, Fault},
    speech::Speech,
};
use crate::wire::{TurnOutcome, Usage};

/// A turn that is open.
#[derive(Default)]
pub(super) struct Turn {
    pub id: String,
    /// The id of the person's message; none in a turn that the agent began.
    pub prompt: Option<String>,
    /// Whether the person's message stands in the session.
    pub is_begun: bool,
    pub is_interrupting: bool,
    pub is_idle: bool,
    /// Whether the server was asked what it does since it was idle last.
    pub is_checked: bool,
    /// The model's steps, by their ids.
    pub steps: BTreeMap<String, Answer>,
    /// Steps of subagents, which count and are not heard.
    pub nested: BTreeMap<String, Answer>,
    pub speech: Speech,
    /// The tool uses that were told of, and whether each has ended.
    pub tools: BTreeMap<String, bool>,
    pub fault: Option<Fault>,
    pub told: Usage,
}

impl Turn {
    /// What it has used so far.
    pub(super) fn usage(&self) -> Usage {
        let steps = || self.steps.values().chain(self.nested.values());
        Usage {
            cost_micro_usd: (steps().map(|step| step.usd).sum::<f64>().max(0.0) * 1e6).round()
                as u64,
            input_tokens: steps().map(|step| step.input).sum(),
            output_tokens: steps().map(|step| step.output).sum(),
        }
    }

    /// How it ends, once it is over.
    pub(super) fn verdict(&self) -> (TurnOutcome, String) {
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
