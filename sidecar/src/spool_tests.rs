//! The spool against a model: whatever is appended, acknowledged and cut off by a crash, what is
//! read back is what was appended, in order, or a gap that says how much is missing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::{Chunk, ExitReason, Stream};

const SMALL: Options = Options { cap: 2000, segment: 500 };
const HUGE: Options = Options { cap: u64::MAX, segment: 400 };

fn now() -> Timestamp {
    crate::ambient::now()
}

fn log(text: &str) -> EventBody {
    EventBody::Log { stream: Stream::Stdout, chunk: Chunk::pack(text.as_bytes(), false) }
}

fn turn(name: &str) -> EventBody {
    EventBody::TurnAccepted { turn: name.into(), origin: None }
}

fn exit() -> Exit {
    Exit { code: Some(0), signal: None, reason: ExitReason::Completed, message: String::new() }
}

fn read_all(spool: &mut Spool, from: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut next = from;
    loop {
        let page = spool.read(next, 300, 5).unwrap();
        if page.lines.is_empty() {
            return events;
        }
        assert!(page.next > next);
        next = page.next;
        events.extend(page.lines.iter().map(|line| serde_json::from_str::<Event>(line).unwrap()));
    }
}

/// Checks that events follow each other without holes, and match what was appended.
fn check(events: &[Event], from: u64, appended: &BTreeMap<u64, EventBody>, may_gap: bool) {
    let mut want = from;
    for event in events {
        assert_eq!(event.seq, want, "a hole, or an event twice");
        want = event.next_seq();
        if let EventBody::Gap { through, bytes } = event.body {
            assert!(may_gap, "a gap although there was room");
            let missing: Vec<_> = appended.range(event.seq..=through).collect();
            assert!(missing.iter().all(|(_, body)| body.may_be_dropped()), "dropped {missing:?}");
            let length: usize = missing
                .iter()
                .map(|(_, body)| match body {
                    EventBody::Log { chunk, .. } => chunk.bytes().len(),
                    _ => 0,
                })
                .sum();
            assert!(bytes >= length as u64, "{bytes} < {length}");
        } else {
            assert_eq!(Some(&event.body), appended.get(&event.seq));
        }
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Log(usize),
    Turn,
    Ack(f64),
    Crash(f64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (0_usize..200).prop_map(Deed::Log),
        2 => Just(Deed::Turn),
        1 => (0.0..1.0).prop_map(Deed::Ack),
        1 => (0.0..1.0).prop_map(Deed::Crash),
    ];
    prop::collection::vec(deed, 0..60)
}

/// Plays deeds on a spool and on a model of it, and compares them.
fn play(deeds: &[Deed], options: Options) {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), options).unwrap();
    let mut appended: BTreeMap<u64, EventBody> = BTreeMap::new();
    let mut held = 0;
    // The size of the last segment when something in it was last said to be on disk.
    let mut firm: Option<(PathBuf, u64)> = None;
    for deed in deeds {
        match deed {
            Deed::Log(length) => {
                let body = log(&"x".repeat(*length));
                let seq = spool.append(now(), body.clone()).unwrap();
                assert!(appended.insert(seq, body).is_none(), "number {seq} was used twice");
            }
            Deed::Turn => {
                let body = turn("t");
                let seq = spool.append(now(), body.clone()).unwrap();
                appended.insert(seq, body);
                let last = spool.segments.back().unwrap();
                firm = Some((last.path.clone(), last.bytes));
            }
            Deed::Ack(part) => {
                let span = (spool.next() - 1 - held) as f64;
                held += (span * part) as u64;
                spool.acknowledge(held).unwrap();
            }
            Deed::Crash(part) => {
                let last = spool.segments.back().map(|last| (last.path.clone(), last.bytes));
                drop(spool);
                if let Some((path, bytes)) = last {
                    let keep = match &firm {
                        Some((firm, bytes)) if *firm == path => *bytes,
                        _ => 0,
                    };
                    let cut = keep + ((bytes.saturating_sub(keep)) as f64 * part) as u64;
                    let file = OpenOptions::new().write(true).open(&path).unwrap();
                    file.set_len(cut.min(bytes)).unwrap();
                }
                spool = Spool::open(directory.path(), options).unwrap();
                let next = spool.next();
                let lost = appended.split_off(&next);
                assert!(lost.values().all(EventBody::may_be_dropped), "lost {lost:?}");
                // What the server held before the crash, it holds after it.
                spool.skip_to(held + 1).unwrap();
                for (seq, body) in lost.into_iter().filter(|(seq, _)| *seq <= held) {
                    appended.insert(seq, body);
                }
            }
        }
        let may_gap = options == SMALL;
        check(&read_all(&mut spool, held + 1), held + 1, &appended, may_gap);
    }
    let vital: u64 = appended.values().filter(|body| !body.may_be_dropped()).count() as u64;
    if options == SMALL {
        assert!(spool.size() < options.cap + 600 + vital * 400, "{} bytes", spool.size());
    }
    let events = read_all(&mut spool, held + 1);
    for (seq, body) in appended.range(held + 1..).filter(|(_, body)| !body.may_be_dropped()) {
        assert!(events.iter().any(|it| it.seq == *seq && it.body == *body), "{seq} is gone");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_appended_is_read_whatever_happens_in_between(deeds in deeds()) {
        play(&deeds, HUGE);
    }

    #[test]
    fn a_full_spool_drops_text_only_and_says_how_much(deeds in deeds()) {
        play(&deeds, SMALL);
    }
}

#[test]
fn a_gap_counts_the_bytes_that_are_missing() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), SMALL).unwrap();
    spool.append(now(), turn("first")).unwrap();
    for _ in 0..100 {
        spool.append(now(), log(&"y".repeat(90))).unwrap();
    }
    spool.append(now(), EventBody::Exit(exit())).unwrap();
    let events = read_all(&mut spool, 1);
    let (mut missing, mut present) = (0, 0);
    for event in &events {
        match &event.body {
            EventBody::Gap { bytes, .. } => missing += bytes,
            EventBody::Log { .. } => present += 90,
            _ => {}
        }
    }
    assert!(missing > 0);
    assert_eq!(missing + present, 9000);
    assert_eq!(events.first().unwrap().body, turn("first"));
    assert_eq!(events.last().unwrap().body, EventBody::Exit(exit()));
    assert!(fs::read_dir(directory.path()).unwrap().count() < 10, "gaps pile up");
}

#[test]
fn a_join_that_did_not_finish_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    for _ in 0..20 {
        spool.append(now(), turn("t")).unwrap();
    }
    let before = read_all(&mut spool, 1);
    let (first, second) = (spool.segments[0].path.clone(), spool.segments[1].path.clone());
    drop(spool);
    // As if the second had been joined to the first, but not yet removed.
    let joined = [fs::read(&first).unwrap(), fs::read(&second).unwrap()].concat();
    fs::write(&first, joined).unwrap();
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    assert!(!second.exists());
    assert_eq!(read_all(&mut spool, 1), before);
}

#[test]
fn a_hole_is_told_as_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    for _ in 0..20 {
        spool.append(now(), log("some text")).unwrap();
    }
    let second = spool.segments[1].path.clone();
    drop(spool);
    fs::remove_file(second).unwrap();
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    let events = read_all(&mut spool, 1);
    assert_eq!(events.last().unwrap().seq, 20);
    assert!(events.windows(2).all(|pair| pair[0].next_seq() == pair[1].seq));
    assert_eq!(
        events.iter().filter(|event| matches!(event.body, EventBody::Gap { .. })).count(),
        1
    );
}

#[test]
fn the_exit_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    spool.append(now(), EventBody::Exit(exit())).unwrap();
    drop(spool);
    let spool = Spool::open(directory.path(), HUGE).unwrap();
    assert_eq!((spool.ended(), spool.next()), (Some(&exit()), 2));
}

#[test]
fn text_that_the_server_refuses_gives_way_to_a_gap_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    spool.append(now(), turn("t")).unwrap();
    spool.append(now(), log("refused")).unwrap();
    spool.append(now(), log("kept")).unwrap();
    assert!(!spool.give_up(1).unwrap());
    assert!(spool.give_up(2).unwrap());
    spool.append(now(), log("after")).unwrap();
    let bodies: Vec<_> = read_all(&mut spool, 1).into_iter().map(|event| event.body).collect();
    assert_eq!(
        bodies,
        [turn("t"), EventBody::Gap { through: 2, bytes: 7 }, log("kept"), log("after")]
    );
}

#[test]
fn numbers_go_on_behind_what_the_server_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    spool.append(now(), log("kept")).unwrap();
    spool.skip_to(8).unwrap();
    spool.acknowledge(7).unwrap();
    drop(spool);
    let mut spool = Spool::open(directory.path(), HUGE).unwrap();
    assert_eq!(spool.append(now(), turn("t")).unwrap(), 8);
    assert_eq!(read_all(&mut spool, 8).len(), 1);
}

#[test]
fn an_event_that_is_in_the_spool_is_never_refused_because_there_is_no_room_to_tidy() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), SMALL).unwrap();
    // Nothing can be rewritten here, as on a disk that is full.
    let obstacle = directory.path().join("rewrite.tmp");
    fs::create_dir(&obstacle).unwrap();
    for n in 1..=40 {
        assert_eq!(spool.append(now(), log(&"x".repeat(90))).unwrap(), n);
    }
    assert!(spool.size() > SMALL.cap);
    assert_eq!(read_all(&mut spool, 1).len(), 40);
    fs::remove_dir(&obstacle).unwrap();
    spool.append(now(), turn("t")).unwrap();
    assert!(spool.size() <= SMALL.cap, "tidied as soon as there is room");
    assert_eq!(read_all(&mut spool, 1).last().unwrap().seq, 41);
}
