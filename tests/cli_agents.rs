//! The command line's words for agents: the real program, a real server, and agents that are
//! shells, so that an answer is what a command prints.
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]
#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

use rustix::process::Signal;
use serde_json::Value;
use server::World;

/// A world with an agent that is a shell, by the name `bot`.
fn world() -> World {
    let world = World::new();
    let start = world.od(&["start", "--agent", "command", "bot", "."]);
    assert_eq!(start.text(), "agent.opendispatch.dev/bot started\n", "{}", start.stderr);
    world
}

fn turns(world: &World) -> Vec<Value> {
    let list: Value =
        serde_json::from_str(&world.od(&["turns", "bot", "-o", "json"]).text()).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Waits until the agent's turns are as wanted.
fn until(world: &World, what: &str, wanted: impl Fn(&[Value]) -> bool) {
    for _ in 0..600 {
        if wanted(&turns(world)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it never came to: {what}; last: {:#?}", turns(world));
}

#[test]
fn a_message_is_answered_and_the_exit_code_says_how() {
    let world = world();
    let sent = world.od(&["send", "-f", "bot", "echo", "hello;", "echo oops >&2"]);
    assert_eq!((sent.text().as_str(), sent.code), ("hello\n", 0), "{}", sent.stderr);
    assert!(sent.stderr.contains("oops\n"), "{}", sent.stderr);
    let again = world.od_with(&["send", "-f", "bot", "-"], b"printf 'no end'");
    assert_eq!((again.text().as_str(), again.code), ("no end\n", 0));
    let failed = world.od(&["send", "-f", "bot", "exit 3"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("turn 3 of bot failed"), "{}", failed.stderr);
}

#[test]
fn a_spent_budget_is_told_and_waited_for_by_nobody() {
    let world = world();
    assert_eq!(world.od(&["set", "bot", "budget.turns=1"]).code, 0);
    assert_eq!(world.od(&["send", "-f", "bot", "echo one"]).text(), "one\n");
    let spent = world.od(&["send", "-f", "bot", "echo two"]);
    assert_eq!(spent.code, 125, "{}", spent.stderr);
    let why = "turn 2 waits: the budget of 1 turn is spent; raise it with open-dispatch set bot \
               budget.turns=2 (in chat: /od-set bot budget.turns=2)";
    assert!(spent.stderr.contains(why), "{}", spent.stderr);
    let list = world.od(&["get", "agents"]).text();
    assert!(list.contains("Idle (budget spent)"), "{list}");
    let open = world.od(&["set", "bot", "budget.turns="]);
    assert_eq!(open.code, 0, "a budget goes with its last limit: {}", open.stderr);
    until(&world, "the answer that waited", |turns| turns[1]["state"] == "Succeeded");
}

#[test]
fn messages_are_answered_in_order_and_read_as_a_conversation_afterwards() {
    let world = world();
    for n in 1..=3 {
        let sent = world.od(&["send", "bot", &format!("echo answer {n}")]);
        assert_eq!(sent.text(), format!("agent.opendispatch.dev/bot turn {n} queued\n"));
    }
    until(&world, "three answers", |turns| {
        turns.len() == 3 && turns.iter().all(|turn| turn["state"] == "Succeeded")
    });
    let logs = world.od(&["logs", "bot"]).text();
    let said: Vec<&str> = logs.lines().filter(|line| line.contains("answer")).collect();
    assert_eq!(
        said,
        [
            "> echo answer 1",
            "answer 1",
            "> echo answer 2",
            "answer 2",
            "> echo answer 3",
            "answer 3"
        ]
    );
    let one = world.od(&["logs", "agent/bot", "--turn", "2"]).text();
    assert!(one.contains("answer 2\n· succeeded") && !one.contains("answer 1"), "{one}");
    assert_eq!(world.od(&["logs", "bot", "--raw"]).text(), "answer 1\nanswer 2\nanswer 3\n");
    let table = world.od(&["turns", "bot"]).text();
    assert!(table.starts_with("TURN") && table.lines().count() == 4, "{table}");
    let page = world.od(&["describe", "agent", "bot"]).text();
    assert!(page.contains("0 queued, 0 running, 3 done"), "{page}");
    assert!(page.contains("echo answer 3"), "{page}");
}

#[test]
fn a_turn_that_runs_is_cancelled_and_one_that_failed_is_said_again() {
    let world = world();
    world.od(&["send", "bot", "touch here; sleep 1000"]);
    world.od(&["send", "bot", "echo never"]);
    until(&world, "a turn that runs", |turns| turns[0]["state"] == "Running");
    let cancel = |word: &str| world.od(&["cancel", "bot", word]).text();
    assert_eq!(cancel("2"), "agent.opendispatch.dev/bot turn 2 cancelled\n");
    assert_eq!(
        world.od(&["cancel", "bot"]).text(),
        "agent.opendispatch.dev/bot turn 1 cancelled\n"
    );
    until(&world, "two cancelled turns", |turns| {
        turns.iter().all(|turn| turn["state"] == "Cancelled")
    });
    let nothing = world.od(&["cancel", "bot"]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.stderr.contains("there is nothing to cancel"), "{}", nothing.stderr);
    let retry = world.od(&["retry", "bot"]);
    assert_eq!(retry.text(), "agent.opendispatch.dev/bot turn 2 queued again as turn 3\n");
    until(&world, "the answer", |turns| turns[2]["state"] == "Succeeded");
    // Typed once more, it is not done once more.
    let twice = world.od(&["retry", "bot"]);
    let told = "turn 2 of agent.opendispatch.dev/bot was said again already, as turn 3";
    assert!(twice.code == 0 && twice.stderr.contains(told), "{}", twice.stderr);
    until(&world, "three turns", |turns| turns.len() == 3);
}

#[test]
fn whoever_leaves_a_turn_is_told_that_it_goes_on_and_how_to_end_it() {
    let world = world();
    let mut command = world.command(&["send", "-f", "bot", "echo ready; sleep 1000"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    until(&world, "a turn that runs", |turns| {
        turns.first().is_some_and(|turn| turn["state"] == "Running")
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let left = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(left.stderr).unwrap();
    assert_eq!(left.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("turn 1 goes on") && stderr.contains("cancel bot 1"), "{stderr}");
    world.od(&["cancel", "bot", "1"]);
}

#[test]
fn a_stopped_agent_says_so_and_goes_on_when_it_is_started() {
    let world = world();
    assert_eq!(world.od(&["send", "-f", "bot", "echo one"]).code, 0);
    assert_eq!(world.od(&["stop", "bot"]).text(), "agent.opendispatch.dev/bot stopped\n");
    let refused = world.od(&["send", "bot", "echo two"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is suspended; open-dispatch start bot"), "{}", refused.stderr);
    let start = world.od(&["start", "bot"]).text();
    assert_eq!(start, "agent.opendispatch.dev/bot started; it goes on where it was\n");
    assert_eq!(world.od(&["send", "-f", "bot", "echo two"]).text(), "two\n");
    let set = world.od(&["set", "bot", "idleTimeout=1h", "turnTimeout=5m"]);
    assert_eq!(set.text(), "agent.opendispatch.dev/bot changed\n", "{}", set.stderr);
    let bad = world.od(&["set", "bot", "idleTimeuot=1h"]);
    assert_eq!(bad.code, 1);
    assert!(bad.stderr.contains("idleTimeout"), "the nearest name is told: {}", bad.stderr);
    assert!(world.od(&["list"]).text().contains("bot"));
}

#[test]
fn down_leaves_no_process_and_says_what_it_ended() {
    let world = world();
    assert_eq!(world.od(&["send", "-f", "bot", "echo one"]).code, 0);
    world.od(&["run", "--agent", "command", "--name", "long", "sleep 1000"]);
    let nightly = "apiVersion: opendispatch.dev/v1alpha1\nkind: Schedule\nmetadata: {name: nightly}\n\
                   spec:\n  schedule: 0 3 * * *\n  jobTemplate: {spec: {agent: {command: {}}, task: 'true'}}\n";
    let applied = world.od_with(&["apply", "-f", "-"], nightly.as_bytes());
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    let down = world.od(&["down"]);
    assert_eq!(down.code, 0, "{}", down.stderr);
    assert_eq!(
        down.text(),
        "schedule.opendispatch.dev/nightly suspended\nagent.opendispatch.dev/bot stopped\njob.opendispatch.dev/long cancelled\n\
         nothing is left running\n"
    );
    let sprites: Value =
        serde_json::from_str(&world.od(&["get", "sprites", "-o", "json"]).text()).unwrap();
    for sprite in sprites["items"].as_array().unwrap() {
        let held = sprite["metadata"]["finalizers"].as_array();
        assert!(held.is_none_or(Vec::is_empty), "{sprite}");
    }
    assert_eq!(world.od(&["down"]).text(), "nothing is left running\n");
}

#[test]
fn a_secret_goes_in_and_never_comes_out() {
    let world = World::new();
    assert_eq!(world.od(&["secret", "list"]).stderr, "No secrets found\n");
    let set = world.od_with(&["secret", "set", "github"], b"hidden-value\n");
    assert_eq!(set.text(), "secret/github set\n", "{}", set.stderr);
    let list = world.od(&["secret", "list"]);
    assert_eq!(list.text(), "NAME     FROM\ngithub   file\n");
    for bad in ["a/b", "..", "-x"] {
        assert_ne!(world.od_with(&["secret", "set", bad], b"hidden-value").code, 0, "{bad}");
    }
    assert_eq!(world.od(&["secret", "rm", "github"]).text(), "secret/github removed\n");
    let gone = world.od(&["secret", "rm", "github"]);
    assert!(gone.stderr.contains("there is no secret \"github\""), "{}", gone.stderr);
}

#[test]
fn names_that_mean_nobody_are_refused_with_the_mend() {
    let world = world();
    let mut lines = Vec::new();
    for words in [
        &["send", "nobody", "x"][..],
        &["send", "job/x", "x"],
        &["send", "bot", " "],
        &["cancel", "bot", "99"],
        &["cancel", "nobody"],
        &["retry", "bot"],
        &["approve", "bot"],
        &["approve", "bot", "--revoke", "x"],
        &["logs", "nobody"],
        &["set", "bot", "model"],
        &["stop"],
    ] {
        let outcome = world.od(words);
        assert_ne!(outcome.code, 0, "{words:?}");
        assert_eq!(outcome.text(), "", "{words:?}");
        let first = outcome.stderr.lines().next().unwrap_or_default().to_owned();
        lines.push(format!("{} -> {} {first}", words.join(" "), outcome.code));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_conversation_reads_as_a_transcript_afterwards() {
    let world = world();
    world.od(&["send", "-f", "bot", "echo one; echo two"]);
    world.od(&["send", "-f", "bot", "printf 'no end'; exit 3"]);
    world.od(&["send", "bot", "sleep 1000"]);
    until(&world, "a turn that runs", |turns| turns.len() == 3 && turns[2]["state"] == "Running");
    world.od(&["cancel", "bot"]);
    until(&world, "its end", |turns| turns[2]["state"] == "Cancelled");
    let logs = world.od(&["logs", "agent/bot"]);
    // A turn's head ends with when it was said.
    let timeless = |line: &str| match line.split_once(", 20") {
        Some((head, _)) if line.starts_with("── ") => format!("{head}, WHEN\n"),
        _ => format!("{line}\n"),
    };
    let whole: String = logs.whole().lines().map(timeless).collect();
    insta::assert_snapshot!(world.tame(&whole));
}

#[test]
fn one_object_is_watched_by_its_name() {
    let world = world();
    world.od(&["start", "--agent", "command", "other", "."]);
    let nobody = world.od(&["get", "agent", "nobody", "-w"]);
    assert_eq!((nobody.code, nobody.text().as_str()), (1, ""), "{}", nobody.stderr);
    let several = world.od(&["get", "agent", "bot", "other", "-w"]);
    assert_eq!(several.code, 2);
    assert!(several.stderr.contains("-w watches one object"), "{}", several.stderr);
    let mut command = world.command(&["get", "agent/bot", "-w"]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("NAME "));
    assert!(next().starts_with("bot "));
    world.od(&["stop", "other"]);
    world.od(&["stop", "bot"]);
    loop {
        let line = next();
        assert!(line.starts_with("bot "), "{line}");
        if line.contains("Suspended") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
