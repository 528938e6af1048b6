//! Going on where what stands in a conversation cannot be made again.
//!
//! What was rendered is lost with the process, and made again from the store: the same pieces, so
//! that their numbers say which of them stand in the conversation already. That holds for as long as
//! the store keeps all that was said. Of a long output it does not: a gap stands at its front then
//! (see [`crate::store::Store::compact`]), and fewer pieces come of it than were posted. So what
//! stands there stays, and a new message goes on behind the place that the delivery shows by its own
//! word; a gap behind that place says itself what is missing.

use sprite_reporter::wire::EventBody;

use super::{Outbox, PAGE, rendering::Rendering};
use crate::{
    reconcile::Error,
    store::{Cursor, Delivery},
};

/// The first message that can be written anew without taking away what somebody may have read.
pub(super) fn free_message(delivery: &Delivery) -> usize {
    delivery.messages.len().saturating_sub(usize::from(delivery.hash.is_empty()))
}

impl Outbox {
    /// Whether something stands in the conversation, and what it came of in these outputs, each from
    /// a place on, is not all kept.
    pub(super) async fn is_unrepeatable(
        &self,
        delivery: &Delivery,
        outputs: impl Iterator<Item = (&str, Cursor)>,
    ) -> Result<bool, Error> {
        if free_message(delivery) == 0 {
            return Ok(false);
        }
        for (sprite, from) in outputs {
            let rows = self.store.output(sprite, from, PAGE).await?;
            let first = rows.iter().find(|row| !matches!(row.event.body, EventBody::Hello { .. }));
            let is_gap = |body: &EventBody| matches!(body, EventBody::Gap { .. });
            // Only what was trimmed begins so early.
            if first.is_some_and(|row| row.event.seq <= 2 && is_gap(&row.event.body)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Turns a rendering of which nothing was read to what is not shown yet: behind the place that the
/// delivery shows, but not in front of where its output begins.
pub(super) fn go_on(
    rendering: &mut Rendering,
    delivery: &Delivery,
    (sprite, begins): (&str, Cursor),
) {
    rendering.begin_at(free_message(delivery));
    match &delivery.shown_of {
        Some(shown) => rendering.turn_to(shown, delivery.shown.max(begins)),
        None => rendering.turn_to(sprite, begins),
    }
}
