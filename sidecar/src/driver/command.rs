//! `command`: a shell, as an honest agent that needs no account.
//!
//! Each prompt is one run of `SHELL -c PROMPT` with its input closed. Files that came with it are
//! its arguments (`"$@"`), since a shell would run a list of them. What it prints are log
//! bytes, of each stream in order. Its end is the turn's end; in a job it is the run's end
//! too, and its exit code is the job's.

use std::{
    ffi::OsString, io, os::unix::process::ExitStatusExt as _, path::PathBuf, process::ExitStatus,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Child,
};

use super::{DriverOrder, Said, Seat, TASK_TURN, Voice};
use crate::{
    process::{self, Launch},
    wire::{EventBody, Exit, ExitReason, RunSpec, Stream, TurnOutcome, Usage},
};

/// How many bytes are read at once.
const READ_BYTES: usize = 16 * 1024;

/// The longest prompt, in bytes: Linux takes words of a command line up to 128 KiB, with their end.
const LONGEST: usize = 128 * 1024 - 1;

/// The shell where none is named.
const SHELL: &str = "sh";

/// Why the shell cannot be started, if it is not there.
pub(super) fn absent(spec: &RunSpec, shell: Option<&str>) -> Option<String> {
    let launch = launch(spec, shell.unwrap_or(SHELL), "", &[]);
    process::absent(&launch).map(|error| error.to_string())
}

/// Runs each prompt as `SHELL -c PROMPT`.
pub async fn drive(mut seat: Seat, shell: Option<String>) -> Exit {
    let shell = shell.unwrap_or_else(|| SHELL.into());
    seat.voice.event(EventBody::Ready {}).await;
    while let Some(order) = seat.orders.recv().await {
        match order {
            DriverOrder::Prompt { turn, text, files } => {
                if let Some(why) = too_long(&text) {
                    end_turn(&seat.voice, &turn, TurnOutcome::Failed, why.clone()).await;
                    if turn == TASK_TURN {
                        return ended(ExitReason::StartFailed, why);
                    }
                    continue;
                }
                let mut child = match process::start(&launch(&seat.spec, &shell, &text, &files)) {
                    Ok(child) => child,
                    Err(error) => {
                        end_turn(&seat.voice, &turn, TurnOutcome::Failed, error.to_string()).await;
                        return ended(ExitReason::StartFailed, error.to_string());
                    }
                };
                let (status, stopped) = run(&mut child, &mut seat).await;
                let exit = match status {
                    Ok(status) => exit_of(status),
                    Err(error) => ended(ExitReason::Failed, error.to_string()),
                };
                let outcome = match exit.reason {
                    ExitReason::Completed => TurnOutcome::Succeeded,
                    _ => TurnOutcome::Failed,
                };
                end_turn(&seat.voice, &turn, outcome, exit.message.clone()).await;
                if turn == TASK_TURN || stopped {
                    return exit;
                }
            }
            DriverOrder::Stop => break,
            DriverOrder::Interrupt | DriverOrder::Answer { .. } => {}
        }
    }
    ended(ExitReason::Completed, String::new())
}

/// Why a prompt cannot be run, if it is longer than what a program can be given in one word.
fn too_long(text: &str) -> Option<String> {
    (text.len() > LONGEST).then(|| {
        format!(
            "a shell takes no command of {} bytes, and {LONGEST} at most; put it into a file and \
             say how to run that",
            text.len()
        )
    })
}

fn launch(spec: &RunSpec, shell: &str, text: &str, files: &[PathBuf]) -> Launch {
    let mut args: Vec<OsString> = vec!["-c".into(), text.into()];
    if !files.is_empty() {
        // What comes first behind a command is the name by which it knows itself.
        args.push(shell.into());
        args.extend(files.iter().map(Into::into));
    }
    Launch {
        program: shell.into(),
        args,
        env: spec.env.iter().map(|it| (it.name.clone().into(), it.value.clone().into())).collect(),
        workdir: (&spec.workdir).into(),
        hide: spec.hide.iter().map(Into::into).collect(),
    }
}

/// Lets the shell run to its end; answers how it ended and whether it was told to stop.
async fn run(child: &mut Child, seat: &mut Seat) -> (io::Result<ExitStatus>, bool) {
    drop(child.stdin.take());
    let leader = child.id();
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut out_bytes, mut err_bytes) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
    let mut stopped = false;
    let status = loop {
        tokio::select! {
            read = read(&mut out, &mut out_bytes) => {
                say(&seat.voice, Stream::Stdout, &mut out, &out_bytes, read).await;
            }
            read = read(&mut err, &mut err_bytes) => {
                say(&seat.voice, Stream::Stderr, &mut err, &err_bytes, read).await;
            }
            status = child.wait() => break status,
            order = seat.orders.recv(), if !stopped => match order {
                Some(DriverOrder::Interrupt) => hint(leader, Signal::INT),
                Some(DriverOrder::Stop) | None => {
                    stopped = true;
                    hint(leader, Signal::TERM);
                }
                Some(DriverOrder::Prompt { .. } | DriverOrder::Answer { .. }) => {}
            },
        }
    };
    // What the shell itself wrote is in the pipes by now. What it left running may hold them
    // open for ever, and is no part of the answer.
    rest(&seat.voice, Stream::Stdout, out, &mut out_bytes).await;
    rest(&seat.voice, Stream::Stderr, err, &mut err_bytes).await;
    (status, stopped)
}

fn hint(leader: Option<u32>, signal: Signal) {
    if let Some(leader) = leader {
        process::signal_group(leader, signal);
    }
}

/// Reads from a stream; never returns for one that is over.
async fn read<R: AsyncRead + Unpin>(stream: &mut Option<R>, bytes: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(bytes).await,
        None => std::future::pending().await,
    }
}

async fn say<R>(
    voice: &Voice,
    stream: Stream,
    source: &mut Option<R>,
    bytes: &[u8],
    read: io::Result<usize>,
) {
    match read {
        Ok(0) | Err(_) => *source = None,
        Ok(length) => voice.say(Said::Log(stream, bytes[..length].to_vec())).await,
    }
}

/// Reads what is in a pipe now, without waiting for its end. What comes into it from now on is of
/// somebody who was left running, who may write for ever.
async fn rest<R: std::os::fd::AsFd>(
    voice: &Voice,
    stream: Stream,
    source: Option<R>,
    bytes: &mut [u8],
) {
    let Some(source) = source else { return };
    let waiting = rustix::io::ioctl_fionread(&source).unwrap_or_default();
    let mut left = usize::try_from(waiting).unwrap_or(usize::MAX);
    while left > 0 {
        let most = left.min(bytes.len());
        // The pipe does not block: an empty one answers so, and that is its end for us.
        match rustix::io::read(&source, &mut bytes[..most]) {
            Ok(length) if length > 0 => {
                left -= length;
                voice.say(Said::Log(stream, bytes[..length].to_vec())).await;
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

async fn end_turn(voice: &Voice, turn: &str, outcome: TurnOutcome, message: String) {
    let message = (!message.is_empty()).then_some(message);
    let turn = turn.to_owned();
    voice.event(EventBody::TurnEnded { turn, outcome, message, usage: Usage::default() }).await;
}

fn exit_of(status: ExitStatus) -> Exit {
    let (code, signal) = (status.code(), status.signal());
    match (code, signal) {
        (Some(0), _) => ended(ExitReason::Completed, String::new()),
        (Some(code), _) => {
            Exit { code: Some(code), ..ended(ExitReason::Failed, format!("exit code {code}")) }
        }
        (None, signal) => {
            let message = format!("ended by signal {}", signal.unwrap_or_default());
            Exit { signal, ..ended(ExitReason::Failed, message) }
        }
    }
}

fn ended(reason: ExitReason, message: String) -> Exit {
    let code = (reason == ExitReason::Completed).then_some(0);
    Exit { code, signal: None, reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_would_not_run_is_refused_with_the_limit() {
        let run = |length: usize| {
            let word = "x".repeat(length);
            std::process::Command::new("true").arg(word).status().is_ok()
        };
        assert_eq!((run(LONGEST), run(LONGEST + 1)), (true, false), "the system's own limit");
        assert_eq!(too_long(&"x".repeat(LONGEST)), None);
        let why = too_long(&"x".repeat(LONGEST + 1)).unwrap_or_default();
        assert!(why.contains("131072 bytes, and 131071 at most"), "{why}");
    }
}
