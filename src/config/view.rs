//! What the server would be told, for people: every value with its source, secrets masked.

use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::{Config, Fly, KNOWN, Layers, LogFormat, Reader, SETTINGS, Setting, Source};

/// What stands for a secret's value.
pub const MASK: &str = "********";

/// One setting as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The variable by which it is known.
    pub name: &'static str,
    /// Its value; a secret's is masked, and one that is not set is empty.
    pub value: String,
    /// Where it came from.
    pub source: String,
    /// Who reads it: the server, the agents, or nobody yet.
    pub reader: &'static str,
}

/// All settings, and those further variables that are set.
#[must_use]
pub fn view(config: &Config, layers: &Layers) -> Vec<Line> {
    let mut lines: Vec<Line> = SETTINGS
        .iter()
        .map(|setting| {
            let (value, source) = settled(config, layers, setting.variable);
            Line { name: setting.variable, value, source, reader: reader(Reader::Server) }
        })
        .collect();
    for known in KNOWN {
        if SETTINGS.iter().any(|setting| setting.variable == known.name) {
            continue;
        }
        if let Some((value, source)) = layers.said(known.name) {
            let value = if known.secret { MASK.to_owned() } else { value };
            let source = source.to_string();
            lines.push(Line { name: known.name, value, source, reader: reader(known.reader) });
        }
    }
    lines
}

fn reader(reader: Reader) -> &'static str {
    match reader {
        Reader::Server => "server",
        Reader::Agents => "agents",
        Reader::Planned => "nobody yet",
    }
}

fn shown<T>(setting: &Setting<T>, text: impl FnOnce(&T) -> String) -> (String, String) {
    (text(&setting.value), setting.source.to_string())
}

fn or_nothing(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

/// The value that a setting has come to.
fn settled(config: &Config, layers: &Layers, variable: &'static str) -> (String, String) {
    match variable {
        "OPEN_DISPATCH_DATA" => shown(&config.data, |path| path.display().to_string()),
        "OPEN_DISPATCH_CONFIG" => match layers.file() {
            Some(path) => (path.display().to_string(), String::new()),
            None => (String::new(), Source::Default.to_string()),
        },
        "OPEN_DISPATCH_LISTEN" => shown(&config.listen, ToString::to_string),
        "WEBHOOK_PORT" => {
            // It may have come with the address.
            let source = layers.said("WEBHOOK_PORT").map(|said| said.1.to_string());
            let source = source.unwrap_or_else(|| config.listen.source.to_string());
            (config.listen.value.port().to_string(), source)
        }
        "CHAT_PROVIDER" => shown(&config.chat, |chats| {
            let names: Vec<&str> = chats.iter().map(|chat| chat.name()).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(",") }
        }),
        "OPEN_DISPATCH_TLS_NAMES" => shown(&config.tls_names, |names| names.join(",")),
        "OPEN_DISPATCH_MAX_SPRITES" => shown(&config.max_sprites, ToString::to_string),
        "OPEN_DISPATCH_LOG_FORMAT" => shown(&config.log_format, |format| {
            match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            }
            .to_owned()
        }),
        "OPEN_DISPATCH_LOG" => shown(&config.log, Clone::clone),
        "OPEN_DISPATCH_STORE" => shown(&config.store, |_| config.store_dir().display().to_string()),
        "JOB_TOKEN_SECRET" => shown(&config.token_secret, |secret| {
            let set = secret.as_ref().is_some_and(|secret| !secret.expose_secret().is_empty());
            if set { MASK.to_owned() } else { String::new() }
        }),
        "OPEN_DISPATCH_ADMINS" => shown(&config.admins, |names| names.join(",")),
        "OPEN_DISPATCH_PASS_ENV" => shown(&config.pass_env, |names| names.join(",")),
        "OPEN_DISPATCH_ROOTS" => shown(&config.roots, |roots| {
            let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            roots.join(":")
        }),
        "OPEN_DISPATCH_SPECS" => shown(&config.specs, |specs| {
            let specs: Vec<_> = specs.iter().map(|spec| spec.display().to_string()).collect();
            specs.join(":")
        }),
        "SPRITE_AGENT_TYPE" => shown(&config.agent, or_nothing),
        "OPENCODE_MODEL" => shown(&config.opencode_model, or_nothing),
        "OPEN_DISPATCH_RUNTIME" => shown(&config.runtime, |place| place.name().to_owned()),
        _ => match &config.fly {
            Some(fly) => settled_fly(fly, layers, variable),
            // Without machines, what is said is read by nobody; it is shown all the same.
            None => match layers.said(variable) {
                Some((value, source)) => (value, source.to_string()),
                None => (String::new(), Source::Default.to_string()),
            },
        },
    }
}

/// The value that a setting of machines has come to.
fn settled_fly(fly: &Fly, layers: &Layers, variable: &str) -> (String, String) {
    let plain = |url: &url::Url| url.as_str().trim_end_matches('/').to_owned();
    match variable {
        "FLY_API_TOKEN" => shown(&fly.token, |_| MASK.to_owned()),
        "FLY_SPRITE_APP" => shown(&fly.app, Clone::clone),
        "SPRITE_IMAGE" => shown(&fly.image, or_nothing),
        "SPRITE_IMAGES" => {
            // A map of texts is always JSON.
            shown(&fly.images, |images| serde_json::to_string(images).unwrap_or_default())
        }
        "OPEN_DISPATCH_ALLOWED_IMAGES" => shown(&fly.allowed_images, |list| list.join(",")),
        "FLY_REGION" => shown(&fly.regions, Clone::clone),
        "OPEN_DISPATCH_REGION" => match layers.said("OPEN_DISPATCH_REGION") {
            Some((value, source)) => (value, source.to_string()),
            None => (String::new(), Source::Default.to_string()),
        },
        "OPEN_DISPATCH_URL" => shown(&fly.server, plain),
        "OPEN_DISPATCH_MAX_MACHINES" => shown(&fly.max_machines, ToString::to_string),
        "OPEN_DISPATCH_SPRITE_SECRETS" => shown(&fly.secrets_by, |by| by.name().to_owned()),
        "FLY_FLAPS_BASE_URL" => shown(&fly.api, plain),
        _ => (String::new(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Machine};

    #[test]
    fn every_value_is_shown_with_its_source_and_no_secret_is() {
        let said = [
            ("HOME", "/home/a"),
            ("JOB_TOKEN_SECRET", "hush-1"),
            ("ANTHROPIC_API_KEY", "hush-2"),
            ("SLACK_BOT_TOKEN", "hush-3"),
            ("DISCORD_CLIENT_ID", "42"),
            ("OPEN_DISPATCH_ROOTS", "/srv:/home/a"),
            ("FLY_API_TOKEN", "hush-4"),
            ("FLY_SPRITE_APP", "my-sprites"),
            ("SPRITE_IMAGES", r#"{"node": "me/node:v1"}"#),
            ("OPEN_DISPATCH_REGION", "iad,us"),
        ];
        let layers =
            Layers::environment(said.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let config = Config::resolve(&Flags::default(), &layers, Machine { cpus: 2 }).unwrap();
        let lines: Vec<String> = view(&config, &layers)
            .iter()
            .map(|line| {
                format!("{} | {} | {} | {}", line.name, line.value, line.source, line.reader)
            })
            .collect();
        let text = lines.join("\n");
        assert!(!text.contains("hush"), "{text}");
        insta::assert_snapshot!(text);
    }
}
