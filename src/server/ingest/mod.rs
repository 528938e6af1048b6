//! What sprites report, taken in: each event once, in order, durable before it is answered.
//!
//! **The life of a batch.** [`read`] turns bytes into a batch or says what is wrong with them.
//! The batch waits in its sprite's [`lane`], where requests are taken one after another, by a
//! task of its own: a client that hangs up in the middle leaves nothing half done. [`place`]
//! compares it with what is held, [`observe`] says what its events mean, and one transaction
//! commits both. Then it is answered.
//!
//! Between two batches the sprite's [`seen::Seen`] is kept in memory, so that a batch costs one
//! write and no read. Whenever a commit fails in whatever way, it is thrown away and read again.
//!
//! An original sidecar does not number what it says. This server does it, as a run 1 whose hello
//! it writes itself, so that behind this room all sprites look the same. The exit closes that
//! run; what an original sidecar still says in the next minute becomes a run of its own, which
//! begins and ends with it.

mod lane;
mod observe;
mod place;
mod read;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
pub(super) use lane::{InboxTurn, Lane, Reply, Request};
pub use observe::{Context, LEGACY_VERSION, observe};
pub use place::{Place, place};
pub use read::{BadBody, Legacy, LegacyEndpoint, LegacyStatus, events, legacy};
pub use seen::Seen;
use sprite_reporter::wire::{
    Chunk, Containment, Event, EventAck, EventBatch, EventBody, Exit, ExitReason, MAX_CHUNK_BYTES,
    ProcessIdentity, Stream, WIRE_VERSION,
};

use super::directory::Standing;
use crate::{
    ambient::Ambient,
    metrics::Metrics,
    resource::{ExitStatus, Kind},
    store::{self, ApprovalState, Cursor, Op, OutputRow, Store, Transaction},
};

/// How long after its end an original sidecar's logs are still taken.
pub const LEGACY_GRACE: Duration = Duration::from_secs(60);
/// How often a commit is tried that loses against another writer of the same ledger rows.
const TRIES: usize = 8;
/// The most bytes of an original sidecar's logs that share a commit.
const SHARED_BYTES: usize = 4 * 1024 * 1024;

/// Takes in what sprites report.
pub(super) struct Ingest {
    store: Arc<dyn Store>,
    ambient: Ambient,
    metrics: Metrics,
}

impl Ingest {
    pub(super) fn new(store: Arc<dyn Store>, ambient: Ambient, metrics: Metrics) -> Self {
        Self { store, ambient, metrics }
    }

    /// Puts a request in its sprite's line, and answers once it is durable or refused.
    pub(super) async fn submit(self: &Arc<Self>, lane: &Arc<Lane>, request: Request) -> Reply {
        let (reply, lead) = lane.enqueue(request);
        if lead {
            tokio::spawn(self.clone().work(lane.clone()));
        }
        reply.await.unwrap_or_else(|_| {
            Reply::Unavailable("the server failed while it took this; send it again".to_owned())
        })
    }

    /// The newest run that was heard of a sprite, and the inbox row that it acknowledged.
    pub(super) async fn standing(&self, lane: &Lane) -> Result<(u32, u64), store::Error> {
        let mut seen = lane.seen.lock().await;
        let known = self.known(lane, &mut seen).await?;
        Ok((known.run, known.acked))
    }

    async fn work(self: Arc<Self>, lane: Arc<Lane>) {
        let mut work = lane::Work::on(lane.clone());
        while let Some(waiting) = work.next() {
            let mut seen = lane.seen.lock().await;
            let mut waiting = waiting.into_iter().peekable();
            while let Some(first) = waiting.next() {
                let mut replies = vec![first.reply];
                let reply = match first.request {
                    Request::Events(batch) => self.take_events(&lane, &mut seen, batch).await,
                    Request::Legacy(said) => {
                        let mut bytes = text_of(&said).unwrap_or_default();
                        let mut group = vec![said];
                        while let Some(next) = waiting.next_if(|next| {
                            shared(&next.request).is_some_and(|more| {
                                text_of(&group[0]).is_some() && bytes + more <= SHARED_BYTES
                            })
                        }) {
                            if let Request::Legacy(said) = next.request {
                                bytes += text_of(&said).unwrap_or_default();
                                group.push(said);
                            }
                            replies.push(next.reply);
                        }
                        self.take_legacy(&lane, &mut seen, group).await
                    }
                };
                for waiting in replies {
                    // Whoever hung up does not want to know.
                    let _ = waiting.send(reply.clone());
                }
            }
        }
    }

    async fn take_events(&self, lane: &Lane, seen: &mut Option<Seen>, batch: EventBatch) -> Reply {
        let (run, row) = (batch.run, batch.inbox_ack);
        let known = match self.known(lane, seen).await {
            Ok(known) => known,
            Err(error) => return failed(&error),
        };
        if known.legacy {
            return Reply::Refused(
                "this sprite speaks as an original sidecar; it cannot change to events".to_owned(),
            );
        }
        let (events, unless_new) = match place(known, batch) {
            Err(BadBody(why)) => return Reply::Refused(why),
            Ok(Place::Superseded) => return Reply::Superseded,
            Ok(Place::Hole(ack)) => (Vec::new(), Some(Reply::Hole(ack))),
            Ok(Place::Held(ack)) => (Vec::new(), Some(Reply::Held(ack))),
            Ok(Place::New(events)) => (events, None),
        };
        match self.commit(lane, seen, run, events, row).await {
            Ok(()) => unless_new.unwrap_or_else(|| Reply::Held(ack_of(seen.as_ref()))),
            // Somebody else has written to this run. The reporter goes on where we say.
            Err(store::Error::Gap { .. } | store::Error::Finished) => {
                match self.known(lane, seen).await {
                    Ok(known) if known.run > run => Reply::Superseded,
                    Ok(known) if known.run == run && known.finished => {
                        Reply::Held(ack_of(Some(known)))
                    }
                    Ok(known) => {
                        let known = (known.run == run).then_some(known);
                        Reply::Hole(EventAck { finished: false, ..ack_of(known) })
                    }
                    Err(error) => failed(&error),
                }
            }
            Err(error) => failed(&error),
        }
    }

    /// Takes what an original sidecar says: one thing, or several pieces of log.
    async fn take_legacy(&self, lane: &Lane, seen: &mut Option<Seen>, group: Vec<Legacy>) -> Reply {
        for _ in 0..TRIES {
            let known = match self.known(lane, seen).await {
                Ok(known) => known,
                Err(error) => return failed(&error),
            };
            if known.run > 0 && !known.legacy {
                return Reply::TooLate(
                    "this sprite speaks POST /webhooks/events; it cannot change to this".to_owned(),
                );
            }
            let now = self.ambient.clock.now();
            if known.finished {
                return self.take_late(lane, seen, &group, now).await;
            }
            if lane.standing() != Standing::Live {
                return Reply::Superseded;
            }
            let greeting = (known.run == 0).then(legacy_hello);
            let bodies = greeting.into_iter().chain(group.iter().flat_map(bodies_of));
            let events = numbered(known.held + 1, now, bodies);
            match self.commit(lane, seen, 1, events, None).await {
                Ok(()) => return Reply::Taken,
                Err(store::Error::Gap { .. } | store::Error::Finished) => {}
                Err(error) => return failed(&error),
            }
        }
        Reply::Unavailable("the sprite's output changes too fast; send it again".to_owned())
    }

    /// Takes what an original sidecar says behind its end.
    async fn take_late(
        &self,
        lane: &Lane,
        seen: &Option<Seen>,
        group: &[Legacy],
        now: Timestamp,
    ) -> Reply {
        let Some((known, exit)) =
            seen.as_ref().and_then(|known| Some((known, known.exit.as_ref()?)))
        else {
            return Reply::Superseded;
        };
        if let [Legacy::Status(status)] = group {
            return if says_again(status, exit) {
                Reply::Taken
            } else {
                Reply::TooLate(format!(
                    "the job has ended as {:?}; a terminal status is final",
                    exit.reason
                ))
            };
        }
        if !lane::in_grace(known.ended, now) {
            return Reply::TooLate(format!(
                "the job ended more than {} s ago; its log is closed",
                LEGACY_GRACE.as_secs()
            ));
        }
        let end = EventBody::Exit(Exit {
            code: exit.code,
            signal: exit.signal,
            reason: exit.reason,
            message: exit.message.clone(),
        });
        let bodies = std::iter::once(legacy_hello())
            .chain(group.iter().flat_map(bodies_of))
            .chain(std::iter::once(end));
        let events = numbered(1, now, bodies);
        let last = match self.store.held(lane.uid(), None).await {
            Ok(last) => last,
            Err(error) => return failed(&error),
        };
        let output = Op::Output { sprite_uid: lane.uid().to_owned(), run: last.run + 1, events };
        let apply = self.store.apply(Transaction::at(now).with(output));
        match self.ambient.step("ingest.late", apply).await {
            Ok(_) => Reply::Taken,
            Err(error) => failed(&error),
        }
    }

    /// Commits events together with what they mean. What is known moves on with it, or is
    /// forgotten.
    async fn commit(
        &self,
        lane: &Lane,
        seen: &mut Option<Seen>,
        run: u32,
        mut events: Vec<Event>,
        acked: Option<u64>,
    ) -> Result<(), store::Error> {
        let known = self.known(lane, seen).await?.clone();
        let mut tries = TRIES;
        loop {
            let now = self.ambient.clock.now();
            let context = self.context(lane, run, now, &events).await?;
            let (taken, lost) = weigh(&events);
            let contested = !context.turns.is_empty() || !context.pending.is_empty();
            let (mut next, observed) = observe(&known, context, &events);
            let spare = (contested && tries > 1).then(|| events.clone());
            let mut transaction = Transaction::at(now);
            if !events.is_empty() {
                let sprite_uid = lane.uid().to_owned();
                transaction.ops.push(Op::Output { sprite_uid, run, events });
            }
            transaction.ops.extend(observed);
            if let Some(n) = acked.filter(|n| *n > next.acked) {
                next.acked = n;
                transaction.ops.push(Op::InboxAck { sprite_uid: lane.uid().to_owned(), n });
            }
            if transaction.ops.is_empty() {
                return Ok(());
            }
            match self.ambient.step("ingest.commit", self.store.apply(transaction)).await {
                Ok(_) => {
                    lane.speaks(next.run);
                    self.metrics.ingested(taken);
                    self.metrics.dropped(lost);
                    *seen = Some(next);
                    return Ok(());
                }
                // A turn or an approval has moved since it was read.
                Err(store::Error::Stale { .. }) if spare.is_some() => {
                    events = spare.unwrap_or_default();
                    tries -= 1;
                }
                Err(error) => {
                    *seen = None;
                    return Err(error);
                }
            }
        }
    }

    /// Reads the rows that these events may move.
    async fn context(
        &self,
        lane: &Lane,
        run: u32,
        now: Timestamp,
        events: &[Event],
    ) -> Result<Context, store::Error> {
        let mut turns = BTreeMap::new();
        for id in events.iter().filter_map(observe::turn_of) {
            if !turns.contains_key(id)
                && let Some(turn) = self.store.turn(id).await?
            {
                turns.insert(id.to_owned(), turn);
            }
        }
        let mut pending = Vec::new();
        let mut asked = BTreeSet::new();
        if events.iter().any(observe::touches_approvals) {
            pending = self.store.approvals(lane.uid()).await?;
            asked.extend(pending.iter().map(|it| (it.run, it.request.clone())));
            pending.retain(|approval| approval.state == ApprovalState::Pending);
        }
        let (sprite_uid, agent_uid) = (lane.uid().to_owned(), lane.agent_uid().map(str::to_owned));
        let asks = |event: &Event| matches!(event.body, EventBody::Approval { .. });
        let grants = match &agent_uid {
            Some(agent) if events.iter().any(asks) => self.store.grants(agent).await?,
            _ => Vec::new(),
        };
        let mut stop = None;
        if events.iter().any(observe::asks_for_stop) {
            let found = self.store.get_by_uid(Kind::Sprite, lane.uid()).await?;
            if let Some(sprite) = found.and_then(|object| object.into_sprite()) {
                let deleting = sprite.metadata.is_deleting().then_some(ExitReason::Cancelled);
                stop = sprite.spec.stop.or(deleting);
            }
        }
        Ok(Context { sprite_uid, agent_uid, run, now, turns, pending, asked, grants, stop })
    }

    /// What is known of a sprite, read from the store where it must be.
    async fn known<'a>(
        &self,
        lane: &Lane,
        seen: &'a mut Option<Seen>,
    ) -> Result<&'a Seen, store::Error> {
        if let Some(known) = seen {
            return Ok(known);
        }
        let read = self.read(lane.uid()).await?;
        lane.speaks(read.run);
        Ok(seen.insert(read))
    }

    async fn read(&self, uid: &str) -> Result<Seen, store::Error> {
        let gone = || store::Error::NotFound { kind: Kind::Sprite, name: uid.to_owned() };
        let object = self.store.get_by_uid(Kind::Sprite, uid).await?.ok_or_else(gone)?;
        let status = object.into_sprite().ok_or_else(gone)?.status;
        let run = status.run;
        let mut seen = Seen {
            run,
            greeted: status.hello_time.is_some(),
            ready: status.ready,
            session: status.session_id,
            slept: status.slept,
            exit: status.exit,
            missing: status.missing_bytes,
            artifacts: status.artifacts,
            cost: status.cost,
            acked: self.store.inbox_acked(uid).await?,
            ..Seen::default()
        };
        if run == 0 {
            return Ok(seen);
        }
        let held = self.store.held(uid, Some(run)).await?;
        seen.held = held.seq;
        seen.finished = held.finished;
        let first = self.event_behind(uid, Cursor { run, seq: 0 }).await?;
        seen.legacy = first.is_some_and(|row| {
            matches!(&row.event.body, EventBody::Hello { version, .. } if version == LEGACY_VERSION)
        });
        if held.finished {
            let before = Cursor { run, seq: held.seq.saturating_sub(1) };
            seen.ended = self.event_behind(uid, before).await?.map(|row| row.event.at);
        }
        Ok(seen)
    }

    async fn event_behind(
        &self,
        uid: &str,
        cursor: Cursor,
    ) -> Result<Option<OutputRow>, store::Error> {
        Ok(self.store.output(uid, cursor, 1).await?.into_iter().next())
    }
}

fn failed(error: &store::Error) -> Reply {
    match error {
        store::Error::NotFound { .. } => Reply::Superseded,
        other => Reply::Unavailable(other.to_string()),
    }
}

/// How many events these are, and how many bytes of text are missing among them.
fn weigh(events: &[Event]) -> (u64, u64) {
    let lost = events.iter().map(|event| match event.body {
        EventBody::Gap { bytes, .. } => bytes,
        _ => 0,
    });
    (u64::try_from(events.len()).unwrap_or(u64::MAX), lost.fold(0, u64::saturating_add))
}

fn ack_of(seen: Option<&Seen>) -> EventAck {
    let (held, finished) = seen.map_or((0, false), |seen| (seen.held, seen.finished));
    EventAck { held, expected: held + 1, finished }
}

/// How many bytes of log a request has, if it may share a commit with others.
fn shared(request: &Request) -> Option<usize> {
    match request {
        Request::Legacy(said) => text_of(said),
        Request::Events(_) => None,
    }
}

fn text_of(said: &Legacy) -> Option<usize> {
    match said {
        Legacy::Logs(text) => Some(text.len()),
        Legacy::Status(_) | Legacy::Artifacts(_) => None,
    }
}

/// The hello that an original sidecar does not say.
fn legacy_hello() -> EventBody {
    EventBody::Hello {
        wire: WIRE_VERSION,
        version: LEGACY_VERSION.to_owned(),
        process: ProcessIdentity { boot_id: String::new(), pid: 0, start_time: 0 },
        containment: Containment {
            note: "an original sidecar does not say how its agent is contained".to_owned(),
            ..Containment::default()
        },
    }
}

/// What an original sidecar says, as our events.
fn bodies_of(said: &Legacy) -> Vec<EventBody> {
    match said {
        Legacy::Logs(text) => printed(text),
        Legacy::Artifacts(artifacts) => artifacts
            .iter()
            .map(|artifact| EventBody::Artifact {
                name: artifact.name.clone(),
                url: artifact.url.clone(),
                kind: artifact.kind.clone(),
            })
            .collect(),
        Legacy::Status(LegacyStatus::Running) => Vec::new(),
        Legacy::Status(LegacyStatus::Completed { code }) => {
            vec![exit(Some(*code), ExitReason::Completed, "")]
        }
        Legacy::Status(LegacyStatus::Failed { code, error }) => {
            vec![exit(*code, ExitReason::Failed, error)]
        }
    }
}

fn exit(code: Option<i32>, reason: ExitReason, message: &str) -> EventBody {
    EventBody::Exit(Exit { code, signal: None, reason, message: message.to_owned() })
}

/// Whether a status only repeats how a job has ended.
fn says_again(status: &LegacyStatus, exit: &ExitStatus) -> bool {
    match status {
        LegacyStatus::Running => false,
        LegacyStatus::Completed { code } => {
            exit.reason == ExitReason::Completed && exit.code == Some(*code)
        }
        LegacyStatus::Failed { code, .. } => {
            exit.reason == ExitReason::Failed && exit.code == *code
        }
    }
}

/// Lines that an agent printed, as events that are not too large. The sidecar cuts at newlines
/// and leaves the last one out.
fn printed(text: &str) -> Vec<EventBody> {
    let mut pieces = Vec::with_capacity(1 + text.len() / MAX_CHUNK_BYTES);
    let mut rest = text;
    while rest.len() >= MAX_CHUNK_BYTES {
        let (piece, behind) = rest.split_at(rest.floor_char_boundary(MAX_CHUNK_BYTES - 1));
        pieces.push(piece.to_owned());
        rest = behind;
    }
    let mut last = String::with_capacity(rest.len() + 1);
    last.push_str(rest);
    if !text.ends_with('\n') {
        last.push('\n');
    }
    pieces.push(last);
    let count = pieces.len();
    (1..)
        .zip(pieces)
        .filter(|(_, text)| !text.is_empty())
        .map(|(n, text)| EventBody::Log {
            stream: Stream::Stdout,
            chunk: Chunk { text: Some(text), b64: None, more: n < count },
        })
        .collect()
}

fn numbered(first: u64, at: Timestamp, bodies: impl Iterator<Item = EventBody>) -> Vec<Event> {
    (first..).zip(bodies).map(|(seq, body)| Event { seq, at, body }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_of_any_length_is_printed_whole_with_one_newline_behind_it(
            seed in "\\PC{0,40}|[✓a\n]{0,40}", times in 0_usize..2_000
        ) {
            let text = seed.repeat(times);
            let mut together = String::new();
            for body in printed(&text) {
                let EventBody::Log { chunk, .. } = body else { panic!("no log") };
                let piece = chunk.text.unwrap();
                prop_assert!(piece.len() <= MAX_CHUNK_BYTES);
                together.push_str(&piece);
            }
            let newline = if text.ends_with('\n') { "" } else { "\n" };
            prop_assert_eq!(together, text + newline);
        }
    }
}
