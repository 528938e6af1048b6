//! How the connections are, and what is to be said or done about one that is down.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use slack_morphism::SlackSocketModeWssClientId;

use super::{
    api::{Failure, REINSTALL},
    envelope::Me,
    lock,
};
use crate::chat::ear::Hearing;

/// What is known of the connections.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    me: Me,
    open: HashSet<SlackSocketModeWssClientId>,
    /// When the last frame came, by the clock.
    last_frame: Option<Duration>,
    /// What a person must mend.
    never: Option<String>,
    /// Why not now.
    now: String,
}

impl Health {
    /// Who we are to Slack.
    pub(super) fn me(&self) -> Me {
        lock(&self.0).me.clone()
    }

    /// Whether people are heard at a time of the clock.
    pub(super) fn hearing(&self, now: Duration) -> Hearing {
        let inner = lock(&self.0);
        if let Some(mend) = &inner.never {
            return Hearing::Never(mend.clone());
        }
        if !inner.open.is_empty() {
            return Hearing::Yes;
        }
        let why = if inner.now.is_empty() { "Slack is being dialled" } else { &inner.now };
        Hearing::NotNow(match inner.last_frame {
            Some(last) => {
                let silent = now.saturating_sub(last).as_secs();
                format!("{why}; the last frame came {silent} s ago")
            }
            None => why.to_owned(),
        })
    }

    /// Who we are to Slack.
    pub(super) fn we_are(&self, me: Me) {
        lock(&self.0).me = me;
    }

    /// A connection stands.
    pub(super) fn up(&self, id: SlackSocketModeWssClientId) {
        lock(&self.0).open.insert(id);
    }

    /// A connection is down.
    pub(super) fn down(&self, id: &SlackSocketModeWssClientId) {
        lock(&self.0).open.remove(id);
    }

    /// No connection stands any more.
    pub(super) fn all_down(&self) {
        lock(&self.0).open.clear();
    }

    /// Whether a connection stands.
    pub(super) fn is_heard(&self) -> bool {
        !lock(&self.0).open.is_empty()
    }

    /// A frame came.
    pub(super) fn frame(&self, now: Duration) {
        lock(&self.0).last_frame = Some(now);
    }

    /// Nobody is heard for now, and why.
    pub(super) fn not_now(&self, why: impl Into<String>) {
        let mut inner = lock(&self.0);
        inner.now = why.into();
        inner.never = None;
    }

    /// Nobody is heard until a person mends this.
    pub(super) fn never(&self, mend: impl Into<String>) {
        let mend = mend.into();
        let mut inner = lock(&self.0);
        if inner.never.as_ref() != Some(&mend) {
            tracing::error!("Slack: {mend}");
        }
        inner.never = Some(mend);
    }
}

/// What to do about a connection that is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Dial it again.
    Again,
    /// Dial it again, later, and say why.
    Later(String),
    /// Leave it until a person has mended this.
    Never(String),
}

/// What a reason of Slack's means.
pub(super) fn verdict(reason: Option<&str>) -> Verdict {
    match reason {
        Some("link_disabled") => Verdict::Never(
            "Socket Mode is switched off for this app; switch it on on the app's page, under \
             Socket Mode"
                .to_owned(),
        ),
        Some("too_many_websockets") => Verdict::Later(
            "Slack says too_many_websockets: other servers use the same app; stop them, or make \
             an app for each"
                .to_owned(),
        ),
        _ => Verdict::Again,
    }
}

/// What a refused token means.
pub(super) fn trouble(variable: &str, failure: &Failure) -> Result<(String, Duration), String> {
    let short = Duration::from_secs(5);
    match failure {
        Failure::Said(word) if matches!(word.as_str(), "internal_error" | "fatal_error") => {
            Ok((format!("Slack says {word}"), short))
        }
        Failure::Said(word) if variable == "SLACK_APP_TOKEN" => Err(format!(
            "Slack does not take SLACK_APP_TOKEN ({word}); make a new app-level token with the \
             scope connections:write on the app's page, Basic Information"
        )),
        Failure::Said(word) => Err(format!("Slack does not take {variable} ({word}); {REINSTALL}")),
        Failure::Wait(wait) => Ok((failure.to_string(), *wait)),
        Failure::Unreachable(_) | Failure::Unclear(_) => Ok((failure.to_string(), short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_mend_is_told_with_the_mend() {
        let said = |word: &str| Failure::Said(word.to_owned());
        let told = [
            format!("{:?}", verdict(Some("link_disabled"))),
            format!("{:?}", verdict(Some("too_many_websockets"))),
            format!("{:?}", verdict(Some("refresh_requested"))),
            format!("{:?}", verdict(None)),
            format!("{:?}", trouble("SLACK_APP_TOKEN", &said("invalid_auth"))),
            format!("{:?}", trouble("SLACK_BOT_TOKEN", &said("account_inactive"))),
            format!("{:?}", trouble("SLACK_BOT_TOKEN", &Failure::Wait(Duration::from_secs(30)))),
            format!("{:?}", trouble("SLACK_BOT_TOKEN", &Failure::Unreachable("no way".into()))),
        ];
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn health_tells_how_long_nothing_came() {
        let health = Health::default();
        let at = |seconds| Duration::from_secs(seconds);
        let id = SlackSocketModeWssClientId { initial_index: 0, token_index: 0, reconnected: 0 };
        assert_eq!(health.hearing(at(1)), Hearing::NotNow("Slack is being dialled".into()));
        health.up(id.clone());
        health.frame(at(2));
        assert_eq!(health.hearing(at(100)), Hearing::Yes);
        health.down(&id);
        health.not_now("down");
        let told = Hearing::NotNow("down; the last frame came 40 s ago".into());
        assert_eq!(health.hearing(at(42)), told);
        health.never("mend it");
        assert_eq!(health.hearing(at(42)), Hearing::Never("mend it".into()));
    }
}
