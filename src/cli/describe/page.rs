//! The page's lines: what of an object stands where, and how it lines up. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::Talk;
use crate::{
    cli::{out, turns},
    resource::table::age,
};

/// A line of the page.
enum Line {
    /// A label and what stands behind it.
    Row(String, String),
    /// A line that stands for itself.
    Plain(String),
}

/// A page as it grows.
pub(super) struct Page {
    lines: Vec<Line>,
    now: Timestamp,
}

impl Page {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { lines: Vec::new(), now }
    }

    /// What agents, jobs and sprites have in common.
    pub(super) fn work(&mut self, spec: &Value) {
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

    pub(super) fn agent(&mut self, spec: &Value, status: &Value) {
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

    pub(super) fn job(&mut self, spec: &Value, status: &Value) {
        self.number("Retries", &spec["retries"]);
        self.number("Attempts", &status["attempts"]);
        self.text("Sprite", &status["sprite"]);
        self.time("Started", &status["startTime"]);
        self.time("Ended", &status["completionTime"]);
        self.number("Exit code", &status["exitCode"]);
    }

    pub(super) fn sprite(&mut self, spec: &Value, status: &Value) {
        self.number("Attempt", &spec["attempt"]);
        self.number("Run", &status["run"]);
        self.process(&status["local"]);
        self.machine(&status["fly"], holds(&status["conditions"], "Gone"));
        self.time("First heard", &status["helloTime"]);
        self.text("Session", &status["sessionId"]);
        self.text("Stop", &spec["stop"]);
        self.number("Missing bytes", &status["missingBytes"]);
        self.exit(&status["exit"]);
    }

    /// Anything, indented below a label.
    pub(super) fn tree(&mut self, label: &str, value: &Value) {
        if value.as_object().is_none_or(serde_json::Map::is_empty) {
            return;
        }
        self.lines.push(Line::Plain(format!("{label}:")));
        self.branches(value, 2);
    }

    pub(super) fn branches(&mut self, value: &Value, indent: usize) {
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

    pub(super) fn row(&mut self, label: &str, text: impl Into<String>) {
        self.lines.push(Line::Row(format!("{label}:"), text.into()));
    }

    /// A row for each line of a text; none for no text.
    pub(super) fn text(&mut self, label: &str, value: &Value) {
        let Some(text) = value.as_str() else { return };
        for (n, line) in text.lines().enumerate() {
            let label = if n == 0 { format!("{label}:") } else { String::new() };
            self.lines.push(Line::Row(label, out::harmless(line)));
        }
    }

    pub(super) fn number(&mut self, label: &str, value: &Value) {
        if value.is_number() {
            self.row(label, value.to_string());
        }
    }

    pub(super) fn flag(&mut self, label: &str, value: &Value) {
        if value.as_bool() == Some(true) {
            self.row(label, "yes");
        }
    }

    pub(super) fn time(&mut self, label: &str, value: &Value) {
        let Some(text) = value.as_str() else { return };
        match text.parse::<Timestamp>() {
            Ok(time) => self.row(label, format!("{time:.0} ({} ago)", age(time, self.now))),
            Err(_) => self.row(label, out::harmless(text)),
        }
    }

    /// Pairs, one a line.
    pub(super) fn map(&mut self, label: &str, value: &Value) {
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
    pub(super) fn union(&mut self, label: &str, value: &Value) {
        let Some((name, body)) = value.as_object().and_then(|map| map.iter().next()) else {
            return;
        };
        let set: Vec<String> = body
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| match guest(value) {
                Some(size) => format!("{key}={size}"),
                None => format!("{key}={}", plain(value)),
            })
            .collect();
        let behind = if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) };
        self.row(label, out::harmless(&format!("{name}{behind}")));
    }

    pub(super) fn owner(&mut self, owners: &Value) {
        for owner in owners.as_array().into_iter().flatten() {
            if owner["controller"] == true {
                let text = |member: &str| owner[member].as_str().unwrap_or_default();
                self.row("Controlled by", format!("{}/{}", text("kind"), text("name")));
            }
        }
    }

    pub(super) fn repo(&mut self, repo: &Value) {
        let Some(place) = repo["github"].as_str().or(repo["url"].as_str()) else { return };
        let branch = repo["branch"].as_str().map(|branch| format!(" (branch {branch})"));
        self.row("Repo", out::harmless(&format!("{place}{}", branch.unwrap_or_default())));
    }

    pub(super) fn env(&mut self, env: &Value) {
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

    pub(super) fn process(&mut self, process: &Value) {
        if let Some(pid) = process["pid"].as_u64() {
            let start = process["startTime"].as_u64().unwrap_or_default();
            self.row("Process", format!("{pid} (start time {start})"));
        }
    }

    /// A machine, which is looked at now and then: what is said of it is what was seen last.
    pub(super) fn machine(&mut self, machine: &Value, gone: bool) {
        let text = |member: &str| machine[member].as_str().filter(|text| !text.is_empty());
        let Some(id) = text("machineId") else { return };
        let region = text("region").map(|region| format!(" in {region}")).unwrap_or_default();
        let state = match text("state") {
            _ if gone => ", gone".to_owned(),
            Some(state) => format!(", last seen {state}"),
            None => String::new(),
        };
        self.row("Machine", format!("{id}{region}{state}"));
        self.text("Fly app", &machine["app"]);
    }

    pub(super) fn exit(&mut self, exit: &Value) {
        let Some(reason) = exit["reason"].as_str() else { return };
        let how = match (exit["code"].as_i64(), exit["signal"].as_i64()) {
            (Some(code), _) => format!(", exit code {code}"),
            (None, Some(signal)) => format!(", signal {signal}"),
            (None, None) => String::new(),
        };
        self.row("Exit", format!("{reason}{how}"));
        self.text("Exit message", &exit["message"]);
    }

    pub(super) fn cost(&mut self, cost: &Value) {
        let count = |member: &str| cost[member].as_u64().unwrap_or_default();
        let (micro, read, written) =
            (count("microUsd"), count("inputTokens"), count("outputTokens"));
        if micro + read + written > 0 {
            let cents = micro.div_ceil(10_000);
            let dollars = format!("${}.{:02}", cents / 100, cents % 100);
            self.row("Cost", format!("{dollars}, {read} tokens read, {written} written"));
        }
    }

    pub(super) fn artifacts(&mut self, artifacts: &Value) {
        let one = |artifact: &Value| {
            let text = |member: &str| artifact[member].as_str().unwrap_or_default().to_owned();
            out::harmless(&format!("{} ({}) {}", text("name"), text("type"), text("url")))
        };
        let lines: Vec<String> = artifacts.as_array().into_iter().flatten().map(one).collect();
        self.text("Artifacts", &lines.join("\n").into());
    }

    /// What a source owns: each object with its file and line, and what is laid over it.
    pub(super) fn inventory(&mut self, inventory: &Value) {
        const MOST: usize = 100;
        let Some(items) = inventory["items"].as_array() else { return };
        let one = |row: &Value| {
            let text = |member: &str| row[member].as_str().unwrap_or_default();
            let over: Vec<&str> = row["overrides"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let over = match over.as_slice() {
                [] => String::new(),
                names => format!(", under override/{}", names.join(", override/")),
            };
            let leaving = if row["leaving"] == true { ", on its way out" } else { "" };
            let (kind, name) = (text("kind").to_lowercase(), text("name"));
            format!("{kind}/{name}  {}:{}{over}{leaving}", text("file"), row["line"])
        };
        let mut lines: Vec<String> = items.iter().take(MOST).map(one).collect();
        if items.len() > MOST {
            lines.push(format!("and {} more", items.len() - MOST));
        }
        if lines.is_empty() {
            lines.push("<none>".to_owned());
        }
        self.text("Declares", &lines.join("\n").into());
    }

    pub(super) fn conditions(&mut self, conditions: &Value) {
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
    pub(super) fn talk(&mut self, talk: &Talk) {
        let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
        let text =
            |row: &Value, member: &str| out::harmless(row[member].as_str().unwrap_or_default());
        let now = self.now;
        let turns: Vec<[String; 7]> =
            items(&talk.turns).iter().map(|turn| turns::row(turn, now)).collect();
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

    pub(super) fn events(&mut self, events: &Value) {
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
    pub(super) fn table<const N: usize>(
        &mut self,
        label: &str,
        head: [&str; N],
        rows: &[[String; N]],
    ) {
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

    pub(super) fn finish(self) -> String {
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

/// A machine's size in words, if that is what it is.
fn guest(value: &Value) -> Option<String> {
    let (kind, cpus) = (value["cpuKind"].as_str()?, value["cpus"].as_u64()?);
    let memory = value["memoryMb"].as_u64()?;
    let plural = if cpus == 1 { "" } else { "s" };
    Some(format!("{cpus} {kind} CPU{plural} with {memory} MB"))
}

/// Whether a condition of that type is true.
fn holds(conditions: &Value, kind: &str) -> bool {
    let all = conditions.as_array().into_iter().flatten();
    all.into_iter().any(|it| it["type"] == kind && it["status"] == "True")
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
