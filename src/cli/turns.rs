//! `turns`: a table of what was said to an agent.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    agents::{agent_name, number, turns_path},
    args::TurnsArgs,
    client::{AS_JSON, Client},
    error::Error,
    object::print_json,
    out,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::table::age,
};

/// The widest that a message is shown.
const WIDEST: usize = 50;

/// Runs `turns`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn turns(args: TurnsArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let name = agent_name(&args.name)?;
    let last = args.last.to_string();
    let list = client.get(&turns_path(&name), &[("last", last.as_str())], AS_JSON).await?;
    if args.output.is_some() {
        return print_json(&list).map(|()| 0);
    }
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        out::note(format!("nothing was said to agent {name} yet"));
        return Ok(0);
    }
    out::data(table(items, SystemClock.now()))?;
    Ok(0)
}

/// The table.
fn table(turns: &[Value], now: Timestamp) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["TURN", "STATE", "AUTHOR", "AGE", "TOOK", "COST", "MESSAGE"]);
    table.add_rows(turns.iter().map(|turn| row(turn, now)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A turn's row; `describe` shows it too.
#[must_use]
pub fn row(turn: &Value, now: Timestamp) -> [String; 7] {
    let text = |member: &str| out::harmless(turn[member].as_str().unwrap_or_default());
    [
        number(turn).to_string(),
        state(turn),
        text("author"),
        time(turn, "created").map_or_else(|| "<unknown>".to_owned(), |made| age(made, now)),
        took(turn).unwrap_or_else(|| "<none>".to_owned()),
        cost(turn).unwrap_or_else(|| "<none>".to_owned()),
        one_line(turn["text"].as_str().unwrap_or_default()),
    ]
}

/// Where a turn stands, and that its end was asked for.
fn state(turn: &Value) -> String {
    let state = turn["state"].as_str().unwrap_or_default();
    match turn["cancelledBy"].as_str() {
        Some(_) if !super::agents::has_ended(turn) => format!("{state} (cancelling)"),
        _ => state.to_owned(),
    }
}

fn time(turn: &Value, member: &str) -> Option<Timestamp> {
    turn[member].as_str()?.parse().ok()
}

/// How long a turn took that was begun and has ended.
#[must_use]
pub fn took(turn: &Value) -> Option<String> {
    let (began, ended) = (time(turn, "started")?, time(turn, "ended")?);
    Some(length(began, ended))
}

/// How long something took: short times with their tenths of a second.
fn length(began: Timestamp, ended: Timestamp) -> String {
    let tenths = ended.duration_since(began).as_millis() / 100;
    match tenths {
        ..=0 => "<0.1s".to_owned(),
        1..100 if tenths % 10 != 0 => format!("{}.{}s", tenths / 10, tenths % 10),
        _ => age(began, ended),
    }
}

/// What a turn cost, where that is known.
#[must_use]
pub fn cost(turn: &Value) -> Option<String> {
    let micro = turn["usage"]["costMicroUsd"].as_u64().filter(|micro| *micro > 0)?;
    let cents = micro.div_ceil(10_000);
    Some(format!("${}.{:02}", cents / 100, cents % 100))
}

fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = out::harmless(lines.next().unwrap_or_default());
    if first.chars().count() > WIDEST || lines.next().is_some() {
        let start: String = first.chars().take(WIDEST - 3).collect();
        return format!("{}...", start.trim_end());
    }
    first
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_times_are_told_in_tenths() {
        let took = |millis: i64| {
            let ended = Timestamp::from_millisecond(millis).unwrap();
            length(Timestamp::UNIX_EPOCH, ended)
        };
        let told = [0, 99, 340, 1_000, 9_990, 12_300, 61_000].map(took);
        assert_eq!(told, ["<0.1s", "<0.1s", "0.3s", "1s", "9.9s", "12s", "61s"]);
        assert_eq!(took(-5_000), "<0.1s", "a clock was set back");
    }

    #[test]
    fn turns_read_as_a_table_of_who_said_what_and_how_it_ended() {
        let turns = [
            json!({"n": 1, "state": "Succeeded", "author": "someone", "text": "Run the tests",
                "created": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:01Z",
                "ended": "2026-01-01T00:03:04Z", "usage": {"costMicroUsd": 25_000}}),
            json!({"n": 2, "state": "Running", "author": "api", "text": "and\nfix \u{1b}[2J",
                "created": "2026-01-01T00:01:00Z", "cancelledBy": "someone"}),
            json!({"n": 3, "state": "Queued", "author": "api", "text": "x".repeat(60),
                "created": "2026-01-01T00:04:00Z"}),
        ];
        insta::assert_snapshot!(table(&turns, "2026-01-01T00:05:00Z".parse().unwrap()));
    }
}
