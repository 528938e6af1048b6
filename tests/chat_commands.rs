//! A command is one transaction: it is done once, whole, or not at all, and always answered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Fault, FreeSteps, ManualClock, Mode, ScriptedSteps, SeededIds, Steps},
    chat::{Commands, Incoming, Settings, outbox::delivery_id},
    resource::{
        API_VERSION, AnyObject, ConditionStatus, Job, Kind, OwnerReference, Sprite, SpriteSpec,
        yaml,
    },
    store::{
        Approval, ApprovalState, Conversation, Delivery, Error, Expect, Op, Part, Store, Subject,
        Transaction, memory::MemoryStore,
    },
};
use sprite_reporter::wire::{Chunk, Event, EventBody, Stream};

struct Chat {
    store: Arc<MemoryStore>,
    commands: Commands,
    said: u32,
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn place() -> Conversation {
    Conversation { platform: "console".into(), channel: "main".into(), thread: None }
}

impl Chat {
    fn new() -> Self {
        Self::with_steps(Arc::new(FreeSteps))
    }

    fn with_steps(steps: Arc<dyn Steps>) -> Self {
        let store = MemoryStore::new();
        let ambient = Ambient {
            clock: Arc::new(ManualClock::at(now())),
            ids: Arc::new(SeededIds::new(7)),
            steps,
        };
        let commands = Commands::new(Arc::clone(&store) as _, ambient, Settings::default());
        Self { store, commands, said: 0 }
    }

    fn line(key: &str, text: &str) -> Incoming {
        Incoming::typed(format!("console/{key}"), place(), "ada", text)
    }

    /// Says a line, and gives the delivery that answers it.
    async fn ask(&mut self, text: &str) -> Delivery {
        self.said += 1;
        let line = Self::line(&self.said.to_string(), text);
        let taken = self.commands.handle(&line).await.unwrap();
        assert!(!taken.again);
        self.store.delivery(&taken.delivery).await.unwrap().unwrap()
    }

    /// Says a line that is answered by a text.
    async fn told(&mut self, text: &str) -> String {
        match self.ask(text).await.subject {
            Subject::Notice { text } => text,
            other => panic!("{text} is answered by {other:?}"),
        }
    }

    /// Says a line that makes a Job.
    async fn run(&mut self, text: &str) -> Job {
        match self.ask(text).await.subject {
            Subject::Job { name, .. } => self.job(&name).await,
            other => panic!("{text} is answered by {other:?}"),
        }
    }

    async fn job(&self, name: &str) -> Job {
        self.store.get(Kind::Job, name).await.unwrap().and_then(AnyObject::into_job).unwrap()
    }

    async fn jobs(&self) -> usize {
        self.store.list(Kind::Job, None, 100).await.unwrap().items.len()
    }

    async fn apply(&self, op: Op) {
        self.store.apply(Transaction::at(now()).with(op)).await.unwrap();
    }

    async fn finish(&self, name: &str) {
        let mut job = self.job(name).await;
        job.status.conditions.set("Complete", ConditionStatus::True, "Done", "", 1, now());
        job.status.phase = "Succeeded".into();
        let expect = Expect::SameVersion;
        self.apply(Op::Write { object: job.into(), part: Part::Status, expect }).await;
    }

    async fn sprite(&self, job: &Job) -> String {
        let uid = format!("{}-1", job.metadata.uid);
        let spec: SpriteSpec = serde_json::from_value(serde_json::json!({
            "agent": {"command": {}}, "runtime": {"local": {}}, "permissions": {}, "attempt": 1,
            "running": true,
        }))
        .unwrap();
        let mut sprite = Sprite::new(format!("{}-abcdef-1", job.metadata.name), spec);
        sprite.metadata.uid.clone_from(&uid);
        sprite.metadata.owner_references.push(OwnerReference {
            api_version: API_VERSION.into(),
            kind: Kind::Job,
            name: job.metadata.name.clone(),
            uid: job.metadata.uid.clone(),
            controller: true,
        });
        let waits = ConditionStatus::False;
        sprite.status.conditions.set("Admitted", waits, "NoSlot", "", 1, now());
        self.apply(Op::Create(sprite.into())).await;
        uid
    }
}

#[tokio::test]
async fn a_run_becomes_the_job_that_was_meant() {
    let mut chat = Chat::new();
    let mut told = String::new();
    for line in [
        "/od-run don't  \"break\"\n the 'tests'",
        "/od-run —name nightly --agent claude --model opus --repo owner/project --branch main \
         --timeout 90s --permissions ask Fix it!",
        "/od-run --name b --repo https://example.com/r.git --workdir ./src/../x y",
        "/od-run --name c --repo https://example.com/r.git --workdir ./src y",
        "/od-run --name d --workdir /tmp ls",
    ] {
        let answer = match chat.ask(line).await.subject {
            Subject::Job { name, .. } => {
                let mut job = chat.job(&name).await;
                job.metadata.uid = "UID".into();
                yaml::write(&job.into())
            }
            Subject::Notice { text } => text,
            other => unreachable!("a run makes a job, and no {other:?}"),
        };
        told.push_str(&format!("> {line}\n{answer}\n"));
    }
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn a_redelivery_gives_the_same_job_the_same_name_and_no_second_answer() {
    let chat = Chat::new();
    let line = Chat::line("r1", "/od-run echo hello");
    let first = chat.commands.handle(&line).await.unwrap();
    let writes = chat.store.writes();
    let second = chat.commands.handle(&line).await.unwrap();
    assert_eq!(first.delivery, second.delivery);
    assert!(second.again);
    assert_eq!(chat.store.writes(), writes);
    // A store that has forgotten everything gives the same name again.
    let other = Chat::new();
    other.commands.handle(&line).await.unwrap();
    let name = |chat: &Chat| {
        let store = Arc::clone(&chat.store);
        async move { store.list(Kind::Job, None, 2).await.unwrap().items[0].metadata().name.clone() }
    };
    assert_eq!(name(&chat).await, name(&other).await);
    assert_eq!(chat.jobs().await, 1);
}

#[tokio::test]
async fn a_fault_at_the_commit_leaves_one_job_and_one_answer() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        let steps = Arc::new(ScriptedSteps::new(Some((0, mode))));
        let chat = Chat::with_steps(Arc::clone(&steps) as _);
        let line = Chat::line("r1", "/od-run echo hello");
        let failed = chat.commands.handle(&line).await;
        assert!(
            matches!(
                failed,
                Err(Error::Fault(Fault::Crash("chat.take") | Fault::Error("chat.take")))
            ),
            "{failed:?}"
        );
        chat.commands.handle(&line).await.unwrap();
        assert_eq!(chat.jobs().await, 1, "{mode:?}");
        assert_eq!(chat.store.open_deliveries().await.unwrap().len(), 1, "{mode:?}");
    }
}

#[tokio::test]
async fn a_run_answers_with_the_jobs_own_delivery() {
    let mut chat = Chat::new();
    let answer = chat.ask("/od-run --name a echo hello").await;
    let job = chat.job("a").await;
    assert_eq!(answer.id, delivery_id(&job.metadata.uid, &place()));
    assert_eq!(answer.conversation, place());
}

#[tokio::test]
async fn what_cannot_be_run_is_answered_and_changes_nothing() {
    let mut chat = Chat::new();
    let mut told = String::new();
    for line in [
        "hello",
        "/od-rnu x",
        "/od-run",
        "/od-run --agent clod x",
        "/od-run --model opus x",
        "/od-run --branch main x",
        "/od-run --name Not_A_Name x",
        "/od-run --permissions ask x",
        "/od-run --agent claude --repo https://me:secret@example.com/r x",
        "/od-run --workdir ../x y",
        "/od-status nobody",
        "/od-cancel nobody",
        "/od-retry nobody",
        "/od-logs nobody",
    ] {
        told.push_str(&format!("> {line}\n{}\n", chat.told(line).await));
    }
    assert_eq!(chat.jobs().await, 0);
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn a_name_that_is_taken_is_not_taken_again() {
    let mut chat = Chat::new();
    chat.run("/od-run --name a echo 1").await;
    assert_eq!(
        chat.told("/od-run --name a echo 2").await,
        "There is a job a already; choose another --name, or see /od-status a"
    );
    assert_eq!(chat.job("a").await.spec.task, "echo 1");
}

#[tokio::test]
async fn cancel_writes_the_spec_once_and_only_that() {
    let mut chat = Chat::new();
    let before = chat.run("/od-run --name a sleep 100").await;
    assert_eq!(chat.told("/od-cancel a").await, "a is being cancelled");
    let job = chat.job("a").await;
    assert!(job.spec.cancel);
    assert_eq!(job.metadata.generation, before.metadata.generation + 1);
    assert_eq!(chat.told("/od-cancel job/a").await, "a is being cancelled already");
    assert_eq!(chat.job("a").await.metadata.resource_version, job.metadata.resource_version);
    chat.finish("a").await;
    assert_eq!(chat.told("/od-cancel a").await, "There is nothing to cancel: a succeeded");
}

#[tokio::test]
async fn a_retry_is_a_new_job_of_the_same_task() {
    let mut chat = Chat::new();
    let old = chat.run("/od-run --name a --timeout 5m sleep 100").await;
    chat.told("/od-cancel a").await;
    let retry = chat.run("/od-retry a").await;
    assert_eq!(retry.metadata.name, "a-retry-1");
    assert_eq!(retry.spec, old.spec);
    assert_ne!(retry.metadata.uid, old.metadata.uid);
    assert_eq!(chat.run("/od-retry a-retry-1").await.metadata.name, "a-retry-2");
    let long = "n".repeat(63);
    chat.run(&format!("/od-run --name {long} true")).await;
    let retry = chat.run(&format!("/od-retry {long}")).await;
    assert_eq!(retry.metadata.name, format!("{}-retry-1", "n".repeat(55)));
}

#[tokio::test]
async fn logs_are_the_last_lines_that_were_printed() {
    let mut chat = Chat::new();
    let job = chat.run("/od-run --name a count").await;
    assert_eq!(chat.told("/od-logs a").await, "a has printed nothing yet");
    let sprite_uid = chat.sprite(&job).await;
    let text: String = (0..30).map(|n| format!("line {n}\n")).collect();
    let (front, back) = text.split_at(101);
    let events = [front, back]
        .into_iter()
        .zip(1..)
        .map(|(part, seq)| Event {
            seq,
            at: now(),
            body: EventBody::Log {
                stream: Stream::Stdout,
                chunk: Chunk::pack(part.as_bytes(), false),
            },
        })
        .collect();
    chat.apply(Op::Output { sprite_uid, run: 1, events }).await;
    let last: String = (10..30).map(|n| format!("line {n}\n")).collect();
    assert_eq!(
        chat.told("/od-logs a").await,
        format!("```\n{last}```\nThere is more; open-dispatch logs job/a shows all")
    );
}

#[tokio::test]
async fn jobs_that_wait_for_a_slot_say_so_in_order() {
    let mut chat = Chat::new();
    for name in ["a", "b"] {
        let job = chat.run(&format!("/od-run --name {name} echo {name}")).await;
        chat.sprite(&job).await;
    }
    chat.run("/od-run --name c echo c").await;
    let told = chat.told("/od-jobs").await;
    assert!(told.contains("a     Waiting (1)  command  0s   echo a"), "{told}");
    assert!(told.contains("b     Waiting (2)  command  0s   echo b"), "{told}");
    assert!(told.contains("c     Pending      command  0s   echo c"), "{told}");
    let told = chat.told("/od-status b").await;
    assert!(told.contains("waiting for a free slot, number 2 in the line"), "{told}");
    assert!(chat.told("/od-help").await.contains("/od-run"));
    assert!(chat.told("od-whoami").await.starts_with("You are ada on console"));
}

impl Chat {
    /// The Job's agent asks for something, at a second.
    async fn asks(&self, sprite_uid: &str, request: &str, second: i64) {
        let created = Timestamp::from_second(second).unwrap();
        self.apply(Op::AddApproval(Approval {
            kind: Default::default(),
            rule: None,
            questions: Vec::new(),
            answers: Default::default(),
            sprite_uid: sprite_uid.to_owned(),
            run: 1,
            request: request.to_owned(),
            turn: "task".to_owned(),
            tool: "Bash".to_owned(),
            title: format!("Bash: {request}"),
            input: serde_json::Value::Null,
            state: ApprovalState::Pending,
            by: String::new(),
            message: String::new(),
            resolved: None,
            user: None,
            grant: None,
            created,
        }))
        .await;
    }
}

#[tokio::test]
async fn the_oldest_request_is_answered_first_and_every_request_once() {
    let mut chat = Chat::new();
    let job = chat.run("/od-run --name a echo a").await;
    let uid = chat.sprite(&job).await;
    assert_eq!(chat.told("/od-approve a").await, "Nothing waits for an answer in a");
    chat.asks(&uid, "b-first", 1).await;
    chat.asks(&uid, "a-second", 2).await;
    chat.asks(&uid, "c-third", 3).await;
    assert_eq!(chat.told("/od-approve a").await, "a is told yes: Bash: b-first");
    assert_eq!(chat.told("/od-approve a no c-third").await, "a is told no: Bash: c-third");
    assert_eq!(
        chat.told("/od-approve a yes c-third").await,
        "ada has told a no already: Bash: c-third"
    );
    assert_eq!(
        chat.told("/od-approve a yes nonsense").await,
        "a has made no request nonsense; leave it out to answer the oldest that waits"
    );
    assert_eq!(chat.told("/od-approve a no").await, "a is told no: Bash: a-second");
    assert_eq!(
        chat.told("/od-approve a").await,
        "Nothing waits for an answer in a; ada has told a no already: Bash: c-third"
    );
    let states: Vec<_> = chat.store.approvals(&uid).await.unwrap();
    let states: Vec<_> = states.iter().map(|row| (row.request.as_str(), row.state)).collect();
    let (yes, no) = (ApprovalState::Allowed, ApprovalState::Denied);
    assert_eq!(states, [("a-second", no), ("b-first", yes), ("c-third", no)]);
}

#[tokio::test]
async fn a_job_that_waits_for_an_answer_says_so() {
    let mut chat = Chat::new();
    let mut job = chat.run("/od-run --name a echo a").await;
    job.status.phase = "Running".into();
    let text = "asks to use Bash: ls - answer with /od-approve a yes|no";
    let conditions = &mut job.status.conditions;
    conditions.set("WaitingForApproval", ConditionStatus::True, "Asked", text, 1, now());
    let (part, expect) = (Part::Status, Expect::SameVersion);
    chat.apply(Op::Write { object: job.into(), part, expect }).await;
    let told = chat.told("/od-jobs").await;
    assert!(told.contains("Running (asks)"), "{told}");
    let told = chat.told("/od-status a").await;
    assert!(told.contains(&format!("waits      {text}")), "{told}");
}
