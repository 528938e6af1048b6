//! Promise: `doctor` finds what is wrong with the tokens by asking where the settings say, tells the
//! mend, and shows no token to anybody else.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

/// What every token of these tests contains.
const HUSH: &str = "hush";

/// The three platforms in one place: what they were asked, and whether they like the tokens.
#[derive(Clone)]
struct Platforms {
    likes: bool,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Platforms {
    async fn start(likes: bool) -> (Self, SocketAddr) {
        let platforms = Self { likes, asked: Arc::default() };
        let router = Router::new().fallback(answer).with_state(platforms.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (platforms, address)
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

async fn answer(State(platforms): State<Platforms>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let sort = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let shown = sort(request.headers(), header::AUTHORIZATION);
    let body = axum::body::to_bytes(request.into_body(), 64 * 1024).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    platforms.asked.lock().unwrap().push(format!("{path} {shown} {body}").trim().to_owned());
    let likes = platforms.likes;
    let (code, body) = match path.as_str() {
        "/slack/auth.test" if likes => {
            let body = json!({"ok": true, "user": "dispatch", "team": "Acme"});
            let scopes = open_dispatch::chat::slack::manifest::SCOPES.join(",");
            return ([("x-oauth-scopes", scopes)], Json(body)).into_response();
        }
        "/slack/apps.connections.open" if likes => (StatusCode::OK, json!({"ok": true})),
        "/discord/v10/applications/@me" if likes => {
            (StatusCode::OK, json!({"id": "456", "name": "dispatch", "flags": 1 << 18}))
        }
        "/login/the-tenant/oauth2/v2.0/token" if likes => {
            (StatusCode::OK, json!({"access_token": "hush"}))
        }
        "/fly/v1/apps/my-sprites" if likes => {
            (StatusCode::OK, json!({"name": "my-sprites", "organization": {"slug": "acme"}}))
        }
        "/fly/v1/apps/nobodys" if likes => {
            (StatusCode::NOT_FOUND, json!({"error": "app not found"}))
        }
        path if path.starts_with("/fly/") => {
            let said = "Authenticate: token validation error";
            (StatusCode::UNAUTHORIZED, json!({"error": said}))
        }
        path if path.starts_with("/slack/") => {
            (StatusCode::OK, json!({"ok": false, "error": "invalid_auth"}))
        }
        path if path.starts_with("/discord/") => (StatusCode::UNAUTHORIZED, json!({})),
        _ => {
            let said = "AADSTS7000215: Invalid client secret provided.";
            (StatusCode::UNAUTHORIZED, json!({"error_description": said}))
        }
    };
    (code, Json(body)).into_response()
}

fn variables(address: SocketAddr) -> BTreeMap<&'static str, String> {
    let own = |(name, value): (&'static str, &str)| (name, value.to_owned());
    let mut variables: BTreeMap<&str, String> = [
        ("CHAT_PROVIDER", "slack,discord,teams"),
        ("SLACK_BOT_TOKEN", "xoxb-hush-1"),
        ("SLACK_APP_TOKEN", "xapp-hush-2"),
        ("DISCORD_BOT_TOKEN", "hush-3"),
        ("DISCORD_CLIENT_ID", "456"),
        ("MICROSOFT_APP_ID", "the-app"),
        ("MICROSOFT_APP_PASSWORD", "hush-4"),
        ("MICROSOFT_APP_TENANT_ID", "the-tenant"),
        ("OPEN_DISPATCH_ADMINS", "slack:U1"),
    ]
    .map(own)
    .into();
    variables.insert("SLACK_API_URL", format!("http://{address}/slack/"));
    variables.insert("DISCORD_API_URL", format!("http://{address}/discord"));
    variables.insert("TEAMS_LOGIN_URL", format!("http://{address}/login"));
    variables
}

/// Runs doctor; answers with its exit code, and its checks by name as `state: found; mend`.
async fn doctor(
    root: &Path,
    variables: BTreeMap<&'static str, String>,
) -> (i32, BTreeMap<String, String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_open-dispatch"));
    command
        .args(["doctor", "-o", "json", "--data"])
        .arg(root.join("data"))
        .current_dir(root)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", root)
        .env("OPEN_DISPATCH_LISTEN", "127.0.0.1:0")
        .envs(variables)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), &output.stderr);
    assert!(!said.contains(HUSH) && !String::from_utf8_lossy(told).contains(HUSH), "{said}");
    let checks: Vec<Value> = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(told));
    });
    let text = |check: &Value, member: &str| check[member].as_str().unwrap_or("").to_owned();
    let line = |check: &Value| {
        let told = ["state", "found", "mend"].map(|member| text(check, member));
        (text(check, "name"), format!("{}: {}; {}", told[0], told[1], told[2]))
    };
    (output.status.code().unwrap(), checks.iter().map(line).collect())
}

const BOTS: [&str; 4] = ["slack bot", "slack app", "discord bot", "teams bot"];

fn of_bots(checks: &BTreeMap<String, String>) -> String {
    BOTS.iter().map(|name| format!("{name}: {}\n", checks[*name])).collect()
}

#[tokio::test]
async fn good_tokens_are_asked_once_each_where_the_settings_say() {
    let root = tempfile::tempdir().unwrap();
    let (platforms, address) = Platforms::start(true).await;
    let (code, checks) = doctor(root.path(), variables(address)).await;
    insta::assert_snapshot!("asked", platforms.asked().join("\n"));
    insta::assert_snapshot!("good_tokens", of_bots(&checks));
    for here in ["data directory", "port", "git", "settings"] {
        assert!(checks[here].starts_with("ok"), "{here}: {}", checks[here]);
    }
    assert!(checks["server"].starts_with("note"), "{}", checks["server"]);
    let fails: Vec<_> = checks.iter().filter(|(_, line)| line.starts_with("fails")).collect();
    assert_eq!(code, i32::from(!fails.is_empty()), "{fails:?}");
}

#[tokio::test]
async fn bad_tokens_are_told_with_the_mend() {
    let root = tempfile::tempdir().unwrap();
    let (platforms, address) = Platforms::start(false).await;
    let (code, checks) = doctor(root.path(), variables(address)).await;
    assert_eq!(platforms.asked().len(), 4);
    assert_eq!(code, 1);
    insta::assert_snapshot!(of_bots(&checks));
}

#[tokio::test]
async fn tokens_that_are_missing_or_of_another_kind_are_shown_to_nobody() {
    let root = tempfile::tempdir().unwrap();
    let (platforms, address) = Platforms::start(true).await;
    let mut variables = variables(address);
    variables.insert("SLACK_BOT_TOKEN", "xapp-hush".to_owned());
    variables.remove("SLACK_APP_TOKEN");
    variables.insert("DISCORD_BOT_TOKEN", "Bot hush".to_owned());
    // Not by TLS, and not on this machine.
    variables.insert("TEAMS_LOGIN_URL", "http://login.example".to_owned());
    let (code, checks) = doctor(root.path(), variables).await;
    assert_eq!(code, 1);
    assert_eq!(platforms.asked(), Vec::<String>::new());
    insta::assert_snapshot!(of_bots(&checks));
}

#[tokio::test]
async fn a_platform_that_does_not_answer_and_settings_that_cannot_be_read_are_told() {
    let root = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, checks) = doctor(root.path(), variables(nobody)).await;
    assert_eq!(code, 1);
    assert!(checks["slack bot"].contains("cannot be reached"), "{}", checks["slack bot"]);
    let bad = [("CHAT_PROVIDER", "slak".to_owned())].into();
    let (code, checks) = doctor(root.path(), bad).await;
    assert_eq!((code, checks.len()), (1, 1));
    assert!(checks["settings"].contains("slak"), "{}", checks["settings"]);
}

#[tokio::test]
async fn of_machines_it_is_told_whether_the_token_opens_the_app_and_nobody_sees_it() {
    let root = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for (likes, app) in [(true, "my-sprites"), (true, "nobodys"), (false, "my-sprites")] {
        let (platforms, address) = Platforms::start(likes).await;
        let variables = [
            ("FLY_API_TOKEN", "FlyV1 fm2_hush".to_owned()),
            ("FLY_SPRITE_APP", app.to_owned()),
            ("SPRITE_IMAGE", "registry.fly.io/my-sprites/agent:v1".to_owned()),
            ("FLY_FLAPS_BASE_URL", format!("http://{address}/fly")),
        ];
        let (_, checks) = doctor(root.path(), variables.into()).await;
        let asked = platforms.asked();
        assert_eq!(asked, [format!("/fly/v1/apps/{app} FlyV1 fm2_hush")]);
        let fly = checks.iter().filter(|(name, _)| name.starts_with("fly"));
        told.extend(fly.map(|(name, line)| format!("{name}: {line}")));
    }
    let told = told.join("\n");
    assert!(!told.contains(HUSH), "{told}");
    insta::assert_snapshot!(told);
}
