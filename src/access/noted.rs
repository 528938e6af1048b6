//! What the audit says of an answer to an agent: which answer, and to which request.
//!
//! A grant that was taken back is gone, and so are requests after a time; the audit is what tells
//! later who allowed what. It names no words of people: neither the answer to a question nor the
//! reason of a no.

use crate::store::{ApprovalState, Op};

/// The longest text of an agent that is noted, in characters.
const LONGEST: usize = 120;

/// What a transaction answers an agent, as `yes REQUEST`, `no REQUEST`, `always REQUEST as GRANT:
/// RULE` or `revoke GRANT`; nothing where it answers nothing.
#[must_use]
pub fn answer(ops: &[Op]) -> Option<String> {
    let grant = ops.iter().find_map(|op| match op {
        Op::AddGrant(grant) => Some(grant),
        _ => None,
    });
    ops.iter().find_map(|op| match op {
        Op::ResolveApproval { request, state, .. } => {
            let request = short(request);
            Some(match (grant, state) {
                (Some(grant), _) => {
                    format!("always {request} as {}: {}", grant.id, short(&grant.rule))
                }
                (None, ApprovalState::Allowed) => format!("yes {request}"),
                (None, _) => format!("no {request}"),
            })
        }
        Op::RevokeGrant { id, .. } => Some(format!("revoke {id}")),
        _ => None,
    })
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
