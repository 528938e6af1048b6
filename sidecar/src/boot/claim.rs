//! Claiming a run: asking until the server has answered, for as long as that makes sense.

use std::time::Duration;

use crate::{
    ambient,
    report::{self, Address, Backoff, ClaimAnswer},
    run::Ends,
    wire::{ClaimRequest, Claimed, WIRE_VERSION},
};

/// How long a machine waits for its server before it gives up: it costs money, and does nothing.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// How often it says in the machine's log that it waits.
const REMIND: Duration = Duration::from_secs(60);

/// How asking ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The run is ours.
    Given(Box<Claimed>),
    /// It is not, and never will be.
    Refused(String),
    /// A signal came first; this one.
    Signalled(i32),
    /// There is no answer to be had.
    Failed(String),
}

/// A boot's claim on a run.
#[derive(Debug, Clone)]
pub struct Claim(ClaimRequest);

impl Claim {
    /// The claim of this very process, which nobody else will ever make.
    #[must_use]
    pub fn of(job_id: &str, machine: Option<&str>) -> Self {
        Self(ClaimRequest {
            job_id: job_id.to_owned(),
            boot: ambient::name(),
            wire: WIRE_VERSION,
            machine: machine.map(str::to_owned),
        })
    }

    /// Asks until there is an answer, and says now and then that it waits, and why.
    pub async fn ask(&self, address: &Address, ends: &mut Ends, say: impl Fn(&str)) -> Outcome {
        tokio::select! {
            outcome = self.insist(address, say) => outcome,
            signal = ends.asked() => Outcome::Signalled(signal),
        }
    }

    async fn insist(&self, address: &Address, say: impl Fn(&str)) -> Outcome {
        let begun = ambient::elapsed();
        let mut backoff = Backoff::default();
        let mut said: Option<Duration> = None;
        loop {
            let (why, wish) = match report::claim(address, &self.0).await {
                ClaimAnswer::Given(claimed) => return Outcome::Given(claimed),
                ClaimAnswer::Refused(why) => return Outcome::Refused(why),
                ClaimAnswer::Misunderstood(why) => return Outcome::Failed(why),
                ClaimAnswer::Later(why, wish) => (why, wish),
            };
            let now = ambient::elapsed();
            let server = address.server.as_deref().unwrap_or_default();
            if now.saturating_sub(begun) >= PATIENCE {
                return Outcome::Failed(format!(
                    "{server} gave no run within an hour ({why}); this machine ends"
                ));
            }
            if said.is_none_or(|said| now.saturating_sub(said) >= REMIND) {
                say(&format!("waits for {server} to give it its run: {why}"));
                said = Some(now);
            }
            let wait = backoff.next(ambient::chance());
            ambient::sleep(wish.map_or(wait, |wish| wish.max(wait))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_an_hour_and_says_each_minute_whom_for() {
        let address = Address {
            job_id: "sprite".into(),
            run: 0,
            token: "token".into(),
            endpoint_file: None,
            // Nobody listens there.
            server: Some("http://127.0.0.1:1".into()),
        };
        let said = RefCell::new(Vec::new());
        let claim = Claim::of("sprite", None);
        let outcome = claim.insist(&address, |line| said.borrow_mut().push(line.to_owned())).await;
        let Outcome::Failed(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains("within an hour"), "{why}");
        let said = said.into_inner();
        assert!((50..=60).contains(&said.len()), "{}", said.len());
        assert!(said.iter().all(|line| line.contains("http://127.0.0.1:1")), "{said:?}");
    }
}
