//! What comes through the socket: frames, and what somebody said in them.
//!
//! Pure: text in, [`Frame`] out. Read leniently, for Slack adds fields and kinds at will; a
//! frame that means nothing to us is acknowledged and forgotten.
//!
//! **Keys.** Slack redelivers under new envelope ids, and a mention in a channel comes twice, as
//! `app_mention` and as `message`, with two event ids. What is the same each time is the message
//! itself, `(team, channel, ts)`; a slash command's `trigger_id`; a press's `action_ts` on its
//! message. So those are the keys.

use serde_json::Value;

use super::marks::{mentions, plain_text, without_mention};
use crate::{
    access::quote::{LONGEST, MOST, Quoted},
    chat::Via,
};

/// Who we are to Slack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Me {
    /// The workspace's id.
    pub(super) team: String,
    /// The bot's user id: what a mention of us holds.
    pub(super) user: String,
    /// The bot's own id: what its messages carry.
    pub(super) bot: String,
}

/// A frame of the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The connection stands.
    Hello,
    /// Slack is about to close it, and why.
    Disconnect(String),
    /// Something to acknowledge, and what was said in it, if anything.
    Envelope {
        /// What to acknowledge it by.
        id: String,
        /// What was said to us, if anything.
        heard: Option<Box<Heard>>,
    },
    /// Nothing that we know.
    Other,
}

/// Something that somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// The same for each redelivery.
    pub(super) key: String,
    /// Another name of the same message, by which it may come under another key.
    pub(super) alias: Option<String>,
    /// The channel's id.
    pub(super) channel: String,
    /// The thread's first message, where it was said in a thread.
    pub(super) thread: Option<String>,
    /// The person's id.
    pub(super) user: String,
    /// The person's name, where Slack said it.
    pub(super) name: Option<String>,
    /// What was said, as a person typed it.
    pub(super) text: String,
    /// How.
    pub(super) via: Via,
    /// By what the answer finds the line, and the address that Slack gave for that.
    pub(super) answer: Option<(String, String)>,
    /// Files that came with it.
    pub(super) files: Vec<Shared>,
    /// Messages that were forwarded with it.
    pub(super) forwarded: Vec<Quoted>,
    /// The message's own name, where it is one.
    pub(super) at: Option<String>,
    /// Whether Slack left open if files came with it, as it does when it tells of a mention.
    pub(super) files_untold: bool,
}

impl Heard {
    /// Whether it is a message, which Slack brings again; commands and presses it brings once.
    pub(super) fn is_message(&self) -> bool {
        self.at.is_some()
    }
}

/// A file that somebody shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shared {
    /// Slack's id of it.
    pub(super) id: String,
    /// What the person called it.
    pub(super) name: String,
    /// Its size in bytes, as far as Slack says.
    pub(super) size: u64,
    /// What it is, as far as Slack says.
    pub(super) mimetype: String,
    /// Where it is; nothing where that has to be asked.
    pub(super) url: String,
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn owned(value: &Value, path: &str) -> Option<String> {
    Some(text(value, path)).filter(|it| !it.is_empty()).map(str::to_owned)
}

/// Reads a frame.
pub(super) fn read(frame: &str, me: &Me) -> Frame {
    let Ok(frame) = serde_json::from_str::<Value>(frame) else { return Frame::Other };
    match text(&frame, "/type") {
        "hello" => Frame::Hello,
        "disconnect" => Frame::Disconnect(text(&frame, "/reason").to_owned()),
        kind => {
            let Some(id) = owned(&frame, "/envelope_id") else { return Frame::Other };
            let payload = frame.get("payload").unwrap_or(&Value::Null);
            let heard = match kind {
                "events_api" => event(payload, me),
                "slash_commands" => command(payload),
                "interactive" => press(payload),
                _ => None,
            };
            Frame::Envelope { id, heard: heard.map(Box::new) }
        }
    }
}

/// A message, or a mention.
fn event(payload: &Value, me: &Me) -> Option<Heard> {
    let event = payload.get("event")?;
    // Whatever is not said anew by a person: edits, deletions, joins, our own words.
    let plain = matches!(text(event, "/subtype"), "" | "file_share" | "thread_broadcast");
    let said = matches!(text(event, "/type"), "message" | "app_mention");
    let user = owned(event, "/user")?;
    if !plain || !said || event.get("bot_id").is_some_and(|id| !id.is_null()) || user == me.user {
        return None;
    }
    let team = owned(payload, "/team_id").or_else(|| owned(event, "/team")).unwrap_or_default();
    let (channel, ts) = (owned(event, "/channel")?, owned(event, "/ts")?);
    let written = text(event, "/text");
    let direct = text(event, "/channel_type") == "im"
        || (text(event, "/channel_type").is_empty() && channel.starts_with('D'));
    // The same for both events of a mention, whichever comes first.
    let addressed = direct || mentions(written, &me.user) || text(event, "/type") == "app_mention";
    let files = files(event);
    let text_said = plain_text(&without_mention(written, &me.user));
    if text_said.is_empty() && files.is_empty() && !addressed {
        return None;
    }
    Some(Heard {
        key: format!("slack/{team}/{channel}/{ts}"),
        alias: owned(event, "/client_msg_id").map(|id| format!("{channel}/{id}")),
        // A thread is named by its first message; that message itself stands outside.
        thread: owned(event, "/thread_ts").filter(|thread| *thread != ts),
        channel,
        user,
        name: None,
        text: text_said,
        via: if addressed { Via::Addressed } else { Via::Overheard },
        answer: None,
        files,
        forwarded: forwarded(event),
        files_untold: text(event, "/type") == "app_mention" && event.get("files").is_none(),
        at: Some(ts),
    })
}

/// Messages that somebody forwarded with their own. Nobody vouches for who wrote them: a program
/// that speaks in a person's name can make up all that stands there.
fn forwarded(event: &Value) -> Vec<Quoted> {
    let attachments = event.get("attachments").and_then(Value::as_array).into_iter().flatten();
    let shared = attachments.filter(|it| it.get("is_share").and_then(Value::as_bool) == Some(true));
    let quoted = shared.filter_map(|it| {
        let text = ["/text", "/fallback"].iter().find_map(|path| owned(it, path))?;
        let author = ["/author_name", "/author_subname"].iter().find_map(|path| owned(it, path));
        Some(Quoted {
            author: author.unwrap_or_else(|| "somebody".to_owned()),
            user: String::new(),
            trusted: false,
            text: plain_text(&text).chars().take(LONGEST + 1).collect(),
        })
    });
    quoted.take(MOST).collect()
}

/// The files of a message.
pub(super) fn files(message: &Value) -> Vec<Shared> {
    let files = message.get("files").and_then(Value::as_array);
    files.map_or_else(Vec::new, |files| files.iter().filter_map(shared).collect())
}

fn shared(file: &Value) -> Option<Shared> {
    // Deleted, or hidden by a limit of the workspace.
    if matches!(text(file, "/mode"), "tombstone" | "hidden_by_limit") {
        return None;
    }
    let id = owned(file, "/id")?;
    let url = owned(file, "/url_private_download").or_else(|| owned(file, "/url_private"));
    Some(Shared {
        name: owned(file, "/name").or_else(|| owned(file, "/title")).unwrap_or_else(|| id.clone()),
        size: file.get("size").and_then(Value::as_u64).unwrap_or_default(),
        mimetype: text(file, "/mimetype").to_owned(),
        url: url.unwrap_or_default(),
        id,
    })
}

/// A slash command. It has no thread: Slack refuses them there.
fn command(payload: &Value) -> Option<Heard> {
    let trigger = owned(payload, "/trigger_id")?;
    let (verb, rest) = (text(payload, "/command"), plain_text(text(payload, "/text")));
    Some(Heard {
        key: format!("slack/command/{trigger}"),
        alias: None,
        channel: owned(payload, "/channel_id")?,
        thread: None,
        user: owned(payload, "/user_id")?,
        name: owned(payload, "/user_name"),
        text: if rest.is_empty() { verb.to_owned() } else { format!("{verb} {rest}") },
        via: Via::Addressed,
        answer: owned(payload, "/response_url").map(|url| (trigger, url)),
        files: Vec::new(),
        forwarded: Vec::new(),
        files_untold: false,
        at: None,
    })
}

/// A button that somebody pressed: its value is the line that it says.
fn press(payload: &Value) -> Option<Heard> {
    if text(payload, "/type") != "block_actions" {
        return None;
    }
    let action = payload.pointer("/actions/0")?;
    let channel =
        owned(payload, "/channel/id").or_else(|| owned(payload, "/container/channel_id"))?;
    let ts = owned(payload, "/message/ts").or_else(|| owned(payload, "/container/message_ts"))?;
    let thread = owned(payload, "/message/thread_ts")
        .or_else(|| owned(payload, "/container/thread_ts"))
        .filter(|thread| *thread != ts);
    let (team, user) = (text(payload, "/team/id"), owned(payload, "/user/id")?);
    let at = owned(action, "/action_ts").or_else(|| owned(payload, "/trigger_id"))?;
    let name = ["/user/username", "/user/name"].iter().find_map(|path| owned(payload, path));
    Some(Heard {
        key: format!("slack/press/{team}/{channel}/{ts}/{user}/{at}"),
        alias: None,
        channel,
        thread,
        user,
        name,
        text: owned(action, "/value")?,
        via: Via::Pressed,
        answer: owned(payload, "/trigger_id").zip(owned(payload, "/response_url")),
        files: Vec::new(),
        forwarded: Vec::new(),
        files_untold: false,
        at: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn me() -> Me {
        Me { team: "T1".into(), user: "UBOT".into(), bot: "BBOT".into() }
    }

    fn heard_event(event: Value) -> Option<Heard> {
        let payload = json!({"team_id": "T1", "event_id": "Ev1", "event": event});
        let frame = json!({"type": "events_api", "envelope_id": "e1", "payload": payload});
        match read(&frame.to_string(), &me()) {
            Frame::Envelope { heard, .. } => heard.map(|heard| *heard),
            other => panic!("{other:?}"),
        }
    }

    fn message(text: &str) -> Value {
        json!({"type": "message", "channel": "C1", "channel_type": "channel", "user": "U1",
               "ts": "100.1", "client_msg_id": "m1", "text": text})
    }

    fn with(mut event: Value, more: Value) -> Value {
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        event
    }

    #[test]
    fn a_mention_is_the_same_line_in_both_of_its_events() {
        let said = message("<@UBOT> od-list");
        let mention = with(said.clone(), json!({"type": "app_mention", "channel_type": null}));
        let (one, two) = (heard_event(said).unwrap(), heard_event(mention).unwrap());
        assert!(two.files_untold, "it need not say which files it has");
        assert_eq!(one, Heard { files_untold: false, ..two });
        assert_eq!(one.text, "od-list");
        assert_eq!((one.key.as_str(), one.via), ("slack/T1/C1/100.1", Via::Addressed));
    }

    #[test]
    fn only_what_a_person_says_anew_is_heard() {
        let said = message("hello");
        assert_eq!(heard_event(said.clone()).unwrap().via, Via::Overheard);
        for (more, heard) in [
            (json!({"subtype": "message_changed"}), false),
            (json!({"subtype": "message_deleted"}), false),
            (json!({"subtype": "bot_message"}), false),
            (json!({"subtype": "channel_join"}), false),
            (json!({"bot_id": "BBOT"}), false),
            (json!({"user": "UBOT"}), false),
            (json!({"user": null}), false),
            (json!({"type": "reaction_added"}), false),
            (json!({"text": ""}), false),
            (json!({"bot_id": null}), true),
            (json!({"subtype": "thread_broadcast", "thread_ts": "99.0"}), true),
            (json!({"subtype": "file_share", "text": "", "files": [{"id": "F1"}]}), true),
        ] {
            assert_eq!(heard_event(with(said.clone(), more.clone())).is_some(), heard, "{more}");
        }
    }

    #[test]
    fn a_thread_is_named_by_its_first_message_which_stands_outside() {
        let said = message("hello");
        let thread =
            |ts: &str| heard_event(with(said.clone(), json!({"thread_ts": ts}))).unwrap().thread;
        assert_eq!(thread("99.0").as_deref(), Some("99.0"));
        assert_eq!(thread("100.1"), None);
    }

    #[test]
    fn what_is_said_to_the_bot_alone_is_said_to_us() {
        for more in [json!({"channel_type": "im"}), json!({"channel_type": null, "channel": "D1"})]
        {
            assert_eq!(heard_event(with(message("hello"), more)).unwrap().via, Via::Addressed);
        }
    }

    #[test]
    fn a_mention_goes_and_those_of_others_stay() {
        for (written, said) in [
            ("<@UBOT> run it", "run it"),
            ("  <@UBOT|open-dispatch>: run it", "run it"),
            ("<@UBOT>", ""),
            ("hey <@UBOT> run it", "hey run it"),
            ("<@U2|anna> says <@UBOT> is &lt;fine&gt;", "@anna says is <fine>"),
        ] {
            assert_eq!(heard_event(message(written)).unwrap().text, said, "{written}");
        }
    }

    fn frame(kind: &str, payload: Value) -> Option<Heard> {
        let frame = json!({"type": kind, "envelope_id": "e1", "payload": payload});
        match read(&frame.to_string(), &me()) {
            Frame::Envelope { heard, .. } => heard.map(|heard| *heard),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_forwarded_is_a_quote_that_nobody_vouches_for() {
        let forwarded = json!({ "attachments": [
            { "is_share": true, "author_id": "U2", "author_name": "bob", "text": "a &lt;b&gt;" },
            { "is_share": true },
            { "title": "a page", "text": "what stands there" },
        ]});
        let heard = heard_event(with(message("look"), forwarded)).unwrap();
        let (author, user, text) = ("bob".to_owned(), String::new(), "a <b>".to_owned());
        assert_eq!(heard.forwarded, [Quoted { author, user, trusted: false, text }]);
        assert_eq!(heard.text, "look");
    }

    #[test]
    fn a_slash_command_is_a_line() {
        let mut payload = json!({"command": "/od-run", "text": "echo it's &lt;1&gt;", "team_id": "T1",
            "channel_id": "C1", "user_id": "U1", "user_name": "anna", "trigger_id": "1.2.a",
            "response_url": "https://hooks.slack.com/commands/1"});
        let heard = frame("slash_commands", payload.clone()).unwrap();
        assert_eq!(heard.text, "/od-run echo it's <1>");
        assert_eq!((heard.key.as_str(), heard.thread), ("slack/command/1.2.a", None));
        assert_eq!(heard.answer.unwrap().0, "1.2.a");
        payload["text"] = json!("");
        assert_eq!(frame("slash_commands", payload).unwrap().text, "/od-run");
    }

    #[test]
    fn a_button_says_its_line_in_the_name_of_who_pressed_it_where_it_stands() {
        let press = |user: &str, at: &str, thread: &str| {
            let payload = json!({"type": "block_actions", "team": {"id": "T1"},
                "user": {"id": user, "username": "anna"}, "channel": {"id": "C1"},
                "message": {"ts": "5.0", "thread_ts": thread}, "trigger_id": "9.9.b",
                "actions": [{"type": "button", "action_id": "od-0", "value": "/od-stop bot",
                             "action_ts": at}]});
            frame("interactive", payload).unwrap()
        };
        let first = press("U1", "7.0", "4.0");
        assert_eq!((first.text.as_str(), first.via), ("/od-stop bot", Via::Pressed));
        assert_eq!(first.thread.as_deref(), Some("4.0"));
        assert_eq!(press("U1", "7.0", "5.0").thread, None, "the first message of its own thread");
        assert_ne!(first.key, press("U2", "7.0", "4.0").key);
        assert_ne!(first.key, press("U1", "7.1", "4.0").key);
        assert_eq!(frame("interactive", json!({"type": "view_closed"})), None);
    }

    #[test]
    fn what_is_unknown_is_acknowledged_and_what_is_no_envelope_is_left() {
        let unknown = json!({"type": "something_new", "envelope_id": "e1", "payload": {}});
        let known = Frame::Envelope { id: "e1".into(), heard: None };
        assert_eq!(read(&unknown.to_string(), &me()), known);
        assert_eq!(read("{\"type\":\"hello\"}", &me()), Frame::Hello);
        let gone = Frame::Disconnect("link_disabled".into());
        assert_eq!(read("{\"type\":\"disconnect\",\"reason\":\"link_disabled\"}", &me()), gone);
        assert_eq!(read("no JSON", &me()), Frame::Other);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[<>@!#|&;a-zµ^:/ ]{0,40}") {
            heard_event(message(&text));
        }
    }
}
