//! A guest of processes.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    sync::{mpsc, watch},
};

use super::{Order, files::Files, tree};
use crate::{
    ambient::Clock,
    dev_fly::{
        config::Exit,
        world::{
            BootWish,
            reply::{Answer, ExecWish},
        },
    },
};

/// By this name, and as the last part of any path, images call the reporter.
const REPORTER: &str = "sprite-reporter";

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::code(code),
        (None, signal) => Exit::signal(signal.unwrap_or(9)),
    }
}

fn command(reporter: &Path, wish: &BootWish) -> Command {
    let words = wish.command.as_slice();
    let is_reporter =
        |word: &String| Path::new(word).file_name().is_some_and(|name| name == REPORTER);
    let mut command = match words.split_first() {
        Some((program, arguments)) if !is_reporter(program) => {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
        words => {
            let mut command = std::process::Command::new(reporter);
            // The server's own program plays the reporter when it is called so.
            command.arg0(REPORTER);
            command.args(words.map(|(_, arguments)| arguments).unwrap_or_default());
            Command::from(command)
        }
    };
    command.env_clear().envs(&wish.env).process_group(0).stdin(Stdio::null());
    command
}

fn spawn(files: &Files, reporter: &Path, wish: &BootWish) -> io::Result<Child> {
    files.prepare(wish)?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(files.machine(&wish.id).join("log"))?;
    let child = command(reporter, wish)
        .current_dir(files.root(&wish.id))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    if let Some(pid) = child.id() {
        fs::write(files.group(&wish.id), pid.to_string())?;
    }
    Ok(child)
}

/// Runs a machine's boot to its end. What is left of it then is killed.
pub(super) async fn run(
    files: &Arc<Files>,
    reporter: &Path,
    wish: BootWish,
    mut orders: mpsc::UnboundedReceiver<Order>,
    up: &watch::Sender<bool>,
) -> Exit {
    let id = wish.id.clone();
    let spawned = tokio::task::spawn_blocking({
        let (files, reporter) = (Arc::clone(files), reporter.to_owned());
        move || spawn(&files, &reporter, &wish)
    });
    let mut child = match spawned.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(child) => child,
        Err(error) => {
            files
                .complain(&format!("the first process of machine {id} cannot be started: {error}"));
            // As a shell says it of a program that is not there.
            return Exit::code(127);
        }
    };
    up.send_replace(true);
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    let marker = files.marker(&id);
    let all = |signal| {
        let marker = marker.clone();
        tokio::task::spawn_blocking(move || tree::signal_all(group, &marker, signal))
    };
    let ended = loop {
        tokio::select! {
            status = child.wait() => break status.map_or(Exit::signal(9), exit),
            Some(order) = orders.recv() => match order {
                // The first process is told alone; it tells the others, or they die with it.
                Order::Signal(signal) => {
                    if let (Some(pid), Some(signal)) =
                        (Pid::from_raw(group), Signal::from_named_raw(signal))
                    {
                        let _ = kill_process(pid, signal);
                    }
                }
                Order::Kill => {
                    let _ = all(Signal::KILL).await;
                }
                Order::Freeze => {
                    let _ = all(Signal::STOP).await;
                }
                Order::Thaw => {
                    let _ = all(Signal::CONT).await;
                }
            },
        }
    };
    let files = Arc::clone(files);
    // When the first process has ended the machine powers down.
    let swept = tokio::task::spawn_blocking(move || {
        tree::kill(group, &marker);
        let _ = fs::remove_file(files.group(&id));
    });
    let _ = swept.await;
    ended
}

/// Runs a command beside what runs in a machine.
pub(super) async fn exec(
    root: PathBuf,
    env: BTreeMap<String, String>,
    wish: ExecWish,
    clock: &dyn Clock,
) -> Answer {
    let Some((program, arguments)) = wish.command.split_first() else {
        return Answer::exec_timeout();
    };
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(env)
        .current_dir(root)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Answer::exec(127, 0, "", &format!("{program}: {error}\n")),
    };
    let input = child.stdin.take();
    let work = async move {
        if let Some(mut input) = input {
            // Who does not read it has closed it.
            let _ = input.write_all(wish.stdin.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    tokio::select! {
        output = work => match output {
            Ok(output) => {
                let end = exit(output.status);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
                Answer::exec(end.code, end.signal.unwrap_or(0), &stdout, &stderr)
            }
            Err(error) => Answer::exec(126, 0, "", &format!("{error}\n")),
        },
        () = clock.sleep(wish.timeout) => Answer::exec_timeout(),
    }
}
