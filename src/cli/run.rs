//! `run`: one task as a Job; with `-f`, as if it ran in this terminal.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::RunArgs,
    client::{Client, collection},
    error::{Error, FAILED},
    logs::{Streams, follow},
    object::print_object,
    out,
    patience::Patience,
    spec,
    target::full_name,
    watch,
};
use crate::{
    ambient::Ambient,
    resource::{API_VERSION, Kind},
};

/// Exit code: its time was over, as the `timeout` command has it.
const TIMED_OUT: u8 = 124;
/// Exit code: it could not be started, as where the server refuses it, or its end is not known.
const NO_END: u8 = 125;
/// Exit code: it was cancelled, or we were interrupted (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// Runs `run`.
///
/// # Errors
/// What keeps the job from being made, or followed to its end.
pub async fn run(args: RunArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let directory = std::env::current_dir().ok();
    let here = if client.place().is_here() { directory.as_deref() } else { None };
    let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/'));
    let home = home.as_deref().filter(|_| here.is_some()).map(Path::new);
    let job = job(&args, here, home)?;

    // The same request id for each try: a job whose creation was answered into a broken
    // connection is not created again.
    let request = Ambient::real().ids.uid();
    let query = [("requestId", request.as_str()), ("console", "1")];
    let mut patience = Patience::new();
    let path = collection(Kind::Job);
    let created = match client.persist(Method::POST, &path, &query, &job, &mut patience).await {
        Ok(created) => created,
        // A 1 would be the agent's.
        Err(error) if args.follow && error.code() == FAILED => {
            out::note(error.line().unwrap_or_default());
            return Ok(NO_END);
        }
        Err(error) => return Err(error),
    };
    let name = created["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if !args.follow {
        match args.output {
            Some(format) => print_object(&created, format)?,
            None => out::line(format!("{} created", full_name(Kind::Job, &name)))?,
        }
        out::hint(format!("follow it with: open-dispatch logs -f job/{name}"));
        return Ok(0);
    }
    out::note(format!("{} created", full_name(Kind::Job, &name)));
    tokio::select! {
        code = to_the_end(&client, &name, &mut patience) => code,
        _ = tokio::signal::ctrl_c() => {
            out::note(format!(
                "\njob {name} goes on. Follow it:  open-dispatch logs -f job/{name}\n\
                 {:>width$}Cancel it:  open-dispatch cancel {name}",
                "",
                width = "job  goes on. ".len() + name.len(),
            ));
            Ok(INTERRUPTED)
        }
    }
}

/// Prints what the job prints, and finds its exit code.
async fn to_the_end(client: &Client, name: &str, patience: &mut Patience) -> Result<u8, Error> {
    follow(client, Kind::Job, name, Streams::Apart, patience).await?;
    let ended = watch::until(client, Kind::Job, name, patience, |job| match job {
        None => Some(None),
        Some(job) => Outcome::of(job).map(|outcome| Some((outcome, job.clone()))),
    })
    .await?;
    let Some((outcome, job)) = ended else {
        out::note(format!("{} was deleted", full_name(Kind::Job, name)));
        return Ok(NO_END);
    };
    let signal = match job["status"]["sprite"].as_str() {
        Some(sprite) => watch::object(client, Kind::Sprite, sprite)
            .await?
            .and_then(|sprite| sprite["status"]["exit"]["signal"].as_i64()),
        None => None,
    };
    let code = outcome.exit_code(signal);
    if let Some(words) = outcome.words() {
        out::note(format!("{} {}", full_name(Kind::Job, name), out::harmless(&words)));
    }
    Ok(code)
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do.
    Complete,
    /// It did not.
    Failed {
        /// Why, in one CamelCase word.
        reason: String,
        /// Why, in one line for people.
        message: String,
        /// The exit code, where there is one.
        code: Option<i64>,
    },
}

impl Outcome {
    /// Reads a job's end from its conditions; nothing while it has not ended.
    #[must_use]
    pub fn of(job: &Value) -> Option<Self> {
        let status = &job["status"];
        let conditions = status["conditions"].as_array()?;
        let holds = |kind: &str| {
            conditions
                .iter()
                .find(|condition| condition["type"] == kind && condition["status"] == "True")
        };
        if let Some(failed) = holds("Failed") {
            let text = |member: &str| failed[member].as_str().unwrap_or_default().to_owned();
            return Some(Self::Failed {
                reason: text("reason"),
                message: text("message"),
                code: status["exitCode"].as_i64(),
            });
        }
        holds("Complete").map(|_| Self::Complete)
    }

    /// How it ended, for people; nothing of one that ended well.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let Self::Failed { reason, message, .. } = self else { return None };
        Some(match (reason.as_str(), message.as_str()) {
            // Who wanted its end knows why; how the agent took it is beside the point.
            ("Cancelled", _) => "was cancelled".to_owned(),
            (reason, "") => format!("failed: {reason}"),
            (_, message) => format!("failed: {message}"),
        })
    }

    /// The exit code that says it to a shell. A reason that names who ended it goes before the
    /// code that the agent had at that moment.
    #[must_use]
    pub fn exit_code(&self, signal: Option<i64>) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Failed { reason, code, .. } => {
                let byte = |number: i64| u8::try_from(number).ok().filter(|byte| *byte != 0);
                match reason.as_str() {
                    "Cancelled" => INTERRUPTED,
                    "TimedOut" | "IdleTimedOut" | "DeadlineExceeded" => TIMED_OUT,
                    _ => code
                        .and_then(byte)
                        .or_else(|| signal.and_then(|signal| byte(signal + 128)))
                        .unwrap_or(NO_END),
                }
            }
        }
    }
}

/// The Job that the words describe. Paths are resolved against the caller's directory, where
/// the server sees the same files; else `~` stays, and is the server's to resolve.
///
/// # Errors
/// Words that do not fit together.
fn job(args: &RunArgs, here: Option<&Path>, home: Option<&Path>) -> Result<Value, Error> {
    let mut spec = spec::of(&args.work, args.workdir.as_deref(), here, home)?;
    spec["task"] = args.task.as_str().into();
    if let Some(timeout) = args.timeout {
        spec["timeout"] = timeout.to_string().into();
    }
    let metadata = match &args.name {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": "run-"}),
    };
    Ok(json!({"apiVersion": API_VERSION, "kind": "Job", "metadata": metadata, "spec": spec}))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn job_of(words: &[&str], here: Option<&str>) -> Result<Value, Error> {
        let words = ["open-dispatch", "run"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Some(Command::Run(args)) => {
                job(&args, here.map(Path::new), here.map(|_| Path::new("/home/me")))
            }
            other => panic!("not a run: {other:?}"),
        }
    }

    #[test]
    fn a_job_works_in_the_callers_directory_unless_it_is_told_otherwise() {
        let workdir = |words: &[&str], here| {
            let job = job_of(words, here).unwrap();
            job["spec"]["runtime"]["local"]["workdir"].as_str().map(str::to_owned)
        };
        assert_eq!(workdir(&["x"], Some("/a")).as_deref(), Some("/a"));
        assert_eq!(workdir(&["x", "--workdir", "./b"], Some("/a")).as_deref(), Some("/a/b"));
        assert_eq!(workdir(&["x", "--workdir", "/c"], Some("/a")).as_deref(), Some("/c"));
        assert_eq!(workdir(&["x", "--workdir", "~/c"], Some("/a")).as_deref(), Some("~/c"));
        assert_eq!(workdir(&["x", "--repo", "o/r"], Some("/a")), None);
        assert_eq!(workdir(&["x"], None), None);
        let elsewhere = job_of(&["x", "--workdir", "b"], None).unwrap_err();
        assert!(elsewhere.to_string().contains("the server is elsewhere"));
    }

    #[test]
    fn a_repo_is_a_project_a_url_or_a_path() {
        let repo = |word: &str| {
            job_of(&["x", "--repo", word], Some("/a")).map(|job| job["spec"]["repo"].to_string())
        };
        insta::assert_snapshot!(
            [
                "o/r",
                "https://h/r.git",
                "git@h:o/r",
                "./r",
                "/r",
                "/r r",
                "~/r",
                ".",
                "r",
                "o/r/s",
                "o/",
            ]
            .map(|word| match repo(word) {
                Ok(repo) => format!("{word} -> {repo}"),
                Err(error) => format!("{word} -> {error}"),
            })
            .join("\n")
        );
    }

    #[test]
    fn every_flag_reaches_the_spec() {
        let job = job_of(
            &[
                "--name",
                "n",
                "--agent",
                "claude",
                "--model",
                "m",
                "--repo",
                "o/r",
                "--branch",
                "b",
                "--timeout",
                "1h30m",
                "--permissions",
                "acceptEdits",
                "don't  break\n\"it\"",
            ],
            Some("/a"),
        );
        insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!(job.unwrap()) });
    }

    #[test]
    fn a_model_needs_an_agent_that_has_one() {
        let error = job_of(&["x", "--agent", "command", "--model", "m"], Some("/a")).unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.to_string().contains("--agent claude"), "{error}");
    }

    #[test]
    fn a_job_that_was_cancelled_is_not_told_as_failed() {
        let words = |reason: &str, message: &str| {
            let (reason, message) = (reason.to_owned(), message.to_owned());
            Outcome::Failed { reason, message, code: None }.words()
        };
        assert_eq!(words("Cancelled", "ended by signal 15").as_deref(), Some("was cancelled"));
        assert_eq!(words("AgentFailed", "exit code 3").as_deref(), Some("failed: exit code 3"));
        assert_eq!(words("AgentFailed", "").as_deref(), Some("failed: AgentFailed"));
        assert_eq!(Outcome::Complete.words(), None);
    }

    #[test]
    fn the_exit_code_says_how_the_job_ended() {
        let code = |kind: &str, reason: &str, exit: Option<i64>, signal: Option<i64>| {
            let job = json!({"status": {
                "exitCode": exit,
                "conditions": [
                    {"type": "Started", "status": "True", "reason": "x"},
                    {"type": kind, "status": "True", "reason": reason},
                ],
            }});
            Outcome::of(&job).map(|outcome| outcome.exit_code(signal))
        };
        assert_eq!(code("Started", "x", None, None), None);
        assert_eq!(code("Complete", "Completed", Some(0), None), Some(0));
        assert_eq!(code("Failed", "AgentFailed", Some(3), None), Some(3));
        assert_eq!(code("Failed", "AgentFailed", None, Some(9)), Some(137));
        assert_eq!(code("Failed", "TimedOut", Some(143), Some(15)), Some(124));
        assert_eq!(code("Failed", "Cancelled", Some(1), None), Some(130));
        assert_eq!(code("Failed", "WorkspaceFailed", None, None), Some(125));
        assert_eq!(code("Failed", "AgentFailed", Some(0), None), Some(125));
        assert_eq!(code("Failed", "AgentFailed", Some(256), None), Some(125));
    }
}
