//! Agents from chat: started, spoken to, stopped, changed, deleted; each once, whole, or not at
//! all, and always answered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/conversation.rs"]
mod conversation;

use std::sync::Arc;

use conversation::{Fake, World, place, says};
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, FreeSteps, ManualClock, Mode, ScriptedSteps, SeededIds},
    chat::{Commands, Incoming, Settings},
    reconcile::Controller as _,
    resource::{AgentCli, ClaudeCli, Defaults, Kind, yaml},
    store::{
        Approval, ApprovalState, Change, ChangeKind, Conversation, Expect, Op, Part, Principal,
        Store, Subject, TurnState, memory::MemoryStore,
    },
};
use sprite_reporter::wire::{ApprovalKind, Attachment};

fn world() -> World {
    World::new(Fake::with_lookup(true), Arc::new(FreeSteps))
}

/// Says lines, and gives what they were answered.
async fn transcript(world: &mut World, lines: &[&str]) -> String {
    let mut all = String::new();
    for line in lines {
        all.push_str(&format!("> {line}\n{}\n", world.told(line).await));
    }
    all
}

async fn names(world: &World) -> Vec<String> {
    let list = world.store.list(Kind::Agent, None, 100).await.unwrap();
    list.items.iter().map(|object| object.metadata().name.clone()).collect()
}

#[tokio::test]
async fn a_start_makes_the_agent_that_was_meant() {
    let mut world = world();
    let line = "/od-start bot —agent claude ~/p --model opus --repo owner/project --branch main \
                --permissions acceptEdits --instructions “Be brief.”";
    let told = transcript(&mut world, &[line]).await;
    let mut agent = world.agent("bot").await;
    agent.metadata.uid = "UID".into();
    insta::assert_snapshot!(format!("{told}{}", yaml::write(&agent.into())));
}

#[tokio::test]
async fn a_name_is_made_from_the_place_and_the_request() {
    let mut world = world();
    for (key, line) in
        [("1", "/od-start ~/My_API"), ("2", "/od-start --repo o/web"), ("3", "/od-start")]
    {
        world.say("main", key, line).await;
    }
    let first = names(&world).await;
    let mut other = self::world();
    for (key, line) in
        [("1", "/od-start ~/My_API"), ("2", "/od-start --repo o/web"), ("3", "/od-start")]
    {
        other.say("main", key, line).await;
    }
    assert_eq!(first, names(&other).await, "the request's key gives the name");
    let fronts: Vec<&str> = first.iter().map(|name| &name[..name.len() - 6]).collect();
    assert_eq!(fronts, ["agent", "my-api", "web"]);
}

#[tokio::test]
async fn what_cannot_be_done_is_answered_and_changes_nothing() {
    let mut world = world();
    world.told("/od-start bot").await;
    world.say("main", "job", "/od-run --name job1 true").await;
    let before = world.agent("bot").await;
    let told = transcript(
        &mut world,
        &[
            "/od-start Not_A_Name",
            "/od-start a --agent clod",
            "/od-start a --agent command --model x",
            "/od-start a --branch main",
            "/od-start a ../x",
            "/od-start bot",
            "/od-start bot --agent claude ~/q",
            "/od-send nobody hi",
            "/od-send bto hi",
            "/od-send job1 hi",
            "/od-send job/bot hi",
            "/od-stop nobody",
            "/od-stop job1",
            "/od-cancel bot",
            "/od-retry bot",
            "/od-approve bot",
            "/od-approve bot list",
            "/od-approve bot revoke",
            "/od-logs bot",
            "/od-set bot nonsense=1",
            "/od-set bot runtime.local.workdir=5 suspend=perhaps",
            "/od-set bot runtime.local.workdir=relative",
            "/od-set bot suspend=false",
            "/od-set job1 task=other",
            "/od-delete nobody",
        ],
    )
    .await;
    insta::assert_snapshot!(told);
    assert_eq!(world.agent("bot").await, before);
    assert_eq!(names(&world).await, ["bot"]);
}

#[tokio::test]
async fn a_stopped_agent_keeps_what_it_is_and_goes_on_with_what_is_said_otherwise() {
    let mut world = world();
    let told = transcript(
        &mut world,
        &[
            "/od-start bot --agent claude --model opus ~/p",
            "/od-stop bot",
            "/od-stop bot",
            "hello",
            "/od-send bot hello",
            "/od-retry bot",
            "/od-start bot",
            "/od-stop agent/bot",
            "/od-start bot --agent claude --permissions bypass --isolation none",
        ],
    )
    .await;
    let resumed = world.agent("bot").await;
    assert!(!resumed.spec.suspend);
    world.told("/od-stop bot").await;
    let generation = world.agent("bot").await.metadata.generation;
    let told =
        told + &transcript(&mut world, &["/od-start bot --agent command --repo o/r ~/q"]).await;
    assert_eq!(world.agent("bot").await.metadata.generation, generation + 1, "it is one write");
    assert!(world.store.open_turns(&resumed.metadata.uid).await.unwrap().is_empty());
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn an_agent_that_is_resumed_from_elsewhere_listens_there_too() {
    let mut world = world();
    world.told("/od-start bot").await;
    world.told("/od-stop bot").await;
    world.say("far", "1", "/od-start bot").await;
    let turn = world.queued("far", "hello").await;
    assert_eq!(turn.agent_uid, world.agent("bot").await.metadata.uid);
    assert_eq!(world.queued("main", "hello").await.n, 2);
}

#[tokio::test]
async fn a_message_goes_to_whoever_listens_and_doubt_is_told() {
    let mut world = world();
    world.told("/od-start api ~/api").await;
    let turn = world.queued("main", "don't  \"break\"\n it ").await;
    assert_eq!(turn.text, "don't  \"break\"\n it ");
    assert_eq!((turn.author.as_str(), turn.conversation), ("ada", Some(place("main"))));
    let told =
        transcript(&mut world, &["/od-start web ~/web", "do it", "web:", "@nobody do it"]).await;
    let api = world.queued("main", "Api: do it").await;
    assert_eq!((api.n, api.text.as_str()), (2, "do it"));
    let far = world.queued("far", "/od-send web  do it").await;
    assert_eq!((far.n, far.text.as_str(), far.conversation), (1, " do it", Some(place("far"))));
    let told =
        told + &transcript(&mut world, &["/od-stop api", "api: do it", "/od-stop --all"]).await;
    assert!(world.agent("web").await.spec.suspend);
    let told = told + &transcript(&mut world, &["do it", "/od-stop --all"]).await;
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn all_agents_of_a_conversation_are_stopped_and_no_others() {
    let mut world = world();
    world.told("/od-start a").await;
    world.told("/od-start b").await;
    world.say("far", "1", "/od-start c").await;
    assert_eq!(
        world.told("/od-stop --all").await,
        "2 agents stop: a, b. Their sessions stay; /od-start NAME resumes one"
    );
    assert!(world.agent("b").await.spec.suspend);
    assert!(!world.agent("c").await.spec.suspend);
}

#[tokio::test]
async fn cancel_interrupts_what_runs_and_else_drops_what_is_next() {
    let mut world = world();
    world.told("/od-start bot").await;
    let sprite = world.agent_sprite("bot").await;
    let first = world.queued("main", "one").await;
    let second = world.queued("main", "two").await;
    assert_eq!(
        world.told("/od-cancel bot").await,
        "bot will not begin with this: one\n1 more message waits, and is next"
    );
    assert_eq!(world.turn(&first.id).await.cancelled_by.as_deref(), Some("ada"));
    assert_eq!(world.turn(&first.id).await.state, TurnState::Queued, "the controller moves it");
    world.begin(&second.id, &sprite).await;
    assert_eq!(world.told("/od-cancel bot").await, "bot is interrupted: two");
    assert_eq!(world.told("/od-cancel bot").await, "ada has cancelled that already: two");
    let turn = world.turn(&second.id).await;
    assert_eq!((turn.state, turn.cancelled_by.as_deref()), (TurnState::Running, Some("ada")));
}

#[tokio::test]
async fn retry_says_the_last_that_went_wrong_again() {
    let mut world = world();
    world.told("/od-start bot").await;
    let sprite = world.agent_sprite("bot").await;
    let wrong = world.queued("main", "break it").await;
    world.begin(&wrong.id, &sprite).await;
    world.finish(&wrong.id, &sprite, TurnState::Failed, "no").await;
    let good = world.queued("main", "mend it").await;
    world.begin(&good.id, &sprite).await;
    world.finish(&good.id, &sprite, TurnState::Succeeded, "").await;
    let again = world.queued("main", "/od-retry bot").await;
    assert_eq!((again.text.as_str(), again.n), ("break it", 3));
    assert_eq!(
        world.told("/od-retry bot").await,
        "The last that went wrong is done again already, so nothing was done now: break it; \
         /od-retry bot --force does it once more, in a new session"
    );
    assert_eq!(world.agent("bot").await.metadata.annotations.len(), 0);
    world.queued("main", "/od-retry bot --force").await;
    let annotations = world.agent("bot").await.metadata.annotations;
    assert_eq!(annotations["opendispatch.dev/fresh-session-after"], "0");
}

#[tokio::test]
async fn fields_are_set_with_their_old_and_new_values_or_not_at_all() {
    let mut world = world();
    let told = transcript(
        &mut world,
        &[
            "/od-start bot --agent claude",
            "/od-set bot instructions=Prefer small commits. agent.claude.model=opus",
            "/od-set bot agent.claude= agent.command.shell=bash instructions=",
            "/od-set bot agent.command= agent.claude.model=5",
            "/od-set bot repo.github=o/r repo.branch=123",
            "/od-set bot instructions= repo=",
            "/od-set bot channels=[{console: {channel: other}}]",
            "/od-set bot instructions=\"a\" nonsense=1",
        ],
    )
    .await;
    insta::assert_snapshot!(told);
    assert_eq!(world.agent("bot").await.spec.instructions, None);
}

#[tokio::test]
async fn a_deleted_agent_takes_no_more_messages() {
    let mut world = world();
    let told = transcript(
        &mut world,
        &[
            "/od-start bot",
            "/od-delete agent/bot",
            "/od-delete bot",
            "/od-send bot hi",
            "hi",
            "/od-stop bot",
            "/od-set bot suspend=true",
            "/od-start bot",
            "/od-list",
        ],
    )
    .await;
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn agents_are_described_and_their_last_words_shown() {
    let mut world = world();
    world.told("/od-start bot --agent claude").await;
    let sprite = world.agent_sprite("bot").await;
    let first = world.queued("main", "one").await;
    world.print(&sprite, vec![says("other", "long ago\n")]).await;
    world.begin(&first.id, &sprite).await;
    world.print(&sprite, vec![says(&first.id, "the first"), says(&first.id, " words")]).await;
    world.queued("main", "two").await;
    let told = transcript(&mut world, &["/od-status bot", "/od-logs bot", "/od-list"]).await;
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn what_is_allowed_for_good_can_be_taken_back() {
    let mut world = world();
    world.told("/od-start bot --agent claude").await;
    let sprite = world.agent_sprite("bot").await;
    let asked = |request: &str, rule: Option<&str>| Approval {
        sprite_uid: sprite.clone(),
        run: 1,
        request: request.into(),
        turn: "t".into(),
        tool: "Bash".into(),
        title: format!("Bash: {request}"),
        input: serde_json::Value::Null,
        kind: ApprovalKind::Tool,
        rule: rule.map(str::to_owned),
        questions: Vec::new(),
        answers: Default::default(),
        state: ApprovalState::Pending,
        by: String::new(),
        message: String::new(),
        resolved: None,
        user: None,
        grant: None,
        created: Timestamp::UNIX_EPOCH,
    };
    world.apply(vec![Op::AddApproval(asked("ls", Some("Bash(ls:*)")))]).await;
    let told = world.told("/od-approve bot always").await;
    assert!(told.contains("From now on it need not ask for Bash(ls:*)"), "{told}");
    let uid = world.agent("bot").await.metadata.uid;
    let grants = world.store.grants(&uid).await.unwrap();
    assert_eq!((grants[0].rule.as_str(), grants[0].by.as_str()), ("Bash(ls:*)", "ada"));
    let rows = world.store.approvals(&sprite).await.unwrap();
    assert_eq!((rows[0].state, rows[0].by.as_str()), (ApprovalState::Allowed, "ada"));
    assert!(world.told("/od-approve bot list").await.contains("Bash(ls:*)"));
    assert!(world.told("/od-approve bot revoke 000000").await.starts_with("Which one?"));
    assert_eq!(world.told("/od-approve bot revoke").await, "bot must ask for Bash(ls:*) again");
    assert_eq!(world.store.grants(&uid).await.unwrap(), []);
    world.apply(vec![Op::AddApproval(asked("rm", None))]).await;
    assert!(world.told("/od-approve bot always").await.starts_with("only this one request"));
    assert_eq!(
        world.told("/od-approve bot no not that").await,
        "bot is told no (not that): Bash: rm"
    );
    let row = world.store.approvals(&sprite).await.unwrap().remove(1);
    assert_eq!((row.state, row.message.as_str()), (ApprovalState::Denied, "not that"));
    // Whoever is called `ada` is not for that the one who was.
    let ada = Some(Principal::user("console", "ada"));
    assert_eq!((&grants[0].user, &rows[0].user, &row.user), (&ada, &ada, &ada));
    let audit = world.store.audit(Some(0), 99).await.unwrap();
    let said: Vec<&str> = audit.iter().map(|row| row.what.as_str()).collect();
    let id = &grants[0].id;
    assert_eq!(
        said,
        [
            "start bot (agent/bot)",
            &format!("approve bot always ls as {id}: Bash(ls:*)"),
            "approve bot list",
            "approve bot",
            &format!("approve bot revoke {id}"),
            "approve bot",
            "approve bot no rm",
        ]
    );
}

/// Lines of every kind, so that each has something to do.
const LINES: [&str; 15] = [
    "/od-start bot --agent claude",
    "/od-start ~/p",
    "/od-send bot one",
    "bot: two",
    "/od-run --name j true",
    "/od-cancel bot",
    "/od-cancel j",
    "/od-retry j",
    "/od-set bot instructions=Be brief.",
    "/od-list",
    "/od-status bot",
    "/od-logs bot",
    "/od-stop bot",
    "/od-start bot",
    "/od-stop --all",
];

#[tokio::test]
async fn a_line_that_comes_again_does_nothing() {
    let mut world = world();
    for line in LINES.into_iter().chain(["/od-delete bot", "/od-approve bot", "/od-help"]) {
        let incoming = Incoming::typed(format!("console/{line}"), place("main"), "ada", line);
        // The fifteenth's sister has the same text.
        let first = world.commands.handle(&incoming).await.unwrap();
        world.restart();
        let writes = world.store.writes();
        let second = world.commands.handle(&incoming).await.unwrap();
        assert_eq!(second.delivery, first.delivery, "{line}");
        assert!(second.again, "{line}");
        assert_eq!(world.store.writes(), writes, "{line}");
    }
}

#[tokio::test]
async fn a_fault_at_the_commit_of_any_line_leaves_one_effect_and_one_answer() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0..LINES.len() {
            let steps = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::with_lookup(true), Arc::clone(&steps) as _);
            for (at, line) in LINES.into_iter().enumerate() {
                world.say("main", &at.to_string(), line).await;
            }
            assert!(steps.has_fired(), "{mode:?} at {n}");
            assert!(steps.passed().len() >= LINES.len(), "{mode:?} at {n}");
            let place = format!("{mode:?} at {n}");
            let names = names(&world).await;
            assert_eq!(names.len(), 2, "{place}: {names:?}");
            let bot = world.agent("bot").await;
            assert!(bot.spec.suspend, "{place}");
            let turns = world.store.turns(&bot.metadata.uid, 0, 9).await.unwrap();
            let texts: Vec<&str> = turns.iter().map(|turn| turn.text.as_str()).collect();
            assert_eq!(texts, ["one", "two"], "{place}");
            assert!(turns[0].cancelled_by.is_some() && turns[1].cancelled_by.is_none(), "{place}");
            assert_eq!(
                world.store.list(Kind::Job, None, 9).await.unwrap().items.len(),
                2,
                "{place}"
            );
            let answers = world.store.open_deliveries().await.unwrap();
            assert_eq!(answers.len(), LINES.len(), "{place}");
            for turn in &turns {
                let shows = |subject: &Subject| *subject == Subject::Turn { id: turn.id.clone() };
                let shown = answers.iter().filter(|answer| shows(&answer.subject)).count();
                assert_eq!(shown, 1, "{place}: each turn is shown once");
            }
        }
    }
}

#[tokio::test]
async fn two_messages_at_the_same_instant_are_both_queued_in_the_order_of_their_commits() {
    let mut world = world();
    world.told("/od-start bot").await;
    let line = |key: usize| {
        let (author, text) = (format!("person-{key}"), format!("message {key}"));
        Incoming::typed(format!("console/{key}"), place("main"), author, text)
    };
    let lines: Vec<Incoming> = (0..20).map(line).collect();
    let taken = lines.iter().map(|line| world.commands.handle(line));
    let taken = futures::future::join_all(taken).await;
    assert!(taken.iter().all(|taken| taken.as_ref().is_ok_and(|taken| !taken.again)));
    let uid = world.agent("bot").await.metadata.uid;
    let turns = world.store.turns(&uid, 0, 100).await.unwrap();
    let numbers: Vec<u64> = turns.iter().map(|turn| turn.n).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn files_go_to_the_agent_with_the_message_and_are_never_dropped_in_silence() {
    let mut world = world();
    world.told("/od-start bot").await;
    let file = Attachment { id: "ab".repeat(32), name: "shot.png".into(), size: 7 };
    let line = |key: &str, text: &str| Incoming {
        attachments: vec![file.clone()],
        ..Incoming::typed(format!("console/{key}"), place("main"), "ada", text)
    };
    let lines = ["what is this?", "", "/od-send bot look", "/od-run true", "/od-retry bot"];
    let mut told = Vec::new();
    for text in lines {
        let taken = world.commands.handle(&line(text, text)).await.unwrap();
        let subject = world.store.delivery(&taken.delivery).await.unwrap().unwrap().subject;
        if let Subject::Notice { text } = subject {
            told.push(text);
        }
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|text| text.starts_with("Files go with a message")), "{told:?}");
    let uid = world.agent("bot").await.metadata.uid;
    let turns = world.store.turns(&uid, 0, 9).await.unwrap();
    let texts: Vec<&str> = turns.iter().map(|turn| turn.text.as_str()).collect();
    assert_eq!(texts, ["what is this?", "", "look"]);
    assert!(turns.iter().all(|turn| turn.attachments == [file.clone()]));
    assert_eq!(world.store.list(Kind::Job, None, 9).await.unwrap().items, []);
}

#[tokio::test]
async fn the_server_says_what_nobody_said_and_off_the_console_a_shell_is_no_default() {
    let ask = |platform: &'static str, defaults: Defaults, text: &'static str| async move {
        let store = MemoryStore::new();
        let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let ambient = Ambient {
            clock: Arc::new(clock),
            ids: Arc::new(SeededIds::new(7)),
            steps: Arc::new(FreeSteps),
        };
        let commands = Commands::new(
            Arc::clone(&store) as _,
            ambient,
            Settings { defaults, admins: vec![Principal::user("slack", "ada")] },
        );
        let conversation =
            Conversation { platform: platform.into(), channel: "c".into(), thread: None };
        let line = Incoming::typed("k", conversation, "ada", text);
        let taken = commands.handle(&line).await.unwrap();
        match store.delivery(&taken.delivery).await.unwrap().unwrap().subject {
            Subject::Notice { text } => text,
            other => format!("{other:?}"),
        }
    };
    let claude = ClaudeCli { model: Some("opus".into()), path: None };
    let found = Defaults {
        agent: Some(AgentCli::Claude(claude)),
        home: "/home/a".into(),
        roots: vec!["/home/a".into()],
        ..Defaults::default()
    };
    let told = [
        ask("console", Defaults::default(), "/od-start bot").await,
        ask("slack", Defaults::default(), "/od-start bot").await,
        ask("slack", Defaults::default(), "/od-run echo").await,
        ask("slack", Defaults::default(), "/od-start bot --agent claude").await,
        ask("slack", found.clone(), "/od-start bot ~/p").await,
        ask("console", found.clone(), "/od-start bot /etc").await,
        ask("console", found, "/od-run --workdir /home/a/../b ls").await,
    ];
    insta::assert_snapshot!(told.join("\n-----\n"));
}

#[tokio::test]
async fn a_job_outside_of_roots_that_were_narrowed_since_is_not_run_again() {
    let store = MemoryStore::new();
    let ask = |key: &'static str, roots: Vec<std::path::PathBuf>, text: &'static str| {
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()));
        let ids = Arc::new(SeededIds::new(key.len() as u64));
        let ambient = Ambient { clock, ids, steps: Arc::new(FreeSteps) };
        let defaults = Defaults { home: "/home/a".into(), roots, ..Defaults::default() };
        let settings = Settings { defaults, admins: Vec::new() };
        let commands = Commands::new(Arc::clone(&store) as _, ambient, settings);
        async move { commands.handle(&Incoming::typed(key, place("main"), "ada", text)).await }
    };
    ask("k", vec!["/srv".into()], "/od-run --name j --agent claude --workdir /srv/a go on")
        .await
        .unwrap();
    let taken = ask("key", vec!["/home/a".into()], "/od-retry job/j").await.unwrap();
    let delivery = store.delivery(&taken.delivery).await.unwrap().unwrap();
    let Subject::Notice { text } = delivery.subject else { panic!("{:?}", delivery.subject) };
    assert!(text.contains("/srv/a"), "{text}");
    assert_eq!(store.list(Kind::Job, None, 9).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn what_is_said_to_an_agent_that_is_gone_is_given_to_no_other() {
    let mut world = world();
    world.told("/od-start cc1").await;
    world.told("/od-start cc2").await;
    let uid = world.agent("cc1").await.metadata.uid;
    world.told("/od-delete agent/cc1").await;
    let going = world.told("cc1: while it goes").await;
    assert!(going.contains("cc1 is being deleted"), "{going}");
    let mut gone = world.agent("cc1").await;
    gone.metadata.finalizers.clear();
    let object = gone.clone();
    let write = Op::Write { object: gone.into(), part: Part::Finalizers, expect: Expect::Any };
    world.apply(vec![write]).await;
    let (revision, kind) = (world.store.writes(), ChangeKind::Deleted);
    let change = Change { revision, kind, object: object.into(), desired: true };
    for (key, _) in world.outbox.concerns(&change) {
        world.outbox.reconcile(&key).await.unwrap();
    }
    assert!(world.store.get(Kind::Agent, "cc1").await.unwrap().is_none());
    for line in ["cc1: hello", "@cc1 hello", "@CC1: hello"] {
        let told = world.told(line).await;
        assert!(told.starts_with("cc1 was deleted, so nobody got that; /od-start cc1"), "{told}");
    }
    // Whoever is named in passing is nobody's name, and nor is what never was one.
    world.queued("main", "cc1 was good at that").await;
    world.queued("main", "note: it was").await;
    world.told("/od-start cc1").await;
    let turn = world.queued("main", "cc1: hello").await;
    assert_eq!(turn.agent_uid, world.agent("cc1").await.metadata.uid);
    assert_ne!(turn.agent_uid, uid, "a new one of that name");
}

#[tokio::test]
async fn a_line_that_comes_again_under_its_other_key_is_done_once() {
    let mut world = world();
    world.told("/od-start bot").await;
    let line = |key: &str, alias: &str| Incoming {
        alias: Some(alias.to_owned()),
        ..Incoming::typed(key, place("main"), "ada", "hello")
    };
    let first = world.commands.handle(&line("slack/T/C1/1.0", "slack/msg/C1/m1")).await.unwrap();
    let again = world.commands.handle(&line("slack/T/C1/1.5", "slack/msg/C1/m1")).await.unwrap();
    assert_eq!((again.again, again.delivery), (true, first.delivery));
    world.commands.handle(&line("slack/T/C1/2.0", "slack/msg/C1/m2")).await.unwrap();
    let turns = world.store.turns(&world.agent("bot").await.metadata.uid, 0, 9).await.unwrap();
    assert_eq!(turns.len(), 2);
}
