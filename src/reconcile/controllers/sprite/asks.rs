//! What an agent asks for: the answer travels through the ledger of approvals to its inbox.
//!
//! Whoever answers resolves a row of the ledger and does no more. Here each row that was
//! resolved while its run lives becomes one order in the inbox; a row that nobody answers is
//! resolved as expired, which is a no; and one whose run has ended is withdrawn. What somebody
//! allowed the Agent once and for all is allowed as soon as it is asked, each time anew, as long as
//! the grant stands; here it is allowed where the grant came while it waited.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use sprite_reporter::wire::{ApprovalKind, InboxRow, Order};

use super::super::{hands::sooner, words};
use crate::{
    ambient::later,
    resource::{ConditionStatus::True, Kind, Sprite, SpriteStatus},
    runtime::Observed,
    store::{Approval, ApprovalState, Grant, Op},
};

/// How long an agent waits for an answer; then it is no.
pub(super) const EXPIRY: Duration = Duration::from_secs(3600);
/// Who resolves what nobody answers.
const NOBODY: &str = "open-dispatch";

/// What to do for a Sprite's approvals.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asks {
    /// Orders that bring an answer to the agent.
    pub(super) answers: Vec<Op>,
    /// Approvals that nobody will answer any more.
    pub(super) resolutions: Vec<Op>,
    /// What waits for an answer, the oldest, in one line.
    pub(super) waiting: Option<String>,
    /// Look again at this time.
    pub(super) again: Option<Timestamp>,
}

/// Decides. `inbox` is all that was ever ordered of the Sprite; a CLI never uses the id of a
/// request twice in one run, so that an answer that stands there for that run is the request's.
/// `grants` are the Agent's.
pub(super) fn asks(
    sprite: &Sprite,
    observed: &Observed,
    approvals: &[Approval],
    inbox: &[InboxRow],
    grants: &[Grant],
    now: Timestamp,
) -> Asks {
    let mut asks = Asks::default();
    let given: BTreeSet<(u32, &str)> = inbox
        .iter()
        .filter_map(|row| match &row.order {
            Order::Answer { request, .. } => Some((row.run, request.as_str())),
            _ => None,
        })
        .collect();
    let ended = sprite.status.exit.is_some();
    let mut oldest: Option<&Approval> = None;
    for approval in approvals {
        let newest = sprite.status.run.max(sprite.spec.run);
        let over = ended || approval.run < newest || approval.run <= sprite.status.slept;
        if approval.state == ApprovalState::Pending {
            let limit = later(approval.created, EXPIRY);
            if over {
                asks.resolutions.push(resolve(approval, ApprovalState::Withdrawn));
            } else if let Some(grant) = grants.iter().find(|grant| grant.covers(approval)) {
                asks.resolutions.push(grant.allow(approval));
            } else if now >= limit {
                asks.resolutions.push(resolve(approval, ApprovalState::Expired));
            } else {
                asks.again = sooner(asks.again, Some(limit));
                if oldest.is_none_or(|oldest| approval.created < oldest.created) {
                    oldest = Some(approval);
                }
            }
        } else if let Some((allow, message)) = answer(approval)
            && !over
            && observed.is_up()
            && !given.contains(&(approval.run, approval.request.as_str()))
        {
            let request = approval.request.clone();
            asks.answers.push(Op::Order {
                sprite_uid: approval.sprite_uid.clone(),
                run: approval.run,
                key: format!("answer/{}/{request}", approval.run),
                order: Order::Answer { request, allow, message, answers: approval.answers.clone() },
            });
        }
    }
    asks.waiting = oldest.map(|approval| {
        let owner = sprite.metadata.controller();
        let name = owner.map_or(&sprite.metadata.name, |owner| &owner.name);
        let what = told(approval);
        match approval.kind {
            ApprovalKind::Tool if approval.rule.is_some() && !is_jobs(sprite) => {
                format!("asks to use {what} - answer with /od-approve {name} yes|no|always")
            }
            ApprovalKind::Tool => {
                format!("asks to use {what} - answer with /od-approve {name} yes|no")
            }
            ApprovalKind::Question => {
                format!("asks: {what} - answer with /od-approve {name} ANSWER")
            }
            ApprovalKind::Plan => {
                format!("has a plan: {what} - answer with /od-approve {name} yes|no")
            }
        }
    });
    asks
}

/// Whether it works for a Job: what that may do is settled by its spec alone.
fn is_jobs(sprite: &Sprite) -> bool {
    sprite.metadata.controller().is_none_or(|owner| owner.kind != Kind::Agent)
}

/// What an approval is about, in one short line.
fn told(approval: &Approval) -> String {
    const LENGTH: usize = 200;
    let text = match approval.questions.first() {
        Some(question) if approval.kind == ApprovalKind::Question => &question.text,
        _ => &approval.title,
    };
    let title = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let bare = approval.kind != ApprovalKind::Tool;
    let own = bare || title.starts_with(&format!("{}:", approval.tool));
    let mut line = if own { title } else { format!("{}: {title}", approval.tool) };
    if let Some((at, _)) = line.char_indices().nth(LENGTH) {
        line.truncate(at);
        line.push('…');
    }
    line
}

fn resolve(approval: &Approval, state: ApprovalState) -> Op {
    let message = match state {
        ApprovalState::Expired => "nobody answered within an hour",
        _ => "",
    };
    Op::ResolveApproval {
        sprite_uid: approval.sprite_uid.clone(),
        run: approval.run,
        request: approval.request.clone(),
        state,
        by: NOBODY.to_owned(),
        user: None,
        grant: None,
        message: message.to_owned(),
        answers: BTreeMap::new(),
    }
}

/// What the agent is told, if it is told anything.
fn answer(approval: &Approval) -> Option<(bool, String)> {
    let message = approval.message.clone();
    match approval.state {
        ApprovalState::Allowed => Some((true, message)),
        ApprovalState::Denied if message.is_empty() => {
            Some((false, format!("{} said no", approval.by)))
        }
        ApprovalState::Denied | ApprovalState::Expired => Some((false, message)),
        ApprovalState::Pending | ApprovalState::Withdrawn => None,
    }
}

impl Asks {
    /// Writes into the status whether the agent waits for an answer.
    pub(super) fn mark(&self, status: &mut SpriteStatus, generation: u64, now: Timestamp) {
        let conditions = &mut status.conditions;
        match &self.waiting {
            Some(text) => {
                let kind = words::WAITING_FOR_APPROVAL;
                conditions.set(kind, True, words::ASKED, text.clone(), generation, now);
            }
            None => conditions.remove(words::WAITING_FOR_APPROVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{ExitReason, ExitStatus, SpriteSpec};

    const START: Timestamp = Timestamp::UNIX_EPOCH;
    const RUNNING: Observed = Observed::Running { process: None };

    fn sprite() -> Sprite {
        let spec: SpriteSpec = serde_json::from_value(serde_json::json!({
            "agent": {"command": {}}, "runtime": {"local": {}}, "permissions": {}, "attempt": 1,
            "running": true,
        }))
        .expect("a spec");
        let mut sprite = Sprite::new("a-1", spec);
        sprite.status.run = 1;
        sprite
    }

    fn approval(request: &str, state: ApprovalState) -> Approval {
        Approval {
            kind: Default::default(),
            rule: None,
            questions: Vec::new(),
            answers: Default::default(),
            sprite_uid: "uid".to_owned(),
            run: 1,
            request: request.to_owned(),
            turn: "task".to_owned(),
            tool: "Bash".to_owned(),
            title: "rm -rf x".to_owned(),
            input: serde_json::Value::Null,
            state,
            by: "ada".to_owned(),
            message: String::new(),
            resolved: None,
            user: None,
            grant: None,
            created: START,
        }
    }

    fn given(allow: bool, message: &str) -> Order {
        Order::Answer {
            request: "r".to_owned(),
            allow,
            message: message.to_owned(),
            answers: BTreeMap::new(),
        }
    }

    #[test]
    fn what_somebody_answered_is_ordered_once() {
        for (state, allow, message) in
            [(ApprovalState::Allowed, true, ""), (ApprovalState::Denied, false, "ada said no")]
        {
            let approvals = [approval("r", state)];
            let first = asks(&sprite(), &RUNNING, &approvals, &[], &[], START);
            let order = given(allow, message);
            let row = InboxRow { n: 1, run: 1, order: order.clone() };
            let (sprite_uid, key) = ("uid".to_owned(), "answer/1/r".to_owned());
            assert_eq!(first.answers, [Op::Order { sprite_uid, run: 1, key, order }]);
            let second = asks(&sprite(), &RUNNING, &approvals, &[row], &[], START);
            assert_eq!(second, Asks::default(), "it stands there already");
        }
    }

    #[test]
    fn what_nobody_answers_expires_after_an_hour_and_is_a_no() {
        let pending = [approval("r", ApprovalState::Pending)];
        let waiting = asks(&sprite(), &RUNNING, &pending, &[], &[], START);
        assert_eq!(waiting.again, Some(later(START, EXPIRY)));
        assert_eq!((waiting.answers.len(), waiting.resolutions.len()), (0, 0));
        let text = "asks to use Bash: rm -rf x - answer with /od-approve a-1 yes|no";
        assert_eq!(waiting.waiting.as_deref(), Some(text));

        let late = asks(&sprite(), &RUNNING, &pending, &[], &[], later(START, EXPIRY));
        assert_eq!(late.resolutions, [resolve(&pending[0], ApprovalState::Expired)]);
        assert_eq!(late.waiting, None);
        let mut expired = approval("r", ApprovalState::Expired);
        expired.message = "nobody answered within an hour".to_owned();
        let told = asks(&sprite(), &RUNNING, &[expired], &[], &[], START).answers;
        let Some(Op::Order { order, .. }) = told.first() else { panic!("{told:?}") };
        assert_eq!(*order, given(false, "nobody answered within an hour"));
    }

    #[test]
    fn what_a_run_asked_for_that_has_ended_is_withdrawn_and_never_answered() {
        let (mut ended, mut later_run) = (sprite(), sprite());
        let reason = ExitReason::ReporterLost;
        ended.status.exit =
            Some(ExitStatus { code: None, signal: None, reason, message: String::new() });
        later_run.status.run = 2;
        for sprite in [ended, later_run] {
            let pending = approval("r", ApprovalState::Pending);
            let allowed = approval("s", ApprovalState::Allowed);
            let withdrawn = resolve(&pending, ApprovalState::Withdrawn);
            let asks = asks(&sprite, &RUNNING, &[pending, allowed], &[], &[], START);
            assert_eq!((asks.resolutions, asks.answers), (vec![withdrawn], vec![]));
        }
    }

    fn grant(tool: &str, rule: &str) -> Grant {
        Grant {
            id: "g".to_owned(),
            agent_uid: "agent".to_owned(),
            tool: tool.to_owned(),
            rule: rule.to_owned(),
            by: "ada".to_owned(),
            user: None,
            created: START,
        }
    }

    #[test]
    fn what_was_allowed_once_and_for_all_is_allowed_and_nothing_else() {
        let mut pending = approval("r", ApprovalState::Pending);
        pending.rule = Some("Bash(rm:*)".to_owned());
        let decided = |approval: &Approval, grant: Grant| {
            let asks =
                asks(&sprite(), &RUNNING, std::slice::from_ref(approval), &[], &[grant], START);
            asks.resolutions.into_iter().next()
        };
        let allowed = decided(&pending, grant("Bash", "Bash(rm:*)")).expect("it is allowed");
        let Op::ResolveApproval { state, by, .. } = allowed else { panic!("{allowed:?}") };
        assert_eq!((state, by.as_str()), (ApprovalState::Allowed, "always (ada)"));
        assert_eq!(decided(&pending, grant("Bash", "Bash(ls:*)")), None);
        assert_eq!(decided(&pending, grant("Edit", "Bash(rm:*)")), None);
        pending.kind = ApprovalKind::Plan;
        assert_eq!(decided(&pending, grant("Bash", "Bash(rm:*)")), None, "a plan is asked anew");
        let bare = approval("r", ApprovalState::Pending);
        assert_eq!(decided(&bare, grant("Bash", "")), None, "no rule, no always");
    }

    #[test]
    fn the_same_request_of_another_run_is_answered_for_itself() {
        let mut woken = sprite();
        (woken.spec.run, woken.status.run, woken.status.slept) = (2, 2, 1);
        let mut second = approval("r", ApprovalState::Allowed);
        second.run = 2;
        let row = InboxRow { n: 1, run: 1, order: given(true, "") };
        let first = approval("r", ApprovalState::Allowed);
        let asks = asks(&woken, &RUNNING, &[first, second], &[row], &[], START);
        let [Op::Order { run: 2, key, .. }] = asks.answers.as_slice() else { panic!("{asks:?}") };
        assert_eq!(key, "answer/2/r");
    }

    #[test]
    fn what_a_run_asked_that_fell_asleep_is_withdrawn() {
        let mut asleep = sprite();
        asleep.status.slept = 1;
        let pending = approval("r", ApprovalState::Pending);
        let withdrawn = resolve(&pending, ApprovalState::Withdrawn);
        let asks = asks(&asleep, &RUNNING, &[pending], &[], &[], START);
        assert_eq!(asks.resolutions, [withdrawn]);
    }

    #[test]
    fn a_question_and_a_plan_say_what_they_wait_for() {
        let waiting = |change: fn(&mut Approval)| {
            let mut pending = approval("r", ApprovalState::Pending);
            change(&mut pending);
            asks(&sprite(), &RUNNING, &[pending], &[], &[], START).waiting.expect("it waits")
        };
        let question = waiting(|it| {
            it.kind = ApprovalKind::Question;
            let text = "Which colour?".to_owned();
            it.questions =
                vec![sprite_reporter::wire::Question { text, options: Vec::new(), many: false }];
        });
        assert_eq!(question, "asks: Which colour? - answer with /od-approve a-1 ANSWER");
        let plan = waiting(|it| {
            it.kind = ApprovalKind::Plan;
            it.title = "Tidy up".to_owned();
        });
        assert_eq!(plan, "has a plan: Tidy up - answer with /od-approve a-1 yes|no");
    }

    #[test]
    fn a_clock_that_jumps_denies_nothing_before_its_time_and_forgets_nothing() {
        let asked = later(START, EXPIRY);
        let mut pending = approval("r", ApprovalState::Pending);
        pending.created = asked;
        let at = |now| asks(&sprite(), &RUNNING, &[pending.clone()], &[], &[], now);
        let back = at(START);
        assert_eq!((back.resolutions.len(), back.again), (0, Some(later(asked, EXPIRY))));
        assert!(back.waiting.is_some(), "it is still asked");
        let expired = resolve(&pending, ApprovalState::Expired);
        assert_eq!(at(later(asked, EXPIRY)).resolutions, [expired]);
    }

    #[test]
    fn the_oldest_request_is_told_while_it_waits_and_not_afterwards() {
        let mut newer = approval("a", ApprovalState::Pending);
        newer.created = later(START, Duration::from_secs(1));
        newer.title = "Bash: ls".to_owned();
        let older = approval("r", ApprovalState::Pending);
        let mut status = sprite().status;
        asks(&sprite(), &RUNNING, &[newer.clone(), older], &[], &[], START).mark(
            &mut status,
            1,
            START,
        );
        let condition = status.conditions.get(words::WAITING_FOR_APPROVAL).expect("it waits");
        assert!(condition.message.contains("rm -rf x"), "{}", condition.message);
        asks(&sprite(), &RUNNING, &[newer], &[], &[], START).mark(&mut status, 1, START);
        let condition = status.conditions.get(words::WAITING_FOR_APPROVAL).expect("it waits");
        assert!(condition.message.starts_with("asks to use Bash: ls -"), "{}", condition.message);
        asks(&sprite(), &RUNNING, &[], &[], &[], START).mark(&mut status, 1, START);
        assert_eq!(status.conditions.get(words::WAITING_FOR_APPROVAL), None);
    }
}
