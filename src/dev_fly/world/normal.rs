//! What the service makes of a config: defaults are added, and some fields come back in another
//! form. Whoever compares what was asked for with what is shown would see a difference for ever.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::ids;

/// The config as it is shown. [obs]
pub(super) fn shown(config: &Value) -> Value {
    let mut config = config.as_object().cloned().unwrap_or_default();
    // `env` and `init` are always there. [obs]
    config.entry("env").or_insert(Value::Null);
    config.entry("init").or_insert_with(|| json!({}));
    guest(&mut config);
    restart(&mut config);
    if let Some(stop) = config.get_mut("stop_config").and_then(Value::as_object_mut)
        && let Some(timeout) = stop.get("timeout").and_then(seconds)
    {
        // A duration comes back as a number of nanoseconds. [doc]
        stop.insert("timeout".into(), json!(timeout.saturating_mul(1_000_000_000)));
    }
    for service in config.get_mut("services").and_then(Value::as_array_mut).into_iter().flatten() {
        // `off` and `stop` come back as booleans. [obs]
        match service["autostop"].as_str() {
            Some("off") => service["autostop"] = json!(false),
            Some("stop") => service["autostop"] = json!(true),
            _ => {}
        }
    }
    Value::Object(config)
}

/// The smallest machine where nothing is said. [doc]
fn guest(config: &mut Map<String, Value>) {
    let guest = config.entry("guest").or_insert_with(|| json!({}));
    if let Some(guest) = guest.as_object_mut() {
        guest.entry("cpu_kind").or_insert_with(|| json!("shared"));
        guest.entry("cpus").or_insert_with(|| json!(1));
        guest.entry("memory_mb").or_insert_with(|| json!(256));
    }
}

/// On failure, up to ten times. [doc]
fn restart(config: &mut Map<String, Value>) {
    let restart = config.entry("restart").or_insert_with(|| json!({}));
    if let Some(restart) = restart.as_object_mut() {
        let policy = restart.entry("policy").or_insert_with(|| json!("on-failure")).clone();
        if policy == "on-failure" {
            restart.entry("max_retries").or_insert_with(|| json!(10));
        }
    }
}

/// A duration as requests say it: `30s`, `5m`, `1m30s` or `500ms`; a number is nanoseconds. [doc]
pub(super) fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(nanos) => nanos.as_u64().map(|nanos| nanos.div_ceil(1_000_000_000)),
        Value::String(text) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|length| u64::try_from(length.as_millis()).ok())
            .map(|millis| millis.div_ceil(1000)),
        _ => None,
    }
}

/// What an image's name was resolved to. Docker Hub shows as Fly's mirror of it. [obs]
pub(super) fn image_ref(image: &str) -> Value {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "latest"),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            (host, rest.to_owned())
        }
        Some(_) => ("docker-hub-mirror.fly.io", name.to_owned()),
        None => ("docker-hub-mirror.fly.io", format!("library/{name}")),
    };
    let registry = if registry == "docker.io" { "docker-hub-mirror.fly.io" } else { registry };
    let digest = if digest.is_empty() {
        format!("sha256:{}", ids::hex(&Sha256::digest(image)))
    } else {
        digest.to_owned()
    };
    json!({"registry": registry, "repository": repository, "tag": tag, "digest": digest, "labels": null})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_differs_from_what_was_asked() {
        let asked = json!({"image": "x", "services": [{"autostop": "off"}, {"autostop": "stop"},
            {"autostop": "suspend"}], "stop_config": {"timeout": "30s"}});
        let shown = shown(&asked);
        assert_eq!(shown["services"][0]["autostop"], false);
        assert_eq!(shown["services"][1]["autostop"], true);
        assert_eq!(shown["services"][2]["autostop"], "suspend");
        assert_eq!(shown["stop_config"]["timeout"], 30_000_000_000_u64);
        assert_eq!(shown["guest"]["memory_mb"], 256);
        assert_eq!(shown["restart"], json!({"policy": "on-failure", "max_retries": 10}));
    }

    #[test]
    fn images_are_resolved() {
        let resolved = |image: &str| {
            let it = image_ref(image);
            let word = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", word("registry"), word("repository"), word("tag"))
        };
        assert_eq!(resolved("alpine"), "docker-hub-mirror.fly.io library/alpine latest");
        assert_eq!(resolved("a/b:1"), "docker-hub-mirror.fly.io a/b 1");
        assert_eq!(resolved("registry.fly.io/a:2"), "registry.fly.io a 2");
        assert_eq!(resolved("localhost:5000/a"), "localhost:5000 a latest");
        assert_eq!(image_ref("registry.fly.io/a@sha256:ff")["digest"], "sha256:ff");
    }

    #[test]
    fn durations_are_read_in_every_form() {
        assert_eq!(seconds(&json!("30s")), Some(30));
        assert_eq!(seconds(&json!("1m30s")), Some(90));
        assert_eq!(seconds(&json!("500ms")), Some(1));
        assert_eq!(seconds(&json!(5_000_000_000_u64)), Some(5));
        assert_eq!(seconds(&json!("soon")), None);
    }
}
