//! Shaping: from what a driver said to events that may be numbered.
//!
//! Every stream of bytes (each log, and the text and thinking of each turn) goes through its own
//! mask and its own seam for UTF-8, and comes out in pieces that fit an event. Everything
//! else that people read is masked as a whole, and cut to what an event holds. So nothing
//! past this point knows a secret, and no event is larger than [`MAX_EVENT_BYTES`].

use std::mem;

use serde_json::Value;

use crate::{
    driver::Said,
    mask::{Masker, Secrets},
    wire::{Chunk, EventBody, MAX_CHUNK_BYTES, MAX_EVENT_BYTES, Stream},
};

/// The longest id that an event carries, in bytes.
const MAX_ID_BYTES: usize = 512;
/// What an event needs beside its body: number, time, braces.
const ENVELOPE_BYTES: usize = 256;
/// To what lengths the texts of an event are cut, one after the other, until it fits.
const CUTS: [usize; 6] = [16 * 1024, 4 * 1024, 1024, 256, 64, 0];

/// A stream of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Channel {
    Log(Stream),
    Text(String),
    Thought(String),
}

impl Channel {
    fn body(&self, chunk: Chunk) -> EventBody {
        match self {
            Self::Log(stream) => EventBody::Log { stream: *stream, chunk },
            Self::Text(turn) => EventBody::Text { turn: turn.clone(), chunk },
            Self::Thought(turn) => EventBody::Thought { turn: turn.clone(), chunk },
        }
    }
}

/// A stream's state: its mask, and the beginning of a character whose end has not come.
struct Seam {
    masker: Masker,
    tail: Vec<u8>,
}

/// Turns what is said into events.
pub struct Shaper {
    secrets: Secrets,
    /// The streams in the order in which they first spoke.
    seams: Vec<(Channel, Seam)>,
}

impl Shaper {
    /// A shaper that masks these secrets.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, seams: Vec::new() }
    }

    /// Takes what was said, in order; bytes of one stream that follow each other are joined.
    pub fn take(&mut self, said: impl IntoIterator<Item = Said>) -> Vec<EventBody> {
        let mut events = Vec::new();
        let mut open: Option<(Channel, Vec<u8>)> = None;
        for said in said {
            let (channel, bytes) = match said {
                Said::Log(stream, bytes) => (Channel::Log(stream), bytes),
                Said::Text(turn, bytes) => (Channel::Text(cut(turn, MAX_ID_BYTES)), bytes),
                Said::Thought(turn, bytes) => (Channel::Thought(cut(turn, MAX_ID_BYTES)), bytes),
                Said::Event(body) => {
                    if let Some((channel, bytes)) = open.take() {
                        self.bytes(channel, &bytes, &mut events);
                    }
                    self.event(body, &mut events);
                    continue;
                }
            };
            match &mut open {
                Some((same, joined)) if *same == channel && joined.len() < MAX_CHUNK_BYTES => {
                    joined.extend(bytes);
                }
                _ => {
                    if let Some((channel, bytes)) = open.replace((channel, bytes)) {
                        self.bytes(channel, &bytes, &mut events);
                    }
                }
            }
        }
        if let Some((channel, bytes)) = open {
            self.bytes(channel, &bytes, &mut events);
        }
        events
    }

    /// Everything was said: gives out what was held back.
    pub fn finish(&mut self) -> Vec<EventBody> {
        let mut events = Vec::new();
        for (channel, seam) in mem::take(&mut self.seams) {
            close(&channel, seam, &mut events);
        }
        events
    }

    fn bytes(&mut self, channel: Channel, bytes: &[u8], events: &mut Vec<EventBody>) {
        let index = self.seams.iter().position(|(open, _)| *open == channel);
        let index = index.unwrap_or_else(|| {
            let masker = Masker::new(self.secrets.clone());
            self.seams.push((channel.clone(), Seam { masker, tail: Vec::new() }));
            self.seams.len() - 1
        });
        let seam = &mut self.seams[index].1;
        let mut ready = mem::take(&mut seam.tail);
        ready.extend(seam.masker.push(bytes));
        let whole = ready.len() - unfinished(&ready);
        seam.tail = ready.split_off(whole);
        emit(&channel, &ready, events);
    }

    fn event(&mut self, mut body: EventBody, events: &mut Vec<EventBody>) {
        // What comes of a turn behind this is read below it, so nothing in front of it may wait.
        let over = match &body {
            EventBody::TurnEnded { turn, .. } => {
                let turn = cut(turn.clone(), MAX_ID_BYTES);
                // A turn that prints is a process of its own: its streams end with it.
                vec![
                    Channel::Log(Stream::Stdout),
                    Channel::Log(Stream::Stderr),
                    Channel::Thought(turn.clone()),
                    Channel::Text(turn),
                ]
            }
            EventBody::Tool { turn, .. }
            | EventBody::ToolEnded { turn, .. }
            | EventBody::Approval { turn, .. } => {
                let turn = cut(turn.clone(), MAX_ID_BYTES);
                vec![Channel::Thought(turn.clone()), Channel::Text(turn)]
            }
            _ => Vec::new(),
        };
        for (channel, seam) in self.seams.extract_if(.., |(open, _)| over.contains(open)) {
            close(&channel, seam, events);
        }
        self.clean(&mut body);
        events.push(body);
    }

    /// Masks what people will read, and cuts what is too long.
    pub fn clean(&self, body: &mut EventBody) {
        for_each_id(body, &mut |id| cut_in_place(id, MAX_ID_BYTES));
        for_each_text(body, &mut |text| *text = self.secrets.mask(text));
        if let EventBody::Approval { input, .. } = body {
            for_each_string(input, &mut |text| *text = self.secrets.mask(text));
        }
        for limit in CUTS {
            if size(body) + ENVELOPE_BYTES <= MAX_EVENT_BYTES {
                return;
            }
            if let EventBody::Approval { input, .. } = body {
                shorten(input, limit);
            }
            if size(body) + ENVELOPE_BYTES > MAX_EVENT_BYTES {
                for_each_text(body, &mut |text| cut_in_place(text, limit));
            }
        }
        if let EventBody::Approval { input, .. } = body {
            *input = Value::String("(too large to show)".into());
        }
    }
}

/// A stream is over: gives out what was held back.
fn close(channel: &Channel, mut seam: Seam, events: &mut Vec<EventBody>) {
    let mut rest = mem::take(&mut seam.tail);
    rest.extend(seam.masker.flush());
    emit(channel, &rest, events);
}

fn size(body: &EventBody) -> usize {
    serde_json::to_vec(body).map_or(usize::MAX / 2, |json| json.len())
}

/// Packs bytes into as many events as they need, without tearing a character.
fn emit(channel: &Channel, bytes: &[u8], events: &mut Vec<EventBody>) {
    let pieces = split(bytes);
    let last = pieces.len().saturating_sub(1);
    for (index, piece) in pieces.into_iter().enumerate() {
        events.push(channel.body(Chunk::pack(piece, index < last)));
    }
}

/// Splits bytes into pieces of at most [`MAX_CHUNK_BYTES`]: between characters, and so that
/// text and bytes that are none stand in pieces of their own.
fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for run in bytes.utf8_chunks() {
        let (valid, invalid) = (run.valid().as_bytes(), run.invalid());
        let mut rest = valid;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(boundary(rest, MAX_CHUNK_BYTES));
            pieces.push(piece);
            rest = tail;
        }
        if !invalid.is_empty() {
            pieces.push(invalid);
        }
    }
    join_invalid(bytes, pieces)
}

/// Joins neighbouring pieces where one is no text: a binary stream shall not become an event
/// for each of its bytes.
fn join_invalid<'a>(bytes: &'a [u8], pieces: Vec<&'a [u8]>) -> Vec<&'a [u8]> {
    let mut joined: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    for piece in pieces {
        let end = at + piece.len();
        let broken = std::str::from_utf8(piece).is_err();
        match joined.last_mut() {
            Some((start, stop, bad))
                if (broken || piece.len() < 64) && *bad && end - *start <= MAX_CHUNK_BYTES =>
            {
                *stop = end;
            }
            _ => joined.push((at, end, broken)),
        }
        at = end;
    }
    joined.into_iter().map(|(start, end, _)| &bytes[start..end]).collect()
}

/// The largest cut of at most `limit` bytes that tears no character of a valid text.
fn boundary(text: &[u8], limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    (0..4).map(|back| limit - back).find(|at| (text[*at] & 0xC0) != 0x80).unwrap_or(limit)
}

/// How many bytes at the end are the beginning of a character whose end has not come.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let tail = &bytes[bytes.len() - back..];
        if tail[0] & 0xC0 == 0x80 {
            continue;
        }
        return match std::str::from_utf8(tail) {
            Err(error) if error.error_len().is_none() => back,
            _ => 0,
        };
    }
    0
}

fn cut(mut text: String, limit: usize) -> String {
    cut_in_place(&mut text, limit);
    text
}

fn cut_in_place(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(boundary(text.as_bytes(), limit));
        if limit >= 64 {
            text.truncate(boundary(text.as_bytes(), limit - 4));
            text.push('…');
        }
    }
}

/// The ids of an event, by which other events and rows speak of it.
fn for_each_id(body: &mut EventBody, change: &mut dyn FnMut(&mut String)) {
    match body {
        EventBody::Text { turn, .. }
        | EventBody::Thought { turn, .. }
        | EventBody::TurnAccepted { turn, .. }
        | EventBody::TurnEnded { turn, .. } => change(turn),
        EventBody::Tool { turn, id, .. } | EventBody::ToolEnded { turn, id, .. } => {
            change(turn);
            change(id);
        }
        EventBody::Approval { turn, request, .. } => {
            change(turn);
            change(request);
        }
        EventBody::ApprovalWithdrawn { request } => change(request),
        EventBody::Session { id } => change(id),
        EventBody::Artifact { kind, .. } => change(kind),
        _ => {}
    }
}

/// The texts of an event that people read.
fn for_each_text(body: &mut EventBody, change: &mut dyn FnMut(&mut String)) {
    match body {
        EventBody::Tool { name, title, .. } => {
            change(name);
            change(title);
        }
        EventBody::TurnEnded { message: Some(message), .. } | EventBody::Retry { message, .. } => {
            change(message);
        }
        EventBody::Approval { tool, title, .. } => {
            change(tool);
            change(title);
        }
        EventBody::Artifact { name, url, .. } => {
            change(name);
            change(url);
        }
        EventBody::Exit(exit) => change(&mut exit.message),
        EventBody::Hello { version, containment, .. } => {
            change(version);
            change(&mut containment.note);
        }
        _ => {}
    }
}

fn for_each_string(value: &mut Value, change: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_string(item, change)),
        Value::Object(members) => {
            let old = mem::take(members);
            for (mut name, mut member) in old {
                change(&mut name);
                for_each_string(&mut member, change);
                members.insert(name, member);
            }
        }
        _ => {}
    }
}

/// Cuts every string of a value to a length, and every list to as many members.
fn shorten(value: &mut Value, limit: usize) {
    match value {
        Value::String(text) => cut_in_place(text, limit),
        Value::Array(items) => {
            items.truncate(limit);
            items.iter_mut().for_each(|item| shorten(item, limit));
        }
        Value::Object(members) => {
            let old = mem::take(members);
            for (mut name, mut member) in old.into_iter().take(limit) {
                cut_in_place(&mut name, limit);
                shorten(&mut member, limit);
                members.insert(name, member);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{ApprovalKind, Event, Exit, ExitReason};

    fn said(pieces: &[Vec<u8>]) -> Vec<EventBody> {
        let mut shaper = Shaper::new(Secrets::new(Vec::<Vec<u8>>::new()));
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(shaper.take([Said::Log(Stream::Stdout, piece.clone())]));
        }
        events.extend(shaper.finish());
        events
    }

    fn chunks(events: &[EventBody]) -> Vec<Chunk> {
        events
            .iter()
            .map(|event| match event {
                EventBody::Log { chunk, .. } => chunk.clone(),
                other => panic!("not a log: {other:?}"),
            })
            .collect()
    }

    fn json_len(body: &EventBody) -> usize {
        let event = Event { seq: u64::MAX / 2, at: crate::ambient::now(), body: body.clone() };
        serde_json::to_vec(&event).unwrap().len()
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
        ) {
            let out: Vec<u8> = chunks(&said(&pieces)).iter().flat_map(Chunk::bytes).collect();
            prop_assert_eq!(out, pieces.concat());
        }

        #[test]
        fn text_stays_text_wherever_it_is_torn(text in "\\PC{0,60}", cuts in prop::collection::vec(1_usize..9, 1..60)) {
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = tail;
            }
            let chunks = chunks(&said(&pieces));
            prop_assert!(chunks.iter().all(|chunk| chunk.b64.is_none()), "{:?}", chunks);
            let out: String = chunks.into_iter().filter_map(|chunk| chunk.text).collect();
            prop_assert_eq!(out, text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_event_is_too_large(
            unit in prop::sample::select(vec!["\u{1}", "a", "\"", "ü", "\u{10FFFF}", "\u{2028}"]),
            ids in 0_usize..100_000, texts in 0_usize..100_000, items in 0_usize..3000,
        ) {
            let id = unit.repeat(ids / unit.len());
            let text = unit.repeat(texts / unit.len());
            let input = serde_json::json!({
                text.clone(): [text.clone(), {"deep": vec![id.clone(); 3]}],
                "many": vec!["item"; items],
            });
            let bodies = [
                EventBody::Approval { turn: id.clone(), request: id.clone(), tool: text.clone(),
                    title: text.clone(), input, kind: ApprovalKind::Tool, rule: None, questions: Vec::new() },
                EventBody::Tool { turn: id.clone(), id: id.clone(), name: text.clone(), title: text.clone() },
                EventBody::Artifact { name: text.clone(), url: text.clone(), kind: id.clone() },
                EventBody::Exit(Exit { code: None, signal: None, reason: ExitReason::Failed, message: text.clone() }),
            ];
            let mut shaper = Shaper::new(Secrets::new(["secret"]));
            let mut events = shaper.take(bodies.into_iter().map(Said::Event));
            events.extend(shaper.take([Said::Text(id, text.into_bytes())]));
            events.extend(shaper.finish());
            for event in &events {
                prop_assert!(json_len(event) <= MAX_EVENT_BYTES, "{} bytes", json_len(event));
            }
        }
    }

    #[test]
    fn a_torn_character_waits_for_its_end_and_what_is_no_text_travels_as_base64() {
        let events =
            said(&[b"a\xE2\x9C".to_vec(), b"\x93b".to_vec(), b"\xFFc".to_vec(), b"\xE2".to_vec()]);
        let chunks = chunks(&events);
        assert_eq!(chunks[0].text.as_deref(), Some("a"));
        assert_eq!(chunks[1].text.as_deref(), Some("✓b"));
        assert!(chunks[2].b64.is_some());
        assert_eq!(chunks.last().unwrap().bytes(), b"\xE2");
    }

    #[test]
    fn long_text_continues_in_parts() {
        let text = "x".repeat(2 * MAX_CHUNK_BYTES + 1);
        let chunks = chunks(&said(&[text.into_bytes()]));
        assert_eq!(chunks.iter().map(|chunk| chunk.more).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn what_a_turn_printed_is_whole_before_its_end_is_told() {
        use crate::wire::{TurnOutcome, Usage};
        let ended = EventBody::TurnEnded {
            turn: "t".into(),
            outcome: TurnOutcome::Succeeded,
            message: None,
            usage: Usage::default(),
        };
        let mut shaper = Shaper::new(Secrets::new(["secret"]));
        // Its last letter may begin a secret, its last byte a character.
        let mut events = shaper.take([
            Said::Log(Stream::Stdout, b"yes".to_vec()),
            Said::Log(Stream::Stderr, b"\xE2".to_vec()),
            Said::Event(ended.clone()),
        ]);
        assert_eq!(events.pop(), Some(ended));
        let printed: Vec<u8> = chunks(&events).iter().flat_map(Chunk::bytes).collect();
        assert_eq!(printed, b"yes\xE2");
        assert_eq!(shaper.finish(), []);
    }

    #[test]
    fn what_an_agent_says_is_whole_before_what_it_does_is_told() {
        let ended = EventBody::ToolEnded { turn: "t".into(), id: "1".into(), failed: true };
        let mut shaper = Shaper::new(Secrets::new(["deadly"]));
        let mut said = shaper.take([Said::Text("t".into(), b"allowed".to_vec())]);
        said.extend(shaper.take([Said::Event(ended.clone())]));
        said.extend(shaper.take([Said::Text("t".into(), b"eadly".to_vec())]));
        let text = |event: &EventBody| match event {
            EventBody::Text { chunk, .. } => chunk.text.clone().unwrap_or_default(),
            _ => "|".to_owned(),
        };
        assert_eq!(said.iter().map(text).collect::<String>(), "allowed|eadly");
        assert_eq!(shaper.finish(), []);
    }

    #[test]
    fn secrets_are_masked_in_bytes_titles_and_inputs() {
        let mut shaper = Shaper::new(Secrets::new(["hunter22"]));
        let mut events = shaper.take([
            Said::Text("t".into(), b"say hunt".to_vec()),
            Said::Text("t".into(), b"er22".to_vec()),
            Said::Event(EventBody::Approval {
                turn: "t".into(),
                request: "r".into(),
                tool: "Bash".into(),
                title: "echo hunter22".into(),
                input: serde_json::json!({"command": ["hunter22"], "hunter22": 1}),
                kind: ApprovalKind::Tool,
                rule: None,
                questions: Vec::new(),
            }),
        ]);
        events.extend(shaper.finish());
        let json = serde_json::to_string(&events).unwrap();
        assert!(!json.contains("hunter22"), "{json}");
        assert_eq!(json.matches("***").count(), 4);
    }
}
