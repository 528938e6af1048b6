//! What a platform may ask before it fetches the files of a line: they cost room on disk, and
//! strangers shall not be able to fill that.

use super::{Commands, Incoming, gate::right_of};
use crate::{
    access::{Known, Verdict, decide},
    chat::{
        grammar::{self, Line},
        route::{Listener, Route, route},
    },
    resource::Agent,
    store::Error,
};

impl Commands {
    /// Whether a line may lead to anything as things stand: it was not taken before, whoever said it
    /// may say it, and a plain message finds an agent. It is decided again when the line is taken.
    ///
    /// # Errors
    /// The store's.
    pub async fn may_lead_to_something(&self, line: &Incoming) -> Result<bool, Error> {
        if self.taken(line).await?.is_some() {
            return Ok(false);
        }
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
