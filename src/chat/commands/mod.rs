//! Commands become one transaction each: a receipt, what was asked for, and the answer.
//!
//! Nothing here acts. `/od-run` writes a Job, `/od-start` an Agent, a message a turn, `/od-cancel`
//! a field of a Job's spec or of a turn, and the loop does the rest. The receipt commits with its
//! effect, and names are made from the request's key; so a line that is delivered twice, at
//! whatever instant the server died, leaves one effect and one answer.
//!
//! Each verb decides from what the store holds ([`find`]) and writes on top of just that; where
//! somebody else wrote first, it decides again. [`spec`] makes specs from flags, [`talk`] is about
//! turns, [`start`] and [`edit`] about agents, [`jobs`] about jobs, [`schedules`] about schedules,
//! [`pick`] about messages that several could be meant by, [`offer`] about what Sources own,
//! [`apply`] about YAML; [`show`] only looks, [`worth`] says
//! what a platform asks before it fetches anything.

mod apply;
mod approve;
mod edit;
mod find;
mod gate;
mod jobs;
mod offer;
mod pick;
mod schedules;
mod show;
mod spec;
mod start;
mod talk;
mod worth;

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sprite_reporter::wire::Attachment;

pub(super) use find::{approvals_of, sprites_of};
use gate::right;

use super::{
    grammar::{self, Command, Line, Refusal},
    help,
    outbox::delivery_id,
    replies,
};
use crate::{
    access::{Known, Quoted, Reach, Right, Standing, names::called},
    ambient::Ambient,
    resource::Defaults,
    store::{
        Access, Conversation, Delivery, Error, Op, Principal, Receipt, Store, Subject, Transaction,
        files::Files,
    },
};

/// How often a write is tried again when somebody else wrote first.
const TRIES: u32 = 8;
/// The platform on which a shell is a fit default: whoever types there could type into one.
pub(super) const CONSOLE: &str = "console";
/// The platform that takes no files in channels.
const TEAMS: &str = "teams";

/// A line that came in, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The platform's key of this line, such as `console/REQUEST-ID`: the same for a redelivery.
    pub key: String,
    /// Another key of this line, by which the platform may bring it again.
    pub alias: Option<String>,
    /// Where it was said, and where the answer goes.
    pub conversation: Conversation,
    /// Who said it, as people call them.
    pub author: String,
    /// Who said it, as the platform identifies them: what access is decided by.
    pub user: String,
    /// What was said.
    pub text: String,
    /// Files that came with it. They go to an agent, with the message.
    pub attachments: Vec<Attachment>,
    /// What others said around it, such as earlier in its thread, or what it replies to; oldest
    /// first. Goes to an agent in front of the message, as text that is quoted.
    pub context: Vec<Quoted>,
    /// How it came.
    pub via: Via,
    /// What the platform needs for answering just this line, such as the id of a Discord
    /// interaction; comes back as [`Post::reply_to`](super::platform::Post::reply_to).
    pub handle: Option<String>,
}

/// How a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// It was said to us: in a direct message, by mentioning us, at a terminal, or as the
    /// platform's own command. It always gets an answer.
    Addressed,
    /// It was said among people, where we listen as well. It is for an agent that listens there,
    /// or for nobody.
    Overheard,
    /// Somebody pressed a button of ours.
    Pressed,
}

impl Incoming {
    /// A line that somebody typed, to us.
    #[must_use]
    pub fn typed(
        key: impl Into<String>,
        conversation: Conversation,
        author: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        let author = author.into();
        Self {
            key: key.into(),
            alias: None,
            conversation,
            user: author.clone(),
            author,
            text: text.into(),
            attachments: Vec::new(),
            context: Vec::new(),
            via: Via::Addressed,
            handle: None,
        }
    }

    /// Who said it, as access knows people.
    fn principal(&self) -> Principal {
        Principal::user(&self.conversation.platform, &self.user)
    }

    /// Where it was said, as access knows channels.
    fn channel(&self) -> Principal {
        Principal::channel(&self.conversation.platform, &self.conversation.channel)
    }

    /// All that it may come under.
    fn keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.key.as_str()).chain(self.alias.as_deref())
    }

    /// Whether a file can stand where it was said.
    fn takes_files(&self) -> bool {
        !matches!(self.conversation.platform.as_str(), CONSOLE | TEAMS)
    }

    fn is_console(&self) -> bool {
        self.conversation.platform == CONSOLE
    }
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The delivery that answers it; empty for a line that gets no answer, such as what strangers
    /// say among each other, which leaves no trace.
    pub delivery: String,
    /// Whether the line was taken before, and nothing was done now.
    pub again: bool,
}

/// What a person need not say.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Which agent, which model, and where it may work.
    pub defaults: Defaults,
    /// Who is an admin without being let in.
    pub admins: Vec<Principal>,
}

/// Takes lines of chat.
pub struct Commands {
    store: Arc<dyn Store>,
    ambient: Ambient,
    settings: Settings,
    files: Option<Arc<Files>>,
}

/// What a line leads to: what to write, and the answer.
struct Effect {
    ops: Vec<Op>,
    answer: Answer,
}

enum Answer {
    /// A fixed text.
    Text(String),
    /// A fixed text that concerns nobody but the one who asked.
    Private(String),
    /// Nobody is told anything: it was not for us.
    Nothing,
    /// Asks how, or whether, a change is to be made.
    Offer { text: String, labels: Vec<String>, pending: offer::Pending },
    /// Asks for which of these agents it is.
    Choice { text: String, context: String, names: Vec<String> },
    /// A delivery that is there, as it is from now on.
    Standing(Box<Delivery>),
    /// The transcript of a Job, which is made with it.
    Job { uid: String, name: String },
    /// The transcript of a turn, which is queued with it.
    Turn { id: String },
    /// A fixed text for whoever asked alone: they may not.
    Refused(String),
}

impl Effect {
    fn nothing() -> Self {
        Self { ops: Vec::new(), answer: Answer::Nothing }
    }

    fn refused(text: impl Into<String>) -> Self {
        Self { ops: Vec::new(), answer: Answer::Refused(text.into()) }
    }

    fn text(text: impl Into<String>) -> Self {
        Self { ops: Vec::new(), answer: Answer::Text(text.into()) }
    }

    fn private(text: impl Into<String>) -> Self {
        Self { ops: Vec::new(), answer: Answer::Private(text.into()) }
    }

    fn told(ops: Vec<Op>, text: impl Into<String>) -> Self {
        Self { ops, answer: Answer::Text(text.into()) }
    }
}

impl Commands {
    /// Takes lines into a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, settings: Settings) -> Self {
        Self { store, ambient, settings, files: None }
    }

    /// Reads YAML that comes as a file from these.
    #[must_use]
    pub fn with_files(self, files: Arc<Files>) -> Self {
        Self { files: Some(files), ..self }
    }

    /// Takes one line: answers once its effect and its answer are durable.
    ///
    /// # Errors
    /// The store's, when nothing was done; the line may be sent again with the same key.
    pub async fn handle(&self, line: &Incoming) -> Result<Taken, Error> {
        self.handle_by(line, None).await
    }

    /// As [`Commands::handle`], for whoever was let in by a token of the API: what they say is taken
    /// only while it stands.
    ///
    /// # Errors
    /// The store's, when nothing was done; [`Error::Revoked`] where the token stands no more.
    pub async fn handle_by(&self, line: &Incoming, token: Option<&Access>) -> Result<Taken, Error> {
        // What they call themselves stands in our lines from here on.
        let line = &Incoming { author: name_of(line), ..line.clone() };
        if let Some(receipt) = self.taken(line).await? {
            return Ok(Taken { delivery: delivery_of(&receipt.effect), again: true });
        }
        let parsed = grammar::parse(&line.text);
        let mut round = 0;
        loop {
            let effect = self.effect(&parsed, line, round).await?;
            let Some(delivery) = self.answer(&effect.answer, line) else {
                return Ok(Taken { delivery: String::new(), again: false });
            };
            let id = delivery.id.clone();
            let mut transaction = Transaction::at(self.ambient.clock.now());
            for key in line.keys() {
                let receipt = Receipt { key: key.to_owned(), effect: format!("deliveries/{id}") };
                transaction = transaction.with(Op::Receipt(receipt));
            }
            // A file stands below the words that answer.
            let comes_behind = |op: &Op| matches!(op, Op::Delivery(it) if matches!(it.subject, Subject::File { .. }));
            let (behind, ops): (Vec<Op>, Vec<Op>) = effect.ops.into_iter().partition(comes_behind);
            let manager = format!("chat:{}", line.conversation.platform);
            transaction.ops.push(Op::WrittenBy(manager));
            transaction
                .ops
                .extend(token.map(|token| Op::ByToken { token: token.clone(), note: None }));
            transaction.ops.extend(ops);
            transaction.ops.push(Op::Delivery(delivery));
            transaction.ops.extend(behind);
            match self.ambient.step("chat.take", self.store.apply(transaction)).await {
                Ok(_) => return Ok(Taken { delivery: id, again: false }),
                Err(Error::Duplicate { key, effect }) if line.keys().any(|it| it == key) => {
                    return Ok(Taken { delivery: delivery_of(&effect), again: true });
                }
                // Somebody else wrote first: look again at what is there now.
                Err(
                    Error::Conflict { .. }
                    | Error::AlreadyExists { .. }
                    | Error::NotFound { .. }
                    | Error::Stale { .. }
                    | Error::Owned { .. }
                    | Error::Duplicate { .. },
                ) if round < TRIES => {
                    round += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a line would go to an agent as things stand, so that it is worth asking the
    /// platform what was said around it. Nothing is done.
    ///
    /// # Errors
    /// The store's.
    pub async fn would_reach_an_agent(&self, line: &Incoming) -> Result<bool, Error> {
        let parsed = grammar::parse(&line.text);
        if !matches!(parsed, Ok(Line::Plain(_) | Line::Command(Command::Send { .. })))
            || self.taken(line).await?.is_some()
        {
            return Ok(false);
        }
        let effect = self.effect(&parsed, line, 0).await?;
        Ok(matches!(effect.answer, Answer::Turn { .. } | Answer::Choice { .. }))
    }

    /// Whether the line with this key went to an agent, as far as receipts are kept.
    ///
    /// # Errors
    /// The store's.
    pub async fn reached_an_agent(&self, key: &str) -> Result<bool, Error> {
        let Some(receipt) = self.store.receipt(key).await? else { return Ok(false) };
        let delivery = self.store.delivery(&delivery_of(&receipt.effect)).await?;
        Ok(delivery.is_some_and(|delivery| {
            matches!(delivery.subject, Subject::Turn { .. } | Subject::Choice { .. })
        }))
    }

    /// The receipt of a line that was taken, under whichever of its keys.
    async fn taken(&self, line: &Incoming) -> Result<Option<Receipt>, Error> {
        for key in line.keys() {
            if let Some(receipt) = self.store.receipt(key).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    fn answer(&self, answer: &Answer, line: &Incoming) -> Option<Delivery> {
        let conversation = &line.conversation;
        let (id, subject) = match answer {
            Answer::Nothing => return None,
            Answer::Standing(delivery) => return Some((**delivery).clone()),
            Answer::Text(text) | Answer::Private(text) | Answer::Refused(text) => {
                (self.ambient.ids.uid(), Subject::Notice { text: text.clone() })
            }
            Answer::Offer { text, labels, pending } => {
                let subject = Subject::Offer {
                    text: text.clone(),
                    labels: labels.clone(),
                    // What is made of text and JSON can be kept.
                    pending: serde_json::to_value(pending).unwrap_or_default(),
                };
                (self.ambient.ids.uid(), subject)
            }
            Answer::Choice { text, context, names } => {
                let subject = Subject::Choice {
                    text: text.clone(),
                    context: context.clone(),
                    names: names.clone(),
                    author: line.author.clone(),
                    user: line.user.clone(),
                    attachments: line.attachments.clone(),
                };
                (self.ambient.ids.uid(), subject)
            }
            Answer::Job { uid, name } => (
                delivery_id(uid, conversation),
                Subject::Job { uid: uid.clone(), name: name.clone() },
            ),
            Answer::Turn { id } => {
                (delivery_id(id, conversation), Subject::Turn { id: id.clone() })
            }
        };
        // What a press did shows where the button stood; the words are for whoever pressed.
        let is_private = match answer {
            Answer::Private(_) | Answer::Refused(_) => true,
            Answer::Text(_) => line.via == Via::Pressed,
            _ => false,
        };
        let now = self.ambient.clock.now();
        Some(Delivery {
            reply_to: line.handle.clone(),
            only_for: is_private.then(|| line.user.clone()),
            ..Delivery::open(id, conversation.clone(), subject, now)
        })
    }

    /// What a line leads to for somebody who may say it.
    async fn meant(
        &self,
        parsed: &Result<Line, Refusal>,
        line: &Incoming,
        round: u32,
        standing: &Standing,
        rows: &[Access],
    ) -> Result<Effect, Error> {
        let command = match parsed {
            // Other programs have commands, too.
            Err(Refusal::UnknownCommand { word, .. })
                if line.via == Via::Overheard && !word.starts_with("od-") =>
            {
                return Ok(Effect::nothing());
            }
            Err(refusal) => return Ok(Effect::private(refusal.to_string())),
            Ok(Line::Plain(text)) => return self.plain(text, line).await,
            Ok(Line::Command(command)) => command,
        };
        // What somebody attached is never dropped in silence.
        let takes_files =
            matches!(command, Command::Send { .. } | Command::Apply { .. } | Command::Diff(_));
        if !line.attachments.is_empty() && !takes_files {
            return Ok(Effect::private(replies::files_go_with_messages()));
        }
        self.command(command, line, round, standing, rows).await
    }

    async fn command(
        &self,
        command: &Command,
        line: &Incoming,
        round: u32,
        standing: &Standing,
        rows: &[Access],
    ) -> Result<Effect, Error> {
        let known = Known { rows, admins: &self.settings.admins };
        let reach = |right| Reach::of(known, &line.user, &line.conversation, right);
        let meant = reach(right(command));
        let within = &meant;
        match command {
            Command::Start(start) => self.start(start, line, round, within).await,
            Command::Send { to, text } => self.send(to, text, line, within).await,
            Command::Stop(stop) => self.stop(stop, line, within).await,
            Command::List => self.list(within).await,
            Command::Run(run) => self.run(run, line, round).await,
            Command::Jobs => self.jobs(within).await,
            Command::Schedule(what) => self.schedule(what, line, round, within).await,
            Command::Status(target) => self.status(target, within).await,
            Command::Logs(target) => self.logs(target, within).await,
            Command::Retry { target, force, which } => {
                self.retry(target, *force, which.as_ref(), line, within).await
            }
            Command::Pick { delivery, n } => self.pick(delivery, *n, line, within).await,
            Command::Approve { target, words } => self.approve(target, words, line, within).await,
            Command::Set { target, changes } => self.set(target, changes, within).await,
            Command::Choose { delivery, n } => self.choose(delivery, *n, line, round, within).await,
            Command::Apply { text } => self.apply(text, line, within).await,
            Command::Diff(diff) => self.diff(diff, line, within).await,
            Command::Export(targets) => self.export(targets, line, within).await,
            Command::Scale { target, replicas } => self.scale(target, *replicas, within).await,
            Command::Delete(target) => self.delete(target, within).await,
            Command::Help(None) => Ok(Effect::private(help::overview())),
            Command::Help(Some(verb)) => Ok(Effect::private(help::on(*verb))),
            Command::Whoami => Ok(Self::whoami(line, standing)),
            Command::Cancel { target, which } => {
                let commands =
                    (standing.role >= Right::Command.needs()).then(|| reach(Right::Command));
                let which = which.as_ref();
                let cancelled = self.cancel(target, which, commands.as_ref(), line, within).await?;
                Ok(cancelled.unwrap_or_else(|| {
                    let what = "cancelling what others said";
                    Effect::refused(self.refusal(line, standing, what, Right::Command, rows))
                }))
            }
        }
    }
}

/// What whoever said a line is called; by their id where they have no name.
fn name_of(line: &Incoming) -> String {
    let name = called(&line.author);
    if name.is_empty() { called(&line.user) } else { name }
}

fn delivery_of(effect: &str) -> String {
    effect.strip_prefix("deliveries/").unwrap_or(effect).to_owned()
}

/// Five characters that name a run, always the same for the same request and round.
fn suffix(key: &str, round: u32) -> String {
    /// As in Kubernetes' generated names: no vowels, nothing that looks alike.
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let hash = Sha256::digest(format!("{key}\n{round}"));
    hash.iter()
        .take(5)
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}
