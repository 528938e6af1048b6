//! The rows that people see: columns per kind, as `kubectl get` shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Agent, AnyObject, ConditionStatus, Conditions, ExitReason, Job, Kind, Sprite, SpriteStatus,
    rows,
};

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

/// The sprites that wait for a slot, each with its place, from 1, in the line of its runtime.
#[must_use]
pub fn waiting_line(sprites: impl IntoIterator<Item = Sprite>) -> Vec<(Sprite, usize)> {
    let mut waiting: Vec<Sprite> = sprites.into_iter().filter(is_waiting).collect();
    waiting.sort_by(|a, b| {
        let key = |sprite: &Sprite| sprite.metadata.creation_timestamp;
        key(a).cmp(&key(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    let mut lengths: BTreeMap<&'static str, usize> = BTreeMap::new();
    let place = |sprite: Sprite| {
        let length = lengths.entry(sprite.spec.runtime.name()).or_default();
        *length += 1;
        (sprite, *length)
    };
    waiting.into_iter().map(place).collect()
}

/// Whether a sprite was told to wait, and still does. One that sleeps has no slot either, and
/// wants none.
fn is_waiting(sprite: &Sprite) -> bool {
    let admitted = sprite.status.conditions.get("Admitted");
    admitted.is_some_and(|condition| condition.status == ConditionStatus::False)
        && sprite.spec.running
        && sprite.status.exit.is_none()
        && sprite.spec.stop.is_none()
        && !sprite.metadata.is_deleting()
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
        Kind::Fleet => vec![
            text("NAME"),
            text("PHASE"),
            text("KIND"),
            number("MEMBERS"),
            number("UPDATED"),
            number("READY"),
            text("AGE"),
            wide(number("FAILED")),
        ],
        Kind::Schedule => vec![
            text("NAME"),
            text("SCHEDULE"),
            text("PHASE"),
            number("ACTIVE"),
            text("LAST"),
            text("NEXT"),
            text("AGE"),
            wide(text("TIME ZONE")),
        ],
        Kind::Source => vec![
            text("NAME"),
            text("PHASE"),
            text("REVISION"),
            number("OBJECTS"),
            text("AGE"),
            wide(text("FROM")),
            wide(number("OVERRIDDEN")),
            text("MESSAGE"),
        ],
        Kind::Override => vec![
            text("NAME"),
            text("PHASE"),
            text("TARGET"),
            text("EXPIRES"),
            text("AGE"),
            wide(text("REASON")),
        ],
    }
}

/// An object's cells, one for each column.
#[must_use]
pub fn row(object: &AnyObject, now: Timestamp, context: &Context) -> Vec<String> {
    let mut cells = match object {
        AnyObject::Agent(agent) => agent_row(agent, now, context),
        AnyObject::Job(job) => job_row(job, now, context),
        AnyObject::Sprite(sprite) => sprite_row(sprite, now, context),
        AnyObject::Fleet(fleet) => rows::fleet(fleet, now),
        AnyObject::Schedule(schedule) => rows::schedule(schedule, now),
        AnyObject::Source(source) => rows::source(source, now),
        AnyObject::Override(over) => rows::over(over, now),
    };
    let phase = columns(object.kind()).iter().position(|column| column.name == "PHASE");
    if let Some(phase) = phase.and_then(|at| cells.get_mut(at)).filter(|_| is_drifted(object)) {
        phase.push_str(" (drifted)");
    }
    cells
}

/// Whether an object says something else than its file, because it is overridden.
fn is_drifted(object: &AnyObject) -> bool {
    let conditions = match object {
        AnyObject::Agent(object) => &object.status.conditions,
        AnyObject::Job(object) => &object.status.conditions,
        AnyObject::Fleet(object) => &object.status.conditions,
        AnyObject::Schedule(object) => &object.status.conditions,
        AnyObject::Source(_) | AnyObject::Override(_) | AnyObject::Sprite(_) => return false,
    };
    conditions.is_true("Drifted")
}

fn agent_row(agent: &Agent, now: Timestamp, context: &Context) -> Vec<String> {
    let (spec, status) = (&agent.spec, &agent.status);
    vec![
        agent.metadata.name.clone(),
        spent(
            asking(
                starting(
                    phase(&status.phase, status.sprite.as_deref(), context),
                    &status.conditions,
                ),
                status.conditions.is_true("WaitingForApproval"),
            ),
            status.conditions.is_true("BudgetSpent"),
        ),
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
        asking(
            starting(phase(&status.phase, status.sprite.as_deref(), context), &status.conditions),
            status.conditions.is_true("WaitingForApproval"),
        ),
        spec.agent.name().to_owned(),
        spec.runtime.name().to_owned(),
        or_none(status.exit_code.map(|code| code.to_string()).as_deref()),
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
        // Who ended it says more than how.
        (None, Some(signal)) if exit.reason == ExitReason::Failed => format!("signal {signal}"),
        (None, _) => word(&exit.reason),
    });
    vec![
        sprite.metadata.name.clone(),
        asking(
            starting(
                phase(&status.phase, Some(&sprite.metadata.name), context),
                &status.conditions,
            ),
            status.conditions.is_true("WaitingForApproval"),
        ),
        or_none(owner.as_deref()),
        spec.runtime.name().to_owned(),
        or_none(exit.as_deref()),
        age_of(sprite.metadata.creation_timestamp, now),
        spec.agent.name().to_owned(),
        spec.attempt.to_string(),
        or_none(where_it_is(status).as_deref()),
    ]
}

/// The process or the machine that a sprite is.
fn where_it_is(status: &SpriteStatus) -> Option<String> {
    let machine = || status.fly.as_ref().map(|fly| fly.machine_id.clone());
    status.local.as_ref().map(|process| process.pid.to_string()).or_else(machine)
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

/// Whoever cannot start says why, in the word of its condition: `Stalled (SecretMissing)`.
fn starting(phase: String, conditions: &Conditions) -> String {
    match conditions.get("Stalled").filter(|it| it.status == ConditionStatus::True) {
        Some(stalled) if matches!(phase.as_str(), "Starting" | "Pending") => {
            format!("Stalled ({})", stalled.reason)
        }
        _ => phase,
    }
}

/// Whoever waits for a person's answer says so.
fn asking(phase: String, asks: bool) -> String {
    if asks { format!("{phase} (asks)") } else { phase }
}

/// Whoever has used what it may use takes no turns, however ready it is.
fn spent(phase: String, is_spent: bool) -> String {
    if is_spent { format!("{phase} (budget spent)") } else { phase }
}

pub(super) fn or_none(text: Option<&str>) -> String {
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
pub(super) fn one_line(text: &str) -> String {
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

/// A text in one line, whole: what is told here is told nowhere else in the table.
pub(super) fn line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.collect::<String>().trim().to_owned()
}

pub(super) fn age_of(created: Option<Timestamp>, now: Timestamp) -> String {
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

/// When something is due: `in 5m`, or `overdue 5m` where its time has come and it was not done, as after
/// a clock that was put on.
#[must_use]
pub fn due(then: Timestamp, now: Timestamp) -> String {
    match then > now {
        true => format!("in {}", age(now, then)),
        false => format!("overdue {}", age(then, now)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::resource::API_VERSION;

    fn object(kind: Kind, rest: serde_json::Value) -> AnyObject {
        let mut object = json!({"apiVersion": API_VERSION, "kind": kind.name()});
        crate::resource::merge::merge_patch(&mut object, &rest);
        AnyObject::from_json(kind, object).unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-21T08:03:05Z".parse().unwrap()
    }

    /// The table of some objects of a kind, as people see it.
    fn table(kind: Kind, objects: &[AnyObject], context: &Context) -> String {
        let mut rows: Vec<Vec<String>> = vec![
            columns(kind)
                .iter()
                .map(|column| format!("{}{}", column.name, if column.wide { "+" } else { "" }))
                .collect(),
        ];
        rows.extend(objects.iter().map(|object| row(object, now(), context)));
        rows.iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_schedule_whose_time_has_passed_is_overdue() {
        let next = |next: &str| {
            let schedule = object(
                Kind::Schedule,
                json!({
                    "metadata": {"name": "s"},
                    "spec": {"schedule": "@daily", "jobTemplate": {"spec": {
                        "task": "t", "agent": {"command": {}}}}},
                    "status": {"nextScheduleTime": next},
                }),
            );
            let at = columns(Kind::Schedule).iter().position(|it| it.name == "NEXT").unwrap();
            row(&schedule, now(), &Context::default())[at].clone()
        };
        assert_eq!(next("2026-11-21T08:04:00Z"), "in 55s");
        assert_eq!(next("2026-11-21T08:03:05Z"), "overdue 0s");
        assert_eq!(next("2026-11-21T06:03:05Z"), "overdue 120m");
    }

    #[test]
    fn jobs_show_their_phase_exit_and_age() {
        let job = |name: &str, status: serde_json::Value| {
            object(
                Kind::Job,
                json!({
                    "metadata": {"name": name, "creationTimestamp": "2026-11-21T08:00:00Z"},
                    "spec": {"task": "\nRun the tests,\nand fix them", "agent": {"claude": {}}},
                    "status": status,
                }),
            )
        };
        let jobs = [
            job("new", json!(null)),
            job("waits", json!({"phase": "Pending", "sprite": "waits-abc123-1"})),
            job(
                "asks",
                json!({"phase": "Running", "conditions": [{
                    "type": "WaitingForApproval", "status": "True", "reason": "Asked",
                    "message": "asks to use Bash: ls", "lastTransitionTime": "1970-01-01T00:00:00Z",
                }]}),
            ),
            job("done", json!({"phase": "Failed", "sprite": "d-1", "exitCode": 3, "attempts": 2})),
        ];
        let context = Context { waiting: [("waits-abc123-1".to_owned(), 2)].into() };
        insta::assert_snapshot!(table(Kind::Job, &jobs, &context));
    }

    #[test]
    fn what_is_overridden_says_so_behind_its_phase() {
        let drifted = json!([{
            "type": "Drifted", "status": "True", "reason": "OverriddenBy", "message": "m",
            "lastTransitionTime": "2026-11-21T08:00:00Z",
        }]);
        let agent = json!({"agent": {"claude": {}}});
        let job = json!({"agent": {"claude": {}}, "task": "t"});
        let schedule = json!({"schedule": "0 9 * * *", "jobTemplate": {"spec": job}});
        for (kind, spec) in
            [(Kind::Agent, agent), (Kind::Job, job.clone()), (Kind::Schedule, schedule)]
        {
            let at = columns(kind).iter().position(|column| column.name == "PHASE").unwrap();
            let phase = |conditions: &serde_json::Value| {
                let status = json!({"phase": "Ready", "conditions": conditions});
                let rest = json!({"metadata": {"name": "a"}, "spec": spec, "status": status});
                row(&object(kind, rest), now(), &Context::default())[at].clone()
            };
            assert_eq!(
                (phase(&drifted), phase(&json!([]))),
                ("Ready (drifted)".into(), "Ready".into())
            );
        }
    }

    #[test]
    fn agents_show_their_queue_and_cost() {
        let agents = [
            object(
                Kind::Agent,
                json!({
                    "metadata": {"name": "api-bot", "creationTimestamp": "2026-11-17T08:00:00Z"},
                    "spec": {"agent": {"claude": {}}, "runtime": {"local": {"workdir": "~/api"}}},
                    "status": {
                        "phase": "Busy",
                        "sprite": "api-bot-abc123-1",
                        "turns": {"queued": 3, "running": 1, "done": 17},
                        "cost": {"microUsd": 1_234_001},
                    },
                }),
            ),
            object(
                Kind::Agent,
                json!({"metadata": {"name": "b"}, "spec": {"agent": {"command": {}}}}),
            ),
        ];
        insta::assert_snapshot!(table(Kind::Agent, &agents, &Context::default()));
    }

    #[test]
    fn an_agent_whose_budget_is_spent_says_so() {
        let agent = object(
            Kind::Agent,
            json!({
                "metadata": {"name": "bot"}, "spec": {"agent": {"command": {}}},
                "status": {"phase": "Idle", "conditions": [{
                    "type": "BudgetSpent", "status": "True", "reason": "BudgetSpent",
                    "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z",
                }]},
            }),
        );
        assert_eq!(row(&agent, now(), &Context::default())[1], "Idle (budget spent)");
    }

    #[test]
    fn a_job_that_cannot_start_says_why() {
        let job = object(
            Kind::Job,
            json!({
                "metadata": {"name": "sec"}, "spec": {"task": "x", "agent": {"command": {}}},
                "status": {"phase": "Starting", "conditions": [{
                    "type": "Stalled", "status": "True", "reason": "SecretMissing",
                    "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z",
                }]},
            }),
        );
        assert_eq!(row(&job, now(), &Context::default())[1], "Stalled (SecretMissing)");
    }

    #[test]
    fn a_sprite_that_sleeps_stands_in_no_line() {
        let sprite = |running: bool| {
            let sprite = object(
                Kind::Sprite,
                json!({
                    "metadata": {"name": "a-1"},
                    "spec": {
                        "agent": {"command": {}}, "runtime": {"local": {}}, "permissions": {},
                        "attempt": 1, "running": running,
                    },
                    "status": {"conditions": [{
                        "type": "Admitted", "status": "False", "reason": "x", "message": "",
                        "lastTransitionTime": "1970-01-01T00:00:00Z",
                    }]},
                }),
            );
            sprite.into_sprite().unwrap()
        };
        assert_eq!(waiting_line([sprite(false)]).len(), 0);
        assert_eq!(waiting_line([sprite(true)]).len(), 1);
    }

    #[test]
    fn sprites_show_whose_they_are_and_how_they_ended() {
        let sprite = |name: &str, status: serde_json::Value| {
            let owner = json!({
                "apiVersion": API_VERSION, "kind": "Job", "name": "run-x", "uid": "u", "controller": true,
            });
            object(
                Kind::Sprite,
                json!({
                    "metadata": {
                        "name": name,
                        "creationTimestamp": "2026-11-21T08:03:00Z",
                        "ownerReferences": [owner],
                    },
                    "spec": {
                        "agent": {"command": {}}, "runtime": {"local": {}},
                        "permissions": {"mode": "bypass"}, "attempt": 1, "running": true,
                    },
                    "status": status,
                }),
            )
        };
        let sprites = [
            sprite("waits", json!({"phase": "Waiting"})),
            sprite(
                "runs",
                json!({"phase": "Running", "local": {"bootId": "b", "pid": 4711, "startTime": 1}}),
            ),
            sprite("killed", json!({"phase": "Exited", "exit": {"signal": 9, "reason": "Failed"}})),
            sprite(
                "late",
                json!({"phase": "Exited", "exit": {"signal": 15, "reason": "TimedOut"}}),
            ),
            sprite("lost", json!({"phase": "Exited", "exit": {"reason": "ReporterLost"}})),
            sprite("three", json!({"phase": "Exited", "exit": {"code": 3, "reason": "Failed"}})),
        ];
        let context = Context { waiting: [("waits".to_owned(), 1)].into() };
        insta::assert_snapshot!(table(Kind::Sprite, &sprites, &context));
    }

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 3600;
        const DAY: i64 = 86_400;
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (3 * MINUTE + 5, "3m5s"),
            (10 * MINUTE + 5, "10m"),
            (179 * MINUTE + 59, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 7 * MINUTE, "3h7m"),
            (8 * HOUR + 7 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (8 * DAY + 5 * HOUR, "8d"),
            (700 * DAY, "700d"),
            (800 * DAY, "2y70d"),
            (365 * 9 * DAY, "9y"),
        ] {
            let then = Timestamp::from_second(now().as_second() - seconds).unwrap();
            assert_eq!(age(then, now()), expected, "{seconds}s");
        }
    }

    #[test]
    fn long_tasks_are_cut_to_one_line() {
        assert_eq!(one_line("echo hello"), "echo hello");
        assert_eq!(one_line("  \n\n echo\thello \n"), "echo hello");
        assert_eq!(one_line("echo\nhello"), "echo...");
        assert_eq!(one_line(&"é".repeat(61)), format!("{}...", "é".repeat(57)));
    }

    proptest! {
        #[test]
        fn no_task_breaks_a_row(task in "(?s).{0,100}") {
            let line = one_line(&task);
            prop_assert!(line.chars().count() <= 60 && !line.contains(char::is_control), "{:?}", line);
        }

        #[test]
        fn no_age_is_long(a in -300_000_000_000_i64..250_000_000_000, b in -300_000_000_000_i64..250_000_000_000) {
            let (a, b) = (Timestamp::from_second(a).unwrap(), Timestamp::from_second(b).unwrap());
            prop_assert!(age(a, b).len() <= 9, "{}", age(a, b));
        }
    }

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        let minimal = [
            object(Kind::Agent, json!({"metadata": {}, "spec": {"agent": {"claude": {}}}})),
            object(
                Kind::Job,
                json!({"metadata": {}, "spec": {"task": "", "agent": {"claude": {}}}}),
            ),
        ];
        for object in minimal {
            let cells = row(&object, now(), &Context::default());
            assert_eq!(cells.len(), columns(object.kind()).len());
        }
    }
}
