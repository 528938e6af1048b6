//! A run that is talked to: the real binary, and a shell whose turns are command lines.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
mod support;

use std::{fs, path::PathBuf, time::Duration};

use sprite_reporter::wire::{
    Attachment, EventBody, ExitReason, InboxRow, Order, Stream, TurnOutcome,
};
use support::{Known, Server, Stage, World, pause};

fn session() -> Stage {
    let mut stage = Stage::new("");
    stage.spec.task = None;
    stage
}

fn timed(turn: &str, text: &str, timeout_ms: u64) -> Order {
    Order::Turn {
        turn: turn.into(),
        text: text.into(),
        attachments: Vec::new(),
        timeout_ms: Some(timeout_ms),
        budget_micro_usd: None,
    }
}

fn cancel(turn: &str) -> Order {
    Order::Cancel { turn: Some(turn.into()), reason: ExitReason::Cancelled }
}

fn ends(known: &Known, of: &str) -> Vec<(TurnOutcome, Option<String>)> {
    let end = |body: &EventBody| match body {
        EventBody::TurnEnded { turn, outcome, message, .. } if turn == of => {
            Some((*outcome, message.clone()))
        }
        _ => None,
    };
    known.events.iter().filter_map(|event| end(&event.body)).collect()
}

/// Waits for a turn's end.
async fn ended(world: &World, turn: &str) -> (TurnOutcome, String) {
    let what = format!("the end of turn {turn}");
    let (outcome, message) = world.until(&what, |known| ends(known, turn).first().cloned()).await;
    (outcome, message.unwrap_or_default())
}

async fn until_there(path: PathBuf) {
    let there = async {
        while !path.exists() {
            pause(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::HANGS, there).await.unwrap();
}

fn file(stage: &Stage, name: &str) -> PathBuf {
    stage.data.path().join("work").join(name)
}

fn go(stage: &Stage) {
    fs::write(file(stage, "go"), "").unwrap();
}

const WAITS: &str = "touch begun; while ! [ -e go ]; do sleep 0.02; done; echo end";

#[tokio::test]
async fn a_run_that_is_told_to_sleep_ends_its_agent_and_says_so() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(Order::turn("one", "echo first"));
    assert_eq!(ended(&stage.world, "one").await.0, TurnOutcome::Succeeded);
    stage.world.order(Order::Sleep {});
    // The server never sends this one; it is for the next run.
    stage.world.order(Order::turn("two", "echo second"));
    let exit = stage.world.exit().await;
    assert_eq!((exit.reason, exit.message.as_str()), (ExitReason::Asleep, ""));
    stage.reporter_gone().await;
    assert_eq!(stage.run.exit().unwrap(), Some(exit));
    assert!(stage.run.drained());
    assert_eq!(stage.world.text(Stream::Stdout), "first\n");
    assert_eq!(ends(&stage.world.known(), "two"), []);
    stage.world.assert_whole();
}

#[tokio::test]
async fn sleep_waits_for_the_turn_that_is_open() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(Order::turn("one", WAITS));
    until_there(file(&stage, "begun")).await;
    stage.world.order(Order::Sleep {});
    stage.world.until("the order", |known| (known.inbox_ack == 2).then_some(())).await;
    assert_eq!(ends(&stage.world.known(), "one"), []);
    go(&stage);
    assert_eq!(ended(&stage.world, "one").await.0, TurnOutcome::Succeeded);
    assert_eq!(stage.world.exit().await.reason, ExitReason::Asleep);
    assert_eq!(stage.world.text(Stream::Stdout), "end\n");
}

#[tokio::test]
async fn a_shell_that_dies_of_its_sleep_is_asleep_all_the_same() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(Order::turn("one", "touch begun; setsid sleep 600 & sleep 600"));
    until_there(file(&stage, "begun")).await;
    // As the runtime does for a sprite that does not obey: why, then the signal.
    stage.run.write_stop(ExitReason::Asleep).unwrap();
    stage.signal_reporter(rustix::process::Signal::TERM);
    assert_eq!(stage.world.exit().await.reason, ExitReason::Asleep);
    let (outcome, message) = ended(&stage.world, "one").await;
    assert_eq!(
        (outcome, message.contains("signal")),
        (TurnOutcome::Interrupted, true),
        "{message}"
    );
    assert_eq!(stage.tree(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_turn_whose_time_is_over_fails_and_the_next_one_runs() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(timed("one", "sleep 600 & echo begun; wait", 300));
    let (outcome, message) = ended(&stage.world, "one").await;
    assert_eq!((outcome, message.as_str()), (TurnOutcome::Failed, "its time of 300ms was over"));
    stage.world.order(timed("two", "echo second", 60_000));
    assert_eq!(ended(&stage.world, "two").await, (TurnOutcome::Succeeded, String::new()));
    stage.world.order(Order::Sleep {});
    assert_eq!(stage.world.exit().await.reason, ExitReason::Asleep);
    assert_eq!(stage.tree(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_turn_that_forks_and_hears_no_signal_is_killed_with_all_it_started() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let deaf = "trap '' INT TERM; setsid sh -c 'trap \"\" INT TERM; sleep 600 & wait' & \
                touch begun; while :; do sleep 1; done";
    stage.world.order(Order::turn("one", deaf));
    until_there(file(&stage, "begun")).await;
    stage.world.order(cancel("one"));
    // The ladder: half a minute for a polite word, then the signals.
    assert_eq!(ended(&stage.world, "one").await.0, TurnOutcome::Cancelled);
    stage.world.order(Order::turn("two", "echo second"));
    assert_eq!(ended(&stage.world, "two").await.0, TurnOutcome::Succeeded);
    assert_eq!(stage.tree(), Vec::<u32>::new());
    assert_eq!(stage.world.text(Stream::Stdout), "second\n");
}

#[tokio::test]
async fn a_cancel_hits_its_own_turn_and_that_once() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(Order::turn("one", WAITS));
    stage.world.order(Order::turn("two", "echo never"));
    until_there(file(&stage, "begun")).await;
    for turn in ["two", "two", "nobody's"] {
        stage.world.order(cancel(turn));
    }
    assert_eq!(ended(&stage.world, "two").await.0, TurnOutcome::Cancelled);
    stage.world.until("the orders", |known| (known.inbox_ack == 5).then_some(())).await;
    go(&stage);
    assert_eq!(ended(&stage.world, "one").await.0, TurnOutcome::Succeeded);
    stage.world.order(cancel("one"));
    stage.world.order(Order::turn("three", "echo third"));
    assert_eq!(ended(&stage.world, "three").await.0, TurnOutcome::Succeeded);
    stage.world.order(Order::Sleep {});
    stage.world.exit().await;
    let known = stage.world.known();
    for turn in ["one", "two", "three"] {
        assert_eq!(ends(&known, turn).len(), 1, "{turn}");
    }
    assert_eq!(ends(&known, "nobody's"), []);
    drop(known);
    assert_eq!(stage.world.text(Stream::Stdout), "end\nthird\n");
}

#[tokio::test]
async fn whatever_a_turn_does_to_itself_the_next_one_runs() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let failed = |why: &str| (TurnOutcome::Failed, why.to_owned());
    let fine = (TurnOutcome::Succeeded, String::new());
    let turns = [
        ("dies", "echo dies; kill -9 $$", failed("ended by signal 9")),
        ("falls silent", "exec 1>&- 2>&-; sleep 0.2", fine.clone()),
        ("leaves somebody", "setsid sleep 600 & echo left", fine.clone()),
        (
            "forks",
            "i=0; while [ $i -lt 200 ]; do sleep 0.01 & i=$((i+1)); done; wait",
            fine.clone(),
        ),
        ("one line", "head -c 20000000 /dev/zero | tr '\\0' x", fine.clone()),
        ("floods", "yes flood | head -c 30000000", fine.clone()),
        ("ends", "echo; echo end", fine),
    ];
    for (turn, text, _) in &turns {
        stage.world.order(Order::turn(*turn, *text));
    }
    for (turn, _, end) in &turns {
        assert_eq!(ended(&stage.world, turn).await, *end, "{turn}");
    }
    stage.world.order(Order::Stop { reason: ExitReason::Cancelled });
    assert_eq!(stage.world.exit().await.reason, ExitReason::Cancelled);
    assert_eq!(stage.tree(), Vec::<u32>::new());
    let printed = stage.world.printed(Stream::Stdout);
    let of = |byte: u8| printed.iter().filter(|it| **it == byte).count();
    assert_eq!(of(b'x'), 20_000_000);
    assert_eq!(of(b'f'), 5_000_000 + 1, "in each flood, and in left");
    assert!(printed.starts_with(b"dies\nleft\nxx") && printed.ends_with(b"\nend\n"));
    stage.world.assert_whole();
}

#[tokio::test]
async fn a_turn_that_comes_to_a_full_disk_runs_once_and_is_not_lost() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let loud = "touch begun; while ! [ -e go ]; do sleep 0.02; done; \
                yes 0123456789abcdef | head -n 200000; echo two >> ran";
    stage.world.order(Order::turn("one", "echo one >> ran"));
    stage.world.order(Order::turn("two", loud));
    until_there(file(&stage, "begun")).await;
    let (spool, away) = (stage.run.spool(), stage.run.path().join("away"));
    fs::rename(&spool, &away).unwrap();
    go(&stage);
    let full = async {
        while !stage.complaints().contains("cannot write to the spool") {
            pause(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::HANGS, full).await.unwrap();
    stage.world.order(Order::turn("three", "echo three >> ran"));
    stage.world.order(Order::turn("four", "echo four >> ran"));
    stage.world.order(cancel("four"));
    pause(Duration::from_secs(2)).await;
    assert_eq!(ends(&stage.world.known(), "two"), []);
    assert!(stage.world.known().inbox_ack < 3, "it is not told to have taken what it cannot keep");
    fs::rename(&away, &spool).unwrap();
    assert_eq!(ended(&stage.world, "two").await.0, TurnOutcome::Succeeded);
    assert_eq!(ended(&stage.world, "three").await.0, TurnOutcome::Succeeded);
    assert_eq!(ended(&stage.world, "four").await.0, TurnOutcome::Cancelled);
    assert_eq!(fs::read_to_string(file(&stage, "ran")).unwrap(), "one\ntwo\nthree\n");
    stage.world.order(Order::Sleep {});
    assert_eq!(stage.world.exit().await.reason, ExitReason::Asleep);
    stage.world.assert_whole();
}

/// A session whose turns may have files.
async fn with_files() -> (Stage, Server) {
    let mut stage = session();
    stage.spec.attachments = Some(stage.data.path().join("files").to_str().unwrap().into());
    let server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    (stage, server)
}

fn turn_with_file(turn: &str, text: &str, id: &str, size: u64, time: Option<u64>) -> Order {
    Order::Turn {
        turn: turn.into(),
        text: text.into(),
        attachments: vec![Attachment { id: id.into(), name: "notes.txt".into(), size }],
        timeout_ms: time,
        budget_micro_usd: None,
    }
}

#[tokio::test]
async fn a_turn_whose_files_do_not_come_fails_and_is_not_prompted() {
    let (stage, _server) = with_files().await;
    let refused = |status: u16| (status, br#"{"error":"it is not for you"}"#.to_vec());
    let bad = [
        ("a", None, 3, "404 Not Found: no turn names this file"),
        ("b", Some(refused(403)), 3, "403 Forbidden: it is not for you"),
        ("c", Some(refused(410)), 3, "410 Gone: it is not for you"),
        ("d", Some(refused(413)), 3, "413 Payload Too Large: it is not for you"),
        ("e", None, 33 * 1024 * 1024, "it is too large"),
        ("f", Some((200, b"another".to_vec())), 3, "what came is another file"),
    ];
    for (id, answer, size, cause) in bad {
        let id = id.repeat(64);
        stage.world.known().files.extend(answer.map(|answer| (id.clone(), answer)));
        stage.world.order(turn_with_file(&id, "echo never", &id, size, None));
        let (outcome, message) = ended(&stage.world, &id).await;
        assert_eq!(outcome, TurnOutcome::Failed, "{message}");
        assert!(message.starts_with("notes.txt could not be fetched: "), "{message}");
        assert!(message.contains(cause), "{message}");
    }
    stage.world.order(Order::turn("two", "echo second"));
    assert_eq!(ended(&stage.world, "two").await.0, TurnOutcome::Succeeded);
    assert_eq!(stage.world.text(Stream::Stdout), "second\n");
}

#[tokio::test]
async fn a_file_is_asked_for_until_the_server_has_it_or_the_turn_is_over() {
    /// Of `words`, as every other program would say it.
    const ID: &str = "dba36bffa5cab0f922d087a3aeb179f9d4e745df40b323e1b1471402848c8a3e";
    let (stage, _server) = with_files().await;
    let asked = async |times: usize| {
        let so = |known: &Known| (known.asked_for_files >= times).then_some(());
        stage.world.until("another try", so).await;
    };
    stage.world.known().files.insert(ID.into(), (503, Vec::new()));
    stage.world.order(turn_with_file("cancelled", "echo never", ID, 5, None));
    asked(2).await;
    stage.world.order(cancel("cancelled"));
    assert_eq!(ended(&stage.world, "cancelled").await.0, TurnOutcome::Cancelled);

    stage.world.known().files.insert(ID.into(), (0, Vec::new()));
    stage.world.order(turn_with_file("late", "echo never", ID, 5, Some(700)));
    let (outcome, message) = ended(&stage.world, "late").await;
    assert_eq!((outcome, message.contains("was over")), (TurnOutcome::Failed, true), "{message}");

    let so_far = stage.world.known().asked_for_files;
    stage.world.order(turn_with_file("patient", "echo \"$1\"", ID, 5, None));
    asked(so_far + 2).await;
    stage.world.known().files.insert(ID.into(), (200, b"words".to_vec()));
    assert_eq!(ended(&stage.world, "patient").await.0, TurnOutcome::Succeeded);
    let place = stage.data.path().join("files/patient/notes.txt");
    assert_eq!(fs::read_to_string(&place).unwrap(), "words");
    let said = stage.world.text(Stream::Stdout);
    assert!(said.contains(place.to_str().unwrap()), "it is told where it lies: {said}");
    assert!(!said.contains("never"), "{said}");
}

#[tokio::test]
async fn silence_counts_within_a_turn_and_not_between_two() {
    let mut stage = session();
    stage.spec.idle_timeout_ms = Some(500);
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(Order::turn("one", "echo first"));
    ended(&stage.world, "one").await;
    pause(Duration::from_millis(1500)).await;
    stage.world.order(Order::turn("two", "for n in 1 2 3 4 5; do echo $n; sleep 0.2; done"));
    assert_eq!(ended(&stage.world, "two").await.0, TurnOutcome::Succeeded);
    stage.world.order(Order::turn("three", "sleep 600"));
    assert_eq!(stage.world.exit().await.reason, ExitReason::IdleTimedOut);
    assert_eq!(ended(&stage.world, "three").await.0, TurnOutcome::Failed);
}

#[tokio::test]
async fn a_run_whose_agent_cannot_start_ends_its_turn_with_the_cause() {
    let mut stage = session();
    let shell = Some("no-such-shell".to_owned());
    stage.spec.agent = sprite_reporter::wire::AgentSpec::Command { shell };
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(Order::turn("one", "echo never"));
    let (outcome, message) = ended(&stage.world, "one").await;
    assert_eq!(outcome, TurnOutcome::Failed);
    assert!(message.contains("no-such-shell was not found"), "{message}");
    assert_eq!(stage.world.exit().await.reason, ExitReason::StartFailed);
}

#[tokio::test]
async fn a_run_obeys_no_rows_of_another_run() {
    let mut stage = session();
    stage.spec.run = 2;
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let row = |n, run, order| InboxRow { n, run, order };
    stage.world.known().inbox = vec![
        row(1, 1, Order::Stop { reason: ExitReason::Cancelled }),
        row(2, 2, Order::turn("mine", "echo mine")),
        row(3, 3, Order::Sleep {}),
    ];
    // Rung by what it says itself, at the latest.
    assert_eq!(ended(&stage.world, "mine").await.0, TurnOutcome::Succeeded);
    stage.world.until("the row", |known| (known.inbox_ack >= 2).then_some(())).await;
    assert_eq!(stage.world.known().inbox_ack, 2, "the next run's is not taken from it");
    stage.world.known().inbox.push(row(4, 2, Order::Sleep {}));
    stage.world.order(Order::Heartbeat {});
    assert_eq!(stage.world.exit().await.reason, ExitReason::Asleep);
}

#[tokio::test]
async fn a_server_of_the_wire_before_this_one_is_understood() {
    let stage = session();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    // As it stood in the inbox of the release before, byte for byte.
    for line in [
        r#"{"n":1,"type":"turn","turn":"one","text":"echo first"}"#,
        r#"{"n":2,"type":"answer","request":"nobody's","allow":true,"message":""}"#,
        r#"{"n":3,"type":"cancel","turn":"nobody's","reason":"Cancelled"}"#,
    ] {
        stage.world.known().lines.push(line.into());
    }
    stage.world.order(Order::Heartbeat {});
    assert_eq!(ended(&stage.world, "one").await.0, TurnOutcome::Succeeded);
    stage.world.until("the rows", |known| (known.inbox_ack == 3).then_some(())).await;
    stage.world.known().lines.push(r#"{"n":4,"type":"stop","reason":"Cancelled"}"#.into());
    stage.world.order(Order::Heartbeat {});
    assert_eq!(stage.world.exit().await.reason, ExitReason::Cancelled);
    assert_eq!(stage.world.text(Stream::Stdout), "first\n");
}
