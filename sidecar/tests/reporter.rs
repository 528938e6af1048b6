//! The reporter as it is: the real binary, a real shell, and a server that misbehaves.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod support;

use std::{fs, process::Command, time::Duration};

use rustix::process::Signal;
use sprite_reporter::wire::{EnvVar, EventBody, ExitReason, Order, RepoSpec, Stream, TurnOutcome};
use support::{Fault, Stage, launch, pause};

fn numbered(count: usize) -> String {
    (0..count).map(|n| format!("line {n}\n")).collect()
}

fn counting(count: usize, pause: &str) -> String {
    format!("i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); {pause} done")
}

#[tokio::test]
async fn every_line_arrives_once_and_in_order_from_a_server_that_misbehaves() {
    let stage = Stage::new(&counting(3000, "[ $((i % 100)) = 0 ] && sleep 0.02;"));
    let server = stage.serve().await;
    let faults = [
        Fault::Status(503),
        Fault::LoseAck,
        Fault::HangUp,
        Fault::Status(429),
        Fault::Slow(Duration::from_millis(100)),
        Fault::LoseAck,
        Fault::Status(500),
        Fault::Status(404),
        Fault::LoseAck,
    ];
    stage.world.known().faults.extend(faults);
    assert_eq!(stage.launch().await, "ok");
    // Restarted at other addresses, while the agent prints.
    let mut server = Some(server);
    for line in [300, 900, 1500] {
        stage.world.until_printed(&format!("line {line}\n")).await;
        drop(server.take());
        pause(Duration::from_millis(50)).await;
        server = Some(stage.serve().await);
    }
    let exit = stage.world.exit().await;
    assert_eq!((exit.code, exit.reason), (Some(0), ExitReason::Completed));
    assert_eq!(stage.world.text(Stream::Stdout), numbered(3000));
    stage.world.assert_whole();
    stage.reporter_gone().await;
    assert!(stage.run.drained());
}

#[tokio::test]
async fn the_exit_code_is_the_agents_own() {
    for (task, code, signal, reason) in [
        ("echo out; echo err >&2", Some(0), None, ExitReason::Completed),
        ("exit 3", Some(3), None, ExitReason::Failed),
        ("kill -9 $$", None, Some(9), ExitReason::Failed),
    ] {
        let stage = Stage::new(task);
        let _server = stage.serve().await;
        assert_eq!(stage.launch().await, "ok");
        let exit = stage.world.exit().await;
        assert_eq!((exit.code, exit.signal, exit.reason), (code, signal, reason), "{task}");
        stage.reporter_gone().await;
        assert_eq!(stage.run.exit().unwrap(), Some(exit));
        if code == Some(0) {
            assert_eq!(stage.world.text(Stream::Stdout), "out\n");
            assert_eq!(stage.world.text(Stream::Stderr), "err\n");
        }
    }
}

#[tokio::test]
async fn a_server_that_comes_late_gets_everything() {
    let stage = Stage::new("echo early; exit 3");
    assert_eq!(stage.launch().await, "ok");
    while stage.run.exit().unwrap().is_none() {
        pause(Duration::from_millis(5)).await;
    }
    assert!(!stage.run.drained());
    let _server = stage.serve().await;
    assert_eq!(stage.world.exit().await.code, Some(3));
    assert_eq!(stage.world.text(Stream::Stdout), "early\n");
}

#[tokio::test]
async fn a_reporter_that_is_killed_leaves_nothing_running_and_everything_spooled() {
    let stage = Stage::new(&format!(
        "setsid sh -c 'setsid sleep 600 & sleep 600' & {}",
        counting(100_000, "[ $((i % 50)) = 0 ] && sleep 0.01;")
    ));
    let server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("line 200\n").await;
    drop(server);
    pause(Duration::from_millis(50)).await;
    stage.signal_reporter(Signal::KILL);
    stage.reporter_gone().await;
    assert!(stage.tree().len() >= 3, "the agent outlives its reporter");
    assert!(stage.run.exit().unwrap().is_none());

    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::ReporterLost);
    assert_eq!(stage.tree(), Vec::<u32>::new());
    let text = stage.world.text(Stream::Stdout);
    assert!(numbered(100_000).starts_with(&text), "a hole in what was spooled");
    assert!(text.contains("line 200\n"));
    stage.world.assert_whole();
    while !stage.run.drained() {
        pause(Duration::from_millis(5)).await;
    }
    assert_eq!(stage.launch().await, "ok", "a run that is done stays done");
    assert_eq!(stage.run.exit().unwrap(), Some(exit));
}

#[tokio::test]
async fn what_an_agent_leaves_running_is_gone_before_its_exit_is_told() {
    // One that hides from groups and signals, one that hides its marker.
    let unmarked = format!("86{}", std::process::id());
    let stage = Stage::new(&format!(
        "setsid sh -c 'trap \"\" TERM; sleep 600' & env -i setsid sleep {unmarked} & \
         while ! grep -q {unmarked} /proc/$!/cmdline; do :; done; exit 0"
    ));
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(stage.tree(), Vec::<u32>::new());
    let left = Command::new("pgrep").args(["-f", &format!("sleep {unmarked}")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    assert_eq!(exit.reason, ExitReason::Completed);
}

#[tokio::test]
async fn a_timeout_kills_the_whole_tree() {
    let mut stage = Stage::new(
        "trap '' TERM; for n in 1 2 3; do setsid sh -c 'trap \"\" TERM; sleep 600 & wait' & done; \
         echo begun; wait; sleep 600",
    );
    stage.spec.timeout_ms = Some(300);
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::TimedOut);
    assert_eq!(stage.tree(), Vec::<u32>::new());
}

#[tokio::test]
async fn silence_that_lasts_too_long_ends_the_run() {
    let mut stage = Stage::new("for n in 1 2 3 4 5; do echo $n; sleep 0.2; done; sleep 600");
    stage.spec.idle_timeout_ms = Some(700);
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    assert_eq!(stage.world.exit().await.reason, ExitReason::IdleTimedOut);
    assert_eq!(stage.world.text(Stream::Stdout), "1\n2\n3\n4\n5\n");
}

#[tokio::test]
async fn many_launches_run_one_agent() {
    let stage = Stage::new("echo once >> ran; sleep 0.3");
    let _server = stage.serve().await;
    let (a, b, c) = tokio::join!(stage.launch(), stage.launch(), stage.launch());
    assert_eq!([a, b, c], ["ok", "ok", "ok"]);
    stage.world.exit().await;
    let ran = fs::read_to_string(stage.data.path().join("work/ran")).unwrap();
    assert_eq!(ran, "once\n");
    stage.world.assert_whole();
}

#[tokio::test]
async fn an_agent_gets_its_own_environment_and_nothing_else() {
    let stage =
        Stage::new("env | sort; echo --; tr '\\0' '\\n' < /proc/$PPID/environ; ls /proc/self/fd");
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.exit().await;
    let text = stage.world.text(Stream::Stdout);
    let (own, of_reporter) = text.split_once("--\n").unwrap();
    let names: Vec<&str> =
        own.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let shells = ["PWD", "OLDPWD", "SHLVL", "_"];
    let given: Vec<&&str> = names.iter().filter(|name| !shells.contains(name)).collect();
    assert_eq!(given, [&"GREETING", &"JOB_ID", &"PATH"]);
    // What the reporter itself has, where the kernel lets the agent look at all.
    assert!(!of_reporter.contains(support::TOKEN));
    let descriptors: Vec<&str> =
        of_reporter.lines().filter(|it| it.parse::<u8>().is_ok()).collect();
    assert_eq!(descriptors, ["0", "1", "2", "3"], "one of them is the list itself");
}

#[tokio::test]
async fn the_data_directory_is_hidden_and_the_work_directory_is_not() {
    let stage = Stage::new("echo work > file; cat file; ls -A ..; cat ../key; touch ../new; pwd");
    fs::write(stage.data.path().join("key"), "the-installations-key").unwrap();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.exit().await;
    let hello = stage.world.known().events[0].body.clone();
    let EventBody::Hello { containment, .. } = hello else { panic!("{hello:?}") };
    if !containment.data_hidden {
        assert!(containment.note.contains("visible to the agent"), "{}", containment.note);
        eprintln!("SKIPPED: this kernel hides nothing: {}", containment.note);
        return;
    }
    let workdir = fs::canonicalize(&stage.spec.workdir).unwrap();
    assert_eq!(
        stage.world.text(Stream::Stdout),
        format!("work\nwork\n{}\n", workdir.display()),
        "{}",
        stage.world.text(Stream::Stderr)
    );
    assert!(!stage.data.path().join("new").exists());
    assert_eq!(fs::read_to_string(workdir.join("file")).unwrap(), "work\n");
}

#[tokio::test]
async fn bytes_that_are_no_text_arrive_as_they_are() {
    let stage = Stage::new(r"printf 'a\377\376b\342\234'; sleep 0.1; printf '\223c\000'");
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.exit().await;
    assert_eq!(stage.world.printed(Stream::Stdout), b"a\xFF\xFEb\xE2\x9C\x93c\0");
}

#[tokio::test]
async fn fifty_megabytes_arrive_whole() {
    let stage = Stage::new("yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 50000000");
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.exit().await;
    let bytes = stage.world.printed(Stream::Stdout);
    assert_eq!(bytes.len(), 50_000_000);
    assert!(
        bytes.chunks(37).all(|line| b"0123456789abcdefghijklmnopqrstuvwxyz\n".starts_with(line))
    );
    let largest = *stage.world.known().bodies.iter().max().unwrap();
    assert!(largest <= sprite_reporter::wire::MAX_BATCH_BYTES, "a batch of {largest} bytes");
}

#[tokio::test]
async fn secrets_do_not_leave_the_sprite() {
    let mut stage = Stage::new("printf 'key: sk-an'; sleep 0.1; echo 't-1234'; echo $KEY >&2");
    stage.spec.env.push(EnvVar { name: "KEY".into(), value: "sk-ant-1234".into(), secret: true });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.exit().await;
    assert_eq!(stage.world.text(Stream::Stdout), "key: ***\n");
    assert_eq!(stage.world.text(Stream::Stderr), "***\n");
}

#[tokio::test]
async fn a_launch_without_what_it_needs_says_so() {
    let stage = Stage::new("true");
    assert_eq!(launch(stage.run.path(), b"").await, "error: no token came on standard input");
    let said = launch(stage.run.path(), b"\xFF\xFE").await;
    assert!(said.starts_with("error: "), "{said}");
    let said = launch(stage.run.path(), b"token").await;
    assert!(said.starts_with("error: ") && said.contains("spec.json is missing"), "{said}");

    let mut stage = Stage::new("true");
    stage.spec.endpoint_file = None;
    stage.spec.server = Some("https://example.com".into());
    let said = stage.launch().await;
    assert!(said.contains("give an http:// address"), "{said}");
}

#[tokio::test]
async fn a_missing_work_directory_is_told_by_its_name() {
    let mut stage = Stage::new("true");
    stage.spec.workdir = "/nowhere/at/all".into();
    stage.spec.hide = Vec::new();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::WorkspaceFailed);
    assert!(exit.message.contains("/nowhere/at/all"), "{}", exit.message);
}

#[tokio::test]
async fn a_missing_shell_is_told_by_its_name() {
    let mut stage = Stage::new("true");
    stage.spec.agent =
        sprite_reporter::wire::AgentSpec::Command { shell: Some("no-such-shell".into()) };
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.contains("no-such-shell was not found"), "{}", exit.message);
}

fn git(directory: &std::path::Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn origin(stage: &Stage) -> String {
    let origin = stage.data.path().join("origin");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q", "-b", "main"]);
    git(&origin, &["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&origin, &["switch", "-q", "-c", "feature"]);
    fs::write(origin.join("file"), "of the feature\n").unwrap();
    git(&origin, &["add", "file"]);
    git(&origin, &["commit", "-q", "-m", "second"]);
    git(&origin, &["switch", "-q", "main"]);
    format!("file://{}", origin.display())
}

#[tokio::test]
async fn a_branch_is_cloned_for_the_agent() {
    let mut stage = Stage::new("cat file; cat .git/config");
    let url = origin(&stage);
    stage.spec.repo = Some(RepoSpec { url: url.clone(), branch: Some("feature".into()) });
    let token = "ghp_0123456789";
    stage.spec.env.push(EnvVar { name: "GH_TOKEN".into(), value: token.into(), secret: false });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{}", exit.message);
    let text = stage.world.text(Stream::Stdout);
    assert!(text.starts_with("of the feature\n"), "{text}");
    assert!(!text.contains("ghp_") && !text.contains("extraHeader"), "{text}");
    let said = stage.world.text(Stream::System);
    assert!(said.contains(&format!("Cloning into '{}'", stage.spec.workdir)), "{said}");
}

#[tokio::test]
async fn a_branch_of_a_clone_that_is_there_keeps_the_commits_that_stand_nowhere_else() {
    let mut stage = Stage::new("git log --format=%s");
    stage.spec.hide = Vec::new();
    let url = origin(&stage);
    let workdir = stage.data.path().join("work");
    git(&workdir, &["clone", "-q", &url, "."]);
    // It tracks the remote's, so that git has something to say on its standard output.
    git(&workdir, &["switch", "-q", "feature"]);
    git(&workdir, &["commit", "-q", "--allow-empty", "-m", "mine"]);
    git(&workdir, &["switch", "-q", "main"]);
    stage.spec.repo = Some(RepoSpec { url: url.clone(), branch: Some("feature".into()) });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.exit().await;
    assert_eq!(stage.world.text(Stream::Stdout), "mine\nsecond\nfirst\n");

    // One that cannot be switched to is said, and is not made anew.
    let mut stage = Stage::new("echo never");
    stage.spec.hide = Vec::new();
    let mine = stage.data.path().join("work");
    git(&mine, &["clone", "-q", &url, "."]);
    git(&mine, &["branch", "-q", "feature", "origin/feature"]);
    fs::write(mine.join("file"), "in the way\n").unwrap();
    stage.spec.repo = Some(RepoSpec { url, branch: Some("feature".into()) });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::WorkspaceFailed);
    assert!(exit.message.contains("would be overwritten"), "{}", exit.message);
    assert_eq!(fs::read_to_string(mine.join("file")).unwrap(), "in the way\n");
}

#[tokio::test]
async fn what_an_agent_planted_in_a_clone_sees_no_more_than_the_agent() {
    let mut stage = Stage::new("cat file; cat leaked");
    // The origin lies in what is hidden, so the branch is there already.
    let url = origin(&stage);
    let workdir = stage.data.path().join("work");
    git(&workdir, &["clone", "-q", &url, "."]);
    git(&workdir, &["branch", "-q", "feature", "origin/feature"]);
    fs::write(stage.data.path().join("key"), "the-installations-key").unwrap();
    let hook = workdir.join(".git/hooks/post-checkout");
    fs::write(&hook, "#!/bin/sh\n{ echo ran; cat ../key; } > leaked; exit 0\n").unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    stage.spec.repo = Some(RepoSpec { url, branch: Some("feature".into()) });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{}", exit.message);
    let EventBody::Hello { containment, .. } = stage.world.known().events[0].body.clone() else {
        panic!("no hello");
    };
    if !containment.data_hidden {
        eprintln!("SKIPPED: this kernel hides nothing: {}", containment.note);
        return;
    }
    assert_eq!(stage.world.text(Stream::Stdout), "of the feature\nran\n");
}

#[tokio::test]
async fn an_agent_whose_run_is_ended_before_it_began_never_begins() {
    let mut stage = Stage::new("echo never > never");
    let url = origin(&stage);
    let workdir = stage.data.path().join("work");
    git(&workdir, &["clone", "-q", &url, "."]);
    git(&workdir, &["branch", "-q", "feature", "origin/feature"]);
    // A git that takes its time, hears no signal and succeeds.
    let wait = "trap '' TERM; touch waiting; while ! [ -e go ]; do sleep 0.02; done";
    let slow = stage.data.path().join("bin");
    fs::create_dir(&slow).unwrap();
    fs::write(slow.join("git"), format!("#!/bin/sh\n{wait}\n")).unwrap();
    fs::set_permissions(slow.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let path = format!("{}:{}", slow.display(), std::env::var("PATH").unwrap());
    stage.spec.env.push(EnvVar { name: "PATH".into(), value: path, secret: false });
    stage.spec.hide = Vec::new();
    stage.spec.repo = Some(RepoSpec { url, branch: Some("feature".into()) });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    while !workdir.join("waiting").exists() {
        pause(Duration::from_millis(5)).await;
    }
    stage.world.order(Order::Stop { reason: ExitReason::Cancelled });
    stage.world.until("the order", |known| (known.inbox_ack == 1).then_some(())).await;
    fs::write(workdir.join("go"), "").unwrap();
    assert_eq!(stage.world.exit().await.reason, ExitReason::Cancelled);
    assert!(!workdir.join("never").exists());
    assert!(!stage.world.known().events.iter().any(|it| matches!(it.body, EventBody::Ready {})));
}

#[tokio::test]
async fn a_clone_that_fails_ends_the_run_with_gits_last_word() {
    for (url, branch, word) in
        [("file:///nowhere/at/all", None, "/nowhere/at/all"), ("", Some("missing"), "missing")]
    {
        let mut stage = Stage::new("echo never");
        let url = if url.is_empty() { origin(&stage) } else { url.to_owned() };
        stage.spec.repo = Some(RepoSpec { url: url.clone(), branch: branch.map(str::to_owned) });
        let _server = stage.serve().await;
        assert_eq!(stage.launch().await, "ok");
        let exit = stage.world.exit().await;
        assert_eq!(exit.reason, ExitReason::WorkspaceFailed);
        assert!(
            exit.message.starts_with(&format!("{url} could not be cloned: fatal:")),
            "{}",
            exit.message
        );
        assert!(exit.message.contains(word), "{}", exit.message);
        assert_eq!(stage.world.text(Stream::Stdout), "");
    }
}

#[tokio::test]
async fn a_directory_that_holds_something_else_is_not_cloned_over() {
    let mut stage = Stage::new("echo never");
    fs::write(stage.data.path().join("work/mine"), "precious").unwrap();
    let url = origin(&stage);
    stage.spec.repo = Some(RepoSpec { url, branch: None });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::WorkspaceFailed);
    assert!(exit.message.contains("no git clone"), "{}", exit.message);
    assert_eq!(fs::read_to_string(stage.data.path().join("work/mine")).unwrap(), "precious");
}

#[tokio::test]
async fn turns_come_by_inbox_and_each_is_answered_once() {
    let mut stage = Stage::new("");
    stage.spec.task = None;
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.order(Order::turn("one", "echo first"));
    stage.world.order(Order::turn("two", "echo second; exit 4"));
    // A shell that waits for nobody dies of the interrupt whenever it comes; one that is about to
    // start a program may miss it, and the ladder would take its 30 s.
    let third = "sleep 600 & echo third; wait";
    stage.world.order(Order::turn("three", third));
    stage.world.until_printed("third\n").await;
    stage.world.order(Order::Cancel { turn: Some("three".into()), reason: ExitReason::Cancelled });
    let ended = stage
        .world
        .until("three turns", |known| {
            let ended: Vec<_> = known
                .events
                .iter()
                .filter_map(|event| match &event.body {
                    EventBody::TurnEnded { turn, outcome, message, .. } => {
                        Some((turn.clone(), *outcome, message.clone()))
                    }
                    _ => None,
                })
                .collect();
            (ended.len() == 3).then_some(ended)
        })
        .await;
    assert_eq!(ended[0], ("one".into(), TurnOutcome::Succeeded, None));
    assert_eq!(ended[1], ("two".into(), TurnOutcome::Failed, Some("exit code 4".into())));
    assert_eq!((ended[2].0.as_str(), ended[2].1), ("three", TurnOutcome::Cancelled));
    stage.world.until("the acknowledgement", |known| (known.inbox_ack == 4).then_some(())).await;
    stage.world.order(Order::Stop { reason: ExitReason::Cancelled });
    assert_eq!(stage.world.exit().await.reason, ExitReason::Cancelled);
    assert_eq!(stage.world.text(Stream::Stdout), "first\nsecond\nthird\n");
    let accepted: Vec<String> = stage
        .world
        .known()
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::TurnAccepted { turn, .. } => Some(turn.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(accepted, ["one", "two", "three"]);
    stage.world.assert_whole();
}

#[tokio::test]
async fn a_turn_ends_although_what_it_left_running_prints_for_ever() {
    let mut stage = Stage::new("");
    stage.spec.task = None;
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let loud = "yes & i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";
    stage.world.order(Order::turn("loud", loud));
    let outcome = stage
        .world
        .until("the end of the turn", |known| {
            known.events.iter().find_map(|event| match &event.body {
                EventBody::TurnEnded { outcome, .. } => Some(*outcome),
                _ => None,
            })
        })
        .await;
    assert_eq!(outcome, TurnOutcome::Succeeded);
    stage.world.order(Order::Stop { reason: ExitReason::Cancelled });
    assert_eq!(stage.world.exit().await.reason, ExitReason::Cancelled);
}

#[tokio::test]
async fn a_stop_by_inbox_ends_a_job_and_its_reason_stands() {
    let stage = Stage::new("echo begun; sleep 600");
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    stage.world.order(Order::Stop { reason: ExitReason::TimedOut });
    assert_eq!(stage.world.exit().await.reason, ExitReason::TimedOut);
    assert_eq!(stage.tree(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_reporter_that_is_terminated_ends_its_agent_and_tells() {
    let stage = Stage::new("echo begun; sleep 600");
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    stage.signal_reporter(Signal::TERM);
    assert_eq!(stage.world.exit().await.reason, ExitReason::Cancelled);
    stage.world.assert_whole();
}

#[tokio::test]
async fn a_run_that_the_server_gave_up_kills_its_agent_and_goes() {
    let stage = Stage::new("echo begun; setsid sleep 600 & sleep 600");
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    stage.world.known().always = Some(410);
    // The next thing it says is refused.
    stage.world.order(Order::Heartbeat {});
    stage.reporter_gone().await;
    assert_eq!(stage.tree(), Vec::<u32>::new());
    assert_eq!(stage.run.exit().unwrap().unwrap().reason, ExitReason::Superseded);
    assert!(stage.run.drained());
}

#[tokio::test]
async fn anothers_server_at_our_servers_address_ends_nothing() {
    let stage = Stage::new("echo begun; while ! [ -e go ]; do sleep 0.02; done; echo after");
    let server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    drop(server);
    // Another installation, at the address that the file still names: it knows no token of ours.
    let address = fs::read_to_string(stage.endpoint()).unwrap();
    let another = support::World::new();
    another.known().always = Some(401);
    let theirs = support::Server::start_at(&another, &address).await;
    fs::write(stage.data.path().join("work/go"), "").unwrap();
    another.until("a refused batch", |known| (known.refused >= 3).then_some(())).await;
    assert_eq!(another.known().held, 0);
    drop(theirs);
    let _server = stage.serve().await;
    assert_eq!(stage.world.exit().await.reason, ExitReason::Completed);
    assert_eq!(stage.world.text(Stream::Stdout), "begun\nafter\n");
    stage.world.assert_whole();
    stage.reporter_gone().await;
    assert!(stage.run.drained());
}

#[tokio::test]
async fn a_server_that_was_down_for_the_whole_run_gets_it_all_at_another_port() {
    let stage = Stage::new(&format!("{}; exit 3", counting(500, ":;")));
    // The file names a port where nobody is any more.
    drop(stage.serve().await);
    let before = fs::read_to_string(stage.endpoint()).unwrap();
    assert_eq!(stage.launch().await, "ok");
    while stage.run.exit().unwrap().is_none() {
        pause(Duration::from_millis(5)).await;
    }
    assert!(!stage.run.drained());
    assert_eq!(stage.world.known().batches, 0);
    let _server = stage.serve().await;
    assert_ne!(fs::read_to_string(stage.endpoint()).unwrap(), before);
    assert_eq!(stage.world.exit().await.code, Some(3));
    assert_eq!(stage.world.text(Stream::Stdout), numbered(500));
    stage.world.assert_whole();
    stage.reporter_gone().await;
    assert!(stage.run.drained());
    let known = stage.world.known();
    let exits = known.events.iter().filter(|it| matches!(it.body, EventBody::Exit(_)));
    assert_eq!(exits.count(), 1);
}

#[tokio::test]
async fn text_that_the_server_refuses_is_told_as_missing_and_the_rest_arrives() {
    let stage = Stage::new("echo before; sleep 0.1; echo POISON; sleep 0.1; echo after");
    stage.world.known().refuses = Some("POISON".into());
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    assert_eq!(stage.world.exit().await.code, Some(0));
    assert_eq!(stage.world.text(Stream::Stdout), "before\nafter\n");
    let gaps: Vec<u64> = stage
        .world
        .known()
        .events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::Gap { bytes, .. } => Some(bytes),
            _ => None,
        })
        .collect();
    assert_eq!(gaps, [7]);
    assert!(stage.world.known().batches < 40, "it does not knock without pause");
    stage.world.assert_whole();
}

#[tokio::test]
async fn a_broken_spool_tail_is_cut_off_and_the_end_still_told() {
    let stage = Stage::new("echo begun; sleep 600");
    let server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    drop(server);
    stage.signal_reporter(Signal::KILL);
    stage.reporter_gone().await;
    let segment = fs::read_dir(stage.run.spool()).unwrap().next().unwrap().unwrap().path();
    let mut content = fs::read(&segment).unwrap();
    content.extend(br#"{"seq":99,"torn"#);
    fs::write(&segment, content).unwrap();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    assert_eq!(stage.world.exit().await.reason, ExitReason::ReporterLost);
    stage.world.assert_whole();
}

#[tokio::test]
async fn a_spool_that_lost_its_tail_in_a_power_cut_still_tells_the_end() {
    let stage = Stage::new("echo begun; sleep 600");
    let server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    drop(server);
    stage.signal_reporter(Signal::KILL);
    stage.reporter_gone().await;
    // Only the hello was on disk; the server holds more than that.
    let segment = fs::read_dir(stage.run.spool()).unwrap().next().unwrap().unwrap().path();
    let content = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, format!("{}\n", content.lines().next().unwrap())).unwrap();
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    assert_eq!(stage.world.exit().await.reason, ExitReason::ReporterLost);
    stage.world.assert_whole();
    assert!(!stage.complaints().contains("panicked"));
}

#[tokio::test]
async fn wherever_a_reporter_dies_at_the_end_the_end_is_told_once() {
    let last_line = |stage: &Stage| {
        let segment = fs::read_dir(stage.run.spool()).unwrap().next().unwrap().unwrap().path();
        let content = fs::read_to_string(&segment).unwrap();
        let kept = content.trim_end().rsplit_once('\n').unwrap().0;
        fs::write(&segment, format!("{kept}\n")).unwrap();
    };
    let exit_file = |stage: &Stage| fs::remove_file(stage.run.path().join("exit.json")).unwrap();
    let whole_spool = |stage: &Stage| fs::remove_dir_all(stage.run.spool()).unwrap();
    type Loss<'a> = &'a dyn Fn(&Stage);
    let losses: [(&[Loss<'_>], Option<i32>, ExitReason); 4] = [
        (&[], Some(3), ExitReason::Failed),
        (&[&exit_file], Some(3), ExitReason::Failed),
        (&[&last_line], Some(3), ExitReason::Failed),
        // It died after it wrote down who it is, and before it said hello.
        (&[&exit_file, &whole_spool], None, ExitReason::ReporterLost),
    ];
    for (losses, code, reason) in losses {
        let stage = Stage::new("exit 3");
        assert_eq!(stage.launch().await, "ok");
        while stage.run.exit().unwrap().is_none() {
            pause(Duration::from_millis(5)).await;
        }
        stage.signal_reporter(Signal::KILL);
        stage.reporter_gone().await;
        for lose in losses {
            lose(&stage);
        }
        let _server = stage.serve().await;
        assert_eq!(stage.launch().await, "ok");
        let exit = stage.world.exit().await;
        assert_eq!((exit.code, exit.reason), (code, reason));
        stage.reporter_gone().await;
        assert_eq!(stage.run.exit().unwrap(), Some(exit));
        assert!(stage.run.drained());
        stage.world.assert_whole();
    }
}

#[tokio::test]
async fn killing_anothers_tree_takes_no_exit_from_our_own_children() {
    // As in the server, which kills one sprite's tree while it launches another's reporter.
    let mut child = Command::new("true").spawn().unwrap();
    let zombie = || {
        fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|it| it.contains(") Z "))
    };
    while !zombie() {
        pause(Duration::from_millis(1)).await;
    }
    let tree = sprite_reporter::process::Tree::left_behind("nobody", None);
    assert_eq!(tree.kill(|_| {}).await.unwrap(), 0);
    assert!(child.wait().unwrap().success());
}

/// What the agent prints while its spool cannot be written: far more than any pipe holds.
const LOUD: &str = "echo begun; while ! [ -e go ]; do sleep 0.02; done; \
                    yes 0123456789abcdef | head -n 400000; touch done";

#[tokio::test]
async fn an_agent_waits_for_a_disk_that_takes_nothing_and_nothing_of_it_is_lost() {
    let stage = Stage::new(LOUD);
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    let (spool, away) = (stage.run.spool(), stage.run.path().join("away"));
    fs::rename(&spool, &away).unwrap();
    fs::write(stage.data.path().join("work/go"), "").unwrap();
    while !stage.complaints().contains("cannot write to the spool") {
        pause(Duration::from_millis(5)).await;
    }
    // Longer than anybody's patience with it ever was.
    for _ in 0..80 {
        pause(Duration::from_millis(100)).await;
        assert!(!stage.data.path().join("work/done").exists(), "the agent did not wait");
    }
    fs::rename(&away, &spool).unwrap();
    assert_eq!(stage.world.exit().await.reason, ExitReason::Completed);
    assert_eq!(stage.world.text(Stream::Stdout).lines().count(), 400_001);
    stage.world.assert_whole();
}

#[tokio::test]
async fn an_agent_that_waits_for_the_disk_can_be_cancelled() {
    let stage = Stage::new(LOUD);
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    stage.world.until_printed("begun\n").await;
    let (spool, away) = (stage.run.spool(), stage.run.path().join("away"));
    fs::rename(&spool, &away).unwrap();
    fs::write(stage.data.path().join("work/go"), "").unwrap();
    while !stage.complaints().contains("cannot write to the spool") {
        pause(Duration::from_millis(5)).await;
    }
    stage.world.order(Order::Stop { reason: ExitReason::Cancelled });
    while !stage.tree().is_empty() {
        pause(Duration::from_millis(20)).await;
    }
    fs::rename(&away, &spool).unwrap();
    let exit = stage.world.exit().await;
    assert_eq!((exit.reason, exit.message.as_str()), (ExitReason::Cancelled, ""));
    assert!(!stage.data.path().join("work/done").exists());
    stage.world.assert_whole();
}

#[tokio::test]
async fn a_missing_shell_is_told_before_anything_is_cloned() {
    let mut stage = Stage::new("echo never");
    stage.spec.agent = sprite_reporter::wire::AgentSpec::Command { shell: Some("/no/sh".into()) };
    let url = origin(&stage);
    stage.spec.repo = Some(RepoSpec { url, branch: None });
    let _server = stage.serve().await;
    assert_eq!(stage.launch().await, "ok");
    let exit = stage.world.exit().await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.starts_with("/no/sh was not found"), "{}", exit.message);
    assert!(!stage.data.path().join("work/.git").exists());
}
