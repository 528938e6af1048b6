//! The real program on Slack: it is killed in the middle of an answer, and the answer stands once;
//! it is told nothing, and says what it lacks. And the fake is what the official client takes for
//! Slack.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/acp_binary.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod acp_binary;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod server;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/slack/mod.rs"]
mod slack;
#[expect(dead_code, reason = "the suite of all platforms uses the rest")]
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;

use std::process::Stdio;

use server::World;
use slack::{FakeSlack, buttons, ours};
use stage_of_chat::Stage as _;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};

/// A server's world that talks to a fake.
fn world(fake: &FakeSlack) -> World {
    let world = World::empty();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::create_dir(world.data()).unwrap();
    std::fs::set_permissions(world.data(), mode(0o700)).unwrap();
    let admins = ("OPEN_DISPATCH_ADMINS".to_owned(), "slack:UADA".to_owned());
    let lines: Vec<String> = fake
        .env()
        .into_iter()
        .chain([admins])
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let path = world.data().join(".env");
    std::fs::write(&path, lines.join("\n")).unwrap();
    std::fs::set_permissions(&path, mode(0o600)).unwrap();
    world
}

fn text(messages: &[slack::Message]) -> String {
    messages.iter().map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_mid_stream_leaves_the_whole_answer_once() {
    let fake = FakeSlack::start().await;
    let mut world = world(&fake);
    world.serve(&[]);
    fake.until_connected(2).await;
    // It says 40 lines, and goes on when the file is there.
    let task = "seq -f line-%g- 1 20; until [ -e go ]; do sleep 0.1; done; seq -f line-%g- 21 40";
    world.write("count.sh", task);
    let line = format!("/od-run --name count --workdir {} sh count.sh", world.work().display());
    fake.say("UADA", "C1", &line).await;
    fake.until("the first half stands", |world| text(&ours(world, "C1")).contains("line-20-"))
        .await;
    world.kill_server();
    world.write("go", "");
    world.serve(&[]);
    fake.until("the end stands", |world| text(&ours(world, "C1")).contains("count succeeded"))
        .await;
    let said = text(&fake.ours("C1"));
    for n in 1..=40 {
        assert_eq!(said.matches(&format!("line-{n}-")).count(), 1, "{said}");
    }
    assert_eq!(said.matches("count succeeded").count(), 1, "{said}");
    assert!(!said.contains('…'), "a placeholder stays: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_was_not_acknowledged_when_the_server_died_comes_to_the_next() {
    let fake = FakeSlack::start().await;
    let mut world = world(&fake);
    world.serve(&[]);
    fake.until_connected(2).await;
    world.kill_server();
    let said = fake.commands("UADA", "C1", "/od-whoami");
    world.serve(&[]);
    fake.until_taken(&said, 1).await;
    fake.until("it is answered", |world| {
        text(&ours(world, "C1")).contains("(slack:UADA) on slack")
    })
    .await;
    assert_eq!(fake.ours("C1").len(), 1);
}

/// Slack has shown the file, and the server dies before it hears so.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_behind_a_file_shows_it_once() {
    let fake = FakeSlack::start().await;
    let mut world = world(&fake);
    world.serve(&[]);
    fake.until_connected(2).await;
    fake.world().faults.stuck.insert("files.completeUploadExternal".into());
    let line = format!("/od-run --name count --workdir {} seq 1 9000", world.work().display());
    fake.say("UADA", "C1", &line).await;
    let files = |all: &[slack::Message]| all.iter().map(|it| it.files.len()).sum::<usize>();
    fake.until("the file is shown", |world| files(&ours(world, "C1")) == 1).await;
    let is_open = |world: &World| {
        world.od(&["get", "deliveries", "-o", "json"]).text().contains("\"conversation\"")
    };
    assert!(is_open(&world), "it is not done yet");
    world.kill_server();
    fake.world().faults.stuck.clear();
    world.serve(&[]);
    while is_open(&world) {}
    assert_eq!(files(&fake.ours("C1")), 1, "{:#?}", fake.ours("C1"));
    assert!(!fake.calls_of("conversations.history").is_empty(), "it is looked up");
    assert_eq!(fake.calls_of("files.completeUploadExternal").len(), 1);
    let shown = fake.shown("C1").await;
    let file = shown.iter().find_map(|message| message.files.first()).unwrap();
    let numbers =
        String::from_utf8_lossy(&file.1).lines().filter(|it| it.parse::<u32>().is_ok()).count();
    assert_eq!((file.0.as_str(), numbers), ("count.md", 9000));
}

/// A server that ends with its test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is logged holds neither tokens nor the addresses of sockets, however much is logged.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_slacks_stands_in_the_log() {
    let fake = FakeSlack::start().await;
    fake.world().faults.open = ["invalid_auth".into()].into();
    let world = world(&fake);
    let path = world.work().join("log");
    let serve = || {
        let log = std::fs::File::options().create(true).append(true).open(&path).unwrap();
        let mut command = world.command(&["serve", "--listen", "0"]);
        command.env("OPEN_DISPATCH_LOG", "trace").stdin(Stdio::null()).stdout(Stdio::null());
        Server(command.stderr(log).spawn().unwrap())
    };
    let server = serve();
    while !std::fs::read_to_string(&path).unwrap().contains("SLACK_APP_TOKEN (invalid_auth)") {
        fake.until("it dials", |world| !world.calls.is_empty()).await;
        tokio::task::yield_now().await;
    }
    drop(server);
    let server = serve();
    fake.until_connected(2).await;
    fake.say("UADA", "C1", "/od-whoami").await;
    fake.until("it is answered", |world| {
        text(&ours(world, "C1")).contains("(slack:UADA) on slack")
    })
    .await;
    drop(server);
    let log = std::fs::read_to_string(&path).unwrap();
    assert!(log.contains("TRACE hyper_util"), "nothing much is logged: {log}");
    for secret in [slack::BOT_TOKEN, slack::APP_TOKEN, "secret-ticket"] {
        assert!(!log.contains(secret), "{secret} stands in the log");
    }
}

#[test]
fn a_server_without_tokens_says_which_and_where_from() {
    let world = World::empty();
    let told = world.od(&["serve", "--chat", "slack", "--listen", "0"]);
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("SLACK_BOT_TOKEN is not set; copy the bot token"), "{told:?}");
    assert_eq!(told.stderr.lines().count(), 1, "{told:?}");
}

#[test]
fn the_manifest_is_printed_and_linked() {
    let world = World::empty();
    let text = world.od(&["slack", "manifest", "--name", "dispatch"]).text();
    assert!(text.contains("name: dispatch") && text.contains("command: /od-approve"), "{text}");
    let link = world.od(&["slack", "manifest", "--link"]).text();
    assert!(link.starts_with("https://api.slack.com/apps?new_app=1&manifest_json="), "{link}");
    assert_eq!(link.lines().count(), 1);
}

async fn told(lines: &mut Lines<BufReader<tokio::process::ChildStdout>>) -> serde_json::Value {
    let line = tokio::time::timeout(slack::PATIENCE, lines.next_line()).await;
    serde_json::from_str(&line.expect("bolt says nothing").unwrap().expect("bolt ended")).unwrap()
}

/// The official client finds in the fake what it expects of Slack.
#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_takes_the_fake_for_slack() {
    let Some(command) = acp_binary::agent("@slack/bolt/dist/index.js") else { return };
    let fake = FakeSlack::start().await;
    let support = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/slack/bolt.mjs");
    let mut bolt = tokio::process::Command::new(&command[0])
        .arg(support)
        .env_clear()
        .envs(fake.env())
        .env("BOLT_AT", &command[1])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bolt.stdout.take().unwrap()).lines();
    assert_eq!(told(&mut lines).await["ready"], slack::BOT);
    fake.until_connected(1).await;

    fake.mentions("UADA", "C1", "do it");
    let mention = told(&mut lines).await;
    assert_eq!(
        (mention["mention"].as_str(), mention["found"].as_bool()),
        (Some("<@UBOT> do it"), Some(true))
    );
    assert_eq!(mention["thread"], serde_json::json!(["<@UBOT> do it"]));
    assert_eq!(mention["one"], serde_json::json!([true]));
    let message = fake.ours("C1").remove(0);
    assert_eq!((message.text.as_str(), buttons(&message).len()), ("done", 1));

    let pressed = fake.presses("UBOB", "C1", &message.ts, "Go", 1);
    let press = told(&mut lines).await;
    assert_eq!((press["pressed"].as_str(), press["by"].as_str()), (Some("/od-list"), Some("UBOB")));
    fake.until_taken(&pressed, 1).await;

    fake.commands("UADA", "C2", "/od-list all");
    assert_eq!(told(&mut lines).await["text"], "all");
    let only: Vec<_> = fake.ours("C2").into_iter().map(|it| (it.text, it.only_for)).collect();
    let seen_by = |text: &str| (text.to_owned(), Some("UADA".to_owned()));
    assert_eq!(only, [seen_by("only you"), seen_by("psst")]);

    let shared = fake.shares("UADA", "C3", "a file for you", "in.txt", b"in");
    let file = told(&mut lines).await;
    assert_eq!((file["shared"].as_str(), file["sent"].as_str()), (Some("in.txt"), Some("in")));
    assert_eq!(file["stands"], serde_json::json!(["a.txt", "in.txt"]));
    fake.until_taken(&shared, 1).await;
    let shown = fake.shown("C3").await;
    assert_eq!(shown[0].files, [("a.txt".to_owned(), b"hello".to_vec())]);
    // What bolt has answered is acknowledged, and does not come again.
    fake.until("all is acknowledged", |world| world.envelopes.is_empty()).await;
}
