//! `logs`, and the following that `run -f` shares with it.
//!
//! The server numbers what an agent prints, and says it again from any point. So a follower
//! that remembers what it has printed can lose its server any number of times, and still
//! prints each byte once and in order.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use base64::Engine as _;
use serde_json::Value;

use super::{
    agents,
    args::{LogsArgs, Within},
    client::{Client, member},
    error::Error,
    log_window::{Kept, Stamps, Window},
    out,
    patience::Patience,
    target, transcript, watch,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::Kind,
};

/// How often is looked whether something keeps the agent from starting.
const LOOK: Duration = Duration::from_secs(2);

/// What to accept for events.
pub const AS_NDJSON: &str = "application/x-ndjson";

/// Where the agent's standard error goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// To standard output, in the order in which the agent printed.
    Together,
    /// To standard error.
    Apart,
    /// As [`Together`](Self::Together), and a terminal gets every byte as it was printed.
    Raw,
}

/// Runs `logs`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn logs(args: LogsArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, name) = if args.what.contains('/') {
        target::object(&args.what)?
    } else {
        let (kind, object) = agents::named(&client, &args.what).await?;
        (kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    };
    if kind == Kind::Agent && !args.raw {
        if args.timestamps || !window(&args).is_everything() {
            return Err(Error::Usage(
                "--tail, --since, --since-time, --previous and --timestamps are about what was \
                 printed: add --raw; a conversation is cut by --turn, and by turns -n"
                    .to_owned(),
            ));
        }
        let (turn, follow) = (args.turn.as_deref(), args.follow);
        transcript::print(&client, transcript::Wanted { agent: &name, turn, follow }).await?;
        return Ok(0);
    }
    if args.turn.is_some() {
        return Err(Error::Usage("--turn is for agents".to_owned()));
    }
    let streams = if args.raw { Streams::Raw } else { Streams::Together };
    let mut printer = Printer { streams, stamps: args.timestamps.then(Stamps::default) };
    let mut seen = Seen::default();
    let window = window(&args);
    if !window.is_everything() {
        let mut kept = Kept::of(window);
        let keep = &mut |event: Value| {
            kept.take(event);
            Ok(())
        };
        drain(&client, kind, &name, false, &mut seen, keep).await?;
        let Some(events) = kept.done() else {
            let what = target::full_name(kind, &name);
            return Err(Error::Faults(format!("{what} has had no run before the last one")));
        };
        events.iter().try_for_each(|event| printer.print(event))?;
    }
    let all_is_told = window.previous || !window.is_everything() && !args.follow;
    if !all_is_told {
        let follow = args.follow;
        follow_with(&client, kind, &name, follow, &mut seen, &mut printer).await?;
    }
    Ok(0)
}

/// Which part of the log is asked for.
fn window(args: &LogsArgs) -> Window {
    let ago = args.since.map(|Within(span)| {
        let now = SystemClock.now();
        jiff::SignedDuration::try_from(span)
            .ok()
            .and_then(|span| now.checked_sub(span).ok())
            .unwrap_or(jiff::Timestamp::MIN)
    });
    Window {
        tail: args.tail.and_then(|tail| usize::try_from(tail).ok()),
        since: ago.or(args.since_time),
        previous: args.previous,
    }
}

/// Prints what is not seen yet; to the end, where it is followed.
async fn follow_with(
    client: &Client,
    kind: Kind,
    name: &str,
    follow: bool,
    seen: &mut Seen,
    printer: &mut Printer,
) -> Result<(), Error> {
    if !follow {
        let print = &mut |event: Value| printer.print(&event);
        return drain(client, kind, name, false, seen, print).await;
    }
    let mut patience = Patience::new();
    tokio::select! {
        end = follow_output(client, kind, name, seen, printer, &mut patience) => end,
        never = tell_hindrance(client, kind, name) => match never {},
    }
}

/// Prints what an agent prints until it has ended and all is printed, whatever becomes of the
/// server meanwhile.
///
/// # Errors
/// The server's refusal, or that it is away, once patience is over.
pub async fn follow(
    client: &Client,
    kind: Kind,
    name: &str,
    streams: Streams,
    patience: &mut Patience,
) -> Result<(), Error> {
    let (mut seen, mut printer) = (Seen::default(), Printer { streams, stamps: None });
    tokio::select! {
        end = follow_output(client, kind, name, &mut seen, &mut printer, patience) => end,
        never = tell_hindrance(client, kind, name) => match never {},
    }
}

/// Says once why nothing is printed, where something keeps the agent from starting.
async fn tell_hindrance(client: &Client, kind: Kind, name: &str) -> Infallible {
    loop {
        SystemClock.sleep(LOOK).await;
        let Ok(Some(object)) = watch::object(client, kind, name).await else { continue };
        if let Some(line) = hindrance(&object) {
            out::note(format!("{} waits: {line}", target::full_name(kind, name)));
            break;
        }
        if object["status"]["phase"] != "Starting" && object["status"]["phase"] != "Pending" {
            break;
        }
    }
    std::future::pending().await
}

/// What keeps an object, in one line.
fn hindrance(object: &Value) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let is_it = |it: &&Value| it["type"] == "Stalled" && it["status"] == "True";
    let stalled = conditions.iter().find(is_it)?;
    let text = |member: &str| out::harmless(stalled[member].as_str().unwrap_or_default());
    let message = text("message");
    Some(if message.is_empty() { text("reason") } else { message })
}

async fn follow_output(
    client: &Client,
    kind: Kind,
    name: &str,
    seen: &mut Seen,
    printer: &mut Printer,
    patience: &mut Patience,
) -> Result<(), Error> {
    loop {
        let print = &mut |event: Value| printer.print(&event);
        let end = drain(client, kind, name, true, seen, print).await;
        if seen.moved() {
            patience.answered();
        }
        match end {
            // The server breaks a stream off that it ends too early.
            Ok(()) => return Ok(()),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// Hands on what one stream tells anew, to its end.
async fn drain(
    client: &Client,
    kind: Kind,
    name: &str,
    follow: bool,
    seen: &mut Seen,
    hand_on: &mut (dyn FnMut(Value) -> Result<(), Error> + Send),
) -> Result<(), Error> {
    let after = seen.after();
    let mut query = vec![("format", "events")];
    if follow {
        query.push(("follow", "1"));
    }
    query.extend(after.as_deref().map(|after| ("after", after)));
    let mut lines = client.lines(&format!("{}/log", member(kind, name)), &query, AS_NDJSON).await?;
    while let Some(event) = lines.next_json().await? {
        if seen.take(&event) {
            hand_on(event)?;
        }
    }
    Ok(())
}

/// What was printed already.
#[derive(Debug, Default)]
pub struct Seen {
    /// Run and number of the last event, by sprite.
    last: HashMap<String, (u64, u64)>,
    /// The sprite that spoke last.
    newest: Option<String>,
    moved: bool,
}

impl Seen {
    /// Whether an event is new. If so, it counts as printed from now on.
    pub fn take(&mut self, event: &Value) -> bool {
        let sprite = event["sprite"].as_str().unwrap_or_default();
        let number = |member: &str| event[member].as_u64().unwrap_or_default();
        // A gap stands for all numbers up to its end.
        let at = (number("run"), number("seq").max(number("through")));
        if self.last.get(sprite).is_some_and(|last| *last >= at) {
            return false;
        }
        self.last.insert(sprite.to_owned(), at);
        if self.newest.as_deref() != Some(sprite) {
            self.newest = Some(sprite.to_owned());
        }
        self.moved = true;
        true
    }

    /// Where to go on. Sprites of one owner speak one after the other, so that the place in the
    /// newest one's output says it for all.
    #[must_use]
    pub fn after(&self) -> Option<String> {
        let sprite = self.newest.as_deref()?;
        let (run, seq) = self.last.get(sprite)?;
        Some(format!("{sprite}/{run}.{seq}"))
    }

    /// Whether there was something new since the last time that this was asked.
    pub fn moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}

/// Prints events, as they are or each line with its time.
struct Printer {
    streams: Streams,
    stamps: Option<Stamps>,
}

impl Printer {
    fn print(&mut self, event: &Value) -> Result<(), Error> {
        match &mut self.stamps {
            None => print(event, self.streams),
            Some(stamps) => print(&stamps.on(event), self.streams),
        }
    }
}

/// Prints one event.
fn print(event: &Value, streams: Streams) -> Result<(), Error> {
    match event["type"].as_str() {
        Some("text" | "log") => {
            let is_theirs = event["type"] == "text" || event["stream"] == "stdout";
            let to_output = is_theirs || (event["stream"] == "stderr" && streams != Streams::Apart);
            let bytes = bytes(event);
            match (to_output, streams) {
                (true, Streams::Raw) => out::data(bytes),
                (true, _) => out::theirs(&bytes),
                (false, Streams::Raw) => {
                    out::error_bytes(&bytes);
                    Ok(())
                }
                (false, _) => {
                    out::error_theirs(&bytes);
                    Ok(())
                }
            }
        }
        Some("gap") => {
            let bytes = event["bytes"].as_u64().unwrap_or_default();
            out::note(format!("[{bytes} bytes are missing here: there was no room to keep them]"));
            Ok(())
        }
        Some("tool") => {
            let title = event["title"].as_str().unwrap_or_default();
            out::hint(format!(
                "[{}] {}",
                out::harmless(event["name"].as_str().unwrap_or("tool")),
                out::harmless(title)
            ));
            Ok(())
        }
        Some("retry") => {
            let message = event["message"].as_str().unwrap_or_default();
            out::note(format!(
                "[the model's API failed, trying again: {}]",
                out::harmless(message)
            ));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The bytes of a chunk: text as it is, anything else as base64.
#[must_use]
pub fn bytes(event: &Value) -> Vec<u8> {
    match (event["text"].as_str(), event["b64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(b64)) => {
            base64::engine::general_purpose::STANDARD.decode(b64).unwrap_or_default()
        }
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_keeps_an_agent_from_starting_is_told() {
        let of = |status: &str, message: &str| {
            hindrance(&json!({"status": {"conditions": [{
                "type": "Stalled", "status": status, "reason": "SecretMissing", "message": message,
            }]}}))
        };
        assert_eq!(of("True", "no secret x").as_deref(), Some("no secret x"));
        assert_eq!(of("True", "").as_deref(), Some("SecretMissing"));
        assert_eq!(of("False", ""), None);
    }

    #[test]
    fn what_comes_again_is_not_printed_again() {
        let event = |run: u64, seq: u64| json!({"sprite": "a", "run": run, "seq": seq});
        let mut seen = Seen::default();
        let new = [(1, 1), (1, 2), (1, 1), (1, 2), (1, 3), (2, 1), (1, 9), (2, 2)]
            .map(|(run, seq)| seen.take(&event(run, seq)));
        assert_eq!(new, [true, true, false, false, true, true, false, true]);
    }

    #[test]
    fn a_gap_stands_for_all_numbers_up_to_its_end() {
        let mut seen = Seen::default();
        assert!(seen.take(&json!({"sprite": "a", "run": 1, "seq": 3, "through": 7})));
        assert!(!seen.take(&json!({"sprite": "a", "run": 1, "seq": 7})));
        assert!(seen.take(&json!({"sprite": "a", "run": 1, "seq": 8})));
        assert_eq!(seen.after().as_deref(), Some("a/1.8"));
    }

    #[test]
    fn it_goes_on_behind_the_sprite_that_spoke_last() {
        let mut seen = Seen::default();
        assert_eq!(seen.after(), None);
        seen.take(&json!({"sprite": "a-1", "run": 1, "seq": 3}));
        seen.take(&json!({"sprite": "a-2", "run": 1, "seq": 1}));
        assert_eq!(seen.after().as_deref(), Some("a-2/1.1"));
        assert!(!seen.take(&json!({"sprite": "a-1", "run": 1, "seq": 3})));
        assert_eq!(seen.after().as_deref(), Some("a-2/1.1"));
    }

    #[test]
    fn bytes_that_are_no_text_come_out_as_they_were() {
        assert_eq!(bytes(&json!({"text": "é\n"})), "é\n".as_bytes());
        assert_eq!(bytes(&json!({"b64": "/wAK"})), [0xff, 0x00, 0x0a]);
        assert!(bytes(&json!({})).is_empty());
    }
}
