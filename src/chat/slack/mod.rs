//! Slack: people heard through Socket Mode, answers by the Web API.
//!
//! **What it is for.** [`Slack`] is the ear and the mouth of one Slack app in one workspace. It
//! needs no public address: the server dials Slack and holds two WebSockets open, so that one
//! hears while the other is replaced, which Slack asks for every few hours.
//!
//! **What it may know.** Chat's own doors ([`Commands`], [`Platform`], [`Ear`]), the store's
//! files, and `slack-morphism`, which carries sockets and calls.
//!
//! **What it may never do.** Acknowledge an envelope whose line is not durable; say anything twice;
//! send its tokens anywhere but to Slack; dial faster than Slack bears.
//!
//! **The life of a line.** A frame comes to [`socket`], which lets [`envelope`] read it. What a
//! person said becomes an [`Incoming`] under the identity of the message itself, for Slack delivers
//! the same one up to four times, and a mention as two events. Lines wait in [`lanes`], where the
//! messages of one channel are taken in the order in which they came, whichever socket brought
//! them; no socket waits for what takes long. What may lead to something is completed: files are
//! fetched ([`files`]), and what the event leaves open is looked up ([`look`]): files of a mention,
//! and what was said before in a thread. When [`Commands::handle`] has answered, the envelope is
//! acknowledged, if there is still time; if not, Slack brings a message again, and finds it taken.
//! Commands and presses Slack brings once; so whatever the store refuses is tried here for ten
//! minutes. The answer is a delivery, which the outbox shows through [`mouth`].

mod api;
mod blocks;
mod bounded;
mod envelope;
mod files;
mod health;
mod lanes;
mod look;
pub mod manifest;
mod marks;
mod mouth;
mod pace;
mod settings;
mod socket;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use settings::{Error, Settings};
pub use socket::Tempo;

use super::{
    Commands, Incoming, Via,
    ear::{Ear, Hearing},
    platform::Platform,
};
use crate::{
    ambient::Ambient,
    store::{Conversation, files::Files},
};
use api::Api;
use envelope::{Heard, Me, Shared};
use health::Health;
use pace::Pace;

/// The platform's name in conversations.
pub const NAME: &str = "slack";
/// How many lines are remembered as taken, beside the receipts, which are for ever.
const REMEMBERED: usize = 4096;
/// How long Slack may take to say what a person is called.
const NAME_PATIENCE: Duration = Duration::from_secs(2);
/// The wait before a line is taken again that the store did not take, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// For how long it is tried.
const GIVEN_UP: Duration = Duration::from_secs(10 * 60);
/// How long an address for an answer lives at Slack.
const ANSWER_LIVES: Duration = Duration::from_secs(30 * 60);

/// A Slack app in a workspace.
pub struct Slack {
    settings: Settings,
    ambient: Ambient,
    files: Arc<Files>,
    api: Api,
    http: reqwest::Client,
    tempo: Tempo,
    health: Health,
    memory: Mutex<Memory>,
    answers: Mutex<Answers>,
    posts: Mutex<Pace<String>>,
    edits: Mutex<Pace<()>>,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slack").field("api", &self.settings.api.as_str()).finish_non_exhaustive()
    }
}

/// What is known without asking again; losing it costs a call, and nothing else.
#[derive(Debug, Default)]
struct Memory {
    taken: HashSet<String>,
    order: VecDeque<String>,
    /// The key under which a message first came, by its other name.
    aliases: HashMap<String, String>,
    names: HashMap<String, String>,
    /// Lines of which it was not known once whether files came with them.
    doubts: HashSet<String>,
}

impl Memory {
    /// The key of a line, which is that of the same message under another one.
    fn key(&mut self, heard: &Heard) -> String {
        let Some(alias) = &heard.alias else { return heard.key.clone() };
        if self.aliases.len() >= REMEMBERED {
            self.aliases.clear();
        }
        self.aliases.entry(alias.clone()).or_insert_with(|| heard.key.clone()).clone()
    }

    /// Whether a line is in doubt for the first time.
    fn doubt(&mut self, key: &str) -> bool {
        if self.doubts.len() >= REMEMBERED {
            self.doubts.clear();
        }
        self.doubts.insert(key.to_owned())
    }

    fn take(&mut self, key: &str) {
        self.doubts.remove(key);
        if self.taken.insert(key.to_owned()) {
            self.order.push_back(key.to_owned());
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.taken.remove(&oldest);
        }
    }
}

/// The addresses at which commands and presses can be answered, by handle.
#[derive(Debug, Default)]
struct Answers {
    by_handle: HashMap<String, (Duration, String)>,
    now: Duration,
}

impl Answers {
    fn insert(&mut self, handle: String, url: String) {
        let now = self.now;
        self.by_handle.retain(|_, (since, _)| now.saturating_sub(*since) < ANSWER_LIVES);
        self.by_handle.insert(handle, (now, url));
    }

    fn get(&self, handle: &str) -> Option<String> {
        let (since, url) = self.by_handle.get(handle)?;
        (self.now.saturating_sub(*since) < ANSWER_LIVES).then(|| url.clone())
    }

    fn remove(&mut self, handle: &str) {
        self.by_handle.remove(handle);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slack {
    /// The app that these settings name. Nothing is dialled before [`Ear::listen`].
    ///
    /// # Errors
    /// That this machine has no certificates to trust Slack by, in one line.
    pub fn new(
        settings: Settings,
        files: Arc<Files>,
        ambient: Ambient,
        tempo: Tempo,
    ) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {
            api: Api::new(&settings, Arc::clone(&ambient.clock))?,
            http: files::client()?,
            settings,
            ambient,
            files,
            tempo,
            health: Health::default(),
            memory: Mutex::default(),
            answers: Mutex::default(),
            posts: Mutex::new(Pace::new(Duration::from_secs(1), 3)),
            edits: Mutex::new(Pace::new(mouth::EDIT, mouth::EDITS_AT_ONCE)),
        }))
    }

    fn posts(&self) -> MutexGuard<'_, Pace<String>> {
        lock(&self.posts)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        let mut answers = lock(&self.answers);
        answers.now = self.ambient.clock.elapsed();
        answers
    }

    /// Takes one line, however often the store must be asked. Whether it is durable, and may be
    /// acknowledged.
    async fn take(&self, heard: Heard, commands: &Commands) -> bool {
        let key = lock(&self.memory).key(&heard);
        if lock(&self.memory).taken.contains(&key) {
            return true;
        }
        let mut incoming = self.line(&heard, key.clone());
        // What leads to nothing costs no room on disk, and no calls.
        if commands.may_lead_to_something(&incoming).await.unwrap_or(true) {
            // Another event about the same message comes, or this one again.
            let Some(files) = self.files_of(&heard, &key).await else { return false };
            self.attach(&mut incoming, files).await;
            self.name(&mut incoming, heard.name.is_some()).await;
            incoming.context = self.said_before(&incoming, heard.at.as_deref(), commands).await;
            incoming.context.extend(heard.forwarded);
        } else if incoming.via == Via::Addressed {
            // Whoever asks to be let in is asked about by name.
            self.name(&mut incoming, heard.name.is_some()).await;
        }
        let (mut wait, since) = (AGAIN.0, self.ambient.clock.elapsed());
        while let Err(error) = commands.handle(&incoming).await {
            if self.ambient.clock.elapsed().saturating_sub(since) >= GIVEN_UP {
                // Others wait behind it; and nobody means any more what they said so long ago.
                tracing::error!(key, "a line from Slack is given up: {error}");
                return false;
            }
            tracing::warn!(key, "a line from Slack is not taken yet: {error}");
            self.ambient.clock.sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
        lock(&self.memory).take(&key);
        true
    }

    /// Makes a line of what was heard, as far as that tells.
    fn line(&self, heard: &Heard, key: String) -> Incoming {
        if let Some((handle, url)) = &heard.answer
            && files::may_fetch_text(url, &self.settings.api)
        {
            self.answers().insert(handle.clone(), url.clone());
        }
        Incoming {
            key,
            alias: heard.alias.as_ref().map(|alias| format!("{NAME}/msg/{alias}")),
            conversation: Conversation {
                platform: NAME.to_owned(),
                channel: heard.channel.clone(),
                thread: heard.thread.clone(),
            },
            author: heard.name.clone().unwrap_or_else(|| heard.user.clone()),
            user: heard.user.clone(),
            text: heard.text.clone(),
            attachments: Vec::new(),
            context: Vec::new(),
            via: heard.via,
            handle: heard.answer.as_ref().map(|(handle, _)| handle.clone()),
        }
    }

    /// Fetches files for a line. What does not come is said in it.
    async fn attach(&self, line: &mut Incoming, shared: Vec<Shared>) {
        let fetcher = files::Fetcher {
            http: &self.http,
            token: &self.settings.bot_token,
            api: &self.settings.api,
            store: &self.files,
            clock: &*self.ambient.clock,
        };
        let places = shared.into_iter().map(|file| async {
            let found = if file.url.is_empty() { self.place_of(&file).await } else { None };
            found.unwrap_or(file)
        });
        let (attachments, lost) = fetcher.fetch(&join_all(places).await).await;
        line.attachments = attachments;
        for why in lost {
            tracing::warn!(key = line.key, "{why}");
            line.text.push_str(if line.text.is_empty() { "" } else { "\n" });
            line.text.push_str(&why);
        }
    }

    /// Gives a line the name of who said it, unless it has it.
    async fn name(&self, line: &mut Incoming, is_named: bool) {
        if !is_named {
            line.author = self.name_of(&line.user).await;
        }
    }

    /// What a person is called; their id where Slack does not say.
    async fn name_of(&self, user: &str) -> String {
        if let Some(name) = lock(&self.memory).names.get(user) {
            return name.clone();
        }
        let arguments = [("user", user.to_owned())];
        let info = tokio::select! {
            info = self.api.get("users.info", &arguments) => info.ok(),
            () = self.ambient.clock.sleep(NAME_PATIENCE) => None,
        };
        let Some(info) = info else { return user.to_owned() };
        let paths = ["/user/profile/display_name", "/user/profile/real_name", "/user/name"];
        let name = paths
            .iter()
            .find_map(|path| {
                let name = info.pointer(path).and_then(Value::as_str).map(str::trim);
                name.filter(|name| !name.is_empty())
            })
            .unwrap_or(user)
            .to_owned();
        let mut memory = lock(&self.memory);
        if memory.names.len() >= REMEMBERED {
            memory.names.clear();
        }
        memory.names.insert(user.to_owned(), name.clone());
        name
    }

    fn me(&self) -> Me {
        self.health.me()
    }
}

#[async_trait]
impl Ear for Slack {
    fn platform(self: Arc<Self>) -> Arc<dyn Platform> {
        self
    }

    fn hearing(&self) -> Hearing {
        self.health.hearing(self.ambient.clock.elapsed())
    }

    async fn listen(self: Arc<Self>, commands: Arc<Commands>, stop: CancellationToken) {
        socket::listen(self, commands, stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn heard(key: &str, alias: Option<&str>) -> Heard {
        Heard {
            key: key.into(),
            alias: alias.map(str::to_owned),
            channel: "C1".into(),
            thread: None,
            user: "U1".into(),
            name: None,
            text: String::new(),
            via: Via::Overheard,
            answer: None,
            files: Vec::new(),
            forwarded: Vec::new(),
            at: None,
            files_untold: false,
        }
    }

    #[test]
    fn a_message_that_comes_under_another_time_keeps_its_first_key() {
        let mut memory = Memory::default();
        assert_eq!(memory.key(&heard("slack/T/C/1.0", Some("C/m1"))), "slack/T/C/1.0");
        assert_eq!(memory.key(&heard("slack/T/C/1.5", Some("C/m1"))), "slack/T/C/1.0");
        assert_eq!(memory.key(&heard("slack/T/C/1.5", Some("C/m2"))), "slack/T/C/1.5");
        assert_eq!(memory.key(&heard("slack/T/C/2.0", None)), "slack/T/C/2.0");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut memory = Memory::default();
        for n in 0..REMEMBERED * 2 {
            memory.take(&n.to_string());
            memory.take(&n.to_string());
        }
        assert_eq!((memory.taken.len(), memory.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!memory.taken.contains("0"));
    }

    #[test]
    fn an_address_for_an_answer_stands_until_it_is_used_and_not_for_ever() {
        let mut answers = Answers::default();
        answers.insert("a".into(), "https://a".into());
        answers.insert("b".into(), "https://b".into());
        assert_eq!(answers.get("a").as_deref(), Some("https://a"));
        answers.remove("a");
        assert_eq!(answers.get("a"), None);
        answers.now = ANSWER_LIVES;
        assert_eq!(answers.get("b"), None);
    }
}
