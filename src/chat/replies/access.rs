//! What people are told about what they may do.

use super::NAMELESS;
use crate::{
    access::{Source, Standing},
    store::{Conversation, Principal, Role},
};

/// So many admins are named at most.
const NAMED: usize = 3;

/// The answer to a stranger.
pub(in crate::chat) fn pairing(platform: &str, who: &Principal, code: &str) -> String {
    format!(
        "Nobody has let you in yet, so nothing was done with that. Ask whoever runs this server \
         to type this there within an hour:\nopen-dispatch access approve {code}\nYou are {who} \
         on {platform}. Then say it again."
    )
}

/// The answer to somebody who may not. `admins` are who can be asked on the same platform.
pub(in crate::chat) fn not_allowed(
    role: Role,
    what: &str,
    needed: Role,
    who: &Principal,
    admins: &[String],
) -> String {
    let ask = match admins {
        [] => "Whoever runs this server".to_owned(),
        [only] => format!("{only}, or whoever runs this server,"),
        several => {
            let named = several.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            format!("{named}, or whoever runs this server,")
        }
    };
    let article = |role: Role| match role {
        Role::Operator | Role::Admin => "an",
        Role::Viewer | Role::User => "a",
    };
    format!(
        "You are {} {role} here, and {what} needs {} {needed}; nothing was done. {ask} can change \
         that there: open-dispatch access grant {who} {needed}",
        article(role),
        article(needed)
    )
}

/// The answer to `/od-whoami`.
pub(in crate::chat) fn whoami(
    author: &str,
    user: &str,
    place: &Conversation,
    standing: &Standing,
) -> String {
    let thread =
        place.thread.as_ref().map(|thread| format!(", thread {thread}")).unwrap_or_default();
    // A terminal that gave no name.
    let who = if author == NAMELESS { String::new() } else { format!("{author} ") };
    let id = match standing.source {
        Source::Token => String::new(),
        _ => format!("({}) ", Principal::user(&place.platform, user)),
    };
    let may = match &standing.source {
        Source::Token => "Whoever holds this server's token may do everything here.".to_owned(),
        Source::Configuration => {
            format!("The server's configuration makes you an {}.", Role::Admin)
        }
        Source::Row(row) => {
            let day = row.created.strftime("%Y-%m-%d");
            let by = &row.by;
            match row.principal.is_channel {
                true => {
                    format!("Everybody in this channel is {}, by {by} since {day}.", row.role)
                }
                false => format!("Your role is {}, by {by} since {day}.", row.role),
            }
        }
    };
    format!("You are {who}{id}on {}, in channel {}{thread}. {may}", place.platform, place.channel)
}

/// The answer to `/od-start` of a name that an agent elsewhere has.
pub(in crate::chat) fn taken_elsewhere(name: &str) -> String {
    format!("{name} is the name of another; take another name. {}", reaches_no_further())
}

/// What is told behind a name that was not found by somebody who is here by the channel's role.
pub(in crate::chat) fn reaches_no_further() -> String {
    "This channel's role reaches the agents that listen here and the jobs that report here".into()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::Access;

    #[test]
    fn people_are_told_who_they_are_and_why_they_may() {
        let place = |platform: &str, thread: Option<&str>| Conversation {
            platform: platform.into(),
            channel: "C1".into(),
            thread: thread.map(Into::into),
        };
        let token = Standing { role: Role::Admin, source: Source::Token };
        let named = Standing { role: Role::Admin, source: Source::Configuration };
        let row = |principal: Principal, role| Standing {
            role,
            source: Source::Row(Access {
                principal,
                role,
                name: String::new(),
                by: "ada".into(),
                pairing: None,
                created: Timestamp::UNIX_EPOCH,
                token: None,
            }),
        };
        let own = row(Principal::user("slack", "U1"), Role::User);
        let all = row(Principal::channel("slack", "C1"), Role::Viewer);
        let told = [
            whoami("ada", "ada", &place("console", None), &token),
            whoami(NAMELESS, NAMELESS, &place("console", Some("t")), &token),
            whoami("ada", "U1", &place("slack", None), &named),
            whoami("ada", "U1", &place("slack", None), &own),
            whoami("ada", "U1", &place("slack", None), &all),
        ];
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_refusal_says_who_can_change_it() {
        let who = Principal::user("slack", "U1");
        let told = |role, needed, admins: &[&str]| {
            let admins: Vec<String> = admins.iter().map(|it| (*it).to_owned()).collect();
            not_allowed(role, "/od-run", needed, &who, &admins)
        };
        let told = [
            told(Role::Viewer, Role::User, &[]),
            told(Role::User, Role::Operator, &["slack:UA"]),
            told(Role::Operator, Role::Admin, &["slack:UA", "slack:UB", "slack:UC", "slack:UD"]),
            pairing("slack", &who, "BCDFGHJK"),
        ];
        insta::assert_snapshot!(told.join("\n-----\n"));
    }
}
