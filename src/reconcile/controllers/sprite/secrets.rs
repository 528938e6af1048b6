//! A secret that is not there yet: the Sprite waits for it, and says so. That it was found is told by
//! [`super::plan`], from what the runtime sees.

use std::time::Duration;

use super::{SpriteController, told, words, write};
use crate::{
    reconcile::Error,
    resource::{ConditionStatus, Kind, Sprite},
    store::Part,
};

/// How often it is looked for: a secret is a file or a variable, and nobody tells that it is there.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

impl SpriteController {
    /// Nothing was started: it waits until somebody sets the secret.
    pub(super) async fn record_missing_secret(
        &self,
        sprite: &Sprite,
        message: String,
    ) -> Result<(), Error> {
        let mut waits = sprite.clone();
        let (generation, now) = (sprite.metadata.generation, self.hands.now());
        let conditions = &mut waits.status.conditions;
        let reason = words::SECRET_MISSING;
        let no = ConditionStatus::False;
        conditions.set(words::SECRETS_AVAILABLE, no, reason, message.clone(), generation, now);
        // It needs somebody; its owner shows that.
        let yes = ConditionStatus::True;
        conditions.set(words::STALLED, yes, reason, message, generation, now);
        if waits.status != sprite.status {
            let (before, after) = (&sprite.status.conditions, &waits.status.conditions);
            let mut ops = told(Kind::Sprite, &sprite.metadata, before, after);
            ops.push(write(waits, Part::Status));
            self.hands.commit("sprite.record-missing-secret", ops).await?;
        }
        Err(Error::RateLimited(LOOK_AGAIN))
    }
}
