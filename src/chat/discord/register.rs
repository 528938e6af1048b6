//! The commands in Discord's list: registered all at once, so that doing it again changes nothing.
//! People can be heard meanwhile.

use std::sync::Arc;

use reqwest::Method;

use super::{
    AGAIN, Discord, options,
    rest::{self, Failure},
};
use crate::chat::platform;

impl Discord {
    /// Registers the commands: all of them at once, so that doing it again changes nothing.
    async fn register(&self) -> Result<(), Failure> {
        let application = &self.settings.application;
        let path = match &self.settings.guild {
            Some(guild) => format!("applications/{application}/guilds/{guild}/commands"),
            None => format!("applications/{application}/commands"),
        };
        let all = options::commands();
        let call = rest::send(Method::PUT, "PUT applications/commands", application, path, all);
        self.rest.call(&call).await.map(drop)
    }

    /// Registers the commands, until it is done or will never be. People can be heard meanwhile.
    pub(super) async fn register_at_last(self: Arc<Self>) {
        let mut wait = AGAIN.0;
        loop {
            match self.register().await {
                Ok(()) => return,
                Err(
                    failure @ (Failure::Shut(_)
                    | Failure::Other(
                        platform::Error::Rejected(_) | platform::Error::Gone(_),
                    )),
                ) => {
                    let error = platform::Error::from(failure);
                    tracing::error!(
                        "Discord does not take our commands: {error}; look whether \
                         DISCORD_CLIENT_ID and DISCORD_GUILD_ID are right, and whether the bot was \
                         invited with the scope applications.commands"
                    );
                    return;
                }
                Err(failure) => {
                    let error = platform::Error::from(failure);
                    tracing::warn!("the commands are not registered with Discord yet: {error}");
                }
            }
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
    }
}
