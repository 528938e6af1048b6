//! Who may do what: pure decisions over rows that others keep.
//!
//! **What it is for.** Nobody may do anything, until they are let in. Each line of chat needs a
//! [`Right`]; [`decide`] says whether whoever said it has that, and why. What is asked for by a
//! button is decided when it is pressed, by who pressed it: a button is a line of chat.
//!
//! | role | may |
//! |---|---|
//! | viewer | read: lists, status, logs |
//! | user | that, and talk: messages to agents; cancel what they themselves said |
//! | operator | that, and command: start, run, stop, cancel, retry, set, delete; answer what agents ask |
//! | admin | all: also `--all everywhere` |
//!
//! A role is given to a person, or to a channel with everybody in it; the higher one counts. What
//! somebody may by the channel's role alone reaches no further than that channel ([`Reach`]): to
//! the agents that listen there or in a thread of it, and to the jobs that report there. Of all
//! others they are told nothing, not even that they are there. The configuration names the first admins. At the console everybody is an admin: whoever gets there
//! holds the server's token.
//!
//! **What it may know.** The store's rows. No clock, no I/O: [`pairing`] makes codes of what it is
//! given, [`quote`] fences text that strangers wrote, [`shape`] says which ids look wrong.
//!
//! **What it may never do.** Take a display name for a person: names are what people call
//! themselves, and only the platform's own ids are compared.

pub mod names;
pub mod noted;
pub mod pairing;
pub mod quote;
pub mod shape;

pub use quote::Quoted;

use crate::store::{Access, Conversation, Principal, Role};

/// The platform whose users hold the server's token.
const CONSOLE: &str = "console";

/// What a line needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To look: list, status, logs, jobs, help.
    Read,
    /// To say something to an agent.
    Talk,
    /// To take back what one said oneself.
    CancelOwn,
    /// To change what agents and jobs do.
    Command,
    /// To answer what an agent asks for.
    Approve,
    /// To reach beyond the conversation, and to let others in.
    Admin,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Talk, Self::CancelOwn, Self::Command, Self::Approve, Self::Admin];

    /// The least role that holds it.
    #[must_use]
    pub fn needs(self) -> Role {
        match self {
            Self::Read => Role::Viewer,
            Self::Talk | Self::CancelOwn => Role::User,
            Self::Command | Self::Approve => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }
}

/// Where a role comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// They hold the server's token.
    Token,
    /// The configuration names them.
    Configuration,
    /// A row of their own, or of the channel.
    Row(Access),
}

/// A role, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The role.
    pub role: Role,
    /// Where it comes from.
    pub source: Source,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They may.
    Allowed(Standing),
    /// They are known, and may not.
    Refused(Standing),
    /// Nobody knows them.
    Stranger,
}

/// Who has a role: the rows, and the admins of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The rows.
    pub rows: &'a [Access],
    /// Who is an admin without a row.
    pub admins: &'a [Principal],
}

/// The role that a person has in a place: the highest that is theirs or the channel's.
#[must_use]
pub fn standing(known: Known<'_>, user: &str, place: &Conversation) -> Option<Standing> {
    let platform = place.platform.as_str();
    if platform == CONSOLE {
        return Some(Standing { role: Role::Admin, source: Source::Token });
    }
    // Nobody is nobody, whatever the rows say.
    let person = (!user.is_empty()).then(|| Principal::user(platform, user));
    let channel = Principal::channel(platform, &place.channel);
    if person.as_ref().is_some_and(|person| known.admins.contains(person)) {
        return Some(Standing { role: Role::Admin, source: Source::Configuration });
    }
    let theirs =
        |row: &&Access| Some(&row.principal) == person.as_ref() || row.principal == channel;
    // Of two equal roles the person's own is the one that is told.
    let best =
        known.rows.iter().filter(theirs).max_by_key(|row| (row.role, !row.principal.is_channel))?;
    Some(Standing { role: best.role, source: Source::Row(best.clone()) })
}

/// How far somebody reaches who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// By a role of their own: all that there is.
    Everywhere,
    /// By the channel's role alone: what belongs to that channel, which is on this platform and
    /// has this id.
    Channel {
        /// The platform, as it stands in conversations.
        platform: String,
        /// The platform's id of the channel.
        channel: String,
    },
}

impl Reach {
    /// How far somebody reaches with a right in a place, once it was decided that they may.
    #[must_use]
    pub fn of(known: Known<'_>, user: &str, place: &Conversation, right: Right) -> Self {
        // A channel without a name has no row.
        let nowhere = Conversation { channel: String::new(), ..place.clone() };
        match decide(known, user, &nowhere, right) {
            Verdict::Allowed(_) => Self::Everywhere,
            Verdict::Refused(_) | Verdict::Stranger => Self::channel(place),
        }
    }

    /// A conversation's channel, with its threads.
    #[must_use]
    pub fn channel(place: &Conversation) -> Self {
        Self::Channel { platform: place.platform.clone(), channel: place.channel.clone() }
    }

    /// Whether something reaches into a conversation.
    #[must_use]
    pub fn holds(&self, place: &Conversation) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Channel { platform, channel } => {
                place.platform == *platform && place.channel == *channel
            }
        }
    }
}

/// Decides whether a person may do something in a place.
#[must_use]
pub fn decide(known: Known<'_>, user: &str, place: &Conversation, right: Right) -> Verdict {
    match standing(known, user, place) {
        None => Verdict::Stranger,
        Some(standing) if standing.role >= right.needs() => Verdict::Allowed(standing),
        Some(standing) => Verdict::Refused(standing),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn place(platform: &str, channel: &str) -> Conversation {
        Conversation { platform: platform.into(), channel: channel.into(), thread: None }
    }

    fn row(principal: &str, role: Role) -> Access {
        Access {
            principal: principal.parse().unwrap(),
            role,
            name: String::new(),
            by: "ada".into(),
            pairing: None,
            created: Timestamp::UNIX_EPOCH,
            token: None,
        }
    }

    fn role(rows: &[Access], user: &str, place: &Conversation) -> Option<Role> {
        let admins = ["slack:UADMIN".parse().unwrap()];
        standing(Known { rows, admins: &admins }, user, place).map(|standing| standing.role)
    }

    #[test]
    fn each_role_may_what_the_table_says() {
        let table: String = Role::ALL
            .into_iter()
            .flat_map(|role| Right::ALL.map(|right| (role, right)))
            .map(|(role, right)| {
                let rows = [row("slack:U1", role)];
                let known = Known { rows: &rows, admins: &[] };
                let verdict = decide(known, "U1", &place("slack", "C1"), right);
                let may = match verdict {
                    Verdict::Allowed(_) => "may",
                    Verdict::Refused(_) => "may not",
                    Verdict::Stranger => "is a stranger",
                };
                format!("{role:<8} {may:<7} {right:?}\n")
            })
            .collect();
        insta::assert_snapshot!(table);
    }

    #[test]
    fn the_higher_of_the_persons_and_the_channels_role_counts() {
        let rows = [row("slack:U1", Role::Viewer), row("slack:channel:C1", Role::Operator)];
        let (here, there) = (place("slack", "C1"), place("slack", "C2"));
        assert_eq!(role(&rows, "U1", &here), Some(Role::Operator));
        assert_eq!(role(&rows, "U1", &there), Some(Role::Viewer));
        assert_eq!(role(&rows, "U2", &here), Some(Role::Operator));
        assert_eq!(role(&rows, "U2", &there), None);
        assert_eq!(role(&rows, "U1", &place("discord", "C1")), None, "ids are the platform's");
    }

    #[test]
    fn a_channels_role_reaches_no_further_than_the_channel() {
        let rows = [row("slack:U1", Role::User), row("slack:channel:C1", Role::Operator)];
        let known = Known { rows: &rows, admins: &["slack:UADMIN".parse().unwrap()] };
        let here = place("slack", "C1");
        let thread = Conversation { thread: Some("1".into()), ..here.clone() };
        let reach = |user: &str, right| Reach::of(known, user, &thread, right);
        assert_eq!(reach("U1", Right::Talk), Reach::Everywhere, "by a role of their own");
        assert_eq!(reach("UADMIN", Right::Admin), Reach::Everywhere);
        for user in ["U1", "U2", ""] {
            let reach = reach(user, Right::Command);
            assert!(reach.holds(&here) && reach.holds(&thread), "{user}");
            assert!(!reach.holds(&place("slack", "C2")), "{user}");
            assert!(!reach.holds(&place("discord", "C1")), "{user}");
        }
        let console = Reach::of(known, "ada", &place("console", "main"), Right::Admin);
        assert_eq!(console, Reach::Everywhere);
    }

    #[test]
    fn an_id_is_never_taken_for_a_channels_or_a_name() {
        let rows = [row("slack:channel:C1", Role::Admin), row("slack:U1", Role::Admin)];
        assert_eq!(role(&rows, "C1", &place("slack", "D1")), None, "a user with a channel's id");
        assert_eq!(role(&rows, "channel:C1", &place("slack", "D1")), None);
        assert_eq!(role(&rows, "x", &place("slack", "U1")), None, "a channel with a user's id");
        assert_eq!(role(&rows, "u1", &place("slack", "D1")), None, "ids have a case");
        assert_eq!(role(&rows, "", &place("slack", "D1")), None);
    }

    #[test]
    fn the_console_and_the_configurations_admins_may_all() {
        assert_eq!(role(&[], "anybody", &place("console", "main")), Some(Role::Admin));
        assert_eq!(role(&[], "UADMIN", &place("slack", "C1")), Some(Role::Admin));
        assert_eq!(role(&[], "UADMIN", &place("discord", "C1")), None);
        let demoted = [row("slack:UADMIN", Role::Viewer)];
        assert_eq!(role(&demoted, "UADMIN", &place("slack", "C1")), Some(Role::Admin));
    }

    proptest! {
        /// Whatever rows there are for others, they give a stranger nothing.
        #[test]
        fn no_row_of_others_lets_a_stranger_in(
            others in prop::collection::vec(("[a-z]{1,3}", any::<bool>(), 0..4_usize), 0..6),
            user in "[A-Z]{1,3}",
        ) {
            let rows: Vec<Access> = others
                .into_iter()
                .map(|(id, is_channel, role)| {
                    let channel = if is_channel { "channel:" } else { "" };
                    row(&format!("slack:{channel}{id}"), Role::ALL[role])
                })
                .collect();
            prop_assert_eq!(role(&rows, &user, &place("slack", "D1")), None);
        }

        /// A higher role never takes a right away.
        #[test]
        fn rights_only_grow_with_the_role(right in 0..6_usize, a in 0..4_usize, b in 0..4_usize) {
            let may = |role: usize| Role::ALL[role] >= Right::ALL[right].needs();
            prop_assert!(a > b || !may(a) || may(b));
        }
    }
}
