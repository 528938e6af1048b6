//! Buttons: whoever presses is told, in time and visibly, and what is over stays so.

use open_dispatch::chat::platform::{Action, Content, Nonce, Platform as _, Post, Tone};

use super::{teams::Message, *};

#[tokio::test]
async fn a_button_says_its_line_and_is_answered_at_once() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    fake.say("Ada", DM, "/od-help").await;
    all_shown(&fake, &store).await;
    let conversation =
        Conversation { platform: "teams".to_owned(), channel: DM.to_owned(), thread: None };
    let nonce = Nonce { delivery: "by-hand".to_owned(), index: 0 };
    let post = Post { conversation: &conversation, reply_to: None, text: "…", nonce: &nonce };
    let id = server.teams.post(&post).await.unwrap();
    let action = Action { label: "List".to_owned(), line: "/od-list".to_owned(), tone: Tone::Good };
    let content = Content { text: "Press.".to_owned(), actions: vec![action] };
    server.calm();
    server.teams.edit(&conversation, &id, &content, true).await.unwrap();
    let message = fake.shows(DM, "Press.").await;
    let answer = fake.press("Ada", &message, "List").await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    fake.shows(DM, "no agents").await;
    // A message without buttons has none any more.
    server.calm();
    server.teams.edit(&conversation, &id, &Content::from("Pressed."), true).await.unwrap();
    assert!(fake.shows(DM, "Pressed.").await.buttons().is_empty());
    server.end().await;
}

/// A real server with an agent that asks before it acts, in a group chat where it was asked.
async fn asked(fake: &Fake, data: &std::path::Path) -> (live::Live, Message) {
    std::fs::create_dir(data).unwrap();
    let server = real(fake, data).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fickle_agent.sh");
    let body = json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "bot"},
        "spec": {
            "agent": {"acp": {"command": ["sh", script]}},
            "runtime": {"local": {"workdir": data.parent().unwrap()}},
            "channels": [{"teams": {"channel": GROUP}}],
        },
    });
    let (code, answer) = server.post("agents", body).await;
    assert_eq!(code, 201, "{answer}");
    fake.say("Ada", GROUP, "do:ask for it").await;
    let asks = |message: &Message| message.buttons().iter().any(|(label, _)| label == "Once");
    fake.until("it asks", async || fake.shown(GROUP).iter().any(asks)).await;
    let message = fake.shown(GROUP).into_iter().find(asks).unwrap();
    (server, message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_button_pressed_by_somebody_else_or_twice_is_told_so_and_does_nothing() {
    let home = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let (mut server, asked) = asked(&fake, &home.path().join("data")).await;
    let answer = fake.press("Eve", &asked, "Once").await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    fake.shows(GROUP, "Nobody has let you in yet").await;
    let before = fake.shown(GROUP).len();
    let again = fake.press("Eve", &asked, "Once").await;
    assert!(again["value"].as_str().unwrap().contains("nothing was done"), "{again}");
    assert_eq!(fake.shown(GROUP).len(), before, "a stranger is told once, and then aside");
    let pending = |approvals: &Value| {
        approvals["items"].as_array().unwrap().iter().filter(|it| it["state"] == "Pending").count()
    };
    assert_eq!(
        pending(&server.get("agents/bot/approvals").await),
        1,
        "a stranger's press allows nothing"
    );
    // The button stands over a restart.
    server.kill_nine();
    server.up().await;
    fake.press("Ada", &asked, "Once").await;
    fake.shows(GROUP, "allowed by Ada").await;
    // Another client of hers still shows the button.
    fake.press("Ada", &asked, "No").await;
    fake.shows(GROUP, "already").await;
    let approvals = server.get("agents/bot/approvals").await;
    assert_eq!(pending(&approvals), 0, "{approvals}");
    assert!(!approvals.to_string().contains("Denied"), "{approvals}");
}

/// An hour goes by while the server is away: all that was asked was asked an hour earlier.
async fn an_hour_goes_by(data: &std::path::Path) {
    use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
    let options = SqliteConnectOptions::new().filename(data.join("store.db"));
    let mut store = SqliteConnection::connect_with(&options).await.unwrap();
    let earlier = "UPDATE approvals SET body = json_set(body, '$.created', \
                   strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(body, '$.created'), '-1 hour'))";
    let aged = sqlx::query(earlier).execute(&mut store).await.unwrap();
    assert_eq!(aged.rows_affected(), 1, "one request waits");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_button_pressed_after_its_time_is_told_that_it_was_a_no() {
    let home = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let data = home.path().join("data");
    let (mut server, asked) = asked(&fake, &data).await;
    server.kill_nine();
    an_hour_goes_by(&data).await;
    server.up().await;
    let over = fake.shows(GROUP, "expired after 1 h: nobody answered, so it was no").await;
    assert_eq!((over.id.as_str(), over.buttons().len()), (asked.id.as_str(), 0));
    // Her client still shows the button.
    let answer = fake.press("Ada", &asked, "Once").await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let told = fake.shows(GROUP, "Nobody answered bot in time, so it was no").await;
    assert_ne!(told.id, asked.id);
    let approvals = server.get("agents/bot/approvals").await;
    let items = approvals["items"].as_array().unwrap();
    let states: Vec<_> = items.iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["Expired"], "{approvals}");
}
