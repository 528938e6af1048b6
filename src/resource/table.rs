//! The rows that people see: columns per kind, as `kubectl get` shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Agent, AnyObject, Job, Kind, Sprite};

/// A column of a kind's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// What its cells are: `string` or `integer`, as in OpenAPI.
    pub kind: &'static str,
    /// Whether it is shown only when asked for (`-o wide`).
    pub wide: bool,
}

/// What a row needs to know beside its object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The place in the queue, from 1, of each Sprite (by name) that waits for a slot of its
    /// runtime.
    pub waiting: BTreeMap<String, usize>,
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: "string", wide: false }
}

const fn number(name: &'static str) -> Column {
    Column { name, kind: "integer", wide: false }
}

const fn wide(column: Column) -> Column {
    Column { wide: true, ..column }
}

/// The columns of a kind's table, in order.
#[must_use]
pub fn columns(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::Agent => vec![
            text("NAME"),
            text("PHASE"),
            text("AGENT"),
            text("RUNTIME"),
            number("QUEUED"),
            text("AGE"),
            wide(text("SPRITE")),
            wide(number("TURNS")),
            wide(text("COST")),
        ],
        Kind::Job => vec![
            text("NAME"),
            text("PHASE"),
            text("AGENT"),
            text("RUNTIME"),
            text("EXIT"),
            text("AGE"),
            wide(text("SPRITE")),
            wide(number("ATTEMPTS")),
            wide(text("TASK")),
        ],
        Kind::Sprite => vec![
            text("NAME"),
            text("PHASE"),
            text("OWNER"),
            text("RUNTIME"),
            text("EXIT"),
            text("AGE"),
            wide(text("AGENT")),
            wide(number("ATTEMPT")),
            wide(text("PROCESS")),
        ],
    }
}

/// An object's cells, one for each column.
#[must_use]
pub fn row(object: &AnyObject, now: Timestamp, context: &Context) -> Vec<String> {
    match object {
        AnyObject::Agent(agent) => agent_row(agent, now, context),
        AnyObject::Job(job) => job_row(job, now, context),
        AnyObject::Sprite(sprite) => sprite_row(sprite, now, context),
    }
}

fn agent_row(agent: &Agent, now: Timestamp, context: &Context) -> Vec<String> {
    let (spec, status) = (&agent.spec, &agent.status);
    vec![
        agent.metadata.name.clone(),
        phase(&status.phase, status.sprite.as_deref(), context),
        spec.agent.name().to_owned(),
        spec.runtime.name().to_owned(),
        status.turns.queued.to_string(),
        age_of(agent.metadata.creation_timestamp, now),
        or_none(status.sprite.as_deref()),
        status.turns.done.to_string(),
        dollars(status.cost.micro_usd),
    ]
}

fn job_row(job: &Job, now: Timestamp, context: &Context) -> Vec<String> {
    let (spec, status) = (&job.spec, &job.status);
    vec![
        job.metadata.name.clone(),
        phase(&status.phase, status.sprite.as_deref(), context),
        spec.agent.name().to_owned(),
        spec.runtime.name().to_owned(),
        status.exit_code.map_or_else(String::new, |code| code.to_string()),
        age_of(job.metadata.creation_timestamp, now),
        or_none(status.sprite.as_deref()),
        status.attempts.to_string(),
        one_line(&spec.task),
    ]
}

fn sprite_row(sprite: &Sprite, now: Timestamp, context: &Context) -> Vec<String> {
    let (spec, status) = (&sprite.spec, &sprite.status);
    let owner = sprite
        .metadata
        .controller()
        .map(|owner| format!("{}/{}", owner.kind.singular(), owner.name));
    let exit = status.exit.as_ref().map(|exit| match (exit.code, exit.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => word(&exit.reason),
    });
    vec![
        sprite.metadata.name.clone(),
        phase(&status.phase, Some(&sprite.metadata.name), context),
        or_none(owner.as_deref()),
        spec.runtime.name().to_owned(),
        exit.unwrap_or_default(),
        age_of(sprite.metadata.creation_timestamp, now),
        spec.agent.name().to_owned(),
        spec.attempt.to_string(),
        or_none(status.local.as_ref().map(|process| process.pid.to_string()).as_deref()),
    ]
}

/// The phase, or the place in the queue of a sprite that waits.
fn phase(phase: &str, sprite: Option<&str>, context: &Context) -> String {
    match sprite.and_then(|name| context.waiting.get(name)) {
        Some(position) => format!("Waiting #{position}"),
        // Nothing has looked at the object yet.
        None if phase.is_empty() => "Pending".to_owned(),
        None => phase.to_owned(),
    }
}

fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("<none>").to_owned()
}

/// The word that stands for a value in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Millionths of a dollar as dollars and cents, rounded up, so that a cost is never nothing.
fn dollars(micro_usd: u64) -> String {
    let cents = micro_usd.div_ceil(10_000);
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// The first line of a text, cut where a table would break.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first: String = lines
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let cut = first.chars().count() > LONGEST;
    if cut || lines.next().is_some() {
        let start: String = first.chars().take(LONGEST - 3).collect();
        format!("{}...", start.trim_end())
    } else {
        first
    }
}

fn age_of(created: Option<Timestamp>, now: Timestamp) -> String {
    created.map_or_else(|| "<unknown>".to_owned(), |created| age(created, now))
}

/// How long ago something was, in the words of kubectl: two units where the first alone would
/// say too little, such as `45s`, `3m5s`, `12m`, `5h10m`, `4d`.
#[must_use]
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        two(days, "d", hours % 24, "h")
    } else if days < 2 * 365 {
        format!("{days}d")
    } else if days < 8 * 365 {
        two(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}
