//! What a platform may ask before it goes to any length for a line: fetching files and what was
//! said before costs calls and room on disk, and strangers shall be able to cause neither.

use super::{Commands, Incoming, gate::right_of};
use crate::{
    access::{Known, Verdict, decide},
    chat::{
        grammar::{self, Line},
        route::{Listener, Route, route},
    },
    resource::Agent,
    store::{Error, Subject},
};

impl Commands {
    /// Whether a line may lead to anything as things stand: whoever said it may say it, and a
    /// plain message finds an agent. It is decided again when the line is taken.
    ///
    /// # Errors
    /// The store's.
    pub async fn may_lead_to_something(&self, line: &Incoming) -> Result<bool, Error> {
        let parsed = grammar::parse(&line.text);
        let rows = self.store.access().await?;
        let known = Known { rows: &rows, admins: &self.settings.admins };
        let Ok(meant) = &parsed else { return Ok(false) };
        let verdict = decide(known, &line.user, &line.conversation, right_of(meant));
        if !matches!(verdict, Verdict::Allowed(_)) {
            return Ok(false);
        }
        let Line::Plain(text) = meant else { return Ok(true) };
        let listeners = listeners(&self.agents().await?);
        let to = route(&line.conversation, text, &listeners);
        Ok(matches!(to, Route::To { .. } | Route::Empty(_) | Route::Which(_)))
    }

    /// Whether the line with this key went to an agent, as far as that is still known: then the
    /// agent has read it, and need not be told again what was said. Lines that were for nobody or
    /// answered by us alone did not.
    ///
    /// # Errors
    /// The store's.
    pub async fn went_to_an_agent(&self, key: &str) -> Result<bool, Error> {
        let Some(receipt) = self.store.receipt(key).await? else { return Ok(false) };
        let delivery = self.store.delivery(&super::delivery_of(&receipt.effect)).await?;
        Ok(delivery.is_some_and(|delivery| matches!(delivery.subject, Subject::Turn { .. })))
    }
}

/// Who listens, of all agents.
pub(super) fn listeners(agents: &[Agent]) -> Vec<Listener> {
    agents
        .iter()
        .filter(|agent| !agent.metadata.is_deleting())
        .map(|agent| Listener {
            name: agent.metadata.name.clone(),
            channels: agent.spec.channels.clone(),
            suspended: agent.spec.suspend,
        })
        .collect()
}
