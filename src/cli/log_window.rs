//! Which part of a log is wanted: the last lines, what came since a time, the run before the last; and
//! each line with its time. Pure.
//!
//! The server tells a log from its beginning. What is asked for is cut out of that as it comes, and no
//! more of it is held than may be printed yet.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::logs::bytes;

/// Which part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// So many lines, from the end.
    pub tail: Option<usize>,
    /// What was printed at this time or later.
    pub since: Option<Timestamp>,
    /// What the run before the last one printed.
    pub previous: bool,
}

impl Window {
    /// Whether it is all of the log.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// The events that may be printed yet, of all that have come.
#[derive(Debug, Default)]
pub struct Kept {
    window: Window,
    events: VecDeque<Value>,
    /// How many lines end in them.
    ends: usize,
    /// The sprite and run that speak now.
    run: Option<(String, u64)>,
    /// The events of the run before, once another one has spoken.
    before: Option<VecDeque<Value>>,
}

impl Kept {
    /// Nothing yet, of such a part.
    #[must_use]
    pub fn of(window: Window) -> Self {
        Self { window, ..Self::default() }
    }

    /// Takes the next event.
    pub fn take(&mut self, event: Value) {
        let sprite = event["sprite"].as_str().unwrap_or_default().to_owned();
        let run = (sprite, event["run"].as_u64().unwrap_or_default());
        if self.window.previous && self.run.as_ref() != Some(&run) {
            let ended = std::mem::take(&mut self.events);
            self.before = self.run.replace(run).map(|_| ended);
            self.ends = 0;
        }
        let at: Option<Timestamp> = event["at"].as_str().and_then(|at| at.parse().ok());
        if self.window.since.is_some_and(|since| at.is_some_and(|at| at < since)) {
            return;
        }
        self.ends += ends(&event);
        self.events.push_back(event);
        let Some(tail) = self.window.tail else { return };
        // One more than is wanted: the last line may not have ended, and then it begins behind it.
        while let Some(first) = self.events.front()
            && self.ends - ends(first) > tail
        {
            self.ends -= ends(first);
            self.events.pop_front();
        }
    }

    /// What is to be printed; nothing where the run before the last one is meant and there is none.
    #[must_use]
    pub fn done(self) -> Option<Vec<Value>> {
        let events = if self.window.previous { self.before? } else { self.events };
        let mut events = Vec::from(events);
        if let Some(tail) = self.window.tail {
            events = last_lines(events, tail);
        }
        Some(events)
    }
}

/// How many lines end in an event.
fn ends(event: &Value) -> usize {
    match is_text(event) {
        true => bytes(event).iter().filter(|byte| **byte == b'\n').count(),
        false => 0,
    }
}

fn is_text(event: &Value) -> bool {
    matches!(event["type"].as_str(), Some("text" | "log"))
}

/// The last lines of what events print, and what came between them.
fn last_lines(mut events: Vec<Value>, count: usize) -> Vec<Value> {
    if count == 0 {
        return Vec::new();
    }
    // Each end but the very last one divides two lines. An event may print nothing at all.
    let texts = events.iter().rev().filter(|event| is_text(event)).map(bytes);
    let last = texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let mut left = if last.last() == Some(&b'\n') { count + 1 } else { count };
    for at in (0..events.len()).rev() {
        if !is_text(&events[at]) {
            continue;
        }
        let text = bytes(&events[at]);
        for (offset, _) in text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                let mut rest = events.split_off(at);
                let cut = STANDARD.encode(&text[offset + 1..]);
                let (kind, stream, time) =
                    (rest[0]["type"].take(), rest[0]["stream"].take(), rest[0]["at"].take());
                rest[0] = json!({"type": kind, "stream": stream, "at": time, "b64": cut});
                return rest;
            }
        }
    }
    events
}

/// Lines with the time at which each began to be printed in front of it.
#[derive(Debug)]
pub struct Stamps {
    begins: bool,
}

impl Default for Stamps {
    fn default() -> Self {
        Self { begins: true }
    }
}

impl Stamps {
    /// An event whose lines bear its time, if it prints any.
    #[must_use]
    pub fn on(&mut self, event: &Value) -> Value {
        if !is_text(event) {
            return event.clone();
        }
        let at = event["at"].as_str().unwrap_or("-");
        let mut stamped = Vec::new();
        for line in bytes(event).split_inclusive(|byte| *byte == b'\n') {
            if self.begins {
                stamped.extend_from_slice(at.as_bytes());
                stamped.push(b' ');
            }
            stamped.extend_from_slice(line);
            self.begins = line.ends_with(b"\n");
        }
        let mut event = event.clone();
        if let Some(members) = event.as_object_mut() {
            members.remove("text");
            members.insert("b64".to_owned(), STANDARD.encode(stamped).into());
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn log(run: u64, second: u32, text: &str) -> Value {
        let at = format!("2026-01-01T00:00:{second:02}Z");
        json!({"type": "log", "stream": "stdout", "sprite": "a", "run": run, "at": at, "text": text})
    }

    fn printed(events: &[Value]) -> String {
        let bytes: Vec<u8> = events.iter().filter(|it| is_text(it)).flat_map(bytes).collect();
        String::from_utf8(bytes).unwrap()
    }

    fn kept(window: Window, events: &[Value]) -> Option<String> {
        let mut kept = Kept::of(window);
        events.iter().cloned().for_each(|event| kept.take(event));
        kept.done().map(|events| printed(&events))
    }

    #[test]
    fn what_came_since_a_time_is_all_that_is_printed() {
        let since = "2026-01-01T00:00:02Z".parse().ok();
        let events = [log(1, 1, "a\n"), log(1, 2, "b\n"), log(1, 3, "c\n")];
        let window = Window { since, ..Window::default() };
        assert_eq!(kept(window, &events).as_deref(), Some("b\nc\n"));
    }

    #[test]
    fn the_run_before_the_last_one_is_told_alone_and_where_there_is_none_nothing() {
        let window = Window { previous: true, ..Window::default() };
        let events =
            [log(1, 1, "one\n"), log(2, 2, "two\n"), log(2, 3, "2\n"), log(3, 4, "three\n")];
        assert_eq!(kept(window, &events).as_deref(), Some("two\n2\n"));
        assert_eq!(kept(Window { tail: Some(1), ..window }, &events).as_deref(), Some("2\n"));
        assert_eq!(kept(window, &events[..1]), None);
    }

    #[test]
    fn each_line_bears_the_time_at_which_it_began() {
        let mut stamps = Stamps::default();
        let events = [log(1, 1, "a\nb"), log(1, 2, "c\n"), log(1, 3, "\n")];
        let stamped: Vec<Value> = events.iter().map(|event| stamps.on(event)).collect();
        insta::assert_snapshot!(printed(&stamped), @"
        2026-01-01T00:00:01Z a
        2026-01-01T00:00:01Z bc
        2026-01-01T00:00:03Z
        ");
    }

    proptest! {
        #[test]
        fn the_last_lines_are_those_of_the_whole_text_however_it_came(
            pieces in collection::vec("[ab\n]{0,5}", 0..12), tail in 0_usize..6,
        ) {
            let events: Vec<Value> = pieces.iter().map(|piece| log(1, 1, piece)).collect();
            let whole = pieces.concat();
            let lines: Vec<&str> = whole.split_inclusive('\n').collect();
            let last = lines[lines.len().saturating_sub(tail)..].concat();
            let window = Window { tail: Some(tail), ..Window::default() };
            prop_assert_eq!(kept(window, &events), Some(last));
        }
    }
}
