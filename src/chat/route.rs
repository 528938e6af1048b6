//! Who a plain message is for. Pure.
//!
//! An agent listens where its channels say: in a channel, or in one thread of it. A message in a
//! thread is for whoever has that thread; if nobody has, for whoever has the channel. Where
//! several listen, the first word decides: `api-bot: do it`, `@api-bot do it`, `api-bot do it`.
//! Where it does not, nobody gets the message, and the answer says who there is.

use crate::{resource::Channel, store::Conversation};

/// What routing knows of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub channels: Vec<Channel>,
    /// Whether it was stopped.
    pub suspended: bool,
}

/// Where a plain message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the agent of this name, with this text.
    To {
        /// The agent.
        name: String,
        /// The message without the name that it began with.
        text: String,
    },
    /// The agent that it is for was stopped.
    Suspended(String),
    /// A name, and nothing behind it.
    Empty(String),
    /// One of several agents, and the message does not say which; those that work come first.
    Which(Vec<String>),
    /// All of several agents were stopped.
    AllSuspended(Vec<String>),
    /// Nobody listens here.
    Nobody,
}

/// Decides. Agents that are being deleted are to be left out.
#[must_use]
pub fn route(place: &Conversation, text: &str, agents: &[Listener]) -> Route {
    let here = listening(place, agents);
    if here.is_empty() {
        return Route::Nobody;
    }
    let named = addressed(text, &here).filter(|(_, _, marked)| *marked || here.len() > 1);
    let (listener, text) = match (named, here.as_slice()) {
        (Some((listener, rest, _)), _) => (listener, rest),
        (None, [only]) => (*only, text),
        (None, several) => {
            let works: Vec<&&Listener> =
                several.iter().filter(|listener| !listener.suspended).collect();
            match works.as_slice() {
                [only] => (**only, text),
                [] => return Route::AllSuspended(in_order(several)),
                _ => return Route::Which(in_order(several)),
            }
        }
    };
    let name = listener.name.clone();
    if listener.suspended {
        Route::Suspended(name)
    } else if text.trim().is_empty() {
        Route::Empty(name)
    } else {
        Route::To { name, text: text.to_owned() }
    }
}

/// Whether an agent with these channels listens in a conversation: to the thread itself, or to
/// the channel as a whole.
#[must_use]
pub fn listens(channels: &[Channel], place: &Conversation) -> bool {
    has(channels, place, place.thread.as_deref()) || has(channels, place, None)
}

fn has(channels: &[Channel], place: &Conversation, thread: Option<&str>) -> bool {
    channels.iter().any(|channel| {
        channel.platform() == place.platform
            && channel.place().channel == place.channel
            && channel.place().thread.as_deref() == thread
    })
}

fn listening<'a>(place: &Conversation, agents: &'a [Listener]) -> Vec<&'a Listener> {
    let with = |thread: Option<&str>| -> Vec<&'a Listener> {
        agents.iter().filter(|agent| has(&agent.channels, place, thread)).collect()
    };
    let in_thread = with(place.thread.as_deref());
    if in_thread.is_empty() { with(None) } else { in_thread }
}

fn in_order(agents: &[&Listener]) -> Vec<String> {
    let (stopped, working): (Vec<&Listener>, Vec<&Listener>) =
        agents.iter().copied().partition(|agent| agent.suspended);
    working.into_iter().chain(stopped).map(|agent| agent.name.clone()).collect()
}

/// The name that a text begins with as one that is meant, whosever it is: `@api-bot do it`,
/// `api-bot: do it`.
#[must_use]
pub fn called(text: &str) -> Option<String> {
    let front = text.trim_start();
    let at = front.strip_prefix('@');
    let (word, rest) = word(at.unwrap_or(front));
    let behind = rest.strip_prefix([':', ',']).unwrap_or(rest);
    let is_marked = at.is_some() || rest.starts_with(':');
    let is_whole = behind.is_empty() || behind.starts_with(char::is_whitespace);
    (is_marked && is_whole && !word.is_empty()).then(|| word.to_ascii_lowercase())
}

/// The word that a text begins with, as names are made, and what is behind it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
    text.split_at(end)
}

/// The agent that a text begins with, what is behind its name, and whether a sign (`@` or `:`)
/// says that it is meant as a name.
fn addressed<'a, 'b>(
    text: &'b str,
    agents: &[&'a Listener],
) -> Option<(&'a Listener, &'b str, bool)> {
    let front = text.trim_start();
    let at = front.strip_prefix('@');
    let front = at.unwrap_or(front);
    let (word, rest) = word(front);
    let agent = agents.iter().find(|agent| agent.name.eq_ignore_ascii_case(word))?;
    let colon = rest.strip_prefix([':', ',']);
    let behind = colon.unwrap_or(rest);
    if !behind.is_empty() && !behind.starts_with(char::is_whitespace) {
        return None;
    }
    let marked = at.is_some() || rest.starts_with(':');
    // One space, or the line's end, parts the name from the message.
    let mut message = behind.chars();
    message.next();
    Some((agent, message.as_str(), marked))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::Place;

    fn place(thread: Option<&str>) -> Conversation {
        Conversation {
            platform: "console".into(),
            channel: "main".into(),
            thread: thread.map(str::to_owned),
        }
    }

    fn agent(name: &str, channel: &str, thread: Option<&str>) -> Listener {
        let place = Place { channel: channel.into(), thread: thread.map(str::to_owned) };
        Listener { name: name.into(), channels: vec![Channel::Console(place)], suspended: false }
    }

    fn stopped(name: &str) -> Listener {
        Listener { suspended: true, ..agent(name, "main", None) }
    }

    fn to(name: &str, text: &str) -> Route {
        Route::To { name: name.into(), text: text.into() }
    }

    #[test]
    fn one_agent_takes_all_that_is_said_in_its_channel() {
        let agents = [agent("a", "main", None), agent("b", "other", None)];
        assert_eq!(route(&place(None), " don't\n", &agents), to("a", " don't\n"));
        assert_eq!(route(&place(Some("t")), "hi", &agents), to("a", "hi"));
        assert_eq!(route(&place(None), "a cat sat", &agents), to("a", "a cat sat"));
        assert_eq!(route(&place(None), "@A: go", &agents), to("a", "go"));
        assert_eq!(route(&place(None), "b: go", &agents), to("a", "b: go"));
        assert_eq!(route(&place(None), "a:", &agents), Route::Empty("a".into()));
        assert_eq!(route(&place(None), "hi", &agents[1..]), Route::Nobody);
    }

    #[test]
    fn a_thread_goes_before_its_channel() {
        let agents = [agent("a", "main", None), agent("b", "main", Some("t"))];
        assert_eq!(route(&place(Some("t")), "hi", &agents), to("b", "hi"));
        assert_eq!(route(&place(Some("u")), "hi", &agents), to("a", "hi"));
        assert_eq!(route(&place(None), "hi", &agents), to("a", "hi"));
        assert_eq!(route(&place(None), "hi", &agents[1..]), Route::Nobody);
        assert!(listens(&agents[0].channels, &place(Some("t"))));
        assert!(!listens(&agents[1].channels, &place(None)));
    }

    #[test]
    fn of_several_the_first_word_decides_and_doubt_is_told() {
        let agents = [stopped("api"), agent("api-bot", "main", None), agent("web", "main", None)];
        let here = place(None);
        assert_eq!(route(&here, "api-bot: do it", &agents), to("api-bot", "do it"));
        assert_eq!(route(&here, "@Web\ndo it", &agents), to("web", "do it"));
        assert_eq!(route(&here, "Web, do it", &agents), to("web", "do it"));
        assert_eq!(route(&here, "web  do it", &agents), to("web", " do it"));
        assert_eq!(route(&here, "api: do it", &agents), Route::Suspended("api".into()));
        let which = Route::Which(["api-bot", "web", "api"].map(str::to_owned).to_vec());
        assert_eq!(route(&here, "do it", &agents), which);
        assert_eq!(route(&here, "webs do it", &agents), which);
        assert_eq!(route(&here, "web/src is odd", &agents), which);
        assert_eq!(route(&here, "do it", &agents[..2]), to("api-bot", "do it"));
        assert_eq!(route(&here, "do it", &agents[..1]), Route::Suspended("api".into()));
        let stopped = [stopped("a"), stopped("b")];
        let all = Route::AllSuspended(["a", "b"].map(str::to_owned).to_vec());
        assert_eq!(route(&here, "do it", &stopped), all);
        assert_eq!(route(&here, "b: do it", &stopped), Route::Suspended("b".into()));
    }

    #[test]
    fn a_name_is_meant_where_a_sign_says_so() {
        let told = |text: &str| called(text);
        for meant in ["cc1: hi", "@CC1 hi", " @cc1", "cc1:", "@cc1: hi", "@cc1, hi"] {
            assert_eq!(told(meant).as_deref(), Some("cc1"), "{meant}");
        }
        for not in ["cc1 hi", "cc1, hi", "http://x", "@a/b c", ": hi", "@", "a.b: c", "é: c"] {
            assert_eq!(told(not), None, "{not}");
        }
    }

    proptest! {
        #[test]
        fn no_word_of_a_message_is_lost(text in "(@?(web|api)[:, ]?)?[\\s\\S]{0,20}", n in 1..3_usize) {
            let agents = [agent("web", "main", None), agent("api", "main", None)];
            if let Route::To { text: sent, .. } = route(&place(None), &text, &agents[..n]) {
                prop_assert!(text.ends_with(&sent));
                let front = text[..text.len() - sent.len()].trim();
                prop_assert!(
                    front.trim_start_matches('@').trim_end_matches([':', ',']).len() <= 3,
                    "{front:?} was taken away"
                );
            }
        }
    }
}
