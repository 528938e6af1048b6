//! `events`: what happened to objects, oldest first.
//!
//! Events are kept with their objects, each with a count and a last time, so that a watch is a
//! look that is repeated: what is shown again is what has happened again.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    args::{EventType, EventsArgs},
    client::{AS_JSON, Client, member},
    error::Error,
    object::print_json,
    out,
    patience::Patience,
    select,
    table::Table,
    target,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::{Kind, table::age},
};

/// How many objects are asked for at once.
const AT_ONCE: usize = 8;
/// How long a watch rests between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// One event, and what it is of.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    kind: Kind,
    name: String,
    row: Value,
}

impl Event {
    fn text(&self, member: &str) -> &str {
        self.row[member].as_str().unwrap_or_default()
    }

    /// What makes it the same event when it happens again.
    fn key(&self) -> (Kind, String, String, String, String) {
        let text = |member: &str| self.text(member).to_owned();
        (self.kind, self.name.clone(), text("reason"), text("note"), text("first"))
    }
}

/// Runs `events`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn events(args: EventsArgs) -> Result<u8, Error> {
    let object = args.what_for.as_deref().map(target::object).transpose()?;
    let client = Client::find(&args.server)?;
    let mut events = look(&client, object.as_ref(), &args.types).await?;
    if args.output.is_some() {
        let items: Vec<Value> = events.iter().map(as_json).collect();
        print_json(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
        return Ok(0);
    }
    if events.is_empty() && !args.watch {
        out::note("No events found");
        return Ok(0);
    }
    let mut header = !args.no_headers;
    let mut widths = Vec::new();
    let mut shown = HashMap::new();
    let mut patience = Patience::new();
    loop {
        events.retain(|event| {
            shown.insert(event.key(), event.row["count"].clone())
                != Some(event.row["count"].clone())
        });
        if !events.is_empty() {
            let (text, wider) = table(&events, SystemClock.now()).lines(header, &widths);
            (header, widths) = (false, wider);
            out::data(text)?;
        }
        if !args.watch {
            return Ok(0);
        }
        SystemClock.sleep(PAUSE).await;
        events = loop {
            match look(&client, object.as_ref(), &args.types).await {
                Ok(events) => break events,
                // Its history is shown; it may come again.
                Err(error) if error.is_not_found() => break Vec::new(),
                Err(error) => patience.wait(error).await?,
            }
        };
        patience.answered();
    }
}

/// All events that are meant, oldest first.
async fn look(
    client: &Client,
    object: Option<&(Kind, String)>,
    types: &[EventType],
) -> Result<Vec<Event>, Error> {
    let objects = match object {
        Some(object) => vec![object.clone()],
        None => select::list(client, &Kind::ALL, None).await?,
    };
    let named = object.is_some();
    let mut events: Vec<Event> = stream::iter(objects)
        .map(|(kind, name)| of(client, kind, name, named))
        .buffered(AT_ONCE)
        .try_concat()
        .await?;
    events.retain(|event| types.is_empty() || types.iter().any(|it| is(*it, event.text("type"))));
    events.sort_by(|a, b| (a.text("last"), &a.name).cmp(&(b.text("last"), &b.name)));
    Ok(events)
}

fn is(wanted: EventType, word: &str) -> bool {
    match wanted {
        EventType::Normal => word == "Normal",
        EventType::Warning => word == "Warning",
    }
}

/// The events of one object; one that went meanwhile has none, unless it was named.
async fn of(client: &Client, kind: Kind, name: String, named: bool) -> Result<Vec<Event>, Error> {
    let rows = match client.get(&format!("{}/events", member(kind, &name)), &[], AS_JSON).await {
        Ok(rows) => rows,
        Err(error) if error.is_not_found() && !named => Value::Null,
        Err(error) => return Err(error),
    };
    let rows = rows.as_array().or(rows["items"].as_array()).cloned().unwrap_or_default();
    Ok(rows.into_iter().map(|row| Event { kind, name: name.clone(), row }).collect())
}

fn as_json(event: &Event) -> Value {
    let mut json = event.row.clone();
    json["object"] = json!({"kind": event.kind.name(), "name": event.name});
    json
}

fn table(events: &[Event], now: Timestamp) -> Table {
    let row = |event: &Event| {
        let ago = |member: &str| {
            let time = event.text(member).parse().ok();
            time.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now))
        };
        let last = match event.row["count"].as_u64() {
            Some(count) if count > 1 => format!("{} (x{count} over {})", ago("last"), ago("first")),
            _ => ago("last"),
        };
        vec![
            last,
            event.text("type").to_owned(),
            event.text("reason").to_owned(),
            format!("{}/{}", event.kind.singular(), event.name),
            event.text("note").to_owned(),
        ]
    };
    let head = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec();
    Table::of(head, events.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_as_a_table_of_what_happened_to_what() {
        let event = |name: &str, count: u64, note: &str| Event {
            kind: Kind::Agent,
            name: name.to_owned(),
            row: json!({
                "type": "Warning", "reason": "BackingOff", "note": note, "count": count,
                "first": "2026-01-01T00:00:00Z", "last": "2026-01-01T00:09:00Z",
            }),
        };
        let events = [event("a", 1, "no \u{1b}[2Jshell"), event("long-name", 7, "again")];
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(table(&events, now).lines(true, &[]).0);
    }
}
