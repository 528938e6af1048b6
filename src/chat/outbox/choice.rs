//! What a delivery shows while nobody has said for which of several agents a message is.

use std::time::Duration;

use super::{
    Outbox,
    rendering::{Frames, fixed},
};
use crate::{
    ambient::{between, later},
    chat::{buttons::of_choice, platform::Capabilities, replies},
    store::Delivery,
};

/// How long a message waits for somebody to say for whom it is.
pub const CHOICE_TIME: Duration = Duration::from_hours(1);

impl Outbox {
    pub(super) fn choice_frames(
        &self,
        delivery: &Delivery,
        names: &[String],
        capabilities: &Capabilities,
    ) -> Frames {
        let asks = fixed(0, &replies::which(names), capabilities);
        if capabilities.buttons == 0 {
            return asks;
        }
        let left = between(self.ambient.clock.now(), later(delivery.created, CHOICE_TIME));
        if left.is_zero() {
            return fixed(0, &replies::not_chosen(names), capabilities);
        }
        let asks = Frames { ended: false, again: Some(left), ..asks };
        asks.with(of_choice(&delivery.id, names))
    }
}
