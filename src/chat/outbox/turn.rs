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
        platform::Capabilities,
        replies::waiting_line,
        transcript::{Transcript, turn_end_line},
    },
    reconcile::Error,
    resource::{Agent, AgentCli, AnyObject, Kind},
    store::{Cursor, Delivery, OutputRow, Turn, TurnState},
};

/// How an agent is called that is gone, with its name.
const NAMELESS: &str = "the agent";

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
            return Ok(forgotten(delivery, &turn, agent.as_ref(), capabilities));
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
        let stopped = match rendering.is_read {
            true => Stopped::Here,
            false => self.read(rendering, &sprite, is_end).await?,
        };
        rendering.is_read = stopped == Stopped::Here;
        if !over || stopped == Stopped::Full {
            let now = match rendering.is_blank() {
                true => at_it(delivery, rendering.transcript.name()),
                false => String::new(),
            };
            return Ok(rendering.growing(&now, None));
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
        let line = turn_end_line(rendering.transcript.name(), &turn);
        let end = rendering.transcript.end_of_turn(&line, whole);
        Ok(rendering.whole(&end))
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
            return Ok(fixed(0, &turn_end_line(name, turn), capabilities));
        }
        let Some(agent) = agent else {
            let text = "the agent was deleted, and nothing was done with that";
            return Ok(fixed(0, text, capabilities));
        };
        let line = match turn.state {
            TurnState::Queued => {
                let open = self.store.open_turns(&turn.agent_uid).await?;
                let ahead = open.iter().filter(|other| other.n < turn.n).count();
                let sums = self.store.turn_sums(&turn.agent_uid).await?;
                waiting_line(agent, ahead, &sums).unwrap_or_default()
            }
            _ => at_it(delivery, name).trim_end().to_owned(),
        };
        let nothing = Rendering::new(
            Transcript::of_turn(capabilities.markup, name, &turn.id, false),
            capabilities,
        );
        Ok(nothing.growing(&whole_line(line), None))
    }
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
    let line = turn_end_line(name, turn);
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
