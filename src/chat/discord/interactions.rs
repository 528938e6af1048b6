//! The interactions that can still be answered, in memory alone.
//!
//! An interaction's token is good for 15 minutes. It is a secret for that time, and stands
//! nowhere but here; so after a restart an answer comes as a message of its own.

use std::{collections::HashMap, time::Duration};

use secrecy::SecretString;

/// How long a token is used: somewhat less than the 15 minutes for which it is good.
const GOOD_FOR: Duration = Duration::from_secs(14 * 60 + 30);

/// What the first answer to an interaction was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// A message that shows that we think; all see it.
    Thinking,
    /// The same, for whoever asked alone.
    ThinkingAlone,
    /// Nothing that is seen: a button was pressed.
    Pressed,
}

/// An interaction that can be answered.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// What opens it.
    pub(super) token: SecretString,
    /// How it was opened.
    pub(super) opened: Opened,
    since: Duration,
    message: Option<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Interactions {
    live: HashMap<String, Live>,
}

impl Interactions {
    /// Keeps one that was opened.
    pub(super) fn keep(&mut self, id: &str, token: &str, opened: Opened, now: Duration) {
        self.live.retain(|_, live| live.since + GOOD_FOR > now);
        let token = SecretString::from(token);
        self.live.insert(id.to_owned(), Live { token, opened, since: now, message: None });
    }

    /// One by its id, while it is good.
    pub(super) fn get(&self, id: &str, now: Duration) -> Option<Live> {
        self.live.get(id).filter(|live| live.since + GOOD_FOR > now).cloned()
    }

    /// Notes which message answers it.
    pub(super) fn answered(&mut self, id: &str, message: &str) {
        if let Some(live) = self.live.get_mut(id) {
            live.message = Some(message.to_owned());
        }
    }

    /// The id of the one that a message answers, and the one itself, while it is good.
    pub(super) fn of_message(&self, message: &str, now: Duration) -> Option<(String, Live)> {
        let of = |(_, live): &(&String, &Live)| {
            live.message.as_deref() == Some(message) && live.since + GOOD_FOR > now
        };
        self.live.iter().find(of).map(|(id, live)| (id.clone(), live.clone()))
    }

    /// Forgets one whose token Discord takes no more.
    pub(super) fn forget(&mut self, id: &str) {
        self.live.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_while_it_is_good_and_is_never_shown() {
        let mut all = Interactions::default();
        all.keep("1", "the-token", Opened::Thinking, Duration::ZERO);
        all.answered("1", "m");
        let late = GOOD_FOR;
        assert!(all.get("1", Duration::from_secs(60)).is_some());
        assert_eq!(all.of_message("m", Duration::from_secs(60)).unwrap().0, "1");
        assert!(all.get("1", late).is_none());
        assert!(all.of_message("m", late).is_none());
        assert!(!format!("{all:?}").contains("the-token"));
        all.keep("2", "other", Opened::Pressed, late);
        assert_eq!(all.live.len(), 1, "what is good no more is not kept");
    }
}
