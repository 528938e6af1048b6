//! `describe`: one object as a page for people, its events last.
//!
//! The page is a pure function of the object, its events and the time.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    args::DescribeArgs,
    client::{Client, member},
    error::Error,
    out,
    select::select,
    target::{self, Targets},
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::{Kind, table::age},
};

/// Runs `describe`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn describe(args: DescribeArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let all = args.selector.is_none() && matches!(target::read(&args.what), Ok(Targets::Kinds(_)));
    let selected = select(&client, &args.what, args.selector.as_deref(), all).await;
    let objects = selected.map_err(|error| match error {
        Error::NoSuchKind(word) if args.what == [word.as_str()] => Error::NoSuchKindOrJob(word),
        error => error,
    })?;
    let mut failed = false;
    let mut first = true;
    for (kind, name) in objects {
        let path = member(kind, &name);
        let object = match client.get(&path, &[], "application/json").await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => {
                failed = true;
                out::note(error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        let events = client.get(&format!("{path}/events"), &[], "application/json").await?;
        let now = SystemClock.now();
        let separator = if first { "" } else { "\n\n" };
        first = false;
        let talk = match kind {
            Kind::Agent => Some(talk(&client, &name).await?),
            _ => None,
        };
        let text = page(kind, &object, talk.as_ref(), &events, now);
        out::data(format!("{separator}{text}"))?;
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// What an agent was told, asks for, and may do.
struct Talk {
    turns: Value,
    approvals: Value,
    grants: Value,
}

/// How many of the newest turns the page shows.
const LAST_TURNS: &str = "10";

async fn talk(client: &Client, name: &str) -> Result<Talk, Error> {
    let path = member(Kind::Agent, name);
    let get = async |rest: &str, query: &[(&str, &str)]| {
        client.get(&format!("{path}/{rest}"), query, "application/json").await
    };
    Ok(Talk {
        turns: get("turns", &[("last", LAST_TURNS)]).await?,
        approvals: get("approvals", &[]).await?,
        grants: get("grants", &[]).await?,
    })
}

/// The page.
fn page(kind: Kind, object: &Value, talk: Option<&Talk>, events: &Value, now: Timestamp) -> String {
    let mut page = Page { lines: Vec::new(), now };
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    page.text("Name", &meta["name"]);
    page.map("Labels", &meta["labels"]);
    page.map("Annotations", &without_ours(&meta["annotations"]));
    page.row("Kind", kind.name());
    page.time("Created", &meta["creationTimestamp"]);
    if meta["deletionTimestamp"].is_string() {
        page.time("Deleting since", &meta["deletionTimestamp"]);
    }
    page.owner(&meta["ownerReferences"]);
    page.text("Phase", &status["phase"]);
    match kind.name() {
        "Agent" => {
            page.work(spec);
            page.agent(spec, status);
        }
        "Job" => {
            page.work(spec);
            page.job(spec, status);
        }
        "Sprite" => {
            page.work(spec);
            page.sprite(spec, status);
        }
        // A kind that is not known in detail shows all that it has.
        _ => {
            page.tree("Spec", spec);
            page.tree("Status", &rest_of(status));
        }
    }
    page.text("Message", &status["message"]);
    page.cost(&status["cost"]);
    page.artifacts(&status["artifacts"]);
    page.conditions(&status["conditions"]);
    if let Some(talk) = talk {
        page.talk(talk);
    }
    page.events(events);
    page.finish()
}

/// The annotation in which `apply` keeps what a file said is for machines.
fn without_ours(annotations: &Value) -> Value {
    let mut annotations = annotations.clone();
    if let Some(map) = annotations.as_object_mut() {
        map.remove(super::apply::LAST_APPLIED);
    }
    annotations
}

/// What of a status stands nowhere else on the page.
fn rest_of(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(map) = status.as_object_mut() {
        for shown in ["conditions", "phase", "message", "cost", "artifacts", "observedGeneration"] {
            map.remove(shown);
        }
    }
    status
}

/// A member's name as words: `lastAppliedRevision` is `Last applied revision`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for (n, c) in name.chars().enumerate() {
        match c {
            _ if n == 0 => words.extend(c.to_uppercase()),
            c if c.is_uppercase() => {
                words.push(' ');
                words.extend(c.to_lowercase());
            }
            c => words.push(c),
        }
    }
    words
}

/// A line of the page.
enum Line {
    /// A label and what stands behind it.
    Row(String, String),
    /// A line that stands for itself.
    Plain(String),
}

struct Page {
    lines: Vec<Line>,
    now: Timestamp,
}

impl Page {
    /// What agents, jobs and sprites have in common.
    fn work(&mut self, spec: &Value) {
        self.text("Task", &spec["task"]);
        self.union("Agent", &spec["agent"]);
        self.union("Runtime", &spec["runtime"]);
        self.repo(&spec["repo"]);
        self.text("Instructions", &spec["instructions"]);
        self.text("Permissions", &spec["permissions"]["mode"]);
        self.env(&spec["env"]);
        for (label, member) in [
            ("Timeout", "timeout"),
            ("Idle timeout", "idleTimeout"),
            ("Turn timeout", "turnTimeout"),
            ("Deadline", "deadline"),
        ] {
            self.text(label, &spec[member]);
        }
    }

    fn agent(&mut self, spec: &Value, status: &Value) {
        self.flag("Suspended", &spec["suspend"]);
        self.text("Sprite", &status["sprite"]);
        self.text("Session", &status["sessionId"]);
        let turns = &status["turns"];
        let count = |member: &str| turns[member].as_u64().unwrap_or_default();
        self.row(
            "Turns",
            format!(
                "{} queued, {} running, {} done",
                count("queued"),
                count("running"),
                count("done")
            ),
        );
    }

    fn job(&mut self, spec: &Value, status: &Value) {
        self.number("Retries", &spec["retries"]);
        self.number("Attempts", &status["attempts"]);
        self.text("Sprite", &status["sprite"]);
        self.time("Started", &status["startTime"]);
        self.time("Ended", &status["completionTime"]);
        self.number("Exit code", &status["exitCode"]);
    }

    fn sprite(&mut self, spec: &Value, status: &Value) {
        self.number("Attempt", &spec["attempt"]);
        self.number("Run", &status["run"]);
        self.process(&status["local"]);
        self.machine(&status["fly"]);
        self.time("First heard", &status["helloTime"]);
        self.text("Session", &status["sessionId"]);
        self.text("Stop", &spec["stop"]);
        self.number("Missing bytes", &status["missingBytes"]);
        self.exit(&status["exit"]);
    }

    /// Anything, indented below a label.
    fn tree(&mut self, label: &str, value: &Value) {
        if value.as_object().is_none_or(serde_json::Map::is_empty) {
            return;
        }
        self.lines.push(Line::Plain(format!("{label}:")));
        self.branches(value, 2);
    }

    fn branches(&mut self, value: &Value, indent: usize) {
        let mut branch = |name: &str, value: &Value| match value {
            Value::Object(_) | Value::Array(_) => {
                let is_empty = value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty);
                let none = if is_empty { " <none>" } else { "" };
                self.lines.push(Line::Plain(format!("{:indent$}{name}:{none}", "")));
                self.branches(value, indent + 2);
            }
            value => {
                let text = plain(value);
                for (n, line) in text.lines().enumerate() {
                    let line = out::harmless(line);
                    let front = if n == 0 { format!("{name}: ") } else { "  ".to_owned() };
                    self.lines.push(Line::Plain(format!("{:indent$}{front}{line}", "")));
                }
            }
        };
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    branch(&out::harmless(&words(name)), value);
                }
            }
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    branch(&(n + 1).to_string(), item);
                }
            }
            _ => {}
        }
    }

    fn row(&mut self, label: &str, text: impl Into<String>) {
        self.lines.push(Line::Row(format!("{label}:"), text.into()));
    }

    /// A row for each line of a text; none for no text.
    fn text(&mut self, label: &str, value: &Value) {
        let Some(text) = value.as_str() else { return };
        for (n, line) in text.lines().enumerate() {
            let label = if n == 0 { format!("{label}:") } else { String::new() };
            self.lines.push(Line::Row(label, out::harmless(line)));
        }
    }

    fn number(&mut self, label: &str, value: &Value) {
        if value.is_number() {
            self.row(label, value.to_string());
        }
    }

    fn flag(&mut self, label: &str, value: &Value) {
        if value.as_bool() == Some(true) {
            self.row(label, "yes");
        }
    }

    fn time(&mut self, label: &str, value: &Value) {
        let Some(text) = value.as_str() else { return };
        match text.parse::<Timestamp>() {
            Ok(time) => self.row(label, format!("{time:.0} ({} ago)", age(time, self.now))),
            Err(_) => self.row(label, out::harmless(text)),
        }
    }

    /// Pairs, one a line.
    fn map(&mut self, label: &str, value: &Value) {
        let pairs: Vec<String> = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect();
        if pairs.is_empty() {
            return self.row(label, "<none>");
        }
        self.text(label, &pairs.join("\n").into());
    }

    /// A union as its member's name, with what is set in it.
    fn union(&mut self, label: &str, value: &Value) {
        let Some((name, body)) = value.as_object().and_then(|map| map.iter().next()) else {
            return;
        };
        let set: Vec<String> = body
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect();
        let behind = if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) };
        self.row(label, out::harmless(&format!("{name}{behind}")));
    }

    fn owner(&mut self, owners: &Value) {
        for owner in owners.as_array().into_iter().flatten() {
            if owner["controller"] == true {
                let text = |member: &str| owner[member].as_str().unwrap_or_default();
                self.row("Controlled by", format!("{}/{}", text("kind"), text("name")));
            }
        }
    }

    fn repo(&mut self, repo: &Value) {
        let Some(place) = repo["github"].as_str().or(repo["url"].as_str()) else { return };
        let branch = repo["branch"].as_str().map(|branch| format!(" (branch {branch})"));
        self.row("Repo", out::harmless(&format!("{place}{}", branch.unwrap_or_default())));
    }

    fn env(&mut self, env: &Value) {
        let one = |entry: &Value| {
            let name = entry["name"].as_str().unwrap_or_default();
            match entry["fromSecret"].as_str() {
                Some(secret) => format!("{name} from the secret {secret}"),
                None => format!("{name}={}", entry["value"].as_str().unwrap_or_default()),
            }
        };
        let entries: Vec<String> = env
            .as_array()
            .into_iter()
            .flatten()
            .map(one)
            .map(|line| out::harmless(&line))
            .collect();
        self.text("Environment", &entries.join("\n").into());
    }

    fn process(&mut self, process: &Value) {
        if let Some(pid) = process["pid"].as_u64() {
            let start = process["startTime"].as_u64().unwrap_or_default();
            self.row("Process", format!("{pid} (start time {start})"));
        }
    }

    fn machine(&mut self, machine: &Value) {
        let text = |member: &str| machine[member].as_str().filter(|text| !text.is_empty());
        let Some(id) = text("machineId") else { return };
        let region = text("region").map(|region| format!(" in {region}")).unwrap_or_default();
        let state = text("state").map(|state| format!(", {state}")).unwrap_or_default();
        self.row("Machine", format!("{id}{region}{state}"));
        self.text("Fly app", &machine["app"]);
    }

    fn exit(&mut self, exit: &Value) {
        let Some(reason) = exit["reason"].as_str() else { return };
        let how = match (exit["code"].as_i64(), exit["signal"].as_i64()) {
            (Some(code), _) => format!(", exit code {code}"),
            (None, Some(signal)) => format!(", signal {signal}"),
            (None, None) => String::new(),
        };
        self.row("Exit", format!("{reason}{how}"));
        self.text("Exit message", &exit["message"]);
    }

    fn cost(&mut self, cost: &Value) {
        let count = |member: &str| cost[member].as_u64().unwrap_or_default();
        let (micro, read, written) =
            (count("microUsd"), count("inputTokens"), count("outputTokens"));
        if micro + read + written > 0 {
            let cents = micro.div_ceil(10_000);
            let dollars = format!("${}.{:02}", cents / 100, cents % 100);
            self.row("Cost", format!("{dollars}, {read} tokens read, {written} written"));
        }
    }

    fn artifacts(&mut self, artifacts: &Value) {
        let one = |artifact: &Value| {
            let text = |member: &str| artifact[member].as_str().unwrap_or_default().to_owned();
            out::harmless(&format!("{} ({}) {}", text("name"), text("type"), text("url")))
        };
        let lines: Vec<String> = artifacts.as_array().into_iter().flatten().map(one).collect();
        self.text("Artifacts", &lines.join("\n").into());
    }

    fn conditions(&mut self, conditions: &Value) {
        let now = self.now;
        let rows: Vec<[String; 5]> = conditions
            .as_array()
            .into_iter()
            .flatten()
            .map(|condition| {
                let text =
                    |member: &str| out::harmless(condition[member].as_str().unwrap_or_default());
                let since = condition["lastTransitionTime"].as_str().and_then(|t| t.parse().ok());
                let since = since.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now));
                [text("type"), text("status"), since, text("reason"), text("message")]
            })
            .collect();
        self.table("Conditions", ["Type", "Status", "Age", "Reason", "Message"], &rows);
    }

    /// What an agent was told, asks for, and may do.
    fn talk(&mut self, talk: &Talk) {
        let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
        let text =
            |row: &Value, member: &str| out::harmless(row[member].as_str().unwrap_or_default());
        let now = self.now;
        let turns: Vec<[String; 7]> =
            items(&talk.turns).iter().map(|turn| super::turns::row(turn, now)).collect();
        let head = ["Turn", "State", "Author", "Age", "Took", "Cost", "Message"];
        self.table("Last turns", head, &turns);
        let asks: Vec<[String; 3]> = items(&talk.approvals)
            .iter()
            .filter(|row| row["state"] == "Pending")
            .map(|row| [text(row, "request"), text(row, "tool"), text(row, "title")])
            .collect();
        self.table("Waits for an answer", ["Request", "Tool", "Title"], &asks);
        let grants: Vec<[String; 3]> = items(&talk.grants)
            .iter()
            .map(|row| [text(row, "id"), text(row, "rule"), text(row, "by")])
            .collect();
        self.table("Allowed for good", ["Id", "Rule", "By"], &grants);
    }

    fn events(&mut self, events: &Value) {
        let now = self.now;
        let list = events.as_array().or(events["items"].as_array());
        let rows: Vec<[String; 4]> = list
            .into_iter()
            .flatten()
            .map(|event| {
                let text = |member: &str| out::harmless(event[member].as_str().unwrap_or_default());
                let time = |member: &str| event[member].as_str().and_then(|t| t.parse().ok());
                let ago = |time: Option<Timestamp>| {
                    time.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now))
                };
                let last = ago(time("last"));
                let when = match event["count"].as_u64() {
                    Some(count) if count > 1 => {
                        format!("{last} (x{count} over {})", ago(time("first")))
                    }
                    _ => last,
                };
                [text("type"), text("reason"), when, text("note")]
            })
            .collect();
        self.table("Events", ["Type", "Reason", "Age", "Message"], &rows);
    }

    /// A table below a label.
    fn table<const N: usize>(&mut self, label: &str, head: [&str; N], rows: &[[String; N]]) {
        if rows.is_empty() {
            return self.row(label, "<none>");
        }
        self.lines.push(Line::Plain(format!("{label}:")));
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(head);
        table.add_row(head.map(|word| "-".repeat(word.len())));
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.lines.push(Line::Plain(format!("  {}", line.trim_end())));
        }
    }

    fn finish(self) -> String {
        let widest = self
            .lines
            .iter()
            .map(|line| match line {
                Line::Row(label, _) => label.len(),
                Line::Plain(_) => 0,
            })
            .max()
            .unwrap_or_default();
        let mut text = String::new();
        for line in self.lines {
            let line = match line {
                Line::Row(label, value) => format!("{label:<widest$}  {value}"),
                Line::Plain(line) => line,
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_reads_as_kubectl_would_show_it() {
        let job = json!({
            "kind": "Job",
            "metadata": {
                "name": "nightly", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"team": "a", "tier": "b"},
                "annotations": {"opendispatch.dev/last-applied-configuration": "{}"},
            },
            "spec": {
                "task": "cargo test\n\u{1b}[2Jsecond line",
                "agent": {"claude": {"model": "m"}},
                "runtime": {"local": {"workdir": "/w"}},
                "repo": {"github": "o/r", "branch": "b"},
                "env": [{"name": "A", "value": "1"}, {"name": "B", "fromSecret": "s"}],
                "timeout": "10m", "retries": 2,
            },
            "status": {
                "phase": "Failed", "attempts": 1, "exitCode": 3, "message": "exit code 3",
                "startTime": "2026-01-01T00:00:05Z",
                "cost": {"microUsd": 12_345, "inputTokens": 10, "outputTokens": 2},
                "artifacts": [{"name": "n", "type": "pr", "url": "https://h/1"}],
                "conditions": [{
                    "type": "Failed", "status": "True", "reason": "Failed",
                    "message": "exit code 3", "lastTransitionTime": "2026-01-01T00:09:00Z",
                }],
            },
        });
        let events = json!([
            {"type": "Normal", "reason": "SpriteCreated", "note": "created sprite x", "count": 1,
             "first": "2026-01-01T00:00:01Z", "last": "2026-01-01T00:00:01Z"},
            {"type": "Warning", "reason": "Retry", "note": "again", "count": 3,
             "first": "2026-01-01T00:00:01Z", "last": "2026-01-01T00:05:00Z"},
        ]);
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(page(Kind::Job, &job, None, &events, now));
    }

    #[test]
    fn a_new_sprite_shows_what_is_known_and_no_more() {
        let sprite = json!({
            "kind": "Sprite",
            "metadata": {
                "name": "nightly-abc123-1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "Job", "name": "nightly", "controller": true}],
            },
            "spec": {"agent": {"command": {}}, "runtime": {"local": {}}, "attempt": 1},
            "status": {
                "run": 0, "local": {"bootId": "b", "pid": 7, "startTime": 9},
                "fly": {
                    "app": "my-sprites", "machineId": "d8910f2c94e318", "region": "iad",
                    "state": "started",
                },
            },
        });
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(page(Kind::Sprite, &sprite, None, &json!({"items": []}), now));
    }
}
