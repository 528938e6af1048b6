//! The switches: what goes wrong, and when. All can be set at any time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::call::Action;

/// What is the matter with the world, until it is set otherwise.
#[derive(Debug, Clone)]
pub struct Switches {
    /// How far lists lie behind the truth. [obs]: seconds.
    pub list_lag: Duration,
    /// For how long a wait does not find a new machine. [src]
    pub wait_lag: Duration,
    /// Regions that do not answer lists: their machines are left out, and the list of the
    /// organization says so in `error_regions`. [doc]
    pub silent_regions: BTreeSet<String>,
    /// How many of a hundred answers to writes are lost. [obs]
    pub lost_percent: u8,
    /// Which writes' answers are lost at that rate.
    pub lost_actions: BTreeSet<Action>,
    /// Whether the buckets of the published rate limits count. [doc]
    pub rate_limits: bool,
    /// `Retry-After` on 429, which Fly does not document.
    pub retry_after: Option<Duration>,
    /// Regions without room: 422 `insufficient_capacity`. [src]
    pub full_regions: BTreeSet<String>,
    /// Hosts without room: they take no new machine, and start none. [obs]
    pub full_hosts: BTreeSet<String>,
    /// Machines that the account may have. [obs]: about 50 for a new organization.
    pub machine_limit: Option<usize>,
    /// Whether `suspend` stops instead. [doc]
    pub suspend_stops: bool,
    /// Whether a suspended machine boots anew instead of going on. [doc]
    pub resume_cold: bool,
    /// Words that machines show as their state instead of the true one, by id. [obs]
    pub shown_states: BTreeMap<String, String>,
    /// Whether the token is refused: 401. [obs]
    pub token_refused: bool,
    /// Apps that belong to another organization: 403. [doc]
    pub foreign_apps: BTreeSet<String>,
    /// Whether 0 is left out of exit events, as it often is. [obs]
    pub omit_exit_zero: bool,
    /// How refusals look.
    pub shape: ErrorShape,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            list_lag: Duration::ZERO,
            wait_lag: Duration::ZERO,
            silent_regions: BTreeSet::new(),
            lost_percent: 0,
            lost_actions: BTreeSet::from([Action::Create]),
            rate_limits: true,
            retry_after: None,
            full_regions: BTreeSet::new(),
            full_hosts: BTreeSet::new(),
            machine_limit: None,
            suspend_stops: false,
            resume_cold: false,
            shown_states: BTreeMap::new(),
            token_refused: false,
            foreign_apps: BTreeSet::new(),
            omit_exit_zero: true,
            shape: ErrorShape::Error,
        }
    }
}

impl Switches {
    /// The switches that can be set by a word, and what each does.
    pub const WORDS: [(&str, &str); 13] = [
        ("full-region=REGION", "a region without room"),
        ("full-host=HOST", "a host without room (iad-h1)"),
        ("silent-region=REGION", "a region that is missing in lists"),
        ("machine-limit=N", "the account may have N machines"),
        ("no-rate-limits", "calls are not counted"),
        ("retry-after=SECONDS", "429 says when to come back"),
        ("suspend-stops", "suspend stops instead"),
        ("resume-cold", "what was suspended boots anew"),
        ("wait-lag=SECONDS", "a wait does not find a new machine"),
        ("token-refused", "401"),
        ("foreign-app=APP", "403 for this app"),
        ("errors=SHAPE", "bodies of errors: error, message, html or empty"),
        ("lost-action=ACTION", "whose answers are lost, beside Create (Start, Destroy, ...)"),
    ];

    /// Sets a switch by its word.
    ///
    /// # Errors
    /// A word that is none, with those that are.
    pub fn set_word(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number =
            || value.parse::<u64>().map_err(|_| format!("{name} needs a number and not `{value}`"));
        match name {
            "full-region" => drop(self.full_regions.insert(value.to_owned())),
            "full-host" => drop(self.full_hosts.insert(value.to_owned())),
            "silent-region" => drop(self.silent_regions.insert(value.to_owned())),
            "machine-limit" => self.machine_limit = usize::try_from(number()?).ok(),
            "no-rate-limits" => self.rate_limits = false,
            "retry-after" => self.retry_after = Some(Duration::from_secs(number()?)),
            "suspend-stops" => self.suspend_stops = true,
            "resume-cold" => self.resume_cold = true,
            "wait-lag" => self.wait_lag = Duration::from_secs(number()?),
            "token-refused" => self.token_refused = true,
            "foreign-app" => drop(self.foreign_apps.insert(value.to_owned())),
            "errors" => {
                self.shape = match value {
                    "error" => ErrorShape::Error,
                    "message" => ErrorShape::Message,
                    "html" => ErrorShape::Html,
                    "empty" => ErrorShape::Empty,
                    _ => {
                        return Err(format!(
                            "errors is error, message, html or empty, and not `{value}`"
                        ));
                    }
                };
            }
            "lost-action" => {
                let action = Action::ALL_WRITES
                    .into_iter()
                    .find(|action| action.to_string().eq_ignore_ascii_case(value))
                    .ok_or_else(|| format!("`{value}` is no action whose answer can be lost"))?;
                self.lost_actions.insert(action);
            }
            _ => {
                let words: Vec<&str> = Self::WORDS.iter().map(|(word, _)| *word).collect();
                return Err(format!("there is no fault `{word}`; there are {}", words.join(", ")));
            }
        }
        Ok(())
    }
}

/// How a refusal's body looks. [obs]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error": …, "status": …}`, as documented.
    Error,
    /// `{"status": "error", "message": …}`, as some paths do.
    Message,
    /// A page of a proxy.
    Html,
    /// Nothing.
    Empty,
}

/// What befalls one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody can tell from the answer whether it was done.
    Lost {
        /// Whether it was.
        committed: bool,
        /// What comes instead of the answer.
        answer: LostAnswer,
    },
    /// It is refused and nothing is done.
    Refused {
        /// The status of the answer.
        status: u16,
        /// What the body says.
        error: String,
        /// The code in the body (`insufficient_capacity`, …).
        code: Option<String>,
    },
    /// 429.
    RateLimited {
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// It is done, and the answer comes late.
    Late(Duration),
}

impl Trouble {
    /// Done, and the answer is lost.
    #[must_use]
    pub const fn lost_after(answer: LostAnswer) -> Self {
        Self::Lost { committed: true, answer }
    }

    /// Not done, with the same answer.
    #[must_use]
    pub const fn lost_before(answer: LostAnswer) -> Self {
        Self::Lost { committed: false, answer }
    }

    /// No room on the host: 409 without a code. [obs]
    #[must_use]
    pub fn host_full() -> Self {
        Self::Refused {
            status: 409,
            error: "aborted: could not reserve resource for machine: insufficient memory \
                    available to fulfill request"
                .into(),
            code: None,
        }
    }

    /// No room in the region: 422 `insufficient_capacity`. [src]
    #[must_use]
    pub fn region_full() -> Self {
        Self::Refused {
            status: 422,
            error: "could not find a candidate host with enough resources".into(),
            code: Some("insufficient_capacity".into()),
        }
    }

    /// No room where the volume lies: 412 `volume_placement_capacity`. [src]
    #[must_use]
    pub fn volume_full() -> Self {
        Self::Refused {
            status: 412,
            error: "insufficient resources to create new machine with existing volume".into(),
            code: Some("volume_placement_capacity".into()),
        }
    }
}

/// What comes instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostAnswer {
    /// 408 `deadline_exceeded`.
    Timeout,
    /// 502, from a proxy, in HTML.
    BadGateway,
    /// The connection ends without an answer.
    Dropped,
}

impl LostAnswer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Timeout, Self::BadGateway, Self::Dropped];
}

/// Troubles that befall the next calls, each once, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Once(VecDeque<(Action, Trouble)>);

impl Once {
    pub(super) fn push(&mut self, action: Action, trouble: Trouble) {
        self.0.push_back((action, trouble));
    }

    /// Takes the first that waits for an action.
    pub(super) fn take(&mut self, action: Action) -> Option<Trouble> {
        let at = self.0.iter().position(|(waiting, _)| *waiting == action)?;
        self.0.remove(at).map(|(_, trouble)| trouble)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What happens to a machine that nobody asked for over the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// The proxy starts it. [doc]
    Start,
    /// The proxy, or somebody with another client, stops it. [doc]
    Stop,
    /// Somebody destroys it.
    Destroy,
    /// Its first process is killed (signal 9), as by a crash.
    Crash,
    /// The kernel kills its first process for want of memory.
    OutOfMemory,
    /// Its host stops answering: `host_status` is `unreachable`, `incomplete_config` stands for
    /// `config`; what runs in it goes on. [spec]
    HostUnreachable,
    /// Its host answers again.
    HostBack,
    /// Its host is lost: what ran in it is gone, and it stays unreachable.
    HostLost,
    /// It moves to another host: same id, new `private_ip`, a new boot. Its volume goes along. [doc]
    Migrate,
    /// It ends in `failed`, and may be started again. [obs]
    Fail,
    /// It stays in its present state, whatever is asked: wedged. [doc]: "stuck".
    Wedge,
    /// It obeys again.
    Unwedge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_sets_a_switch_and_no_other_word_does() {
        for (word, _) in Switches::WORDS {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = match value {
                "N" | "SECONDS" => "5",
                "SHAPE" => "html",
                "ACTION" => "destroy",
                other => other,
            };
            let mut switches = Switches::default();
            let said = if value.is_empty() { name.to_owned() } else { format!("{name}={value}") };
            switches.set_word(&said).unwrap();
            let (set, before) = (format!("{switches:?}"), format!("{:?}", Switches::default()));
            assert_ne!(set, before, "{said} changes nothing");
        }
        let refused = Switches::default().set_word("full-regoin=iad").unwrap_err();
        assert!(refused.contains("full-regoin=iad") && refused.contains("full-region=REGION"));
        assert!(Switches::default().set_word("machine-limit=many").unwrap_err().contains("many"));
    }

    #[test]
    fn troubles_wait_for_their_own_action_in_order() {
        let mut once = Once::default();
        once.push(Action::Create, Trouble::host_full());
        once.push(Action::Start, Trouble::region_full());
        once.push(Action::Create, Trouble::volume_full());
        assert_eq!(once.take(Action::Start), Some(Trouble::region_full()));
        assert_eq!(once.take(Action::Create), Some(Trouble::host_full()));
        assert_eq!(once.take(Action::Create), Some(Trouble::volume_full()));
        assert_eq!((once.take(Action::Create), once.len()), (None, 0));
    }
}
