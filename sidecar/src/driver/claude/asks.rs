//! What the CLI has asked and a person has not answered yet.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    permission::{self, Decision},
    protocol::{self, Ask},
    question,
    rule::rule,
    title,
};
use crate::driver::words;
use crate::wire::{ApprovalKind, EventBody};

/// The open requests, by the CLI's ids of them.
#[derive(Debug, Default)]
pub(super) struct Asks(BTreeMap<String, Asked>);

#[derive(Debug)]
struct Asked {
    tool: String,
    input: Value,
}

/// What follows from a request.
pub(super) enum Follows {
    /// It is answered at once, by this line.
    Answer(Value),
    /// A person is asked.
    Asked(EventBody),
}

impl Asks {
    /// The CLI asks.
    pub(super) fn ask(
        &mut self,
        ask: Ask,
        decision: Decision,
        turn: &str,
        workdir: &str,
    ) -> Follows {
        match decision {
            Decision::Allow => Follows::Answer(protocol::allow(&ask.request, &ask.input)),
            Decision::Deny(why) => Follows::Answer(protocol::deny(&ask.request, why)),
            Decision::Ask => {
                let kind = permission::kind(&ask.tool);
                let questions = match kind {
                    ApprovalKind::Question => question::questions(&ask.input),
                    ApprovalKind::Tool | ApprovalKind::Plan => Vec::new(),
                };
                let rule = rule(&ask, workdir).filter(|_| kind == ApprovalKind::Tool);
                let Ask { request, tool, input, .. } = ask;
                let approval = EventBody::Approval {
                    turn: turn.to_owned(),
                    request: request.clone(),
                    tool: tool.clone(),
                    title: title::title(&tool, &input, workdir),
                    input: words::fitting(&input),
                    kind,
                    rule,
                    questions,
                };
                self.0.insert(request, Asked { tool, input });
                Follows::Asked(approval)
            }
        }
    }

    /// A person has decided: the line that tells the CLI. None for what is not asked any more,
    /// or was answered before.
    pub(super) fn answer(
        &mut self,
        request: &str,
        allow: bool,
        words: &str,
        answers: &BTreeMap<String, String>,
    ) -> Option<Value> {
        let asked = self.0.remove(request)?;
        let allowed = || permission::allowed_input(&asked.tool, &asked.input, answers, words);
        Some(match allow.then(allowed).flatten() {
            Some(input) => protocol::allow(request, &input),
            None => protocol::deny(request, permission::refusal(&asked.tool, words)),
        })
    }

    /// One of them is not waited for any more.
    pub(super) fn withdraw(&mut self, request: String) -> Option<EventBody> {
        self.0.remove(&request)?;
        Some(EventBody::ApprovalWithdrawn { request })
    }

    /// None of them is waited for any more.
    pub(super) fn withdraw_all(&mut self) -> impl Iterator<Item = EventBody> + use<> {
        let requests = std::mem::take(&mut self.0).into_keys();
        requests.map(|request| EventBody::ApprovalWithdrawn { request })
    }
}
