//! Many repositories, some of which are no good, played against a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{collection, prelude::*, sample::Index};
use serde_json::json;

use super::{
    Snapshot, SourceFile,
    many::{Decision, Part, Stop, decide, lines},
    plan::{Refusal, World},
    plan_tests::{NOW, Stage, agent, job, set_by},
    set::{Key, Limits, Rejected, Rules, Set},
};
use crate::{
    ambient::Ids as _,
    resource::{AnyObject, Defaults, Faults, Kind, SourcePolicy, admit},
    store::{Expect, Op},
};

/// A repository's name and what its one file says; nothing where it cannot be read.
type Repo<'a> = (&'a str, Option<&'a str>);

fn policy() -> SourcePolicy {
    SourcePolicy { kinds: Some(vec![Kind::Agent]), ..SourcePolicy::default() }
}

fn part((name, text): &Repo<'_>) -> Part {
    let read = |text: &&str| {
        let (path, text) = (format!("{name}/a.yaml"), (*text).to_owned());
        let files = vec![SourceFile { path, text, repo: None }];
        let snapshot = Snapshot { revision: String::new(), files };
        let (defaults, policy) = (Defaults::default(), policy());
        let limits = Limits::share(10);
        let (defaults, policy) = (&defaults, Some(&policy));
        Set::read(&snapshot, Rules { defaults, policy, source: "ours", limits })
    };
    let unread = || {
        let faults: Faults = crate::resource::Fault::new("", "is not there").into();
        Err(Rejected { denied: false, faults })
    };
    let meaning = Arc::new(text.as_ref().map_or_else(unread, read));
    Part { repo: Some((*name).to_owned()), meaning }
}

impl Stage {
    async fn decide(&self, repos: &[Repo<'_>]) -> Decision {
        let parts: Vec<Part> = repos.iter().map(part).collect();
        let mut all = Set::default();
        for part in &parts {
            let objects = part.meaning.as_ref().as_ref().map(|set| set.objects.clone());
            all.objects.extend(objects.unwrap_or_default());
        }
        let (rows, live) = self.found(&all).await;
        let (source, kept, defaults) = (&self.source, &BTreeSet::new(), &self.defaults);
        let world = World { source, rows: &rows, live: &live, kept, defaults, now: NOW };
        let revision = |out: &BTreeSet<&str>| format!("without {out:?}");
        decide(world, &parts, &revision, &mut || self.ids.uid())
    }

    /// Applies what the repositories say, finds that nothing is left to do, and answers which of them
    /// stand as they were.
    async fn take(&self, repos: &[Repo<'_>]) -> Vec<String> {
        let decision = self.decide(repos).await;
        self.commit(decision.plan.clone().unwrap().ops).await;
        let again = self.decide(repos).await;
        assert_eq!(again.plan.clone().unwrap().ops, [], "the plan after the plan is not empty");
        let out = |it: &Decision| it.troubles.keys().cloned().collect::<Vec<_>>();
        assert_eq!(out(&again), out(&decision));
        decision.troubles.into_keys().collect()
    }

    /// What the instructions of all agents say, by name.
    async fn says(&self) -> BTreeMap<String, String> {
        let agents = self.store.list(Kind::Agent, None, 1_000).await.unwrap().items;
        let says = |object: AnyObject| {
            assert!(!object.metadata().is_deleting(), "{} is deleted", object.metadata().name);
            let agent = object.into_agent()?;
            Some((agent.metadata.name, agent.spec.instructions.unwrap_or_default()))
        };
        agents.into_iter().filter_map(says).collect()
    }

    /// An agent that is nobody's.
    async fn stands(&self, name: &str) {
        let text = says(name, "mine");
        let set = set_by(&[("x.yaml", &text)], &Defaults::default());
        let object = set.objects.into_values().next().unwrap().object.clone();
        let object = admit::create(object, format!("uid of {name}"), "").unwrap();
        self.commit(vec![Op::Create(object)]).await;
    }
}

fn says(name: &str, text: &str) -> String {
    agent(name, &format!(", instructions: {text}"))
}

fn as_pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn of_two_that_declare_the_same_the_one_of_the_inventory_has_it() {
    for (first, second) in [("r/a", "r/b"), ("r/b", "r/a")] {
        let stage = Stage::new("specs", json!({}));
        let (bot, other) = (says("bot", "one"), says("bot", "two"));
        assert!(stage.take(&[(first, Some(&bot)), (second, Some(""))]).await.is_empty());
        let more = says("bot", "next");
        let took = [(first, Some(more.as_str())), (second, Some(other.as_str()))];
        let decision = stage.decide(&took).await;
        let told = lines(&decision.troubles).join("\n");
        let said = format!(
            "{second}: {second}/a.yaml:1:1: metadata.name: agent/bot stands in {first}/a.yaml:1 \
             already; keep one of the two"
        );
        assert_eq!(told, said);
        assert_eq!(stage.take(&took).await, [second]);
        assert_eq!(stage.says().await, as_pairs(&[("bot", "next")]));
        // Also where that one stands as it was itself.
        let took = [(first, None), (second, Some(other.as_str()))];
        let told = lines(&stage.decide(&took).await.troubles).join("\n");
        assert!(told.contains("is of r/"), "{told}");
        assert_eq!(stage.take(&took).await, ["r/a", "r/b"]);
        // Once it has given it up, the other one has it.
        assert!(stage.take(&[(first, Some("")), (second, Some(&other))]).await.is_empty());
        assert_eq!(stage.says().await, as_pairs(&[("bot", "two")]));
    }
}

#[tokio::test]
async fn of_two_new_ones_the_first_has_it_unless_it_does_not_count() {
    let stage = Stage::new("specs", json!({}));
    stage.stands("mine").await;
    let text = |names: &[&str]| names.iter().map(|name| says(name, "x")).collect::<String>();
    let (a, b, c) = (text(&["one"]), text(&["one", "two"]), text(&["two"]));
    // b loses to a, and so does not stop c.
    let repos = [("r/c", Some(c.as_str())), ("r/b", Some(&b)), ("r/a", Some(&a))];
    assert_eq!(stage.take(&repos).await, ["r/b"]);
    // What its holder gives up is the first one's by name, too.
    let stage = Stage::new("specs", json!({}));
    stage.stands("mine").await;
    let (h, none) = (text(&["two"]), text(&["other"]));
    assert!(stage.take(&[("r/h", Some(h.as_str()))]).await.is_empty());
    let repos = [("r/a", Some(c.as_str())), ("r/b", Some(&c)), ("r/h", Some(&none))];
    assert_eq!(stage.take(&repos).await, ["r/b"]);
    // a contradicts what stands there: b counts, and c does not.
    let stage = Stage::new("specs", json!({}));
    stage.stands("mine").await;
    let a = text(&["one", "mine"]).replacen("instructions: x", "instructions: y", 2);
    let repos = [("r/c", Some(c.as_str())), ("r/b", Some(&b)), ("r/a", Some(&a))];
    assert_eq!(stage.take(&repos).await, ["r/a", "r/c"]);
    assert_eq!(stage.says().await, as_pairs(&[("mine", "mine"), ("one", "x"), ("two", "x")]));
}

#[tokio::test]
async fn one_directory_counts_whole_or_not_at_all() {
    let stage = Stage::new("specs", json!({}));
    let (rows, live) = stage.found(&Set::default()).await;
    let (source, kept, defaults) = (&stage.source, &BTreeSet::new(), &stage.defaults);
    let world = World { source, rows: &rows, live: &live, kept, defaults, now: NOW };
    let broken = Part { repo: None, ..part(&("r/a", Some("kind: ["))) };
    let decision = decide(world, &[broken], &|_| "7".to_owned(), &mut || stage.ids.uid());
    assert!(matches!(decision.plan, Err(Stop::Rejected(_))), "{decision:?}");
    assert_eq!(decision.revision, "7");
}

#[tokio::test]
async fn what_would_be_deleted_counts_over_all_repositories() {
    let stage = Stage::new("specs", json!({"prune": {"maxDeletions": 1}}));
    let (two, one) = (says("a", "x") + &says("b", "x"), says("c", "x"));
    stage.take(&[("r/a", Some(&two)), ("r/b", Some(&one))]).await;
    let held = stage.decide(&[("r/a", Some("")), ("r/b", Some(&one))]).await.plan.unwrap_err();
    assert_eq!(held, Stop::Refused(Refusal::Held { deletions: 2, limit: 1 }));
    // One that cannot be read is none that declares nothing, also where no other one has anything.
    assert_eq!(stage.take(&[("r/a", None), ("r/b", None)]).await, ["r/a", "r/b"]);
    // A repository that the Source does not name any more is.
    assert!(stage.decide(&[("r/b", Some(&one))]).await.plan.is_err());
}

/// What becomes of a repository.
#[derive(Debug, Clone)]
enum Fate {
    Good,
    Broken,
    Unread,
    Denied,
    /// It declares what is nobody's.
    Clashes,
    /// It declares twice the same.
    Twice,
    /// It declares what another one does.
    Takes(Index),
    TooMany,
}

fn fates() -> impl Strategy<Value = Vec<(Fate, bool)>> {
    let fate = prop_oneof![
        4 => Just(Fate::Good),
        1 => Just(Fate::Broken),
        1 => Just(Fate::Unread),
        1 => Just(Fate::Denied),
        1 => Just(Fate::Clashes),
        1 => Just(Fate::Twice),
        2 => any::<Index>().prop_map(Fate::Takes),
        1 => Just(Fate::TooMany),
    ];
    // Whether it was there before, with something applied.
    collection::vec((fate, any::<bool>()), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_broken_repository_never_stops_another_in_any_order(
        fates in fates(), shuffle in any::<u64>(), hand in any::<Option<Index>>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let count = fates.len();
            // Which place by name each has.
            let mut places: Vec<usize> = (0..count).collect();
            places.sort_by_key(|n| (shuffle.rotate_left(u32::try_from(n * 11).unwrap()) ^ *n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let names: Vec<String> = places.iter().map(|place| format!("r/{place}")).collect();
            let stage = Stage::new("specs", json!({"prune": {"maxDeletions": 0}}));
            stage.stands("mine").await;
            let own = |n: usize, word: &str| says(&format!("own{n}"), word);
            let before: Vec<String> = (0..count)
                .map(|n| if fates[n].1 { own(n, "old") + &says(&format!("more{n}"), "old") } else { String::new() })
                .collect();
            let first: Vec<Repo<'_>> =
                (0..count).map(|n| (names[n].as_str(), Some(before[n].as_str()))).collect();
            assert!(stage.take(&first).await.is_empty());
            // A hand meddles with one of them meanwhile.
            let olds: Vec<usize> = (0..count).filter(|n| fates[*n].1).collect();
            if let Some(hand) = hand && !olds.is_empty() {
                let name = format!("own{}", olds[hand.index(olds.len())]);
                stage.change(Kind::Agent, &name, |object| {
                    if let AnyObject::Agent(agent) = object {
                        agent.spec.instructions = Some("by hand".to_owned());
                    }
                }).await;
            }
            let mut good: Vec<bool> = Vec::new();
            let now: Vec<Option<String>> = (0..count).map(|n| {
                let text = own(n, "new") + &says(&format!("more{n}"), "new");
                let others: Vec<usize> = olds.iter().copied().filter(|other| *other != n).collect();
                let (is_good, text) = match &fates[n].0 {
                    Fate::Good => (true, Some(text)),
                    Fate::Broken => (false, Some(text + "kind: [")),
                    Fate::Unread => (false, None),
                    Fate::Denied => (false, Some(text + &job("j", "x"))),
                    Fate::Clashes => (false, Some(text + &says("mine", "theirs"))),
                    Fate::Twice => (false, Some(text.clone() + &text)),
                    Fate::Takes(_) if others.is_empty() => (true, Some(text)),
                    Fate::Takes(index) => {
                        let other = others[index.index(others.len())];
                        (false, Some(text + &own(other, "stolen")))
                    }
                    Fate::TooMany => {
                        let most = Limits::share(10).objects;
                        let many = (0..most).map(|n| agent(&format!("x{n}"), ""));
                        (false, Some(text + &many.collect::<String>()))
                    }
                };
                good.push(is_good);
                text
            }).collect();
            let second: Vec<Repo<'_>> =
                (0..count).map(|n| (names[n].as_str(), now[n].as_deref())).collect();
            let mut out: Vec<String> =
                (0..count).filter(|n| !good[*n]).map(|n| names[n].clone()).collect();
            out.sort();
            assert_eq!(stage.take(&second).await, out);
            let mut wanted = as_pairs(&[("mine", "mine")]);
            for n in 0..count {
                let word = match (good[n], fates[n].1) {
                    (true, _) => "new",
                    (false, true) => "old",
                    (false, false) => continue,
                };
                for name in [format!("own{n}"), format!("more{n}")] {
                    wanted.insert(name, word.to_owned());
                }
            }
            assert_eq!(stage.says().await, wanted);
            // What is mended counts.
            let mended: Vec<String> = (0..count).map(|n| own(n, "mended")).collect();
            let third: Vec<Repo<'_>> =
                (0..count).map(|n| (names[n].as_str(), Some(mended[n].as_str()))).collect();
            let held = stage.decide(&third).await;
            assert!(held.troubles.is_empty(), "{:?}", held.troubles);
            let keys: BTreeSet<Key> = (0..count).map(|n| (Kind::Agent, format!("own{n}"))).collect();
            assert!(keys.len() == count);
        });
    }
}

/// Who writes meanwhile makes it begin again.
#[tokio::test]
async fn what_is_kept_is_written_on_top_of_what_was_read() {
    let stage = Stage::new("specs", json!({}));
    let text = says("bot", "x");
    stage.take(&[("r/a", Some(&text)), ("r/b", Some(""))]).await;
    stage
        .change(Kind::Agent, "bot", |object| {
            object.metadata_mut().labels.insert("by".into(), "hand".into());
        })
        .await;
    let plan = stage.decide(&[("r/a", None), ("r/b", Some(""))]).await.plan.unwrap();
    assert!(matches!(&plan.ops[..], [Op::Write { expect: Expect::SameVersion, .. }]), "{plan:?}");
}

/// The repositories `r/0..` all declare the same, and each has by the inventory what it has given up and
/// another one declares: so each that loses to the first puts one more out.
#[tokio::test]
async fn many_repositories_that_stand_in_each_others_way_are_decided_by_name() {
    const MANY: usize = 90;
    const SAME: usize = 50;
    let stage = Stage::new("specs", json!({}));
    let text: String = (0..SAME).map(|n| says(&format!("same{n}"), "x")).collect();
    let text = text + &says("given-up", "x");
    let all = set_by(&[("x.yaml", &text)], &Defaults::default());
    let named = |part: &str, n: usize, names: Vec<(String, String)>| {
        let repo = format!("{part}/{n:02}");
        let mut set = Set::default();
        for (name, of) in names {
            let mut declared = all.objects[&(Kind::Agent, of)].as_ref().clone();
            declared.object.metadata_mut().name.clone_from(&name);
            declared.file = format!("{repo}/a.yaml");
            set.objects.insert((Kind::Agent, name), Arc::new(declared));
        }
        Part { repo: Some(repo), meaning: Arc::new(Ok(set)) }
    };
    let same = || (0..SAME).map(|n| (format!("same{n}"), format!("same{n}"))).collect();
    let old = |n: usize| vec![(format!("old{n:02}"), "given-up".to_owned())];
    let mut parts: Vec<Part> = (0..MANY).map(|n| named("r", n, same())).collect();
    parts.extend((0..MANY).map(|n| named("s", n, old(n))));
    let (mut rows, live) = stage.found(&Set::default()).await;
    for n in 0..MANY {
        let given_up = named("r", n, old(n));
        let Ok(set) = given_up.meaning.as_ref() else { unreachable!() };
        for (key, declared) in &set.objects {
            let row = crate::store::Owned {
                kind: key.0,
                name: key.1.clone(),
                uid: format!("uid of {}", key.1),
                source_uid: stage.source.metadata.uid.clone(),
                source: "specs".to_owned(),
                base: declared.base.clone(),
                file: declared.file.clone(),
                line: 1,
                overrides: Vec::new(),
                leaving: false,
                version: 1,
            };
            rows.insert(key.clone(), row);
        }
    }
    let (source, kept, defaults) = (&stage.source, &BTreeSet::new(), &stage.defaults);
    let world = World { source, rows: &rows, live: &live, kept, defaults, now: NOW };
    let decision = decide(world, &parts, &|_| String::new(), &mut || stage.ids.uid());
    // All but the first, and whoever declares what those have; what the first gave up is free.
    let out: Vec<String> = decision.troubles.keys().cloned().collect();
    let names = |part: &str| (1..MANY).map(|n| format!("{part}/{n:02}")).collect::<Vec<_>>();
    assert_eq!(out, [names("r"), names("s")].concat());
    assert_eq!(decision.objects, SAME + MANY);
    let told = lines(&decision.troubles);
    assert_eq!(
        told[0],
        "r/01: r/01/a.yaml:1:1: metadata.name: agent/same0 stands in r/00/a.yaml:1 already; keep one \
         of the two"
    );
    assert!(told[MANY].contains("agent/old02 is of r/02/a.yaml:1 already"), "{}", told[MANY]);
}
