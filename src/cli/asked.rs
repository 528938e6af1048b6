//! What became of the requests in an agent's log. The log holds that something was asked; who
//! answered it, and how, stands in the ledger of approvals.

use serde_json::Value;

use super::{
    client::{AS_JSON, Client, member},
    out,
};
use crate::resource::Kind;

/// The requests of one agent that were shown, and are not answered yet as far as was told.
pub struct Asked<'a> {
    client: &'a Client,
    agent: &'a str,
    rows: Vec<Value>,
    open: Vec<Value>,
}

impl<'a> Asked<'a> {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(client: &'a Client, agent: &'a str) -> Self {
        Self { client, agent, rows: Vec::new(), open: Vec::new() }
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &'a str {
        self.agent
    }

    /// What became of a request that an event tells: a line if it is answered already, else
    /// nothing, and [`news`](Self::news) tells it later.
    pub async fn became(&mut self, event: &Value) -> Option<String> {
        if row(&self.rows, event).is_none_or(is_open) {
            self.read().await;
        }
        let line = row(&self.rows, event).and_then(outcome);
        if line.is_none() {
            self.open.push(event.clone());
        }
        line
    }

    /// Lines that tell what became of requests since they were shown.
    pub async fn news(&mut self) -> Vec<String> {
        if self.open.is_empty() {
            return Vec::new();
        }
        self.read().await;
        let rows = &self.rows;
        let mut lines = Vec::new();
        self.open.retain(|event| match row(rows, event).and_then(outcome) {
            Some(line) => {
                lines.push(line);
                false
            }
            None => true,
        });
        lines
    }

    /// Reads the ledger; where it cannot be read, what is known stays.
    async fn read(&mut self) {
        let path = format!("{}/approvals", member(Kind::Agent, self.agent));
        if let Ok(mut list) = self.client.get(&path, &[], AS_JSON).await
            && let Value::Array(rows) = list["items"].take()
        {
            self.rows = rows;
        }
    }
}

/// The row of the request that an event tells, the newest of that id.
fn row<'a>(rows: &'a [Value], event: &Value) -> Option<&'a Value> {
    let is_it = |row: &&Value| {
        row["request"] == event["request"]
            && row["turn"] == event["turn"]
            && (event["run"].is_null() || row["run"] == event["run"])
    };
    rows.iter().rev().find(is_it)
}

fn is_open(row: &Value) -> bool {
    row["state"] == "Pending"
}

/// What became of a request, in one line; nothing while it waits.
fn outcome(row: &Value) -> Option<String> {
    let text = |member: &str| out::harmless(row[member].as_str().unwrap_or_default());
    let (by, message, rule) = (text("by"), text("message"), text("rule"));
    let because = if message.is_empty() { String::new() } else { format!(": {message}") };
    Some(match row["state"].as_str()? {
        "Pending" => return None,
        "Allowed" if row["grant"].is_string() => format!("allowed by the rule {rule}, {by}"),
        "Allowed" if row["kind"] == "question" => format!("answered by {by}"),
        "Allowed" => format!("allowed by {by}"),
        "Denied" => format!("denied by {by}{because}"),
        "Withdrawn" => "not waited for any more".to_owned(),
        "Expired" => format!("denied{because}"),
        state => state.to_lowercase(),
    })
}

/// What an agent wants to use, in one line: the tool, and what it would do.
#[must_use]
pub fn wish(approval: &Value) -> String {
    let text = |member: &str| out::harmless(approval[member].as_str().unwrap_or_default());
    let (tool, title) = (text("tool"), text("title"));
    match title.strip_prefix(&format!("{tool}:")) {
        Some(_) => title,
        None if title.is_empty() => tool,
        None => format!("{tool}: {title}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_became_of_a_request_is_told_with_who_answered() {
        let became = |state: &str, by: &str, message: &str| {
            let rule = "Bash(touch:*)";
            let grant = by.starts_with("always").then_some("an id");
            let row = json!({"state": state, "by": by, "message": message, "rule": rule,
                "grant": grant});
            outcome(&row)
        };
        assert_eq!(became("Pending", "", ""), None);
        let lines = [
            became("Allowed", "always (ada)", ""),
            became("Allowed", "ada", ""),
            became("Denied", "ada", "too \u{1b}late"),
            became("Expired", "open-dispatch", "nobody answered within an hour"),
            became("Withdrawn", "open-dispatch", ""),
        ];
        insta::assert_snapshot!(lines.map(Option::unwrap_or_default).join("\n"), @r"
        allowed by the rule Bash(touch:*), always (ada)
        allowed by ada
        denied by ada: too \u{1b}late
        denied: nobody answered within an hour
        not waited for any more
        ");
    }

    #[test]
    fn a_request_is_known_by_its_id_its_turn_and_its_run() {
        let rows = [1, 2].map(|run| json!({"request": "r", "turn": "t", "run": run}));
        let event = |run: u64| json!({"request": "r", "turn": "t", "run": run});
        assert_eq!(row(&rows, &event(1)), Some(&rows[0]));
        assert_eq!(row(&rows, &event(3)), None);
        assert_eq!(row(&rows, &json!({"request": "r", "turn": "u", "run": 1})), None);
    }

    #[test]
    fn a_tool_is_named_once() {
        let of = |title: &str| wish(&json!({"tool": "Bash", "title": title}));
        assert_eq!(of("Bash: touch x"), "Bash: touch x");
        assert_eq!(of("touch x"), "Bash: touch x");
        assert_eq!(of(""), "Bash");
    }
}
