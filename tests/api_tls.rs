//! Promise: the server speaks TLS on the port where it speaks HTTP, by an authority that stays, and
//! what `kubeconfig` writes is enough to come in; nothing in the clear is lost by it.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::Value;
use server::{World, mode};

/// A kubeconfig's server, authority and token.
struct Known {
    server: String,
    authority: Vec<u8>,
    token: String,
}

fn kubeconfig(world: &World, args: &[&str]) -> Known {
    let outcome = world.od(&[&["kubeconfig"], args].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let whole: Value = serde_saphyr::from_str(&outcome.text()).unwrap();
    let text = |pointer: &str| whole.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    Known {
        server: text("/clusters/0/cluster/server"),
        authority: STANDARD.decode(text("/clusters/0/cluster/certificate-authority-data")).unwrap(),
        token: text("/users/0/user/token"),
    }
}

fn client(authority: &[u8]) -> Client {
    Client::builder()
        .tls_certs_only([Certificate::from_pem(authority).unwrap()])
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

async fn jobs(known: &Known, server: &str) -> Result<StatusCode, reqwest::Error> {
    let url = format!("{server}/apis/opendispatch.dev/v1alpha1/jobs");
    let asked = client(&known.authority).get(url).bearer_auth(&known.token).send().await?;
    Ok(asked.status())
}

fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[tokio::test]
async fn what_kubeconfig_writes_opens_the_api_also_after_a_restart() {
    provider();
    let mut world = World::new();
    let known = kubeconfig(&world, &["--name", "ci", "--role", "viewer"]);
    assert!(known.server.starts_with("https://127.0.0.1:"), "{}", known.server);
    assert_eq!(jobs(&known, &known.server).await.unwrap(), StatusCode::OK);
    let here = known.server.replace("127.0.0.1", "localhost");
    assert_eq!(jobs(&known, &here).await.unwrap(), StatusCode::OK);
    assert_eq!(mode(&world.data().join("tls")), 0o700);
    assert_eq!(mode(&world.data().join("tls/ca.key")), 0o600);

    world.kill_server();
    world.serve(&[]);
    let again = kubeconfig(&world, &["--name", "other", "--role", "viewer"]);
    assert_eq!(again.authority, known.authority, "the authority stays");
    assert_eq!(jobs(&known, &again.server).await.unwrap(), StatusCode::OK);
    assert_eq!(world.od(&["token", "revoke", "ci"]).text(), "token/ci revoked\n");
    assert_eq!(jobs(&known, &again.server).await.unwrap(), StatusCode::UNAUTHORIZED);
}

#[test]
fn a_token_that_a_shell_writes_where_others_can_read_it_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    provider();
    let world = World::new();
    for (n, (mode, warned)) in
        [(0o644, true), (0o640, true), (0o600, false)].into_iter().enumerate()
    {
        let path = world.work().join(format!("config-{n}"));
        let file = std::fs::File::create(&path).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = world.command(&["kubeconfig", "--name", &format!("c{n}")]);
        let output = command.stdout(file).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert_eq!(told.contains(&format!("(mode {mode:04o})")), warned, "{mode:o}: {told}");
        assert_eq!(told.contains("--file FILE"), warned, "{told}");
    }
}

#[tokio::test]
async fn another_authority_is_not_trusted_and_a_further_name_is() {
    provider();
    let mut world = World::empty();
    world.serve(&["--tls-names", "127.0.0.2,dispatch.example.org"]);
    let known = kubeconfig(&world, &[]);
    let stranger = World::new();
    let theirs = kubeconfig(&stranger, &[]);
    let foreign = Known { authority: theirs.authority, ..kubeconfig(&world, &["--name", "x"]) };
    assert!(jobs(&foreign, &foreign.server).await.unwrap_err().is_connect());
    // A name that is not this machine's, at the address that is.
    let address = known.server.trim_start_matches("https://").parse().unwrap();
    let client = Client::builder()
        .tls_certs_only([Certificate::from_pem(&known.authority).unwrap()])
        .resolve("dispatch.example.org", address)
        .resolve("other.example.org", address)
        .no_proxy()
        .build()
        .unwrap();
    let ask = |host: &str| client.get(format!("https://{host}:{}/health", address.port())).send();
    assert_eq!(ask("dispatch.example.org").await.unwrap().status(), StatusCode::OK);
    assert!(ask("other.example.org").await.unwrap_err().is_connect());
    let warned = world.od(&["kubeconfig", "--name", "y", "--address", "https://other.example.org"]);
    assert!(warned.stderr.contains("--tls-names other.example.org"), "{}", warned.stderr);
}

#[test]
fn bytes_that_are_neither_language_take_nothing_from_others() {
    let world = World::new();
    let endpoint = std::fs::read_to_string(world.data().join("endpoint")).unwrap();
    let address = endpoint.trim().replace("http://", "");
    let tell = |bytes: &[u8], hang_up: bool| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(bytes).unwrap();
        if hang_up {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    let silent = TcpStream::connect(&address).unwrap();
    tell(b"", true);
    tell(&[22], true);
    tell(&[22; 4096], true);
    tell(&[0; 64], true);
    let health = tell(b"GET /health HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n", false);
    assert!(health.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&health));
    drop(silent);
}

#[test]
fn a_server_that_stops_does_not_wait_for_whoever_says_nothing() {
    let mut world = World::new();
    let endpoint = std::fs::read_to_string(world.data().join("endpoint")).unwrap();
    let address = endpoint.trim().replace("http://", "");
    let silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut greeting = TcpStream::connect(&address).unwrap();
    greeting.write_all(&[22]).unwrap();
    #[expect(clippy::disallowed_methods, reason = "how long the real server takes")]
    let begun = std::time::Instant::now();
    assert_eq!(world.stop_server(rustix::process::Signal::TERM), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop((silent, greeting));
}

#[test]
fn a_kubeconfig_is_merged_into_the_file_that_is_there_and_a_bad_one_makes_no_token() {
    let world = World::new();
    world.write("config", "kind: Config\napiVersion: v1\nusers: [{name: me, user: {token: t}}]\n");
    let merged = world.od(&["kubeconfig", "--file", "config", "--name", "ci"]);
    assert_eq!((merged.code, merged.text().as_str()), (0, ""), "{}", merged.stderr);
    let text = std::fs::read_to_string(world.work().join("config")).unwrap();
    let whole: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(whole["users"][0]["name"], "me");
    assert_eq!(whole["users"][1]["name"], "open-dispatch-ci");
    let taken = world.od(&["kubeconfig", "--file", "config", "--name", "ci"]);
    assert!(taken.code == 1 && taken.stderr.contains("--replace"), "{}", taken.stderr);
    let replaced = world.od(&["kubeconfig", "--file", "config", "--name", "ci", "--replace"]);
    assert_eq!(replaced.code, 0, "{}", replaced.stderr);

    world.write("pod", "kind: Pod\n");
    let bad = world.od(&["kubeconfig", "--file", "pod", "--name", "untold"]);
    assert!(bad.code == 1 && bad.stderr.contains("no kubeconfig"), "{}", bad.stderr);
    assert!(!world.od(&["token", "list"]).text().contains("untold"));
    let beside = world.od(&["kubeconfig", "--address", "http://a"]);
    assert_eq!(beside.code, 2, "{}", beside.stderr);
}

#[test]
fn tokens_are_made_listed_and_revoked_on_the_command_line() {
    let world = World::new();
    assert_eq!(world.od(&["token", "list"]).text(), "");
    let made = world.od(&["token", "create", "ci", "--role", "viewer", "--expires", "90d"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let secret = made.text().trim().to_owned();
    assert!(secret.starts_with("odt_") && !made.stderr.contains(&secret));
    let list = world.od(&["token", "list"]).text();
    assert!(list.contains("ci") && list.contains("viewer") && !list.contains(&secret), "{list}");

    let endpoint = std::fs::read_to_string(world.data().join("endpoint")).unwrap();
    let by_token = |args: &[&str]| {
        let mut command = world.command(args);
        command.args(["--server", endpoint.trim()]).env("OPEN_DISPATCH_TOKEN", &secret);
        command.env_remove("OPEN_DISPATCH_DATA");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(by_token(&["get", "jobs"]).0, Some(0));
    // And by https, where the authority is named.
    let https = endpoint.trim().replace("http://", "https://");
    let by_https = |authority: &str| {
        let mut command = world.command(&["get", "jobs", "--server", &https]);
        command.env("OPEN_DISPATCH_TOKEN", &secret).env_remove("OPEN_DISPATCH_DATA");
        command.env("OPEN_DISPATCH_CA", authority);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let authority = world.data().join("tls/ca.crt").display().to_string();
    assert_eq!(by_https(&authority).0, Some(0), "{:?}", by_https(&authority));
    assert_eq!(by_https("").0, Some(1), "nobody else vouches for it");
    world.write("empty", "");
    let (code, told) = by_https("empty");
    assert!(code == Some(2) && told.contains("tls/ca.crt"), "{told}");
    let (code, told) = by_token(&["delete", "job/x"]);
    assert!(code == Some(1) && told.contains("token \"ci\" has the role viewer"), "{told}");
    assert_eq!(world.od(&["token", "revoke", "ci"]).code, 0);
    let again = world.od(&["token", "revoke", "ci"]);
    assert!(again.code == 1 && again.stderr.contains("no token \"ci\""), "{}", again.stderr);
    let (code, told) = by_token(&["get", "jobs"]);
    assert!(code == Some(1) && told.contains("none that this server knows"), "{told}");
    let audit = world.od(&["access", "audit"]).text();
    assert!(audit.contains("token create ci viewer until "), "{audit}");
    assert!(audit.contains("token revoke ci viewer"), "{audit}");
}
