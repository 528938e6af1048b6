//! How long a client waits for a server that has gone away: with growing pauses, told once,
//! and not for ever.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::{error::Error, out};
use crate::ambient::{Clock, SystemClock};

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(2);
/// All pauses of one absence together.
const IN_ALL: Duration = Duration::from_secs(600);

/// Patience with one server. Each proper answer renews it.
pub struct Patience {
    clock: Arc<dyn Clock>,
    pauses: Option<ExponentialBackoff>,
}

impl Patience {
    /// Full patience.
    #[must_use]
    pub fn new() -> Self {
        Self { clock: Arc::new(SystemClock), pauses: None }
    }

    /// Says that the server answered.
    pub fn answered(&mut self) {
        if self.pauses.take().is_some() {
            out::note("the server is back");
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// The error itself, where it does not mean that the server is away, or patience is over.
    pub async fn wait(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_away() {
            return Err(error);
        }
        let pauses = self.pauses.get_or_insert_with(|| {
            out::note(format!("{error}\nwaiting for the server to come back, for {} minutes at most; Ctrl-C stops waiting",
                IN_ALL.as_secs() / 60));
            ExponentialBuilder::default()
                .with_min_delay(SHORTEST)
                .with_max_delay(LONGEST)
                .with_total_delay(Some(IN_ALL))
                .without_max_times()
                .build()
        });
        match pauses.next() {
            Some(pause) => {
                self.clock.sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}
