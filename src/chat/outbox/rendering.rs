//! What is to stand in a delivery's messages, as far as it was read.

use std::time::Duration;

use sprite_reporter::wire::EventBody;

use super::{
    Outbox, PAGE, PIECES,
    files::{Made, made},
    pages::{Laid, Pages},
};
use crate::{
    chat::{
        buttons::{self, About, Waiting},
        dialect::translate,
        platform::{Action, Capabilities, Markup, Upload},
        replies,
        split::Splitter,
        tag::Tag,
        transcript::{Request, Transcript, asked_lines},
    },
    reconcile::Error,
    resource::Kind,
    store::{Approval, ApprovalState, Cursor, OutputRow},
};

/// A transcript as far as it was read.
pub(super) struct Rendering {
    pub(super) transcript: Transcript,
    pages: Pages,
    /// The sprite that is read, and how far.
    pub(super) sprite: Option<String>,
    pub(super) cursor: Cursor,
    /// Whether all that belongs to it was read.
    pub(super) is_read: bool,
    /// The questions of which it is not told yet what became of them, in their order.
    asked: Vec<Asked>,
    /// The files of ours that were made, in their order.
    made: Vec<Made>,
    /// When something was last heard, on the clock that never runs back.
    pub(super) heard: Option<Duration>,
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
    /// The question, for where no page of the transcript shows it before its end.
    lines: String,
    /// Whether a page shows it.
    stands: bool,
    /// What its buttons are made of, while the ledger says that it waits.
    waiting: Option<Waiting>,
}

/// What is to stand in the messages from number `first` on.
pub(super) struct Frames {
    pub(super) first: usize,
    pub(super) texts: Vec<String>,
    /// How many bytes of the last of them stay when more comes.
    pub(super) steady: usize,
    /// What comes behind them as a file.
    pub(super) file: Option<Upload>,
    /// The files that were made meanwhile, which come behind all of it.
    pub(super) made: Vec<Made>,
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
        Markup::Markdown => translate(capabilities.dialect, text),
    };
    let splitter = Splitter::new(capabilities.max_message, capabilities.unit, capabilities.markup);
    let texts = splitter.preview(&text).into_iter().map(|piece| piece.text).collect();
    Frames { first, texts, ..Frames::default() }
}

impl Frames {
    /// The same with these buttons below its last message.
    pub(super) fn with(self, actions: Vec<Action>) -> Self {
        Self { actions, ..self }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            first: 0,
            texts: Vec::new(),
            steady: 0,
            file: None,
            made: Vec::new(),
            actions: Vec::new(),
            ended: true,
            again: None,
        }
    }
}

impl Rendering {
    pub(super) fn new(transcript: Transcript, capabilities: &Capabilities) -> Self {
        Self {
            transcript,
            pages: Pages::new(capabilities),
            sprite: None,
            cursor: Cursor::default(),
            is_read: false,
            asked: Vec::new(),
            made: Vec::new(),
            heard: None,
        }
    }

    pub(super) fn append(&mut self, text: &str) {
        let place = self.read_to();
        self.pages.append(text, &place);
    }

    /// Begins with a message; what stood in it and before is not made again.
    pub(super) fn begin_at(&mut self, index: usize) {
        self.pages.begin_at(index);
    }

    /// The number of the first message that this makes.
    pub(super) fn begins(&self) -> usize {
        self.pages.begins()
    }

    /// How far all is read.
    fn read_to(&self) -> Place {
        Place { sprite: self.sprite.clone(), cursor: self.cursor }
    }

    /// How far all is shown once a message stands; none where it shows no more than those in front
    /// of it, because what follows is kept for a file.
    pub(super) fn shown_by(&self, index: usize) -> Option<Place> {
        match self.pages.shown_by(index) {
            Some(place) => Some(place.clone()),
            None if self.pages.goes_into_a_file() => None,
            None => Some(self.read_to()),
        }
    }

    /// The same of a complete page alone.
    pub(super) fn page_shown_by(&self, index: usize) -> Option<Place> {
        self.pages.shown_by(index).cloned()
    }

    /// Forgets the pieces in front of a message: they stand in the conversation, complete.
    pub(super) fn stand(&mut self, index: usize) {
        self.pages.stand(index);
    }

    /// Whether there is nothing to be shown yet.
    pub(super) fn is_blank(&self) -> bool {
        self.pages.is_blank() && self.transcript.for_now("").is_empty()
    }

    /// Whether somebody's answer is waited for.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
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
        let unseen = self.asked.iter().filter(|asked| !asked.stands);
        let asked: Vec<&str> = unseen.map(|asked| asked.lines.as_str()).collect();
        let asked = asked.join("\n");
        let now = if asked.is_empty() { now } else { &asked };
        let now = self.transcript.for_now(now);
        let laid = self.pages.growing(&now, self.transcript.name());
        let waiting = self.asked.iter().filter_map(|asked| {
            let waiting = asked.waiting.clone()?;
            let is_seen = asked.stands || !laid.is_cut;
            Some(Waiting { is_whole: waiting.is_whole && is_seen, ..waiting })
        });
        let waiting: Vec<Waiting> = waiting.collect();
        let actions = buttons::of_waiting(self.about(), &waiting);
        let Laid { first, texts, steady, .. } = laid;
        Frames { first, texts, steady, actions, ended: false, again, ..Frames::default() }
    }

    /// What is to be shown, with its end; `line` is the end without what closes open blocks.
    pub(super) fn whole(&self, end: &str, line: &str) -> Frames {
        let laid = self.pages.whole(end, line, self.transcript.name());
        let Laid { first, texts, file, .. } = laid;
        Frames { first, texts, file, made: self.made.clone(), ..Frames::default() }
    }

    fn about(&self) -> About<'_> {
        let kind = if self.transcript.is_of_job() { Kind::Job } else { Kind::Agent };
        About { kind, name: self.transcript.name() }
    }

    /// Takes one event over.
    fn take(&mut self, row: &OutputRow) {
        let text = self.transcript.push(row);
        self.append(&text);
        self.cursor = row.cursor();
        if let Some(made) = made(&row.event.body)
            && !self.made.contains(&made)
        {
            self.made.push(made);
        }
        let EventBody::Approval { request, .. } = &row.event.body else { return };
        if !self.transcript.concerns(&row.event.body) {
            return;
        }
        // A job's transcript may be silent until its end, and what comes behind the last page is
        // kept for a file: nobody is asked for what they do not see.
        let transcript = &self.transcript;
        let is_agent = !transcript.is_of_job();
        let lines = asked_lines(transcript.name(), is_agent, &row.event.body, transcript.markup());
        let stands = !text.is_empty() && !self.pages.goes_into_a_file();
        let (at, request) = (row.cursor(), request.clone());
        self.asked.push(Asked { at, request, lines, stands, waiting: None });
    }

    /// Tells what became of the questions that were resolved when no more than this was held.
    fn tell_resolved(&mut self, ledger: &[Approval], upto: Cursor) {
        let mut told: Vec<(Cursor, Option<&Approval>)> = Vec::new();
        self.asked.retain_mut(|asked| {
            let row = asked.row(ledger);
            asked.waiting =
                row.filter(|row| row.state == ApprovalState::Pending).map(|row| Waiting {
                    tag: Tag::of_request(&row.sprite_uid, row.run, &row.request),
                    kind: row.kind,
                    has_rule: Request::of(row).rule().is_some(),
                    is_whole: Request::of(row).is_whole(),
                    questions: row.questions.clone(),
                    wish: replies::wish(row),
                });
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
            if rendering.pages.waiting() >= PIECES {
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
