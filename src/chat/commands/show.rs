//! `/od-list`, `/od-status` and `/od-logs`: what only looks.

use std::collections::VecDeque;

use sprite_reporter::wire::{EventBody, Stream};

use super::{
    Commands, Effect,
    find::{Found, has_agent},
    sprites_of,
};
use crate::{
    access::Reach,
    chat::{
        grammar::Target,
        replies::{self, Known, Seen},
        transcript::tool_line,
    },
    resource::{AnyObject, FlyMachine, Kind},
    store::{Cursor, Error},
};

/// How many lines `/od-logs` shows.
const LINES_SHOWN: usize = 20;
/// The most characters of one such line.
const LINE_LENGTH: usize = 400;
/// How many turns of an agent `/od-logs` goes back at most.
const TURNS_SHOWN: usize = 3;
/// How much output is read at once, in bytes.
const PAGE: usize = 1 << 20;

impl Commands {
    pub(super) async fn list(&self, reach: &Reach) -> Result<Effect, Error> {
        let line = self.waiting().await?;
        let known: Vec<Known> = self
            .agents()
            .await?
            .into_iter()
            .filter(|agent| has_agent(reach, agent))
            .map(|agent| {
                let waiting = line.place(&agent.metadata.uid);
                Known { agent, waiting, machine: None }
            })
            .collect();
        Ok(Effect::text(replies::agents(&known, self.ambient.clock.now())))
    }

    pub(super) async fn status(&self, target: &Target, reach: &Reach) -> Result<Effect, Error> {
        let now = self.ambient.clock.now();
        Ok(match self.find(target, reach).await? {
            Ok(Found::Agent(agent)) => {
                let uid = &agent.metadata.uid;
                let waiting = self.waiting().await?.place(uid);
                let open = self.store.open_turns(uid).await?;
                let grants = self.store.grants(uid).await?.len();
                let machine = self.machine(agent.status.sprite.as_deref()).await?;
                let known = Known { agent, waiting, machine };
                Effect::text(replies::agent_status(&known, &open, grants, now))
            }
            Ok(Found::Job(job)) => {
                let waiting = self.waiting().await?.place(&job.metadata.uid);
                let machine = self.machine(job.status.sprite.as_deref()).await?;
                Effect::text(replies::status(&Seen { job, waiting, machine }, now))
            }
            Err(answer) => answer,
        })
    }

    /// The machine that a sprite lives in, if it does.
    async fn machine(&self, sprite: Option<&str>) -> Result<Option<FlyMachine>, Error> {
        let Some(name) = sprite else { return Ok(None) };
        let sprite = self.store.get(Kind::Sprite, name).await?.and_then(AnyObject::into_sprite);
        Ok(sprite.and_then(|sprite| sprite.status.fly))
    }

    pub(super) async fn logs(&self, target: &Target, reach: &Reach) -> Result<Effect, Error> {
        let found = match self.find(target, reach).await? {
            Ok(found) => found,
            Err(answer) => return Ok(answer),
        };
        let mut tail = Tail::default();
        match &found {
            Found::Agent(agent) => {
                // The last turns alone: an agent's whole output may be days of work.
                let last = self.store.last_turns(&agent.metadata.uid, TURNS_SHOWN).await?;
                let newest = last.iter().find_map(|turn| turn.sprite_uid.clone());
                let from = last
                    .iter()
                    .filter(|turn| turn.sprite_uid == newest)
                    .filter_map(|turn| turn.began)
                    .min();
                if let (Some(sprite), Some(from)) = (newest, from) {
                    tail.more = true;
                    self.read(&sprite, from, &mut tail).await?;
                }
            }
            Found::Job(job) => {
                let sprites = sprites_of(&*self.store, &job.metadata.uid).await?;
                if let Some(sprite) = sprites.last() {
                    self.read(&sprite.metadata.uid, Cursor::default(), &mut tail).await?;
                }
            }
        }
        let (lines, more) = tail.end();
        Ok(Effect::text(replies::logs(&found.full_name(), &lines, more)))
    }

    async fn read(&self, sprite: &str, mut cursor: Cursor, tail: &mut Tail) -> Result<(), Error> {
        loop {
            let rows = self.store.output(sprite, cursor, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            cursor = last.cursor();
            for row in &rows {
                match &row.event.body {
                    EventBody::Log { stream: Stream::Stdout | Stream::Stderr, chunk }
                    | EventBody::Text { chunk, .. } => tail.push(&chunk.bytes()),
                    // What the agent says next is another paragraph.
                    EventBody::Tool { name, title, .. } => {
                        tail.break_line();
                        tail.push(format!("{}\n", tool_line(name, title)).as_bytes());
                    }
                    EventBody::TurnEnded { .. } => tail.break_line(),
                    _ => {}
                }
            }
        }
    }
}

/// The last lines of what was printed.
#[derive(Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    more: bool,
    open: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.open {
                self.lines.push_back(Vec::new());
            }
            let whole = part.ends_with(b"\n");
            if let Some(line) = self.lines.back_mut() {
                let room = (4 * LINE_LENGTH).saturating_sub(line.len());
                line.extend(part[..part.len() - usize::from(whole)].iter().take(room));
            }
            self.open = !whole;
            if self.lines.len() > LINES_SHOWN {
                self.lines.pop_front();
                self.more = true;
            }
        }
    }

    fn break_line(&mut self) {
        self.open = false;
    }

    fn end(self) -> (Vec<String>, bool) {
        let lines = self.lines.iter().map(|line| {
            let line = String::from_utf8_lossy(line);
            match line.char_indices().nth(LINE_LENGTH) {
                Some((at, _)) => format!("{}…", &line[..at]),
                None => line.into_owned(),
            }
        });
        (lines.collect(), self.more)
    }
}
