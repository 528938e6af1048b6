//! When calls are not even tried. Pure: time is handed in.
//!
//! A token that has expired, or an API that is down, fails every call alike. Then a server with
//! ten thousand agents would say so ten thousand times, and would be at the door with all of them
//! when it opens. So after a few such failures in a row all calls rest; then one goes out to try,
//! and its end decides for all. What is wrong is one condition, with since when and why.
//!
//! ```text
//!            n alike in a row                its time has come: one call goes
//!   closed ───────────────────► open ────────────────────────────────► probing
//!      ▲                          ▲                                        │
//!      │                          └──── it failed: twice as long ──────────┤
//!      └─────────────────────────────── any other end ─────────────────────┘
//! ```

use std::time::Duration;

use jiff::Timestamp;

use super::errors::ApiError;
use crate::ambient::later;

/// So many in a row open it: the token is not known, or not for this.
const REFUSALS: u32 = 3;
/// So many in a row open it: Fly cannot be reached, or fails.
const FAILURES: u32 = 5;
/// The first rest after refusals: they end by somebody's hand.
const REST_REFUSED: Duration = Duration::from_secs(30);
/// The first rest after failures.
const REST_FAILED: Duration = Duration::from_secs(5);
/// The longest rest.
const REST_MOST: Duration = Duration::from_secs(120);

/// What is wrong with the API as a whole: one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Since when.
    pub since: Timestamp,
    /// When it is tried again.
    pub until: Timestamp,
    /// What the last call said.
    pub why: String,
    /// Whether Fly answers and does not let us in; else it does not answer, or fails.
    pub refused: bool,
}

/// What a call's end says about the calls after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Fly answers us.
    Well,
    /// Fly does not let us in.
    Refused,
    /// Fly does not answer, or fails.
    Failed,
}

fn says<T>(end: &Result<T, ApiError>) -> Option<Says> {
    Some(match end {
        Err(ApiError::Token(_) | ApiError::Forbidden(_)) => Says::Refused,
        Err(ApiError::Unavailable(_) | ApiError::Ambiguous(_)) => Says::Failed,
        // Nothing was asked, so nothing was learned.
        Err(ApiError::Setup(_) | ApiError::Resting { .. } | ApiError::Fault(_)) => return None,
        Ok(_) | Err(_) => Says::Well,
    })
}

/// Whether calls may be made.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    refused: u32,
    failed: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    condition: Condition,
    rest: Duration,
    probe: bool,
}

/// The right to make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// As always.
    Free,
    /// This call tries for all.
    Probe,
}

impl Breaker {
    /// Asks whether a call may be made now. Who is told `Probe` says how it ended, or lets go.
    pub(super) fn admit(&mut self, now: Timestamp) -> Result<Admission, ApiError> {
        match &mut self.open {
            None => Ok(Admission::Free),
            Some(open) if !open.probe && now >= open.condition.until => {
                open.probe = true;
                Ok(Admission::Probe)
            }
            Some(open) => Err(resting(&open.condition, now)),
        }
    }

    /// Whether it is worth to wait for the right to make a call; takes no probe.
    pub(super) fn look(&self, now: Timestamp) -> Result<(), ApiError> {
        match &self.open {
            Some(open) if open.probe || now < open.condition.until => {
                Err(resting(&open.condition, now))
            }
            _ => Ok(()),
        }
    }

    /// Takes over how a call ended.
    pub(super) fn note<T>(
        &mut self,
        admission: Admission,
        end: &Result<T, ApiError>,
        now: Timestamp,
    ) {
        let is_probe = admission == Admission::Probe;
        let why = || end.as_ref().err().map(ToString::to_string).unwrap_or_default();
        match says(end) {
            None if is_probe => self.let_go(),
            None => {}
            // A call that left before it opened proves as much as the probe.
            Some(Says::Well) => *self = Self::default(),
            Some(said) => {
                match said {
                    Says::Refused => self.refused += 1,
                    _ => self.failed += 1,
                }
                match &mut self.open {
                    Some(open) if is_probe => {
                        open.rest = (open.rest * 2).min(REST_MOST);
                        open.probe = false;
                        open.condition.until = later(now, open.rest);
                        open.condition.why = why();
                        open.condition.refused = said == Says::Refused;
                    }
                    // It left before, and says nothing new.
                    Some(_) => {}
                    None if self.refused >= REFUSALS || self.failed >= FAILURES => {
                        let rest = match said {
                            Says::Refused => REST_REFUSED,
                            _ => REST_FAILED,
                        };
                        self.open = Some(Open {
                            condition: Condition {
                                since: now,
                                until: later(now, rest),
                                why: why(),
                                refused: said == Says::Refused,
                            },
                            rest,
                            probe: false,
                        });
                    }
                    None => {}
                }
            }
        }
    }

    /// A probe was given up without an end: the next call may be one.
    pub(super) fn let_go(&mut self) {
        if let Some(open) = &mut self.open {
            open.probe = false;
        }
    }

    /// What is wrong, while it is open.
    pub(super) fn condition(&self) -> Option<Condition> {
        self.open.as_ref().map(|open| open.condition.clone())
    }
}

fn resting(condition: &Condition, now: Timestamp) -> ApiError {
    // While one tries, nobody knows: as long as the shortest rest.
    let until = match condition.until > now {
        true => condition.until,
        false => later(now, REST_FAILED),
    };
    ApiError::Resting { until, why: condition.why.clone(), refused: condition.refused }
}

#[cfg(test)]
mod tests;
