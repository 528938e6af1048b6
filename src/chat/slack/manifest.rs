//! The app's manifest: what Slack makes our app from, in one paste.
//!
//! Our own template and not `slack-morphism`'s type, which knows neither token rotation nor
//! interactivity as Slack has them today. Every command of the grammar stands in it.

use serde_json::{Value, json};
use url::Url;

use crate::chat::{
    grammar::Verb,
    help::{summary, usage},
};

/// What the bot may do: what is used, and no more.
pub const SCOPES: [&str; 10] = [
    "app_mentions:read",
    "channels:history",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "groups:history",
    "im:history",
    "mpim:history",
    "users:read",
];

/// What the bot hears of.
pub const EVENTS: [&str; 5] =
    ["app_mention", "message.channels", "message.groups", "message.im", "message.mpim"];

/// The longest hint that Slack shows beside a command, in characters.
const HINT: usize = 1000;

/// The manifest of an app with this name.
#[must_use]
pub fn manifest(name: &str) -> Value {
    let commands: Vec<Value> = Verb::ALL.into_iter().map(command).collect();
    json!({
        "_metadata": { "major_version": 1, "minor_version": 1 },
        "display_information": {
            "name": name,
            "description": "Coding agents, commanded from chat",
            "background_color": "#1d2a3a",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": false,
                "messages_tab_enabled": true,
                "messages_tab_read_only_enabled": false,
            },
            "bot_user": { "display_name": display_name(name), "always_online": true },
            "slash_commands": commands,
        },
        "oauth_config": { "scopes": { "bot": SCOPES } },
        "settings": {
            "event_subscriptions": { "bot_events": EVENTS },
            "interactivity": { "is_enabled": true },
            "org_deploy_enabled": false,
            "socket_mode_enabled": true,
            "token_rotation_enabled": false,
        },
    })
}

/// The bot's name: what of the app's name Slack takes in one, which is a-z, 0-9, -, _ and points.
fn display_name(name: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c) => c,
        _ => '-',
    };
    let plain: String = name.chars().map(plain).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "open-dispatch".to_owned() } else { parts.join("-") }
}

fn command(verb: Verb) -> Value {
    let mut command = json!({
        "command": format!("/{}", verb.name()),
        "description": summary(verb),
        "should_escape": false,
    });
    let call = usage(verb);
    if let Some((_, hint)) = call.split_once(' ') {
        command["usage_hint"] = json!(hint.chars().take(HINT).collect::<String>());
    }
    command
}

/// The manifest as YAML, which is what Slack's page shows.
#[must_use]
pub fn yaml(name: &str) -> String {
    // What is made of strings, lists and maps can be written.
    serde_saphyr::to_string(&manifest(name)).unwrap_or_default()
}

/// The address that opens Slack's page for a new app with the manifest filled in.
#[must_use]
pub fn link(name: &str) -> String {
    let manifest = manifest(name).to_string();
    let arguments = [("new_app", "1"), ("manifest_json", manifest.as_str())];
    Url::parse_with_params("https://api.slack.com/apps", arguments)
        .map_or_else(|_| String::new(), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_is_called_what_slack_takes_of_its_apps_name() {
        for (app, bot) in [
            ("open-dispatch", "open-dispatch"),
            ("My Bot \"z", "my-bot-z"),
            ("Zoë's_bot.2", "zo-s_bot.2"),
            ("日本", "open-dispatch"),
        ] {
            assert_eq!(manifest(app)["features"]["bot_user"]["display_name"], bot, "{app}");
        }
    }

    #[test]
    fn the_manifest_lists_every_command_and_all_that_the_app_needs() {
        let text = yaml("open-dispatch");
        for verb in Verb::ALL {
            assert!(text.contains(&format!("/{}\n", verb.name())), "{} is missing", verb.name());
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn each_scope_is_explained_to_whoever_makes_the_app() {
        let page = include_str!("../../../docs/slack.md");
        for scope in SCOPES {
            assert!(page.contains(&format!("`{scope}`")), "docs/slack.md says nothing of {scope}");
        }
    }

    #[test]
    fn slack_takes_it() {
        let manifest = manifest("open-dispatch");
        let commands = manifest["features"]["slash_commands"].as_array().unwrap();
        // As Slack's documentation of manifests says.
        assert!(commands.len() <= 50);
        for command in commands {
            let length = |name: &str| command[name].as_str().unwrap_or_default().chars().count();
            assert!(length("command") <= 32 && length("description") <= 2000, "{command}");
            assert!(length("usage_hint") <= HINT, "{command}");
        }
    }

    #[test]
    fn the_link_holds_the_whole_manifest() {
        let link = Url::parse(&link("open-dispatch")).unwrap();
        let (_, text) = link.query_pairs().find(|(name, _)| name == "manifest_json").unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), manifest("open-dispatch"));
    }
}
