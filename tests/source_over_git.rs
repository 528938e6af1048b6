//! Sources over real Git repositories, driven by their controller over both stores: one broken
//! repository of many stops no other, whichever way it is broken and whatever it is called.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

#[path = "source_over_git/crashes.rs"]
mod crashes;
#[path = "support/git/mod.rs"]
#[expect(dead_code, reason = "the servers and repositories of all tests of Git; these need a part")]
mod git;
#[path = "support/steps.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod steps;

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use git::{Fault, GitHttp, Origin, shown};
use open_dispatch::{
    ambient::{Ambient, SeededIds},
    reconcile::Controller as _,
    resource::{
        ADOPT, AnyObject, ConditionStatus, Defaults, GitSource, Kind, Source, SourceFrom,
        SourceSpec, admit,
    },
    secrets::Secrets,
    source::{
        SourceController,
        git::{Git, Limits, Settings},
    },
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore, sqlite::SqliteStore},
};
use serde_json::json;

/// A server's side of it, and repositories of this machine beside it.
struct World {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
    sources: SourceController,
}

impl World {
    async fn new(on_disk: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let air = Ambient { ids: Arc::new(SeededIds::new(3)), ..Ambient::real() };
        let store: Arc<dyn Store> = if on_disk {
            let data = dir.path().join("data");
            fs::create_dir(&data).unwrap();
            SqliteStore::open(&data, air.clone()).await.unwrap()
        } else {
            MemoryStore::new()
        };
        let limits = Limits { stalled: Duration::from_secs(60), ..Limits::default() };
        let settings = Settings {
            dir: dir.path().join("mirrors"),
            environment: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
            roots: vec![dir.path().join("repos")],
            limits,
        };
        let secrets = Secrets::new(dir.path().join("secrets"), Vec::new());
        let git = Git::new(settings, secrets, air.clone());
        let defaults = Arc::new(Defaults::default());
        let base = dir.path().to_owned();
        let sources = SourceController::new(Arc::clone(&store), air, defaults, base).with_git(git);
        Self { dir, store, sources }
    }

    fn origin(&self, name: &str) -> Origin {
        Origin::new(&self.dir.path().join("repos"), name)
    }

    async fn apply(&self, op: Op) {
        let now = Ambient::real().clock.now();
        self.store.apply(Transaction { ops: vec![op], now }).await.unwrap();
    }

    async fn declare(&self, from: GitSource, policy: serde_json::Value) {
        let spec = json!({"from": {"directory": {"path": "/"}}, "policy": policy});
        let mut spec: SourceSpec = serde_json::from_value(spec).unwrap();
        spec.from = SourceFrom::Git(from);
        let made = admit::create(Source::new("team", spec).into(), "0199-team".to_owned(), "");
        self.apply(Op::Create(made.unwrap())).await;
    }

    async fn look(&self) {
        self.sources.reconcile("team").await.unwrap();
    }

    async fn source(&self) -> Source {
        let source = self.store.get(Kind::Source, "team").await.unwrap().unwrap();
        source.into_source().unwrap()
    }

    /// Whether it is ready, why, and what it says.
    async fn ready(&self) -> (bool, String, String) {
        let status = self.source().await.status;
        let ready = status.conditions.get("Ready").unwrap();
        (ready.status == ConditionStatus::True, ready.reason.clone(), ready.message.clone())
    }

    /// What the instructions of all agents say, with their uids, by name.
    async fn agents(&self) -> BTreeMap<String, (String, String)> {
        let agents = self.store.list(Kind::Agent, None, 1_000).await.unwrap().items;
        let told = |object: AnyObject| {
            let agent = object.into_agent()?;
            assert!(!agent.metadata.is_deleting(), "{} is deleted", agent.metadata.name);
            let words = agent.spec.instructions.unwrap_or_default();
            Some((agent.metadata.name, (words, agent.metadata.uid)))
        };
        agents.into_iter().filter_map(told).collect()
    }

    /// Looks twice: the second time there is nothing to write.
    async fn rest(&self) {
        self.look().await;
        self.look().await;
        let writes = self.store.writes();
        self.look().await;
        assert_eq!(self.store.writes(), writes, "one more look wrote");
    }
}

fn agent(name: &str, words: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec: {{agent: {{claude: {{}}}}, instructions: {words}}}\n---\n"
    )
}

/// The ways in which a repository may be broken.
const WAYS: [&str; 14] = [
    "bytes", "clash", "half", "huge", "link", "many", "new", "policy", "stolen", "torn", "twice",
    "typo", "vanished", "wrecked",
];

/// Breaks a repository, in its way; what else it says has changed as well.
fn break_it(way: &str, origin: &Origin, http: &GitHttp) {
    let own = agent(way, "new");
    origin.write(".open-dispatch/a.yaml", &own);
    match way {
        "bytes" => drop(origin.write(".open-dispatch/b.yaml", b"a: \xff\n")),
        "clash" => drop(origin.write(".open-dispatch/b.yaml", agent("nobodys", "other"))),
        "half" | "new" => drop(origin.write(".open-dispatch/b.yaml", "kind: [")),
        "huge" => {
            let comment = format!("# {}\n", "x".repeat(3 << 20));
            origin.write(".open-dispatch/b.yaml", &comment);
            origin.write(".open-dispatch/c.yaml", &comment);
        }
        "link" => {
            let link = origin.work.join(".open-dispatch/b.yaml");
            std::os::unix::fs::symlink("a.yaml", link).unwrap();
        }
        "many" => {
            for n in 0..700 {
                origin.write(&format!(".open-dispatch/x/{n}.yaml"), "# nothing\n");
            }
        }
        "policy" => {
            let job = "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {name: j}\n\
                       spec: {agent: {claude: {}}, task: t}\n";
            origin.write(".open-dispatch/b.yaml", job);
        }
        "stolen" => drop(origin.write(".open-dispatch/b.yaml", agent("good-1", "stolen"))),
        "twice" => drop(origin.write(".open-dispatch/b.yaml", &own)),
        "typo" => drop(origin.write(".open-dispatch/b.yaml", own.replace("claude", "cloud"))),
        "torn" => http.fault(Fault::Half("info/refs")),
        "vanished" => fs::rename(&origin.bare, origin.bare.with_extension("gone")).unwrap(),
        "wrecked" => fs::write(origin.bare.join("HEAD"), "nonsense").unwrap(),
        other => panic!("{other}"),
    }
    if !matches!(way, "vanished" | "wrecked") {
        origin.push();
    }
}

/// Mends it again.
fn mend(way: &str, origin: &Origin, http: &GitHttp) {
    match way {
        "torn" => http.fault(Fault::None),
        "vanished" => fs::rename(origin.bare.with_extension("gone"), &origin.bare).unwrap(),
        "wrecked" => fs::write(origin.bare.join("HEAD"), "ref: refs/heads/main\n").unwrap(),
        _ => {}
    }
    let _ = fs::remove_dir_all(origin.work.join(".open-dispatch"));
    origin.write(".open-dispatch/a.yaml", agent(way, "mended")).push();
}

/// The whole of it: repositories broken in every way at once, with good ones before, among and behind
/// them by name.
async fn every_way(on_disk: bool, is_reversed: bool) {
    let world = World::new(on_disk).await;
    let http = GitHttp::serve(&world.dir.path().join("repos")).await;
    let goods = ["good-0", "good-1", "good-2"];
    let mut all: Vec<&str> = WAYS.to_vec();
    all.insert(7, goods[1]);
    all.insert(0, goods[0]);
    all.push(goods[2]);
    let count = all.len();
    // Their names have the order in which they are dealt with.
    let called =
        |n: usize, name: &str| format!("{:02}-{name}", if is_reversed { count - n } else { n });
    let origins: Vec<(&str, Origin)> =
        all.iter().enumerate().map(|(n, name)| (*name, world.origin(&called(n, name)))).collect();
    for (name, origin) in &origins {
        let text = if *name == "new" { "# later\n".to_owned() } else { agent(name, "old") };
        origin.write(".open-dispatch/a.yaml", text).push();
    }
    world.apply(nobodys()).await;
    let address = |(name, origin): &(&str, Origin)| match *name {
        "torn" => {
            let file = origin.bare.file_name().unwrap().to_str().unwrap();
            format!("{}/{file}", http.url)
        }
        _ => shown(&origin.bare),
    };
    let from = GitSource { repos: origins.iter().map(address).collect(), ..GitSource::default() };
    world.declare(from, json!({"kinds": ["Agent"]})).await;
    world.rest().await;
    assert!(world.ready().await.0, "{:?}", world.ready().await);
    let before = world.agents().await;
    assert_eq!(before.len(), count, "{before:?}");

    for (name, origin) in &origins {
        match goods.contains(name) {
            true => drop(origin.write(".open-dispatch/a.yaml", agent(name, "new")).push()),
            false => break_it(name, origin, &http),
        }
    }
    world.rest().await;
    let check = async |what: &str| {
        let now = world.agents().await;
        for (name, (words, uid)) in &before {
            let (says, is) = now.get(name).unwrap_or_else(|| panic!("{what}: {name} is gone"));
            let wanted = if goods.contains(&name.as_str()) { "new" } else { words };
            assert_eq!(says, wanted, "{what}: {name}");
            assert_eq!(is, uid, "{what}: {name}");
        }
        assert_eq!(now.len(), before.len(), "{what}");
        let (is_ready, reason, message) = world.ready().await;
        assert_eq!((is_ready, reason.as_str()), (false, "Partial"), "{what}: {message}");
        assert!(message.contains("and 11 more"), "{message}");
    };
    check("broken").await;
    let told = world.store.events("0199-team").await.unwrap();
    let told: Vec<String> = told.into_iter().map(|event| event.note).collect();
    let told = told.join("\n");
    assert!(told.contains("stands as it was: "), "{told}");

    // What is known of them lies in the store alone: mirrors may be lost.
    fs::remove_dir_all(world.dir.path().join("mirrors")).unwrap();
    world.rest().await;
    check("without mirrors").await;

    // What is done by hand to what is of a broken one is put right as it is for a good one.
    let mut half = world.store.get(Kind::Agent, "half").await.unwrap().unwrap();
    if let AnyObject::Agent(half) = &mut half {
        half.spec.instructions = Some("by hand".to_owned());
    }
    world.apply(Op::Write { object: half, part: Part::Desired, expect: Expect::Any }).await;
    world.rest().await;
    check("after a hand").await;

    for (name, origin) in origins.iter().filter(|(name, _)| !goods.contains(name)) {
        mend(name, origin, &http);
    }
    world.rest().await;
    assert!(world.ready().await.0, "{:?}", world.ready().await);
    let now = world.agents().await;
    for way in WAYS {
        assert_eq!(now[way].0, "mended", "{way}");
    }
    assert_eq!(now.len(), count + 1);
}

/// An agent that is nobody's.
fn nobodys() -> Op {
    let json = json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "nobodys"},
        "spec": {"agent": {"claude": {}}, "instructions": "mine"},
    });
    let object = open_dispatch::resource::decode(json).unwrap();
    Op::Create(admit::create(object, "uid of nobodys".to_owned(), "").unwrap())
}

#[tokio::test]
async fn repositories_broken_in_every_way_stop_no_other() {
    every_way(false, false).await;
}

#[tokio::test]
async fn repositories_broken_in_every_way_stop_no_other_in_the_other_order_either() {
    every_way(true, true).await;
}

#[tokio::test]
async fn a_commit_changes_the_state_and_a_bad_one_changes_nothing() {
    for on_disk in [false, true] {
        let world = World::new(on_disk).await;
        let origin = world.origin("ops");
        let first = origin.write("a.yaml", agent("a", "one") + &agent("b", "one")).push();
        let url = Some(shown(&origin.bare));
        world.declare(GitSource { url, ..GitSource::default() }, json!(null)).await;
        world.rest().await;
        let at = async || world.source().await.status.last_applied_revision.unwrap();
        assert_eq!(at().await, first);
        // A bad one: told, attempted, and nothing of it applied.
        origin.write("a.yaml", agent("a", "two")).write("b.yaml", "kind: [");
        let bad = origin.push();
        world.rest().await;
        let (_, reason, message) = world.ready().await;
        assert_eq!(reason, "InvalidFiles");
        assert!(message.starts_with("b.yaml:"), "{message}");
        let status = world.source().await.status;
        assert_eq!((status.last_attempted_revision, at().await), (Some(bad), first.clone()));
        assert_eq!(world.agents().await.len(), 2);
        // The branch is rewritten, without it: what is not declared any more goes.
        fs::remove_file(origin.work.join("b.yaml")).unwrap();
        origin.write("c.json", agent("a", "three").replace("---\n", ""));
        fs::remove_file(origin.work.join("a.yaml")).unwrap();
        origin.git(&["checkout", "-q", "--orphan", "fresh"]);
        origin.push();
        origin.git(&["push", "-q", "-f", "origin", "fresh:main"]);
        world.look().await;
        let b = world.store.get(Kind::Agent, "b").await.unwrap();
        if let Some(mut b) = b.filter(|b| b.metadata().is_deleting()) {
            b.metadata_mut().finalizers.clear();
            world.apply(Op::Write { object: b, part: Part::Finalizers, expect: Expect::Any }).await;
        }
        world.rest().await;
        let agents = world.agents().await;
        assert_eq!(agents.len(), 1);
        assert_eq!(agents["a"].0, "three");
        // What nobody declared is taken when it is handed over.
        world.apply(nobodys()).await;
        origin.write("d.yaml", agent("nobodys", "declared")).push();
        origin.git(&["push", "-q", "-f", "origin", "HEAD:main"]);
        world.rest().await;
        assert_eq!(world.ready().await.1, "Conflict");
        let mut handed = world.store.get(Kind::Agent, "nobodys").await.unwrap().unwrap();
        handed.metadata_mut().annotations.insert(ADOPT.to_owned(), "team".to_owned());
        world.apply(Op::Write { object: handed, part: Part::Desired, expect: Expect::Any }).await;
        world.rest().await;
        assert_eq!(world.agents().await["nobodys"].0, "declared");
    }
}

#[tokio::test]
async fn what_is_passed_over_is_told_and_former_addresses_are_forgotten() {
    let world = World::new(false).await;
    let (origin, other) = (world.origin("ops"), world.origin("other"));
    origin.write("a.yaml", agent("a", "one")).push();
    fs::create_dir(origin.work.join("lib")).unwrap();
    let commit = origin.git(&["rev-parse", "HEAD"]);
    let entry = format!("160000,{commit},lib");
    origin.git(&["update-index", "--add", "--cacheinfo", &entry]);
    origin.git(&["commit", "-q", "-m", "a submodule"]);
    origin.git(&["push", "-q", "origin", "HEAD"]);
    let url = Some(shown(&origin.bare));
    world.declare(GitSource { url, ..GitSource::default() }, json!(null)).await;
    world.rest().await;
    let (is_ready, _, message) = world.ready().await;
    assert!(is_ready);
    assert!(
        message.ends_with("1 object; passed over: lib is a submodule, and is not read"),
        "{message}"
    );
    let mirrors = || fs::read_dir(world.dir.path().join("mirrors")).unwrap().count();
    assert_eq!(mirrors(), 1);
    // Its address changes: the other one's mirror goes, once what it says is applied.
    other.write("a.yaml", agent("a", "two")).push();
    let mut source = world.source().await;
    let from = GitSource { url: Some(shown(&other.bare)), ..GitSource::default() };
    source.spec.from = SourceFrom::Git(from);
    let (part, expect) = (Part::Desired, Expect::Any);
    world.apply(Op::Write { object: source.into(), part, expect }).await;
    world.rest().await;
    assert_eq!(world.agents().await["a"].0, "two");
    assert_eq!(mirrors(), 1);
    // And all of them go with the Source.
    let (kind, name) = (Kind::Source, "team".to_owned());
    world.apply(Op::Delete { kind, name, uid: None, resource_version: None }).await;
    for _ in 0..3 {
        world.look().await;
        for mut object in world.store.list(Kind::Agent, None, 9).await.unwrap().items {
            object.metadata_mut().finalizers.clear();
            world.apply(Op::Write { object, part: Part::Finalizers, expect: Expect::Any }).await;
        }
    }
    assert_eq!(world.store.get(Kind::Source, "team").await.unwrap(), None);
    assert_eq!(mirrors(), 0);
}
