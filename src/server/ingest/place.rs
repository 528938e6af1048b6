//! Where a batch stands in what is held: the pure half of "each event once, and in order".

use sprite_reporter::wire::{
    Event, EventAck, EventBatch, EventBody, OLDEST_WIRE_VERSION, WIRE_VERSION,
};

use super::{read::BadBody, seen::Seen};

/// What is to be done with a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// A newer run speaks for the sprite: whoever sent this must end.
    Superseded,
    /// All of it is held, or the run has ended: answer so.
    Held(EventAck),
    /// Something is missing in front of it.
    Hole(EventAck),
    /// These events are new.
    New(Vec<Event>),
}

/// Compares a batch with what is held.
///
/// # Errors
/// A new run that does not begin as a run must.
pub fn place(seen: &Seen, batch: EventBatch) -> Result<Place, BadBody> {
    if batch.run < seen.run {
        return Ok(Place::Superseded);
    }
    let (held, finished) =
        if batch.run == seen.run { (seen.held, seen.finished) } else { (0, false) };
    let ack = EventAck { held, expected: held + 1, finished };
    if finished {
        return Ok(Place::Held(ack));
    }
    let mut events = batch.events;
    events.retain(|event| event.next_seq() > ack.expected);
    let Some(first) = events.first_mut() else { return Ok(Place::Held(ack)) };
    if first.seq > ack.expected {
        return Ok(Place::Hole(ack));
    }
    // Only a gap can reach over the edge: its reporter dropped text that was held already,
    // but did not know so. What is held stays.
    first.seq = ack.expected;
    if ack.expected == 1 {
        begins_well(&first.body)?;
    }
    Ok(Place::New(events))
}

/// Checks that a run begins with a greeting in a language that we speak.
fn begins_well(first: &EventBody) -> Result<(), BadBody> {
    match first {
        EventBody::Hello { wire, version, .. } => {
            if (OLDEST_WIRE_VERSION..=WIRE_VERSION).contains(wire) {
                Ok(())
            } else {
                Err(BadBody(format!(
                    "the reporter ({version}) speaks wire version {wire}, and this server speaks \
                     {OLDEST_WIRE_VERSION} to {WIRE_VERSION}; install the sprite-reporter of \
                     version {}",
                    env!("CARGO_PKG_VERSION")
                )))
            }
        }
        _ => Err(BadBody("the first event of a run must be hello".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use sprite_reporter::wire::{Containment, ProcessIdentity};

    use super::*;

    fn event(seq: u64, body: EventBody) -> Event {
        Event { seq, at: Timestamp::UNIX_EPOCH, body }
    }

    fn hello(wire: u32) -> Event {
        let process = ProcessIdentity { boot_id: "b".to_owned(), pid: 1, start_time: 1 };
        let containment = Containment::default();
        event(1, EventBody::Hello { wire, version: "9.9.9".to_owned(), process, containment })
    }

    fn batch(run: u32, events: Vec<Event>) -> EventBatch {
        EventBatch { job_id: "j".to_owned(), run, events, inbox_ack: None }
    }

    fn held(run: u32, held: u64) -> Seen {
        Seen { run, held, ..Seen::default() }
    }

    fn ready(numbers: std::ops::RangeInclusive<u64>) -> Vec<Event> {
        numbers.map(|seq| event(seq, EventBody::Ready {})).collect()
    }

    #[test]
    fn a_run_begins_with_a_hello_that_we_understand() {
        let refused = |events| place(&Seen::default(), batch(1, events)).unwrap_err().to_string();
        insta::assert_snapshot!([refused(ready(1..=1)), refused(vec![hello(7)])].join("\n"));
        assert_eq!(
            place(&Seen::default(), batch(1, vec![hello(1)])),
            Ok(Place::New(vec![hello(1)]))
        );
    }

    #[test]
    fn an_older_run_is_superseded_and_a_newer_one_begins_anew() {
        assert_eq!(place(&held(2, 5), batch(1, ready(6..=6))), Ok(Place::Superseded));
        let ack = EventAck { held: 0, expected: 1, finished: false };
        assert_eq!(place(&held(2, 5), batch(3, ready(6..=6))), Ok(Place::Hole(ack)));
        assert_eq!(place(&held(2, 5), batch(3, vec![hello(1)])), Ok(Place::New(vec![hello(1)])));
    }

    #[test]
    fn behind_the_exit_everything_counts_as_held() {
        let seen = Seen { finished: true, ..held(1, 5) };
        let ack = EventAck { held: 5, expected: 6, finished: true };
        assert_eq!(place(&seen, batch(1, ready(9..=9))), Ok(Place::Held(ack)));
    }

    #[test]
    fn a_gap_over_the_edge_keeps_what_is_held() {
        let gap = |seq| event(seq, EventBody::Gap { through: 9, bytes: 100 });
        assert_eq!(place(&held(1, 7), batch(1, vec![gap(5)])), Ok(Place::New(vec![gap(8)])));
        let ack = EventAck { held: 9, expected: 10, finished: false };
        assert_eq!(place(&held(1, 9), batch(1, vec![gap(5)])), Ok(Place::Held(ack)));
    }

    proptest! {
        /// Whatever is sent in whatever order, what is taken is the sequence without holes.
        #[test]
        fn what_is_taken_continues_what_is_held(
            batches in proptest::collection::vec((2_u64..40, 0_u64..10), 0..60)
        ) {
            let mut seen = held(1, 1);
            for (from, length) in batches {
                let before = seen.held;
                match place(&seen, batch(1, ready(from..=from + length))).unwrap() {
                    Place::New(events) => {
                        prop_assert_eq!(events[0].seq, before + 1);
                        for event in &events {
                            prop_assert_eq!(event.seq, seen.held + 1);
                            seen.held = event.seq;
                        }
                    }
                    Place::Held(ack) => prop_assert!(from + length <= ack.held),
                    Place::Hole(ack) => prop_assert!(from > ack.expected),
                    Place::Superseded => prop_assert!(false, "nobody superseded this run"),
                }
            }
        }
    }
}
