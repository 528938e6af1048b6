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

    /// Full patience, by this clock.
    #[cfg(test)]
    pub fn by(clock: Arc<dyn Clock>) -> Self {
        Self { clock, pauses: None }
    }

    /// Waits before something is asked for again that the server has perhaps done: each try bears
    /// the same request id. The first try must have come to a server; whatever becomes of it then
    /// is waited for, also that nobody takes connections for a while.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and where no server was there from the start.
    pub async fn wait_to_repeat(&mut self, error: Error) -> Result<(), Error> {
        if self.pauses.is_none() && !matches!(error, Error::Broken(_) | Error::Silent { .. }) {
            return Err(error);
        }
        self.wait(error).await
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// A clock on which nobody waits.
    struct Hurry;

    #[async_trait::async_trait]
    impl Clock for Hurry {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        async fn sleep(&self, _: Duration) {}
    }

    fn refused() -> Error {
        let (url, why, mend) = ("http://h".to_owned(), "refused".to_owned(), "m".to_owned());
        Error::Unreachable { url, why, mend }
    }

    #[tokio::test]
    async fn what_was_perhaps_done_is_repeated_for_as_long_as_the_server_is_away() {
        let mut patience = Patience::by(Arc::new(Hurry));
        for error in [Error::Broken("reset".to_owned()), refused(), refused()] {
            patience.wait_to_repeat(error).await.expect("it is worth another try");
        }
        let data = "/data".into();
        patience.wait_to_repeat(Error::NotRunning { data }).await.expect("it comes back");
        let no = Error::Usage("no".to_owned());
        patience.wait_to_repeat(no).await.expect_err("a refusal stays one");
        let mut tries = 0;
        while patience.wait_to_repeat(refused()).await.is_ok() {
            tries += 1;
            assert!(tries < 10_000, "patience ends");
        }
        assert!(tries > 100, "after minutes, not {tries} tries");
    }

    #[tokio::test]
    async fn a_server_that_was_never_there_is_not_waited_for() {
        let mut patience = Patience::by(Arc::new(Hurry));
        patience.wait_to_repeat(refused()).await.expect_err("nothing was asked for yet");
    }
}
