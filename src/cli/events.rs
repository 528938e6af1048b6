//! `events`: what happened to objects, oldest first.
//!
//! Events are kept with their objects, each with a count and a last time, so that a watch is a
//! look that is repeated: what is shown again is what has happened again.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    args::{EventType, EventsArgs},
    client::{AS_JSON, Client, member},
    error::Error,
    object::print_json,
    out,
    patience::Patience,
    table::Table,
    target,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::{Kind, table::age},
};

/// Where the server tells all events, in the form that Kubernetes has.
const EVENTS: &str = "/api/v1/events";
/// How long a watch rests between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// One event.
#[derive(Debug, Clone, PartialEq)]
struct Event(Value);

impl Event {
    fn text(&self, member: &str) -> &str {
        self.0[member].as_str().unwrap_or_default()
    }

    /// What it is of, as people write it.
    fn about(&self) -> String {
        let about = |member: &str| self.0["involvedObject"][member].as_str().unwrap_or_default();
        match about("kind").parse::<Kind>() {
            Ok(kind) => format!("{}/{}", kind.singular(), about("name")),
            Err(_) => format!("{}/{}", about("kind"), about("name")),
        }
    }

    /// What makes it the same event when it happens again.
    fn key(&self) -> [String; 4] {
        let text = |member: &str| self.text(member).to_owned();
        [self.about(), text("reason"), text("message"), text("firstTimestamp")]
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
        let items: Vec<Value> = events.into_iter().map(|event| event.0).collect();
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
            let count = event.0["count"].clone();
            shown.insert(event.key(), count.clone()) != Some(count)
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
    let mut query = Vec::new();
    let selector;
    if let Some((kind, name)) = object {
        selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
        query.push(("fieldSelector", selector.as_str()));
    }
    let mut list = client.get(EVENTS, &query, AS_JSON).await?;
    let Value::Array(items) = list["items"].take() else { return Ok(Vec::new()) };
    let is_meant = |event: &Event| {
        types.is_empty() || types.iter().any(|wanted| is(*wanted, event.text("type")))
    };
    if let Some((kind, name)) = object.filter(|_| items.is_empty()) {
        // That it has no events is one thing, and that it is not there, and was not in the last hour,
        // is another.
        client.get(&member(*kind, name), &[], AS_JSON).await?;
    }
    Ok(items.into_iter().map(Event).filter(is_meant).collect())
}

fn is(wanted: EventType, word: &str) -> bool {
    match wanted {
        EventType::Normal => word == "Normal",
        EventType::Warning => word == "Warning",
    }
}

fn table(events: &[Event], now: Timestamp) -> Table {
    let row = |event: &Event| {
        let ago = |member: &str| {
            let time = event.text(member).parse().ok();
            time.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now))
        };
        let last = match event.0["count"].as_u64() {
            Some(count) if count > 1 => {
                format!("{} (x{count} over {})", ago("lastTimestamp"), ago("firstTimestamp"))
            }
            _ => ago("lastTimestamp"),
        };
        vec![
            last,
            event.text("type").to_owned(),
            event.text("reason").to_owned(),
            event.about(),
            event.text("message").to_owned(),
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
        let event = |name: &str, count: u64, message: &str| {
            Event(json!({
                "type": "Warning", "reason": "BackingOff", "message": message, "count": count,
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:00Z",
                "involvedObject": {"kind": "Agent", "name": name},
            }))
        };
        let events = [event("a", 1, "no \u{1b}[2Jshell"), event("long-name", 7, "again")];
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(table(&events, now).lines(true, &[]).0);
    }
}
