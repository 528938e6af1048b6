//! The ledgers of access: who may do what, who waits to be let in, and who asked for what.
//!
//! The store keeps these rows and their bounds; what a role allows is decided by the room
//! [`access`](crate::access).

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Conversation;

/// How long a pairing code can be approved.
pub const PAIRING_EXPIRY: Duration = Duration::from_hours(1);
/// So many strangers may wait at once; who comes then is told nothing, so that no crowd of
/// strangers can fill the store.
pub const MOST_PAIRINGS: usize = 50;

/// Somebody, or a place with everybody in it: to whom a role is given.
///
/// As text it is `PLATFORM:USER` or `PLATFORM:channel:CHANNEL`, each by the platform's own id:
/// `slack:U0123ABC`, `slack:channel:C0123ABC`, `teams:29:1abc`. A token of the API is one, too: as
/// `token:NAME`. Nobody speaks on a platform of that name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// The platform, as it stands in conversations.
    pub platform: String,
    /// Whether a channel is meant, with everybody in it.
    pub is_channel: bool,
    /// The platform's id of the user or the channel.
    pub id: String,
}

/// What stands in front of a channel's id.
const CHANNEL: &str = "channel:";
/// What stands where a platform would, for tokens of the API.
const TOKEN: &str = "token";
/// The platforms on which somebody can be somebody.
const PLATFORMS: [&str; 5] = ["console", "slack", "discord", "teams", TOKEN];
/// The longest id: those of Teams have about 150 characters.
const LONGEST_ID: usize = 300;

/// Why a text names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrincipal {
    /// It has another form.
    #[error(
        "`{0}` names nobody; write PLATFORM:USER or PLATFORM:channel:CHANNEL with the platform's \
         own id, as in slack:U0123ABC or discord:channel:456"
    )]
    Form(String),
    /// The platform is unknown.
    #[error("`{0}` is no platform; use slack, discord, teams or console, as in slack:U0123ABC")]
    Platform(String),
}

impl Principal {
    /// A person.
    #[must_use]
    pub fn user(platform: impl Into<String>, id: impl Into<String>) -> Self {
        Self { platform: platform.into(), is_channel: false, id: id.into() }
    }

    /// Everybody in a channel.
    #[must_use]
    pub fn channel(platform: impl Into<String>, id: impl Into<String>) -> Self {
        Self { platform: platform.into(), is_channel: true, id: id.into() }
    }

    /// A token of the API.
    #[must_use]
    pub fn token(name: impl Into<String>) -> Self {
        Self::user(TOKEN, name)
    }

    /// Whether it is a token of the API.
    #[must_use]
    pub fn is_token(&self) -> bool {
        self.platform == TOKEN && !self.is_channel
    }

    /// Whether it can be read back as it is written. What cannot names nobody, and must stand in
    /// no row: nobody could read that row again.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.to_string().parse().as_ref() == Ok(self)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channel = if self.is_channel { CHANNEL } else { "" };
        write!(f, "{}:{channel}{}", self.platform, self.id)
    }
}

impl FromStr for Principal {
    type Err = BadPrincipal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || BadPrincipal::Form(text.chars().take(80).collect());
        let (platform, rest) = text.trim().split_once(':').ok_or_else(form)?;
        let platform = platform.to_ascii_lowercase();
        if !PLATFORMS.contains(&platform.as_str()) {
            return Err(BadPrincipal::Platform(platform.chars().take(80).collect()));
        }
        let channel = rest.strip_prefix(CHANNEL);
        let id = channel.unwrap_or(rest);
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == ',';
        if id.is_empty() || id.len() > LONGEST_ID || id.contains(odd) {
            return Err(form());
        }
        Ok(Self { platform, is_channel: channel.is_some(), id: id.to_owned() })
    }
}

impl Serialize for Principal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What somebody may do, in short; each role holds what the ones before it hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks on.
    Viewer,
    /// Talks with agents.
    User,
    /// Commands agents and jobs, and answers what they ask for.
    Operator,
    /// Lets others in.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::User, Self::Operator, Self::Admin];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; use viewer, user, operator or admin")]
pub struct BadRole(String);

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = text.trim().to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|role| role.name() == word);
        found.ok_or_else(|| BadRole(text.chars().take(80).collect()))
    }
}

/// That somebody has a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Who: there is one row for each.
    pub principal: Principal,
    /// The role.
    pub role: Role,
    /// What people call them, where that is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Who gave it.
    pub by: String,
    /// The pairing code by which they were let in, so that approving it again is seen to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairing: Option<String>,
    /// When.
    pub created: Timestamp,
    /// For a token of the API: how it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// How a token of the API is known: never by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The SHA-256 of the token, in hex. The token was told once, to who made it.
    pub print: String,
    /// Until when it opens the API; without it, until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Token {
    /// Whether it opens anything yet.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// A stranger who waits to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pairing {
    /// What an operator approves. It names this row, and is no secret: it lets in whom the row
    /// names, whoever says it.
    pub code: String,
    /// Who waits.
    pub principal: Principal,
    /// What people call them.
    pub name: String,
    /// Where they spoke to us.
    pub conversation: Conversation,
    /// When they did.
    pub created: Timestamp,
    /// Until when the code can be approved.
    pub expires: Timestamp,
}

impl Pairing {
    /// Whether it can still be approved.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        now < self.expires
    }
}

/// One thing that somebody asked for. Never holds a message or a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    /// Its number; drawn by the store.
    #[serde(default)]
    pub n: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// Who asked, as text; see [`Principal`]. `api` for whoever holds the server's token. What a
    /// named token was allowed (`token:NAME`) commits only while that token stands.
    pub who: String,
    /// What people call them.
    pub name: String,
    /// Where, as `PLATFORM/CHANNEL[/THREAD]`; empty for the API.
    #[serde(rename = "where", default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// What: the verb and what it is about, such as `stop api-bot`.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl AuditRow {
    /// Whether a token of the API asked.
    #[must_use]
    pub fn is_of_token(&self) -> bool {
        self.who.parse::<Principal>().is_ok_and(|who| who.is_token())
    }
}

/// What became of something that somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// They may, and it was done as far as it could be.
    Allowed,
    /// They may not.
    Refused,
    /// A stranger got a pairing code.
    Pairing,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_and_channels_are_named_as_their_platforms_name_them() {
        for (text, is_channel, id) in [
            ("slack:U0123ABC", false, "U0123ABC"),
            ("slack:channel:C1", true, "C1"),
            ("teams:29:1abc-_", false, "29:1abc-_"),
            ("teams:channel:19:x@thread.tacv2", true, "19:x@thread.tacv2"),
            ("discord:456", false, "456"),
        ] {
            let read: Principal = text.parse().unwrap();
            assert_eq!((read.is_channel, read.id.as_str()), (is_channel, id));
            assert_eq!(read.to_string(), text);
        }
        assert_eq!("Slack:U1".parse(), Ok(Principal::user("slack", "U1")));
    }

    #[test]
    fn what_names_nobody_is_told_with_the_mend() {
        let told: Vec<String> = ["", "U1", "slack:", "slack:channel:", "slak:U1", "slack:a b"]
            .into_iter()
            .map(|text| text.parse::<Principal>().unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    proptest! {
        #[test]
        fn a_principal_is_read_as_it_is_written(
            platform in "console|slack|discord|teams|token",
            is_channel: bool,
            id in "[A-Za-z0-9@._:;=-]{1,40}",
        ) {
            let principal = Principal { platform, is_channel, id };
            // A user whose id begins with `channel:` would be a channel; no platform has such.
            prop_assume!(is_channel || !principal.id.starts_with(CHANNEL));
            prop_assert_eq!(principal.to_string().parse::<Principal>(), Ok(principal));
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Principal>();
            let _ = text.parse::<Role>();
        }
    }
}
