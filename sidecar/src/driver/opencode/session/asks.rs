//! What a person is asked, and how the answers go back. What is not asked any more is withdrawn.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        permission::{self, Decision},
        protocol::Request,
    },
    Call, Effect, Session, say,
};
use crate::{
    driver::words,
    wire::{ApprovalKind, EventBody, Question},
};

/// What a person is asked.
pub(super) enum Asked {
    Permission,
    Questions(Vec<Question>),
}

impl Session {
    /// A person has decided.
    pub(in super::super) fn answer(
        &mut self,
        request: String,
        allow: bool,
        words: &str,
        answers: &BTreeMap<String, String>,
    ) -> Vec<Effect> {
        // An answer to what is not asked any more, or was answered before, has no effect.
        let Some(asked) = self.asked.remove(&request) else { return Vec::new() };
        self.answered.insert(request.clone());
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

    /// Of all that is asked only these requests still wait.
    pub(in super::super) fn only_wait(&mut self, requests: &BTreeSet<String>) -> Vec<Effect> {
        let gone: Vec<_> =
            self.asked.keys().filter(|request| !requests.contains(*request)).cloned().collect();
        let mut effects = Vec::new();
        for request in gone {
            self.withdraw(request, &mut effects);
        }
        effects
    }

    pub(super) fn on_request(&mut self, request: Request, effects: &mut Vec<Effect>) {
        if self.asked.contains_key(&request.id) || self.answered.contains(&request.id) {
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

    pub(super) fn on_questions(
        &mut self,
        request: String,
        questions: Vec<Question>,
        input: serde_json::Value,
        effects: &mut Vec<Effect>,
    ) {
        if self.asked.contains_key(&request) || self.answered.contains(&request) {
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

    pub(super) fn withdraw(&mut self, request: String, effects: &mut Vec<Effect>) {
        if self.asked.remove(&request).is_some() {
            effects.push(say(EventBody::ApprovalWithdrawn { request }));
        }
    }
}

/// A person's answers in the order of the questions. What was not answered is said to be so, in
/// words that let the model go on.
pub(super) fn replies(
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
