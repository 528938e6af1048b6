//! What becomes of each line: it is made whole, and handed to the commands.

use std::time::Duration;

use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{
    Discord,
    heard::{Pressed, Said, Used, conversation, without_mention},
    lanes::{Lane, Work},
    mouth::{handle_of_message, shorten},
    options,
    rest::{self, Failure},
};
use crate::chat::{
    Commands, Incoming, Via,
    platform::{self, Nonce, Platform as _, Post},
};

/// The wait before a line is taken again that the store did not take, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// How long it is tried; others wait behind it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// It was taken, and is answered.
    Answered,
    /// It was taken, and led to nothing.
    Nothing,
    /// It was not taken.
    Not,
}

impl Discord {
    pub(super) async fn work(&self, work: Work, commands: &Commands, lane: &Lane) -> Took {
        match work {
            Work::Said(said) => self.said(said, commands, lane).await,
            Work::Missed(channel) => self.missed(&channel, commands, lane).await,
            Work::Used(used, opened) => {
                let _ = opened.await;
                self.used(used, commands, lane).await
            }
            Work::Pressed(pressed, opened) => {
                let _ = opened.await;
                let Pressed { id, line, place, who, .. } = pressed;
                let line = Incoming {
                    user: who.id,
                    via: Via::Pressed,
                    handle: Some(id.clone()),
                    ..Incoming::typed(key(&id), place, who.name, line)
                };
                self.told(self.handle(&line, commands, lane).await, &line).await
            }
        }
    }

    pub(super) async fn said(&self, said: Said, commands: &Commands, lane: &Lane) -> Took {
        let me = self.own().me.clone().unwrap_or_default();
        let (text, is_mentioned) = without_mention(&said.text, &me);
        let addressed = said.direct || is_mentioned || said.mentions.contains(&me);
        if text.trim().is_empty() && said.files.is_empty() && !addressed {
            // Without the Message Content intent, what is not for us comes without its text.
            return Took::Nothing;
        }
        let parent = match said.direct {
            true => Some(None),
            false => self.parent(&said.channel, lane).await,
        };
        let Some(parent) = parent else { return Took::Not };
        let place = conversation(&said.channel, parent.as_deref());
        let mut line = Incoming {
            user: said.who.id.clone(),
            via: if addressed { Via::Addressed } else { Via::Overheard },
            handle: Some(handle_of_message(&said.id)),
            ..Incoming::typed(key(&said.id), place, said.who.name.clone(), text)
        };
        let has_more = said.reply_to.is_some() || line.conversation.thread.is_some() && addressed;
        if has_more && commands.would_reach_an_agent(&line).await.unwrap_or(true) {
            let thread = line.conversation.thread.as_deref().filter(|_| addressed);
            line.context = lane.slowly(self.context(&said, thread, commands)).await;
        }
        if !said.files.is_empty() && self.is_worth_it(&line, commands).await {
            line.attachments = lane.slowly(self.fetch(&said.files, &line)).await;
        }
        if text.trim().is_empty() && line.attachments.is_empty() {
            if !addressed {
                return Took::Nothing;
            }
            // Somebody only called our name.
            line.text = "/od-help".to_owned();
        }
        self.handle(&line, commands, lane).await
    }

    /// Whether anything is to be fetched for a line. If that cannot be told now, it is.
    async fn is_worth_it(&self, line: &Incoming, commands: &Commands) -> bool {
        commands.may_lead_to_something(line).await.unwrap_or(true)
    }

    async fn used(&self, used: Used, commands: &Commands, lane: &Lane) -> Took {
        let Some(verb) = used.verb else {
            let text = "this command is not known any more; see `/od-help`".to_owned();
            return self.refuse(&used, text).await;
        };
        let text = match options::line(verb, &used.filled) {
            Ok(text) => text,
            Err(error) => return self.refuse(&used, error.to_string()).await,
        };
        let mut line = Incoming {
            user: used.who.id,
            handle: Some(used.id.clone()),
            ..Incoming::typed(key(&used.id), used.place, used.who.name, text)
        };
        if !used.files.is_empty() && self.is_worth_it(&line, commands).await {
            line.attachments = lane.slowly(self.fetch(&used.files, &line)).await;
        }
        self.told(self.handle(&line, commands, lane).await, &line).await
    }

    /// Says so where a command or a press could not be taken: neither can be looked up later.
    async fn told(&self, took: Took, line: &Incoming) -> Took {
        if took == Took::Not {
            let text = "This was not done: the server cannot write down what is said at the \
                        moment. Its log says why. Say it again later.";
            self.tell(line, text).await;
        }
        // There is nothing to come back to.
        Took::Nothing
    }

    /// Answers an interaction that has no line.
    async fn refuse(&self, used: &Used, text: String) -> Took {
        let token = used.token.expose_secret();
        let path = format!("webhooks/{}/{token}/messages/@original", self.settings.application);
        let body = json!({"content": text, "allowed_mentions": {"parse": []}});
        let call = rest::send(Method::PATCH, "webhooks", &shorten(token), path, body);
        let call = rest::Call { by_token: true, ..call };
        if let Err(failure) = self.rest.call(&call).await {
            let error = platform::Error::from(failure);
            tracing::warn!("a command could not be refused: {error}");
        }
        Took::Answered
    }

    /// Takes a line, and tries it for a while: Discord sends it no second time.
    async fn handle(&self, line: &Incoming, commands: &Commands, lane: &Lane) -> Took {
        let until = self.clock.elapsed() + PATIENCE;
        let mut wait = AGAIN.0;
        let taken = loop {
            match commands.handle(line).await {
                Ok(taken) => break taken,
                Err(error) => {
                    tracing::warn!(key = line.key, "a line is not taken yet: {error}");
                    if self.clock.elapsed() >= until {
                        tracing::error!(
                            key = line.key,
                            "a line was not taken within {} s, and what came behind it goes on; a \
                             message is looked up again until it is an hour old",
                            PATIENCE.as_secs()
                        );
                        return Took::Not;
                    }
                }
            }
            lane.slowly(self.clock.sleep(wait)).await;
            wait = (wait * 2).min(AGAIN.1);
        };
        if taken.delivery.is_empty() {
            // Somebody whom nobody knows tries again. That leaves no trace with us; but an
            // interaction must not stay without an answer.
            let text = "Nobody has let you in yet, so nothing was done with that. The code that \
                        you were told is good for an hour; ask whoever runs this server to \
                        approve it.";
            self.tell(line, text).await;
            return Took::Nothing;
        }
        Took::Answered
    }

    /// Answers an interaction beside the outbox, to whoever began it alone.
    async fn tell(&self, line: &Incoming, text: &str) {
        let Some(id) = line.handle.as_deref() else { return };
        if self.interactions().get(id, self.clock.elapsed()).is_none() {
            return;
        }
        let nonce = Nonce { delivery: line.key.clone(), index: 0 };
        let post =
            Post { conversation: &line.conversation, reply_to: Some(id), text: "", nonce: &nonce };
        if let Err(error) = self.whisper(&post, &line.user, &text.into()).await {
            tracing::warn!(key = line.key, "it could not be told what became of a line: {error}");
        }
    }

    /// The parent of a channel that is a thread, or none of one that is not. Whose agents a line is
    /// for, and who may say it, hangs on that; so it is asked for until it is known, for a while.
    async fn parent(&self, channel: &str, lane: &Lane) -> Option<Option<String>> {
        if let Some(parent) = self.known_parent(channel) {
            return Some(parent);
        }
        let until = self.clock.elapsed() + PATIENCE;
        let mut wait = AGAIN.0;
        loop {
            let call = rest::get("GET channels", channel, format!("channels/{channel}"));
            match lane.slowly(self.rest.call(&call)).await {
                Ok(about) => {
                    // Kinds of threads: in news, in public, in private.
                    let is_thread = matches!(about["type"].as_u64(), Some(10..=12));
                    let parent = about["parent_id"].as_str().filter(|_| is_thread);
                    let parent = parent.map(ToOwned::to_owned);
                    self.is_below(channel.to_owned(), parent.clone());
                    return Some(parent);
                }
                Err(
                    Failure::Shut(_)
                    | Failure::Other(platform::Error::Gone(_) | platform::Error::Rejected(_)),
                ) => return Some(None),
                Err(failure) => {
                    let error = platform::Error::from(failure);
                    tracing::warn!(channel, "whether this is a thread is not known yet: {error}");
                    if self.clock.elapsed() >= until {
                        return None;
                    }
                    lane.slowly(self.clock.sleep(wait)).await;
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
        }
    }
}

/// The key of a line: ids of messages and of interactions are drawn from one row of numbers.
pub(super) fn key(id: &str) -> String {
    format!("{}/{id}", super::NAME)
}
