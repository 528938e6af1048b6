//! Our fake of Teams, and our verdicts on who may come in, held against Microsoft's own packages
//! (`botbuilder` and `botframework-connector`, pinned in tests/agents).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/acp_binary.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod acp_binary;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]
mod live;
#[path = "support/stage_of_chat.rs"]
#[expect(dead_code, reason = "the conformance suite uses all of it")]
mod stage_of_chat;
#[path = "support/teams/mod.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod teams;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use open_dispatch::{
    ambient::Ambient,
    chat::{
        Commands, Settings,
        ear::Ear as _,
        teams::{Settings as TeamsSettings, Teams},
    },
    store::{Store, files::Files, memory::MemoryStore},
};
use serde_json::{Value, json};
use teams::{
    APP_ID, Fake, PASSWORD, TENANT,
    jwt::{Signer, Token},
};
use tokio_util::sync::CancellationToken;

/// What each case's token is, by name.
fn cases(url: &str) -> Vec<(&'static str, Option<String>)> {
    let good = || Token::good(url);
    let header = |name: &str, value: &str| {
        let mut token = good();
        token.header[name] = value.into();
        token.sign()
    };
    let other = "https://smba.trafficmanager.net/emea/";
    vec![
        ("valid", Some(good().sign())),
        ("no header", None),
        ("wrong audience", Some(good().claim("aud", "another-app").sign())),
        ("wrong issuer", Some(good().claim("iss", "https://example.org/").sign())),
        ("wrong key", Some(Token { signer: Signer::Stranger, ..good() }.sign())),
        ("unknown key", Some(header("kid", "made-up"))),
        ("HS256", Some(header("alg", "HS256"))),
        ("service URL differs", Some(good().claim("serviceurl", other).sign())),
        ("service URL absent", Some(good().claim("serviceurl", Value::Null).sign())),
        ("expired 4 minutes ago", Some(good().expired(240).sign())),
        ("expired 6 minutes ago", Some(good().expired(360).sign())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn microsofts_own_validator_and_client_agree_with_ours() {
    let Some(command) = acp_binary::agent("botbuilder/package.json") else { return };
    let fake = Fake::start().await;
    let ours = ours(&fake).await;
    let input = json!({
        "modules": command[1],
        "appId": APP_ID,
        "password": PASSWORD,
        "tenant": TENANT,
        "login": format!("http://{}/login", fake.address),
        "openid": format!("http://{}/openid", fake.address),
        "serviceUrl": fake.service_url().trim_end_matches('/'),
        "cases": cases(&fake.service_url()).into_iter().map(|(name, token)| json!({
            "name": name,
            "header": token.map(|token| format!("Bearer {token}")),
            "activity": fake.said("Ada", "a:1", "hello"),
        })).collect::<Vec<_>>(),
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/teams/certify.mjs");
    let told = tokio::task::spawn_blocking(move || {
        let mut node = Command::new(&command[0])
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        node.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
        node.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let theirs: BTreeMap<String, String> =
        serde_json::from_value(told["verdicts"].clone()).unwrap();
    assert_eq!(ours, theirs, "{told:#}");
    assert!(fake.state().keys >= 2, "both asked this fake for its keys");
    let shown = fake.shown("19:certified@thread.v2");
    assert_eq!((shown.len(), shown[0].text.as_str()), (1, "edited"), "{shown:?}");
    assert_eq!(
        (&told["posted"], &told["edited"]),
        (&shown[0].id.clone().into(), &shown[0].id.clone().into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn microsofts_own_packages_in_the_channels_role_talk_with_our_server() {
    let Some(command) = acp_binary::agent("botbuilder/package.json") else { return };
    let fake = Fake::start().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/teams/channel.mjs");
    let mut node = Command::new(&command[0])
        .arg(script)
        .arg(&command[1])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = BufReader::new(node.stdout.take().unwrap()).lines();
    let first = says.next().expect("the channel says where it is").unwrap();
    let url = serde_json::from_str::<Value>(&first).unwrap()["serviceUrl"].clone();
    let url = url.as_str().unwrap().to_owned();
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let channel = url.trim_end_matches("/connector/");
    let environment: Vec<_> = fake
        .environment()
        .into_iter()
        .map(|(name, value)| match name.as_str() {
            "TEAMS_SERVICE_HOSTS" => (name, format!("{value},{channel}")),
            _ => (name, value),
        })
        .collect();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let server = live::Live::start(&data, &[], &environment).await;
    let mut install = fake.said("Ada", "a:1-with-ada", "");
    install["type"] = "conversationUpdate".into();
    let mut fetch = fake.said("Ada", "a:1-with-ada", "");
    (fetch["type"], fetch["name"]) = ("invoke".into(), "task/fetch".into());
    let input = json!({
        "bot": format!("http://{}/api/messages", fake.bot),
        "token": Token::good(&url).sign(),
        "bearer": "first-token",
        "activities": [
            install,
            fake.said("Ada", "a:1-with-ada", "/od-help"),
            fake.said("Ada", "19:general@thread.tacv2;messageid=169", "od-help"),
            fake.said("Ada", "19:some@thread.v2", "od-list"),
            fetch,
        ],
    });
    writeln!(node.stdin.take().unwrap(), "{input}").unwrap();
    let last = tokio::task::spawn_blocking(move || {
        let last = says.next();
        assert!(node.wait().unwrap().success());
        last
    });
    let last = tokio::time::timeout(teams::PATIENCE, last).await;
    let last = last.unwrap_or_else(|_| panic!("the channel heard nothing: {}", server.log()));
    let told: Value = serde_json::from_str(&last.unwrap().unwrap().unwrap()).unwrap();
    let statuses: Vec<_> = told["answers"].as_array().unwrap().iter().collect();
    let statuses: Vec<_> = statuses.iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 501], "{told:#}");
    assert_eq!(told["refused"], json!([]), "our bearer is what the log-in gave");
    let shown = told["shown"].as_array().unwrap();
    let of = |place: &str| {
        let here: Vec<_> = shown.iter().filter(|it| it["conversation"] == place).collect();
        assert_eq!(here.len(), 1, "{told:#}");
        here[0].clone()
    };
    let alone = of("a:1-with-ada");
    assert_eq!(alone["kinds"], json!(["informative", "final"]), "{alone:#}");
    assert!(alone["text"].as_str().unwrap().contains("od-run"), "{alone:#}");
    assert_eq!(alone["from"], format!("28:{APP_ID}"));
    let thread = of("19:general@thread.tacv2;messageid=169");
    assert_eq!(thread["kinds"], json!(["message", "edit"]), "{thread:#}");
    assert!(thread["replyToId"].is_string(), "{thread:#}");
    assert!(of("19:some@thread.v2")["text"].as_str().unwrap().contains("no agents"), "{told:#}");
    assert!(fake.state().tokens > 0, "the fake was asked, and nobody else");
    assert_eq!(fake.state().posts, 0, "the answers went to Microsoft's own service");
}

/// Our verdicts, at the door.
async fn ours(fake: &Fake) -> BTreeMap<String, String> {
    let store: Arc<dyn Store> = MemoryStore::new();
    let ambient = Ambient::real();
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
    let settings = TeamsSettings::from_environment(&fake.environment()).unwrap();
    let teams = Teams::new(settings, Arc::clone(&store), files, ambient.clone()).unwrap();
    let commands = Arc::new(Commands::new(store, ambient, Settings::default()));
    let stop = CancellationToken::new();
    let listening = tokio::spawn(teams.listen(commands, stop.clone()));
    fake.until("the door opens", async || fake.deliver_with(&json!({}), None).await.0 == 401).await;
    let mut verdicts = BTreeMap::new();
    for (name, token) in cases(&fake.service_url()) {
        let activity = fake.said("Ada", "a:1", "hello");
        let status = fake.deliver_with(&activity, token.as_deref()).await.0;
        let verdict = if status == 200 { "taken" } else { "refused" };
        verdicts.insert(name.to_owned(), verdict.to_owned());
    }
    stop.cancel();
    listening.await.unwrap();
    verdicts
}
