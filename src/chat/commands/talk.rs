//! Messages: who gets them, and what becomes of a turn before and after the agent has it.
//!
//! A message is one transaction: receipt, turn, and the delivery that will show how the turn
//! goes. Two messages at the same instant are queued in the order in which they commit. It holds only
//! on top of the Agent that was read, so that no turn is queued for one that was stopped meanwhile.

use super::{
    Answer, Commands, Effect, Incoming, Via,
    find::{Found, has_agent, has_job},
    worth::listeners,
};
use crate::{
    access::{Reach, quote::fenced},
    chat::{
        grammar::Target,
        help,
        outbox::{delivery_id, gone_key},
        replies,
        route::{Route, called, listens, route},
        tag::Tag,
    },
    resource::{Agent, FRESH_SESSION_AFTER, TOLD_STOPPED},
    store::{
        Conversation, Delivery, DeliveryState, Error, Expect, Op, Part, Receipt, Turn, TurnState,
    },
};

/// How far back `/od-retry` looks for a turn that went wrong.
const LOOK_BACK: usize = 50;
/// How far back a button's turn is looked for: as many as are kept.
const TAGGED: usize = 1_000;

impl Commands {
    /// A line that is no command.
    pub(super) async fn plain(&self, text: &str, line: &Incoming) -> Result<Effect, Error> {
        let agents: Vec<Agent> = self.agents().await?;
        let listeners = listeners(&agents);
        let with_files = !line.attachments.is_empty();
        if let Some(gone) = self.meant_for_one_gone(text, &agents, line).await? {
            return Ok(gone);
        }
        Ok(match route(&line.conversation, text, &listeners) {
            Route::To { name, text } => {
                let agent = agents.iter().find(|agent| agent.metadata.name == name);
                match agent {
                    Some(agent) => self.queue(agent, &text, line),
                    None => Effect::private(help::nobody_listens()),
                }
            }
            // Files speak for themselves.
            Route::Empty(name) if with_files => {
                match agents.iter().find(|agent| agent.metadata.name == name) {
                    Some(agent) => self.queue(agent, "", line),
                    None => Effect::private(help::nobody_listens()),
                }
            }
            Route::Suspended(_) | Route::AllSuspended(_) | Route::Empty(_) | Route::Nobody
                if line.via == Via::Overheard =>
            {
                self.overheard(&agents, line).await?
            }
            Route::Suspended(name) => Effect::private(replies::asleep_for_good(&name)),
            Route::Empty(name) => Effect::private(replies::nothing_said(&name)),
            Route::AllSuspended(names) => Effect::private(replies::all_asleep(&names)),
            // A terminal has no buttons.
            Route::Which(names) if line.is_console() => Effect::private(replies::which(&names)),
            Route::Which(names) => {
                // Whoever is chosen gets it with what was said around it.
                let (text, context) = (text.to_owned(), fenced(&line.context));
                let answer = Answer::Choice { text, context, names };
                Effect { ops: Vec::new(), answer }
            }
            Route::Nobody => Effect::private(help::nobody_listens()),
        })
    }

    /// The answer to a message that names an agent which listened here and is gone: nobody else is
    /// given what was meant for that one.
    async fn meant_for_one_gone(
        &self,
        text: &str,
        agents: &[Agent],
        line: &Incoming,
    ) -> Result<Option<Effect>, Error> {
        let Some(name) = called(text) else { return Ok(None) };
        let named = agents.iter().find(|agent| {
            agent.metadata.name == name && listens(&agent.spec.channels, &line.conversation)
        });
        if let Some(agent) = named {
            let is_going = agent.metadata.is_deleting();
            return Ok(is_going.then(|| Effect::private(replies::going(&name))));
        }
        let channel = Conversation { thread: None, ..line.conversation.clone() };
        for place in [&line.conversation, &channel] {
            if self.store.receipt(&gone_key(place, &name)).await?.is_some() {
                return Ok(Some(Effect::private(replies::gone(&name))));
            }
        }
        Ok(None)
    }

    /// Something that people said to each other, where no agent works: nobody is told anything,
    /// save how to go on with an agent that was stopped here, once for each time that it was.
    async fn overheard(&self, agents: &[Agent], line: &Incoming) -> Result<Effect, Error> {
        let place = &line.conversation;
        let stopped: Vec<&Agent> = agents
            .iter()
            .filter(|agent| !agent.metadata.is_deleting() && listens(&agent.spec.channels, place))
            .collect();
        if stopped.is_empty() || stopped.iter().any(|agent| !agent.spec.suspend) {
            return Ok(Effect::nothing());
        }
        let told = format!("{}/{}", place.platform, place.channel);
        if stopped.iter().all(|agent| told_where(agent).contains(&told.as_str())) {
            return Ok(Effect::nothing());
        }
        let names: Vec<String> = stopped.iter().map(|agent| agent.metadata.name.clone()).collect();
        let text = match names.as_slice() {
            [name] => replies::asleep_for_good(name),
            _ => replies::all_asleep(&names),
        };
        let ops = stopped.into_iter().map(|agent| {
            let mut noted = agent.clone();
            let mut places = told_where(agent);
            places.push(&told);
            let text = format!("{} {}", agent.metadata.generation, places.join(" "));
            noted.metadata.annotations.insert(TOLD_STOPPED.to_owned(), text);
            let (object, part) = (noted.into(), Part::Desired);
            Op::Write { object, part, expect: Expect::SameVersion }
        });
        Ok(Effect::told(ops.collect(), text))
    }

    pub(super) async fn send(
        &self,
        to: &Target,
        text: &str,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let mend = |_: &str| "a job has its task, and takes no messages".to_owned();
        Ok(match self.find_agent(to, reach, mend).await? {
            Ok(agent) => self.queue(&agent, text, line),
            Err(answer) => answer,
        })
    }

    /// A new turn for an agent, if it takes any.
    pub(super) fn queue(&self, agent: &Agent, text: &str, line: &Incoming) -> Effect {
        self.queue_with(agent, text, fenced(&line.context), line)
    }

    /// The same with what others had said around it.
    pub(super) fn queue_with(
        &self,
        agent: &Agent,
        text: &str,
        context: String,
        line: &Incoming,
    ) -> Effect {
        let name = &agent.metadata.name;
        if agent.metadata.is_deleting() {
            return Effect::private(replies::going(name));
        }
        if agent.spec.suspend {
            return Effect::private(replies::asleep_for_good(name));
        }
        let attachments = line.attachments.clone();
        let turn = Turn { context, attachments, ..self.turn(agent, text, line) };
        let answer = Answer::Turn { id: turn.id.clone() };
        Effect { ops: vec![Op::unchanged(agent.clone()), Op::AddTurn(turn)], answer }
    }

    fn turn(&self, agent: &Agent, text: &str, line: &Incoming) -> Turn {
        let (id, now) = (self.ambient.ids.uid(), self.ambient.clock.now());
        let turn = Turn::queued(id, &agent.metadata.uid, text, &line.author, now);
        Turn { user: Some(line.principal()), conversation: Some(line.conversation.clone()), ..turn }
    }

    /// Cancels; beyond the reach of their commands, nothing but what the person said themselves.
    /// None where they may not.
    pub(super) async fn cancel(
        &self,
        target: &Target,
        which: Option<&Tag>,
        commands: Option<&Reach>,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Option<Effect>, Error> {
        let found = self.find(target, reach).await?;
        let only_own = match (&found, commands) {
            (_, None) => true,
            (Ok(Found::Agent(agent)), Some(commands)) => !has_agent(commands, agent),
            (Ok(Found::Job(job)), Some(commands)) => !has_job(commands, job),
            (Err(_), _) => false,
        };
        Ok(Some(match found {
            Ok(Found::Agent(agent)) => {
                return self.cancel_turn(&agent, which, only_own, line).await;
            }
            Ok(Found::Job(_)) if only_own => return Ok(None),
            Ok(Found::Job(job)) => Self::cancel_job(job),
            Err(answer) => answer,
        }))
    }

    /// Cancels what an agent is at; if it is at nothing, what it would begin with next.
    async fn cancel_turn(
        &self,
        agent: &Agent,
        which: Option<&Tag>,
        only_own: bool,
        line: &Incoming,
    ) -> Result<Option<Effect>, Error> {
        let name = &agent.metadata.name;
        let open = self.store.open_turns(&agent.metadata.uid).await?;
        let me = line.principal();
        let theirs = |turn: &&Turn| !only_own || turn.user.as_ref() == Some(&me);
        let meant = match which {
            Some(tag) => open.iter().find(|turn| tag.names(&Tag::of_id(&turn.id))),
            None => {
                let at_it =
                    open.iter().find(|turn| turn.state != TurnState::Queued && theirs(turn));
                at_it.or_else(|| open.iter().find(theirs))
            }
        };
        let Some(turn) = meant else {
            if let Some(tag) = which {
                let over = self.turn_of(agent, tag).await?;
                return Ok(Some(Effect::private(replies::is_over(name, over.as_ref()))));
            }
            let nothing = Effect::text(replies::cancelled(name, None, 0));
            return Ok(open.is_empty().then_some(nothing));
        };
        if !theirs(&turn) {
            return Ok(None);
        }
        let behind = open.iter().filter(|other| other.n > turn.n).count();
        let text = replies::cancelled(name, Some(turn), behind);
        if turn.cancelled_by.is_some() {
            return Ok(Some(Effect::text(text)));
        }
        let moved = Turn {
            cancelled_by: Some(line.author.clone()),
            cancelled_by_user: Some(me),
            ..turn.clone()
        };
        // Should it have moved on meanwhile, this looks again.
        let op = Op::MoveTurn { turn: moved, from: vec![turn.state] };
        Ok(Some(Effect::told(vec![op], text)))
    }

    pub(super) async fn retry(
        &self,
        target: &Target,
        force: bool,
        which: Option<&Tag>,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        Ok(match self.find(target, reach).await? {
            Ok(Found::Agent(agent)) => self.retry_turn(&agent, force, which, line).await?,
            Ok(Found::Job(job)) => self.retry_job(&job, which, line).await?,
            Err(answer) => answer,
        })
    }

    /// Says the last turn that went wrong again; with `force`, to a new session.
    async fn retry_turn(
        &self,
        agent: &Agent,
        force: bool,
        which: Option<&Tag>,
        line: &Incoming,
    ) -> Result<Effect, Error> {
        let name = &agent.metadata.name;
        if agent.metadata.is_deleting() {
            return Ok(Effect::private(replies::going(name)));
        }
        if agent.spec.suspend {
            return Ok(Effect::private(replies::asleep_for_good(name)));
        }
        let mut ops = vec![Op::unchanged(agent.clone())];
        if force {
            let mut fresh = agent.clone();
            let upto = agent.status.incarnation.to_string();
            fresh.metadata.annotations.insert(FRESH_SESSION_AFTER.to_owned(), upto);
            let (object, part) = (fresh.into(), Part::Desired);
            ops.push(Op::Write { object, part, expect: Expect::SameVersion });
        }
        let wrong = match which {
            Some(tag) => self.turn_of(agent, tag).await?,
            None => {
                let last = self.store.last_turns(&agent.metadata.uid, LOOK_BACK).await?;
                last.into_iter().find(|turn| turn.origin.is_none() && went_wrong(turn))
            }
        };
        let wrong = match (wrong, which) {
            (Some(turn), _) if went_wrong(&turn) => turn,
            (over, Some(_)) => return Ok(Effect::private(replies::is_over(name, over.as_ref()))),
            (_, None) => return Ok(Effect::told(ops, replies::nothing_to_retry(name, force))),
        };
        match self.once("retried", &wrong.id).await? {
            Some(receipt) => {
                ops.push(Op::Receipt(receipt));
                ops.extend(self.turn_shown_again(&wrong, line).await?);
            }
            None if which.is_some() => {
                return Ok(Effect::private(replies::retried_already(name, &wrong.text)));
            }
            // Whoever means a new session means to do it once more.
            None if force => {}
            None => return Ok(Effect::private(replies::retried_before(name, &wrong.text))),
        }
        let turn = Turn {
            context: wrong.context.clone(),
            attachments: wrong.attachments.clone(),
            ..self.turn(agent, &wrong.text, line)
        };
        let answer = Answer::Turn { id: turn.id.clone() };
        ops.push(Op::AddTurn(turn));
        Ok(Effect { ops, answer })
    }

    /// The turn that a tag names, among those that are kept.
    async fn turn_of(&self, agent: &Agent, tag: &Tag) -> Result<Option<Turn>, Error> {
        let last = self.store.last_turns(&agent.metadata.uid, TAGGED).await?;
        Ok(last.into_iter().find(|turn| tag.names(&Tag::of_id(&turn.id))))
    }

    /// A receipt that lets something be done once; none where it was.
    pub(super) async fn once(&self, what: &str, id: &str) -> Result<Option<Receipt>, Error> {
        let key = format!("{what}/{id}");
        let taken = self.store.receipt(&key).await?.is_some();
        Ok((!taken).then(|| Receipt { key, effect: format!("{what}/{id}") }))
    }

    /// Has the message of a turn that is done again shown once more, without its button.
    async fn turn_shown_again(&self, turn: &Turn, line: &Incoming) -> Result<Option<Op>, Error> {
        // What is kept no longer cannot be shown again.
        if let Some(sprite) = &turn.sprite_uid
            && self.store.held(sprite, None).await?.run == 0
        {
            return Ok(None);
        }
        let place = turn.conversation.as_ref().unwrap_or(&line.conversation);
        self.shown_again(&turn.id, place).await
    }

    /// Has what a turn or job shows in a place shown once more.
    pub(super) async fn shown_again(
        &self,
        id: &str,
        place: &Conversation,
    ) -> Result<Option<Op>, Error> {
        let delivery = self.store.delivery(&delivery_id(id, place)).await?;
        Ok(delivery.map(|delivery| {
            Op::Delivery(match delivery.state {
                DeliveryState::Done => Delivery { state: DeliveryState::Open, ..delivery },
                // Its last edit, with the button, may be under way: what is noted of it then is
                // stale, and it is looked at once more.
                _ => Delivery { hash: "again".to_owned(), ..delivery },
            })
        }))
    }
}

/// Where people were told how to go on with an agent, since it was stopped. It stands on the agent:
/// receipts go after a day, and nobody shall be told each day.
fn told_where(agent: &Agent) -> Vec<&str> {
    let noted = agent.metadata.annotations.get(TOLD_STOPPED);
    let (generation, places) = noted.and_then(|text| text.split_once(' ')).unwrap_or_default();
    match generation == agent.metadata.generation.to_string() {
        true => places.split(' ').collect(),
        false => Vec::new(),
    }
}

fn went_wrong(turn: &Turn) -> bool {
    matches!(turn.state, TurnState::Interrupted | TurnState::Failed | TurnState::Cancelled)
}
