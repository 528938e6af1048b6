//! How fast the store says what the files say.
//!
//! **Change.** 100, 500 and 1,000 Agents in a directory, over SQLite, with the system's own hints: from
//! the last byte of a change of all of them to the commit that applies it, and to the moment at which
//! each Agent's controller has seen its own. The Agents rest, so that no process starts.
//!
//! **Restart.** 10,000 of them that stand as their files say: from before the engine's start until it
//! is quiet, and how often it wrote.
//!
//! `cargo bench --bench sources`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the real time")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where something is missing")]

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use open_dispatch::{
    ambient::Ambient,
    reconcile::{Engine, EngineHandle, controllers::AgentController},
    resource::{
        AnyObject, Defaults, DirectorySource, Kind, Prune, Source, SourceFrom, SourceSpec, admit,
    },
    source::SourceController,
    store::{Op, Store, Transaction, sqlite::SqliteStore},
};

/// How many objects stand in one file.
const PER_FILE: usize = 100;
/// The bar: 1,000 objects, changed to applied.
const BAR: Duration = Duration::from_secs(1);

fn write(dir: &Path, count: usize, words: &str) {
    for (n, first) in (0..count).step_by(PER_FILE).enumerate() {
        let mut text = String::new();
        for at in first..count.min(first + PER_FILE) {
            write!(
                text,
                "---\napiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata:\n  name: \
                 agent-{at:05}\n  labels: {{team: bench}}\nspec:\n  suspend: true\n  agent:\n    \
                 claude: {{model: claude-sonnet-4-5}}\n  runtime: {{local: {{workdir: /tmp}}}}\n  \
                 permissions: {{mode: ask}}\n  instructions: {words}\n"
            )
            .unwrap();
        }
        let (path, new) = (dir.join(format!("{n:03}.yaml")), dir.join(".new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }
}

async fn engine(store: &Arc<dyn Store>, base: &Path) -> EngineHandle {
    let air = Ambient::real;
    let mut engine = Engine::new(store.clone(), air());
    let defaults = Arc::new(Defaults::default());
    let sources = SourceController::new(store.clone(), air(), defaults, base.to_owned());
    engine.add(Arc::new(sources.with_watches()));
    engine.add(Arc::new(AgentController::new(store.clone(), air())));
    engine.start().await.unwrap()
}

async fn applied(store: &Arc<dyn Store>, not: Option<&str>) -> String {
    loop {
        let source = store.get(Kind::Source, "specs").await.unwrap();
        let status = source.and_then(AnyObject::into_source).unwrap().status;
        if let Some(revision) = status.last_applied_revision.filter(|it| not != Some(it)) {
            return revision;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn converged(store: &Arc<dyn Store>) {
    loop {
        let agents = store.list(Kind::Agent, None, usize::MAX).await.unwrap().items;
        let seen = agents
            .into_iter()
            .filter_map(AnyObject::into_agent)
            .all(|agent| agent.metadata.generation == agent.status.observed_generation);
        if seen {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn house(count: usize) -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let (data, specs) = (dir.path().join("data"), dir.path().join("specs"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&specs).unwrap();
    let store: Arc<dyn Store> = SqliteStore::open(&data, Ambient::real()).await.unwrap();
    write(&specs, count, "first");
    let spec = SourceSpec {
        from: SourceFrom::Directory(DirectorySource { path: "specs".to_owned(), commit: false }),
        interval: None,
        suspend: false,
        prune: Prune::default(),
        policy: None,
        channels: Vec::new(),
    };
    let source = Source::new("specs", spec).into();
    let source = admit::create(source, "uid of specs".to_owned(), "").unwrap();
    let now = Ambient::real().clock.now();
    store.apply(Transaction::at(now).with(Op::Create(source))).await.unwrap();
    (dir, store)
}

async fn change(count: usize) {
    let (dir, store) = house(count).await;
    let began = Instant::now();
    let engine = engine(&store, dir.path()).await;
    let first = applied(&store, None).await;
    let made = began.elapsed();
    converged(&store).await;
    let made_all = began.elapsed();
    write(&dir.path().join("specs"), count, "second");
    let began = Instant::now();
    applied(&store, Some(&first)).await;
    let changed = began.elapsed();
    converged(&store).await;
    let changed_all = began.elapsed();
    engine.stop().await;
    let verdict = match changed <= BAR {
        true => "within the bar of 1 s",
        false => "MISSES the bar of 1 s",
    };
    println!(
        "{count} objects: made in {made:.0?} (converged {made_all:.0?}), changed in {changed:.0?} \
         (converged {changed_all:.0?}); {verdict}"
    );
}

async fn restart(count: usize) {
    let (dir, store) = house(count).await;
    let first = engine(&store, dir.path()).await;
    applied(&store, None).await;
    converged(&store).await;
    first.idle_for(Duration::from_secs(1)).await;
    first.stop().await;
    let writes = store.writes();
    let began = Instant::now();
    let second = engine(&store, dir.path()).await;
    loop {
        let stats = second.stats();
        if stats.iter().all(|(_, it)| it.ready == 0 && it.running == 0 && it.runs > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let quiet = began.elapsed();
    second.stop().await;
    println!("{count} objects, restart: quiet in {quiet:.2?}, {} writes", store.writes() - writes);
}

/// Waiting until an engine has nothing at hand for a while.
trait Idle {
    async fn idle_for(&self, length: Duration);
}

impl Idle for EngineHandle {
    async fn idle_for(&self, length: Duration) {
        let mut since = Instant::now();
        while since.elapsed() < length {
            if self.stats().iter().any(|(_, it)| it.ready > 0 || it.running > 0) {
                since = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for count in [100, 500, 1_000] {
            change(count).await;
        }
        restart(10_000).await;
    });
}
