//! The Fly runtime's hands.
//!
//! Each of them looks first, does one thing, and may be called again after a crash at any point. It
//! keeps nothing that it could not do without: the book says what was seen lately, so that a look
//! costs no call; what is lost with the process is asked for again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sprite_reporter::wire::{Claimed, Exit, ExitReason};
use tokio::sync::{Notify, mpsc, watch};

use super::{
    FlySettings,
    api::{ApiError, ExitEvent, MachineState as State, Machines},
    book::{Book, LIST_LAG, Look},
    claim, environment,
    exit::{Ended, exit},
    observe::{Facts, START_LAG, Sight, Verdict, due, has_begun, is_over, is_wedged, observe},
    seen::Seen,
    trouble::meaning,
    volume::Shelf,
    wish,
};
use crate::{
    ambient::{Ambient, later},
    resource::{FlyMachine, Sprite},
    runtime::{Cleaned, Error, MachineStand, Observed, Runtime},
    secrets::Secrets,
};

/// How old what was listed may be while something runs.
const AGE: Duration = Duration::from_secs(20);
/// How old it may be while everybody sleeps.
const AGE_ASLEEP: Duration = Duration::from_secs(200);
/// How long the first list is waited for: a list is given up after thirty seconds.
const FIRST_LIST: Duration = Duration::from_secs(35);
/// How often a machine is looked at whose run has ended, until it is not up any more.
const LEAVING: Duration = Duration::from_secs(2);
/// How long a machine that is destroyed is waited for, step by step, before others have their turn.
const UNTIL_GONE: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How long after it was told to end a machine that does not obey is stopped politely.
const OBEYS: Duration = Duration::from_secs(5 * 60);
/// The condition that says since when a Sprite is to end.
const STOPPING: &str = "Stopping";
/// The condition that says that a Sprite sleeps.
const ASLEEP: &str = "Asleep";
/// The condition that says that a Sprite was ever let in.
const ADMITTED: &str = "Admitted";

/// Says the store's revision; nothing where it cannot be told now.
pub type Revision = Arc<dyn Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync>;

/// The Fly runtime.
pub struct FlyRuntime {
    pub(super) settings: FlySettings,
    pub(super) api: Machines,
    pub(super) installation: String,
    pub(super) secrets: Secrets,
    pub(super) ambient: Ambient,
    pub(super) revision: Revision,
    /// When this process began; what an earlier one did shows in a later list.
    pub(super) born: (Timestamp, Duration),
    book: Mutex<Book>,
    pub(super) shelf: Mutex<Shelf>,
    /// Since when a machine is missing of which nobody knows the id.
    missing: Mutex<HashMap<String, Duration>>,
    /// Of whom a wake is on its way, and when it is due.
    timers: Arc<Mutex<HashMap<String, Duration>>>,
    pub(super) wake: mpsc::UnboundedSender<String>,
    wakes: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    /// Who waits for a secret.
    pub(super) waiting: Arc<Mutex<HashSet<String>>>,
    /// Whether the census has asked for its first list, whatever became of that.
    pub(super) opened: watch::Sender<bool>,
    /// Rung when we wrote: the census is to look soon.
    pub(super) poke: Notify,
    /// A sweep has had a list of all machines, so that the next one need not be asked for yet.
    pub(super) listed: Notify,
    pub(super) trouble: watch::Sender<Option<String>>,
}

/// Locks what no panic can leave half done.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id of its machine, as far as the store knows.
fn known(sprite: &Sprite) -> Option<&str> {
    sprite.status.fly.as_ref().map(|fly| fly.machine_id.as_str())
}

/// Whether it is known to sleep, and nobody wants anything else of it.
fn sleeps(sprite: &Sprite) -> bool {
    let is_left = sprite.spec.stop.is_none() && !sprite.metadata.is_deleting();
    is_left
        && is_over(sprite)
        && sprite.status.exit.is_none()
        && sprite.status.conditions.is_true(ASLEEP)
}

impl FlyRuntime {
    /// A runtime for the machines of one app, which are this installation's.
    ///
    /// # Errors
    /// What of the settings cannot be, in one line with the mend.
    pub fn new(
        settings: FlySettings,
        installation: &str,
        secrets: Secrets,
        ambient: Ambient,
        revision: Revision,
    ) -> Result<Arc<Self>, String> {
        let api = Machines::new(&settings.api, &settings.token, &settings.app, ambient.clone())
            .map_err(|error| error.to_string())?;
        Ok(Self::over(api, settings, installation, secrets, ambient, revision))
    }

    /// As [`FlyRuntime::new`], over a client that is there already.
    #[must_use]
    pub fn over(
        api: Machines,
        settings: FlySettings,
        installation: &str,
        secrets: Secrets,
        ambient: Ambient,
        revision: Revision,
    ) -> Arc<Self> {
        let (wake, wakes) = mpsc::unbounded_channel();
        Arc::new(Self {
            settings,
            api,
            installation: installation.to_owned(),
            secrets,
            born: (ambient.clock.now(), ambient.clock.elapsed()),
            ambient,
            revision,
            book: Mutex::default(),
            shelf: Mutex::default(),
            missing: Mutex::default(),
            timers: Arc::default(),
            waiting: Arc::default(),
            wake,
            wakes: Mutex::new(Some(wakes)),
            opened: watch::Sender::new(false),
            poke: Notify::new(),
            listed: Notify::new(),
            trouble: watch::Sender::new(None),
        })
    }

    /// What a Sprite's present run is to do: the answer to a boot that claims it.
    ///
    /// # Errors
    /// One line on what keeps it from being said now.
    pub fn claimed(&self, sprite: &Sprite) -> Result<Claimed, String> {
        self.book().claimed(&sprite.metadata.uid, sprite.spec.run, self.elapsed());
        claim::claimed(&self.settings, &self.installation, &self.secrets, sprite)
            .map_err(|error| error.to_string())
    }

    /// A machine that spoke of itself, before anybody else told of it.
    #[must_use]
    pub fn spoken(&self, id: &str) -> FlyMachine {
        FlyMachine {
            app: self.settings.app.clone(),
            machine_id: id.to_owned(),
            region: String::new(),
            state: State::Started.to_string(),
        }
    }

    /// What is wrong with Fly as a whole, if anything is, in one line.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        held(&self.book)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.ambient.clock.elapsed()
    }

    pub(super) fn meaning(&self, error: ApiError) -> Error {
        meaning(error, &self.settings.app)
    }

    /// Passes one write through its step, and notes that it was made.
    pub(super) async fn write<T>(
        &self,
        uid: &str,
        step: &'static str,
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        self.book().wrote(uid, self.elapsed());
        let end = self.ambient.step(step, call).await;
        // It took place somewhere between the two, if it did.
        self.book().wrote(uid, self.elapsed());
        self.poke.notify_one();
        end
    }

    /// Wakes whoever looks after a Sprite, after a while.
    pub(super) fn wake_after(&self, uid: &str, wait: Duration) {
        let due = self.elapsed() + wait;
        {
            let mut timers = held(&self.timers);
            if timers.get(uid).is_some_and(|sooner| *sooner <= due) {
                return;
            }
            timers.insert(uid.to_owned(), due);
        }
        let (timers, wake) = (Arc::clone(&self.timers), self.wake.clone());
        let (clock, uid) = (Arc::clone(&self.ambient.clock), uid.to_owned());
        tokio::spawn(async move {
            clock.sleep(wait).await;
            let mut timers = held(&timers);
            // One that came to be sooner has said it.
            if timers.get(&uid) == Some(&due) {
                timers.remove(&uid);
                // Nobody listens any more when the server goes down.
                let _ = wake.send(uid);
            }
        });
    }

    /// The id of a Sprite's machine, as far as anybody knows.
    pub(super) fn id(&self, sprite: &Sprite) -> Option<String> {
        let known = known(sprite);
        let seen = self.book().id(&self.installation, &sprite.metadata.uid, known);
        seen.or_else(|| known.map(str::to_owned))
    }

    /// Asks for a machine by its id.
    pub(super) async fn ask(&self, uid: &str, id: &str) -> Result<Look, ApiError> {
        let asked = self.elapsed();
        let told = self.api.get(id).await?;
        let seen = told.and_then(|machine| Seen::known(&machine, &self.installation, uid));
        match seen {
            Some(seen) if seen.state != State::Destroyed => {
                self.book().told(seen.clone(), asked);
                Ok(Look::Seen(seen))
            }
            seen => {
                self.book().gone(uid, id, seen.and_then(|seen| seen.exit), asked);
                Ok(Look::Destroyed)
            }
        }
    }

    /// After a start of the server everybody looks at once, and one list answers them all: who knows
    /// a machine waits for it, though not for ever.
    async fn wait_for_first_list(&self) {
        if self.book().is_listed() {
            return;
        }
        let mut opened = self.opened.subscribe();
        tokio::select! {
            // The sender lives as long as this.
            _ = opened.wait_for(|opened| *opened) => {}
            () = self.ambient.clock.sleep(FIRST_LIST) => {}
        }
    }

    /// What is there of a Sprite's machine, by as few calls as it takes.
    async fn look(&self, sprite: &Sprite) -> Result<Look, Error> {
        if known(sprite).is_some() {
            self.wait_for_first_list().await;
        }
        let (uid, now) = (&sprite.metadata.uid, self.elapsed());
        let look = {
            let book = self.book();
            let look = |age| book.look(&self.installation, uid, known(sprite), now, age);
            match look(if book.is_lively(now) { AGE } else { AGE_ASLEEP }) {
                // It is about to leave: nobody waits for the next list.
                Look::Seen(seen) if is_over(sprite) && seen.is_lively() => look(LEAVING / 2),
                // What was asked for before a claim says nothing of the boot that claimed.
                Look::Seen(seen) if has_begun(sprite) && !is_over(sprite) && !seen.is_lively() => {
                    match look(LEAVING / 2) {
                        Look::Seen(seen) if !book.is_by_id(uid) => Look::Ask(Some(seen.id)),
                        look => look,
                    }
                }
                // Lists lag: that a run may begin, or is gone, is not concluded from one.
                Look::Seen(seen) if !book.is_by_id(uid) && !has_begun(sprite) => {
                    Look::Ask(Some(seen.id))
                }
                look => look,
            }
        };
        match look {
            Look::Ask(Some(id)) => self.ask(uid, &id).await.map_err(|error| self.meaning(error)),
            // Whoever starts it finds what is there by its name.
            Look::Ask(None) if !has_begun(sprite) => Ok(Look::Missing),
            Look::Ask(None) => {
                self.poke.notify_one();
                Ok(Look::Ask(None))
            }
            look => Ok(look),
        }
    }

    /// How its machine ended, as far as Fly knows.
    async fn ended(&self, sprite: &Sprite, seen: Option<&Seen>) -> Result<Exit, Error> {
        let id = seen.map(|seen| seen.id.clone()).or_else(|| self.id(sprite));
        let mut event: Option<ExitEvent> = match seen {
            Some(seen) => seen.exit.as_deref().cloned(),
            None => self.book().exit(&sprite.metadata.uid),
        };
        if let (None, Some(id), false) = (&event, &id, is_over(sprite)) {
            let events = match self.api.events(id).await {
                Ok(events) => events,
                Err(ApiError::NotFound(_)) => Vec::new(),
                // What it ended of is told once: better later than wrong.
                Err(error) => return Err(self.meaning(error)),
            };
            // Nothing of a life before its last one.
            let last = events.into_iter().take_while(|event| event.kind != "start");
            event = last.filter_map(|event| event.exit).next();
        }
        let stopped = sprite.metadata.is_deleting().then_some(ExitReason::Cancelled);
        let memory_mb = wish::of(sprite).map_or(0, |fly| wish::guest(fly).memory_mb);
        Ok(exit(&Ended {
            id: id.as_deref(),
            exit: event.as_ref(),
            begun: has_begun(sprite),
            up: seen.is_some_and(Seen::is_lively),
            stop: sprite.spec.stop.or(stopped),
            memory_mb,
        }))
    }

    /// Whether a process before this one may have made a machine for the Sprite that the last list
    /// does not tell yet.
    fn may_be_hidden(&self, sprite: &Sprite) -> bool {
        let (knows, listed) = {
            let book = self.book();
            (book.knows(&sprite.metadata.uid), book.listed_at().unwrap_or_default())
        };
        !knows && self.may_be_an_earlier_ones(sprite, listed)
    }

    /// Whether a machine of which nobody knows the id has been missing from whole lists for long
    /// enough.
    fn is_missed(&self, uid: &str) -> bool {
        let now = self.elapsed();
        let since = *held(&self.missing).entry(uid.to_owned()).or_insert(now);
        now >= since + 2 * LIST_LAG
    }

    /// Destroys a machine and waits, a little, until it is gone.
    async fn destroy(&self, uid: &str, id: &str) -> Result<(), Error> {
        let look = self.ask(uid, id).await.map_err(|error| self.meaning(error))?;
        match look {
            // Once more by force, where it has been on its way for too long.
            Look::Seen(seen)
                if seen.state.is_leaving()
                    && !is_wedged(&seen.state, self.book().stays(uid, self.elapsed())) => {}
            Look::Seen(_) => {
                let destroy = self.api.destroy(id);
                let destroyed = self.write(uid, "fly.destroy", destroy).await;
                destroyed.map_err(|error| self.meaning(error))?;
            }
            _ => return Ok(()),
        }
        for wait in UNTIL_GONE {
            self.ambient.clock.sleep(wait).await;
            match self.ask(uid, id).await.map_err(|error| self.meaning(error))? {
                Look::Seen(_) => {}
                _ => return Ok(()),
            }
        }
        self.wake_after(uid, LEAVING);
        Err(Error::Transient(format!("its machine {id} is being destroyed")))
    }
}

#[async_trait]
impl Runtime for FlyRuntime {
    fn name(&self) -> &'static str {
        "fly"
    }

    fn capacity(&self) -> usize {
        self.settings.capacity
    }

    fn hands(&self) -> usize {
        // Creates go out one a second, and nobody who is to be stopped waits behind them.
        self.settings.capacity.clamp(16, 512)
    }

    async fn observe(&self, sprite: &Sprite) -> Result<Observed, Error> {
        let uid = &sprite.metadata.uid;
        // The census wakes whoever sleeps and is up all the same; of all others nothing is asked.
        if sleeps(sprite) && !self.book().has_lively(uid) {
            return Ok(Observed::Gone { exit: None });
        }
        let look = self.look(sprite).await?;
        let started = self.book().started_ago(uid, sprite.spec.run, self.elapsed());
        let coming = Observed::Machine { machine: None, stand: MachineStand::Coming };
        let (sight, seen) = match &look {
            Look::Seen(seen) => (Sight::Machine(seen), Some(seen)),
            // Just after it was made, Fly may not know it yet.
            Look::Destroyed if started.is_some_and(|ago| ago < START_LAG) && !has_begun(sprite) => {
                self.wake_after(uid, LEAVING);
                return Ok(coming);
            }
            Look::Destroyed => (Sight::Destroyed, None),
            // No list could be had that is new enough: that says nothing of its machine.
            Look::Ask(_) => {
                held(&self.missing).remove(uid);
                self.wake_after(uid, LIST_LAG);
                return Ok(Observed::Machine { machine: None, stand: MachineStand::Up });
            }
            Look::Missing if has_begun(sprite) && !self.is_missed(uid) => {
                self.wake_after(uid, LIST_LAG);
                return Ok(Observed::Machine { machine: None, stand: MachineStand::Up });
            }
            Look::Missing => (Sight::Nothing, None),
        };
        if !matches!(look, Look::Missing) {
            held(&self.missing).remove(uid);
        }
        let now = self.ambient.clock.now();
        let stays = self.book().stays(uid, self.elapsed());
        let facts = Facts { sprite, app: &self.settings.app, started, stays, now };
        let observed = match observe(sight, &facts) {
            Verdict::Is(observed) => observed,
            Verdict::Gone => Observed::Gone { exit: Some(self.ended(sprite, seen).await?) },
        };
        let again = match &observed {
            Observed::Machine { stand: MachineStand::Up, .. } if is_over(sprite) => Some(LEAVING),
            Observed::Machine { stand: MachineStand::Coming, .. } => Some(START_LAG),
            // Up, though what was seen of it was before our start.
            Observed::Machine { .. } if seen.is_some_and(|seen| !seen.is_lively()) => Some(LEAVING),
            Observed::Machine { .. } => seen.and_then(|seen| due(seen, &facts)),
            _ => None,
        };
        if let Some(wait) = again {
            self.wake_after(uid, wait);
        }
        Ok(observed)
    }

    async fn start(&self, sprite: &Sprite, token: &str) -> Result<(), Error> {
        let uid = &sprite.metadata.uid;
        let begun = self.bring_up(sprite, token).await;
        if let Err(Error::SecretMissing(_)) = &begun {
            self.wait_for_secret(uid);
        }
        begun
    }

    async fn recover(&self, sprite: &Sprite, _token: &str) -> Result<(), Error> {
        let Some(id) = self.id(sprite) else { return Ok(()) };
        let start = self.write(&sprite.metadata.uid, "fly.start", self.api.start(&id)).await;
        start.map_err(|error| self.meaning(error))
    }

    async fn kill(&self, sprite: &Sprite) -> Result<(), Error> {
        let uid = &sprite.metadata.uid;
        let Some(id) = self.id(sprite) else { return Ok(()) };
        let stopping = sprite.status.conditions.get(STOPPING).map(|it| it.last_transition_time);
        let disobeys =
            stopping.is_some_and(|since| self.ambient.clock.now() >= later(since, OBEYS));
        let ends = sprite.spec.stop.is_some() || sprite.metadata.is_deleting();
        // Nobody has its run, and of what is to end no run is given away: there is nobody to ask.
        let is_nobodys = ends && !has_begun(sprite);
        let stays = self.book().stays(uid, self.elapsed());
        let hangs = self.book().state(uid).is_some_and(|state| is_wedged(&state, stays));
        // What it keeps is on its volume.
        if disobeys || is_nobodys || hangs {
            self.destroy(uid, &id).await?;
            self.wake_after(uid, LEAVING);
            return Ok(());
        }
        let wish = wish::stop();
        match self.write(uid, "fly.stop", self.api.stop(&id, &wish)).await {
            Ok(()) | Err(ApiError::NotFound(_)) => {}
            // It never got as far as to run an agent.
            Err(ApiError::NotNow(_)) if !has_begun(sprite) => return self.destroy(uid, &id).await,
            Err(error) => return Err(self.meaning(error)),
        }
        self.wake_after(uid, LEAVING);
        Ok(())
    }

    async fn clean(&self, sprite: &Sprite) -> Result<Cleaned, Error> {
        let uid = &sprite.metadata.uid;
        let mut ids: Vec<String> = self.book().ids(uid);
        ids.extend(known(sprite).map(str::to_owned));
        ids.sort();
        ids.dedup();
        for id in &ids {
            if !self.book().is_destroyed(uid, id) {
                self.destroy(uid, id).await?;
            }
        }
        let never = sprite.status.conditions.get(ADMITTED).is_none() && !self.book().knows(uid);
        if ids.is_empty() && !never && (self.book().may_hide(uid) || self.may_be_hidden(sprite)) {
            self.poke.notify_one();
            self.wake_after(uid, LIST_LAG);
            return Err(Error::Transient(
                "whether Fly has a machine of it shows in the next list".to_owned(),
            ));
        }
        self.book().forget(uid);
        held(&self.missing).remove(uid);
        Ok(Cleaned::All)
    }

    fn address(&self) -> Option<String> {
        Some(environment::server(&self.settings))
    }

    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        held(&self.wakes).take()
    }
}
