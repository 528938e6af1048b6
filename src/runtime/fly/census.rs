//! One list of all machines, again and again, in place of a question about each.
//!
//! It is asked for every few seconds while something runs or changes, and once a minute while
//! everybody sleeps. What differs from the last one wakes whoever looks after those Sprites; they
//! decide. A list that failed changes nothing. A list that a [sweep](super::sweep) has had stands in
//! for the next one.

use std::{sync::Arc, time::Duration};

use super::{runtime::FlyRuntime, seen::Seen, tags};

/// The pause while something runs or changes.
const LIVELY: Duration = Duration::from_secs(5);
/// The pause while everybody sleeps.
const ASLEEP: Duration = Duration::from_secs(60);
/// So many failures in a row are told as trouble with Fly as a whole.
const TROUBLE: u32 = 2;

/// How a pause between two lists ended.
#[derive(PartialEq)]
enum Rest {
    /// The next one is due.
    Over,
    /// A sweep has had one meanwhile.
    Listed,
}

impl FlyRuntime {
    /// Looks at all machines until the task is dropped.
    pub async fn census(self: Arc<Self>) {
        let mut failures = 0_u32;
        loop {
            match self.count().await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    tracing::debug!(why, "the list of machines could not be had");
                    if failures >= TROUBLE {
                        self.trouble.send_if_modified(|trouble| {
                            let differs = trouble.as_ref() != Some(&why);
                            *trouble = Some(why);
                            differs
                        });
                    }
                }
            }
            self.opened.send_replace(true);
            while self.rest(failures).await == Rest::Listed {
                failures = 0;
            }
        }
    }

    /// Waits until it is time to ask, or until somebody else has.
    async fn rest(&self, failures: u32) -> Rest {
        let pause = match failures {
            0 if self.book().is_lively(self.elapsed()) => LIVELY,
            0 => ASLEEP,
            // The first time soon: whether it is more than a hiccup is to be told soon as well.
            n => LIVELY * (1 << (n - 1).min(4)),
        };
        // Several servers of one account do not ask in step.
        let pause = pause.mul_f64(0.9 + 0.2 * self.ambient.ids.unit());
        tokio::select! {
            () = self.ambient.clock.sleep(pause) => {}
            () = self.poke.notified() => self.ambient.clock.sleep(pause.min(LIVELY)).await,
            () = self.listed.notified() => return Rest::Listed,
        }
        Rest::Over
    }

    /// Takes over one list.
    async fn count(&self) -> Result<(), String> {
        let asked = self.elapsed();
        let ours = [(tags::INSTALLATION, self.installation.as_str())];
        let keep = |machine| Seen::of(&machine, &self.installation);
        let seen = self.api.list_of(&ours, keep).await.map_err(|error| error.to_string())?;
        self.take_over(seen, asked);
        Ok(())
    }

    /// Takes over a whole list of ours that was asked for then.
    pub(super) fn take_over(&self, seen: Vec<Seen>, asked: Duration) {
        let changed = self.book().listed(seen, asked);
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        for uid in changed {
            // Nobody listens any more when the server goes down.
            let _ = self.wake.send(uid);
        }
    }
}
