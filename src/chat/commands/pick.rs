//! `/od-pick`: whom a message is for that several agents could be meant by.
//!
//! The message waits in the delivery that asks. The first choice makes it the chosen agent's turn,
//! and that very delivery the turn's, in one transaction; so the buttons turn into the answer. It
//! stays in the name of whoever said it, and whoever presses has to reach the agent as it stands then.

use super::{Answer, Commands, Effect, Incoming, find::has_agent};
use crate::{
    access::Reach,
    ambient::between,
    chat::{outbox::CHOICE_TIME, replies},
    resource::{AnyObject, Kind},
    store::{Delivery, DeliveryState, Error, Subject},
};

impl Commands {
    pub(super) async fn pick(
        &self,
        delivery: &str,
        n: usize,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let delivery = self.store.delivery(delivery).await?;
        let Some(delivery) = delivery.filter(|delivery| reach.holds(&delivery.conversation)) else {
            return Ok(Effect::private(replies::no_such_choice()));
        };
        let (text, context, names, author, user, attachments) = match &delivery.subject {
            Subject::Choice { text, context, names, author, user, attachments } => {
                (text, context, names, author, user, attachments)
            }
            Subject::Turn { id } => return self.chosen_already(id).await,
            _ => return Ok(Effect::private(replies::no_such_choice())),
        };
        let Some(name) = n.checked_sub(1).and_then(|at| names.get(at)) else {
            return Ok(Effect::private(replies::no_such_choice()));
        };
        let age = between(delivery.created, self.ambient.clock.now());
        if age > CHOICE_TIME {
            return Ok(Effect::private(replies::not_chosen(names)));
        }
        let Some(agent) = self.get_agent(name).await? else {
            return Ok(Effect::private(replies::nobody_named(Some(Kind::Agent), name, None)));
        };
        // It may listen elsewhere by now; whoever asked first reached it then.
        if !has_agent(reach, &agent) {
            return Ok(Effect::private(replies::no_such_choice()));
        }
        let said = Incoming {
            author: author.clone(),
            user: user.clone(),
            attachments: attachments.clone(),
            conversation: delivery.conversation.clone(),
            ..line.clone()
        };
        let mut effect = self.queue_with(&agent, text, context.clone(), &said);
        if let Answer::Turn { id } = &effect.answer {
            let subject = Subject::Turn { id: id.clone() };
            let state = DeliveryState::Open;
            effect.answer = Answer::Standing(Box::new(Delivery { subject, state, ..delivery }));
        }
        Ok(effect)
    }

    async fn chosen_already(&self, turn: &str) -> Result<Effect, Error> {
        let Some(turn) = self.store.turn(turn).await? else {
            return Ok(Effect::private(replies::no_such_choice()));
        };
        let agent = self.store.get_by_uid(Kind::Agent, &turn.agent_uid).await?;
        let agent = agent.and_then(AnyObject::into_agent);
        let name = agent.map_or_else(|| "the agent".to_owned(), |agent| agent.metadata.name);
        Ok(Effect::private(replies::chosen_already(&turn.text, &name)))
    }
}
