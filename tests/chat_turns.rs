//! What stands in a conversation of what an agent was told: why it waits, what the agent says,
//! and exactly one outcome, whatever happens on the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/meddler.rs"]
mod meddler;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use conversation::{Fake, World, exit, out, place, says};
use jiff::Timestamp;
use meddler::{Meddler, changes};
use open_dispatch::{
    ambient::{FreeSteps, Mode, ScriptedSteps},
    reconcile::Controller,
    resource::Kind,
    store::{Approval, ApprovalState, Bell, Expect, Op, Part, Store, Turn, TurnState},
};
use sprite_reporter::wire::{ApprovalKind, EventBody, Question, Stream};

fn world() -> World {
    World::new(Fake::with_lookup(true), Arc::new(FreeSteps))
}

/// Everything that stands in the channel `main` behind the first message, which starts the agent.
fn shown(world: &World) -> String {
    let shown = world.platform.shown("main").concat();
    shown.split_once("stops it").map_or(shown.clone(), |(_, rest)| rest.to_owned())
}

async fn started(world: &mut World, line: &str) -> String {
    world.say("main", "start", line).await;
    world.settle().await;
    let sprite = world.agent_sprite("bot").await;
    world.condition("bot", "Ready", true, "AgentReady", "").await;
    sprite
}

fn tool(turn: &str, name: &str, title: &str) -> EventBody {
    let (turn, id) = (turn.to_owned(), format!("{name}-1"));
    EventBody::Tool { turn, id, name: name.into(), title: title.into() }
}

fn asks(turn: &str, request: &str) -> EventBody {
    EventBody::Approval {
        turn: turn.into(),
        request: request.into(),
        tool: "Bash".into(),
        title: "Bash: ls".into(),
        input: serde_json::Value::Null,
        kind: ApprovalKind::Tool,
        rule: None,
        questions: Vec::new(),
    }
}

/// Does what ingest would: the agent asks, and the ledger knows.
async fn ask(world: &World, sprite: &str, body: EventBody) {
    let EventBody::Approval { turn, request, tool, title, input, kind, rule, questions } =
        body.clone()
    else {
        panic!("{body:?} asks nothing")
    };
    world.print(sprite, vec![body]).await;
    let row = Approval {
        sprite_uid: sprite.into(),
        run: 1,
        request,
        turn,
        tool,
        title,
        input,
        kind,
        rule,
        questions,
        answers: Default::default(),
        state: ApprovalState::Pending,
        by: String::new(),
        message: String::new(),
        resolved: None,
        user: None,
        grant: None,
        created: Timestamp::UNIX_EPOCH,
    };
    world.apply(vec![Op::AddApproval(row)]).await;
}

async fn resolve(world: &World, sprite: &str, request: &str, state: ApprovalState, by: &str) {
    let op = Op::ResolveApproval {
        sprite_uid: sprite.into(),
        run: 1,
        request: request.into(),
        state,
        by: by.into(),
        user: None,
        grant: None,
        message: String::new(),
        answers: Default::default(),
    };
    world.apply(vec![op]).await;
}

#[tokio::test]
async fn a_message_is_answered_and_the_answer_ends_with_one_outcome() {
    let mut world = world();
    let sprite = started(&mut world, "/od-start bot --agent claude").await;
    let turn = world.queued("main", "hello").await;
    world.settle().await;
    assert_eq!(shown(&world), "", "an agent that is ready begins at once, and nothing flickers");
    assert_eq!(world.platform.placeholders(), 1);
    world.begin(&turn.id, &sprite).await;
    world.print(&sprite, vec![says(&turn.id, "Hel")]).await;
    world.settle().await;
    assert_eq!(shown(&world), "Hel");
    world.print(&sprite, vec![says(&turn.id, "lo.\n"), tool(&turn.id, "Bash", "ls")]).await;
    world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
    world.settle().await;
    assert_eq!(shown(&world), "Hello.\n→ Bash: ls\nbot has answered ($0.0123, 3.0 s)");
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
    // What the sprite says later is another's.
    world.print(&sprite, vec![says("other", "no"), out("no"), exit(0)]).await;
    let before = (world.store.writes(), world.platform.calls());
    world.restart();
    world.settle().await;
    assert_eq!((world.store.writes(), world.platform.calls()), before);
}

#[tokio::test]
async fn a_turn_shows_what_belongs_to_it_and_nothing_else() {
    for (agent, prints) in [("claude", false), ("command", true)] {
        let mut world = world();
        let sprite = started(&mut world, &format!("/od-start bot --agent {agent}")).await;
        let first = world.queued("main", "one").await;
        world.print(&sprite, vec![out("before\n")]).await;
        world.begin(&first.id, &sprite).await;
        let thought = EventBody::Thought {
            turn: first.id.clone(),
            chunk: sprite_reporter::wire::Chunk::pack(b"hm", false),
        };
        let system = EventBody::Log {
            stream: Stream::System,
            chunk: sprite_reporter::wire::Chunk::pack(b"a new session begins", false),
        };
        let odd = says("another", "not mine");
        world.print(&sprite, vec![thought, out("printed\n"), system, odd]).await;
        world.finish(&first.id, &sprite, TurnState::Succeeded, "").await;
        let second = world.queued("main", "two").await;
        world.print(&sprite, vec![out("between\n")]).await;
        world.begin(&second.id, &sprite).await;
        world.print(&sprite, vec![says(&second.id, "Two.")]).await;
        world.finish(&second.id, &sprite, TurnState::Succeeded, "").await;
        world.restart();
        world.settle().await;
        let printed = if prints { "printed\n" } else { "" };
        let end = "bot has answered ($0.0123, 3.0 s)";
        assert_eq!(shown(&world), format!("{printed}· a new session begins\n{end}Two.\n{end}"));
    }
}

#[tokio::test]
async fn a_turn_that_waits_says_why_and_for_how_many() {
    let mut world = world();
    let sprite = started(&mut world, "/od-start bot").await;
    let mut told = Vec::new();
    world.condition("bot", "Ready", false, "Asleep", "").await;
    let first = world.queued("main", "one").await;
    world.settle().await;
    told.push(shown(&world));
    world.condition("bot", "Stalled", true, "BackingOff", "no such file").await;
    world.settle().await;
    told.push(shown(&world));
    world.begin(&first.id, &sprite).await;
    let second = world.queued("main", "two").await;
    let third = world.queued("main", "three").await;
    world.settle().await;
    told.push(shown(&world));
    world.finish(&first.id, &sprite, TurnState::Failed, "the model is overloaded").await;
    world
        .move_turn(&second.id, |turn| {
            turn.state = TurnState::Cancelled;
            turn.cancelled_by = Some("ann".into());
        })
        .await;
    world
        .move_turn(&third.id, |turn| {
            turn.state = TurnState::Cancelled;
            turn.message = "bot was stopped".into();
        })
        .await;
    world.settle().await;
    told.push(shown(&world));
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
    insta::assert_snapshot!(told.join("\n-----\n"));
}

#[tokio::test]
async fn a_question_is_told_at_once_and_its_answer_where_it_was_given() {
    for restart in [false, true] {
        let mut world = world();
        let sprite = started(&mut world, "/od-start bot --agent claude").await;
        let turn = world.queued("main", "go").await;
        world.begin(&turn.id, &sprite).await;
        ask(&world, &sprite, asks(&turn.id, "r1")).await;
        world.settle().await;
        let question = "? asks to use Bash: ls - answer with /od-approve bot yes|no\n";
        assert_eq!(shown(&world), question);
        // The agent goes on beside its question, and nobody has to answer first to read it.
        world.print(&sprite, vec![says(&turn.id, "Beside.\n")]).await;
        world.settle().await;
        assert_eq!(shown(&world), format!("{question}Beside.\n"));
        if restart {
            world.restart();
        }
        assert_eq!(
            world.outbox.hears(&Bell::Approvals(sprite.clone())).len(),
            usize::from(!restart)
        );
        resolve(&world, &sprite, "r1", ApprovalState::Allowed, "ann").await;
        world.print(&sprite, vec![says(&turn.id, "Behind.\n")]).await;
        world.settle().await;
        let told = format!("{question}Beside.\n· allowed by ann\nBehind.\n");
        assert_eq!(shown(&world), told, "as a paper, it only grows");
        let choose = EventBody::Approval {
            turn: turn.id.clone(),
            request: "r2".into(),
            tool: "Ask".into(),
            title: String::new(),
            input: serde_json::Value::Null,
            kind: ApprovalKind::Question,
            rule: None,
            questions: vec![Question {
                text: "Which?".into(),
                options: vec!["Red".into(), "Blue".into()],
                many: false,
            }],
        };
        ask(&world, &sprite, choose).await;
        assert_eq!(world.told("/od-approve bot 2").await, "bot gets your answer");
        ask(&world, &sprite, asks(&turn.id, "r3")).await;
        resolve(&world, &sprite, "r3", ApprovalState::Expired, "open-dispatch").await;
        world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
        world.settle().await;
        let shown = shown(&world);
        let (turn, notice) = (shown.replace("bot gets your answer", ""), shown.len());
        assert!(notice > turn.len(), "the answer to the answer stands there, too");
        insta::allow_duplicates! { insta::assert_snapshot!(turn) };
    }
}

#[tokio::test]
async fn where_an_answer_stands_does_not_depend_on_when_it_was_read() {
    for schedule in 0..16_u32 {
        let mut told = Vec::new();
        for reads in [true, false] {
            let mut world = world();
            let sprite = started(&mut world, "/od-start bot --agent claude").await;
            let turn = world.queued("main", "go").await;
            world.begin(&turn.id, &sprite).await;
            for step in 0..6 {
                match step {
                    0 => ask(&world, &sprite, asks(&turn.id, "r1")).await,
                    1 => ask(&world, &sprite, asks(&turn.id, "r2")).await,
                    3 => resolve(&world, &sprite, "r2", ApprovalState::Expired, "").await,
                    5 => resolve(&world, &sprite, "r1", ApprovalState::Denied, "ann").await,
                    n => world.print(&sprite, vec![says(&turn.id, &format!("Said {n}.\n"))]).await,
                }
                // The other world reads all of it at once, after a restart.
                if reads && schedule & (1 << (step % 4)) != 0 {
                    world.settle().await;
                }
            }
            world.print(&sprite, vec![says(&turn.id, "Done.\n")]).await;
            world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
            world.restart();
            world.settle().await;
            told.push(shown(&world));
        }
        assert_eq!(told[0], told[1], "schedule {schedule}");
        let denied = told[0].find("denied by ann").unwrap();
        let expired = told[0].find("expired after 1 h").unwrap();
        let places = ["Said 2.", "Said 4.", "Done."].map(|said| told[0].find(said).unwrap());
        let order = [places[0], expired, places[1], denied, places[2]];
        assert!(order.is_sorted(), "{}", told[0]);
    }
}

#[tokio::test]
async fn what_nobody_will_answer_any_more_holds_nothing_up() {
    let mut world = world();
    let sprite = started(&mut world, "/od-start bot --agent claude").await;
    let turn = world.queued("main", "go").await;
    world.begin(&turn.id, &sprite).await;
    ask(&world, &sprite, asks(&turn.id, "r1")).await;
    world.print(&sprite, vec![exit(1)]).await;
    world
        .move_turn(&turn.id, |turn| {
            turn.state = TurnState::Interrupted;
            turn.message = "its sprite went away".into();
        })
        .await;
    world.settle().await;
    insta::assert_snapshot!(shown(&world));
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn an_interrupted_turn_waits_for_what_was_not_sent_and_says_that_it_is_missing() {
    let mut world = world();
    let sprite = started(&mut world, "/od-start bot --agent claude").await;
    let turn = world.queued("main", "go").await;
    world.begin(&turn.id, &sprite).await;
    world.print(&sprite, vec![says(&turn.id, "I will")]).await;
    let ended = Timestamp::from_second(1_800_000_000).ok();
    world
        .move_turn(&turn.id, |turn| {
            turn.state = TurnState::Interrupted;
            turn.ended = ended;
        })
        .await;
    world.settle().await;
    assert_eq!(shown(&world), "I will");
    world.clock.advance(Duration::from_secs(62));
    world.settle().await;
    let shown = shown(&world);
    assert!(shown.contains("may be missing here"), "{shown}");
    assert!(shown.contains("bot was interrupted (0.0 s); /od-retry bot says it again"), "{shown}");
}

#[tokio::test]
async fn a_turn_whose_output_is_kept_no_longer_still_shows_its_outcome() {
    for words in [1, 60] {
        let mut world = world();
        let sprite = started(&mut world, "/od-start bot --agent claude").await;
        let turn = world.queued("main", "go").await;
        world.begin(&turn.id, &sprite).await;
        world.print(&sprite, vec![says(&turn.id, &"word ".repeat(words))]).await;
        world.settle().await;
        // Nobody shows the end of the turn until its sprite is long gone.
        world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
        let name = "bot-abcdef-1".to_owned();
        let kind = Kind::Sprite;
        world.apply(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
        world.store.compact("2030-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
        assert_eq!(world.store.held(&sprite, None).await.unwrap().run, 0, "the output is gone");
        world.restart();
        world.settle().await;
        let shown = shown(&world);
        let stood = "word ".repeat(words);
        assert!(shown.starts_with(stood.trim_end()), "what stood there stays: {shown}");
        let end = "! what else was said is kept no longer\nbot has answered ($0.0123, 3.0 s)";
        assert!(shown.ends_with(end), "{shown}");
        assert_eq!(world.platform.placeholders(), 0);
        assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
    }
}

#[tokio::test]
async fn a_long_turn_goes_on_behind_what_stands_there_when_its_front_is_kept_no_longer() {
    for (unseen, is_missing) in [(10, false), (300, true)] {
        let mut world = World::forgetful();
        let sprite = started(&mut world, "/od-start bot --agent claude").await;
        let turn = world.queued("main", "go").await;
        world.begin(&turn.id, &sprite).await;
        let says_all = |from: usize, to: usize| {
            (from..to).map(|n| says(&turn.id, &format!("word {n}\n"))).collect::<Vec<_>>()
        };
        world.print(&sprite, says_all(0, 100)).await;
        world.settle().await;
        let stood = shown(&world);
        world.print(&sprite, says_all(100, 100 + unseen)).await;
        world.compact().await;
        world.restart();
        world.settle().await;
        world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
        world.settle().await;
        let shown = shown(&world);
        let rest = shown.strip_prefix(stood.trim_end()).expect("what stands there stays");
        assert_eq!(rest.contains("bytes of output are missing here"), is_missing, "{rest}");
        assert_eq!(rest.contains("word 100\n"), !is_missing, "{rest}");
        assert!(!rest.contains("word 99\n"), "{rest}");
        let end = format!("word {}\nbot has answered ($0.0123, 3.0 s)", 99 + unseen);
        assert!(rest.ends_with(&end), "{rest}");
        assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
    }
}

#[tokio::test]
async fn a_turn_of_an_agent_that_is_gone_has_an_outcome() {
    let mut world = world();
    world.say("main", "start", "/od-start bot").await;
    let turn = world.queued("main", "go").await;
    let mut gone = world.agent("bot").await;
    gone.metadata.finalizers.clear();
    let write = Op::Write { object: gone.into(), part: Part::Finalizers, expect: Expect::Any };
    let name = "bot".to_owned();
    let delete = Op::Delete { kind: Kind::Agent, name, uid: None, resource_version: None };
    world.apply(vec![write, delete]).await;
    world.settle().await;
    assert_eq!(shown(&world), "the agent was deleted, and nothing was done with that");
    assert_eq!(world.turn(&turn.id).await.state, TurnState::Queued);
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn nothing_is_queued_for_an_agent_that_is_stopped_in_that_very_moment() {
    for line in ["go", "/od-send bot go", "/od-retry bot", "/od-retry bot --force"] {
        for n in 0..3 {
            let mut world = world();
            let sprite = started(&mut world, "/od-start bot --agent claude").await;
            let wrong = world.queued("main", "go").await;
            world.begin(&wrong.id, &sprite).await;
            world.finish(&wrong.id, &sprite, TurnState::Failed, "").await;
            let (what, op) = changes(&*world.store).await.into_iter().nth(n).unwrap();
            let meddler = Meddler::new(world.store.clone() as _, "chat.take", vec![op]);
            let mut world = world.with_steps(meddler.clone() as _);
            if what == "observed" {
                world.queued("main", line).await;
            } else {
                let told = world.told(line).await;
                let says = match (what, line) {
                    ("suspended", _) => "bot is stopped",
                    (_, "go") => "No agent listens here",
                    _ => "bot is being deleted",
                };
                assert!(told.contains(says), "{line} {what}: {told}");
            }
            assert!(meddler.has_meddled());
            let agent = wrong.agent_uid.clone();
            let queued = world.store.open_turns(&agent).await.unwrap().len();
            assert_eq!(queued, usize::from(what == "observed"), "{line} {what}");
        }
    }
}

/// A turn that the agent begins by itself, as ingest writes it.
async fn own_turn(world: &World, sprite: &str, id: &str) {
    let agent = world.agent("bot").await;
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut turn = Turn::queued(id, &agent.metadata.uid, "", "", now);
    turn.origin = Some("agent".into());
    turn.state = TurnState::Sent;
    world.apply(vec![Op::AddTurn(turn)]).await;
    world.begin(id, sprite).await;
    world.print(sprite, vec![says(id, "The build is done.\n")]).await;
    world.finish(id, sprite, TurnState::Succeeded, "").await;
}

#[tokio::test]
async fn what_an_agent_says_by_itself_is_told_once_where_it_listens() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(None));
            let mut world = World::new(Fake::with_lookup(true), Arc::clone(&scripted) as _);
            let sprite = started(&mut world, "/od-start bot --agent claude").await;
            let skipped = scripted.passed().len();
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = world.with_steps(Arc::clone(&scripted) as _);
            let id = "0199f0a0-0000-7000-8000-000000000007";
            own_turn(&world, &sprite, id).await;
            let agent = world.agent("bot").await.metadata.uid;
            let keys = world.outbox.hears(&Bell::Turns(agent));
            assert_eq!(keys.len(), 1, "the bell of an agent wakes who makes its deliveries");
            world.settle().await;
            assert_eq!(
                shown(&world),
                "bot has something to say\nThe build is done.\nbot has answered ($0.0123, 3.0 s)",
                "{mode:?} at {n}"
            );
            let passed = scripted.passed();
            assert_eq!(passed[0], "chat.create-delivery");
            assert!(skipped > 0);
            if n >= passed.len() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_agent_that_listens_nowhere_speaks_where_it_was_spoken_to_last() {
    let mut world = world();
    let sprite = started(&mut world, "/od-start bot --agent claude").await;
    world.told("/od-set bot channels=[]").await;
    let turn = world.queued("far", "/od-send bot hello").await;
    assert_eq!(turn.conversation, Some(place("far")));
    own_turn(&world, &sprite, "0199f0a0-0000-7000-8000-000000000007").await;
    world.settle().await;
    let far = world.platform.shown("far").concat();
    assert!(far.contains("bot has something to say"), "{far}");
    assert!(!shown(&world).contains("something to say"));
}

/// A conversation with a queue, a question and a long answer.
async fn story(world: &mut World) {
    world.say("main", "1", "/od-start bot --agent claude").await;
    world.settle().await;
    let sprite = world.agent_sprite("bot").await;
    let first = world.queued("main", "one").await;
    let second = world.queued("main", "two").await;
    world.settle().await;
    world.begin(&first.id, &sprite).await;
    world.print(&sprite, vec![says(&first.id, &"word ".repeat(30))]).await;
    world.settle().await;
    ask(world, &sprite, asks(&first.id, "r1")).await;
    world.settle().await;
    resolve(world, &sprite, "r1", ApprovalState::Allowed, "ann").await;
    world.print(&sprite, vec![says(&first.id, "the end")]).await;
    world.settle().await;
    world.finish(&first.id, &sprite, TurnState::Succeeded, "").await;
    world.begin(&second.id, &sprite).await;
    world.finish(&second.id, &sprite, TurnState::Failed, "no").await;
    world.settle().await;
}

#[tokio::test]
async fn a_fault_at_any_step_ends_in_the_same_conversation() {
    let expected = format!(
        "{}\n? asks to use Bash: ls - answer with /od-approve bot yes|no\n· allowed by ann\nthe end\n\
         bot has answered ($0.0123, 3.0 s)\
         bot failed: no ($0.0123, 3.0 s); /od-retry bot says it again",
        "word ".repeat(30)
    );
    let mut steps = BTreeSet::new();
    let mut most = 0;
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::with_lookup(true), Arc::clone(&scripted) as _);
            story(&mut world).await;
            let passed = scripted.passed();
            let place = format!("{mode:?} at {n} ({:?})", passed.get(n));
            assert_eq!(by_delivery(&world), expected, "{place}");
            assert_eq!(world.platform.placeholders(), 0, "{place}");
            assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new(), "{place}");
            let turns = world.agent("bot").await.metadata.uid;
            assert_eq!(world.store.turns(&turns, 0, 9).await.unwrap().len(), 2, "{place}");
            if n >= passed.len() {
                break;
            }
            most = most.max(passed.len());
            steps.extend(passed);
        }
    }
    let all = [
        "chat.commit-message",
        "chat.commit-shown",
        "chat.edit",
        "chat.find",
        "chat.post",
        "chat.take",
    ];
    assert_eq!(steps, all.into_iter().collect::<BTreeSet<_>>(), "the steps of this scenario");
    assert!(most >= 20, "the scenario has {most} steps");
}

/// What stands in the channel behind the agent's start, the messages of one delivery together:
/// the second turn's first message stands in front of the rest of the first turn.
fn by_delivery(world: &World) -> String {
    let state = world.platform.state.lock().unwrap();
    let mut order: Vec<&str> = Vec::new();
    for message in state.messages.iter().filter(|message| message.text != "…") {
        if !order.contains(&message.nonce.delivery.as_str()) {
            order.push(&message.nonce.delivery);
        }
    }
    let of = |delivery: &str| -> String {
        let mut messages: Vec<_> = state
            .messages
            .iter()
            .filter(|message| message.nonce.delivery == delivery && message.text != "…")
            .collect();
        messages.sort_by_key(|message| message.nonce.index);
        messages.iter().map(|message| message.text.as_str()).collect()
    };
    order.iter().skip(1).map(|delivery| of(delivery)).collect()
}

#[tokio::test]
async fn a_job_that_tells_its_end_alone_tells_what_it_asks_all_the_same() {
    let mut world = world();
    let spec = serde_json::json!({
        "task": "t", "agent": {"claude": {}}, "permissions": {"mode": "ask"},
        "report": {"to": [{"console": {"channel": "main"}}], "detail": "final"},
    });
    let mut job = open_dispatch::resource::Job::new("j", serde_json::from_value(spec).unwrap());
    job.metadata.uid = "0199f0a0-0000-7000-8000-000000000001".into();
    world.apply(vec![Op::Create(job.clone().into())]).await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![says("task", "Let me see.")]).await;
    ask(&world, &sprite, asks("task", "r1")).await;
    world.settle().await;
    assert_eq!(
        world.platform.shown("main").concat(),
        "j created: claude in ~\n? asks to use Bash: ls - answer with /od-approve j yes|no"
    );
    resolve(&world, &sprite, "r1", ApprovalState::Denied, "ann").await;
    world.settle().await;
    assert_eq!(world.platform.shown("main").concat(), "j created: claude in ~\n");
    world.print(&sprite, vec![says("task", "All done."), exit(0)]).await;
    world.end("j", 0).await;
    world.settle().await;
    let shown = world.platform.shown("main").concat();
    assert!(shown.ends_with("All done.\nj succeeded (0.0 s)"), "{shown}");
    assert!(!shown.contains("asks to use"), "{shown}");
}
