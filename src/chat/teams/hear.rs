//! What an activity means to us. Pure.
//!
//! A message is a line. A pressed button is a line, too: as an invoke `adaptiveCard/action`, which
//! wants its answer in the response, or, from clients that know no `Action.Execute`, as a message
//! with a value. An offered file is taken or declined by an invoke. When somebody installs the app for themselves, they are told what it can do. All
//! else is heard and let go.

use url::Url;

use super::{
    NAME,
    activity::Activity,
    consent::{Consent, consent},
    quotes::quotes,
    words,
};
use crate::{
    chat::{Incoming, Via},
    store::Conversation,
};

/// The member of a button's data that holds its line.
pub const LINE: &str = "openDispatchLine";
/// What a file of the sender's drive is attached as.
const DOWNLOAD: &str = "application/vnd.microsoft.teams.file.download.info";

/// What an activity means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A line, and the files that came with it.
    Line(Box<Incoming>, Vec<FileAt>),
    /// A button of ours, whose answer stands in the response.
    Press(Box<Incoming>),
    /// What somebody says of a file that we offered, and what they would have to be allowed to say
    /// for it: a line that reads.
    Consent(Box<Consent>, Box<Incoming>),
    /// An invoke that is none of ours.
    Unknown,
    /// Nothing for us.
    Nothing,
}

/// A file that came with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAt {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: Url,
    /// What opens it.
    pub opens: Opens,
}

/// What opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// Its address: a file of a drive.
    Address,
    /// Our access token: a picture that stands in the message.
    Token,
    /// Nothing of ours: it is called a picture of the message and lies elsewhere.
    Nothing,
}

/// What an activity means; it was judged before.
#[must_use]
pub fn hear(activity: &Activity) -> Heard {
    let Some(id) = activity.id.as_deref().filter(|id| !id.is_empty()) else {
        return match activity.r#type.as_str() {
            "invoke" => Heard::Unknown,
            _ => Heard::Nothing,
        };
    };
    match activity.r#type.as_str() {
        "message" => message(activity, id),
        "invoke" if activity.name.as_deref() == Some("adaptiveCard/action") => {
            match activity.value["action"]["data"][LINE].as_str() {
                Some(line) => Heard::Press(Box::new(incoming(activity, id, line, Via::Pressed))),
                None => Heard::Unknown,
            }
        }
        "invoke" if activity.name.as_deref() == Some("fileConsent/invoke") => {
            let reads = || Box::new(reads(activity));
            consent(activity)
                .map_or(Heard::Unknown, |consent| Heard::Consent(Box::new(consent), reads()))
        }
        "invoke" => Heard::Unknown,
        "installationUpdate"
            if activity.is_personal()
                && matches!(activity.action.as_deref(), Some("add" | "add-upgrade")) =>
        {
            let line = Incoming { handle: None, ..incoming(activity, id, HELP, Via::Addressed) };
            Heard::Line(Box::new(line), Vec::new())
        }
        _ => Heard::Nothing,
    }
}

/// What somebody means who only calls us.
const HELP: &str = "/od-help";

/// A line that whoever may read may say.
const READS: &str = "/od-list";

/// The least that whoever sent an activity would have to be allowed to say there.
#[must_use]
pub fn reads(activity: &Activity) -> Incoming {
    incoming(activity, activity.id.as_deref().unwrap_or_default(), READS, Via::Pressed)
}

fn message(activity: &Activity, id: &str) -> Heard {
    if let Some(line) = activity.value[LINE].as_str() {
        return Heard::Line(Box::new(incoming(activity, id, line, Via::Pressed)), Vec::new());
    }
    let (text, to_us) = words::said(activity);
    let files = files(activity);
    let via = if to_us || activity.is_personal() { Via::Addressed } else { Via::Overheard };
    let context = quotes(activity);
    let text = match (text.is_empty() && files.is_empty(), via) {
        (true, Via::Addressed) => HELP.to_owned(),
        (true, _) => return Heard::Nothing,
        _ => text,
    };
    let line = Incoming { context, ..incoming(activity, id, &text, via) };
    Heard::Line(Box::new(line), files)
}

fn incoming(activity: &Activity, id: &str, text: &str, via: Via) -> Incoming {
    let (channel, thread) = activity.channel_and_thread();
    let from = &activity.from;
    let user = from.aad_object_id.clone().filter(|id| !id.is_empty());
    let user = user.unwrap_or_else(|| from.id.clone());
    Incoming {
        key: format!("{NAME}/{}/{id}", activity.conversation.id),
        alias: None,
        conversation: Conversation {
            platform: NAME.to_owned(),
            channel: channel.to_owned(),
            thread: thread.map(str::to_owned),
        },
        author: from.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone()),
        user,
        text: text.to_owned(),
        attachments: Vec::new(),
        context: Vec::new(),
        via,
        // What is not a message cannot be replied to.
        handle: (via != Via::Pressed).then(|| id.to_owned()),
    }
}

fn files(activity: &Activity) -> Vec<FileAt> {
    let file = |(n, attached): (usize, &super::activity::Attached)| {
        let parse = |url: Option<&str>| url.and_then(|url| Url::parse(url).ok());
        if attached.content_type == DOWNLOAD {
            let url = parse(attached.content["downloadUrl"].as_str())?;
            let name = attached.name.clone().filter(|name| !name.is_empty())?;
            return Some(FileAt { name, url, opens: Opens::Address });
        }
        let kind = attached.content_type.strip_prefix("image/")?;
        let url = parse(attached.content_url.as_deref())?;
        let ending = if kind.bytes().all(|it| it.is_ascii_alphanumeric()) { kind } else { "png" };
        let name = attached.name.clone().filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("image-{}.{ending}", n + 1));
        let is_there = is_attachment(&url, &activity.service_url);
        let opens = if is_there { Opens::Token } else { Opens::Nothing };
        Some(FileAt { name, url, opens })
    };
    activity.attachments.iter().enumerate().filter_map(file).collect()
}

/// Whether the connector keeps an attachment there: below the host that the activity itself names,
/// and at no other of its paths. Our token opens whatever the bot may read, so whoever chooses an
/// address must not choose that.
fn is_attachment(url: &Url, service: &str) -> bool {
    let is_same = Url::parse(service).is_ok_and(|service| service.origin() == url.origin());
    // What is escaped may be a way out of the path.
    if !is_same || !url.username().is_empty() || url.path().contains(['%', '\\', ';']) {
        return false;
    }
    let mut path = url.path().split('/').skip_while(|part| *part != "v3").skip(1);
    path.next() == Some("attachments") && path.next().is_some_and(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(change: &Value) -> Heard {
        let mut activity = json!({
            "type": "message",
            "id": "1700",
            "text": "od-list",
            "from": {"id": "29:ada", "name": "Ada", "aadObjectId": "ada-in-tenant"},
            "recipient": {"id": "28:us"},
            "conversation": {"id": "a:1", "conversationType": "personal"},
            "serviceUrl": "https://smba.trafficmanager.net/amer/",
        });
        for (name, value) in change.as_object().unwrap() {
            activity[name] = value.clone();
        }
        hear(&serde_json::from_value(activity).unwrap())
    }

    fn line(heard: Heard) -> Incoming {
        match heard {
            Heard::Line(line, _) | Heard::Press(line) => *line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_to_us_is_a_line_and_one_among_people_is_overheard() {
        let personal = line(said(&json!({})));
        assert_eq!(personal.key, "teams/a:1/1700");
        assert_eq!((personal.via, personal.user.as_str()), (Via::Addressed, "ada-in-tenant"));
        let thread = json!({"id": "19:x@thread.tacv2;messageid=99", "conversationType": "channel"});
        let overheard = line(said(&json!({"conversation": thread})));
        assert_eq!(overheard.via, Via::Overheard);
        assert_eq!(overheard.conversation.channel, "19:x@thread.tacv2");
        assert_eq!(overheard.conversation.thread.as_deref(), Some("99"));
        assert_eq!(overheard.key, "teams/19:x@thread.tacv2;messageid=99/1700");
        let mention =
            json!([{"type": "mention", "text": "<at>D</at>", "mentioned": {"id": "28:us"}}]);
        let to_us =
            json!({"conversation": thread, "text": "<at>D</at> od-list", "entities": mention});
        let to_us = line(said(&to_us));
        assert_eq!((to_us.via, to_us.text.as_str()), (Via::Addressed, "od-list"));
    }

    #[test]
    fn what_a_message_replies_to_comes_with_it() {
        let quote = json!([{"type": "quotedReply",
            "quotedReply": {"messageId": "9", "senderName": "Eve", "preview": "it fails"}}]);
        let said =
            line(said(&json!({"text": "<quoted messageId=\"9\"/> why?", "entities": quote})));
        assert_eq!(said.text, "why?");
        assert_eq!((said.context.len(), said.context[0].text.as_str()), (1, "it fails"));
    }

    #[test]
    fn who_only_calls_us_is_helped_and_what_is_empty_is_let_go() {
        assert_eq!(line(said(&json!({"text": " "}))).text, HELP);
        let group = json!({"text": "", "conversation": {"id": "19:g@thread.v2"}});
        assert_eq!(said(&group), Heard::Nothing);
        assert_eq!(line(said(&json!({"type": "installationUpdate", "action": "add"}))).text, HELP);
        for kind in ["installationUpdate", "conversationUpdate", "typing", "messageUpdate", "new"] {
            assert_eq!(said(&json!({"type": kind})), Heard::Nothing, "{kind}");
        }
    }

    #[test]
    fn a_button_says_its_line_however_the_client_sends_it() {
        let data = json!({LINE: "/od-list"});
        let execute = json!({"type": "invoke", "name": "adaptiveCard/action",
            "value": {"action": {"type": "Action.Execute", "verb": "od", "data": data}}});
        let Heard::Press(press) = said(&execute) else { panic!() };
        assert_eq!((press.text.as_str(), press.via), ("/od-list", Via::Pressed));
        assert_eq!(press.handle, None);
        let submit = line(said(&json!({"text": null, "value": data})));
        assert_eq!((submit.text.as_str(), submit.via), ("/od-list", Via::Pressed));
        assert_eq!(said(&json!({"type": "invoke", "name": "task/fetch"})), Heard::Unknown);
        assert_eq!(said(&json!({"type": "invoke", "id": null})), Heard::Unknown);
    }

    #[test]
    fn files_of_a_drive_and_pictures_are_seen_and_the_text_again_is_not() {
        let attachments = json!([
            {"contentType": "text/html", "content": "<p>od-list</p>"},
            {"contentType": DOWNLOAD, "name": "a.txt",
             "content": {"downloadUrl": "https://contoso.sharepoint.com/a?token=x"}},
            {"contentType": "image/png",
             "contentUrl": "https://smba.trafficmanager.net/amer/v3/attachments/b/views/original"},
            {"contentType": "image/png",
             "contentUrl": "https://smba.trafficmanager.net/amer/v3/conversations/a/members"},
            {"contentType": DOWNLOAD, "name": "no-url"},
        ]);
        let Heard::Line(_, files) = said(&json!({"attachments": attachments})) else { panic!() };
        let told: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.opens)).collect();
        let wanted = [
            ("a.txt", Opens::Address),
            ("image-3.png", Opens::Token),
            ("image-4.png", Opens::Nothing),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn our_token_opens_attachments_of_the_messages_own_connector_and_nothing_else() {
        let is_attachment =
            |url: &str, service: &str| is_attachment(&Url::parse(url).expect("a URL"), service);
        let host = "https://smba.trafficmanager.net";
        let service = format!("{host}/amer/");
        for path in ["/amer/v3/attachments/a", "/emea/TENANT/v3/attachments/0-a/views/original"] {
            assert!(is_attachment(&format!("{host}{path}"), &service), "{path}");
        }
        for path in [
            "/amer/v3/conversations/a/members",
            "/amer/v3/conversations/a/v3/attachments/b",
            "/amer/v3/attachments/../conversations/a/members",
            "/amer/v3/attachments/..%2Fconversations",
            "/amer/v3/attachments/..;/conversations",
            "/amer/v3/attachments/",
            "/v3/attachments",
            "/",
        ] {
            assert!(!is_attachment(&format!("{host}{path}"), &service), "{path}");
        }
        for url in [
            "http://smba.trafficmanager.net/v3/attachments/a",
            "https://smba.trafficmanager.net:8443/v3/attachments/a",
            "https://me@smba.trafficmanager.net/v3/attachments/a",
            "https://europe.api.botframework.com/v3/attachments/a",
        ] {
            assert!(!is_attachment(url, &service), "{url}");
        }
    }
}
