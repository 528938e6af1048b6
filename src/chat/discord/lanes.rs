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
    Discord, Last,
    heard::{FileAt, Pressed, Said, Used, conversation, looked_up, without_mention},
    mouth::{handle_of_message, shorten},
    options,
    rest::{self, Failure},
};
use crate::{
    chat::{Commands, Incoming, Via, platform},
    store::{
        Conversation,
        attached::{MAX_FILES, NamedFile, attachments},
        files::MAX_FILE_BYTES,
    },
};

/// How many channels are served at once.
const LANES: usize = 32;
/// The wait before a line is taken again that the store did not take, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// How often a channel is asked about before it is taken for one that is no thread.
const TRIES: u32 = 5;
/// How many messages are looked up that were missed in a channel; the most that Discord gives.
const MISSED: usize = 100;
/// How many channels are remembered.
const CHANNELS: usize = 4_096;

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

    async fn said(&self, said: Said, commands: &Commands) {
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
        let key = key(&said.id);
        let attachments = self.fetch(said.files, &place, &key).await;
        // Somebody only called our name.
        let text = match text.trim().is_empty() && attachments.is_empty() {
            true if addressed => "/od-help",
            true => return,
            false => text,
        };
        let line = Incoming {
            user: said.who.id,
            attachments,
            via: if addressed { Via::Addressed } else { Via::Overheard },
            handle: Some(handle_of_message(&said.id)),
            ..Incoming::typed(key, place, said.who.name, text)
        };
        self.handle(line, commands).await;
    }

    /// Takes what was missed, the oldest first.
    async fn missed(&self, channel: &str, last: Last, commands: &Commands) {
        let path = format!("channels/{channel}/messages?after={}&limit={MISSED}", last.message);
        let call = rest::get("GET channels/messages", channel, path);
        let mut wait = AGAIN.0;
        for _ in 0..TRIES {
            match self.rest.call(&call).await {
                Ok(messages) => {
                    let all = messages.as_array().cloned().unwrap_or_default().into_iter();
                    let mut said: Vec<Said> =
                        all.filter_map(|message| looked_up(message, last.direct)).collect();
                    said.sort_by_key(|said| said.id.parse::<u64>().unwrap_or_default());
                    for said in said {
                        self.note(&said);
                        self.said(said, commands).await;
                    }
                    return;
                }
                Err(Failure::Other(platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                    return;
                }
                Err(_) => {
                    self.clock.sleep(wait).await;
                    wait *= 4;
                }
            }
        }
        tracing::warn!(channel, "what was said while nobody listened could not be looked up");
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
        let key = key(&used.id);
        let attachments = self.fetch(used.files, &used.place, &key).await;
        let line = Incoming {
            user: used.who.id,
            attachments,
            handle: Some(used.id),
            ..Incoming::typed(key, used.place, used.who.name, text)
        };
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
        while let Err(error) = commands.handle(&line).await {
            tracing::warn!(key = line.key, "a line is not taken yet: {error}");
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
    }

    /// The parent of a channel that is a thread.
    async fn parent(&self, channel: &str) -> Option<String> {
        let known =
            |parents: &std::collections::HashMap<_, Option<String>>| parents.get(channel).cloned();
        if let Some(parent) =
            known(&self.parents.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        {
            return parent;
        }
        let mut wait = AGAIN.0;
        for _ in 0..TRIES {
            let call = rest::get("GET channels", channel, format!("channels/{channel}"));
            let parent = match self.rest.call(&call).await {
                // Kinds of threads: in news, in public, in private.
                Ok(about) if matches!(about["type"].as_u64(), Some(10..=12)) => {
                    about["parent_id"].as_str().map(ToOwned::to_owned)
                }
                Ok(_) => None,
                Err(Failure::Other(platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                    return None;
                }
                Err(_) => {
                    self.clock.sleep(wait).await;
                    wait *= 2;
                    continue;
                }
            };
            let mut parents =
                self.parents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if parents.len() >= CHANNELS {
                parents.clear();
            }
            parents.insert(channel.to_owned(), parent.clone());
            return parent;
        }
        None
    }

    /// Fetches the files of a line. What cannot be had is told in the channel, and the rest comes
    /// along.
    async fn fetch(&self, files: Vec<FileAt>, place: &Conversation, key: &str) -> Vec<Attachment> {
        let (mut named, mut missing) = (Vec::<NamedFile>::new(), Vec::new());
        for (n, file) in files.into_iter().enumerate() {
            let name = file_name(&file.name, n, |name| named.iter().any(|it| it.name == name));
            let got = match n < MAX_FILES {
                true => self.fetch_one(&file).await,
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
fn key(id: &str) -> String {
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
