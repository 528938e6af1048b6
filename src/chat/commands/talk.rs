//! Messages: who gets them, and what becomes of a turn before and after the agent has it.
//!
//! A message is one transaction: receipt, turn, and the delivery that will show how the turn
//! goes. Two messages at the same instant are queued in the order in which they commit. It holds only
//! on top of the Agent that was read, so that no turn is queued for one that was stopped meanwhile.

use super::{Answer, Commands, Effect, Incoming, find::Found};
use crate::{
    access::quote::fenced,
    chat::{
        grammar::Target,
        help, replies,
        route::{Listener, Route, route},
    },
    resource::{Agent, FRESH_SESSION_AFTER},
    store::{Error, Expect, Op, Part, Turn, TurnState},
};

/// How far back `/od-retry` looks for a turn that went wrong.
const LOOK_BACK: usize = 50;

impl Commands {
    /// A line that is no command.
    pub(super) async fn plain(&self, text: &str, line: &Incoming) -> Result<Effect, Error> {
        let agents: Vec<Agent> = self.agents().await?;
        let listeners: Vec<Listener> = agents
            .iter()
            .filter(|agent| !agent.metadata.is_deleting())
            .map(|agent| Listener {
                name: agent.metadata.name.clone(),
                channels: agent.spec.channels.clone(),
                suspended: agent.spec.suspend,
            })
            .collect();
        let with_files = !line.attachments.is_empty();
        Ok(match route(&line.conversation, text, &listeners) {
            Route::To { name, text } => {
                let agent = agents.iter().find(|agent| agent.metadata.name == name);
                match agent {
                    Some(agent) => self.queue(agent, &text, line),
                    None => Effect::text(help::nobody_listens()),
                }
            }
            // Files speak for themselves.
            Route::Empty(name) if with_files => {
                match agents.iter().find(|agent| agent.metadata.name == name) {
                    Some(agent) => self.queue(agent, "", line),
                    None => Effect::text(help::nobody_listens()),
                }
            }
            Route::Suspended(name) => Effect::text(replies::asleep_for_good(&name)),
            Route::Empty(name) => Effect::text(replies::nothing_said(&name)),
            Route::AllSuspended(names) => Effect::text(replies::all_asleep(&names)),
            Route::Which(names) => Effect::text(replies::which(&names)),
            Route::Nobody => Effect::text(help::nobody_listens()),
        })
    }

    pub(super) async fn send(
        &self,
        to: &Target,
        text: &str,
        line: &Incoming,
    ) -> Result<Effect, Error> {
        let mend = |_: &str| "a job has its task, and takes no messages".to_owned();
        Ok(match self.find_agent(to, mend).await? {
            Ok(agent) => self.queue(&agent, text, line),
            Err(answer) => answer,
        })
    }

    /// A new turn for an agent, if it takes any.
    fn queue(&self, agent: &Agent, text: &str, line: &Incoming) -> Effect {
        let name = &agent.metadata.name;
        if agent.metadata.is_deleting() {
            return Effect::text(replies::going(name));
        }
        if agent.spec.suspend {
            return Effect::text(replies::asleep_for_good(name));
        }
        let text = format!("{}{text}", fenced(&line.context));
        let turn = Turn { attachments: line.attachments.clone(), ..self.turn(agent, &text, line) };
        let answer = Answer::Turn { id: turn.id.clone() };
        Effect { ops: vec![Op::unchanged(agent.clone()), Op::AddTurn(turn)], answer }
    }

    fn turn(&self, agent: &Agent, text: &str, line: &Incoming) -> Turn {
        let (id, now) = (self.ambient.ids.uid(), self.ambient.clock.now());
        let turn = Turn::queued(id, &agent.metadata.uid, text, &line.author, now);
        Turn { user: Some(line.principal()), conversation: Some(line.conversation.clone()), ..turn }
    }

    /// Cancels; with `only_own`, nothing but what the person said themselves. None where they may
    /// not.
    pub(super) async fn cancel(
        &self,
        target: &Target,
        only_own: bool,
        line: &Incoming,
    ) -> Result<Option<Effect>, Error> {
        Ok(Some(match self.find(target).await? {
            Ok(Found::Agent(agent)) => return self.cancel_turn(&agent, only_own, line).await,
            Ok(Found::Job(_)) if only_own => return Ok(None),
            Ok(Found::Job(job)) => Self::cancel_job(job),
            Err(answer) => answer,
        }))
    }

    /// Cancels what an agent is at; if it is at nothing, what it would begin with next.
    async fn cancel_turn(
        &self,
        agent: &Agent,
        only_own: bool,
        line: &Incoming,
    ) -> Result<Option<Effect>, Error> {
        let name = &agent.metadata.name;
        let open = self.store.open_turns(&agent.metadata.uid).await?;
        let me = line.principal();
        let theirs = |turn: &&Turn| !only_own || turn.user.as_ref() == Some(&me);
        let at_it = open.iter().find(|turn| turn.state != TurnState::Queued && theirs(turn));
        let Some(turn) = at_it.or_else(|| open.iter().find(theirs)) else {
            let nothing = Effect::text(replies::cancelled(name, None, 0));
            return Ok(open.is_empty().then_some(nothing));
        };
        let behind = open.iter().filter(|other| other.n > turn.n).count();
        let text = replies::cancelled(name, Some(turn), behind);
        if turn.cancelled_by.is_some() {
            return Ok(Some(Effect::text(text)));
        }
        let moved = Turn { cancelled_by: Some(line.author.clone()), ..turn.clone() };
        // Should it have moved on meanwhile, this looks again.
        let op = Op::MoveTurn { turn: moved, from: vec![turn.state] };
        Ok(Some(Effect::told(vec![op], text)))
    }

    pub(super) async fn retry(
        &self,
        target: &Target,
        force: bool,
        line: &Incoming,
    ) -> Result<Effect, Error> {
        Ok(match self.find(target).await? {
            Ok(Found::Agent(agent)) => self.retry_turn(&agent, force, line).await?,
            Ok(Found::Job(job)) => self.retry_job(&job, line).await?,
            Err(answer) => answer,
        })
    }

    /// Says the last turn that went wrong again; with `force`, to a new session.
    async fn retry_turn(
        &self,
        agent: &Agent,
        force: bool,
        line: &Incoming,
    ) -> Result<Effect, Error> {
        let name = &agent.metadata.name;
        if agent.metadata.is_deleting() {
            return Ok(Effect::text(replies::going(name)));
        }
        if agent.spec.suspend {
            return Ok(Effect::text(replies::asleep_for_good(name)));
        }
        let mut ops = vec![Op::unchanged(agent.clone())];
        if force {
            let mut fresh = agent.clone();
            let upto = agent.status.incarnation.to_string();
            fresh.metadata.annotations.insert(FRESH_SESSION_AFTER.to_owned(), upto);
            let (object, part) = (fresh.into(), Part::Desired);
            ops.push(Op::Write { object, part, expect: Expect::SameVersion });
        }
        let last = self.store.last_turns(&agent.metadata.uid, LOOK_BACK).await?;
        let wrong = last.into_iter().find(|turn| {
            turn.origin.is_none()
                && matches!(
                    turn.state,
                    TurnState::Interrupted | TurnState::Failed | TurnState::Cancelled
                )
        });
        let Some(wrong) = wrong else {
            return Ok(Effect::told(ops, replies::nothing_to_retry(name, force)));
        };
        let turn =
            Turn { attachments: wrong.attachments.clone(), ..self.turn(agent, &wrong.text, line) };
        let answer = Answer::Turn { id: turn.id.clone() };
        ops.push(Op::AddTurn(turn));
        Ok(Effect { ops, answer })
    }
}
