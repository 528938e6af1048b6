//! What a long life has said is not kept for ever: the pure half of trimming a sprite's output.
//!
//! An agent that sleeps and wakes is one sprite for months. Of what it said, the newest
//! [`KEEP`] bytes stay, and what a turn or a delivery still needs, up to [`KEEP_NEEDED`] bytes. What
//! goes is told where it stood: one stretch takes its place, with the run's greeting, a gap that says
//! how much is missing, and the run's end. So the ledger has no holes, the last row of a run is what
//! it was, and a reader that begins anywhere hears what it missed.
//!
//! | before | after |
//! |---|---|
//! | run 1: hello, …, exit; run 2: hello, a, b; c, d | run 2: hello, gap; c, d |
//! | run 1: hello, …, exit; run 2: hello; a | run 1: hello, gap, exit; run 2: hello; a |

use std::collections::BTreeMap;

use jiff::Timestamp;
use sprite_reporter::wire::{Event, EventBody};

use super::{Cursor, DeliveryState, Subject};

/// So many bytes of a sprite's newest output stay.
pub(super) const KEEP: u64 = 16 * 1024 * 1024;
/// So many bytes stay where a turn or a delivery needs more than [`KEEP`].
pub(super) const KEEP_NEEDED: u64 = 4 * KEEP;
/// Nothing is trimmed for less than so many bytes, so that few stretches are written anew.
pub(super) const WORTH: u64 = KEEP / 8;

/// How much of each sprite's output stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keeps {
    /// As [`KEEP`].
    pub(super) newest: u64,
    /// As [`KEEP_NEEDED`].
    pub(super) needed: u64,
    /// As [`WORTH`].
    pub(super) worth: u64,
}

impl Default for Keeps {
    fn default() -> Self {
        Self { newest: KEEP, needed: KEEP_NEEDED, worth: WORTH }
    }
}

/// From where on each sprite's output is needed: behind these places.
pub(super) type Needed = BTreeMap<String, Cursor>;

/// Notes that a sprite's output is needed behind a place.
pub(super) fn need(needed: &mut Needed, sprite_uid: &str, behind: Cursor) {
    let place = needed.entry(sprite_uid.to_owned()).or_insert(behind);
    *place = behind.min(*place);
}

/// What a delivery that is not done needs: a turn's output, or that of all sprites of a Job.
pub(super) enum Shows<'a> {
    /// Nothing of the ledgers.
    Nothing,
    /// The turn of this id.
    Turn(&'a str),
    /// The Job of this uid.
    Job(&'a str),
}

/// What a delivery still has to show.
pub(super) fn shows(subject: &Subject, state: DeliveryState) -> Shows<'_> {
    match subject {
        _ if state == DeliveryState::Done => Shows::Nothing,
        Subject::Notice { .. }
        | Subject::Choice { .. }
        | Subject::Offer { .. }
        | Subject::File { .. } => Shows::Nothing,
        Subject::Turn { id } => Shows::Turn(id),
        Subject::Job { uid, .. } => Shows::Job(uid),
    }
}

/// What goes, in short: the end of the oldest part of a sprite's output.
pub(super) struct Gone {
    /// The first event of the run in which it ends.
    pub(super) first: Event,
    /// Its last event.
    pub(super) last: Event,
    /// How many bytes it had.
    pub(super) bytes: u64,
}

/// How many bytes an earlier gap stands for, if this is the first stretch of a sprite's output
/// and was trimmed before.
pub(super) fn told_before(stretch: &[Event]) -> Option<u64> {
    match stretch {
        [Event { body: EventBody::Hello { .. }, .. }, gap, ..] | [gap, ..] => match gap.body {
            EventBody::Gap { bytes, .. } if gap.seq <= 2 => Some(bytes),
            _ => None,
        },
        [] => None,
    }
}

/// The stretch that takes the place of what goes; nothing where there is no room to tell it, since
/// all that goes of the run is its greeting or its end. Then less must go.
pub(super) fn instead(gone: Gone, now: Timestamp) -> Option<Vec<Event>> {
    let Gone { first, last, bytes } = gone;
    let end = last.next_seq() - 1;
    let hello = Some(first).filter(|it| matches!(it.body, EventBody::Hello { .. }));
    let exit = Some(last).filter(|it| matches!(it.body, EventBody::Exit(_)));
    let seq = hello.as_ref().map_or(1, |_| 2);
    let through = end - u64::from(exit.is_some());
    let body = EventBody::Gap { through, bytes };
    let gap = (through >= seq).then_some(Event { seq, at: now, body })?;
    Some(hello.into_iter().chain([gap]).chain(exit).collect())
}

#[cfg(test)]
mod tests {
    use sprite_reporter::wire::{Chunk, Containment, Exit, ExitReason, ProcessIdentity, Stream};

    use super::*;

    fn event(seq: u64, body: EventBody) -> Event {
        Event { seq, at: Timestamp::UNIX_EPOCH, body }
    }

    fn hello() -> Event {
        let process = ProcessIdentity { boot_id: String::new(), pid: 1, start_time: 1 };
        let (version, containment) = ("1".to_owned(), Containment::default());
        event(1, EventBody::Hello { wire: 1, version, process, containment })
    }

    fn log(seq: u64) -> Event {
        let chunk = Chunk::pack(b"x", false);
        event(seq, EventBody::Log { stream: Stream::Stdout, chunk })
    }

    fn exit(seq: u64) -> Event {
        let (code, signal, message) = (Some(0), None, String::new());
        event(seq, EventBody::Exit(Exit { code, signal, reason: ExitReason::Asleep, message }))
    }

    fn gap(seq: u64, through: u64, bytes: u64) -> Event {
        event(seq, EventBody::Gap { through, bytes })
    }

    fn trimmed(first: Event, last: Event) -> Vec<Event> {
        let gone = Gone { first, last, bytes: 7 };
        instead(gone, Timestamp::UNIX_EPOCH).unwrap_or_default()
    }

    #[test]
    fn what_goes_leaves_the_greeting_a_gap_and_the_end() {
        assert_eq!(trimmed(hello(), log(9)), [hello(), gap(2, 9, 7)]);
        assert_eq!(trimmed(hello(), exit(9)), [hello(), gap(2, 8, 7), exit(9)]);
        assert_eq!(trimmed(log(1), gap(3, 9, 1)), [gap(1, 9, 7)], "a reporter's gap goes, too");
        assert_eq!(trimmed(hello(), hello()), [], "there is no room");
        assert_eq!(trimmed(hello(), exit(2)), []);
    }

    #[test]
    fn a_gap_is_told_once_however_often_it_grows() {
        assert_eq!(told_before(&trimmed(hello(), exit(9))), Some(7));
        assert_eq!(told_before(&trimmed(log(1), log(9))), Some(7));
        assert_eq!(told_before(&[hello(), log(2), gap(3, 9, 1)]), None, "that is a reporter's");
    }
}
