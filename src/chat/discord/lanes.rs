//! A queue for each channel: its lines are taken one after the other, those of others beside them.
//!
//! A queue is made when something comes, and is gone when it is empty. Each line is taken in a task
//! of its own, so that one which ends by a fault of ours is told, and the next is taken.
//!
//! **What does not wait.** While a line waits for what may take long (its files, or Discord), what
//! stops or answers something passes it: a press, `/od-stop` and `/od-cancel`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::{JoinError, JoinHandle},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Discord,
    heard::{Pressed, Said, Used, without_mention},
    taking::Took,
};
use crate::chat::{
    Commands,
    grammar::{self, Command, Line, Verb},
};

/// The wait before it is looked up again what could not be looked up, or not be taken.
const LATER: Duration = Duration::from_secs(60);

/// What is to be taken.
pub(super) enum Work {
    /// A message.
    Said(Said),
    /// A command, and its first answer on the way.
    Used(Used, JoinHandle<()>),
    /// What was said in a channel behind the last that was taken, while nobody listened.
    Missed(String),
    /// A button, and its first answer on the way.
    Pressed(Pressed, JoinHandle<()>),
}

impl Work {
    /// Whether it stops or answers something; `me` is our user.
    fn is_urgent(&self, me: &str) -> bool {
        match self {
            Self::Pressed(..) => true,
            Self::Used(used, _) => matches!(used.verb, Some(Verb::Stop | Verb::Cancel)),
            Self::Said(said) => {
                let line = grammar::parse(without_mention(&said.text, me).0);
                said.files.is_empty()
                    && matches!(line, Ok(Line::Command(Command::Stop(_) | Command::Cancel { .. })))
            }
            Self::Missed(_) => false,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Said(said) => format!("message {}", said.id),
            Self::Used(used, _) => format!("command {}", used.id),
            Self::Missed(channel) => format!("what was missed in {channel}"),
            Self::Pressed(pressed, _) => format!("press {}", pressed.id),
        }
    }
}

/// The queue of a channel.
#[derive(Default)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Work>>,
    /// Whether the line in work waits for what may take long.
    slow: AtomicBool,
    /// Rung when something came, or began to wait.
    bell: Notify,
}

impl Lane {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Work>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what is urgent pass for as long as this waits.
    pub(super) async fn slowly<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.slow.store(true, Ordering::SeqCst);
        self.bell.notify_one();
        let done = waiting.await;
        self.slow.store(false, Ordering::SeqCst);
        done
    }

    /// The first that need not wait.
    fn urgent(&self, me: &str) -> Option<Work> {
        if !self.slow.load(Ordering::SeqCst) {
            return None;
        }
        let mut queue = self.queue();
        let at = queue.iter().position(|work| work.is_urgent(me))?;
        queue.remove(at)
    }
}

/// The queues. Dropping them stops whatever is in them; the server is going down then.
pub(super) struct Lanes {
    inner: Arc<Inner>,
}

struct Inner {
    discord: Arc<Discord>,
    commands: Arc<Commands>,
    open: Mutex<HashMap<String, Arc<Lane>>>,
    /// How many are open.
    count: watch::Sender<usize>,
    stop: CancellationToken,
}

impl Lanes {
    /// Queues that lead to the commands.
    pub(super) fn new(discord: &Arc<Discord>, commands: &Arc<Commands>) -> Self {
        let (discord, commands) = (Arc::clone(discord), Arc::clone(commands));
        let (open, count) = (Mutex::default(), watch::Sender::new(0));
        let stop = CancellationToken::new();
        Self { inner: Arc::new(Inner { discord, commands, open, count, stop }) }
    }

    /// Puts work behind all that came from the same channel.
    pub(super) fn put(&self, channel: &str, work: Work) {
        Arc::clone(&self.inner).put(channel, work);
    }

    /// Waits until all is taken, but no longer than this; what is left then is looked up by the
    /// next server, as far as it was said.
    pub(super) async fn drain(&self, within: Duration) {
        let mut count = self.inner.count.subscribe();
        tokio::select! {
            _ = count.wait_for(|count| *count == 0) => {}
            () = self.inner.discord.clock.sleep(within) => {
                let channels = *self.inner.count.borrow();
                tracing::warn!(
                    channels,
                    "not all lines were taken before the end; messages are looked up at the next \
                     start, commands and presses must be said again"
                );
            }
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Lane>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(self: Arc<Self>, channel: &str, work: Work) {
        let mut open = self.open();
        if let Some(lane) = open.get(channel) {
            lane.queue().push_back(work);
            lane.bell.notify_one();
            return;
        }
        let lane = Arc::new(Lane::default());
        lane.queue().push_back(work);
        open.insert(channel.to_owned(), Arc::clone(&lane));
        drop(open);
        self.count.send_modify(|count| *count += 1);
        let (this, channel) = (Arc::clone(&self), channel.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = this.serve(&channel, &lane) => {}
                () = this.stop.cancelled() => {}
            }
        });
    }

    /// Takes what stands in a queue, until nothing does.
    async fn serve(self: &Arc<Self>, channel: &str, lane: &Arc<Lane>) {
        loop {
            let work = {
                let mut open = self.open();
                let work = lane.queue().pop_front();
                if work.is_none() {
                    open.remove(channel);
                }
                work
            };
            let Some(work) = work else { break };
            let said = match &work {
                Work::Said(said) => Some(said.id.clone()),
                _ => None,
            };
            let name = work.name();
            lane.slow.store(false, Ordering::SeqCst);
            let mut running = self.take(work, lane);
            let took = loop {
                tokio::select! {
                    took = &mut running => break told(&name, took),
                    () = lane.bell.notified() => self.urgent(lane).await,
                }
            };
            match (took, said) {
                (Some(Took::Not), said) => {
                    if let Some(said) = said {
                        self.discord.is_open_from(channel, &said);
                    }
                    self.later(channel);
                }
                (Some(took), Some(said)) => {
                    self.discord.is_taken(channel, &said, took == Took::Answered);
                }
                _ => {}
            }
        }
        self.count.send_modify(|count| *count -= 1);
    }

    /// Takes what passes a line that waits. It is not noted as the last that was taken: what
    /// stands before it is not yet.
    async fn urgent(self: &Arc<Self>, lane: &Arc<Lane>) {
        let me = self.discord.own().me.clone().unwrap_or_default();
        while let Some(work) = lane.urgent(&me) {
            let name = work.name();
            // What passes others holds nobody up by itself.
            let running = self.take(work, &Arc::new(Lane::default()));
            told(&name, running.await);
        }
    }

    fn take(&self, work: Work, lane: &Arc<Lane>) -> AbortOnDropHandle<Took> {
        let (discord, commands) = (Arc::clone(&self.discord), Arc::clone(&self.commands));
        let lane = Arc::clone(lane);
        AbortOnDropHandle::new(tokio::spawn(
            async move { discord.work(work, &commands, &lane).await },
        ))
    }

    /// Has it looked up again what is not taken yet.
    fn later(self: &Arc<Self>, channel: &str) {
        let (this, channel) = (Arc::clone(self), channel.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = this.discord.clock.sleep(LATER) => {
                    Arc::clone(&this).put(&channel, Work::Missed(channel.clone()));
                }
                () = this.stop.cancelled() => {}
            }
        });
    }
}

/// What became of a line; a fault of ours is told, and stops nobody else.
fn told(name: &str, ended: Result<Took, JoinError>) -> Option<Took> {
    match ended {
        Ok(took) => Some(took),
        Err(error) => {
            let why = if error.is_panic() { "a fault of ours" } else { "the end" };
            tracing::error!("{name} of Discord was not taken, because of {why}: {error}");
            None
        }
    }
}
