//! What a life decides by the clock, with a driver that is only a channel.

use jiff::Timestamp;

use super::*;
use crate::{
    rundir::RunDir,
    spool::{self, Spool},
    wire::{AgentSpec, Containment, Permissions, Usage},
};

struct Scene {
    life: Life,
    orders: mpsc::Receiver<DriverOrder>,
    directory: tempfile::TempDir,
}

const HOUR: Duration = Duration::from_secs(3600);

fn spec() -> RunSpec {
    RunSpec {
        job_id: "nobody's".into(),
        run: 1,
        installation: "test".into(),
        server: None,
        endpoint_file: None,
        agent: AgentSpec::Command { shell: None },
        task: None,
        workdir: "/".into(),
        repo: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        timeout_ms: None,
        idle_timeout_ms: None,
        session: None,
        hide: Vec::new(),
        worktree: None,
        sandbox: None,
        attachments: None,
        artifacts: None,
    }
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = RunDir::new(directory.path());
        let spool = Spool::open(&dir.spool(), spool::Options::default()).unwrap();
        let desk = Arc::new(Desk::new(spool, None));
        let address = Address {
            job_id: "nobody's".into(),
            run: 1,
            token: "token".into(),
            endpoint_file: None,
            server: None,
        };
        let lock = dir.lock().unwrap().unwrap();
        let run = Run {
            dir,
            _lock: lock,
            spec: Arc::new(spec()),
            address,
            containment: Containment::default(),
            cgroup: None,
            ends: None,
            contract: Contract::Ours,
        };
        let (sender, orders) = mpsc::channel(ORDER_DEPTH);
        let life = Life::new(&run, desk, sender);
        life.stage.driving.store(true, Ordering::Relaxed);
        Self { life, orders, directory }
    }

    /// Takes a turn, and opens it as if the server held that.
    fn open(&mut self, turn: &str, budget: Option<u64>) {
        self.life.accept(Accepted {
            turn: turn.into(),
            text: String::new(),
            files: Vec::new(),
            time: None,
            budget,
        });
        self.life.turns.next(u64::MAX).unwrap();
    }

    fn told(&mut self) -> Option<DriverOrder> {
        self.orders.try_recv().ok()
    }

    fn ending(&self) -> Option<ExitReason> {
        self.life.ending.as_ref().map(|(reason, _)| *reason)
    }

    /// The last event in the spool.
    fn said(&self) -> EventBody {
        let spool = RunDir::new(self.directory.path()).spool();
        let mut spool = Spool::open(&spool, spool::Options::default()).unwrap();
        let page = spool.read(1, 1024 * 1024, 1000).unwrap();
        let event: crate::wire::Event = serde_json::from_str(page.lines.last().unwrap()).unwrap();
        assert!(event.at > Timestamp::UNIX_EPOCH);
        event.body
    }
}

fn usage(micro_usd: u64) -> Usage {
    Usage { cost_micro_usd: micro_usd, ..Usage::default() }
}

#[test]
fn without_a_server_for_an_hour_an_idle_run_ends_and_one_with_a_turn_stays() {
    let mut idle = Scene::new();
    let now = ambient::elapsed();
    assert!(idle.life.alarm(now) > HOUR - Duration::from_secs(1));
    idle.life.tick(now + HOUR - Duration::from_secs(60));
    assert_eq!(idle.ending(), None);
    idle.life.tick(now + HOUR + Duration::from_secs(1));
    assert_eq!(idle.ending(), Some(ExitReason::Abandoned));
    assert_eq!(idle.told(), Some(DriverOrder::Stop));

    let mut busy = Scene::new();
    busy.open("one", None);
    busy.life.tick(now + 10 * HOUR);
    assert_eq!(busy.ending(), None);
    let end = EventBody::TurnEnded {
        turn: "one".into(),
        outcome: TurnOutcome::Succeeded,
        message: None,
        usage: Usage::default(),
    };
    busy.life.hear(vec![Said::Event(end)]);
    busy.life.tick(now + 10 * HOUR);
    assert_eq!(busy.ending(), Some(ExitReason::Abandoned), "as soon as nothing is open");

    // One that is accepted and waits for a server that says so, too.
    let mut waiting = Scene::new();
    waiting.life.obey(InboxRow { n: 1, run: 1, order: Order::turn("one", "") });
    waiting.life.tick(now + 10 * HOUR);
    assert_eq!(waiting.ending(), None);
}

#[test]
fn a_turn_that_the_agent_began_itself_keeps_it_awake_for_half_a_minute() {
    let mut scene = Scene::new();
    let own = EventBody::TurnAccepted { turn: "own".into(), origin: Some("agent".into()) };
    scene.life.hear(vec![Said::Event(own)]);
    let now = ambient::elapsed();
    scene.life.obey(InboxRow { n: 1, run: 1, order: Order::Sleep {} });
    assert_eq!((scene.ending(), scene.told()), (None, None));
    assert!(scene.life.alarm(now) <= WAKEFUL + Duration::from_secs(1));
    scene.life.tick(now + WAKEFUL - Duration::from_secs(1));
    assert_eq!(scene.ending(), None);
    scene.life.tick(now + WAKEFUL + Duration::from_secs(1));
    assert_eq!(scene.ending(), Some(ExitReason::Asleep));
    assert_eq!(scene.told(), Some(DriverOrder::Stop));
    let end = scene.life.last_word(None);
    assert_eq!(end.outcome, TurnOutcome::Interrupted);
    assert_eq!(end.message.as_deref(), Some("the agent was put to sleep"));
}

#[test]
fn a_turn_that_spends_its_budget_is_interrupted_and_fails_whatever_its_cli_says() {
    let mut scene = Scene::new();
    scene.open("one", Some(5_000_000));
    let uses =
        |micro_usd| Said::Event(EventBody::Usage { turn: "one".into(), usage: usage(micro_usd) });
    scene.life.hear(vec![uses(4_900_000)]);
    assert_eq!(scene.told(), None);
    scene.life.hear(vec![uses(5_100_000), uses(5_200_000)]);
    assert_eq!(scene.told(), Some(DriverOrder::Interrupt));
    assert_eq!(scene.told(), None, "said once");
    // Nobody obeys: the tree is asked, then killed, until the turn has ended.
    assert!(scene.life.ladder.is_some());
    scene.life.hear(vec![Said::Event(EventBody::TurnEnded {
        turn: "one".into(),
        outcome: TurnOutcome::Cancelled,
        message: Some("interrupted".into()),
        usage: Usage::default(),
    })]);
    assert!(scene.life.ladder.is_none());
    let said = EventBody::TurnEnded {
        turn: "one".into(),
        outcome: TurnOutcome::Failed,
        message: Some("what was left of the budget, $5, is spent".into()),
        usage: usage(5_200_000),
    };
    assert_eq!(scene.said(), said);
    assert_eq!(scene.ending(), None, "the session goes on");
}

#[test]
fn a_driver_that_does_not_notice_the_death_of_its_cli_is_given_up() {
    let mut scene = Scene::new();
    scene.open("one", None);
    let now = ambient::elapsed();
    scene.life.obey(InboxRow {
        n: 1,
        run: 1,
        order: Order::Cancel { turn: Some("one".into()), reason: ExitReason::Cancelled },
    });
    let s = Duration::from_secs;
    for (at, given_up) in [(29, false), (31, false), (37, false), (46, false), (48, true)] {
        assert_eq!(scene.life.tick(now + s(at)), given_up, "after {at} s");
    }
}
