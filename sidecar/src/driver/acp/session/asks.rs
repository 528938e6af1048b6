//! What an agent asks its person, and how it gets its answer. Each request is answered once: by
//! the run's mode and rules, by a person, or by a cancellation when nobody can answer any more.

use std::{collections::BTreeMap, path::PathBuf};

use agent_client_protocol_schema::v1::{
    Error, PermissionOption, RequestId, RequestPermissionRequest, ToolKind,
};
use serde_json::Value;

use super::{
    super::{
        permission::{self, Decision, Wish},
        protocol,
        questions::{self, Form},
        rules, turn,
    },
    Effect, Session, event, log, write,
};
use crate::{
    driver::words,
    wire::{ApprovalKind, EventBody, PermissionMode},
};

/// A request that waits for a person.
pub(super) struct Asked {
    id: RequestId,
    what: What,
}

enum What {
    Tool(Vec<PermissionOption>),
    Form(Form),
}

impl Session {
    /// A person has decided.
    pub(in super::super) fn answer(
        &mut self,
        request: &str,
        allow: bool,
        words: &str,
        answers: &BTreeMap<String, String>,
    ) -> Vec<Effect> {
        // An answer to what is not asked any more, or was answered before, has no effect.
        let Some(asked) = self.asked.remove(request) else { return Vec::new() };
        match asked.what {
            What::Form(form) => {
                let filled = allow.then(|| form.filled(answers, words)).flatten();
                let answer = filled.unwrap_or_else(questions::declined);
                vec![write(protocol::answer(&asked.id, &answer))]
            }
            What::Tool(options) => {
                let option = permission::option(&options, allow);
                let mut effects = vec![write(protocol::permission(&asked.id, option))];
                // That somebody said no is the server's word where nobody gave a reason.
                let is_reason = !words.trim().is_empty() && !words.ends_with(" said no");
                if !allow && is_reason {
                    let name = &self.opening.agent.name;
                    let name = name.rsplit('/').next().unwrap_or(name);
                    let text = format!("{name} is told no, but its protocol carries no reason");
                    effects.push(log(&text));
                }
                effects
            }
        }
    }

    pub(super) fn on_ask(
        &mut self,
        id: RequestId,
        asked: RequestPermissionRequest,
        out: &mut Vec<Effect>,
    ) {
        let tool_id = asked.tool_call.tool_call_id.0.to_string();
        let mut said = Vec::new();
        let Some((_, turn)) = self.open.as_mut().filter(|_| !self.is_interrupting) else {
            out.push(write(protocol::permission(&id, None)));
            return;
        };
        turn.on_tool_update(asked.tool_call, &mut said);
        turn.tell_tool(&tool_id, &mut said);
        out.extend(said.into_iter().map(Effect::Say));
        let Some(call) = turn.tool(&tool_id) else { return };
        let wish = Wish { kind: call.kind, subject: turn::subject(call), paths: turn::paths(call) };
        let workdir = PathBuf::from(&self.terms.workdir);
        match permission::decide(&self.terms.permissions, &workdir, &wish) {
            Decision::Ask => {}
            decided => {
                let option = permission::option(&asked.options, decided == Decision::Allow);
                out.push(write(protocol::permission(&id, option)));
                return;
            }
        }
        let is_plan = call.kind == ToolKind::SwitchMode;
        let rule = permission::offers_always(&asked.options)
            .then(|| rules::of(call.kind, wish.subject))
            .flatten();
        let request = (self.terms.fresh)();
        out.push(event(EventBody::Approval {
            turn: turn.id().to_owned(),
            request: request.clone(),
            tool: rules::word(call.kind).to_owned(),
            title: turn::title(call),
            input: turn::input(call),
            kind: if is_plan { ApprovalKind::Plan } else { ApprovalKind::Tool },
            rule,
            questions: Vec::new(),
        }));
        self.asked.insert(request, Asked { id, what: What::Tool(asked.options) });
    }

    pub(super) fn on_form(&mut self, id: RequestId, request: &Value, out: &mut Vec<Effect>) {
        let Some((_, turn)) = self.open.as_ref().filter(|_| !self.is_interrupting) else {
            out.push(write(protocol::answer(&id, &questions::cancelled())));
            return;
        };
        // Nobody attends to a job that was not told to ask.
        let mode = self.terms.permissions.mode;
        let is_attended = match mode {
            PermissionMode::Bypass => false,
            PermissionMode::Plan => !self.terms.is_job,
            PermissionMode::Ask | PermissionMode::AcceptEdits => true,
        };
        let Some(form) = Form::read(request).filter(|_| is_attended) else {
            out.push(write(protocol::answer(&id, &questions::declined())));
            return;
        };
        let title = request["message"].as_str().unwrap_or_default();
        let asked = (self.terms.fresh)();
        out.push(event(EventBody::Approval {
            turn: turn.id().to_owned(),
            request: asked.clone(),
            tool: "question".to_owned(),
            title: words::one_line(title, 160),
            input: words::fitting(&request["requestedSchema"]),
            kind: ApprovalKind::Question,
            rule: None,
            questions: form.questions(),
        }));
        self.asked.insert(asked, Asked { id, what: What::Form(form) });
    }

    /// Answers all that is asked with a cancellation, and says so.
    pub(super) fn withdraw_all(&mut self, effects: &mut Vec<Effect>) {
        for (request, asked) in std::mem::take(&mut self.asked) {
            effects.push(write(match asked.what {
                What::Tool(_) => protocol::permission(&asked.id, None),
                What::Form(_) => protocol::answer(&asked.id, &questions::cancelled()),
            }));
            effects.push(event(EventBody::ApprovalWithdrawn { request }));
        }
    }

    /// The agent does not wait for an answer any more; it gets one all the same.
    pub(super) fn withdraw(&mut self, id: &RequestId, effects: &mut Vec<Effect>) {
        let Some((request, _)) = self.asked.iter().find(|(_, asked)| asked.id == *id) else {
            return;
        };
        let request = request.clone();
        if self.asked.remove(&request).is_some() {
            effects.push(write(protocol::refuse(id, &Error::request_cancelled())));
            effects.push(event(EventBody::ApprovalWithdrawn { request }));
        }
    }
}
