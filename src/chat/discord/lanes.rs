//! Lines are taken here: those of a channel one after the other, those of others beside them.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use sprite_reporter::wire::Attachment;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use super::{
    Discord,
    heard::{FileAt, Pressed, Said, Used, conversation, without_mention},
    missed::Last,
    mouth::{handle_of_message, shorten},
    options,
    rest::{self, Failure},
};
use crate::{
    chat::{
        Commands, Incoming, Via,
        platform::{self, Nonce, Platform as _, Post},
    },
    store::{
        attached::{MAX_FILES, NamedFile, attachments},
        files::MAX_FILE_BYTES,
    },
};

/// How many channels are served at once.
const LANES: usize = 32;
/// The wait before a line is taken again that the store did not take, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// What is to be taken.
pub(super) enum Work {
    /// A message.
    Said(Said),
    /// A command, and its first answer on the way.
    Used(Used, JoinHandle<()>),
    /// What was said in a channel behind a message, while nobody listened.
    Missed(String, Last),
    /// A button, and its first answer on the way.
    Pressed(Pressed, JoinHandle<()>),
}

/// The lanes. Dropping them stops whatever is in them; the server is going down then.
pub(super) struct Lanes {
    senders: Vec<mpsc::UnboundedSender<Work>>,
    _workers: JoinSet<()>,
}

impl Lanes {
    /// Lanes that lead to the commands.
    pub(super) fn new(discord: &Arc<Discord>, commands: &Arc<Commands>) -> Self {
        let mut workers = JoinSet::new();
        let lane = |_| {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let (discord, commands) = (Arc::clone(discord), Arc::clone(commands));
            workers.spawn(async move {
                while let Some(work) = receiver.recv().await {
                    discord.work(work, &commands).await;
                }
            });
            sender
        };
        let senders = (0..LANES).map(lane).collect();
        Self { senders, _workers: workers }
    }

    /// Puts work behind all that came from the same channel.
    pub(super) fn put(&self, channel: &str, work: Work) {
        let mut hasher = DefaultHasher::new();
        channel.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
        let _ = self.senders[lane].send(work);
    }
}

impl Discord {
    async fn work(&self, work: Work, commands: &Commands) {
        match work {
            Work::Said(said) => self.said(said, commands).await,
            Work::Missed(channel, last) => self.missed(&channel, last, commands).await,
            Work::Used(used, opened) => {
                let _ = opened.await;
                self.used(used, commands).await;
            }
            Work::Pressed(pressed, opened) => {
                let _ = opened.await;
                let line = Incoming {
                    user: pressed.who.id,
                    via: Via::Pressed,
                    handle: Some(pressed.id.clone()),
                    ..Incoming::typed(
                        key(&pressed.id),
                        pressed.place,
                        pressed.who.name,
                        pressed.line,
                    )
                };
                self.handle(line, commands).await;
            }
        }
    }

    pub(super) async fn said(&self, said: Said, commands: &Commands) {
        let me = self.own().me.clone().unwrap_or_default();
        let (text, is_mentioned) = without_mention(&said.text, &me);
        let addressed = said.direct || is_mentioned || said.mentions.contains(&me);
        if text.trim().is_empty() && said.files.is_empty() && !addressed {
            // Without the Message Content intent, what is not for us comes without its text.
            return;
        }
        let place = match said.direct {
            true => conversation(&said.channel, None),
            false => conversation(&said.channel, self.parent(&said.channel).await.as_deref()),
        };
        let mut line = Incoming {
            user: said.who.id.clone(),
            via: if addressed { Via::Addressed } else { Via::Overheard },
            handle: Some(handle_of_message(&said.id)),
            ..Incoming::typed(key(&said.id), place, said.who.name.clone(), text)
        };
        let has_more = said.reply_to.is_some() || line.conversation.thread.is_some() && addressed;
        if has_more && commands.would_reach_an_agent(&line).await.unwrap_or(true) {
            let thread = line.conversation.thread.as_deref().filter(|_| addressed);
            line.context = self.context(&said, thread, commands).await;
        }
        if !said.files.is_empty() && self.is_worth_it(&line, commands).await {
            line.attachments = self.fetch(&said.files, &line).await;
        }
        if text.trim().is_empty() && line.attachments.is_empty() {
            if !addressed {
                return;
            }
            // Somebody only called our name.
            line.text = "/od-help".to_owned();
        }
        self.handle(line, commands).await;
    }

    /// Whether anything is to be fetched for a line. If that cannot be told now, it is.
    async fn is_worth_it(&self, line: &Incoming, commands: &Commands) -> bool {
        commands.may_lead_to_something(line).await.unwrap_or(true)
    }

    async fn used(&self, used: Used, commands: &Commands) {
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
            line.attachments = self.fetch(&used.files, &line).await;
        }
        self.handle(line, commands).await;
    }

    /// Answers an interaction that has no line.
    async fn refuse(&self, used: &Used, text: String) {
        let path =
            format!("webhooks/{}/{}/messages/@original", self.settings.application, used.token);
        let body = json!({"content": text, "allowed_mentions": {"parse": []}});
        let call = rest::send(Method::PATCH, "webhooks", &shorten(&used.token), path, body);
        let call = rest::Call { by_token: true, ..call };
        if let Err(failure) = self.rest.call(&call).await {
            let error = platform::Error::from(failure);
            tracing::warn!("a command could not be refused: {error}");
        }
    }

    /// Takes a line, however often it must be tried: Discord sends it no second time.
    async fn handle(&self, line: Incoming, commands: &Commands) {
        let mut wait = AGAIN.0;
        let taken = loop {
            match commands.handle(&line).await {
                Ok(taken) => break taken,
                Err(error) => tracing::warn!(key = line.key, "a line is not taken yet: {error}"),
            }
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        };
        if taken.delivery.is_empty() {
            self.turn_away(&line).await;
        }
    }

    /// Somebody whom nobody knows tries again. That leaves no trace with us; but an interaction
    /// must not stay without an answer.
    async fn turn_away(&self, line: &Incoming) {
        let Some(id) = line.handle.as_deref() else { return };
        if self.interactions().get(id, self.clock.elapsed()).is_none() {
            return;
        }
        let nonce = Nonce { delivery: line.key.clone(), index: 0 };
        let post =
            Post { conversation: &line.conversation, reply_to: Some(id), text: "", nonce: &nonce };
        let text = "Nobody has let you in yet, so nothing was done with that. The code that you \
                    were told is good for an hour; ask whoever runs this server to approve it.";
        if let Err(error) = self.whisper(&post, &line.user, &text.into()).await {
            tracing::warn!(key = line.key, "a stranger could not be told to wait: {error}");
        }
    }

    /// The parent of a channel that is a thread. Whose agents a line is for, and who may say it,
    /// hangs on that; so it is asked for until it is known.
    async fn parent(&self, channel: &str) -> Option<String> {
        if let Some(parent) = self.known_parent(channel) {
            return parent;
        }
        let mut wait = AGAIN.0;
        loop {
            let call = rest::get("GET channels", channel, format!("channels/{channel}"));
            match self.rest.call(&call).await {
                Ok(about) => {
                    // Kinds of threads: in news, in public, in private.
                    let is_thread = matches!(about["type"].as_u64(), Some(10..=12));
                    let parent = about["parent_id"].as_str().filter(|_| is_thread);
                    let parent = parent.map(ToOwned::to_owned);
                    self.is_below(channel.to_owned(), parent.clone());
                    return parent;
                }
                Err(Failure::Other(platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                    return None;
                }
                Err(failure) => {
                    let error = platform::Error::from(failure);
                    tracing::warn!(channel, "whether this is a thread is not known yet: {error}");
                    self.clock.sleep(wait).await;
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
        }
    }

    /// Fetches the files of a line. What cannot be had is told in the channel, and the rest comes
    /// along.
    async fn fetch(&self, files: &[FileAt], line: &Incoming) -> Vec<Attachment> {
        let (place, key) = (&line.conversation, &line.key);
        let (mut named, mut missing) = (Vec::<NamedFile>::new(), Vec::new());
        for (n, file) in files.iter().enumerate() {
            let name = file_name(&file.name, n, |name| named.iter().any(|it| it.name == name));
            let got = match n < MAX_FILES {
                true => self.fetch_one(file).await,
                false => Err(format!("a message takes {MAX_FILES} files at most")),
            };
            match got {
                Ok(id) => named.push(NamedFile { id, name }),
                Err(why) => missing.push(format!("`{name}` did not come along: {why}")),
            }
        }
        let found = match attachments(named, |id| self.files.size(id)) {
            Ok(found) => found,
            Err(error) => {
                missing.push(error.to_string());
                Vec::new()
            }
        };
        if !missing.is_empty() {
            let text: String = missing.join("\n").chars().take(2_000).collect();
            let body = json!({"content": text, "allowed_mentions": {"parse": []}});
            let channel = place.thread.as_deref().unwrap_or(&place.channel);
            if let Err(error) = self.say(channel, &shorten(&format!("{key} files")), body).await {
                tracing::warn!(key, "it could not be told that files are missing: {error}");
            }
        }
        found
    }

    async fn fetch_one(&self, file: &FileAt) -> Result<String, String> {
        if file.size > MAX_FILE_BYTES {
            return Err(format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024));
        }
        let bytes = self.rest.fetch(&file.url).await?.bytes_stream();
        let bytes = bytes.map(|piece| piece.map_err(reqwest::Error::without_url));
        let stored = self.files.put(Box::pin(bytes), MAX_FILE_BYTES).await;
        stored.map(|stored| stored.id).map_err(|error| error.to_string())
    }
}

/// The key of a line: ids of messages and of interactions are drawn from one row of numbers.
pub(super) fn key(id: &str) -> String {
    format!("{}/{id}", super::NAME)
}

/// A name that a file can have, and that none before it has.
fn file_name(name: &str, n: usize, is_taken: impl Fn(&str) -> bool) -> String {
    let kept = |c: char| if c.is_control() || "/\\".contains(c) { '_' } else { c };
    let name: String = name.chars().map(kept).take(200).collect();
    let name = match name.as_str() {
        "" | "." | ".." => format!("file-{}", n + 1),
        _ => name,
    };
    if is_taken(&name) { format!("{}-{name}", n + 1) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_a_name_that_stands_nowhere_else() {
        assert_eq!(file_name("a.png", 0, |_| false), "a.png");
        assert_eq!(file_name("a.png", 1, |name| name == "a.png"), "2-a.png");
        assert_eq!(file_name("../x\n", 0, |_| false), ".._x_");
        assert_eq!(file_name("..", 2, |_| false), "file-3");
    }
}
