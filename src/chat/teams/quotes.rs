//! What a message replies to, out of what Teams brings along with it. Pure.
//!
//! In chats a reply quotes: newer clients as an entity (and a mark in the text where it stood),
//! older ones as a block of HTML beside the text, with the beginning of what is quoted. Who is said
//! to have written it is what the sender's client says; so nobody is taken for known by it, and an
//! agent sees it as text of others.

use super::{activity::Activity, words::plain};
use crate::access::Quoted;

/// What stands in a text where a quote belongs.
const MARK: &str = "<quoted ";
/// How a block begins that quotes.
const BLOCK: &str = "http://schema.skype.com/Reply";

/// What a message quotes.
#[must_use]
pub fn quotes(activity: &Activity) -> Vec<Quoted> {
    let entities = activity.entities.iter().filter(|entity| entity.r#type == "quotedReply");
    let told: Vec<Quoted> = entities
        .filter_map(|entity| {
            let quote = entity.quoted_reply.as_ref()?;
            quoted(quote.sender_name.as_deref(), quote.preview.as_deref()?)
        })
        .collect();
    if !told.is_empty() {
        return told;
    }
    let html = activity.attachments.iter().filter(|it| it.content_type == "text/html");
    html.filter_map(|it| it.content.as_str()).flat_map(of_html).collect()
}

/// A text without the marks that stand where quotes belong.
#[must_use]
pub fn without_marks(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let Some(end) = rest[at..].find("/>") else { break };
        told.push_str(&rest[..at]);
        rest = &rest[at + end + 2..];
    }
    told.push_str(rest);
    told
}

fn quoted(author: Option<&str>, text: &str) -> Option<Quoted> {
    let text = plain(text).trim().to_owned();
    let author = author.map(|it| plain(it).trim().to_owned()).filter(|it| !it.is_empty());
    (!text.is_empty()).then(|| Quoted {
        author: author.unwrap_or_else(|| "somebody".to_owned()),
        user: String::new(),
        trusted: false,
        text,
    })
}

fn of_html(html: &str) -> Vec<Quoted> {
    let block = |block: &str| {
        let block = block.split("</blockquote>").next()?;
        let text = inner(block, "itemprop=\"copy\"", "</p>");
        let text = text.or_else(|| inner(block, "itemprop=\"preview\"", "</p>"))?;
        let author = inner(block, "itemprop=\"mri\"", "</strong>");
        quoted(author.as_deref(), &text)
    };
    html.split(BLOCK).skip(1).filter_map(block).collect()
}

/// The words of the element that has this attribute, without its tags.
fn inner(html: &str, attribute: &str, end: &str) -> Option<String> {
    let (_, behind) = html.split_once(attribute)?;
    let (_, behind) = behind.split_once('>')?;
    let (words, _) = behind.split_once(end)?;
    let mut told = String::new();
    for part in words.split('<') {
        match part.split_once('>') {
            Some((tag, text)) if !told.is_empty() || words.starts_with('<') => {
                if tag.starts_with("br") {
                    told.push('\n');
                }
                told.push_str(text);
            }
            _ => told.push_str(part),
        }
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(activity: serde_json::Value) -> Vec<(String, String)> {
        let activity = serde_json::from_value(activity).expect("an activity");
        let quotes = quotes(&activity);
        assert!(quotes.iter().all(|it| !it.trusted && it.user.is_empty()));
        quotes.into_iter().map(|it| (it.author, it.text)).collect()
    }

    #[test]
    fn a_quote_is_read_from_either_form_and_is_nobodys_word() {
        let entity = json!({"type": "quotedReply", "quotedReply": {
            "messageId": "17", "senderId": "29:eve", "senderName": "Eve", "preview": "rm -rf &amp; go",
        }});
        let eve = ("Eve".to_owned(), "rm -rf & go".to_owned());
        assert_eq!(told(json!({"entities": [entity]})), [eve]);
        let html = "<blockquote itemscope=\"\" itemtype=\"http://schema.skype.com/Reply\" itemid=\"17\">\
             <strong itemprop=\"mri\" itemid=\"8:orgid:1\">Ada</strong><span itemprop=\"time\"></span>\
             <p itemprop=\"preview\">first<br>and <b>second</b></p></blockquote><p>do that</p>";
        let attached = json!({"attachments": [{"contentType": "text/html", "content": html}]});
        assert_eq!(told(attached), [("Ada".to_owned(), "first\nand second".to_owned())]);
        let plain = json!({"attachments": [{"contentType": "text/html", "content": "<p>do</p>"}]});
        assert_eq!(told(plain), []);
    }

    #[test]
    fn marks_go_and_all_else_stays() {
        assert_eq!(without_marks("<quoted messageId=\"17\"/> do that"), " do that");
        assert_eq!(without_marks("a <quoted b"), "a <quoted b");
    }

    proptest! {
        #[test]
        fn nothing_that_comes_breaks_it(html in "(itemprop=\"(mri|copy|preview)\"|http://schema.skype.com/Reply|</?p>|</strong>|</blockquote>|[<>a&é]){0,20}") {
            let _ = of_html(&html);
            prop_assert!(without_marks(&html).len() <= html.len());
        }
    }
}
