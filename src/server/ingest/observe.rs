//! What events mean: the pure function from a sprite's events to observations.
//!
//! It decides nothing about the world. It says which members of the sprite's status, and which
//! rows of which ledgers, now read differently; controllers act on those.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sprite_reporter::wire::{Event, EventBody, Exit, ExitReason, TurnOutcome, Usage};

use super::{read::is_artifact, seen::Seen};
use crate::{
    resource::{Artifact, Cost, ExitStatus, Kind},
    store::{Approval, ApprovalState, Cursor, Grant, Op, Turn, TurnState},
};

/// The version by which the hello that we write for an original sidecar is known.
pub const LEGACY_VERSION: &str = "original-sidecar";
/// The most artifacts that a sprite's status names; the ledger has them all.
const MAX_ARTIFACTS: usize = 100;

/// What the events touch, read before they are observed.
#[derive(Debug, Clone)]
pub struct Context {
    /// The sprite.
    pub sprite_uid: String,
    /// The Agent that the sprite belongs to, if it belongs to one.
    pub agent_uid: Option<String>,
    /// The run that speaks.
    pub run: u32,
    /// Now.
    pub now: Timestamp,
    /// Those turns that the events name and that exist.
    pub turns: BTreeMap<String, Turn>,
    /// The sprite's approvals that are pending.
    pub pending: Vec<Approval>,
    /// The sprite's approvals that have a row, in whatever state: by run and request.
    pub asked: BTreeSet<(u32, String)>,
    /// What the Agent was allowed once and for all.
    pub grants: Vec<Grant>,
    /// Why the server wants the sprite to end, if it does. Read where a run says that it was lost.
    pub stop: Option<ExitReason>,
}

/// Whether observing an event needs to know whether the sprite was to end.
#[must_use]
pub fn asks_for_stop(event: &Event) -> bool {
    matches!(&event.body, EventBody::Exit(exit) if exit.reason == ExitReason::ReporterLost)
}

/// Whether observing an event needs its turn's row.
#[must_use]
pub fn turn_of(event: &Event) -> Option<&str> {
    match &event.body {
        EventBody::TurnAccepted { turn, .. }
        | EventBody::TurnEnded { turn, .. }
        | EventBody::Usage { turn, .. } => Some(turn),
        _ => None,
    }
}

/// Whether observing an event needs to know which approvals there are.
#[must_use]
pub fn touches_approvals(event: &Event) -> bool {
    matches!(
        event.body,
        EventBody::Hello { .. }
            | EventBody::Approval { .. }
            | EventBody::ApprovalWithdrawn { .. }
            | EventBody::Exit(_)
    )
}

/// What is known, and what is to be written, once these events are held.
#[must_use]
pub fn observe(seen: &Seen, mut context: Context, events: &[Event]) -> (Seen, Vec<Op>) {
    let mut next = seen.clone();
    let mut ops = Vec::new();
    for event in events {
        next.run = context.run;
        next.held = event.next_seq() - 1;
        match &event.body {
            EventBody::Hello { version, .. } => {
                next.legacy = version == LEGACY_VERSION;
                next.greeted = true;
                next.finished = false;
                next.ended = None;
                next.ready = false;
                withdraw(&mut context, |_| true, &mut ops);
            }
            EventBody::Ready {} => next.ready = true,
            EventBody::Session { id } => next.session = Some(id.clone()),
            EventBody::TurnAccepted { turn, origin } => {
                let began = Cursor { run: context.run, seq: next.held };
                accept(&mut context, turn, origin.as_deref(), began, &mut ops);
            }
            EventBody::TurnEnded { turn, outcome, message, usage } => {
                next.cost = sum(next.cost, *usage);
                end(&mut context, turn, *outcome, message.as_deref(), *usage, &mut ops);
            }
            // Asked again, it is as it was, be it answered or not.
            EventBody::Approval { request, .. }
                if !context.asked.insert((context.run, request.clone())) => {}
            EventBody::Approval { turn, request, tool, title, input, kind, rule, questions } => {
                let approval = Approval {
                    sprite_uid: context.sprite_uid.clone(),
                    run: context.run,
                    request: request.clone(),
                    turn: turn.clone(),
                    tool: tool.clone(),
                    title: title.clone(),
                    input: input.clone(),
                    kind: *kind,
                    rule: rule.clone(),
                    questions: questions.clone(),
                    answers: BTreeMap::new(),
                    state: ApprovalState::Pending,
                    by: String::new(),
                    message: String::new(),
                    resolved: None,
                    user: None,
                    grant: None,
                    created: context.now,
                };
                ops.push(Op::AddApproval(approval.clone()));
                // Nobody is asked what was answered once and for all.
                match context.grants.iter().find(|grant| grant.covers(&approval)) {
                    Some(grant) => ops.push(grant.allow(&approval)),
                    None => context.pending.push(approval),
                }
            }
            EventBody::ApprovalWithdrawn { request } => {
                let run = context.run;
                withdraw(
                    &mut context,
                    |approval| approval.run == run && approval.request == *request,
                    &mut ops,
                );
            }
            EventBody::Artifact { name, url, kind }
                if next.artifacts.len() < MAX_ARTIFACTS && is_artifact(name, url, kind) =>
            {
                let (name, url, kind) = (name.clone(), url.clone(), kind.clone());
                let artifact = Artifact { name, url, kind };
                if !next.artifacts.contains(&artifact) {
                    next.artifacts.push(artifact);
                }
            }
            EventBody::Usage { turn, usage } => spend(&mut context, turn, *usage, &mut ops),
            EventBody::Exit(exit) => {
                next.finished = true;
                next.ended = Some(event.at);
                next.ready = false;
                // A Job never sleeps: whoever says so has ended.
                if exit.reason == ExitReason::Asleep && context.agent_uid.is_some() {
                    next.slept = context.run;
                } else if next.exit.is_none() {
                    next.exit = Some(status_of(exit, context.stop));
                }
                withdraw(&mut context, |_| true, &mut ops);
            }
            EventBody::Gap { bytes, .. } => next.missing = next.missing.saturating_add(*bytes),
            EventBody::Log { .. }
            | EventBody::Text { .. }
            | EventBody::Thought { .. }
            | EventBody::Tool { .. }
            | EventBody::ToolEnded { .. }
            | EventBody::Retry { .. }
            | EventBody::Artifact { .. } => {}
        }
    }
    ops.extend(patches(seen, &next, &context));
    (next, ops)
}

/// How an exit reads in a status. A machine that is stopped cannot know whether that was ordered:
/// where it was, the order says why.
fn status_of(exit: &Exit, stop: Option<ExitReason>) -> ExitStatus {
    let (reason, message) = match stop.filter(|_| exit.reason == ExitReason::ReporterLost) {
        Some(reason) => (reason, String::new()),
        None => (exit.reason, exit.message.clone()),
    };
    ExitStatus { code: exit.code, signal: exit.signal, reason, message }
}

/// What the status must say that it did not say before. The exit stands apart: where another
/// one stands already, such as that of a controller which gave the sprite up, that one wins.
fn patches(seen: &Seen, next: &Seen, context: &Context) -> Vec<Op> {
    let mut patch = Map::new();
    if next.run != seen.run {
        patch.insert("run".to_owned(), json!(next.run));
    }
    if next.greeted != seen.greeted {
        patch.insert("helloTime".to_owned(), json!(context.now));
    }
    if next.ready != seen.ready {
        patch.insert("ready".to_owned(), json!(next.ready));
    }
    if next.session != seen.session {
        patch.insert("sessionId".to_owned(), json!(next.session));
    }
    if next.slept != seen.slept {
        patch.insert("slept".to_owned(), json!(next.slept));
    }
    if next.missing != seen.missing {
        patch.insert("missingBytes".to_owned(), json!(next.missing));
    }
    if next.artifacts != seen.artifacts {
        patch.insert("artifacts".to_owned(), json!(next.artifacts));
    }
    if next.cost != seen.cost {
        patch.insert("cost".to_owned(), json!(next.cost));
    }
    let op = |patch, unless| Op::PatchStatus {
        kind: Kind::Sprite,
        uid: context.sprite_uid.clone(),
        patch,
        unless,
    };
    let mut ops = Vec::new();
    if !patch.is_empty() {
        ops.push(op(Value::Object(patch), None));
    }
    if next.exit != seen.exit {
        ops.push(op(json!({ "exit": next.exit }), Some("/exit".to_owned())));
    }
    ops
}

fn sum(cost: Cost, usage: Usage) -> Cost {
    Cost {
        micro_usd: cost.micro_usd.saturating_add(usage.cost_micro_usd),
        input_tokens: cost.input_tokens.saturating_add(usage.input_tokens),
        output_tokens: cost.output_tokens.saturating_add(usage.output_tokens),
    }
}

/// Withdraws those pending approvals that nobody waits for any more.
fn withdraw(context: &mut Context, gone: impl Fn(&Approval) -> bool, ops: &mut Vec<Op>) {
    context.pending.retain(|approval| {
        if !gone(approval) {
            return true;
        }
        ops.push(Op::ResolveApproval {
            sprite_uid: approval.sprite_uid.clone(),
            run: approval.run,
            request: approval.request.clone(),
            state: ApprovalState::Withdrawn,
            by: String::new(),
            user: None,
            grant: None,
            message: String::new(),
            answers: BTreeMap::new(),
        });
        false
    });
}

/// Whether a turn is in the hands of the run that speaks.
fn is_ours(context: &Context, turn: &Turn) -> bool {
    turn.sprite_uid.as_deref() == Some(context.sprite_uid.as_str()) && turn.run == context.run
}

/// The reporter took a turn over. A turn that was sent to another sprite or run is none of its
/// business; one that nobody knows is the agent's own, if it says so.
fn accept(context: &mut Context, id: &str, origin: Option<&str>, began: Cursor, ops: &mut Vec<Op>) {
    let now = context.now;
    match context.turns.get(id) {
        Some(turn) if turn.state == TurnState::Sent && is_ours(context, turn) => {
            let (started, began) = (Some(now), Some(began));
            let turn = Turn { state: TurnState::Running, started, began, ..turn.clone() };
            context.turns.insert(id.to_owned(), turn.clone());
            ops.push(Op::MoveTurn { turn, from: vec![TurnState::Sent] });
        }
        Some(_) => {}
        None => {
            let (Some(agent_uid), Some(origin)) = (&context.agent_uid, origin) else { return };
            let turn = Turn {
                origin: Some(origin.to_owned()),
                state: TurnState::Running,
                sprite_uid: Some(context.sprite_uid.clone()),
                run: context.run,
                began: Some(began),
                started: Some(now),
                ..Turn::queued(id, agent_uid, "", "", now)
            };
            context.turns.insert(turn.id.clone(), turn.clone());
            ops.push(Op::AddTurn(turn));
        }
    }
}

/// What a turn has used so far: kept, in case its end never comes.
fn spend(context: &mut Context, id: &str, usage: Usage, ops: &mut Vec<Op>) {
    let Some(turn) = context.turns.get(id) else { return };
    if turn.state != TurnState::Running || !is_ours(context, turn) || turn.usage == usage {
        return;
    }
    let turn = Turn { usage, ..turn.clone() };
    context.turns.insert(id.to_owned(), turn.clone());
    ops.push(Op::MoveTurn { turn, from: vec![TurnState::Running] });
}

/// A turn has ended; the first end that is held wins.
fn end(
    context: &mut Context,
    id: &str,
    outcome: TurnOutcome,
    message: Option<&str>,
    usage: Usage,
    ops: &mut Vec<Op>,
) {
    let Some(turn) = context.turns.get(id) else { return };
    let out = matches!(turn.state, TurnState::Sent | TurnState::Running);
    if !out || !is_ours(context, turn) {
        return;
    }
    let state = match outcome {
        TurnOutcome::Succeeded => TurnState::Succeeded,
        TurnOutcome::Failed => TurnState::Failed,
        TurnOutcome::Cancelled => TurnState::Cancelled,
        TurnOutcome::Interrupted => TurnState::Interrupted,
    };
    let message = message.unwrap_or_default().to_owned();
    let turn = Turn { state, message, usage, ended: Some(context.now), ..turn.clone() };
    context.turns.insert(id.to_owned(), turn.clone());
    ops.push(Op::MoveTurn { turn, from: vec![TurnState::Sent, TurnState::Running] });
}

#[cfg(test)]
mod tests {
    use sprite_reporter::wire::{Chunk, Containment, ProcessIdentity, Stream};

    use super::*;

    fn context() -> Context {
        Context {
            sprite_uid: "s".to_owned(),
            agent_uid: Some("a".to_owned()),
            run: 1,
            now: Timestamp::UNIX_EPOCH,
            turns: BTreeMap::new(),
            pending: Vec::new(),
            asked: BTreeSet::new(),
            grants: Vec::new(),
            stop: None,
        }
    }

    fn turn(id: &str, sprite: &str, state: TurnState) -> Turn {
        Turn {
            n: 1,
            state,
            sprite_uid: Some(sprite.to_owned()),
            run: 1,
            ..Turn::queued(id, "a", "do it", "ann", Timestamp::UNIX_EPOCH)
        }
    }

    fn numbered(bodies: Vec<EventBody>) -> Vec<Event> {
        (1..)
            .zip(bodies)
            .map(|(seq, body)| Event { seq, at: Timestamp::UNIX_EPOCH, body })
            .collect()
    }

    fn hello() -> EventBody {
        EventBody::Hello {
            wire: 1,
            version: "0.1.0".to_owned(),
            process: ProcessIdentity { boot_id: "b".to_owned(), pid: 1, start_time: 1 },
            containment: Containment::default(),
        }
    }

    fn exit(code: i32) -> EventBody {
        EventBody::Exit(Exit {
            code: Some(code),
            signal: None,
            reason: if code == 0 { ExitReason::Completed } else { ExitReason::Failed },
            message: String::new(),
        })
    }

    fn ended(id: &str, micro: u64) -> EventBody {
        EventBody::TurnEnded {
            turn: id.to_owned(),
            outcome: TurnOutcome::Succeeded,
            message: None,
            usage: Usage { cost_micro_usd: micro, input_tokens: 1, output_tokens: 2 },
        }
    }

    fn patched(ops: &[Op]) -> Vec<(Value, Option<String>)> {
        ops.iter()
            .filter_map(|op| match op {
                Op::PatchStatus { patch, unless, .. } => Some((patch.clone(), unless.clone())),
                _ => None,
            })
            .collect()
    }

    fn moved(ops: &[Op]) -> Vec<(String, TurnState)> {
        ops.iter()
            .filter_map(|op| match op {
                Op::MoveTurn { turn, .. } | Op::AddTurn(turn) => {
                    Some((turn.id.clone(), turn.state))
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_whole_run_shows_in_the_status() {
        let events = numbered(vec![
            hello(),
            EventBody::Ready {},
            EventBody::Session { id: "s-1".to_owned() },
            ended("task", 70),
            EventBody::Artifact {
                name: "pr".to_owned(),
                url: "https://x.test/1".to_owned(),
                kind: "pr".to_owned(),
            },
            exit(3),
        ]);
        let (seen, ops) = observe(&Seen::default(), context(), &events);
        insta::assert_json_snapshot!(patched(&ops));
        assert_eq!((seen.run, seen.held, seen.finished), (1, 6, true));
    }

    #[test]
    fn plain_output_writes_no_status_at_all() {
        let log = EventBody::Log { stream: Stream::Stdout, chunk: Chunk::pack(b"x", false) };
        let seen = Seen { run: 1, ..Seen::default() };
        let (next, ops) = observe(&seen, context(), &numbered(vec![log]));
        assert_eq!((next.held, ops), (1, Vec::new()));
    }

    #[test]
    fn what_gaps_tell_as_missing_adds_up_in_the_status() {
        let gap = |through, bytes| EventBody::Gap { through, bytes };
        let seen = Seen { run: 1, missing: 5, ..Seen::default() };
        let (next, ops) = observe(&seen, context(), &numbered(vec![gap(1, 10), gap(2, 7)]));
        assert_eq!(next.missing, 22);
        assert_eq!(patched(&ops), [(json!({"missingBytes": 22}), None)]);
    }

    #[test]
    fn the_first_exit_wins_over_whatever_comes_later() {
        let seen = Seen { run: 1, ..Seen::default() };
        let (first, ops) = observe(&seen, context(), &numbered(vec![exit(0)]));
        assert_eq!(patched(&ops).last().map(|(_, unless)| unless.as_deref()), Some(Some("/exit")));
        let (second, ops) = observe(&first, context(), &numbered(vec![exit(1)]));
        assert_eq!((second.exit.and_then(|exit| exit.code), patched(&ops)), (Some(0), Vec::new()));
    }

    #[test]
    fn a_turn_moves_from_sent_over_running_to_its_first_end() {
        let mut context = context();
        context.turns.insert("t".to_owned(), turn("t", "s", TurnState::Sent));
        let accepted = EventBody::TurnAccepted { turn: "t".to_owned(), origin: None };
        let events = numbered(vec![accepted, ended("t", 5), ended("t", 7)]);
        let (seen, ops) = observe(&Seen { run: 1, ..Seen::default() }, context, &events);
        assert_eq!(
            moved(&ops),
            [("t".to_owned(), TurnState::Running), ("t".to_owned(), TurnState::Succeeded)]
        );
        assert_eq!(seen.cost.micro_usd, 12);
    }

    #[test]
    fn a_sprite_cannot_move_the_turn_of_another() {
        let mut context = context();
        context.turns.insert("t".to_owned(), turn("t", "other", TurnState::Sent));
        let accepted = EventBody::TurnAccepted { turn: "t".to_owned(), origin: None };
        let (_, ops) = observe(&Seen::default(), context, &numbered(vec![accepted, ended("t", 5)]));
        assert_eq!(moved(&ops), []);
    }

    #[test]
    fn a_turn_that_runs_says_when_it_was_taken_and_where_its_output_begins() {
        let mut context = context();
        context.now = Timestamp::from_second(7).unwrap();
        context.turns.insert("t".to_owned(), turn("t", "s", TurnState::Sent));
        let accepted = EventBody::TurnAccepted { turn: "t".to_owned(), origin: None };
        let events = numbered(vec![hello(), EventBody::Ready {}, accepted]);
        let (_, ops) = observe(&Seen::default(), context, &events);
        let Some(Op::MoveTurn { turn, .. }) = ops.first() else { panic!("{ops:?}") };
        assert_eq!(turn.began, Some(Cursor { run: 1, seq: 3 }));
        assert_eq!(turn.started, Some(Timestamp::from_second(7).unwrap()));
    }

    #[test]
    fn a_run_cannot_move_the_turn_of_another_run() {
        let mut context = context();
        context.run = 2;
        context.turns.insert("t".to_owned(), turn("t", "s", TurnState::Running));
        let (_, ops) = observe(
            &Seen { run: 2, ..Seen::default() },
            context,
            &numbered(vec![
                EventBody::TurnAccepted { turn: "t".to_owned(), origin: None },
                ended("t", 5),
            ]),
        );
        assert_eq!(moved(&ops), []);
    }

    #[test]
    fn what_a_turn_uses_is_kept_before_it_ends() {
        let mut context = context();
        context.turns.insert("t".to_owned(), turn("t", "s", TurnState::Running));
        let used = Usage { cost_micro_usd: 9, ..Usage::default() };
        let usage = EventBody::Usage { turn: "t".to_owned(), usage: used };
        let (_, ops) = observe(&Seen::default(), context, &numbered(vec![usage.clone(), usage]));
        let [Op::MoveTurn { turn, from }, Op::PatchStatus { .. }] = ops.as_slice() else {
            panic!("{ops:?}")
        };
        assert_eq!((turn.state, turn.usage), (TurnState::Running, used));
        assert_eq!(*from, [TurnState::Running]);
    }

    fn asleep() -> EventBody {
        let (reason, message) = (ExitReason::Asleep, "asleep".to_owned());
        EventBody::Exit(Exit { code: None, signal: None, reason, message })
    }

    #[test]
    fn a_run_that_falls_asleep_is_no_end_and_the_next_begins_anew() {
        let events = numbered(vec![hello(), EventBody::Ready {}, asleep()]);
        let (seen, ops) = observe(&Seen::default(), context(), &events);
        assert_eq!((seen.slept, seen.ready, seen.finished, &seen.exit), (1, false, true, &None));
        let status = json!({"helloTime": Timestamp::UNIX_EPOCH, "run": 1, "slept": 1});
        assert_eq!(patched(&ops), [(status, None)]);
        let mut second = context();
        second.run = 2;
        let (seen, ops) = observe(&seen, second, &numbered(vec![hello(), EventBody::Ready {}]));
        assert_eq!((seen.run, seen.held, seen.finished, seen.slept), (2, 2, false, 1));
        assert_eq!(patched(&ops), [(json!({"ready": true, "run": 2}), None)]);
    }

    #[test]
    fn a_machine_that_was_stopped_is_lost_unless_that_was_ordered() {
        for (stop, reason) in [
            (None, ExitReason::ReporterLost),
            (Some(ExitReason::Cancelled), ExitReason::Cancelled),
            (Some(ExitReason::TimedOut), ExitReason::TimedOut),
        ] {
            let context = Context { stop, ..context() };
            let (lost, message) = (ExitReason::ReporterLost, "stopped from outside".to_owned());
            let exit = Exit { code: None, signal: Some(15), reason: lost, message };
            let events = numbered(vec![hello(), EventBody::Exit(exit)]);
            assert!(asks_for_stop(&events[1]) && !asks_for_stop(&events[0]));
            let (seen, _) = observe(&Seen::default(), context, &events);
            assert_eq!(seen.exit.map(|exit| exit.reason), Some(reason));
        }
    }

    #[test]
    fn a_job_that_says_that_it_sleeps_has_ended() {
        let mut context = context();
        context.agent_uid = None;
        let (seen, _) = observe(&Seen::default(), context, &numbered(vec![hello(), asleep()]));
        assert_eq!((seen.slept, seen.exit.map(|exit| exit.reason)), (0, Some(ExitReason::Asleep)));
    }

    #[test]
    fn a_turn_that_the_agent_began_by_itself_gets_a_row() {
        let accepted =
            EventBody::TurnAccepted { turn: "own".to_owned(), origin: Some("agent".to_owned()) };
        let (_, ops) =
            observe(&Seen::default(), context(), &numbered(vec![accepted, ended("own", 5)]));
        assert_eq!(
            moved(&ops),
            [("own".to_owned(), TurnState::Running), ("own".to_owned(), TurnState::Succeeded)]
        );
    }

    #[test]
    fn the_end_of_a_run_withdraws_what_it_asked() {
        let ask = |request: &str| EventBody::Approval {
            kind: Default::default(),
            rule: None,
            questions: Vec::new(),
            turn: "t".to_owned(),
            request: request.to_owned(),
            tool: "Bash".to_owned(),
            title: "rm".to_owned(),
            input: Value::Null,
        };
        let withdrawn = EventBody::ApprovalWithdrawn { request: "one".to_owned() };
        let events = numbered(vec![ask("one"), ask("two"), withdrawn, exit(0)]);
        let (_, ops) = observe(&Seen { run: 1, ..Seen::default() }, context(), &events);
        let resolved: Vec<&str> = ops
            .iter()
            .filter_map(|op| match op {
                Op::ResolveApproval { request, state: ApprovalState::Withdrawn, .. } => {
                    Some(request.as_str())
                }
                _ => None,
            })
            .collect();
        assert_eq!(resolved, ["one", "two"]);
    }

    #[test]
    fn what_was_allowed_once_and_for_all_never_waits() {
        let ask = |request: &str, rule: &str| EventBody::Approval {
            kind: Default::default(),
            rule: Some(rule.to_owned()),
            questions: Vec::new(),
            turn: "t".to_owned(),
            request: request.to_owned(),
            tool: "Bash".to_owned(),
            title: "Bash: touch x".to_owned(),
            input: Value::Null,
        };
        let grant = Grant {
            id: "g".to_owned(),
            agent_uid: "a".to_owned(),
            tool: "Bash".to_owned(),
            rule: "Bash(touch:*)".to_owned(),
            by: "ada".to_owned(),
            user: None,
            created: Timestamp::UNIX_EPOCH,
        };
        let known = Context { grants: vec![grant], ..context() };
        let events = numbered(vec![ask("one", "Bash(touch:*)"), ask("two", "Bash(rm:*)"), exit(0)]);
        let (_, ops) = observe(&Seen { run: 1, ..Seen::default() }, known, &events);
        let resolved: Vec<(&str, ApprovalState, &str)> = ops
            .iter()
            .filter_map(|op| match op {
                Op::ResolveApproval { request, state, by, .. } => {
                    Some((request.as_str(), *state, by.as_str()))
                }
                _ => None,
            })
            .collect();
        let one = ("one", ApprovalState::Allowed, "always (ada)");
        assert_eq!(resolved[0], one, "in the transaction that holds the question");
        assert_eq!(
            (resolved.len(), resolved[1].0, resolved[1].1),
            (2, "two", ApprovalState::Withdrawn)
        );
    }
}
