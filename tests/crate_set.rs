//! The crates of rooms that are not built yet fit together with those of the rooms that are.
//!
//! Three of them speak TLS: slack-morphism, serenity and reqwest. If two crypto providers were
//! built into rustls, the first connection would panic, so ring must be the only one.

use std::process::Command;

use serde_json::Value;

/// What `cargo` says about the tree with all features.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--all-features"])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

#[test]
fn ring_is_the_only_crypto_provider_in_the_tree() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a list of nodes");
    // The list of packages knows more than is built; the nodes are what is.
    let name = |id: &Value| {
        packages
            .iter()
            .find(|package| package["id"] == *id)
            .map_or("", |package| package["name"].as_str().unwrap_or_default())
    };
    let names: Vec<&str> = nodes.iter().map(|node| name(&node["id"])).collect();
    for banned in ["aws-lc-rs", "aws-lc-sys", "aws-lc-fips-sys", "openssl-sys", "native-tls"] {
        assert!(!names.contains(&banned), "{banned} is in the tree");
    }
    assert!(names.contains(&"ring"));

    let rustls: Vec<&Value> = nodes.iter().filter(|node| name(&node["id"]) == "rustls").collect();
    assert!(!rustls.is_empty());
    for node in rustls {
        let features = node["features"].as_array().expect("a list of features");
        assert!(features.contains(&"ring".into()), "{node}");
        for other in ["aws_lc_rs", "aws-lc-rs", "fips"] {
            assert!(!features.contains(&other.into()), "{node}");
        }
    }
}

#[tokio::test]
async fn clients_of_slack_discord_and_http_are_built_side_by_side() {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");

    let http = reqwest::Client::builder().https_only(true).build();
    assert!(http.is_ok(), "{http:?}");

    let slack = slack_morphism::prelude::SlackClientHyperConnector::new();
    assert!(slack.is_ok(), "{:?}", slack.err());

    // A request makes the TLS configuration of serenity's own rustls; nobody listens there.
    let discord = serenity::http::HttpBuilder::new("Bot none")
        .proxy("https://127.0.0.1:9")
        .ratelimiter_disabled(true)
        .build();
    let answer = discord.get_current_user().await;
    assert!(matches!(answer, Err(serenity::Error::Http(_))), "{answer:?}");

    let answer = http.expect("built above").get("https://127.0.0.1:9").send().await;
    assert!(answer.is_err_and(|error| error.is_connect()));

    let provider = rustls::crypto::CryptoProvider::get_default().expect("installed above");
    let ring = rustls::crypto::ring::default_provider();
    assert_eq!(provider.cipher_suites, ring.cipher_suites);
}
