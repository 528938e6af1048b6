//! `/od-approve`: answers, and what an agent may do for good.

use sprite_reporter::wire::ApprovalKind;

use super::{Commands, Effect, Incoming, approvals_of, find::Found};
use crate::{
    access::Reach,
    chat::{
        answer::{Meant, meant},
        grammar::Target,
        replies,
        tag::Tag,
    },
    store::{Approval, ApprovalState, Error, Grant, Op},
};

impl Commands {
    /// Resolves what waits; the Sprite's controller takes the answer to the agent.
    pub(super) async fn approve(
        &self,
        target: &Target,
        words: &str,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let found = match self.find(target, reach).await? {
            Ok(found) => found,
            Err(answer) => return Ok(answer),
        };
        let (name, owner) = match &found {
            Found::Agent(agent) => (found.name(), &agent.metadata.uid),
            Found::Job(job) => (found.name(), &job.metadata.uid),
        };
        let approvals = approvals_of(&*self.store, owner).await?;
        let is_agent = matches!(found, Found::Agent(_));
        if is_agent && !a_question_waits(&approvals) {
            let mut said = words.split_whitespace();
            match (said.next().map(str::to_lowercase).as_deref(), said.next(), said.next()) {
                (Some("list"), None, _) => {
                    let grants = self.store.grants(owner).await?;
                    let now = self.ambient.clock.now();
                    return Ok(Effect::text(replies::grants(name, &grants, now)));
                }
                (Some("revoke"), id, None) => return self.revoke(name, owner, id).await,
                _ => {}
            }
        }
        if let Some(approval) = shown(words, &approvals) {
            return Ok(Effect::private(replies::request(name, approval)));
        }
        Ok(match meant(name, words, &approvals) {
            Err(no_answer) => Effect::private(no_answer.to_string()),
            Ok(Meant::Answered(approval)) => Effect::private(replies::answered(name, approval)),
            Ok(Meant::NothingWaits(last)) => Effect::private(replies::nothing_waits(name, last)),
            Ok(Meant::Resolve { always: true, .. }) if !is_agent => {
                Effect::private(replies::no_grants_for_jobs(name))
            }
            Ok(Meant::Resolve { approval, allow, always, message, answers }) => {
                let text = replies::approved(name, approval, allow, always, &message);
                let mut ops = vec![Op::ResolveApproval {
                    sprite_uid: approval.sprite_uid.clone(),
                    run: approval.run,
                    request: approval.request.clone(),
                    state: if allow { ApprovalState::Allowed } else { ApprovalState::Denied },
                    by: line.author.clone(),
                    user: Some(line.principal()),
                    grant: None,
                    message,
                    answers,
                }];
                if let Some(rule) = approval.rule.clone().filter(|_| always) {
                    ops.push(Op::AddGrant(Grant {
                        id: self.ambient.ids.uid(),
                        agent_uid: owner.clone(),
                        tool: approval.tool.clone(),
                        rule,
                        by: line.author.clone(),
                        user: Some(line.principal()),
                        created: self.ambient.clock.now(),
                    }));
                }
                Effect::told(ops, text)
            }
        })
    }

    /// Takes back what an agent may do for good: the one that is named, or the only one.
    async fn revoke(&self, name: &str, agent_uid: &str, id: Option<&str>) -> Result<Effect, Error> {
        let all = self.store.grants(agent_uid).await?;
        let named = match id {
            Some(id) => replies::grants_named(&all, id),
            None => all.iter().collect(),
        };
        let [grant] = named.as_slice() else {
            let now = self.ambient.clock.now();
            return Ok(Effect::private(replies::which_grant(name, &all, now)));
        };
        let op = Op::RevokeGrant { agent_uid: agent_uid.to_owned(), id: grant.id.clone() };
        Ok(Effect::told(vec![op], replies::revoked(name, grant)))
    }
}

/// The request that `show` is about: the one with this tag, or the oldest that waits.
fn shown<'a>(words: &str, approvals: &'a [Approval]) -> Option<&'a Approval> {
    let mut said = words.split_whitespace();
    if !said.next()?.eq_ignore_ascii_case("show") {
        return None;
    }
    match (said.next(), said.next()) {
        (Some(word), None) => {
            let tag = Tag::read(word)?;
            approvals.iter().rfind(|approval| tag.names_request(approval))
        }
        (None, _) if !a_question_waits(approvals) => {
            approvals.iter().find(|approval| approval.state == ApprovalState::Pending)
        }
        _ => None,
    }
}

/// Whether a question waits: then all words may be its answer.
fn a_question_waits(approvals: &[Approval]) -> bool {
    approvals.iter().any(|approval| {
        approval.state == ApprovalState::Pending && approval.kind == ApprovalKind::Question
    })
}
