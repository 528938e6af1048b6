//! What is to stand in a delivery's messages, as far as it was read.

use std::{collections::VecDeque, time::Duration};

use sprite_reporter::wire::EventBody;

use super::{Outbox, PAGE, PIECES};
use crate::{
    chat::{
        platform::{Action, Capabilities, Markup},
        replies,
        split::{Piece, Splitter},
        transcript::{Transcript, asked_line},
    },
    reconcile::Error,
    store::{Approval, ApprovalState, Cursor, OutputRow},
};

/// A transcript as far as it was read.
pub(super) struct Rendering {
    pub(super) transcript: Transcript,
    splitter: Splitter,
    /// The sprite that is read, and how far.
    pub(super) sprite: Option<String>,
    pub(super) cursor: Cursor,
    /// Whether all that belongs to it was read.
    pub(super) is_read: bool,
    /// The questions of which it is not told yet what became of them, in their order.
    asked: Vec<Asked>,
    /// Complete pieces that do not stand in the conversation yet, each with a place in the output
    /// that it shows or those in front of it.
    ready: VecDeque<(String, Place)>,
    /// The number of the first message that this makes; those in front of it were made by another.
    begins: usize,
    /// The number of the first of them.
    first: usize,
    /// The number of the message that is still edited: those in front of it are complete.
    standing: usize,
}

/// A place in the output of a sprite.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) sprite: Option<String>,
    pub(super) cursor: Cursor,
}

/// A question that waits.
struct Asked {
    /// The place of the question itself.
    at: Cursor,
    request: String,
    /// The question, for where the transcript does not show it before its end.
    line: String,
}

/// What is to stand in the messages from number `first` on.
pub(super) struct Frames {
    pub(super) first: usize,
    pub(super) texts: Vec<String>,
    /// The buttons below the last of them.
    pub(super) actions: Vec<Action>,
    /// Whether nothing more will come.
    pub(super) ended: bool,
    /// When to look again, where time decides.
    pub(super) again: Option<Duration>,
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Everything was read that there is at the moment.
    AtEnd,
    /// What belongs to it ends here.
    Here,
    /// Enough waits to be shown.
    Full,
}

/// A text that stays as it is.
pub(super) fn fixed(first: usize, text: &str, capabilities: &Capabilities) -> Frames {
    let text = match capabilities.markup {
        Markup::Plain => replies::plain(text),
        Markup::Markdown => text.to_owned(),
    };
    let splitter = Splitter::new(capabilities.max_message, capabilities.unit, capabilities.markup);
    let texts = splitter.preview(&text).into_iter().map(|piece| piece.text).collect();
    Frames { first, texts, actions: Vec::new(), ended: true, again: None }
}

impl Rendering {
    pub(super) fn new(transcript: Transcript, capabilities: &Capabilities) -> Self {
        Self {
            transcript,
            splitter: Splitter::new(
                capabilities.max_message,
                capabilities.unit,
                capabilities.markup,
            ),
            sprite: None,
            cursor: Cursor::default(),
            is_read: false,
            asked: Vec::new(),
            ready: VecDeque::new(),
            begins: 0,
            first: 0,
            standing: 0,
        }
    }

    pub(super) fn append(&mut self, text: &str) {
        for piece in self.splitter.push(text) {
            self.ready.push_back((piece.text, self.read_to()));
        }
        self.stand(self.standing);
    }

    /// Begins with a message; what stood in it and before is not made again.
    pub(super) fn begin_at(&mut self, index: usize) {
        self.ready.clear();
        (self.begins, self.first) = (index, index);
        self.stand(index);
    }

    /// The number of the first message that this makes.
    pub(super) fn begins(&self) -> usize {
        self.begins
    }

    /// How far all is read.
    fn read_to(&self) -> Place {
        Place { sprite: self.sprite.clone(), cursor: self.cursor }
    }

    /// How far all is shown once a message stands.
    pub(super) fn shown_by(&self, index: usize) -> Place {
        let piece = index.checked_sub(self.first).and_then(|at| self.ready.get(at));
        piece.map_or_else(|| self.read_to(), |(_, place)| place.clone())
    }

    /// Forgets the pieces in front of a message: they stand in the conversation, complete.
    pub(super) fn stand(&mut self, index: usize) {
        self.standing = index;
        while self.first < index && self.ready.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Whether there is nothing to be shown yet.
    pub(super) fn is_blank(&self) -> bool {
        self.first == 0 && self.ready.is_empty() && self.splitter.current().text.is_empty()
    }

    /// Begins with another sprite, or with another place in its output.
    pub(super) fn turn_to(&mut self, sprite: &str, from: Cursor) {
        self.sprite = Some(sprite.to_owned());
        self.cursor = from;
        self.asked.clear();
    }

    /// What is to be shown, with nothing behind it yet. `now` is what stands at the end for the
    /// moment, as far as it fits there.
    pub(super) fn growing(&self, now: &str, again: Option<Duration>) -> Frames {
        let lines = self.asked.iter().map(|asked| asked.line.as_str());
        let asked: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let asked = asked.join("\n");
        let now = if asked.is_empty() { now } else { &asked };
        let mut texts: Vec<String> = self.ready.iter().map(|(text, _)| text.clone()).collect();
        // A second message would stay when this goes.
        let open: Vec<Piece> = self.splitter.preview(now);
        texts.extend(open.into_iter().take(1).map(|piece| piece.text));
        if self.first == self.begins && texts.len() == 1 && texts[0].is_empty() {
            texts.clear();
        }
        Frames { first: self.first, texts, actions: Vec::new(), ended: false, again }
    }

    /// What is to be shown, with its end.
    pub(super) fn whole(&self, end: &str) -> Frames {
        let mut texts: Vec<String> = self.ready.iter().map(|(text, _)| text.clone()).collect();
        texts.extend(self.splitter.preview(end).into_iter().map(|piece| piece.text));
        Frames { first: self.first, texts, actions: Vec::new(), ended: true, again: None }
    }

    /// Takes one event over.
    fn take(&mut self, row: &OutputRow) {
        let text = self.transcript.push(row);
        self.append(&text);
        self.cursor = row.cursor();
        let EventBody::Approval { request, .. } = &row.event.body else { return };
        if !self.transcript.concerns(&row.event.body) {
            return;
        }
        // Only a job's transcript may be silent until its end.
        let line = match text.is_empty() {
            true => asked_line(self.transcript.name(), false, &row.event.body),
            false => String::new(),
        };
        self.asked.push(Asked { at: row.cursor(), request: request.clone(), line });
    }

    /// Tells what became of the questions that were resolved when no more than this was held.
    fn tell_resolved(&mut self, ledger: &[Approval], upto: Cursor) {
        let mut told: Vec<(Cursor, Option<&Approval>)> = Vec::new();
        self.asked.retain(|asked| {
            let row = asked.row(ledger);
            let place = match row {
                Some(row) if row.state == ApprovalState::Pending => return true,
                // One that was resolved without that place being kept: right behind the question.
                row => row.and_then(|row| row.resolved).unwrap_or(asked.at).max(asked.at),
            };
            if place <= upto {
                told.push((place, row));
            }
            place > upto
        });
        told.sort_by_key(|(place, _)| *place);
        for row in told.into_iter().filter_map(|(_, row)| row) {
            let text = self.transcript.resolved(row);
            self.append(&text);
        }
    }
}

impl Asked {
    fn row<'a>(&self, ledger: &'a [Approval]) -> Option<&'a Approval> {
        ledger.iter().find(|row| row.run == self.at.run && row.request == self.request)
    }
}

impl Outbox {
    /// Reads a sprite's output on, from where it stands, as far as memory allows. `until` says
    /// behind which event nothing more belongs to this.
    ///
    /// What became of a question stands behind all that was held when it was resolved. Output is
    /// read before the ledger: whatever waits there still is resolved behind what was read.
    pub(super) async fn read(
        &self,
        rendering: &mut Rendering,
        sprite: &str,
        until: impl Fn(&OutputRow) -> bool,
    ) -> Result<Stopped, Error> {
        loop {
            if rendering.ready.len() >= PIECES {
                return Ok(Stopped::Full);
            }
            let rows = self.store.output(sprite, rendering.cursor, PAGE).await?;
            let is_question =
                |row: &OutputRow| matches!(row.event.body, EventBody::Approval { .. });
            let ledger = match rendering.asked.is_empty() && !rows.iter().any(is_question) {
                true => Vec::new(),
                false => self.store.approvals(sprite).await?,
            };
            for row in &rows {
                // All that lies in front of this event was held, and no more.
                let place = row.cursor();
                let before = Cursor { seq: place.seq.saturating_sub(1), ..place };
                rendering.tell_resolved(&ledger, before);
                rendering.take(row);
                if until(row) {
                    return Ok(Stopped::Here);
                }
            }
            rendering.tell_resolved(&ledger, rendering.cursor);
            if rows.is_empty() {
                return Ok(Stopped::AtEnd);
            }
        }
    }

    /// Nothing more is read of a sprite: tells what became of the questions that are left. Those
    /// that wait will get no answer any more; their controller will say so, too.
    pub(super) async fn end_questions(
        &self,
        rendering: &mut Rendering,
        sprite: &str,
    ) -> Result<(), Error> {
        if rendering.asked.is_empty() {
            return Ok(());
        }
        let mut ledger = self.store.approvals(sprite).await?;
        for row in ledger.iter_mut().filter(|row| row.state == ApprovalState::Pending) {
            row.state = ApprovalState::Withdrawn;
        }
        rendering.tell_resolved(&ledger, Cursor { run: u32::MAX, seq: u64::MAX });
        Ok(())
    }
}
