//! What `fly.toml` and the `Dockerfile` promise, held against a real server: the public service
//! reaches the public listener and nothing else, both kinds of addresses are heard, and who takes
//! the server down leaves the sprites at work.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/server.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod server;
#[path = "support/stage_of_chat.rs"]
#[expect(dead_code, reason = "the fake of Teams names it, and no scene is played here")]
mod stage_of_chat;
#[path = "support/teams/mod.rs"]
#[expect(dead_code, reason = "the tests of Teams use the rest of it")]
mod teams;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use open_dispatch::ambient::{Clock as _, SystemClock};
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use server::World;
use teams::Fake;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn fly_toml() -> toml::Table {
    file("fly.toml").parse().unwrap()
}

fn env(fly: &toml::Table, name: &str) -> String {
    fly["env"][name].as_str().unwrap().to_owned()
}

fn port_of(address: &str) -> i64 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Every port that a service makes reachable from the internet.
fn public_ports(fly: &toml::Table) -> Vec<i64> {
    let services = fly.get("services").and_then(toml::Value::as_array);
    let all = services.into_iter().flatten().chain(fly.get("http_service"));
    all.map(|service| service["internal_port"].as_integer().unwrap()).collect()
}

#[test]
fn the_public_service_names_the_public_listener_and_never_the_private_one() {
    let fly = fly_toml();
    let public: i64 = env(&fly, "PORT").parse().unwrap();
    let private = port_of(&env(&fly, "OPEN_DISPATCH_LISTEN"));
    assert_ne!(public, private);
    assert_eq!(public_ports(&fly), [public]);
    // From within Fly, over IPv6 as over IPv4.
    assert!(env(&fly, "OPEN_DISPATCH_LISTEN").starts_with("[::]:"));
    let alive = &fly["checks"]["alive"];
    assert_eq!(alive["port"].as_integer(), Some(private));
    assert_eq!(alive["path"].as_str(), Some("/health"));
    let ready = &fly["checks"]["ready"];
    assert_eq!(ready["port"].as_integer(), Some(private));
    assert_eq!(ready["path"].as_str(), Some("/ready"));
    // What Fly restarts a machine for is no check of it; it only shows.
    assert!(fly["http_service"].get("checks").is_none());
}

#[test]
fn one_machine_keeps_its_store_on_the_volume_and_is_asked_to_end() {
    let fly = fly_toml();
    let volume = fly["mounts"]["destination"].as_str().unwrap();
    assert!(Path::new(&env(&fly, "OPEN_DISPATCH_DATA")).starts_with(volume));
    assert_eq!(fly["deploy"]["strategy"].as_str(), Some("immediate"));
    assert_eq!(fly["http_service"]["auto_stop_machines"].as_str(), Some("off"));
    assert_eq!(fly["http_service"]["min_machines_running"].as_integer(), Some(1));
    assert_eq!(fly["kill_signal"].as_str(), Some("SIGTERM"));
    let grace = fly["kill_timeout"].as_str().unwrap().strip_suffix('s').unwrap();
    // The engine may take 20 s to end what it is at, and a chat platform 8.
    assert!(grace.parse::<u64>().unwrap() > 28, "{grace}");
}

#[test]
fn the_image_and_fly_toml_say_the_same() {
    let (fly, docker) = (fly_toml(), file("Dockerfile"));
    for name in ["OPEN_DISPATCH_DATA", "OPEN_DISPATCH_LISTEN", "PORT"] {
        let line = format!("{name}={}", env(&fly, name));
        assert!(docker.contains(&line), "the Dockerfile lacks {line}");
    }
    for (needed, why) in [
        ("ca-certificates", "for TLS"),
        (" git ", "for the sprites on the server's own machine, and for sources"),
        ("VOLUME /data", "for the store"),
        ("STOPSIGNAL SIGTERM", "for a graceful end"),
        (r#"CMD ["serve"]"#, "for the server"),
    ] {
        assert!(docker.contains(needed), "{needed} is missing, {why}");
    }
    for line in docker.lines().filter(|line| line.starts_with("FROM ")) {
        let image = line.split_whitespace().nth(1).unwrap();
        let tag = image.split_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{line} is not pinned");
    }
    let ignored = file(".dockerignore");
    assert!(ignored.lines().any(|line| line == ".env"), "a .env must not be in a layer");
}

/// A server as `fly.toml` starts it, with ports and places of its own.
struct Deployed {
    world: World,
    child: Child,
    /// The port of the private listener.
    port: u16,
}

impl Deployed {
    /// Starts it on a world's data directory; `more` goes before what `fly.toml` says.
    fn start(world: World, more: &[(String, String)]) -> Self {
        let fly = fly_toml();
        let mut command = world.command(&["serve"]);
        for (name, value) in fly["env"].as_table().unwrap() {
            let value = value.as_str().unwrap();
            match name.as_str() {
                "OPEN_DISPATCH_DATA" => &mut command,
                "OPEN_DISPATCH_LISTEN" => command.env(name, value.replace(":8080", ":0")),
                "PORT" => command.env(name, "0"),
                _ => command.env(name, value),
            };
        }
        command.envs(more.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it ended:\n{}", said.join("\n")) };
            if let Some(rest) = line.strip_prefix("server at ") {
                break rest.split(';').next().unwrap().to_owned();
            }
            said.push(line);
        };
        std::thread::spawn(move || lines.for_each(drop));
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Self { world, child, port }
    }

    fn token(&self) -> String {
        fs::read_to_string(self.world.data().join("token")).unwrap().trim().to_owned()
    }

    /// Ends it as Fly does; answers with its exit code and how long that took.
    fn end(mut self) -> (World, Option<i32>, Duration) {
        let from = SystemClock.elapsed();
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        let world = std::mem::replace(&mut self.world, World::empty());
        (world, code, SystemClock.elapsed().saturating_sub(from))
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

/// What the private listener answers and the public one must not.
const PRIVATE: [(&str, &str); 16] = [
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/apis"),
    ("GET", "/apis/opendispatch.dev/v1alpha1/agents"),
    ("POST", "/apis/opendispatch.dev/v1alpha1/jobs"),
    ("GET", "/apis/opendispatch.dev/v1alpha1/secrets"),
    ("POST", "/webhooks/claim"),
    ("POST", "/webhooks/events"),
    ("GET", "/webhooks/inbox"),
    ("POST", "/webhooks/logs"),
    ("POST", "/webhooks/status"),
    ("POST", "/webhooks/artifacts"),
    ("POST", "/webhooks/files"),
    ("POST", "/files"),
];

/// What the public listener must not answer, whether there is such a thing or not.
const NOWHERE: [(&str, &str); 5] = [
    ("POST", "/webhooks/anything"),
    ("GET", "/openapi/v3"),
    ("GET", "/console/stream"),
    ("GET", "/inbox"),
    ("GET", "/healthz"),
];

#[tokio::test]
async fn the_public_listener_answers_teams_and_nothing_else_not_even_with_the_token() {
    let teams = Fake::start().await;
    let more = teams.environment();
    let deployed =
        tokio::task::spawn_blocking(move || Deployed::start(World::empty(), &more)).await.unwrap();
    let (http, token) = (http(), deployed.token());
    let ask = async |port: u16, method: &str, path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        let asked = http.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        let asked = asked.bearer_auth(&token).header("content-type", "application/json");
        asked.body("{}").send().await.map(|answer| answer.status())
    };
    let public = teams.bot.port();
    teams
        .until("the public listener is there", async || ask(public, "GET", "/").await.is_ok())
        .await;
    for (method, path) in PRIVATE {
        let private = ask(deployed.port, method, path).await.unwrap();
        assert_ne!(private, StatusCode::NOT_FOUND, "{method} {path} is nothing at all");
    }
    for (method, path) in PRIVATE.into_iter().chain(NOWHERE) {
        let answer = ask(public, method, path).await.unwrap();
        assert_eq!(answer, StatusCode::NOT_FOUND, "{method} {path} is public");
    }
    // It is there for Teams, and refuses who is not: our own token means nothing to it.
    let stranger = ask(public, "POST", "/api/messages").await.unwrap();
    assert!(matches!(stranger.as_u16(), 401 | 403), "{stranger}");
    let (status, _) = teams.deliver(&teams.said("Ada", "a:1", "od-help")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn both_kinds_of_addresses_are_heard_on_the_private_listener() {
    let more = [("CHAT_PROVIDER".to_owned(), "none".to_owned())];
    let deployed =
        tokio::task::spawn_blocking(move || Deployed::start(World::empty(), &more)).await.unwrap();
    for host in ["127.0.0.1", "[::1]"] {
        let url = format!("http://{host}:{}/health", deployed.port);
        assert_eq!(http().get(&url).send().await.unwrap().status(), StatusCode::OK, "{url}");
    }
}

#[test]
fn who_takes_the_server_down_leaves_the_sprites_at_work_for_the_next_one() {
    let none = [("CHAT_PROVIDER".to_owned(), "none".to_owned())];
    let deployed = Deployed::start(World::empty(), &none);
    let go = deployed.world.work().join("go");
    let task = "echo before; until test -e go; do sleep 0.1; done; echo after";
    let made = deployed.world.od(&["run", "--name", "long", task]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let begun = || deployed.world.od(&["logs", "job/long"]).text().contains("before");
    // Each look is a process of its own, which takes a while.
    assert!((0..500).any(|_| begun()), "the job did not begin");
    let (world, code, took) = deployed.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(30), "it took {took:?}");
    fs::write(go, "").unwrap();
    let next = Deployed::start(world, &none);
    let followed = next.world.od(&["logs", "-f", "job/long"]);
    assert_eq!(followed.text(), "before\nafter\n", "{}", followed.stderr);
}

#[test]
fn the_entrypoint_hands_the_volume_over_and_then_is_the_server() {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = tempfile::tempdir().unwrap();
    let fake = |name: &str, text: &str| {
        let path = bin.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    fake("id", "echo $WHO");
    for name in ["install", "setpriv", "open-dispatch"] {
        fake(name, &format!("echo {name} \"$@\""));
    }
    let said = |who: &str| {
        let entrypoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/entrypoint");
        let output = std::process::Command::new(entrypoint)
            .args(["serve", "--chat", "slack, teams"])
            .env_clear()
            .env("PATH", bin.path())
            .env("WHO", who)
            .env("HOME", "/data/home")
            .env("OPEN_DISPATCH_DATA", "/data/server")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said("10001"), "open-dispatch serve --chat slack, teams\n");
    insta::assert_snapshot!(said("0"));
}

#[test]
fn a_server_that_is_configured_by_half_does_not_start_and_names_all_that_is_missing() {
    let world = World::empty();
    let output = world
        .command(&["serve", "--listen", "0"])
        .env("FLY_API_TOKEN", "FlyV1 fm2_hush")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_ne!(output.status.code(), Some(0));
    for name in ["FLY_SPRITE_APP", "SPRITE_IMAGE"] {
        assert!(said.contains(name), "{said}");
    }
    assert!(!said.contains("hush"), "{said}");
    assert!(!world.data().join("token").exists(), "it left something behind");
}

#[test]
fn a_machine_is_refused_where_there_are_none_and_from_an_image_that_nobody_knows() {
    let none = ("CHAT_PROVIDER".to_owned(), "none".to_owned());
    let bare = Deployed::start(World::empty(), std::slice::from_ref(&none));
    let refused = bare.world.od(&["run", "--runtime", "fly", "--agent", "command", "true"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("needs Fly Machines"), "{}", refused.stderr);
    drop(bare);
    let said = [
        ("FLY_API_TOKEN", "fm2_hush"),
        ("FLY_SPRITE_APP", "my-sprites"),
        ("SPRITE_IMAGES", r#"{"node": "registry.fly.io/my-sprites/node:v1"}"#),
        ("OPEN_DISPATCH_ALLOWED_IMAGES", "registry.fly.io/my-sprites/"),
        // Nobody is there: what is refused is refused before anybody is asked.
        ("FLY_FLAPS_BASE_URL", "http://127.0.0.1:9"),
    ];
    let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let fly = Deployed::start(World::empty(), &[&said[..], &[none]].concat());
    for (image, mend) in [
        ("nod", "did you mean node?"),
        ("ghcr.io/me/agent:v1", "is not allowed on this server"),
        ("https://ghcr.io/me", "is no image"),
    ] {
        let refused = fly.world.od(&["run", "--image", image, "--agent", "command", "true"]);
        assert_ne!(refused.code, 0, "{image}");
        assert!(refused.stderr.contains(mend), "{image}: {}", refused.stderr);
    }
    assert_eq!(fly.world.od(&["get", "jobs", "-o", "name"]).text(), "");
}
