//! Microsoft Teams, against a fake of the channel on loopback: nobody gets in who may not, nothing
//! is taken or shown twice, and what could not be said at once is said later.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/stage_of_chat.rs"]
#[expect(dead_code, reason = "the conformance suite uses all of it")]
mod stage_of_chat;
#[path = "support/teams/mod.rs"]
mod teams;

#[path = "chat_teams/buttons.rs"]
mod buttons;
#[path = "chat_teams/files.rs"]
mod files;
#[path = "chat_teams/pace.rs"]
mod pace;
#[path = "chat_teams/streams.rs"]
mod streams;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use open_dispatch::{
    ambient::{Ambient, Clock, SystemClock},
    chat::{
        Commands, Outbox, Settings,
        ear::{Ear, Hearing},
        teams::{Settings as TeamsSettings, Teams},
    },
    reconcile::{Engine, EngineHandle},
    store::{
        Conversation, DeliveryState, Op, Principal, Store, Transaction, files::Files,
        memory::MemoryStore,
    },
};
use serde_json::{Value, json};
use teams::{
    Fake, Fault, PASSWORD, Stream, TENANT,
    jwt::{Signer, Token},
};
use tokio_util::sync::CancellationToken;

/// A server in this process, without its HTTP: ear, commands, engine and outbox.
struct Server {
    teams: Arc<Teams>,
    engine: EngineHandle,
    stop: CancellationToken,
    listening: tokio::task::JoinHandle<()>,
    clock: Arc<Ahead>,
    _files: tempfile::TempDir,
}

impl Server {
    async fn start(fake: &Fake, store: &Arc<MemoryStore>) -> Self {
        Self::start_with(&fake.environment(), store).await
    }

    async fn start_with(environment: &[(String, String)], store: &Arc<MemoryStore>) -> Self {
        Self::start_at(environment, store, Arc::default()).await
    }

    async fn start_at(
        environment: &[(String, String)],
        store: &Arc<MemoryStore>,
        clock: Arc<Ahead>,
    ) -> Self {
        let ambient = Ambient { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Ambient::real() };
        let store = Arc::clone(store) as Arc<dyn Store>;
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
        let settings = TeamsSettings::from_environment(environment).unwrap();
        let teams = Teams::new(settings, Arc::clone(&store), files, ambient.clone()).unwrap();
        let mut engine = Engine::new(Arc::clone(&store), ambient.clone());
        let platforms = vec![Arc::clone(&teams).platform()];
        engine.add(Arc::new(Outbox::new(Arc::clone(&store), ambient.clone(), platforms)));
        let engine = engine.start().await.unwrap();
        let admins = vec![Principal::user("teams", "aad-Ada")];
        let settings = Settings { admins, ..Settings::default() };
        let commands = Arc::new(Commands::new(store, ambient, settings));
        let stop = CancellationToken::new();
        let listening = tokio::spawn(Arc::clone(&teams).listen(commands, stop.clone()));
        Self { teams, engine, stop, listening, clock, _files: dir }
    }

    /// Time goes by, in which what was called before counts less.
    fn calm(&self) {
        self.clock.ahead(1);
    }

    async fn end(self) {
        self.stop.cancel();
        self.listening.await.unwrap();
        self.engine.stop().await;
    }
}

fn store() -> Arc<MemoryStore> {
    MemoryStore::new()
}

/// Waits until no delivery is open.
async fn all_shown(fake: &Fake, store: &MemoryStore) {
    fake.until("all is shown", async || store.open_deliveries().await.unwrap().is_empty()).await;
}

fn whole(fake: &Fake, conversation: &str) -> Vec<String> {
    let shown = fake.shown(conversation).into_iter().map(|message| message.text);
    shown.filter(|text| text != "…").collect()
}

const DM: &str = "a:1-with-ada";
const GROUP: &str = "19:some-of-us@thread.v2";

#[tokio::test]
async fn what_is_said_is_answered_where_it_was_said() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    let said = fake.say("Ada", DM, "/od-help").await;
    let answer = fake.shows(DM, "od-run").await;
    assert_eq!(answer.reply_to.as_deref(), Some(said.as_str()));
    let thread = "19:general@thread.tacv2;messageid=1690000000000";
    fake.say("Ada", thread, "od-help").await;
    assert_eq!(fake.shows(thread, "od-run").await.conversation, thread);
    all_shown(&fake, &store).await;
    assert_eq!(whole(&fake, DM).len(), 1);
    assert_eq!(server.teams.hearing(), Hearing::Yes);
    let asked = {
        let state = fake.state();
        (state.tokens, state.metadata, state.keys)
    };
    assert_eq!(asked, (1, 1, 1), "fetched once and kept");
    server.end().await;
}

#[tokio::test]
async fn nobody_gets_in_whose_token_is_not_the_channels_for_this_activity() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    let url = fake.service_url();
    let good = || Token::good(&url);
    let header = |name: &str, value: Value| {
        let mut token = good();
        token.header[name] = value;
        token
    };
    let stranger = Token { signer: Signer::Stranger, ..good() };
    let cases: Vec<(&str, u16, Option<String>)> = vec![
        ("valid", 200, Some(good().sign())),
        ("no header", 401, None),
        ("no token", 401, Some("nonsense".into())),
        ("wrong audience", 401, Some(good().claim("aud", "another-app").sign())),
        ("wrong issuer", 401, Some(good().claim("iss", "https://sts.windows.net/x/").sign())),
        ("rules that nobody knows", 401, Some(header("crit", json!(["exp"])).sign())),
        ("wrong key", 401, Some(stranger.sign())),
        ("unknown key", 401, Some(header("kid", "made-up".into()).sign())),
        ("HS256", 401, Some(header("alg", "HS256".into()).sign())),
        ("no algorithm", 401, Some(header("alg", "none".into()).sign())),
        (
            "service URL differs",
            401,
            Some(good().claim("serviceurl", "https://evil.example/").sign()),
        ),
        ("no service URL", 401, Some(good().claim("serviceurl", Value::Null).sign())),
        ("expired 4 minutes ago", 200, Some(good().expired(240).sign())),
        ("expired 6 minutes ago", 401, Some(good().expired(360).sign())),
        ("no end", 401, Some(good().claim("exp", Value::Null).sign())),
        (
            "slash at the end",
            200,
            Some(good().claim("serviceurl", url.trim_end_matches('/')).sign()),
        ),
    ];
    fake.until("the door opens", async || fake.deliver_with(&json!({}), None).await.0 == 401).await;
    for (n, (case, wanted, token)) in cases.iter().enumerate() {
        let activity = fake.said("Ada", &format!("a:case-{n}"), "/od-help");
        let (status, body) = fake.deliver_with(&activity, token.as_deref()).await;
        assert_eq!(status, *wanted, "{case}: {body}");
    }
    let mut stranger = fake.said("Eve", "a:eve", "/od-help");
    stranger["channelData"]["tenant"]["id"] = "0cc00000-0000-4000-8000-000000000003".into();
    assert_eq!(fake.deliver(&stranger).await.0, 403, "another tenant");
    let mut elsewhere = fake.said("Eve", "a:eve", "/od-help");
    elsewhere["channelId"] = "webchat".into();
    assert_eq!(fake.deliver(&elsewhere).await.0, 401, "a channel that the key is not endorsed for");
    // Two made-up key names, and still the keys were asked for once.
    assert_eq!(fake.state().keys, 1);
    fake.shows("a:case-15", "od-run").await;
    all_shown(&fake, &store).await;
    let answered: Vec<usize> =
        (0..cases.len()).filter(|n| !whole(&fake, &format!("a:case-{n}")).is_empty()).collect();
    assert_eq!(answered, [0, 12, 15], "who was refused was not answered");
    assert!(whole(&fake, "a:eve").is_empty());
    server.end().await;
}

#[tokio::test]
async fn a_key_that_lost_its_endorsement_signs_for_nobody() {
    let (fake, store) = (Fake::start().await, store());
    fake.state().endorsements = vec!["webchat".to_owned()];
    let server = Server::start(&fake, &store).await;
    let activity = fake.said("Ada", DM, "/od-help");
    fake.until("it is refused", async || fake.deliver(&activity).await.0 == 401).await;
    server.end().await;
}

/// A clock that can be put forward, over whoever sleeps by it; it goes on by itself, too.
#[derive(Default)]
struct Ahead(Mutex<Duration>);

impl Ahead {
    fn ahead(&self, seconds: u64) {
        *self.0.lock().unwrap() += Duration::from_secs(seconds);
    }
}

#[async_trait]
impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + *self.0.lock().unwrap()
    }

    async fn sleep(&self, length: Duration) {
        let end = self.elapsed() + length;
        while let Some(rest) = end.checked_sub(self.elapsed()).filter(|rest| !rest.is_zero()) {
            SystemClock.sleep(rest.min(Duration::from_millis(20))).await;
        }
    }
}

#[tokio::test]
async fn keys_that_were_rotated_are_fetched_and_the_old_ones_open_nothing_then() {
    let (fake, store) = (Fake::start().await, store());
    let clock = Arc::new(Ahead::default());
    let server = Server::start_at(&fake.environment(), &store, Arc::clone(&clock)).await;
    fake.say("Ada", DM, "/od-help").await;
    fake.state().kid = Some("the-next-key".to_owned());
    let activity = fake.said("Ada", DM, "/od-list");
    let mut next = Token::good(&fake.service_url());
    next.header["kid"] = "the-next-key".into();
    // Made-up names must not make us ask, so neither does this one until five minutes have passed.
    assert_eq!(fake.deliver_with(&activity, Some(&next.sign())).await.0, 401);
    assert_eq!(fake.state().keys, 1);
    clock.ahead(5 * 60);
    assert_eq!(fake.deliver_with(&activity, Some(&next.sign())).await.0, 200);
    let old = Token::good(&fake.service_url());
    assert_eq!(fake.deliver_with(&activity, Some(&old.sign())).await.0, 401);
    assert_eq!(fake.state().keys, 2);
    server.end().await;
}

#[tokio::test]
async fn keys_that_grow_old_are_fetched_before_somebody_needs_them() {
    let (fake, store) = (Fake::start().await, store());
    let clock = Arc::new(Ahead::default());
    let server = Server::start_at(&fake.environment(), &store, Arc::clone(&clock)).await;
    fake.say("Ada", DM, "/od-help").await;
    assert_eq!(fake.state().keys, 1);
    clock.ahead(12 * 3600);
    fake.until("they are fetched", async || fake.state().keys == 2).await;
    // So there is a day in hand when the keys cannot be had.
    fake.state().no_keys = true;
    clock.ahead(23 * 3600);
    fake.until("it is tried", async || fake.state().keys == 3).await;
    fake.say("Ada", DM, "/od-list").await;
    server.end().await;
}

#[tokio::test]
async fn a_line_is_taken_while_teams_takes_nothing_from_us() {
    let (fake, store) = (Fake::start().await, store());
    fake.state().post_faults.extend([Fault::RateLimit(2); 3]);
    let server = Server::start(&fake, &store).await;
    let activity = fake.said("Ada", GROUP, "/od-help");
    fake.deliver_surely(&activity).await;
    // It is durable, and not shown: the work comes behind the answer.
    let key = format!("teams/{GROUP}/{}", activity["id"].as_str().unwrap());
    assert!(store.receipt(&key).await.unwrap().is_some());
    assert!(fake.shown(GROUP).is_empty());
    fake.shows(GROUP, "od-run").await;
    all_shown(&fake, &store).await;
    assert_eq!(fake.shown(GROUP).len(), 1, "a storm of 429s doubles nothing");
    server.end().await;
}

#[tokio::test]
async fn an_activity_that_comes_again_is_answered_once() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    let activity = fake.said("Ada", DM, "/od-help");
    let token = Token::good(&fake.service_url()).sign();
    fake.until("it is taken", async || fake.deliver_with(&activity, Some(&token)).await.0 == 200)
        .await;
    // The channel's retry, and a replay of the very same request, also after a restart.
    let twice = tokio::join!(
        fake.deliver_with(&activity, Some(&token)),
        fake.deliver_with(&activity, Some(&token))
    );
    assert_eq!((twice.0.0, twice.1.0), (200, 200));
    fake.shows(DM, "od-run").await;
    server.end().await;
    let server = Server::start(&fake, &store).await;
    fake.deliver_surely(&activity).await;
    all_shown(&fake, &store).await;
    assert_eq!(fake.shown(DM).len(), 1);
    server.end().await;
}

#[tokio::test]
async fn too_many_calls_wait_and_a_token_that_lost_its_worth_is_replaced() {
    let (fake, store) = (Fake::start().await, store());
    fake.state().post_faults.extend([Fault::RateLimit(1), Fault::TokenRevoked]);
    fake.state().edit_faults.extend([Fault::RateLimit(1), Fault::Status(502)]);
    let server = Server::start(&fake, &store).await;
    fake.say("Ada", GROUP, "/od-help").await;
    fake.shows(GROUP, "od-run").await;
    all_shown(&fake, &store).await;
    assert_eq!(fake.shown(GROUP).len(), 1);
    let asked = {
        let state = fake.state();
        (state.tokens, state.posts, state.edits)
    };
    assert_eq!(asked, (2, 3, 3));
    server.end().await;
}

#[tokio::test]
async fn a_post_that_was_done_and_answered_late_leaves_one_answer_and_at_most_a_bare_placeholder() {
    for place in [DM, GROUP] {
        let (fake, store) = (Fake::start().await, store());
        fake.state().post_faults.push_back(Fault::DoneBut504);
        let server = Server::start(&fake, &store).await;
        fake.say("Ada", place, "/od-help").await;
        fake.shows(place, "od-run").await;
        all_shown(&fake, &store).await;
        assert_eq!(whole(&fake, place).len(), 1);
        assert_eq!(fake.shown(place).len(), 2);
        server.end().await;
    }
}

#[tokio::test]
async fn a_place_that_is_gone_ends_its_own_delivery_and_no_other() {
    let (fake, store) = (Fake::start().await, store());
    // Neither a stream nor a message.
    fake.state().post_faults.extend([Fault::Status(404); 2]);
    let server = Server::start(&fake, &store).await;
    fake.say("Ada", "a:removed", "/od-help").await;
    all_shown(&fake, &store).await;
    fake.say("Ada", DM, "/od-help").await;
    fake.shows(DM, "od-run").await;
    assert!(fake.shown("a:removed").is_empty());
    server.end().await;
}

#[tokio::test]
async fn where_the_app_was_taken_out_an_answer_waits_until_it_is_back() {
    for place in [DM, GROUP] {
        let (fake, store) = (Fake::start().await, store());
        let clock = Arc::new(Ahead::default());
        fake.state().removed = true;
        let server = Server::start_at(&fake.environment(), &store, Arc::clone(&clock)).await;
        fake.say("Ada", place, "/od-help").await;
        let parked = async || {
            fake.until("it is parked", async || {
                let open = store.open_deliveries().await.unwrap();
                let is_parked = |it: &open_dispatch::store::Delivery| {
                    it.state == DeliveryState::Parked && it.note.contains("add it again")
                };
                open.len() == 1 && is_parked(&open[0])
            })
            .await;
        };
        parked().await;
        assert!(fake.shown(place).is_empty());
        fake.state().removed = false;
        fake.until("it looks again", async || {
            clock.ahead(60);
            !fake.shown(place).is_empty()
        })
        .await;
        fake.shows(place, "od-run").await;
        fake.until("all is shown", async || store.open_deliveries().await.unwrap().is_empty())
            .await;
        assert_eq!(fake.shown(place).len(), 1, "{:#?}", fake.shown(place));
        server.end().await;
    }
}

#[tokio::test]
async fn it_speaks_first_after_a_restart() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    fake.say("Ada", DM, "/od-help").await;
    all_shown(&fake, &store).await;
    server.end().await;
    let server = Server::start(&fake, &store).await;
    for channel in [DM, "19:never-heard-of@thread.tacv2"] {
        let place = Conversation {
            platform: "teams".to_owned(),
            channel: channel.to_owned(),
            thread: None,
        };
        let delivery = open_dispatch::store::Delivery::open(
            format!("first-{channel}"),
            place,
            open_dispatch::store::Subject::Notice { text: "I speak first.".to_owned() },
            "2026-01-01T00:00:00Z".parse().unwrap(),
        );
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        store.apply(Transaction::at(now).with(Op::Delivery(delivery))).await.unwrap();
        fake.shows(channel, "I speak first.").await;
    }
    server.end().await;
}

#[tokio::test]
async fn strangers_are_answered_and_leave_no_place_behind() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    let kept = async |channel: &str| store.place("teams", channel).await.unwrap().is_some();
    fake.say("Eve", "a:with-eve", "/od-help").await;
    fake.shows("a:with-eve", "Nobody has let you in yet").await;
    assert_eq!((kept("a:with-eve").await, kept("").await), (false, false));
    fake.say("Ada", DM, "/od-help").await;
    assert_eq!((kept(DM).await, kept("").await), (true, true));
    // Where a stranger spoke first, the place is kept once somebody speaks who may.
    fake.say("Eve", GROUP, "hello?").await;
    assert!(!kept(GROUP).await);
    fake.say("Ada", GROUP, "od-list").await;
    assert!(kept(GROUP).await);
    fake.shows(GROUP, "no agents").await;
    all_shown(&fake, &store).await;
    server.end().await;
}

#[tokio::test]
async fn where_nobody_ever_spoke_a_delivery_waits_and_says_why() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    let place = Conversation { platform: "teams".to_owned(), channel: DM.to_owned(), thread: None };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let subject = open_dispatch::store::Subject::Notice { text: "Hello?".to_owned() };
    let delivery = open_dispatch::store::Delivery::open("early".to_owned(), place, subject, now);
    store.apply(Transaction::at(now).with(Op::Delivery(delivery))).await.unwrap();
    fake.until("it is parked", async || {
        let delivery = store.delivery("early").await.unwrap().unwrap();
        delivery.state == DeliveryState::Parked && delivery.note.contains("say something to it")
    })
    .await;
    server.end().await;
}

#[tokio::test]
async fn a_wrong_secret_is_told_with_its_mend_and_shows_nowhere() {
    let (fake, store) = (Fake::start().await, store());
    let wrong = "a-wrong-secret-of-the-app";
    let environment: Vec<_> = fake
        .environment()
        .into_iter()
        .map(|(name, value)| (name, if value == PASSWORD { wrong.to_owned() } else { value }))
        .collect();
    let server = Server::start_with(&environment, &store).await;
    fake.until("it is told", async || matches!(server.teams.hearing(), Hearing::Never(_))).await;
    let Hearing::Never(why) = server.teams.hearing() else { panic!() };
    assert!(why.contains("MICROSOFT_APP_PASSWORD") && why.contains("AADSTS7000215"), "{why}");
    assert!(!why.contains(wrong) && !why.contains(TENANT), "{why}");
    assert!(fake.state().tokens > 0, "the fake was asked, and nobody else");
    server.end().await;
}

#[tokio::test]
async fn what_is_no_activity_gets_an_answer_that_says_so() {
    let (fake, store) = (Fake::start().await, store());
    let server = Server::start(&fake, &store).await;
    let big = fake.said("Ada", DM, &"x".repeat(2 << 20));
    fake.until("it is refused", async || fake.deliver(&big).await.0 == 413).await;
    assert_eq!(fake.deliver(&json!("no object")).await.0, 400);
    let mut invoke = fake.said("Ada", DM, "");
    invoke["type"] = "invoke".into();
    invoke["name"] = "task/fetch".into();
    assert_eq!(fake.deliver(&invoke).await.0, 501);
    let joined = json!({"type": "conversationUpdate", "membersAdded": [{"id": "28:us"}]});
    let mut update = fake.said("Ada", DM, "");
    for (name, value) in joined.as_object().unwrap() {
        update[name] = value.clone();
    }
    assert_eq!(fake.deliver(&update).await.0, 200);
    assert!(fake.shown(DM).is_empty());
    server.end().await;
}

#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]
mod live;

/// A real server that talks to the fake.
async fn real(fake: &Fake, data: &std::path::Path) -> live::Live {
    let environment = fake.environment();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    live::Live::start(data, &[], &environment).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_in_the_middle_of_a_stream_ends_with_the_whole_answer_once() {
    kill_nine_in_the_middle(DM, Stream::Live, Stream::Over).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_in_the_middle_of_edits_ends_with_the_whole_answer_once() {
    kill_nine_in_the_middle(GROUP, Stream::None, Stream::None).await;
}

async fn kill_nine_in_the_middle(place: &str, during: Stream, after: Stream) {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let fake = Fake::start().await;
    let mut server = real(&fake, &data).await;
    let task = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line-$i-; sleep 0.1; done";
    let activity = fake.said("Ada", place, &format!("/od-run --agent command {task}"));
    fake.deliver_surely(&activity).await;
    let begun = fake.shows(place, "line-1-").await;
    assert_eq!(begun.stream, during);
    server.kill_nine();
    // The channel did not get its answer, it thinks, and says it again to the next server.
    server.up().await;
    fake.deliver_surely(&activity).await;
    let answer = fake.shows(place, "line-60-").await;
    assert!(answer.edits > 1, "it was streamed: {answer:?}");
    fake.until("the answer ends", async || {
        let all: Vec<String> = fake.shown(place).into_iter().map(|message| message.text).collect();
        (1..=60).all(|n| all.concat().matches(&format!("line-{n}-")).count() == 1)
    })
    .await;
    let jobs = server.get("jobs").await;
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "one line, one Job");
    fake.until("the answer is over", async || {
        fake.shown(place).iter().all(|message| message.stream == after)
    })
    .await;
    assert_eq!(whole(&fake, place).len(), 1, "{:#?}", fake.shown(place));
    // What opens doors stands in no log.
    let log = server.log();
    assert!(!log.contains(PASSWORD) && !log.contains("first-token"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_reports_to_a_channel_after_a_restart_without_being_spoken_to() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let fake = Fake::start().await;
    let mut server = real(&fake, &data).await;
    fake.say("Ada", DM, "/od-help").await;
    fake.shows(DM, "od-run").await;
    server.kill_nine();
    server.up().await;
    let spec = json!({
        "task": "echo done-and-told",
        "agent": {"command": {}},
        "runtime": {"local": {"workdir": home.path()}},
        "report": {"to": [{"teams": {"channel": DM}}]},
    });
    server.create_job("request-1", "nightly", spec).await;
    fake.shows(DM, "done-and-told").await;
}
