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
    /// The question behind which was not read on, because nobody has answered it.
    asked: Option<Asked>,
    /// Complete pieces that do not stand in the conversation yet.
    ready: VecDeque<String>,
    /// The number of the first of them.
    first: usize,
    /// The number of the message that is still edited: those in front of it are complete.
    standing: usize,
}

/// A question that waits.
struct Asked {
    run: u32,
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
    /// A question has no answer.
    Asked,
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
            asked: None,
            ready: VecDeque::new(),
            first: 0,
            standing: 0,
        }
    }

    pub(super) fn append(&mut self, text: &str) {
        self.ready.extend(self.splitter.push(text).into_iter().map(|piece| piece.text));
        self.stand(self.standing);
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
        self.asked = None;
    }

    /// What is to be shown, with nothing behind it yet. `now` is what stands at the end for the
    /// moment, as far as it fits there.
    pub(super) fn growing(&self, now: &str, again: Option<Duration>) -> Frames {
        let asked = self.asked.as_ref().map(|asked| asked.line.as_str()).unwrap_or_default();
        let now = if asked.is_empty() { now } else { asked };
        let mut texts: Vec<String> = self.ready.iter().cloned().collect();
        // A second message would stay when this goes.
        let open: Vec<Piece> = self.splitter.preview(now);
        texts.extend(open.into_iter().take(1).map(|piece| piece.text));
        if self.first == 0 && texts.len() == 1 && texts[0].is_empty() {
            texts.clear();
        }
        Frames { first: self.first, texts, actions: Vec::new(), ended: false, again }
    }

    /// What is to be shown, with its end.
    pub(super) fn whole(&self, end: &str) -> Frames {
        let mut texts: Vec<String> = self.ready.iter().cloned().collect();
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
        self.asked = Some(Asked { run: row.run, request: request.clone(), line });
    }
}

impl Outbox {
    /// Reads a sprite's output on, from where it stands, as far as memory allows and no question
    /// stops it. `until` says behind which event nothing more belongs to this; `over` that no
    /// question waits any more, whatever the ledger says.
    pub(super) async fn read(
        &self,
        rendering: &mut Rendering,
        sprite: &str,
        until: impl Fn(&OutputRow) -> bool,
        over: bool,
    ) -> Result<Stopped, Error> {
        loop {
            if !self.pass_question(rendering, sprite, over).await? {
                return Ok(Stopped::Asked);
            }
            if rendering.ready.len() >= PIECES {
                return Ok(Stopped::Full);
            }
            let rows = self.store.output(sprite, rendering.cursor, PAGE).await?;
            if rows.is_empty() {
                return Ok(Stopped::AtEnd);
            }
            for row in &rows {
                rendering.take(row);
                if until(row) {
                    return Ok(Stopped::Here);
                }
                // What stands behind a question waits for its answer.
                if rendering.asked.is_some() {
                    break;
                }
            }
        }
    }

    /// Whether the question at which reading stopped, if there is one, is answered; then what
    /// became of it is told.
    async fn pass_question(
        &self,
        rendering: &mut Rendering,
        sprite: &str,
        over: bool,
    ) -> Result<bool, Error> {
        let Some(asked) = &rendering.asked else { return Ok(true) };
        let ledger = self.store.approvals(sprite).await?;
        let row =
            ledger.into_iter().find(|row| row.run == asked.run && row.request == asked.request);
        let row = match row {
            Some(row) if row.state == ApprovalState::Pending && over => {
                // Nobody waits for it any more; its controller will say so, too.
                Some(Approval { state: ApprovalState::Withdrawn, ..row })
            }
            Some(row) if row.state == ApprovalState::Pending => return Ok(false),
            row => row,
        };
        rendering.asked = None;
        if let Some(row) = row {
            let text = rendering.transcript.resolved(&row);
            rendering.append(&text);
        }
        Ok(true)
    }
}
