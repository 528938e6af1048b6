//! What commands answer: text from objects, pure. Written here once, for every platform.
//!
//! What must keep its columns stands between two lines of backticks; platforms that show text
//! as it is leave those lines out ([`plain`]).

use std::time::Duration;

use jiff::Timestamp;

use super::transcript::{end_line, one_line, seconds};
use crate::{
    ambient::between,
    resource::{ConditionStatus, Faults, Job, RuntimeSpec},
    store::{Approval, ApprovalState, Conversation},
};

const FENCE: &str = "```";

/// A job and, where its sprite waits for a slot, its place in the line (the first is 1).
pub(super) struct Seen {
    pub job: Job,
    pub waiting: Option<usize>,
}

/// Puts text between fences; fences inside of it get a break that nobody sees.
fn fenced(text: &str) -> String {
    let text = text.replace(FENCE, "`\u{200B}`\u{200B}`");
    format!("{FENCE}\n{}\n{FENCE}", text.trim_end_matches('\n'))
}

/// A reply for a platform that shows text as it is.
pub(super) fn plain(reply: &str) -> String {
    let lines: Vec<&str> = reply.lines().filter(|line| *line != FENCE).collect();
    lines.join("\n").replace("`\u{200B}`\u{200B}`", FENCE)
}

fn ended(job: &Job) -> bool {
    let conditions = &job.status.conditions;
    conditions.is_true("Complete") || conditions.is_true("Failed")
}

/// A job's phase in one word; one that waits says where in the line.
fn phase(seen: &Seen) -> String {
    match (seen.waiting, seen.job.status.phase.as_str()) {
        (Some(place), _) => format!("Waiting ({place})"),
        (None, "") => "Pending".to_owned(),
        (None, phase) if asks(&seen.job).is_some() => format!("{phase} (asks)"),
        (None, phase) => phase.to_owned(),
    }
}

/// What the job's agent waits for, if it waits for an answer.
fn asks(job: &Job) -> Option<&str> {
    let condition = job.status.conditions.get("WaitingForApproval")?;
    (condition.status == ConditionStatus::True).then_some(condition.message.as_str())
}

/// An age as `kubectl` shows it: one unit.
fn age(length: Duration) -> String {
    match length.as_secs() {
        all @ 0..120 => format!("{all}s"),
        all @ 120..7_200 => format!("{}m", all / 60),
        all @ 7_200..172_800 => format!("{}h", all / 3_600),
        all => format!("{}d", all / 86_400),
    }
}

fn age_of(job: &Job, now: Timestamp) -> String {
    job.metadata.creation_timestamp.map_or_else(String::new, |then| age(between(then, now)))
}

/// The answer to `/od-jobs`; the jobs come newest first, and `more` were left out.
pub(super) fn jobs(jobs: &[Seen], more: usize, now: Timestamp) -> String {
    if jobs.is_empty() {
        return "There are no jobs. Make one with /od-run echo hello".to_owned();
    }
    let mut rows = vec![["NAME", "PHASE", "AGENT", "AGE", "TASK"].map(str::to_owned)];
    for seen in jobs {
        let job = &seen.job;
        let mut task = one_line(&job.spec.task);
        if let Some((at, _)) = task.char_indices().nth(48) {
            task.truncate(at);
            task.push('…');
        }
        let name = job.metadata.name.clone();
        rows.push([name, phase(seen), job.spec.agent.name().into(), age_of(job, now), task]);
    }
    let mut text = fenced(&aligned(&rows));
    if more > 0 {
        text.push_str(&format!("\nand {more} older; open-dispatch get jobs shows all"));
    }
    text
}

/// Rows with their columns below each other.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The answer to `/od-status`.
pub(super) fn status(seen: &Seen, now: Timestamp) -> String {
    let job = &seen.job;
    let (spec, status) = (&job.spec, &job.status);
    let mut rows: Vec<(&str, String)> = vec![("job", job.metadata.name.clone())];
    rows.push((
        "phase",
        match seen.waiting {
            Some(place) => format!("waiting for a free slot, number {place} in the line"),
            None => phase(seen),
        },
    ));
    rows.push(("agent", spec.agent.name().to_owned()));
    if let RuntimeSpec::Local(local) = &spec.runtime {
        rows.push(("workdir", local.workdir.clone().unwrap_or_else(|| "~".to_owned())));
    }
    if let Some(repo) = &spec.repo {
        let url = repo.github.as_deref().or(repo.url.as_deref()).unwrap_or_default();
        let branch = repo.branch.as_ref().map(|branch| format!(" ({branch})")).unwrap_or_default();
        rows.push(("repo", format!("{url}{branch}")));
    }
    rows.push(("task", one_line(&spec.task)));
    rows.push(("age", age_of(job, now)));
    if let Some(start) = status.start_time {
        let end = status.completion_time.unwrap_or(now);
        rows.push(("took", seconds(between(start, end))));
    }
    if spec.retries > 0 {
        rows.push(("attempts", format!("{} of {}", status.attempts, spec.retries + 1)));
    }
    if spec.cancel && !ended(job) {
        rows.push(("cancel", "asked for".to_owned()));
    }
    if let Some(code) = status.exit_code {
        rows.push(("exit code", code.to_string()));
    }
    if !status.message.is_empty() {
        rows.push(("message", one_line(&status.message)));
    }
    if let Some(text) = asks(job) {
        rows.push(("waits", one_line(text)));
    }
    for artifact in &status.artifacts {
        rows.push(("artifact", format!("{}: {}", artifact.name, artifact.url)));
    }
    if status.cost.micro_usd > 0 {
        rows.push((
            "cost",
            format!(
                "${}.{:04}",
                status.cost.micro_usd / 1_000_000,
                status.cost.micro_usd % 1_000_000 / 100
            ),
        ));
    }
    let lines: Vec<String> =
        rows.into_iter().map(|(key, value)| format!("{key:<10} {value}")).collect();
    fenced(&lines.join("\n"))
}

/// The answer to `/od-logs`.
pub(super) fn logs(name: &str, lines: &[String], more: bool) -> String {
    if lines.is_empty() {
        return format!("{name} has printed nothing yet");
    }
    let mut text = fenced(&lines.join("\n"));
    if more {
        text.push_str(&format!("\nThere is more; open-dispatch logs job/{name} shows all"));
    }
    text
}

/// The answer to `/od-cancel` of a job.
pub(super) fn cancel(job: &Job) -> String {
    let name = &job.metadata.name;
    if ended(job) {
        format!("There is nothing to cancel: {}", end_line(job))
    } else if job.spec.cancel {
        format!("{name} is being cancelled already")
    } else {
        format!("{name} is being cancelled")
    }
}

/// What a request is about, in one line.
fn wish(approval: &Approval) -> String {
    let title = one_line(&approval.title);
    if title.starts_with(&format!("{}:", approval.tool)) {
        title
    } else {
        format!("{}: {title}", approval.tool)
    }
}

/// The answer to `/od-approve` that was the first.
pub(super) fn approved(job: &str, approval: &Approval, allow: bool) -> String {
    let word = if allow { "yes" } else { "no" };
    format!("{job} is told {word}: {}", wish(approval))
}

/// The answer to `/od-approve` of a request that was answered before.
pub(super) fn answered(job: &str, approval: &Approval) -> String {
    let what = wish(approval);
    match approval.state {
        ApprovalState::Allowed => format!("{} has told {job} yes already: {what}", approval.by),
        ApprovalState::Denied => format!("{} has told {job} no already: {what}", approval.by),
        ApprovalState::Expired => format!("Nobody answered {job} in time, so it was no: {what}"),
        _ => format!("{job} does not wait for that any more: {what}"),
    }
}

/// The answer to `/od-approve` where nothing waits.
pub(super) fn nothing_waits(job: &str, last: Option<&Approval>) -> String {
    match last {
        Some(last) => format!("Nothing waits for an answer in {job}; {}", answered(job, last)),
        None => format!("Nothing waits for an answer in {job}"),
    }
}

/// The answer to `/od-approve` of a request that was never made.
pub(super) fn no_request(job: &str, request: &str) -> String {
    format!("{job} has made no request {request}; leave it out to answer the oldest that waits")
}

/// No such job.
pub(super) fn no_job(name: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("There is no job {name}; did you mean {nearest}?"),
        None => format!("There is no job {name}; /od-jobs lists the last ones"),
    }
}

/// A job of this name is there.
pub(super) fn job_exists(name: &str) -> String {
    format!("There is a job {name} already; choose another --name, or see /od-status {name}")
}

/// A job that cannot be made, with every fault.
pub(super) fn faults(faults: &Faults) -> String {
    let lines: Vec<String> = faults
        .0
        .iter()
        .map(|fault| match flag_of(&fault.path) {
            Some(flag) => format!("{flag} {}", fault.message),
            None if fault.path.is_empty() => fault.message.clone(),
            None => format!("{} {}", fault.path, fault.message),
        })
        .collect();
    format!("Nothing was run: {}", lines.join("; "))
}

/// The flag that a field of a Job came from.
fn flag_of(path: &str) -> Option<&'static str> {
    [
        ("metadata.name", "--name"),
        ("spec.repo.branch", "--branch"),
        ("spec.repo", "--repo"),
        ("spec.runtime.local.workdir", "--workdir"),
        ("spec.timeout", "--timeout"),
        ("spec.permissions", "--permissions"),
        ("spec.agent", "--agent"),
        ("spec.task", "the task"),
    ]
    .into_iter()
    .find(|(field, _)| path.starts_with(field))
    .map(|(_, flag)| flag)
}

/// A run that cannot become a Job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRun {
    #[error("--agent: `{0}` is no agent; the agents are command and claude")]
    NoAgent(String),
    #[error("--agent {0} is not supported yet; this version runs command and claude")]
    AgentNotBuilt(String),
    #[error("--model means nothing to the agent `command`; leave it out, or add --agent claude")]
    NoModel,
    #[error("--branch needs --repo, which says of what it is a branch")]
    BranchAlone,
    #[error("--workdir: `{0}` leads out of the home directory; give the whole path, from /")]
    Outside(String),
}

/// Who speaks at a terminal that gives no name.
pub(super) const NAMELESS: &str = "you";

/// The answer to `/od-whoami`.
pub(super) fn whoami(author: &str, place: &Conversation) -> String {
    let thread =
        place.thread.as_ref().map(|thread| format!(", thread {thread}")).unwrap_or_default();
    // A terminal that gave no name.
    let who = if author == NAMELESS { String::new() } else { format!("{author} ") };
    format!(
        "You are {who}on {}, in channel {}{thread}. Whoever holds this server's token may do \
         everything here.",
        place.platform, place.channel
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, age: i64) -> Job {
        let spec = serde_json::from_value(serde_json::json!({
            "task": "echo hello &&\n exit 3", "agent": {"command": {}},
            "repo": {"github": "owner/project", "branch": "main"}, "retries": 2,
        }))
        .expect("a spec");
        let mut job = Job::new(name, spec);
        job.metadata.creation_timestamp = Timestamp::from_second(100_000 - age).ok();
        job
    }

    fn seen() -> Vec<Seen> {
        let mut failed = job("run-x7k2p", 4_000);
        let status = &mut failed.status;
        status.phase = "Failed".into();
        status.exit_code = Some(3);
        status.attempts = 1;
        status.start_time = Timestamp::from_second(96_001).ok();
        status.completion_time = Timestamp::from_second(96_003).ok();
        status.cost.micro_usd = 1_234_567;
        status.conditions.set(
            "Failed",
            ConditionStatus::True,
            "Failed",
            "",
            1,
            Timestamp::UNIX_EPOCH,
        );
        let mut running = job("nightly", 30);
        running.status.phase = "Running".into();
        running.status.start_time = Timestamp::from_second(99_975).ok();
        running.spec.cancel = true;
        vec![
            Seen { job: job("late", 1), waiting: Some(2) },
            Seen { job: running, waiting: None },
            Seen { job: failed, waiting: None },
            Seen { job: job("old", 900_000), waiting: None },
        ]
    }

    #[test]
    fn replies_read_well() {
        let now = Timestamp::from_second(100_000).expect("a time");
        let seen = seen();
        let place =
            Conversation { platform: "console".into(), channel: "main".into(), thread: None };
        let mut replies = vec![jobs(&seen, 7, now), jobs(&[], 0, now)];
        replies.extend(seen.iter().map(|seen| status(seen, now)));
        replies.extend(seen.iter().map(|seen| cancel(&seen.job)));
        let lines = ["one".to_owned(), "```two".to_owned()];
        replies.extend([logs("late", &[], false), logs("late", &lines, true)]);
        replies.extend([no_job("lat", Some("late")), no_job("x", None), job_exists("late")]);
        replies.extend([whoami("ada", &place), whoami(NAMELESS, &place)]);
        let bad = [
            BadRun::NoAgent("clod".into()),
            BadRun::AgentNotBuilt("codex".into()),
            BadRun::NoModel,
            BadRun::BranchAlone,
            BadRun::Outside("../x".into()),
        ];
        replies.extend(bad.iter().map(ToString::to_string));
        insta::assert_snapshot!(replies.join("\n-----\n"));
    }

    #[test]
    fn where_text_is_shown_as_it_is_a_reply_has_no_fences_of_its_own() {
        let reply = logs("late", &["```two".to_owned()], false);
        assert_eq!(plain(&reply), "```two");
    }
}
