//! What a delivery shows of a turn: why it waits, what the agent does, and one outcome.
//!
//! A turn's output begins where the server held its acceptance, and ends with the event that
//! ended it; what the sprite said before and after belongs to others and is not read.

use std::time::Duration;

use sprite_reporter::wire::EventBody;

use super::{
    GRACE, Outbox,
    again::{free_message, go_on},
    rendering::{Frames, Rendering, Stopped, fixed},
};
use crate::{
    ambient::{between, later},
    chat::{
        buttons::{About, of_queued, of_wrong},
        platform::{Capabilities, Markup},
        replies::waiting_line,
        transcript::{Transcript, seconds, turn_end_line},
    },
    reconcile::Error,
    resource::{Agent, AgentCli, AnyObject, Kind},
    store::{Cursor, Delivery, OutputRow, Turn, TurnState},
};

/// How an agent is called that is gone, with its name.
const NAMELESS: &str = "the agent";
/// How long an agent is silent before that is told, and how often that is told anew.
const SILENCE: Duration = Duration::from_secs(15);

impl Outbox {
    pub(super) async fn turn_frames(
        &self,
        delivery: &Delivery,
        id: &str,
        capabilities: &Capabilities,
        rendering: &mut Option<Rendering>,
    ) -> Result<Frames, Error> {
        let at = delivery.messages.len() - 1;
        let Some(turn) = self.store.turn(id).await? else {
            // Its agent is long gone. What stands there stays.
            let first = if delivery.hash.is_empty() { at } else { at + 1 };
            return Ok(fixed(first, "the agent was deleted", capabilities));
        };
        self.watch(&turn.agent_uid, &delivery.id);
        let agent = self.store.get_by_uid(Kind::Agent, &turn.agent_uid).await?;
        let agent = agent.and_then(AnyObject::into_agent);
        let (sprite, began) = match (&turn.sprite_uid, turn.began) {
            (Some(sprite), Some(began)) => (sprite.clone(), began),
            _ => return self.unbegun(delivery, &turn, agent.as_ref(), capabilities).await,
        };
        self.watch(&sprite, &delivery.id);
        if rendering.is_none()
            && turn.state.is_final()
            && self.store.held(&sprite, None).await?.run == 0
        {
            let frames = forgotten(delivery, &turn, agent.as_ref(), capabilities);
            return self.with_retry(frames, &turn, agent.as_ref()).await;
        }
        let rendering = match rendering {
            Some(rendering) => rendering,
            None => {
                let output = (sprite.as_str(), began);
                let goes_on = self.is_unrepeatable(delivery, [output].into_iter()).await?;
                let mut begun = begin(&turn, agent.as_ref(), capabilities);
                if goes_on {
                    go_on(&mut begun, delivery, output);
                } else if turn.origin.is_some() {
                    let line = begun.transcript.header_of_own_turn();
                    begun.append(&line);
                }
                rendering.insert(begun)
            }
        };
        rendering.stand(at);
        if rendering.sprite.is_none() {
            rendering.turn_to(&sprite, began);
        }
        let held = self.store.held(&sprite, Some(began.run)).await?;
        let is_end = |row: &OutputRow| ends(row, id, began);
        let over = turn.state.is_final();
        let before = rendering.cursor;
        let stopped = match rendering.is_read {
            true => Stopped::Here,
            false => self.read(rendering, &sprite, is_end).await?,
        };
        rendering.is_read = stopped == Stopped::Here;
        if !over || stopped == Stopped::Full {
            let mut now = match rendering.is_blank() {
                true => at_it(delivery, rendering.transcript.name()),
                false => String::new(),
            };
            let mut again = None;
            let is_chat = capabilities.markup == Markup::Markdown;
            if is_chat && !over && stopped == Stopped::AtEnd && !rendering.is_asking() {
                if rendering.cursor != before {
                    rendering.heard = Some(self.ambient.clock.elapsed());
                }
                let (line, look) = self.silence(rendering, &turn);
                if !line.is_empty() {
                    now = line;
                }
                again = look;
            }
            return Ok(rendering.growing(&now, again));
        }
        // An outcome that no event told, of a sprite that may still send what it said.
        let whole = stopped == Stopped::Here || held.finished;
        let left = turn
            .ended
            .map_or(Duration::ZERO, |time| between(self.ambient.clock.now(), later(time, GRACE)));
        if !whole && !left.is_zero() {
            return Ok(rendering.growing("", Some(left)));
        }
        self.end_questions(rendering, &sprite).await?;
        let line = turn_end_line(rendering.transcript.name(), &turn, is_gone(agent.as_ref()));
        let end = rendering.transcript.end_of_turn(&line, whole);
        let line = rendering.transcript.blank().end_of_turn(&line, whole);
        let frames = rendering.whole(&end, &line);
        self.with_retry(frames, &turn, agent.as_ref()).await
    }

    /// A turn that no agent has begun with: why, or how it ended all the same.
    async fn unbegun(
        &self,
        delivery: &Delivery,
        turn: &Turn,
        agent: Option<&Agent>,
        capabilities: &Capabilities,
    ) -> Result<Frames, Error> {
        let name = agent.map_or(NAMELESS, |agent| agent.metadata.name.as_str());
        if turn.state.is_final() {
            let frames = fixed(0, &turn_end_line(name, turn, is_gone(agent)), capabilities);
            return self.with_retry(frames, turn, agent).await;
        }
        let Some(agent) = agent else {
            let text = "the agent was deleted, and nothing was done with that";
            return Ok(fixed(0, text, capabilities));
        };
        let mut actions = Vec::new();
        let line = match turn.state {
            TurnState::Queued => {
                let open = self.store.open_turns(&turn.agent_uid).await?;
                let ahead = open.iter().filter(|other| other.n < turn.n).count();
                let at = open
                    .iter()
                    .find(|other| other.state != TurnState::Queued && other.cancelled_by.is_none());
                actions = of_queued(name, &turn.id, at.map(|other| other.id.as_str()));
                let sums = self.store.turn_sums(&turn.agent_uid).await?;
                waiting_line(agent, ahead, &sums).unwrap_or_default()
            }
            _ => String::new(),
        };
        // What stood there before, such as why it waits, holds no more; and there is nothing to
        // press.
        let line = match line.is_empty() {
            true => {
                actions.clear();
                at_it(delivery, name).trim_end().to_owned()
            }
            false => line,
        };
        let nothing = Rendering::new(
            Transcript::of_turn(capabilities.markup, name, &turn.id, false),
            capabilities,
        );
        let frames = nothing.growing(&whole_line(line), None);
        Ok(frames.with(actions))
    }

    /// What went wrong can be said again: once, by the button.
    async fn with_retry(
        &self,
        frames: Frames,
        turn: &Turn,
        agent: Option<&Agent>,
    ) -> Result<Frames, Error> {
        let wrong = [TurnState::Failed, TurnState::Interrupted, TurnState::Cancelled];
        let says_again = wrong.contains(&turn.state) && turn.origin.is_none() && !is_gone(agent);
        let Some(agent) = agent.filter(|_| says_again) else {
            return Ok(frames);
        };
        if self.was_retried(&turn.id).await? {
            return Ok(frames);
        }
        let about = About { kind: Kind::Agent, name: &agent.metadata.name };
        Ok(frames.with(of_wrong(about, &turn.id)))
    }

    /// How long an agent has been at it, where it is silent: in steps, so that little is edited.
    fn silence(&self, rendering: &mut Rendering, turn: &Turn) -> (String, Option<Duration>) {
        let elapsed = self.ambient.clock.elapsed();
        let heard = *rendering.heard.get_or_insert(elapsed);
        let silent = elapsed.saturating_sub(heard);
        let Some(started) = turn.started.filter(|_| silent >= SILENCE) else {
            return (String::new(), Some(SILENCE.saturating_sub(silent)));
        };
        let steps = silent.as_secs() / SILENCE.as_secs();
        let again = SILENCE * u32::try_from(steps + 1).unwrap_or(u32::MAX);
        // As it was at the step, however often it is looked at within.
        let since = silent.saturating_sub(SILENCE * u32::try_from(steps).unwrap_or(u32::MAX));
        let at_it = between(started, self.ambient.clock.now()).saturating_sub(since).as_secs();
        let at_it = Duration::from_secs(at_it / 5 * 5);
        (format!("· working for {}", seconds(at_it)), Some(again.saturating_sub(silent)))
    }
}

/// Whether an agent takes nothing any more.
fn is_gone(agent: Option<&Agent>) -> bool {
    agent.is_none_or(|agent| agent.metadata.is_deleting())
}

/// What takes the place of the reason why a turn waited; nothing where none was told.
fn at_it(delivery: &Delivery, name: &str) -> String {
    match delivery.hash.is_empty() {
        true => String::new(),
        false => whole_line(format!("{name} is at it")),
    }
}

/// A turn whose output is kept no longer: what stands there cannot be made again, so it stays,
/// and the outcome follows.
fn forgotten(
    delivery: &Delivery,
    turn: &Turn,
    agent: Option<&Agent>,
    capabilities: &Capabilities,
) -> Frames {
    let first = free_message(delivery);
    let name = agent.map_or(NAMELESS, |agent| agent.metadata.name.as_str());
    let line = turn_end_line(name, turn, is_gone(agent));
    fixed(first, &format!("! what else was said is kept no longer\n{line}"), capabilities)
}

/// A line that stands for itself: what takes its place does not go on behind it. Where only whole
/// lines are shown, it is one.
fn whole_line(line: String) -> String {
    if line.is_empty() { line } else { line + "\n" }
}

fn begin(turn: &Turn, agent: Option<&Agent>, capabilities: &Capabilities) -> Rendering {
    let name = agent.map_or(NAMELESS, |agent| agent.metadata.name.as_str());
    let prints = agent.is_some_and(|agent| matches!(agent.spec.agent, AgentCli::Command(_)));
    let transcript = Transcript::of_turn(capabilities.markup, name, &turn.id, prints);
    Rendering::new(transcript, capabilities)
}

/// Whether nothing of a turn comes behind this event.
fn ends(row: &OutputRow, id: &str, began: Cursor) -> bool {
    match &row.event.body {
        EventBody::TurnEnded { turn, .. } => turn == id,
        EventBody::Exit(_) => row.run == began.run,
        _ => row.run > began.run,
    }
}
