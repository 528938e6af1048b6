use proptest::prelude::*;

use super::*;

fn at(minute: u64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    later(start, Duration::from_secs(60 * minute))
}

const PATIENCE: Patience =
    Patience { machine: Duration::from_secs(5 * 60), volume: Duration::from_secs(60 * 60), cap: 3 };

/// A machine that was made long ago, unless more is said of it.
fn machine(id: &str, keeper: &str) -> Holding {
    Holding {
        thing: Thing::Machine(id.into()),
        keeper: keeper.into(),
        revision: Some(5),
        created: Some(at(0)),
        is_certain: true,
        is_leaving: false,
        held_by: None,
        hourly: 10_000,
    }
}

fn volume(id: &str, keeper: &str, held_by: Option<&str>) -> Holding {
    Holding {
        thing: Thing::Volume(id.into()),
        revision: None,
        held_by: held_by.map(str::to_owned),
        hourly: 600,
        ..machine(id, keeper)
    }
}

fn look(held: &[Holding], minute: u64) -> Look<'_> {
    Look { held, is_whole: true, revision: Some(10), now: at(minute) }
}

fn lives(it: &Holding) -> bool {
    it.keeper == "lives"
}

fn ids(things: &[Thing]) -> Vec<String> {
    things.iter().map(ToString::to_string).collect()
}

#[test]
fn what_nobody_wants_is_marked_and_told_and_destroyed_after_the_grace() {
    let held = [machine("a", "lives"), machine("b", "dead")];
    let first = plan(&look(&held, 100), lives, &Tombstones::new(), &PATIENCE);
    assert_eq!(first.tombstones, Tombstones::from([(Thing::Machine("b".into()), at(100))]));
    assert_eq!((first.destroy.len(), first.hold), (0, None));
    let risk = first.risk.unwrap();
    assert_eq!((risk.machines, risk.volumes, risk.hourly), (1, 0, 10_000));
    assert_eq!(risk.next, Some(at(105)));

    let later = plan(&look(&held, 104), lives, &first.tombstones, &PATIENCE);
    assert_eq!((later.destroy.len(), &later.tombstones), (0, &first.tombstones));
    let last = plan(&look(&held, 105), lives, &later.tombstones, &PATIENCE);
    assert_eq!(ids(&last.destroy), ["machine b"]);
}

#[test]
fn what_is_wanted_again_or_was_not_there_begins_anew() {
    let held = [machine("a", "dead")];
    let marked = plan(&look(&held, 100), lives, &Tombstones::new(), &PATIENCE).tombstones;
    for between in [
        plan(&look(&[], 102), lives, &marked, &PATIENCE),
        plan(&look(&held, 102), |_| true, &marked, &PATIENCE),
    ] {
        assert_eq!((between.tombstones.len(), &between.risk), (0, &None));
        let again = plan(&look(&held, 106), lives, &between.tombstones, &PATIENCE);
        assert_eq!((again.destroy.len(), again.tombstones.values().next()), (0, Some(&at(106))));
    }
}

#[test]
fn what_is_young_is_left_alone_however_old_its_tombstone_is() {
    let held = [Holding { created: Some(at(103)), ..machine("a", "dead") }];
    let marked = Tombstones::from([(Thing::Machine("a".into()), at(0))]);
    assert_eq!(plan(&look(&held, 107), lives, &marked, &PATIENCE).destroy.len(), 0);
    assert_eq!(plan(&look(&held, 108), lives, &marked, &PATIENCE).destroy.len(), 1);
}

#[test]
fn a_clock_that_was_set_back_starts_the_grace_again() {
    let held = [machine("a", "dead")];
    let marked = Tombstones::from([(Thing::Machine("a".into()), at(900))]);
    let round = plan(&look(&held, 100), lives, &marked, &PATIENCE);
    assert_eq!((round.destroy.len(), round.tombstones.values().next()), (0, Some(&at(100))));
}

#[test]
fn a_volume_goes_after_its_machine_and_later() {
    let held =
        [machine("m", "dead"), volume("v", "dead", Some("m")), volume("w", "dead", Some("gone"))];
    let marked: Tombstones = held.iter().map(|it| (it.thing.clone(), at(100))).collect();
    assert_eq!(ids(&plan(&look(&held, 130), lives, &marked, &PATIENCE).destroy), ["machine m"]);
    let round = plan(&look(&held, 160), lives, &marked, &PATIENCE);
    assert_eq!(ids(&round.destroy), ["machine m", "volume w"]);
    // The volume is still told to be held by it, minutes after that machine was destroyed.
    let round = plan(&look(&held[1..], 161), lives, &marked, &PATIENCE);
    assert_eq!(ids(&round.destroy), ["volume v", "volume w"]);
    // A living machine keeps even the volume of somebody who is gone.
    let held = [machine("m", "lives"), volume("v", "dead", Some("m"))];
    assert_eq!(plan(&look(&held, 900), lives, &marked, &PATIENCE).destroy.len(), 0);
}

#[test]
fn what_fly_cannot_say_for_sure_waits() {
    let held = [Holding { is_certain: false, ..machine("a", "dead") }];
    let marked = Tombstones::from([(Thing::Machine("a".into()), at(0))]);
    let round = plan(&look(&held, 900), lives, &marked, &PATIENCE);
    assert_eq!((round.destroy.len(), &round.tombstones), (0, &marked));
    assert_eq!(round.risk.map(|risk| (risk.uncertain, risk.next)), Some((1, None)));
}

#[test]
fn a_store_that_was_restored_condemns_nothing_until_it_has_caught_up() {
    let held = [Holding { revision: Some(11), ..machine("a", "lives") }, machine("b", "dead")];
    let marked = Tombstones::from([(Thing::Machine("b".into()), at(0))]);
    let round = plan(&look(&held, 900), lives, &marked, &PATIENCE);
    assert_eq!((round.destroy.len(), round.tombstones.len()), (0, 0));
    insta::assert_snapshot!(round.hold.unwrap(), @"machine a was made at revision 11 and the store is at 10: it was restored from a backup, and nothing is destroyed that it does not know until an operator says so");
    let caught_up = Look { revision: Some(11), ..look(&held, 901) };
    let round = plan(&caught_up, lives, &round.tombstones, &PATIENCE);
    assert_eq!((round.destroy.len(), round.tombstones.values().next()), (0, Some(&at(901))));
}

#[test]
fn the_risk_is_told_in_one_line() {
    let held = [
        Holding { created: Some(at(0)), hourly: 2_800, ..machine("a", "dead") },
        Holding { is_certain: false, hourly: 44_000, ..machine("b", "dead") },
        volume("v", "dead", None),
    ];
    let told = |held: &[Holding]| {
        let round = plan(&look(held, 600), lives, &Tombstones::new(), &PATIENCE);
        round.risk.unwrap().to_string()
    };
    insta::assert_snapshot!([told(&held), told(&held[..1]), told(&held[2..])].join("\n"), @r"
    2 machines and 1 volume on Fly belong to nothing here: about $0.05 an hour, at most $0.48 so far; of 1 Fly cannot say how it is; destroyed from 2026-01-01T10:05:00Z on
    1 machine on Fly belongs to nothing here: about $0.0028 an hour, at most $0.03 so far; destroyed from 2026-01-01T10:05:00Z on
    1 volume on Fly belongs to nothing here: about $0.0006 an hour, at most $0.0060 so far; destroyed from 2026-01-01T11:00:00Z on
    ");
    let partial = Look { is_whole: false, ..look(&held, 600) };
    let round = plan(&partial, lives, &Tombstones::new(), &PATIENCE);
    assert_eq!(round.risk, None);
    insta::assert_snapshot!(round.hold.unwrap(), @"what Fly holds could not be seen whole, so nothing is taken for a leak");
}

/// One look of a made-up history.
#[derive(Debug, Clone)]
struct Step {
    minutes: u64,
    held: Vec<Holding>,
    wanted: Vec<bool>,
    is_whole: bool,
    revision: Option<u64>,
}

fn holding() -> impl Strategy<Value = Holding> {
    (0..4_usize, 0..3_usize, any::<bool>(), prop::option::of(0..400_u64), 0..20_u8, 0..12_u64)
        .prop_map(|(id, keeper, is_machine, created, odd, revision)| {
            let (id, keeper) = (format!("t{id}"), format!("k{keeper}"));
            let it = match is_machine {
                true => Holding { revision: Some(revision), ..machine(&id, &keeper) },
                false => volume(&id, &keeper, (odd % 3 == 0).then_some("t0")),
            };
            Holding { created: created.map(at), is_certain: odd != 0, is_leaving: odd == 1, ..it }
        })
}

fn step() -> impl Strategy<Value = Step> {
    (
        0..40_u64,
        prop::collection::vec(holding(), 0..8),
        prop::collection::vec(prop::bool::weighted(0.3), 3),
        prop::bool::weighted(0.85),
        prop::option::weighted(0.95, 8..14_u64),
    )
        .prop_map(|(minutes, mut held, wanted, is_whole, revision)| {
            held.sort_by(|a, b| a.thing.cmp(&b.thing));
            held.dedup_by(|a, b| a.thing == b.thing);
            Step { minutes, held, wanted, is_whole, revision }
        })
}

proptest! {
    #[test]
    fn whatever_comes_nothing_goes_that_may_not(steps in prop::collection::vec(step(), 1..30)) {
        let mut tombstones = Tombstones::new();
        // Kept apart from the code under test: since when each was unwanted in every whole look.
        let mut unwanted_since: BTreeMap<Thing, Timestamp> = BTreeMap::new();
        let mut minute = 0;
        for step in steps {
            minute += step.minutes;
            let now = at(minute);
            let wanted = |it: &Holding| {
                step.wanted[usize::from(it.keeper.as_bytes()[1] - b'0')]
            };
            let look = Look {
                held: &step.held, is_whole: step.is_whole, revision: step.revision, now,
            };
            let round = plan(&look, wanted, &tombstones, &PATIENCE);
            let is_behind = step.held.iter().any(|it| it.revision > step.revision);
            for it in &step.held {
                if wanted(it) {
                    unwanted_since.remove(&it.thing);
                } else if step.is_whole {
                    unwanted_since.entry(it.thing.clone()).or_insert(now);
                }
            }
            if step.is_whole && step.revision.is_some() {
                unwanted_since.retain(|thing, _| step.held.iter().any(|it| it.thing == *thing));
            }

            prop_assert!(round.destroy.len() <= PATIENCE.cap);
            if !step.is_whole || step.revision.is_none() || is_behind {
                prop_assert!(round.destroy.is_empty() && round.hold.is_some());
            }
            for thing in &round.destroy {
                let it = step.held.iter().find(|it| it.thing == *thing);
                let it = it.expect("only what was seen in this look");
                prop_assert!(!wanted(it) && it.is_certain && !it.is_leaving);
                let grace = PATIENCE.grace(thing);
                prop_assert!(later(unwanted_since[thing], grace) <= now);
                prop_assert!(it.created.is_none_or(|created| later(created, grace) <= now));
                if let Some(id) = &it.held_by {
                    let machine = Thing::Machine(id.clone());
                    prop_assert!(step.held.iter().all(|it| it.thing != machine));
                }
            }
            tombstones = round.tombstones;
        }
    }

    #[test]
    fn what_stays_unwanted_goes_in_the_end(held in prop::collection::vec(holding(), 0..8)) {
        let mut held: Vec<Holding> = held
            .into_iter()
            .map(|it| Holding { is_certain: true, is_leaving: false, ..it })
            .collect();
        held.sort_by(|a, b| a.thing.cmp(&b.thing));
        held.dedup_by(|a, b| a.thing == b.thing);
        let mut tombstones = Tombstones::new();
        for round in 0..20 {
            let look = Look { revision: Some(100), ..look(&held, 1_000 + 61 * round) };
            let planned = plan(&look, lives, &tombstones, &PATIENCE);
            tombstones = planned.tombstones;
            held.retain(|it| !planned.destroy.contains(&it.thing));
        }
        prop_assert_eq!(held, vec![]);
    }
}
