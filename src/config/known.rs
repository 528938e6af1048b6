//! Every variable that has a meaning here, be it to the server, to agents, or to come.

/// Who reads a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The server; the settings of [`super::SETTINGS`] are among them.
    Server,
    /// The agents: the server hands it on, and it stays out of what is shown and logged.
    Agents,
    /// Nobody yet: what it belongs to is planned.
    Planned,
}

/// A variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// Whether its value must not be seen.
    pub secret: bool,
    /// Who reads it.
    pub reader: Reader,
    /// An example, as it stands in `.env.example`.
    pub example: &'static str,
    /// What it is, in one line.
    pub what: &'static str,
}

const fn known(
    name: &'static str,
    secret: bool,
    reader: Reader,
    example: &'static str,
    what: &'static str,
) -> Known {
    Known { name, secret, reader, example, what }
}

use Reader::{Agents, Planned, Server};

/// All of them, in the order of `.env.example`.
pub const KNOWN: &[Known] = &[
    known(
        "CHAT_PROVIDER",
        false,
        Server,
        "console",
        "The chat platforms: console, slack, discord, teams, or none.",
    ),
    known("WEBHOOK_PORT", false, Server, "8080", "The port of the server, on loopback."),
    known("OPEN_DISPATCH_LISTEN", false, Server, "127.0.0.1:8080", "Where the server listens."),
    known(
        "OPEN_DISPATCH_TLS_NAMES",
        false,
        Server,
        "dispatch.example.org,10.0.0.5",
        "By which names clients reach the server over TLS.",
    ),
    known("OPEN_DISPATCH_DATA", false, Server, "/var/lib/open-dispatch", "The data directory."),
    known(
        "OPEN_DISPATCH_CONFIG",
        false,
        Server,
        "/etc/open-dispatch.yaml",
        "The configuration file.",
    ),
    known("OPEN_DISPATCH_STORE", false, Server, "/var/lib/open-dispatch", "The store's directory."),
    known("OPEN_DISPATCH_MAX_SPRITES", false, Server, "8", "The most agents at work at once."),
    known("OPEN_DISPATCH_ROOTS", false, Server, "/home/me/projects:/srv", "Where agents may work."),
    known("OPEN_DISPATCH_SPECS", false, Server, "specs:/etc/od", "Directories with desired state."),
    known(
        "OPEN_DISPATCH_GIT_ROOTS",
        false,
        Server,
        "/srv/git",
        "Where Sources may read repositories of this machine.",
    ),
    known("OPEN_DISPATCH_PASS_ENV", false, Server, "RUST_LOG,CI", "More variables for agents."),
    known("OPEN_DISPATCH_ADMINS", false, Server, "slack:U0123ABC,discord:456", "The first admins."),
    known("OPEN_DISPATCH_LOG", false, Server, "info", "What is logged."),
    known("OPEN_DISPATCH_LOG_FORMAT", false, Server, "text", "The log's form: text or json."),
    known(
        "JOB_TOKEN_SECRET",
        true,
        Server,
        "a-long-random-text",
        "The key of the sprites' tokens.",
    ),
    known(
        "OPEN_DISPATCH_TOKEN",
        true,
        Server,
        "the-server's-token",
        "A client's token, with --server.",
    ),
    known("SPRITE_AGENT_TYPE", false, Server, "claude", "The agent of who names none."),
    known("OPENCODE_MODEL", false, Server, "anthropic/claude-sonnet-4-5", "OpenCode's model."),
    known(
        "ANTHROPIC_API_KEY",
        true,
        Agents,
        "sk-ant-...",
        "Claude Code's key, where it is not logged in.",
    ),
    known("OPENAI_API_KEY", true, Agents, "sk-...", "A key for OpenCode or Codex."),
    known("GEMINI_API_KEY", true, Agents, "...", "A key for Gemini or OpenCode."),
    known("OPENCODE_AUTH_JSON", true, Agents, "{}", "OpenCode's log-in, as its auth.json."),
    known(
        "GH_TOKEN",
        true,
        Agents,
        "ghp_...",
        "For cloning private repositories, and for the agent.",
    ),
    known(
        "DATABASE_URL",
        true,
        Agents,
        "postgres://...",
        "A database for the agent; never the server's.",
    ),
    known("SLACK_BOT_TOKEN", true, Server, "xoxb-...", "Slack's bot token; see docs/slack.md."),
    known("SLACK_APP_TOKEN", true, Server, "xapp-...", "Slack's app-level token, for the socket."),
    known(
        "SLACK_API_URL",
        false,
        Server,
        "https://slack-gov.com/api",
        "Slack's API, where it is not slack.com.",
    ),
    known(
        "SLACK_SIGNING_SECRET",
        true,
        Planned,
        "...",
        "Slack's, for HTTP; the socket needs none.",
    ),
    known("DISCORD_BOT_TOKEN", true, Server, "...", "Discord: the bot's token."),
    known("DISCORD_CLIENT_ID", false, Server, "...", "Discord: the application's id."),
    known("DISCORD_GUILD_ID", false, Server, "...", "Discord, for one guild alone."),
    known(
        "DISCORD_API_URL",
        false,
        Server,
        "http://127.0.0.1:9/api",
        "Discord's API behind a proxy.",
    ),
    known("MICROSOFT_APP_ID", false, Server, "...", "Teams: the Azure Bot's app id."),
    known("MICROSOFT_APP_PASSWORD", true, Server, "...", "Teams: the app's client secret."),
    known("MICROSOFT_APP_TENANT_ID", false, Server, "...", "Teams: the tenant's id."),
    known("TEAMS_APP_ID", false, Server, "...", "MICROSOFT_APP_ID by its other name."),
    known("TEAMS_APP_PASSWORD", true, Server, "...", "MICROSOFT_APP_PASSWORD by its other name."),
    known("PORT", false, Server, "3978", "The public port for Teams."),
    known(
        "TEAMS_LOGIN_URL",
        false,
        Server,
        "https://login.microsoftonline.com",
        "Where Teams' access tokens are made.",
    ),
    known(
        "TEAMS_OPENID_URL",
        false,
        Server,
        "https://login.botframework.com/v1/.well-known/openidconfiguration",
        "Where Teams' signing keys are named.",
    ),
    known(
        "TEAMS_SERVICE_HOSTS",
        false,
        Server,
        "smba.infra.gov.teams.microsoft.us",
        "More hosts of Teams', with commas between.",
    ),
    known("TEAMS_STREAMING", false, Server, "off", "Whether Teams' answers grow as streams."),
    known(
        "OPEN_DISPATCH_RUNTIME",
        false,
        Server,
        "fly",
        "Where what names no place runs: local or fly.",
    ),
    known(
        "FLY_API_TOKEN",
        true,
        Server,
        "FlyV1 fm2_...",
        "The token of Fly's Machines API; see docs/fly.md.",
    ),
    known("FLY_SPRITE_APP", false, Server, "my-sprites", "The Fly app of the sprites."),
    known("SPRITE_IMAGE", false, Server, "registry.fly.io/my-sprites/agent:latest", "Their image."),
    known(
        "SPRITE_IMAGES",
        false,
        Server,
        "{\"node\":\"registry.fly.io/my-sprites/node:v1\"}",
        "Images by alias, as JSON.",
    ),
    known(
        "OPEN_DISPATCH_ALLOWED_IMAGES",
        false,
        Server,
        "registry.fly.io/my-sprites/",
        "Which further images may be named.",
    ),
    known(
        "FLY_REGION",
        false,
        Server,
        "iad",
        "Their regions, with commas between; on Fly, the platform's own word.",
    ),
    known("OPEN_DISPATCH_REGION", false, Server, "iad,us", "Their regions, before FLY_REGION."),
    known(
        "OPEN_DISPATCH_URL",
        false,
        Server,
        "http://open-dispatch.internal:8080",
        "How machines reach the server.",
    ),
    known("OPEN_DISPATCH_MAX_MACHINES", false, Server, "50", "The most machines at once."),
    known(
        "OPEN_DISPATCH_SPRITE_SECRETS",
        false,
        Server,
        "claim",
        "How machines get their secrets: environment or claim.",
    ),
    known(
        "FLY_FLAPS_BASE_URL",
        false,
        Server,
        "https://api.machines.dev",
        "The Machines API, where it is another one.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn the_example_names_every_variable() {
        let text = include_str!("../../.env.example");
        for known in KNOWN {
            let line = format!("# {}={}", known.name, known.example);
            assert!(text.lines().any(|it| it == line), ".env.example lacks the line {line}");
        }
    }

    #[test]
    fn every_setting_with_a_variable_is_known() {
        for setting in SETTINGS.iter().filter(|setting| !setting.variable.is_empty()) {
            let found = KNOWN.iter().any(|known| known.name == setting.variable);
            assert!(found, "{} is not in the list", setting.variable);
        }
    }
}
