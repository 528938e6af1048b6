//! Sprites: the only controller that moves a runtime's hands.

mod asks;
mod plan;
mod secrets;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sprite_reporter::wire::{Containment, EventBody, Order};
use tokio::sync::mpsc;

use asks::{Asks, asks};
use plan::{Hand, Note, Plan, is_held, plan};

use super::{
    hands::{Hands, next_at, sooner, write},
    history::{self, told},
    words,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{
        AnyObject, ConditionStatus, ExitReason, ExitStatus, FINALIZER_RUNTIME, Kind, Sprite,
    },
    runtime::{self, Cleaned, Lack, Observed, Runtime},
    store::{ApprovalState, Bell, Change, ChangeKind, Cursor, Op, Part, Store},
};

/// How long after a start its effect is looked at, if nothing was heard of it before.
const LOOK_AFTER_START: Duration = Duration::from_millis(50);

/// Gives the token with which the Sprite of a uid speaks.
pub type Tokens = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The key under which the one stop of a Sprite stands in its inbox.
const STOP_ORDER: &str = "stop";

/// Starts, watches, stops and clears away the Sprites of one runtime. Its keys are their uids.
/// There is one controller for each runtime, so that one that hangs holds up no other.
pub struct SpriteController {
    hands: Hands,
    runtime: Arc<dyn Runtime>,
    tokens: Tokens,
}

impl SpriteController {
    /// A controller over a store, for one runtime.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        ambient: Ambient,
        runtime: Arc<dyn Runtime>,
        tokens: Tokens,
    ) -> Self {
        Self { hands: Hands { store, ambient }, runtime, tokens }
    }

    fn is_ours(&self, sprite: &Sprite) -> bool {
        sprite.spec.runtime.name() == self.runtime.name()
    }

    /// Whether nobody is there any more who would end this Sprite. Owners hold on until their Sprites
    /// are gone, so this is so only where somebody has taken an owner out of the store by hand; it does
    /// not come again under its uid.
    async fn is_left_behind(&self, sprite: &Sprite) -> Result<bool, Error> {
        let metadata = &sprite.metadata;
        match metadata.controller().filter(|_| !metadata.is_deleting()) {
            Some(owner) => Ok(self.hands.store.get_by_uid(owner.kind, &owner.uid).await?.is_none()),
            None => Ok(false),
        }
    }

    /// Deletes a Sprite that was left behind: it ends as any other that is deleted.
    async fn end(&self, sprite: &Sprite) -> Result<(), Error> {
        let metadata = &sprite.metadata;
        let why = "its owner is gone, and nobody else would end it";
        tracing::warn!(sprite = metadata.name, "deleted, because {why}");
        let told = history::event(Kind::Sprite, metadata, true, words::LEFT_BEHIND, why);
        let delete = Op::Delete {
            kind: Kind::Sprite,
            name: metadata.name.clone(),
            uid: Some(metadata.uid.clone()),
            resource_version: None,
        };
        self.hands.commit("sprite.end-left-behind", vec![told, delete]).await
    }

    /// What the first hello said of the agent's containment; read once, then the condition has it.
    async fn containment(&self, sprite: &Sprite) -> Result<Option<Containment>, Error> {
        let known = sprite.status.conditions.get(words::ISOLATED).is_some();
        if known || sprite.status.hello_time.is_none() {
            return Ok(None);
        }
        let uid = &sprite.metadata.uid;
        let first = self.hands.store.output(uid, Cursor::default(), 1).await?.into_iter().next();
        Ok(first.and_then(|row| match row.event.body {
            EventBody::Hello { containment, .. } => Some(containment),
            _ => None,
        }))
    }

    /// What the agent asks for, and who answered.
    async fn asks(&self, sprite: &Sprite, observed: &Observed) -> Result<Asks, Error> {
        let uid = &sprite.metadata.uid;
        let approvals = self.hands.store.approvals(uid).await?;
        let resolved = |state| !matches!(state, ApprovalState::Pending | ApprovalState::Withdrawn);
        let inbox = if approvals.iter().any(|approval| resolved(approval.state)) {
            self.hands.store.inbox(uid, 0).await?
        } else {
            Vec::new()
        };
        let pending = approvals.iter().any(|approval| approval.state == ApprovalState::Pending);
        let owner = sprite.metadata.controller().filter(|owner| owner.kind == Kind::Agent);
        let grants = match owner {
            Some(agent) if pending => self.hands.store.grants(&agent.uid).await?,
            _ => Vec::new(),
        };
        Ok(asks(sprite, observed, &approvals, &inbox, &grants, self.hands.now()))
    }

    /// Commits the plan's status, with the order and the notes that belong to it.
    async fn tell(&self, sprite: &Sprite, plan: &Plan) -> Result<(), Error> {
        let Plan { status, order, notes, .. } = plan;
        let mut ops = Vec::new();
        if let Some(order) = order {
            let run = sprite.spec.run;
            let key = match order {
                Order::Sleep {} => format!("sleep/{run}"),
                _ => STOP_ORDER.to_owned(),
            };
            let (sprite_uid, order) = (sprite.metadata.uid.clone(), order.clone());
            ops.push(Op::Order { sprite_uid, run, key, order });
        }
        let (before, after) = (&sprite.status.conditions, &status.conditions);
        ops.extend(told(Kind::Sprite, &sprite.metadata, before, after));
        ops.extend(notes.iter().map(|note| event(sprite, note)));
        let step = match order {
            Some(Order::Sleep {}) => "sprite.order-sleep",
            Some(_) => "sprite.order-stop",
            None => "sprite.write-status",
        };
        ops.push(write(Sprite { status: status.clone(), ..sprite.clone() }, Part::Status));
        self.hands.commit(step, ops).await
    }

    async fn act(&self, sprite: &Sprite, hand: Hand) -> Result<(), Error> {
        let ambient = &self.hands.ambient;
        let runtime = &self.runtime;
        match hand {
            Hand::Start => {
                let token = (self.tokens)(&sprite.metadata.uid);
                let start = ambient.step("sprite.start", runtime.start(sprite, &token)).await;
                match start {
                    Err(runtime::Error::Terminal(message)) => {
                        return self.record_start_failure(sprite, message).await;
                    }
                    Err(runtime::Error::SecretMissing(message)) => {
                        return self.record_missing_secret(sprite, message).await;
                    }
                    Err(runtime::Error::Waiting { lack, message }) => {
                        return self.record_stall(sprite, reason(lack), message).await;
                    }
                    start => start?,
                }
            }
            Hand::Recover => {
                let token = (self.tokens)(&sprite.metadata.uid);
                let recover = runtime.recover(sprite, &token);
                let recovered = ambient.step("sprite.recover", recover).await;
                if let Err(runtime::Error::Terminal(message)) = recovered {
                    return self.record_stall(sprite, words::RUNTIME_UNKNOWN, message).await;
                }
                recovered?;
            }
            Hand::Kill => ambient.step("sprite.kill", runtime.kill(sprite)).await?,
            Hand::Clean => {
                let cleaned = ambient.step("sprite.clean", runtime.clean(sprite)).await?;
                self.let_go(sprite, cleaned).await?;
            }
        }
        Ok(())
    }

    /// Nothing was started, and nothing will be: that is how it ended.
    async fn record_start_failure(&self, sprite: &Sprite, message: String) -> Result<(), Error> {
        let mut sprite = sprite.clone();
        let reason = ExitReason::StartFailed;
        let note = Note { warning: true, reason: words::START_FAILED, text: message.clone() };
        sprite.status.exit = Some(ExitStatus { code: None, signal: None, reason, message });
        let ops = vec![event(&sprite, &note), write(sprite, Part::Status)];
        self.hands.commit("sprite.record-start-failure", ops).await
    }

    /// Somebody should know why it does not go on. It is tried again, with backoff.
    async fn record_stall(
        &self,
        sprite: &Sprite,
        reason: &'static str,
        message: String,
    ) -> Result<(), Error> {
        let mut stalled = sprite.clone();
        stalled.status.conditions.set(
            words::STALLED,
            ConditionStatus::True,
            reason,
            lasting(&message),
            sprite.metadata.generation,
            self.hands.now(),
        );
        if stalled != *sprite {
            let (before, after) = (&sprite.status.conditions, &stalled.status.conditions);
            let mut ops = told(Kind::Sprite, &sprite.metadata, before, after);
            ops.push(write(stalled, Part::Status));
            self.hands.commit("sprite.record-stall", ops).await?;
        }
        Err(Error::Transient(message))
    }

    /// The last step: from now on the token is dead, and the object is history.
    async fn let_go(&self, sprite: &Sprite, cleaned: Cleaned) -> Result<(), Error> {
        let mut freed = sprite.clone();
        freed.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER_RUNTIME);
        let mut ops = Vec::new();
        if let Cleaned::KeptWork { path, .. } = cleaned {
            let text = format!("{path} holds work that nobody has taken; it was kept");
            // A person looks at what they made: the Job.
            for owner in sprite.metadata.owner_references.iter().filter(|it| it.controller) {
                let (name, uid) = (owner.name.clone(), owner.uid.clone());
                let text = format!("its work is in {path}");
                let reason = words::KEPT_WORK.to_owned();
                let kind = owner.kind;
                ops.push(Op::Event { kind, name, uid, warning: false, reason, note: text });
            }
            ops.push(event(sprite, &Note { warning: false, reason: words::KEPT_WORK, text }));
        }
        ops.push(write(freed, Part::Finalizers));
        self.hands.commit("sprite.let-go", ops).await
    }
}

/// What of a message is the same each time it is tried in vain: the id of one request, and when it is
/// tried next, are for the log.
fn lasting(message: &str) -> String {
    let without = |text: String, from: &str, to: &str| match text.split_once(from) {
        Some((before, rest)) => match rest.split_once(to) {
            Some((_, after)) => format!("{before}{after}"),
            None => text,
        },
        None => text,
    };
    let message = without(message.to_owned(), " (fly-request-id ", ")");
    without(message, " until 20", "Z")
}

/// The word for what a runtime lacks.
fn reason(lack: Lack) -> &'static str {
    match lack {
        Lack::Room => words::NO_ROOM,
        Lack::Access => words::NO_ACCESS,
        Lack::Place => words::NO_PLACE,
        Lack::Limit => words::LIMIT_REACHED,
        Lack::Answer => words::UNREACHABLE,
    }
}

fn event(sprite: &Sprite, note: &Note) -> Op {
    history::event(Kind::Sprite, &sprite.metadata, note.warning, note.reason, &note.text)
}

#[async_trait]
impl Controller for SpriteController {
    fn name(&self) -> &'static str {
        // By it the store keeps backoffs and the metrics count: one name for each controller.
        match self.runtime.name() {
            "fly" => "sprite-fly",
            _ => "sprite",
        }
    }

    fn workers(&self) -> usize {
        self.runtime.hands()
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        match &change.object {
            AnyObject::Sprite(sprite)
                if self.is_ours(sprite) && change.kind != ChangeKind::Deleted =>
            {
                let wake = if change.desired { Wake::User } else { Wake::Observation };
                vec![(sprite.metadata.uid.clone(), wake)]
            }
            _ => Vec::new(),
        }
    }

    fn hears(&self, bell: &Bell) -> Vec<(String, Wake)> {
        match bell {
            Bell::Approvals(uid) => vec![(uid.clone(), Wake::User)],
            _ => Vec::new(),
        }
    }

    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        self.runtime.wakes()
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let sprites = self.hands.all(Kind::Sprite).await?;
        let mut keys: Vec<_> = sprites
            .into_iter()
            .filter_map(AnyObject::into_sprite)
            // Those that were let go are history.
            .filter(|sprite| self.is_ours(sprite) && is_held(sprite))
            .map(|sprite| (rank(&sprite), sprite.metadata.uid))
            .collect();
        keys.sort_by_key(|((_, place), _)| *place);
        Ok(keys.into_iter().map(|((wake, _), key)| (key, wake)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let sprite = self.hands.store.get_by_uid(Kind::Sprite, key).await?;
        let Some(sprite) = sprite.and_then(AnyObject::into_sprite) else { return Ok(Next::Done) };
        if !self.is_ours(&sprite) || !is_held(&sprite) {
            return Ok(Next::Done);
        }
        if self.is_left_behind(&sprite).await? {
            self.end(&sprite).await?;
            return Ok(Next::After(Duration::ZERO));
        }
        let observed: Observed = self.runtime.observe(&sprite).await?;
        let containment = self.containment(&sprite).await?;
        let asks = self.asks(&sprite, &observed).await?;
        let now = self.hands.now();
        let mut plan = plan(&sprite, &observed, containment.as_ref(), now);
        if let Some(url) = self.runtime.address() {
            plan.name_address(&sprite, &url, now);
        }
        asks.mark(&mut plan.status, sprite.metadata.generation, now);
        plan.again = sooner(plan.again, asks.again);
        if !asks.resolutions.is_empty() {
            self.hands.commit("sprite.close-approval", asks.resolutions).await?;
            return Ok(Next::After(Duration::ZERO));
        }
        if !asks.answers.is_empty() {
            self.hands.commit("sprite.answer", asks.answers).await?;
            return Ok(Next::After(Duration::ZERO));
        }
        if plan.status != sprite.status || plan.order.is_some() {
            // What was written is read again before a hand moves.
            self.tell(&sprite, &plan).await?;
            return Ok(Next::After(Duration::ZERO));
        }
        match plan.hand {
            Some(hand) => {
                self.act(&sprite, hand).await?;
                Ok(match hand {
                    // A recovery goes on by itself, and a kill takes its time.
                    Hand::Recover | Hand::Kill => next_at(plan.again, now),
                    Hand::Start => Next::After(LOOK_AFTER_START),
                    Hand::Clean => Next::After(Duration::ZERO),
                })
            }
            None => Ok(next_at(plan.again, now)),
        }
    }
}

/// Which Sprites come first after a start.
fn rank(sprite: &Sprite) -> (Wake, u8) {
    if sprite.metadata.is_deleting() {
        (Wake::User, 0)
    } else if sprite.metadata.generation != sprite.status.observed_generation {
        (Wake::User, 1)
    } else {
        (Wake::Observation, 2)
    }
}
