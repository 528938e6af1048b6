//! Streams: how an answer grows in a chat with one person, and what becomes of it where Teams will
//! have none, or no more.

use open_dispatch::chat::platform::{Action, Content, Error, Nonce, Platform as _, Post, Tone};

use super::{teams::Message, *};

pub fn place(channel: &str) -> Conversation {
    Conversation { platform: "teams".to_owned(), channel: channel.to_owned(), thread: None }
}

/// A fake and a server that knows how it reaches the fake.
pub async fn known() -> (Fake, Server) {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    fake.say("Ada", DM, "/od-help").await;
    all_shown(&fake, &store).await;
    fake.state().messages.clear();
    (fake, server)
}

async fn post(server: &Server, channel: &str, index: usize) -> String {
    let nonce = Nonce { delivery: "by-hand".to_owned(), index };
    let post = Post { conversation: &place(channel), reply_to: None, text: "…", nonce: &nonce };
    server.calm();
    server.teams.post(&post).await.unwrap()
}

async fn grow(server: &Server, message: &str, text: &str, steady: usize) -> Result<(), Error> {
    server.calm();
    server.teams.grow(&place(DM), message, &Content::from(text), steady).await
}

async fn end(server: &Server, message: &str, text: &str) {
    server.calm();
    server.teams.edit(&place(DM), message, &Content::from(text), true).await.unwrap();
}

fn only(fake: &Fake) -> Message {
    let shown = fake.shown(DM);
    assert_eq!(shown.len(), 1, "{shown:#?}");
    shown[0].clone()
}

#[tokio::test]
async fn an_answer_grows_as_a_stream_and_ends_as_a_message_that_is_edited() {
    let (fake, server) = known().await;
    let id = post(&server, DM, 0).await;
    assert_eq!((only(&fake).stream, only(&fake).text.as_str()), (Stream::Live, "…"));
    grow(&server, &id, "bot is at it\n", 0).await.unwrap();
    assert_eq!(only(&fake).text, "bot is at it");
    grow(&server, &id, "```\na\n```", 6).await.unwrap();
    assert_eq!(only(&fake).text, "```\na\n");
    grow(&server, &id, "```\na\n```\n· working for 15 s", 6).await.unwrap();
    assert_eq!(only(&fake).text, "```\na\n", "a stream takes no word back");
    grow(&server, &id, "```\na\nb\n```", 8).await.unwrap();
    end(&server, &id, "```\na\nb\n```\nbot has answered").await;
    let message = only(&fake);
    assert_eq!((message.stream, format!("stream/{}", message.id)), (Stream::Over, id.clone()));
    assert_eq!(message.text, "```\na\nb\n```\nbot has answered");
    end(&server, &id, "and something else").await;
    assert_eq!(only(&fake).text, "and something else");
    assert_eq!(fake.state().edits, 1, "the last one alone was an edit");
    server.end().await;
}

#[tokio::test]
async fn a_question_with_buttons_ends_the_stream_and_the_answer_goes_on_by_edits() {
    let (fake, server) = known().await;
    let id = post(&server, DM, 0).await;
    grow(&server, &id, "so far", 6).await.unwrap();
    let action = Action { label: "No".to_owned(), line: "/od-x".to_owned(), tone: Tone::Bad };
    let asks = Content { text: "so far\nMay I?".to_owned(), actions: vec![action] };
    server.calm();
    server.teams.grow(&place(DM), &id, &asks, 6).await.unwrap();
    assert_eq!(only(&fake).buttons().len(), 1);
    grow(&server, &id, "so far, and more", 16).await.unwrap();
    assert_eq!((only(&fake).text.as_str(), only(&fake).buttons().len()), ("so far, and more", 0));
    server.end().await;
}

#[tokio::test]
async fn what_teams_ends_early_goes_on_by_edits() {
    let (fake, server) = known().await;
    let id = post(&server, DM, 0).await;
    grow(&server, &id, "one", 3).await.unwrap();
    fake.expire_streams();
    grow(&server, &id, "one two", 7).await.unwrap();
    assert_eq!(only(&fake).text, "one two");
    end(&server, &id, "one two three").await;
    assert_eq!(only(&fake).text, "one two three");
    server.end().await;
}

#[tokio::test]
async fn what_was_lost_on_its_way_into_a_stream_is_sent_again() {
    let (fake, server) = known().await;
    let id = post(&server, DM, 0).await;
    fake.state().post_faults.extend([Fault::RateLimit(1), Fault::Status(502), Fault::DoneBut504]);
    let wait = Error::RateLimited(Duration::from_secs(1));
    assert_eq!(grow(&server, &id, "one", 3).await, Err(wait));
    assert!(matches!(grow(&server, &id, "one", 3).await, Err(Error::Ambiguous(_))));
    assert!(matches!(grow(&server, &id, "one", 3).await, Err(Error::Ambiguous(_))));
    grow(&server, &id, "one", 3).await.unwrap();
    assert_eq!(only(&fake).text, "one");
    // The end, too, may have been taken without our knowing.
    fake.state().post_faults.push_back(Fault::DoneBut504);
    let last = Content::from("one and all");
    server.calm();
    let lost = server.teams.edit(&place(DM), &id, &last, true).await;
    assert!(matches!(lost, Err(Error::Ambiguous(_))));
    end(&server, &id, "one and all").await;
    assert_eq!((only(&fake).text.as_str(), only(&fake).stream), ("one and all", Stream::Over));
    server.end().await;
}

#[tokio::test]
async fn what_a_stream_did_not_take_does_not_count_as_shown() {
    let (fake, server) = known().await;
    let id = post(&server, DM, 0).await;
    fake.state().messages[0].sequence += 1;
    let again = Error::RateLimited(Duration::from_secs(1));
    assert_eq!(grow(&server, &id, "one", 3).await, Err(again));
    assert_eq!(only(&fake).text, "…");
    grow(&server, &id, "one", 3).await.unwrap();
    assert_eq!(only(&fake).text, "one");
    server.end().await;
}

#[tokio::test]
async fn a_chat_has_one_stream_and_the_next_answer_is_edited() {
    let (fake, server) = known().await;
    let (first, second) = (post(&server, DM, 0).await, post(&server, DM, 1).await);
    grow(&server, &second, "second", 6).await.unwrap();
    end(&server, &first, "first").await;
    let shown: Vec<_> = fake.shown(DM).into_iter().map(|it| (it.text, it.stream)).collect();
    let wanted = [("first".to_owned(), Stream::Over), ("second".to_owned(), Stream::None)];
    assert_eq!(shown, wanted);
    server.end().await;
}

#[tokio::test]
async fn where_teams_streams_nothing_answers_are_edited() {
    let (fake, server) = known().await;
    let before = fake.state().streams;
    let id = post(&server, GROUP, 0).await;
    server.calm();
    server.teams.grow(&place(GROUP), &id, &Content::from("so far"), 6).await.unwrap();
    assert_eq!(fake.shown(GROUP)[0].text, "so far");
    assert_eq!(fake.state().streams, before, "groups have none, so none is tried");
    fake.state().streaming = false;
    let id = post(&server, DM, 0).await;
    grow(&server, &id, "so far", 6).await.unwrap();
    end(&server, &id, "all").await;
    assert_eq!((only(&fake).text.as_str(), only(&fake).stream), ("all", Stream::None));
    server.end().await;
}

#[tokio::test]
async fn whoever_wants_no_streams_has_none() {
    let (fake, store) = (Fake::start().await, store());
    let mut environment = fake.environment();
    environment.push(("TEAMS_STREAMING".to_owned(), "off".to_owned()));
    let server = Server::start_with(&environment, &store).await;
    fake.say("Ada", DM, "/od-help").await;
    fake.shows(DM, "od-run").await;
    all_shown(&fake, &store).await;
    assert_eq!(fake.shown(DM).len(), 1);
    assert_eq!(fake.state().streams, 0);
    server.end().await;
}

#[tokio::test]
async fn the_next_server_ends_the_stream_that_the_last_one_left() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    fake.say("Ada", DM, "/od-help").await;
    all_shown(&fake, &store).await;
    fake.state().messages.clear();
    let id = post(&server, DM, 0).await;
    grow(&server, &id, "one", 3).await.unwrap();
    server.end().await;
    let server = Server::start(&fake, &store).await;
    grow(&server, &id, "one two", 7).await.unwrap();
    assert_eq!((only(&fake).text.as_str(), only(&fake).stream), ("one two", Stream::Over));
    end(&server, &id, "one two three").await;
    assert_eq!(only(&fake).text, "one two three");
    server.end().await;
}

#[tokio::test]
async fn what_never_was_a_stream_is_not_ended_like_one_after_a_restart() {
    let (fake, store) = (Fake::start().await, store());
    fake.state().lenient = true;
    let server = Server::start(&fake, &store).await;
    fake.say("Ada", DM, "/od-help").await;
    all_shown(&fake, &store).await;
    fake.state().messages.clear();
    // A chat has one stream, so the second answer is an ordinary message.
    let (first, second) = (post(&server, DM, 0).await, post(&server, DM, 1).await);
    server.end().await;
    let server = Server::start(&fake, &store).await;
    grow(&server, &second, "second", 6).await.unwrap();
    end(&server, &second, "second, and all").await;
    end(&server, &first, "first, and all").await;
    let shown: Vec<_> = fake.shown(DM).into_iter().map(|it| (it.text, it.stream)).collect();
    let wanted =
        [("first, and all".to_owned(), Stream::Over), ("second, and all".to_owned(), Stream::None)];
    assert_eq!(shown, wanted, "each answer once");
    server.end().await;
}
