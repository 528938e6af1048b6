//! What commands about jobs answer.

use jiff::Timestamp;

use super::{
    age,
    agents::{machine_of, which_machine},
    aligned, drifted, fenced, usd,
};
use crate::{
    ambient::between,
    chat::transcript::{end_line, one_line, seconds},
    resource::{ConditionStatus, FlyMachine, Job, RuntimeSpec},
    store::files::id_in_url,
};

/// A job and, where its sprite waits for a slot, its place in the line (the first is 1).
pub(in crate::chat) struct Seen {
    pub(in crate::chat) job: Job,
    pub(in crate::chat) waiting: Option<usize>,
    /// The machine that it lives in, where that was asked for and there is one.
    pub(in crate::chat) machine: Option<FlyMachine>,
}

fn ended(job: &Job) -> bool {
    let conditions = &job.status.conditions;
    conditions.is_true("Complete") || conditions.is_true("Failed")
}

/// A job's phase in one word; one that waits says where in the line.
fn phase(seen: &Seen) -> String {
    let phase = match (seen.waiting, seen.job.status.phase.as_str()) {
        (Some(place), _) => format!("Waiting ({place})"),
        (None, "") => "Pending".to_owned(),
        (None, phase) if asks(&seen.job).is_some() => format!("{phase} (asks)"),
        (None, phase) => phase.to_owned(),
    };
    drifted(phase, &seen.job.status.conditions)
}

/// What the job's agent waits for, if it waits for an answer.
fn asks(job: &Job) -> Option<&str> {
    let condition = job.status.conditions.get("WaitingForApproval")?;
    (condition.status == ConditionStatus::True).then_some(condition.message.as_str())
}

fn age_of(job: &Job, now: Timestamp) -> String {
    job.metadata.creation_timestamp.map_or_else(String::new, |then| age(between(then, now)))
}

/// The answer to `/od-jobs`; the jobs come newest first, and `more` were left out.
pub(in crate::chat) fn jobs(jobs: &[Seen], more: usize, now: Timestamp) -> String {
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

/// The answer to `/od-status`.
pub(in crate::chat) fn status(seen: &Seen, now: Timestamp) -> String {
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
    match &spec.runtime {
        RuntimeSpec::Local(local) => {
            rows.push(("workdir", local.workdir.clone().unwrap_or_else(|| "~".to_owned())));
        }
        RuntimeSpec::Fly(fly) => rows.push(("runs", machine_of(fly))),
    }
    if let Some(machine) = &seen.machine {
        rows.push(("machine", which_machine(machine)));
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
        // An address of our own opens on the server's machine alone.
        let told = match id_in_url(&artifact.url) {
            Some(_) => artifact.name.clone(),
            None => format!("{}: {}", artifact.name, artifact.url),
        };
        rows.push(("artifact", told));
    }
    if status.cost.micro_usd > 0 {
        rows.push(("cost", usd(status.cost.micro_usd)));
    }
    let lines: Vec<String> =
        rows.into_iter().map(|(key, value)| format!("{key:<10} {value}")).collect();
    fenced(&lines.join("\n"))
}

/// The answer to `/od-logs`; the name is `job/NAME` or `agent/NAME`.
pub(in crate::chat) fn logs(full_name: &str, lines: &[String], more: bool) -> String {
    if lines.is_empty() {
        let name = full_name.split_once('/').map_or(full_name, |(_, name)| name);
        return format!("{name} has printed nothing yet");
    }
    let mut text = fenced(&lines.join("\n"));
    if more {
        text.push_str(&format!("\nThere is more; open-dispatch logs {full_name} shows all"));
    }
    text
}

/// The answer to `/od-cancel` of a job.
pub(in crate::chat) fn cancel(job: &Job) -> String {
    let name = &job.metadata.name;
    if ended(job) {
        format!("There is nothing to cancel: {}", end_line(job))
    } else if job.spec.cancel {
        format!("{name} is being cancelled already")
    } else {
        format!("{name} is being cancelled")
    }
}

/// A job of this name is there.
pub(in crate::chat) fn job_exists(name: &str) -> String {
    format!("There is a job {name} already; choose another --name, or see /od-status {name}")
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
            Seen { job: job("late", 1), waiting: Some(2), machine: None },
            Seen { job: running, waiting: None, machine: None },
            Seen { job: failed, waiting: None, machine: None },
            Seen { job: job("old", 900_000), waiting: None, machine: None },
        ]
    }

    #[test]
    fn replies_about_jobs_read_well() {
        let now = Timestamp::from_second(100_000).expect("a time");
        let seen = seen();
        let mut replies = vec![jobs(&seen, 7, now), jobs(&[], 0, now)];
        replies.extend(seen.iter().map(|seen| status(seen, now)));
        replies.extend(seen.iter().map(|seen| cancel(&seen.job)));
        let lines = ["one".to_owned(), "```two".to_owned()];
        replies.extend([logs("job/late", &[], false), logs("job/late", &lines, true)]);
        replies.push(job_exists("late"));
        insta::assert_snapshot!(replies.join("\n-----\n"));
    }
}
