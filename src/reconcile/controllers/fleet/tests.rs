//! What is decided for a Fleet, case by case, and what holds in every case.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    FleetController, NoSources,
    cap::with_left,
    member::{Health, health},
    plan::{Action, Plan, Trouble, View, plan},
    usual::note,
};
use crate::{
    ambient::Ambient,
    reconcile::{
        Controller as _, Next, Wake,
        controllers::{made::ended, words},
    },
    resource::{
        API_VERSION, Agent, AnyObject, CONFIRM_DELETIONS,
        ConditionStatus::{False, True},
        Defaults, FINALIZER_OWNED, FLEET_LABEL, FLEET_RESTART, Fleet, FleetSpec, Kind,
        MAX_OVERRIDE_TIME, ORPHAN, PastRun, RESTARTED_UP_TO, RunOutcome, Span, decode,
        expand::{MOST_MEMBERS, Member, NoDirectories, members},
    },
    store::{Change, ChangeKind, Expect, Op, Part, Store as _, Transaction, memory::MemoryStore},
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Agents with a name and instructions.
fn agents(list: &[&str], instructions: &str) -> Value {
    let list: Vec<Value> = list.iter().map(|name| json!({"n": name})).collect();
    json!({
        "generate": {"list": list},
        "template": {
            "kind": "Agent",
            "metadata": {"name": "{{n}}", "labels": {"team": "a"}},
            "spec": {"agent": {"claude": {}}, "instructions": instructions},
        },
    })
}

fn jobs(list: &[&str], task: &str) -> Value {
    let list: Vec<Value> = list.iter().map(|name| json!({"n": name})).collect();
    json!({
        "generate": {"list": list},
        "template": {
            "kind": "Job", "metadata": {"name": "{{n}}"},
            "spec": {"agent": {"claude": {}}, "task": task},
        },
    })
}

/// A little world: a Fleet and its members, moved by plans and by fate.
#[derive(Debug, Clone)]
struct World {
    fleet: Option<Fleet>,
    objects: Vec<AnyObject>,
    taken: BTreeSet<String>,
    now: Timestamp,
    /// Of whom turns wait, before their status says so.
    owing: BTreeSet<String>,
    trouble: Option<Trouble>,
    /// How many Agents that were well each settling took out of service at once.
    most_out: usize,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut fleet = Fleet::new("crew", spec_of(spec));
        fleet.metadata.uid = "uid".to_owned();
        fleet.metadata.generation = 1;
        fleet.metadata.finalizers = vec![FINALIZER_OWNED.to_owned()];
        let mut world = Self {
            fleet: Some(fleet),
            objects: Vec::new(),
            taken: BTreeSet::new(),
            now: NOW,
            owing: BTreeSet::new(),
            trouble: None,
            most_out: 0,
        };
        world.settle();
        world
    }

    fn fleet(&mut self) -> &mut Fleet {
        self.fleet.as_mut().expect("the Fleet is there")
    }

    fn change(&mut self, spec: Value) {
        let fleet = self.fleet();
        fleet.spec = spec_of(spec);
        fleet.metadata.generation += 1;
        self.settle();
    }

    fn plan(&self) -> Vec<Action> {
        self.plan_and_time().actions
    }

    fn plan_and_time(&self) -> Plan {
        let Some(fleet) = &self.fleet else { return Plan::default() };
        let made: Result<Vec<Member>, Trouble> = match &self.trouble {
            Some(trouble) => Err(trouble.clone()),
            None => {
                let members = members("crew", &fleet.spec, Err(NoDirectories), &mut |_| Ok(()));
                Ok(members.expect("the template is good"))
            }
        };
        let wanted = made.as_deref().map_err(Clone::clone);
        let (taken, owing) = (&self.taken, &self.owing);
        plan(&View { fleet, wanted, owned: &self.objects, taken, owing, now: self.now })
    }

    fn settle(&mut self) {
        for _ in 0..10 {
            let plan = self.plan();
            if plan.is_empty() {
                return;
            }
            for action in plan {
                self.apply(action);
            }
        }
        panic!("the plan does not come to rest: {:?}", self.plan());
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::AddFinalizer => {
                self.fleet().metadata.finalizers = vec![FINALIZER_OWNED.to_owned()];
            }
            Action::Create { members, status, .. } => {
                for mut member in members {
                    let name = member.metadata().name.clone();
                    assert!(self.find(&name).is_none(), "{name} is there");
                    member.metadata_mut().generation = 1;
                    self.objects.push(member);
                }
                self.fleet().status = *status;
            }
            Action::Update { member, .. } => {
                let live = self.get(&member.metadata().name);
                let changed = live.to_json()["spec"] != member.to_json()["spec"];
                let generation = live.metadata().generation + u64::from(changed);
                *live = *member;
                live.metadata_mut().generation = generation;
                let out = |object: &&AnyObject| health(object) == Health::Coming;
                self.most_out = self.most_out.max(self.objects.iter().filter(out).count());
            }
            Action::Prune { members, left, .. } => {
                if let Some(left) = left {
                    *self.fleet() = with_left(&self.fleet().clone(), left);
                }
                members.iter().for_each(|member| self.remove(&member.metadata().name));
            }
            Action::Delete(member) | Action::Release(member) => {
                self.remove(&member.metadata().name);
            }
            Action::LowerConfirmation(left) => {
                *self.fleet() = with_left(&self.fleet().clone(), left);
            }
            Action::WriteStatus(status) => self.fleet().status = *status,
            Action::DropFinalizer => {
                assert!(self.objects.is_empty(), "a Fleet goes after its members");
                self.fleet = None;
            }
        }
    }

    fn remove(&mut self, name: &str) {
        self.objects.retain(|object| object.metadata().name != name);
    }

    fn find(&self, name: &str) -> Option<&AnyObject> {
        self.objects.iter().find(|object| object.metadata().name == name)
    }

    fn get(&mut self, name: &str) -> &mut AnyObject {
        let found = self.objects.iter_mut().find(|object| object.metadata().name == name);
        found.expect("it is there")
    }

    fn spec(&self, name: &str) -> Value {
        self.find(name).expect("it is there").to_json()["spec"].clone()
    }

    fn names(&self) -> Vec<&str> {
        self.objects.iter().map(|object| object.metadata().name.as_str()).collect()
    }

    /// An Agent comes up as its spec says, or does not.
    fn come(&mut self, name: &str, well: bool) {
        if let AnyObject::Agent(agent) = self.get(name) {
            agent.status.observed_generation = agent.metadata.generation;
            agent.status.turns.running = 0;
            let conditions = &mut agent.status.conditions;
            conditions.set(words::RECONCILING, False, words::SETTLED, "", 1, NOW);
            if well {
                conditions.set(words::READY, True, "Test", "", 1, NOW);
                conditions.remove(words::STALLED);
            } else {
                conditions.set(words::READY, False, "Test", "", 1, NOW);
                conditions.set(words::STALLED, True, "BackingOff", "no such model", 1, NOW);
            }
        }
        self.settle();
    }

    /// An Agent in a turn looks at its spec: its Sprite is of an earlier one until the turn ends.
    fn works_on(&mut self, name: &str) {
        if let AnyObject::Agent(agent) = self.get(name) {
            let generation = agent.metadata.generation;
            let behind = generation > 1;
            agent.status.observed_generation = generation;
            agent.status.turns.running = 1;
            let conditions = &mut agent.status.conditions;
            conditions.set(words::READY, True, words::WORKING, "", generation, NOW);
            let (is, why) = if behind { (True, words::REPLACING) } else { (False, words::SETTLED) };
            conditions.set(words::RECONCILING, is, why, "", generation, NOW);
        }
        self.settle();
    }

    fn all_come(&mut self) {
        for name in self.names().into_iter().map(str::to_owned).collect::<Vec<_>>() {
            if self.find(&name).is_some() {
                self.come(&name, true);
            }
        }
    }

    fn end(&mut self, name: &str, well: bool) {
        if let AnyObject::Job(job) = self.get(name) {
            let end = if well { words::COMPLETE } else { words::FAILED };
            job.status.conditions.set(end, True, "Test", "", 1, NOW);
            job.status.message = if well { String::new() } else { "exited with code 3".to_owned() };
        }
        self.settle();
    }

    /// A Fleet over directories.
    fn of_directories() -> Self {
        let mut world = Self::new(agents(&[], "x"));
        let fleet = world.fleet();
        let from = json!({"gitDirectories": {"source": "s", "pattern": "services/*"}});
        fleet.spec.generate = serde_json::from_value(from).unwrap();
        fleet.spec.template.metadata.name = Some("{{basename}}".to_owned());
        world
    }

    /// For how many deletions a confirmation stands there.
    fn confirmation(&self) -> &str {
        let fleet = self.fleet.as_ref().expect("the Fleet is there");
        fleet.metadata.annotations.get(CONFIRM_DELETIONS).map_or("none", String::as_str)
    }

    /// Lets time pass, in seconds.
    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.settle();
    }

    /// A Job ends now, and its end says when.
    fn end_now(&mut self, name: &str, well: bool) {
        let now = self.now;
        if let AnyObject::Job(job) = self.get(name) {
            job.status.completion_time = Some(now);
        }
        self.end(name, well);
    }

    /// Whose instructions are these.
    fn instructed(&self, instructions: &str) -> Vec<&str> {
        let same = |object: &&AnyObject| object.to_json()["spec"]["instructions"] == instructions;
        self.objects.iter().filter(same).map(|object| object.metadata().name.as_str()).collect()
    }

    fn condition(&mut self, kind: &str) -> String {
        match self.fleet().status.conditions.get(kind) {
            Some(it) => format!("{:?} {}: {}", it.status, it.reason, it.message),
            None => "none".to_owned(),
        }
    }
}

/// So many directories.
fn services(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("services/s{n:02}")).collect()
}

/// What is decided for a Fleet over these directories.
fn plan_over(world: &mut World, directories: &[String]) -> Vec<Action> {
    let fleet = world.fleet().clone();
    let wanted = members("crew", &fleet.spec, Ok(directories), &mut |_| Ok(())).unwrap();
    let (wanted, owned, owing) = (Ok(&*wanted), &*world.objects, &world.owing);
    let view =
        View { fleet: &fleet, wanted, owned, taken: &BTreeSet::new(), owing, now: world.now };
    plan(&view).actions
}

/// Lets a Fleet over directories look until it has nothing to do.
fn settle_over(world: &mut World, directories: &[String]) {
    for _ in 0..10 {
        let plan = plan_over(world, directories);
        if plan.is_empty() {
            return;
        }
        plan.into_iter().for_each(|action| world.apply(action));
    }
    panic!("it does not come to rest");
}

/// Somebody confirms deletions.
fn confirm(world: &mut World, count: &str) {
    let annotations = &mut world.fleet().metadata.annotations;
    annotations.insert(CONFIRM_DELETIONS.to_owned(), count.to_owned());
}

fn spec_of(spec: Value) -> FleetSpec {
    serde_json::from_value(spec).unwrap()
}

#[test]
fn members_are_made_in_the_order_of_the_generator_and_belong_to_the_fleet() {
    let mut world = World::new(agents(&["b", "c", "a"], "x"));
    assert_eq!(world.names(), ["b", "c", "a"]);
    assert_eq!(world.fleet().status.phase, "Progressing");
    let b = world.find("b").unwrap().metadata();
    assert_eq!(b.controller().map(|owner| owner.uid.as_str()), Some("uid"));
    assert_eq!(b.labels.get(FLEET_LABEL).map(String::as_str), Some("crew"));
    world.all_come();
    let status = &world.fleet().status;
    assert_eq!((status.replicas, status.updated, status.ready, status.failed), (3, 3, 3, 0));
    assert_eq!(world.condition("Ready"), "True AllReady: 3 of 3 ready");
    assert_eq!(world.condition("Progressing"), "False Settled: ");
    assert_eq!(world.fleet().status.phase, "Ready");
}

#[test]
fn a_change_rolls_out_as_many_at_once_as_may_be_out_of_service() {
    for (most, first) in [(None, 1), (Some(2), 2), (Some(9), 3)] {
        let mut world = World::new(agents(&["a", "b", "c"], "old"));
        world.all_come();
        let mut spec = agents(&["a", "b", "c"], "new");
        if let Some(most) = most {
            spec["strategy"] = json!({"maxUnavailable": most});
        }
        world.change(spec);
        assert_eq!(world.instructed("new").len(), first);
        if most.is_none() {
            assert_eq!(
                world.condition("Progressing"),
                "True RollingOut: 2 of 3 ready, 1 of 3 as the template says"
            );
        }
        for name in ["a", "b", "c"] {
            world.come(name, true);
        }
        assert_eq!(world.instructed("new"), ["a", "b", "c"]);
        world.all_come();
        assert_eq!(world.fleet().status.phase, "Ready");
        assert!(world.most_out <= most.unwrap_or(1));
    }
}

#[test]
fn members_in_a_turn_are_changed_one_after_another_as_all_others() {
    let mut world = World::new(agents(&["a", "b", "c"], "old"));
    for name in ["a", "b", "c"] {
        world.works_on(name);
    }
    world.change(agents(&["a", "b", "c"], "new"));
    for _ in 0..3 {
        world.works_on("a");
        assert_eq!(world.instructed("new"), ["a"], "a works on as it was, and nobody knows more");
    }
    assert_eq!(
        world.condition("Progressing"),
        "True RollingOut: 2 of 3 ready, 1 of 3 as the template says; agent/a is changed after its turn"
    );
    assert_eq!(
        world.condition("Ready"),
        "False NotReady: 2 of 3 ready, 1 of 3 as the template says"
    );
    // What it comes up as is no good, and the others work on.
    world.come("a", false);
    assert_eq!(world.instructed("new"), ["a"]);
    assert!(world.condition("Stalled").starts_with("True MemberFailed: agent/a"));
    // Back to what it was.
    world.change(agents(&["a", "b", "c"], "old"));
    world.come("a", true);
    assert_eq!(world.condition("Ready"), "True AllReady: 3 of 3 ready");
}

#[test]
fn a_member_on_its_way_out_counts_as_out_of_service_until_it_is_back() {
    let mut world = World::new(agents(&["a", "b"], "old"));
    world.all_come();
    world.get("a").metadata_mut().deletion_timestamp = Some(NOW);
    world.change(agents(&["a", "b"], "new"));
    assert_eq!(world.instructed("new"), Vec::<&str>::new(), "the other works on");
    world.remove("a");
    world.settle();
    assert_eq!(world.instructed("new"), ["a"], "it is made as the template says now");
    world.come("a", true);
    assert_eq!(world.instructed("new"), ["b", "a"]);
}

#[test]
fn all_members_are_made_anew_when_somebody_asks_for_it_one_after_another_and_once() {
    let mut world = World::new(agents(&["a", "b", "c"], "x"));
    for name in ["a", "b", "c"] {
        let AnyObject::Agent(agent) = world.get(name) else { unreachable!() };
        agent.status.incarnation = 4;
    }
    world.all_come();
    let asked = |world: &mut World| {
        let annotations = &mut world.fleet().metadata.annotations;
        annotations.insert(FLEET_RESTART.to_owned(), "now".to_owned());
        world.settle();
    };
    asked(&mut world);
    let restarted = |world: &World| {
        let is = |object: &&AnyObject| object.metadata().annotations.contains_key(RESTARTED_UP_TO);
        world.objects.iter().filter(is).map(|it| it.metadata().name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(restarted(&world), ["a"]);
    assert_eq!(world.fleet().status.last_handled_restart.as_deref(), Some("now"));
    assert_eq!(world.fleet().status.phase, "Progressing");
    world.all_come();
    assert_eq!(restarted(&world), ["a"], "its sprite is the same until there is a newer one");
    for name in ["a", "b", "c"] {
        let AnyObject::Agent(agent) = world.get(name) else { unreachable!() };
        assert_eq!(agent.metadata.annotations[RESTARTED_UP_TO], "4");
        agent.status.incarnation = 5;
        world.all_come();
    }
    assert_eq!(restarted(&world), ["a", "b", "c"]);
    assert_eq!(world.fleet().status.phase, "Ready");
    asked(&mut world);
    assert_eq!(world.plan(), Vec::new(), "the same request is the same");
    // Who takes the request away has changed no member by hand.
    world.fleet().metadata.annotations.remove(FLEET_RESTART);
    let is_update = |action: &Action| matches!(action, Action::Update { .. });
    assert_eq!(world.plan().into_iter().find(is_update), None);
    world.settle();
    assert_eq!(world.fleet().status.phase, "Ready");
    asked(&mut world);
    assert_eq!(world.plan().into_iter().find(is_update), None);
}

#[test]
fn a_member_that_does_not_work_after_its_change_stops_the_rollout() {
    let mut world = World::new(agents(&["a", "b", "c", "d"], "old"));
    world.all_come();
    let mut broken = agents(&["a", "b", "c", "d"], "broken");
    broken["strategy"] = json!({"maxUnavailable": 2});
    world.change(broken);
    world.come("a", false);
    world.come("b", true);
    assert_eq!(world.instructed("broken"), ["a", "b"], "c and d still work");
    assert_eq!(
        world.condition("Progressing"),
        "False MemberFailed: agent/a: BackingOff no such model; 2 more wait to be changed"
    );
    assert!(world.condition("Stalled").starts_with("True"));
    // The mend goes to who is out of service first.
    world.change(agents(&["a", "b", "c", "d"], "mended"));
    assert_eq!(world.instructed("mended"), ["a"]);
    for _ in 0..4 {
        world.all_come();
    }
    assert_eq!(world.instructed("mended"), ["a", "b", "c", "d"]);
    assert_eq!(world.condition("Stalled"), "none");
}

#[test]
fn a_change_by_hand_is_put_right_at_once_and_a_stop_stays() {
    let mut world = World::new(agents(&["a", "b"], "x"));
    world.all_come();
    for name in ["a", "b"] {
        let AnyObject::Agent(agent) = world.get(name) else { unreachable!() };
        agent.spec.instructions = Some("mine".to_owned());
        agent.spec.suspend = name == "a";
        agent.metadata.labels.insert("team".to_owned(), "b".to_owned());
        agent.metadata.labels.insert("seen".to_owned(), "yes".to_owned());
        agent.metadata.annotations.clear();
    }
    world.settle();
    assert_eq!(world.instructed("x"), ["a", "b"]);
    assert_eq!(world.spec("a")["suspend"], true);
    assert_eq!(world.spec("b").get("suspend"), None);
    let labels = &world.find("a").unwrap().metadata().labels;
    assert_eq!((labels["team"].as_str(), labels["seen"].as_str()), ("a", "yes"));
    world.come("b", true);
    assert_eq!(world.condition("Ready"), "True AllReady: 1 of 2 ready, 1 stopped");
}

#[test]
fn what_works_as_it_was_changed_by_hand_is_put_right_one_after_another() {
    let all = ["a", "b", "c", "d"];
    let mut world = World::new(agents(&all, "x"));
    world.all_come();
    let mut suspended = agents(&all, "x");
    suspended["suspend"] = json!(true);
    world.change(suspended);
    for name in all {
        let AnyObject::Agent(agent) = world.get(name) else { unreachable!() };
        agent.spec.instructions = Some("mine".to_owned());
        agent.metadata.generation += 1;
        world.come(name, true);
    }
    assert_eq!(world.instructed("mine"), all, "while it is suspended, everything may be changed");
    world.change(agents(&all, "x"));
    assert_eq!(world.instructed("x"), ["a"]);
    assert!(world.condition("Progressing").starts_with("True RollingOut"));
    for name in all {
        world.come(name, true);
    }
    assert_eq!(world.instructed("x"), all);
    assert_eq!(world.most_out, 1);
    world.all_come();
    assert_eq!(world.fleet().status.phase, "Ready");
}

#[test]
fn a_change_by_hand_is_put_right_while_another_member_fails() {
    let all = ["a", "b", "c"];
    let mut world = World::new(agents(&all, "x"));
    world.all_come();
    world.come("a", false);
    let by_hand = |world: &mut World, name: &str, of: fn(&mut Agent)| {
        let AnyObject::Agent(agent) = world.get(name) else { unreachable!() };
        of(agent);
        // The Agent has looked first, and works as it was changed.
        agent.metadata.generation += 1;
        agent.status.observed_generation = agent.metadata.generation;
    };
    // No new Sprite for it: all of them in one plan.
    for name in ["b", "c"] {
        by_hand(&mut world, name, |agent| agent.spec.turn_timeout = Some(Span::from_secs(7)));
    }
    let put_right = |plan: &[Action]| {
        let of = |it: &Action| match it {
            Action::Update { member, .. } => Some(member.metadata().name.clone()),
            _ => None,
        };
        plan.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(put_right(&world.plan()), ["b", "c"]);
    world.settle();
    for name in ["b", "c"] {
        assert_eq!(world.spec(name).get("turnTimeout"), None);
        world.come(name, true);
    }
    // A new Sprite for it: one after another, and not behind the one that fails.
    for name in ["b", "c"] {
        by_hand(&mut world, name, |agent| agent.spec.instructions = Some("mine".to_owned()));
    }
    assert_eq!(put_right(&world.plan()), ["b"]);
    world.settle();
    assert_eq!(world.instructed("mine"), ["c"]);
    world.come("b", true);
    assert_eq!(world.instructed("x"), all);
    // A change of the template waits for the one that fails, as ever.
    world.come("c", true);
    world.change(agents(&all, "y"));
    assert_eq!(world.instructed("y"), ["a"]);
}

#[test]
fn what_the_template_drops_goes_and_its_word_on_suspend_counts_when_it_changes() {
    let mut world = World::new(agents(&["a"], "x"));
    world.all_come();
    let mut spec = agents(&["a"], "x");
    spec["template"]["metadata"]["labels"] = json!({"other": "c"});
    spec["template"]["spec"]["suspend"] = json!(true);
    world.change(spec.clone());
    assert_eq!(world.spec("a")["suspend"], true);
    let labels = &world.find("a").unwrap().metadata().labels;
    assert!(!labels.contains_key("team") && labels.contains_key("other"));
    // A person resumes it; another change of the template does not stop it again.
    let AnyObject::Agent(agent) = world.get("a") else { unreachable!() };
    agent.spec.suspend = false;
    spec["template"]["spec"]["instructions"] = json!("y");
    world.change(spec);
    assert_eq!(world.spec("a").get("suspend"), None);
    assert_eq!(world.instructed("y"), ["a"]);
}

#[test]
fn who_is_not_generated_any_more_goes_the_highest_first_once_nobody_waits_for_them() {
    let replicas = |n: u32| {
        let mut spec = agents(&[], "x");
        spec["generate"] = json!({"replicas": n});
        spec["template"]["metadata"]["name"] = json!("w-{{index}}");
        spec
    };
    let mut world = World::new(replicas(12));
    world.all_come();
    let AnyObject::Agent(agent) = world.get("w-11") else { unreachable!() };
    agent.status.turns.running = 1;
    let mut shrunk = world.clone();
    shrunk.fleet().spec = spec_of(replicas(9));
    let pruned: Vec<String> = shrunk
        .plan()
        .into_iter()
        .filter_map(|action| match action {
            Action::Prune { members, .. } => Some(members),
            _ => None,
        })
        .flatten()
        .map(|member| member.metadata().name.clone())
        .collect();
    assert_eq!(pruned, ["w-12", "w-10"]);
    world.change(replicas(9));
    assert_eq!(world.names().len(), 10);
    assert_eq!(
        world.condition("Progressing"),
        "True RollingOut: 9 of 9 ready; agent/w-11 (when its turns have ended) to go"
    );
    let AnyObject::Agent(agent) = world.get("w-11") else { unreachable!() };
    agent.status.turns.running = 0;
    world.settle();
    assert_eq!(world.names().len(), 9);
    assert_eq!(world.fleet().status.phase, "Ready");
    world.change(replicas(0));
    assert_eq!(world.names(), Vec::<&str>::new());
}

#[test]
fn whoever_speaks_to_a_member_at_the_last_moment_is_heard_and_told_what_it_waits_for() {
    let mut world = World::new(agents(&["a", "b"], "x"));
    world.all_come();
    world.get("a").metadata_mut().uid = "of a".to_owned();
    world.owing.insert("of a".to_owned());
    world.change(agents(&["b"], "x"));
    assert_eq!(world.names(), ["a", "b"], "its status does not say so yet");
    let AnyObject::Agent(agent) = world.get("a") else { unreachable!() };
    agent.status.conditions.set(words::BUDGET_SPENT, True, "BudgetSpent", "", 1, NOW);
    world.settle();
    assert_eq!(
        world.condition("Progressing"),
        "True RollingOut: 1 of 1 ready; agent/a (a message waits and its budget is spent: cancel the one \
         or raise the other) to go"
    );
    world.owing.clear();
    world.settle();
    assert_eq!(world.names(), ["b"]);
}

#[test]
fn a_job_is_made_anew_when_its_task_changes_and_the_old_one_goes_when_it_has_ended() {
    let mut world = World::new(jobs(&["a"], "one"));
    let old = world.names()[0].to_owned();
    world.change(jobs(&["a"], "two"));
    assert_eq!(world.names().len(), 2, "the old one still works");
    world.end(&old, true);
    assert_eq!(world.names().len(), 1);
    let new = world.names()[0].to_owned();
    assert_ne!(new, old);
    world.end(&new, true);
    assert_eq!(world.condition("Ready"), "True AllReady: 1 of 1 succeeded");
    assert_eq!(world.fleet().status.phase, "Complete");
}

#[test]
fn a_superseded_job_stays_for_a_minute_after_its_end_so_that_chat_has_it() {
    let mut world = World::new(jobs(&["a"], "one"));
    let old = world.names()[0].to_owned();
    world.change(jobs(&["a"], "two"));
    world.end_now(&old, true);
    assert!(world.find(&old).is_some(), "whoever reports it has not seen its end");
    let new = world.names()[1].to_owned();
    world.end_now(&new, true);
    let plan = world.plan_and_time();
    let until = world.now + SignedDuration::from_secs(60);
    assert_eq!((plan.actions, plan.again), (Vec::new(), Some(until)), "it is looked at again then");
    assert_eq!(
        world.condition("Progressing"),
        format!("True RollingOut: 1 of 1 succeeded; job/{old} (a minute after its end) to go")
    );
    world.pass(59);
    assert!(world.find(&old).is_some());
    world.pass(1);
    assert_eq!(world.names(), [new]);
    assert_eq!(world.fleet().status.phase, "Complete");
}

#[test]
fn a_job_whose_work_is_wanted_again_is_not_run_again() {
    let mut world = World::new(jobs(&["a", "b"], "one"));
    for name in world.names().into_iter().map(str::to_owned).collect::<Vec<_>>() {
        world.end_now(&name, name.starts_with('a'));
    }
    let runs = world.fleet().status.runs.clone();
    // Somebody overrides the task for a time.
    world.change(jobs(&["a", "b"], "two"));
    world.pass(60);
    assert_eq!(world.names().len(), 2, "the other two are pruned");
    let others: Vec<String> = world.names().into_iter().map(str::to_owned).collect();
    for name in &others {
        world.end_now(name, true);
    }
    // It ends at the very last moment.
    let most = i64::try_from(MAX_OVERRIDE_TIME.as_duration().as_secs()).unwrap();
    world.now += SignedDuration::from_secs(most);
    world.change(jobs(&["a", "b"], "one"));
    world.pass(60);
    assert_eq!(world.names(), Vec::<&str>::new(), "nothing runs again");
    assert_eq!(world.fleet().status.runs, runs);
    let status = &world.fleet().status;
    assert_eq!((status.phase.as_str(), status.ready, status.failed), ("Failed", 1, 1));
    // What is wanted no more is forgotten in the end.
    let past = world.fleet().status.past_runs.clone();
    assert_eq!(past.keys().cloned().collect::<BTreeSet<_>>(), others.into_iter().collect());
    let until = past.values().map(|run| run.until).min();
    assert_eq!((world.plan(), world.plan_and_time().again), (Vec::new(), until));
    world.now = until.unwrap();
    world.settle();
    assert!(world.fleet().status.past_runs.is_empty());
    assert_eq!(world.plan_and_time().again, None);
}

#[test]
fn no_more_runs_are_kept_than_a_fleet_may_have_members() {
    let mut world = World::new(jobs(&["a"], "one"));
    let past = |n: i64| {
        let until = NOW + SignedDuration::from_secs(100_000 - n);
        (format!("old-{n}"), PastRun { outcome: RunOutcome::Made, until })
    };
    world.fleet().status.past_runs = (0..1100).map(past).collect();
    world.settle();
    let kept = &world.fleet().status.past_runs;
    assert_eq!(kept.len(), MOST_MEMBERS);
    assert!(kept.contains_key("old-0") && !kept.contains_key("old-1099"), "the last ones stay");
}

#[test]
fn what_a_former_template_was_filled_in_with_is_known_as_long_and_as_often_as_its_runs() {
    let of = |task: String| spec_of(jobs(&["a"], &task));
    let usual = |spec: &FleetSpec| Defaults { on_fly: true, ..Defaults::default() }.usual(spec);
    let mut world = World::new(jobs(&["a"], "now"));
    let status = &mut world.fleet().status;
    for n in 0..1100 {
        let spec = of(format!("task {n}"));
        note(status, &spec, usual(&spec), NOW + SignedDuration::from_secs(n));
    }
    let last = of("task 1099".to_owned());
    let first_kept = of(format!("task {}", 1099 - MOST_MEMBERS));
    let forgotten = of(format!("task {}", 1098 - MOST_MEMBERS));
    for (spec, noted) in [(&last, true), (&first_kept, true), (&forgotten, false)] {
        assert_eq!(status.usual_of(spec), noted.then(|| usual(spec)), "{spec:?}");
    }
    assert_eq!(status.past_usual.len(), MOST_MEMBERS);
    // One that comes back is the note of today.
    note(status, &first_kept, usual(&first_kept), NOW + SignedDuration::from_secs(1100));
    assert_eq!(status.usual, Some(usual(&first_kept)));
    assert_eq!(status.usual_of(&last), Some(usual(&last)));
    assert_eq!(status.past_usual.len(), MOST_MEMBERS);

    // The last of them is forgotten when the longest Override has long ended.
    world.settle();
    let most = MAX_OVERRIDE_TIME.as_duration();
    world.now = NOW + SignedDuration::from_secs(1101) + SignedDuration::try_from(most).unwrap();
    world.settle();
    assert_eq!(world.fleet().status.usual_of(&last), Some(usual(&last)));
    while let Some(next) = world.plan_and_time().again {
        assert!(next > world.now, "it looks again and again");
        world.now = next;
        world.settle();
    }
    let status = &world.fleet().status;
    assert_eq!((status.past_usual.len(), status.usual_of(&last)), (0, None));
    assert_eq!(status.usual, Some(usual(&first_kept)), "that of the last template stays");
}

#[test]
fn how_a_job_ended_is_noted_before_it_goes() {
    let mut world = World::new(jobs(&["a"], "one"));
    let old = world.names()[0].to_owned();
    world.change(jobs(&["a"], "two"));
    // It ends while nobody looks, and is older than a minute by then.
    let AnyObject::Job(job) = world.get(&old) else { unreachable!() };
    job.status.conditions.set(words::COMPLETE, True, "Test", "", 1, NOW);
    job.status.completion_time = Some(NOW);
    world.now += SignedDuration::from_secs(600);
    let first = world.plan();
    let [Action::WriteStatus(status)] = &first[..] else { panic!("{first:?}") };
    assert_eq!(status.runs[&old], RunOutcome::Succeeded);
    world.settle();
    assert_eq!(world.find(&old), None);
}

#[test]
fn a_job_that_is_gone_is_not_run_again() {
    let mut world = World::new(jobs(&["a", "b", "c"], "one"));
    let names: Vec<String> = world.names().into_iter().map(str::to_owned).collect();
    world.end(&names[0], true);
    world.end(&names[1], false);
    world.objects.clear();
    world.settle();
    assert_eq!(world.names(), Vec::<&str>::new());
    let status = &world.fleet().status;
    assert_eq!((status.replicas, status.ready, status.failed), (3, 1, 2));
    assert_eq!(world.fleet().status.phase, "Failed");
    let mut spec = jobs(&["a", "b", "c"], "one");
    spec["template"]["spec"]["retries"] = json!(2);
    world.change(spec);
    assert_eq!(world.names(), Vec::<&str>::new(), "the same work");
    world.change(jobs(&["a"], "two"));
    assert_eq!(world.names().len(), 1, "other work");
    assert_eq!(world.fleet().status.runs.len(), 1);
}

#[test]
fn what_a_job_is_not_made_from_changes_in_place_and_a_cancel_stays() {
    let mut world = World::new(jobs(&["a"], "one"));
    let name = world.names()[0].to_owned();
    let AnyObject::Job(job) = world.get(&name) else { unreachable!() };
    job.spec.cancel = true;
    let mut spec = jobs(&["a"], "one");
    spec["template"]["spec"]["retries"] = json!(2);
    world.change(spec);
    assert_eq!(
        (world.spec(&name)["retries"].clone(), world.spec(&name)["cancel"].clone()),
        (json!(2), json!(true))
    );
}

#[test]
fn what_others_hold_is_told_and_left_alone() {
    let mut world = World::new(agents(&["a"], "x"));
    world.taken.insert("b".to_owned());
    world.change(agents(&["a", "b", "c"], "x"));
    assert_eq!(world.names(), ["a", "c"]);
    assert_eq!(
        world.condition("Stalled"),
        "True NameTaken: agent/b is there already and is not this fleet's; rename the one or the other"
    );
    world.taken.clear();
    world.settle();
    assert_eq!(world.names(), ["a", "c", "b"]);
}

#[tokio::test]
async fn a_fleet_is_looked_at_as_soon_as_a_name_that_it_waits_for_is_free() {
    let store = MemoryStore::new();
    let commit = async |op: Op| {
        store.apply(Transaction::at(NOW).with(op)).await.unwrap();
    };
    let named = |name: &str| {
        let spec = json!({"agent": {"command": {}}});
        let metadata = json!({"name": name, "uid": name});
        decode(
            json!({"apiVersion": API_VERSION, "kind": "Agent", "metadata": metadata, "spec": spec}),
        )
        .unwrap()
    };
    let mut fleet = Fleet::new("crew", spec_of(agents(&["a", "b"], "x")));
    fleet.metadata.uid = "uid".to_owned();
    fleet.metadata.finalizers = vec![FINALIZER_OWNED.to_owned()];
    for object in [named("b"), named("c"), fleet.into()] {
        commit(Op::Create(object)).await;
    }
    let fleets = FleetController::new(
        store.clone(),
        Ambient::real(),
        Defaults::default(),
        Arc::new(NoSources),
    );
    while fleets.reconcile("uid").await.unwrap() != Next::Done {}
    let stands = async || {
        let fleet = store.get(Kind::Fleet, "crew").await.unwrap().and_then(AnyObject::into_fleet);
        fleet.unwrap().status.conditions.get("Stalled").map(|it| it.reason.clone())
    };
    assert_eq!(stands().await.as_deref(), Some(words::NAME_TAKEN));
    let gone = |name: &str| Change {
        revision: 99,
        kind: ChangeKind::Deleted,
        desired: true,
        object: named(name),
    };
    let delete =
        Op::Delete { kind: Kind::Agent, name: "b".to_owned(), uid: None, resource_version: None };
    commit(delete).await;
    assert_eq!(fleets.concerns(&gone("c")), Vec::new());
    assert_eq!(fleets.concerns(&gone("b")), [("uid".to_owned(), Wake::Observation)]);
    while fleets.reconcile("uid").await.unwrap() != Next::Done {}
    assert_eq!(stands().await, None);
    assert_eq!(fleets.concerns(&gone("b")), Vec::new(), "it waits no more");
}

#[tokio::test]
async fn who_has_a_job_s_name_after_it_ran_is_nothing_to_wait_for() {
    let (store, mut world) = (MemoryStore::new(), World::new(jobs(&["a"], "x")));
    let name = world.names()[0].to_owned();
    let mut others = world.get(&name).clone();
    others.metadata_mut().owner_references.clear();
    others.metadata_mut().uid = "theirs".to_owned();
    world.objects.clear();
    let fleet = world.fleet().clone();
    assert!(fleet.status.runs.contains_key(&name));
    for object in [others, fleet.into()] {
        store.apply(Transaction::at(NOW).with(Op::Create(object))).await.unwrap();
    }
    let mut kept = store.get(Kind::Fleet, "crew").await.unwrap().unwrap();
    let AnyObject::Fleet(it) = &mut kept else { unreachable!() };
    it.status = world.fleet().status.clone();
    let write = Op::Write { object: kept, part: Part::Status, expect: Expect::SameVersion };
    store.apply(Transaction::at(NOW).with(write)).await.unwrap();
    let (ambient, sources) = (Ambient::real(), Arc::new(NoSources));
    let fleets = FleetController::new(store.clone(), ambient, Defaults::default(), sources);
    while fleets.reconcile("uid").await.unwrap() != Next::Done {}
    let fleet = store.get(Kind::Fleet, "crew").await.unwrap().and_then(AnyObject::into_fleet);
    assert_eq!(fleet.unwrap().status.conditions.get(words::STALLED), None);
    assert!(fleets.waits.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_fleet_that_is_gone_is_told_of_nothing_any_more() {
    let store = MemoryStore::new();
    let mut world = World::of_directories();
    let fleet = world.fleet().clone();
    store.apply(Transaction::at(NOW).with(Op::Create(fleet.into()))).await.unwrap();
    let (ambient, sources) = (Ambient::real(), Arc::new(NoSources));
    let fleets = FleetController::new(store.clone(), ambient, Defaults::default(), sources);
    while fleets.reconcile("uid").await.unwrap() != Next::Done {}
    let readers = || fleets.readers.lock().unwrap().clone();
    assert_eq!(readers().len(), 1);
    fleets.reconcile("another one").await.unwrap();
    assert_eq!(readers().len(), 1);
    let mut free = store.get(Kind::Fleet, "crew").await.unwrap().unwrap();
    free.metadata_mut().finalizers.clear();
    let free = Op::Write { object: free, part: Part::Finalizers, expect: Expect::SameVersion };
    let gone = Op::Delete {
        kind: Kind::Fleet,
        name: "crew".to_owned(),
        uid: None,
        resource_version: None,
    };
    store.apply(Transaction::at(NOW).with(free)).await.unwrap();
    store.apply(Transaction::at(NOW).with(gone)).await.unwrap();
    fleets.reconcile("uid").await.unwrap();
    assert_eq!(readers().len(), 0);
}

#[test]
fn where_the_members_cannot_be_told_those_that_there_are_stay() {
    let mut world = World::new(agents(&["a", "b"], "x"));
    world.all_come();
    world.trouble = Some(Trouble { reason: words::BAD_TEMPLATE, message: "bad".to_owned() });
    world.change(agents(&[], "y"));
    assert_eq!(world.names(), ["a", "b"]);
    assert_eq!(world.condition("Stalled"), "True BadTemplate: bad");
    assert_eq!(world.fleet().status.replicas, 2, "the last counts stay");
    world.trouble = None;
    world.settle();
    assert_eq!(world.names(), Vec::<&str>::new(), "an empty list is what was written");
}

#[test]
fn a_pattern_that_matches_nothing_any_more_removes_nobody() {
    let mut world = World::new(agents(&["a"], "x"));
    world.fleet().spec.generate =
        serde_json::from_value(json!({"gitDirectories": {"source": "s", "pattern": "x/*"}}))
            .unwrap();
    let View { fleet, .. } = View {
        fleet: &world.fleet().clone(),
        wanted: Ok(&[]),
        owned: &[],
        taken: &BTreeSet::new(),
        owing: &BTreeSet::new(),
        now: NOW,
    };
    let fleet = fleet.clone();
    let taken = BTreeSet::new();
    let (owned, owing) = (&world.objects, &taken);
    let view = View { fleet: &fleet, wanted: Ok(&[]), owned, taken: &taken, owing, now: NOW };
    for action in plan(&view).actions {
        world.apply(action);
    }
    assert_eq!(world.names(), ["a"]);
    assert!(world.condition("Stalled").starts_with("True NoDirectories"));
}

#[test]
fn directories_that_are_gone_take_many_members_with_them_only_once_somebody_confirmed_it() {
    let (all, settle) = (services(14), settle_over);
    let mut world = World::of_directories();
    settle(&mut world, &all);
    assert_eq!(world.objects.len(), 14);
    // As few as a Source may delete unasked go at once.
    settle(&mut world, &all[..12]);
    assert_eq!(world.objects.len(), 12);
    settle(&mut world, &all);
    let one = &all[..1];
    for too_few in ["", "12", "yes"] {
        confirm(&mut world, too_few);
        settle(&mut world, one);
        assert_eq!(world.objects.len(), 14, "{too_few}");
        let stalled = world.condition("Stalled");
        assert!(
            stalled.starts_with("True DeletionsHeld: 13 members would be deleted"),
            "{stalled}"
        );
    }
    confirm(&mut world, "13");
    settle(&mut world, one);
    assert_eq!(world.names(), ["s00"]);
    assert_eq!(world.condition("Stalled"), "none");
    // It was good for one time.
    assert!(!world.fleet().metadata.annotations.contains_key(CONFIRM_DELETIONS));
    settle(&mut world, &all);
    settle(&mut world, one);
    assert_eq!(world.objects.len(), 14);
}

#[test]
fn a_confirmation_is_used_up_by_what_it_deletes_also_while_one_has_to_stay() {
    let all = services(60);
    let mut world = World::of_directories();
    settle_over(&mut world, &all);
    // One of those that go owes an answer.
    world.get("s59").metadata_mut().uid = "of s59".to_owned();
    world.owing.insert("of s59".to_owned());
    settle_over(&mut world, &all[..30]);
    confirm(&mut world, "30");
    // With the deletions themselves: nothing may come between.
    let plan = plan_over(&mut world, &all[..30]);
    let [Action::Prune { members, left, .. }] = &plan[..] else { panic!("{plan:?}") };
    assert_eq!((members.len(), *left), (29, Some(1)));
    settle_over(&mut world, &all[..30]);
    assert_eq!(world.objects.len(), 31);
    assert_eq!(world.confirmation(), "1");
    // Another revision takes away as many again, which nobody has confirmed.
    settle_over(&mut world, &all[..1]);
    assert_eq!(world.objects.len(), 31);
    let stalled = world.condition("Stalled");
    let why = "True DeletionsHeld: 30 members would be deleted, which is more than 10, because nothing \
               generates them any more";
    assert!(stalled.starts_with(why), "{stalled}");
    // The last one of the first thirty goes by what was left.
    world.owing.clear();
    settle_over(&mut world, &all[..30]);
    assert_eq!((world.objects.len(), world.confirmation()), (30, "none"));
}

#[test]
fn a_confirmation_is_for_no_more_than_there_are_to_go() {
    let all = services(60);
    let mut world = World::of_directories();
    settle_over(&mut world, &all);
    for n in 30..60 {
        let name = format!("s{n}");
        world.get(&name).metadata_mut().uid.clone_from(&name);
        world.owing.insert(name);
    }
    confirm(&mut world, "30");
    settle_over(&mut world, &all[..30]);
    assert_eq!((world.objects.len(), world.confirmation()), (60, "30"));
    // Twenty of those directories come back, and twenty others go.
    settle_over(&mut world, &all[..50]);
    assert_eq!((world.objects.len(), world.confirmation()), (60, "10"));
    settle_over(&mut world, &all[20..50]);
    assert_eq!(world.objects.len(), 60);
    assert!(world.condition("Stalled").starts_with("True DeletionsHeld: 30 members"));
}

#[test]
fn a_suspended_fleet_is_left_alone() {
    let mut world = World::new(agents(&["a", "b"], "x"));
    world.all_come();
    let mut spec = agents(&["c"], "y");
    spec["suspend"] = json!(true);
    world.change(spec);
    assert_eq!(world.names(), ["a", "b"]);
    assert_eq!(world.instructed("x"), ["a", "b"]);
    assert_eq!(world.fleet().status.phase, "Suspended");
    world.change(agents(&["c"], "y"));
    assert_eq!(world.names(), ["c"]);
}

#[test]
fn a_fleet_goes_after_its_members_or_leaves_them() {
    for orphan in [false, true] {
        let mut world = World::new(agents(&["a", "b"], "x"));
        let metadata = &mut world.fleet().metadata;
        metadata.deletion_timestamp = Some(NOW);
        metadata.annotations.insert(ORPHAN.to_owned(), orphan.to_string());
        let first = world.plan();
        let released = first.iter().all(|action| matches!(action, Action::Release(_)));
        assert_eq!((first.len(), released), (2, orphan));
        world.settle();
        assert!(world.fleet.is_none());
    }
}

/// What may happen to a Fleet.
#[derive(Debug, Clone)]
enum Fate {
    Change(Vec<usize>, usize),
    Come(usize, bool),
    Crash(usize),
    Drift(usize),
    Delete(usize),
    End(usize, bool),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => (prop::collection::btree_set(0..6_usize, 0..6), 0..3_usize)
            .prop_map(|(set, version)| Fate::Change(set.into_iter().collect(), version)),
        4 => (0..6_usize, any::<bool>()).prop_map(|(n, well)| Fate::Come(n, well)),
        3 => (0..4_usize).prop_map(Fate::Crash),
        1 => (0..6_usize).prop_map(Fate::Drift),
        1 => (0..6_usize).prop_map(Fate::Delete),
        2 => (0..6_usize, any::<bool>()).prop_map(|(n, well)| Fate::End(n, well)),
    ]
}

const LETTERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

proptest! {
    /// Whatever happened: once everybody comes up, there are the members that the generator names,
    /// each as the template says, and nothing is left to do.
    #[test]
    fn a_fleet_ends_as_it_is_declared(
        of_jobs: bool, fates in prop::collection::vec(fate(), 1..25),
    ) {
        let spec = |set: &[usize], version: usize| {
            let list: Vec<&str> = set.iter().map(|n| LETTERS[*n]).collect();
            let text = format!("version {version}");
            if of_jobs { jobs(&list, &text) } else { agents(&list, &text) }
        };
        let mut world = World::new(spec(&[0, 1], 0));
        let mut declared = (vec![0, 1], 0);
        let mut deleted = false;
        for fate in fates {
            let nth = |world: &World, n: usize| world.names().get(n).map(|name| (*name).to_owned());
            match fate {
                Fate::Change(set, version) => {
                    world.fleet().spec = spec_of(spec(&set, version));
                    declared = (set, version);
                }
                Fate::Come(n, well) => {
                    if let Some(name) = nth(&world, n).filter(|_| !of_jobs) {
                        world.come(&name, well);
                    }
                }
                Fate::Crash(kept) => {
                    for action in world.plan().into_iter().take(kept) {
                        world.apply(action);
                    }
                }
                Fate::Drift(n) => {
                    if let Some(name) = nth(&world, n)
                        && let AnyObject::Agent(agent) = world.get(&name)
                    {
                        agent.spec.instructions = Some("mine".to_owned());
                        agent.metadata.generation += 1;
                    }
                }
                Fate::Delete(n) => {
                    if let Some(name) = nth(&world, n) {
                        world.remove(&name);
                        deleted = true;
                    }
                }
                Fate::End(n, well) => {
                    if let Some(name) = nth(&world, n).filter(|_| of_jobs)
                        && ended(match world.get(&name) {
                            AnyObject::Job(job) => job,
                            _ => unreachable!(),
                        }).is_none()
                    {
                        world.end(&name, well);
                    }
                }
            }
        }
        world.settle();
        for _ in 0..8 {
            world.all_come();
        }
        for name in world.names().into_iter().map(str::to_owned).collect::<Vec<_>>() {
            if of_jobs && world.find(&name).is_some() {
                world.end(&name, true);
            }
        }
        prop_assert_eq!(world.plan(), Vec::new());
        let (set, version) = declared;
        let fleet_spec = spec_of(spec(&set, version));
        let wanted = members("crew", &fleet_spec, Err(NoDirectories), &mut |_| Ok(())).unwrap();
        let runs = &world.fleet.as_ref().expect("it is there").status.runs;
        // A Job that has run and was removed is not run again, though it is wanted again.
        let is_there = |member: &Member| match world.find(&member.name) {
            Some(live) => live.to_json()["spec"] == member.object.to_json()["spec"],
            None => runs.contains_key(&member.name),
        };
        prop_assert!(world.objects.len() <= wanted.len());
        if !of_jobs || !deleted {
            prop_assert!(wanted.iter().all(is_there), "{:?}", world.names());
            let count = u32::try_from(wanted.len()).unwrap();
            prop_assert_eq!(world.fleet().status.updated, count);
        }
    }
}
