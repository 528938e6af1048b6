//! The lines of a transcript that are ours. Written here once.

use std::time::Duration;

use sprite_reporter::wire::{ApprovalKind, Exit, ExitReason};

use crate::{
    ambient::between,
    resource::Job,
    store::{Approval, ApprovalState, Turn, TurnState},
};

/// What became of a request, in one line.
#[must_use]
pub fn resolved_line(approval: &Approval) -> String {
    let by = &approval.by;
    let because = match one_line(&approval.message).as_str() {
        "" => String::new(),
        message => format!(": {message}"),
    };
    let is_question = approval.kind == ApprovalKind::Question;
    match approval.state {
        ApprovalState::Pending => "· nobody has answered yet".to_owned(),
        ApprovalState::Allowed if is_question => {
            let answers: Vec<String> = approval
                .questions
                .iter()
                .filter_map(|question| approval.answers.get(&question.text))
                .map(|answer| one_line(answer))
                .collect();
            match answers.is_empty() {
                true => format!("· answered by {by}{because}"),
                false => format!("· answered by {by}: {}", answers.join("; ")),
            }
        }
        // One that was allowed for good names who said so.
        ApprovalState::Allowed if approval.grant.is_some() => format!("· allowed: {by}"),
        ApprovalState::Allowed => format!("· allowed by {by}"),
        ApprovalState::Denied if is_question => format!("! not answered by {by}{because}"),
        ApprovalState::Denied => format!("! denied by {by}{because}"),
        ApprovalState::Expired => "! expired after 1 h: nobody answered, so it was no".to_owned(),
        ApprovalState::Withdrawn => "· withdrawn: it does not wait for this any more".to_owned(),
    }
}

/// The last line of a turn's transcript; where its agent is gone, nothing says it again.
#[must_use]
pub fn turn_end_line(name: &str, turn: &Turn, is_gone: bool) -> String {
    let mut facts = Vec::new();
    let micro = turn.usage.cost_micro_usd;
    if micro > 0 {
        facts.push(format!("${}.{:04}", micro / 1_000_000, micro % 1_000_000 / 100));
    }
    if let (Some(from), Some(to)) = (turn.started, turn.ended) {
        facts.push(seconds(between(from, to)));
    }
    let facts = match facts.is_empty() {
        true => String::new(),
        false => format!(" ({})", facts.join(", ")),
    };
    let message = one_line(&turn.message);
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    let again = if is_gone {
        String::new()
    } else if message.contains("budget") {
        format!("; /od-set {name} budget.usd=N raises it, then /od-retry {name} says this again")
    } else {
        format!("; /od-retry {name} says it again")
    };
    match (turn.state, &turn.cancelled_by) {
        (TurnState::Succeeded, _) => format!("{name} has answered{facts}"),
        (TurnState::Cancelled, Some(by)) => format!("{name} was cancelled by {by}{facts}{again}"),
        (TurnState::Cancelled, None) => format!("{name} was cancelled{why}{facts}{again}"),
        (TurnState::Interrupted, _) => format!("{name} was interrupted{why}{facts}{again}"),
        _ => format!("{name} failed{why}{facts}{again}"),
    }
}

/// A text on one line, cut where it is long.
#[must_use]
pub fn one_line(text: &str) -> String {
    const MOST: usize = 160;
    let mut words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = words.char_indices().nth(MOST) {
        words.truncate(at);
        words.push('…');
    }
    words
}

/// A length of time for people: tenths of a second below ten seconds, then whole units.
#[must_use]
pub fn seconds(length: Duration) -> String {
    let all = length.as_secs();
    match all {
        0..10 => format!("{:.1} s", length.as_secs_f64()),
        10..60 => format!("{all} s"),
        60..3600 => format!("{} min {} s", all / 60, all % 60),
        _ => format!("{} h {} min", all / 3600, all % 3600 / 60),
    }
}

/// A tool that was used, in one line.
#[must_use]
pub fn tool_line(name: &str, title: &str) -> String {
    match tool_title(name, title) {
        title if title.is_empty() => format!("→ {name}"),
        title => format!("→ {name}: {title}"),
    }
}

/// What a tool does, without its name, with which some CLIs begin; empty where there is no more.
pub(super) fn tool_title(name: &str, title: &str) -> String {
    let title = one_line(title);
    let title = title.strip_prefix(&format!("{name}: ")).unwrap_or(&title);
    if title == name { String::new() } else { title.to_owned() }
}

/// Tools that were used one after the other, in one line: the last one, and how many there were.
pub(super) fn tools_line(name: &str, count: usize, last: &str) -> String {
    match count {
        1 => format!("→ {last}"),
        _ => format!("→ {last} ({count} tools in a row; /od-logs {name} shows them)"),
    }
}

/// The first line of a job's transcript.
pub(super) fn header(job: &Job) -> String {
    let spec = &job.spec;
    let mut place = String::new();
    if let Some(repo) = &spec.repo {
        place.push_str(repo.github.as_deref().or(repo.url.as_deref()).unwrap_or_default());
        if let Some(branch) = &repo.branch {
            place.push_str(&format!(" ({branch})"));
        }
    } else if let crate::resource::RuntimeSpec::Local(local) = &spec.runtime {
        place.push_str(local.workdir.as_deref().unwrap_or("~"));
    }
    let name = &job.metadata.name;
    format!("{name} created: {} in {place}", spec.agent.name())
}

/// The last line of a job's transcript.
#[must_use]
pub fn end_line(job: &Job) -> String {
    let status = &job.status;
    let name = &job.metadata.name;
    let word = match status.phase.as_str() {
        "Succeeded" => "succeeded",
        "TimedOut" => "timed out",
        "Cancelled" => "was cancelled",
        _ if status.conditions.is_true("Complete") => "succeeded",
        _ => "failed",
    };
    let succeeded = word == "succeeded";
    let code = status.exit_code.filter(|code| *code != 0).map(|code| format!("exit code {code}"));
    let message = one_line(&status.message);
    let why = match (code, message.is_empty()) {
        (_, true) if succeeded => String::new(),
        (_, false) if succeeded => format!(": {message}"),
        (_, _) if word == "was cancelled" => String::new(),
        (Some(code), true) => format!(": {code}"),
        (Some(code), false) if message.contains(&code) => format!(": {message}"),
        (Some(code), false) if word == "failed" => format!(": {code}: {message}"),
        (_, false) => format!(": {message}"),
        (None, true) => String::new(),
    };
    let time = match (status.start_time, status.completion_time) {
        (Some(from), Some(to)) => format!(" ({})", seconds(between(from, to))),
        _ => String::new(),
    };
    format!("{name} {word}{why}{time}")
}

/// How an attempt ended, in a few words.
#[must_use]
pub fn exit_words(exit: &Exit) -> String {
    let message = one_line(&exit.message);
    if !message.is_empty() {
        return message;
    }
    match (exit.code, exit.signal, exit.reason) {
        (_, _, ExitReason::Cancelled) => "cancelled".to_owned(),
        (_, _, ExitReason::TimedOut) => "it took too long".to_owned(),
        (_, _, ExitReason::IdleTimedOut) => "it was silent for too long".to_owned(),
        (_, Some(signal), _) => format!("ended by signal {signal}"),
        (Some(code), None, _) => format!("exit code {code}"),
        (None, None, _) => "it ended without an exit code".to_owned(),
    }
}
