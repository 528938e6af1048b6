//! The command line as its users have it: the real program, a real server, real agents that are
//! shells.

#[path = "support/server.rs"]
mod server;

use open_dispatch::ambient::{Clock as _, SystemClock};
use rustix::process::Signal;
use server::{World, mode};

/// A task that says that it runs, then waits for a file before it goes on.
fn waiting_for(file: &str, then: &str) -> String {
    format!("echo ready; while [ ! -e {file} ]; do sleep 0.02; done; {then}")
}

#[test]
fn a_first_run_needs_nothing_but_the_program() {
    let world = World::new();
    assert_eq!(mode(&world.data()), 0o700);
    assert_eq!(mode(&world.data().join("token")), 0o600);
    let jobs = world.od(&["jobs"]);
    assert_eq!(jobs.whole(), "--- stderr\nNo resources found\n--- exit code 0\n");
    let run = world.od(&["run", "-f", "echo hello && exit 3"]);
    assert_eq!((run.text().as_str(), run.code), ("hello\n", 3), "{}", run.stderr);
}

#[test]
fn run_with_follow_exits_as_the_job_did() {
    let world = World::new();
    let code = |args: &[&str]| {
        let outcome = world.od(&[&["run", "-f"], args].concat());
        (outcome.code, outcome.stderr)
    };
    assert_eq!(code(&["true"]).0, 0);
    assert_eq!(code(&["exit 77"]).0, 77);
    assert_eq!(code(&["kill -9 $$"]).0, 137);
    assert_eq!(code(&["--timeout", "1s", "sleep 1000"]).0, 124);
    let (code, stderr) = code(&["--workdir", "/no/such/place", "true"]);
    assert_eq!(code, 125);
    assert!(stderr.contains("/no/such/place"), "{stderr}");
}

#[test]
fn a_repo_that_cannot_be_cloned_fails_the_job_and_names_it() {
    let world = World::new();
    let run = world.od(&["run", "-f", "--repo", "/no/such/repo", "echo never"]);
    assert_eq!((run.text().as_str(), run.code), ("", 125), "{}", run.stderr);
    assert!(run.stderr.contains("/no/such/repo"), "{}", run.stderr);
    assert_eq!(world.od(&["run", "-f", "exit 6"]).code, 6, "the server goes on");
}

#[test]
fn run_with_follow_keeps_streams_apart_and_bytes_whole() {
    let world = World::new();
    let task = r"printf '\377\000\n\303'; printf '\251 no newline at the end'; echo e >&2";
    let run = world.od(&["run", "-f", "--name", "bytes", task]);
    assert_eq!(run.stdout, b"\xff\x00\n\xc3\xa9 no newline at the end");
    assert_eq!(run.stderr, "job.opendispatch.dev/bytes created\ne\n");
}

#[test]
fn logs_are_what_the_agent_printed_and_nothing_else() {
    let world = World::new();
    world.od(&["run", "-f", "--name", "talker", r"printf 'a\377\000b'; echo d"]);
    for words in [&["logs", "job/talker"], &["logs", "talker"]] {
        let logs = world.od(words);
        assert_eq!(logs.stdout, b"a\xff\x00bd\n");
        assert_eq!((logs.stderr.as_str(), logs.code), ("", 0));
    }
    assert_eq!(world.od(&["logs", "-f", "talker"]).stdout, b"a\xff\x00bd\n");
    // The kernel keeps no order between two pipes, so this is a Job of its own.
    world.od(&["run", "-f", "--name", "grumbler", "printf c >&2"]);
    assert_eq!(world.od(&["logs", "grumbler"]).stdout, b"c");
}

#[test]
fn run_works_where_it_was_called() {
    let world = World::new();
    world.write("here", "found");
    world.write("sub/there", "found too");
    assert_eq!(world.od(&["run", "-f", "cat here"]).text(), "found");
    assert_eq!(world.od(&["run", "-f", "--workdir", "sub", "cat there"]).text(), "found too");
}

#[test]
fn run_without_follow_prints_the_name_and_returns() {
    let world = World::new();
    let run = world.od(&["run", "--name", "named", "sleep 1000"]);
    assert_eq!(run.whole(), "job.opendispatch.dev/named created\n--- stderr\n--- exit code 0\n");
    let again = world.od(&["run", "--name", "named", "true"]);
    insta::assert_snapshot!(again.whole());
    let name = world.od(&["run", "-o", "name", "true"]).text();
    assert!(name.starts_with("job.opendispatch.dev/run-"), "{name}");
}

#[test]
fn cancelling_ends_the_job_and_its_followers() {
    let world = World::new();
    let following = world.follow(&["--name", "long", &waiting_for("never", "true")]);
    let cancel = world.od(&["cancel", "long"]);
    assert_eq!(cancel.text(), "job.opendispatch.dev/long cancelled\n");
    assert_eq!(following.finish().code, 130);
}

#[test]
fn a_job_that_has_ended_is_not_cancelled_but_told_how_it_ended() {
    let world = World::new();
    world.od(&["run", "-f", "--name", "good", "true"]);
    world.od(&["run", "-f", "--name", "bad", "exit 3"]);
    let before = world.od(&["get", "jobs", "-o", "json"]).text();
    insta::assert_snapshot!(world.od(&["cancel", "good", "bad"]).whole(), @r"
    --- stderr
    there is nothing to cancel: job good has succeeded
    there is nothing to cancel: job bad has failed: exit code 3
    --- exit code 1
    ");
    assert_eq!(world.od(&["get", "jobs", "-o", "json"]).text(), before, "something was written");
}

#[test]
fn jobs_are_named_in_the_order_of_their_table() {
    let world = World::new();
    for name in ["zebra", "apple", "melon"] {
        world.od(&["run", "-f", "--name", name, "true"]);
        // Times are told in whole seconds.
        let started = SystemClock.now().as_second();
        while SystemClock.now().as_second() == started {
            std::thread::yield_now();
        }
    }
    let table = world.od(&["jobs"]).text();
    let names: Vec<&str> =
        table.lines().skip(1).filter_map(|row| row.split_whitespace().next()).collect();
    assert_eq!(names, ["zebra", "apple", "melon"]);
    let named = world.od(&["jobs", "-o", "name"]).text();
    let named: Vec<&str> = named.lines().filter_map(|line| line.split('/').nth(1)).collect();
    assert_eq!(named, names);
}

#[test]
fn a_repo_is_found_in_the_callers_home_and_in_a_path_with_spaces() {
    let world = World::new();
    let home = world.work().join("../home/my repos/a");
    std::fs::create_dir_all(&home).unwrap();
    let made = std::process::Command::new("git")
        .args(["init", "-q", "-b", "main", "."])
        .current_dir(&home)
        .status();
    assert!(made.unwrap().success());
    let git = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty"];
    let made = std::process::Command::new("git")
        .args(git)
        .args(["-m", "first"])
        .current_dir(&home)
        .status();
    assert!(made.unwrap().success());
    let run = world.od(&["run", "-f", "--repo", "~/my repos/a", "git log --format=%s"]);
    assert_eq!((run.text().as_str(), run.code), ("first\n", 0), "{}", run.stderr);
    let said = world.od_with(&["chat"], b"/od-run --repo '~/my repos/a' git log --format=%s\n");
    assert!(said.text().lines().any(|line| line == "first"), "{}", said.whole());
    let said = world.od_with(&["chat"], b"/od-run --repo ./a true\n");
    assert!(said.text().contains("--repo is a relative path"), "{}", said.whole());
}

#[test]
fn ctrl_c_leaves_the_job_running_and_says_how_to_cancel_it() {
    let world = World::new();
    let following = world.follow(&["--name", "long", &waiting_for("go", "echo done")]);
    following.signal(Signal::INT);
    let left = following.finish();
    assert_eq!(left.code, 130);
    assert!(left.stderr.contains("job long goes on"), "{}", left.stderr);
    assert!(left.stderr.contains("open-dispatch cancel long"), "{}", left.stderr);
    world.write("go", "");
    assert_eq!(world.od(&["logs", "-f", "long"]).text(), "ready\ndone\n");
}

#[test]
fn a_killed_server_costs_a_follower_nothing() {
    let mut world = World::new();
    let following = world.follow(&[&waiting_for("go", "echo two; exit 4")]);
    world.kill_server();
    world.write("go", "");
    world.serve(&[]);
    let rest = following.finish();
    assert_eq!((String::from_utf8(rest.stdout).unwrap().as_str(), rest.code), ("two\n", 4));
    assert!(rest.stderr.contains("waiting for the server to come back"), "{}", rest.stderr);
}

#[test]
fn a_server_that_stops_leaves_agents_running_and_says_so() {
    let mut world = World::new();
    let following = world.follow(&[&waiting_for("go", "exit 5")]);
    world.kill_server();
    let mut command = world.command(&["serve", "--listen", "0"]);
    command.stderr(std::process::Stdio::piped());
    let server = command.spawn().unwrap();
    world.od(&["logs", "nobody"]);
    let pid = rustix::process::Pid::from_child(&server);
    // It answers, so it is up; a refusal of the connection would have been another error.
    while world.od(&["jobs"]).code != 0 {}
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let said = String::from_utf8(server.wait_with_output().unwrap().stderr).unwrap();
    assert!(
        said.contains("; job run-") && said.contains(" runs on, and the next server"),
        "{said}"
    );
    let none = world.od(&["jobs"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("start one with: open-dispatch serve"), "{}", none.stderr);
    world.write("go", "");
    world.serve(&[]);
    assert_eq!(following.finish().code, 5);
}

#[test]
fn a_server_stops_though_streams_are_open_and_clients_neither_read_nor_go_on() {
    const PREFIX: &str = "/apis/opendispatch.dev/v1alpha1";
    let mut world = World::new();
    let talker = world.follow(&["--name", "talker", &waiting_for("never", "true")]);
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer TOKEN\r\n\r\n")
    };
    let flood = "yes 0123456789012345678901234567890123456789 | head -c 8000000";
    world.od(&["run", "-f", "--name", "flood", flood]);
    let clients = [
        get(&format!("{PREFIX}/jobs?watch=1")),
        get(&format!("{PREFIX}/jobs/talker/log?follow=1")),
        get(&format!("{PREFIX}/jobs/flood/log")),
        get("/console/stream?client=deaf"),
        get("/health").trim_end().to_owned(),
        format!("POST {PREFIX}/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer TOKEN\r\ncontent-length: 100\r\n\r\n{{"),
        String::new(),
    ]
    .map(|request| world.ask_and_never_read(&request));
    assert_eq!(world.stop_server(Signal::TERM), Some(0));
    assert!(!world.data().join("endpoint").exists());
    drop(clients);
    talker.signal(Signal::INT);
    talker.finish();
    world.serve(&[]);
}

#[test]
fn a_second_server_is_told_who_holds_the_data_directory() {
    let world = World::new();
    let second = world.od(&["serve", "--listen", "0"]);
    assert_eq!(second.code, 1);
    let pid = world.server_pid().to_string();
    insta::assert_snapshot!(world.tame(&second.stderr.replace(&pid, "PID")));
}

#[test]
fn a_port_in_use_is_told_with_the_mend() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let world = World::empty();
    let server = world.od(&["serve", "--listen", &address]);
    assert_eq!(server.code, 1);
    assert!(server.stderr.contains(&format!("{address} is in use")), "{}", server.stderr);
    assert!(server.stderr.contains("--listen"), "{}", server.stderr);
}

#[test]
fn without_a_server_every_command_names_the_one_that_starts_it() {
    let world = World::empty();
    for words in [&["jobs"] as &[&str], &["run", "true"], &["logs", "x"], &["apply", "-f", "-"]] {
        let outcome = world.od_with(words, JOB.as_bytes());
        assert_eq!(outcome.code, 1, "{words:?}");
        insta::assert_snapshot!("no_server", world.tame(&outcome.stderr));
    }
}

#[test]
fn a_server_that_is_gone_is_not_mistaken_for_one_that_runs() {
    let mut world = World::new();
    world.kill_server();
    let jobs = world.od(&["jobs"]);
    assert_eq!(jobs.code, 1);
    assert!(jobs.stderr.contains("no server answers at http://127.0.0.1:"), "{}", jobs.stderr);
    assert!(jobs.stderr.contains("start one with: open-dispatch serve"), "{}", jobs.stderr);
}

#[test]
fn a_wrong_token_is_refused() {
    let world = World::new();
    let url = std::fs::read_to_string(world.data().join("endpoint")).unwrap();
    let mut command = world.command(&["jobs", "--server", url.trim()]);
    command.env("OPEN_DISPATCH_TOKEN", "wrong");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap());
    let token = std::fs::read_to_string(world.data().join("token")).unwrap();
    let mut command = world.command(&["jobs", "--server", url.trim()]);
    command.env("OPEN_DISPATCH_TOKEN", token.trim());
    assert!(command.output().unwrap().status.success());
}

#[test]
fn wrong_words_exit_with_two() {
    let world = World::empty();
    for words in [
        &["fly"] as &[&str],
        &["run"],
        &["run", "x", "--agent", "nobody"],
        &["run", "x", "--model", "m"],
        &["run", "x", "--timeout", "soon"],
        &["get"],
        &["delete"],
        &["delete", "jobs"],
        &["serve", "--chat", "slack"],
        &["serve", "--listen", "everywhere"],
        &["jobs", "--server", "nowhere"],
    ] {
        let outcome = world.od(words);
        assert_eq!(outcome.code, 2, "{words:?}: {}", outcome.stderr);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn without_words_help_tells_the_first_step() {
    let help = World::empty().od(&[]);
    assert_eq!(help.code, 0);
    assert!(help.text().contains("First step: open-dispatch serve"), "{}", help.text());
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let world = World::new();
    let mut command = world.command(&["completion", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert!(output.stderr.is_empty());
}

#[test]
fn each_shell_gets_a_completion() {
    let world = World::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.od(&["completion", shell]);
        assert_eq!(script.code, 0);
        assert!(script.text().contains("describe"), "{shell}");
    }
}

const JOB: &str = "apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata:
  name: declared
  labels: {team: a}
spec:
  task: echo declared
  agent: {command: {}}
  timeout: 1m
";

#[test]
fn apply_says_what_it_did() {
    let world = World::new();
    let apply = |text: &str, more: &[&str]| {
        world.od_with(&[&["apply", "-f", "-"], more].concat(), text.as_bytes()).whole()
    };
    let relabelled = JOB.replace("team: a", "team: b");
    let steps = [
        apply(JOB, &["--dry-run=server"]),
        apply(JOB, &[]),
        apply(JOB, &[]),
        apply(&relabelled, &["--dry-run=server"]),
        apply(&relabelled, &[]),
        apply(&JOB.replace("echo declared", "echo changed"), &[]),
    ];
    insta::assert_snapshot!(steps.concat());
    let labels = world.od(&["get", "jobs", "-l", "team=b", "-o", "name"]);
    assert_eq!(labels.text(), "job.opendispatch.dev/declared\n");
}

#[test]
fn what_a_file_no_longer_says_is_taken_away_and_what_others_set_stays() {
    let world = World::new();
    let agent = "apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  agent: {claude: {}}
  suspend: true
  instructions: Be brief.
";
    assert_eq!(world.od_with(&["apply", "-f", "-"], agent.as_bytes()).code, 0);
    let shorter = agent.replace("  instructions: Be brief.\n", "");
    let configured = world.od_with(&["apply", "-f", "-"], shorter.as_bytes());
    assert_eq!(configured.text(), "agent.opendispatch.dev/helper configured\n");
    let json: serde_json::Value =
        serde_json::from_slice(&world.od(&["get", "agent/helper", "-o", "json"]).stdout).unwrap();
    assert_eq!(json["spec"]["instructions"], serde_json::Value::Null);
    assert_eq!(json["spec"]["suspend"], true);
    assert_eq!(world.od(&["delete", "agent/helper"]).code, 0);
}

#[test]
fn bad_documents_are_told_with_their_places_and_nothing_is_applied() {
    let world = World::new();
    world.write("specs/a-good.yaml", JOB);
    world.write(
        "specs/b-bad.yaml",
        "apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata:
  name: Not_A_Label
spec:
  taks: echo typo
  agent: {claude: {}, command: {}}
  timeout: soon
---
apiVersion: opendispatch.dev/v1alpha1
kind: Fleet
metadata: {name: later}
",
    );
    world.write("specs/c-broken.yaml", "kind: [Job\n");
    world.write("specs/readme.txt", "not looked at");
    let apply = world.od(&["apply", "-f", "specs"]);
    insta::assert_snapshot!(apply.whole());
    assert_eq!(world.od(&["jobs"]).stderr, "No resources found\n");
}

#[test]
fn what_only_the_server_can_refuse_is_refused_before_anything_is_applied() {
    let world = World::new();
    world.od_with(&["apply", "-f", "-"], JOB.as_bytes());
    let other = JOB.replace("name: declared", "name: other");
    let changed = JOB.replace("echo declared", "echo changed");
    let apply = world.od_with(&["apply", "-f", "-"], format!("{other}---\n{changed}").as_bytes());
    insta::assert_snapshot!(apply.whole());
    assert_eq!(world.od(&["get", "job/other"]).code, 1);
}

#[test]
fn objects_are_shown_as_kubectl_would() {
    let world = World::new();
    world.od(&["run", "-f", "--name", "shown", "echo hello; exit 3"]);
    let shows = [
        &["get", "jobs"] as &[&str],
        &["jobs", "-o", "wide"],
        &["get", "job", "shown", "-o", "name"],
        &["get", "job/shown", "sprites"],
        &["get", "jobs", "missing"],
        &["get", "jobs", "missing", "shown", "-o", "name"],
        &["get", "jobs", "missing", "--ignore-not-found"],
        &["get", "agents"],
        &["get", "pods"],
        &["describe", "job/missing"],
        &["logs", "missing"],
    ];
    let text: Vec<String> = shows
        .iter()
        .map(|words| {
            let outcome = world.od(words).whole();
            format!("$ open-dispatch {}\n{}", words.join(" "), world.tame(&outcome))
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_described_job_tells_its_whole_story() {
    let world = World::new();
    world.od(&["run", "-f", "--name", "told", "echo hello; exit 3"]);
    insta::assert_snapshot!(world.tame(&world.od(&["describe", "job/told"]).whole()));
}

#[test]
fn yaml_that_is_printed_can_be_applied_again() {
    let world = World::new();
    world.od(&["run", "-f", "--name", "original", "printf 'a\\n  b: c'"]);
    let yaml = world.od(&["get", "job/original", "-o", "yaml"]).text();
    let again = world.od_with(&["apply", "-f", "-"], yaml.as_bytes());
    assert_eq!(again.code, 0, "{}", again.stderr);
    let copy = yaml.replace("name: original", "name: copy");
    let copied = world.od_with(&["apply", "-f", "-"], copy.as_bytes());
    assert_eq!(copied.text(), "job.opendispatch.dev/copy created\n", "{}", copied.stderr);
    assert_eq!(world.od(&["logs", "-f", "copy"]).text(), "a\n  b: c");
}

#[test]
fn deleting_waits_until_nothing_is_left() {
    let world = World::new();
    let following = world.follow(&["--name", "doomed", &waiting_for("never", "true")]);
    let delete = world.od(&["delete", "job/doomed"]);
    assert_eq!(
        delete.whole(),
        "job.opendispatch.dev \"doomed\" deleted\n--- stderr\n--- exit code 0\n"
    );
    assert_eq!(world.od(&["get", "jobs,sprites"]).stderr, "No resources found\n");
    assert_eq!(following.finish().code, 125);
    let gone = world.od(&["delete", "job/doomed"]);
    assert_eq!(gone.code, 1);
    assert_eq!(
        gone.stderr,
        "Error from server (NotFound): jobs.opendispatch.dev \"doomed\" not found\n"
    );
    assert_eq!(world.od(&["delete", "job/doomed", "--ignore-not-found"]).code, 0);
}

#[test]
fn a_watch_shows_what_changes() {
    use std::io::{BufRead as _, BufReader};
    let world = World::new();
    let mut command = world.command(&["get", "jobs", "-w", "-o", "name"]);
    let mut watch = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    world.od(&["run", "-f", "--name", "watched", "true"]);
    assert_eq!(lines.next().unwrap().unwrap(), "job.opendispatch.dev/watched");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_chat_needs_no_server_that_runs_already() {
    let world = World::empty();
    let mut command = world.command(&["chat"]);
    command.env("WEBHOOK_PORT", "0");
    let output = assert_cmd::Command::from_std(command)
        .write_stdin("/od-run echo hello && exit 3\n")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("\nhello\n"), "{said}");
    assert!(said.contains("failed: exit code 3"), "{said}");
    let jobs = world.od(&["jobs"]);
    assert!(jobs.stderr.contains("no server is running"), "{}", jobs.stderr);
}

#[test]
fn a_chat_joins_the_server_that_runs() {
    let world = World::new();
    let said = world.od_with(&["chat"], b"od-run --name chatted echo hello\n");
    assert!(said.text().contains("hello\n"), "{}", said.whole());
    let jobs = world.od(&["get", "jobs", "-o", "name"]);
    assert_eq!(jobs.text(), "job.opendispatch.dev/chatted\n");
}

#[test]
fn a_chat_with_a_server_without_chat_is_told_so_in_one_line() {
    let mut world = World::empty();
    world.serve(&["--chat", "none"]);
    let chat = world.od_with(&["chat"], b"/od-jobs\n");
    insta::assert_snapshot!(chat.whole(), @r"
    --- stderr
    error: this server was started with --chat none; start it with --chat console
    --- exit code 1
    ");
}

#[test]
fn a_name_that_stands_where_a_kind_does_is_told_how_to_write_a_job() {
    let world = World::new();
    let said = world.od(&["describe", "nope"]).stderr;
    assert!(said.trim_end().ends_with("For the job of that name write job/nope"), "{said}");
}

#[test]
fn a_server_that_says_nothing_is_told_of_before_the_client_gives_up() {
    use std::io::BufRead as _;
    let world = World::empty();
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", hung.local_addr().unwrap());
    let mut client = world
        .command(&["jobs", "--server", &url])
        .env("OPEN_DISPATCH_TOKEN", "t")
        .env_remove("OPEN_DISPATCH_DATA")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(client.stderr.take().unwrap()).read_line(&mut line).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(line.contains(&format!("the server at {url} has not answered for 5 s")), "{line}");
}

#[test]
fn a_home_that_is_missing_is_told_at_the_start() {
    let world = World::empty();
    let mut server = world
        .command(&["serve", "--listen", "0", "--chat", "none"])
        .env("HOME", "/no/such/home")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(server.stderr.take().unwrap()));
    let said: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| !line.starts_with("server at "))
        .filter(|line| line.contains("HOME is /no/such/home, which is no directory"))
        .collect();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_server_with_another_key_does_not_start_while_sprites_live() {
    let mut world = World::new();
    let task = "touch on; while ! [ -e go ]; do sleep 0.02; done; echo after";
    assert_eq!(world.od(&["run", "--name", "keyed", task]).code, 0);
    while !world.work().join("on").exists() {
        std::thread::yield_now();
    }
    assert_eq!(world.stop_server(Signal::TERM), Some(0));
    let refusal = |world: &World, secret: Option<&str>| {
        let mut serve = world.command(&["serve", "--listen", "0", "--chat", "none"]);
        serve.envs(secret.map(|secret| ("JOB_TOKEN_SECRET", secret)));
        let output = serve.stdin(std::process::Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    };
    let line = refusal(&world, Some("another key, long enough"));
    let mend = "JOB_TOKEN_SECRET is not the one that 1 living sprite was started with; unset it, or \
                stop them first with the old one (where it is lost: kill -9 ";
    assert!(line.contains(mend), "{line}");
    let (key, kept) = (world.data().join("key"), world.data().join("kept"));
    std::fs::rename(&key, &kept).unwrap();
    let line = refusal(&world, None);
    assert!(line.contains("living sprite was started with; put it back, or"), "{line}");
    std::fs::rename(&kept, &key).unwrap();
    world.serve(&[]);
    world.write("go", "");
    let followed = world.od(&["logs", "-f", "job/keyed"]);
    assert_eq!(followed.text(), "after\n", "{}", followed.stderr);
    assert_eq!(world.od(&["get", "job", "keyed", "-o", "json"]).code, 0);
    // Nobody lives any more: another key is as good.
    while std::fs::read_dir(world.data().join("runs")).unwrap().next().is_some() {
        std::thread::yield_now();
    }
    assert_eq!(world.stop_server(Signal::TERM), Some(0));
    std::fs::remove_file(&key).unwrap();
    world.serve(&[]);
    assert_eq!(world.od(&["run", "-f", "echo on"]).text(), "on\n");
}

#[test]
fn a_job_tells_where_the_work_in_its_clone_was_kept() {
    let world = World::new();
    let git = "git init -q -b main origin && cd origin && git -c user.name=a -c user.email=a@b.test \
               commit -q --allow-empty -m first";
    assert_eq!(world.od(&["run", "-f", git]).code, 0);
    let task = "echo new > new; pwd";
    let run = world.od(&["run", "-f", "--name", "cloned", "--repo", "./origin", task]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = format!("its work is in {}", run.text());
    while !world.od(&["describe", "job", "cloned"]).text().contains(&told) {
        std::thread::yield_now();
    }
    assert!(!run.stderr.contains(".clone-"), "{}", run.stderr);
}
