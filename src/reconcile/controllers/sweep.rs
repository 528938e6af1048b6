//! Leaks: machines and volumes at Fly that carry our tags and belong to nobody.
//!
//! The store knows who is there, the runtime knows what is held; here the two meet. There is one key.
//! It looks at Fly first and reads the store behind that, so that nobody who is on the way in is taken
//! for gone, and lets [`leaks::plan`] decide. What that wants remembered is committed **before**
//! anything is destroyed: a crash in between costs a look, and a restart forgets no tombstone.
//!
//! A machine is wanted by the Sprite that was not let go yet, and one machine by each; so a second one
//! with the same tags, and one that comes to light after its Sprite was let go (a create that took
//! place long after its answer was lost), are leaks. A volume is wanted as long as its owner is
//! there.
//!
//! What it finds is told as an event, in the log and to whoever listens to
//! [`SweepController::tidings`], whenever what is unwanted differs from what was last told.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::hands::Hands;
use crate::{
    ambient::{Ambient, between},
    reconcile::{Controller, Error, Next, Wake},
    resource::{
        AnyObject, FINALIZER_RUNTIME, Kind,
        leaks::{Beginning, CONFIRMED, EVENTS, Leaks, PLACE},
    },
    runtime::{
        self,
        fly::{
            FlyRuntime, Haul, Living,
            leaks::{self, Hold, Look, Patience, Round},
        },
    },
    store::{Change, ChangeKind, Op, Place, Store},
};

/// The one key.
const KEY: &str = "fly";
/// The reason of the event that tells what is at risk.
const LEAKING: &str = "Leaking";
/// The reason of the event that tells why nothing goes.
const HELD: &str = "SweepHeld";
/// The reason of the event that tells what went.
const SWEPT: &str = "Swept";

/// Destroys what Fly holds of ours and nobody wants.
pub struct SweepController {
    hands: Hands,
    fly: Arc<FlyRuntime>,
    patience: Patience,
    born: Beginning,
    restored: Option<Timestamp>,
    /// When the last look was, by the clock's `elapsed`.
    looked: Mutex<Option<Duration>>,
    tidings: watch::Sender<Option<String>>,
}

impl SweepController {
    /// A sweeper of one runtime. `born` is what the store held before the engine began to write;
    /// `restored` is when the store was restored from a backup, where the restore left word.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        ambient: Ambient,
        fly: Arc<FlyRuntime>,
        patience: Patience,
        born: Beginning,
        restored: Option<Timestamp>,
    ) -> Self {
        let (looked, tidings) = (Mutex::default(), watch::Sender::new(None));
        Self { hands: Hands { store, ambient }, fly, patience, born, restored, looked, tidings }
    }

    /// Hears in one line what belongs to nobody, or why that cannot be told; nothing while all is well.
    #[must_use]
    pub fn tidings(&self) -> watch::Receiver<Option<String>> {
        self.tidings.subscribe()
    }

    /// Who is there in the store.
    async fn living(&self) -> Result<Living, Error> {
        let mut living = Living::default();
        for kind in [Kind::Agent, Kind::Job, Kind::Sprite] {
            for object in self.hands.all(kind).await? {
                let metadata = object.metadata();
                living.owners.insert(metadata.uid.clone());
                living.owners.extend(metadata.owner_references.iter().map(|it| it.uid.clone()));
                if let AnyObject::Sprite(sprite) = &object
                    && metadata.finalizers.iter().any(|it| it == FINALIZER_RUNTIME)
                {
                    let known = sprite.status.fly.as_ref().map(|fly| fly.machine_id.clone());
                    living.sprites.insert(metadata.uid.clone(), known);
                }
            }
        }
        Ok(living)
    }

    /// What was remembered.
    async fn leaks(&self) -> Result<Leaks, Error> {
        let place = self.hands.store.place(PLACE.0, PLACE.1).await?;
        let Some(place) = place else { return Ok(Leaks::default()) };
        Ok(serde_json::from_value(place.facts).unwrap_or_else(|error| {
            // Time begins anew; nothing goes sooner for that.
            tracing::warn!(%error, "what was remembered of leaks cannot be read");
            Leaks::default()
        }))
    }

    /// When an operator agreed last.
    async fn confirmed(&self) -> Result<Option<Timestamp>, Error> {
        let place = self.hands.store.place(CONFIRMED.0, CONFIRMED.1).await?;
        Ok(place.and_then(|place| serde_json::from_value(place.facts["at"].clone()).ok()))
    }

    /// Decides, remembers, and tells. Answers the round and who was taken for wanted.
    async fn decide(&self, haul: Option<&Haul>) -> Result<Round, Error> {
        let living = self.living().await?;
        let wanted = haul.map(|haul| haul.wanted(&living, self.fly.installation()));
        let wanted = wanted.unwrap_or_default();
        let before = self.leaks().await?;
        let look = Look {
            held: haul.map_or(&[], |haul| haul.held.as_slice()),
            is_whole: haul.is_some(),
            revision: haul.and_then(|haul| haul.revision),
            now: self.hands.now(),
            born: self.born,
            restored: self.restored,
            confirmed: self.confirmed().await?,
        };
        let is_wanted = |it: &leaks::Holding| wanted.contains(&it.thing);
        let mut round = leaks::plan(&look, is_wanted, &before, &self.patience);
        let (risk, hold) = (round.risk.map(|it| it.to_string()), words(round.hold.as_ref()));
        let lines: Vec<String> = risk.clone().into_iter().chain(hold.clone()).collect();
        let told = (!lines.is_empty()).then(|| lines.join("; "));
        // The sums grow by themselves; that alone is nothing to write down.
        let is_news = Leaks { told: None, ..round.leaks.clone() }
            != Leaks { told: None, ..before.clone() }
            || told.is_some() != before.told.is_some();
        round.leaks.told = if is_news { told.clone() } else { before.told.clone() };
        if round.leaks != before {
            let mut ops = vec![self.place(&round.leaks)];
            ops.extend(risk.map(|note| event(LEAKING, note)));
            ops.extend(hold.map(|note| event(HELD, note)));
            self.hands.commit("sweep.remember", ops).await?;
            if let Some(told) = &told {
                tracing::warn!("{told}");
            }
        }
        let partial = matches!(round.hold, Some(Hold::Partial));
        self.tidings.send_if_modified(|tidings| {
            let differs = !partial && *tidings != told;
            if differs {
                *tidings = told;
            }
            differs
        });
        Ok(round)
    }

    fn place(&self, leaks: &Leaks) -> Op {
        let facts = serde_json::to_value(leaks).unwrap_or_default();
        Op::Place(Place { platform: PLACE.0.to_owned(), channel: PLACE.1.to_owned(), facts })
    }

    /// Destroys what is due; answers what failed and is tried again. One that does not go holds up
    /// no other.
    async fn remove(&self, haul: &Haul, round: &Round) -> Result<Option<Error>, Error> {
        let (mut failed, mut gone) = (None, Vec::new());
        for thing in &round.destroy {
            let held = haul.held.iter().find(|it| it.thing == *thing);
            let keeper = held.map_or("", |it| it.keeper.as_str());
            match self.fly.remove(thing, keeper).await {
                Ok(()) => gone.push(thing.to_string()),
                Err(error @ runtime::Error::Fault(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%thing, %error, "what belongs to nobody could not be destroyed");
                    failed = Some(Error::Transient(format!("{thing}: {error}")));
                }
            }
        }
        if !gone.is_empty() {
            let note = format!("destroyed {}: it belonged to nothing here", gone.join(", "));
            self.hands.commit("sweep.tell", vec![event(SWEPT, note)]).await?;
        }
        Ok(failed)
    }

    /// When to look again.
    fn next(&self, round: &Round) -> Duration {
        let Patience { every, pause, .. } = self.patience;
        let soon = match (&round.hold, round.risk.and_then(|risk| risk.next)) {
            // Somebody may agree at any time.
            (Some(Hold::Restored(_)), _) => pause,
            // What went shows in the next look, and what did not fit into this round is due.
            _ if !round.destroy.is_empty() => pause,
            (_, Some(next)) => between(self.hands.now(), next),
            _ => every,
        };
        soon.clamp(pause, every)
    }
}

/// Why nothing goes, where a person is to know it.
fn words(hold: Option<&Hold>) -> Option<String> {
    match hold {
        Some(hold @ Hold::Restored(_)) => Some(hold.to_string()),
        Some(Hold::Partial) | None => None,
    }
}

fn event(reason: &str, note: String) -> Op {
    let (name, uid) = (KEY.to_owned(), EVENTS.to_owned());
    let warning = reason != SWEPT;
    Op::Event { kind: Kind::Sprite, name, uid, warning, reason: reason.to_owned(), note }
}

#[async_trait]
impl Controller for SweepController {
    fn name(&self) -> &'static str {
        "sweep"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        let goes = change.kind == ChangeKind::Deleted
            && matches!(change.object.kind(), Kind::Agent | Kind::Job | Kind::Sprite);
        if goes { vec![(KEY.to_owned(), Wake::Observation)] } else { Vec::new() }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        Ok(vec![(KEY.to_owned(), Wake::Timer)])
    }

    async fn reconcile(&self, _key: &str) -> Result<Next, Error> {
        let now = self.hands.ambient.clock.elapsed();
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever goes wakes this, and hundreds may go at once.
            if let Some(due) = looked.map(|at| at + self.patience.pause)
                && now < due
            {
                return Ok(Next::After(due.saturating_sub(now)));
            }
            *looked = Some(now);
        }
        let haul = match self.fly.holdings().await {
            Ok(haul) => haul,
            Err(error) => {
                self.decide(None).await?;
                return Err(error.into());
            }
        };
        let round = self.decide(Some(&haul)).await?;
        match self.remove(&haul, &round).await? {
            Some(error) => Err(error),
            None => Ok(Next::After(self.next(&round))),
        }
    }
}
