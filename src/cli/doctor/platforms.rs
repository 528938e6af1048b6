//! What doctor asks the chat platforms: each one thing that changes nothing.
//!
//! The calls are effects; what their answers mean is decided by pure functions. A token goes by TLS
//! alone, or to this machine.

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use url::{Host, Url};

use super::{Check, here::variable};
use crate::{
    cli::slack::SCOPES,
    config::{Chat, Config},
};

/// How long a platform may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Discord's flags of an application that may read what is said.
const MESSAGE_CONTENT: u64 = 1 << 18 | 1 << 19;

/// What was answered.
struct Answer {
    code: u16,
    /// What Slack says of the token's scopes.
    scopes: String,
    body: Value,
}

impl Answer {
    /// Whether it says by its code that something is wrong.
    fn is_fault(&self) -> bool {
        self.code >= 400
    }
}

/// The checks of the platforms that the settings name.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let client = Client::builder()
        .timeout(ANSWER_TIME)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("open-dispatch/", env!("CARGO_PKG_VERSION")))
        .build();
    let Ok(client) = client else {
        let mend = "see whether the system has certificates";
        return vec![Check::fails("platforms", "no HTTP client can be made", mend)];
    };
    // All at once: each of them may take its whole time to say nothing.
    let asked = config.chat.value.iter().map(async |chat| match chat {
        Chat::Console => Vec::new(),
        Chat::Slack => slack(config, &client).await,
        Chat::Discord => vec![discord(config, &client).await],
        Chat::Teams => vec![teams(config, &client).await],
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// A token of a variable, if it is there and begins as it should.
fn token<'a>(
    config: &'a Config,
    name: &'static str,
    variables: &[&str],
    prefix: &str,
    mend: &str,
) -> Result<&'a str, Check> {
    let found = variables.iter().find_map(|name| variable(config, name));
    let named = variables.join(" or ");
    match found {
        None => Err(Check::fails(name, format!("{named} is not set"), mend)),
        Some(value) if value.starts_with(prefix) && value.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(value)
        }
        Some(_) if prefix.is_empty() => {
            Err(Check::fails(name, format!("{named} holds what no token holds"), mend))
        }
        Some(_) => {
            let found = format!("{named} does not begin with {prefix}: another kind of token");
            Err(Check::fails(name, found, mend))
        }
    }
}

/// Where a platform is; never where a token could be read on the way.
fn address(
    config: &Config,
    name: &'static str,
    setting: &str,
    default: &str,
    path: &str,
) -> Result<Url, Check> {
    let said = variable(config, setting).unwrap_or(default).trim_end_matches('/');
    let local = |url: &Url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let safe = |url: &Url| url.scheme() == "https" || (url.scheme() == "http" && local(url));
    Url::parse(&format!("{said}/{path}")).ok().filter(safe).ok_or_else(|| {
        let found = format!("{setting} is no https address");
        Check::fails(name, found, format!("unset it, or write one such as {default}"))
    })
}

/// Asks; the error says why nobody answered, without what was sent.
async fn ask(name: &'static str, url: &Url, request: RequestBuilder) -> Result<Answer, Check> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let failed = |why: &str| {
        let mend = "check the network, the proxy and the firewall of this machine";
        Check::fails(name, format!("{host} cannot be reached: {why}"), mend)
    };
    let answer = request.send().await.map_err(|error| {
        failed(if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the call broke off"
        })
    })?;
    let code = answer.status().as_u16();
    let scopes = answer.headers().get("x-oauth-scopes");
    let scopes = scopes.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = answer.json().await.unwrap_or_default();
    Ok(Answer { code, scopes, body })
}

fn one(checked: Result<Check, Check>) -> Check {
    checked.unwrap_or_else(|check| check)
}

async fn slack(config: &Config, client: &Client) -> Vec<Check> {
    let call = async |name, setting, prefix, mend, method| {
        let token = token(config, name, &[setting], prefix, mend)?;
        let url = address(config, name, "SLACK_API_URL", "https://slack.com/api", method)?;
        ask(name, &url, client.post(url.clone()).bearer_auth(token)).await
    };
    let (bot, app) = tokio::join!(
        call("slack bot", "SLACK_BOT_TOKEN", "xoxb-", BOT_MEND, "auth.test"),
        call("slack app", "SLACK_APP_TOKEN", "xapp-", APP_MEND, "apps.connections.open"),
    );
    vec![one(bot.map(|answer| slack_bot(&answer))), one(app.map(|answer| slack_app(&answer)))]
}

const BOT_MEND: &str = "copy the bot token from the app's page, OAuth & Permissions \
                        (docs/slack.md)";
const APP_MEND: &str = "make an app-level token with the scope connections:write on the app's \
                        page, Basic Information (docs/slack.md)";

const LATER: &str = "try again later; see https://slack-status.com";

/// Slack's word for what is wrong. What is no word of that kind comes from somebody else, and may
/// be anything, such as what was sent.
fn slack_word(answer: &Answer) -> Option<&str> {
    let is_word = |word: &&str| {
        let is_of_one = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (1..=64).contains(&word.len()) && word.chars().all(is_of_one)
    };
    answer.body["error"].as_str().filter(is_word)
}

fn slack_error(name: &'static str, answer: &Answer, mend: &str) -> Check {
    match slack_word(answer) {
        Some(error) => Check::fails(name, format!("Slack says {error}"), mend),
        None if answer.is_fault() => {
            Check::fails(name, format!("Slack answers with {}", answer.code), LATER)
        }
        None => not_it(name, "Slack", "SLACK_API_URL"),
    }
}

/// Something else answers where a platform should.
fn not_it(name: &'static str, platform: &str, setting: &str) -> Check {
    let mend =
        format!("see whether {setting} is right, and no proxy or log-in page stands in between");
    Check::fails(name, format!("what answers there is not {platform}"), mend)
}

/// What `auth.test` says of the bot's token.
fn slack_bot(answer: &Answer) -> Check {
    const NAME: &str = "slack bot";
    if answer.body["ok"] != true {
        return slack_error(NAME, answer, BOT_MEND);
    }
    let text = |member: &str| answer.body[member].as_str().unwrap_or("?").to_owned();
    let who = format!("it is {} in {}", text("user"), text("team"));
    let has: Vec<&str> = answer.scopes.split(',').map(str::trim).collect();
    let lacks: Vec<&str> = SCOPES.into_iter().filter(|scope| !has.contains(scope)).collect();
    match (answer.scopes.is_empty(), lacks.as_slice()) {
        (true, _) => Check::note(NAME, format!("{who}; Slack does not tell its scopes"), ""),
        (false, []) => Check::ok(NAME, who),
        (false, lacks) => {
            let mend = "add them under OAuth & Permissions, and install the app again";
            Check::fails(NAME, format!("{who}, without the scopes {}", lacks.join(", ")), mend)
        }
    }
}

/// What `apps.connections.open` says of the app's token. The socket is not opened.
fn slack_app(answer: &Answer) -> Check {
    const NAME: &str = "slack app";
    let mend = match slack_word(answer) {
        _ if answer.body["ok"] == true => return Check::ok(NAME, "Socket Mode opens"),
        Some("not_allowed_token_type" | "missing_scope" | "no_permission") => APP_MEND,
        Some("connection_limit_exceeded") => "close other servers with the same app",
        Some("ratelimited") => "try again in a minute",
        _ => "turn Socket Mode on, and make an app-level token anew (docs/slack.md)",
    };
    slack_error(NAME, answer, mend)
}

async fn discord(config: &Config, client: &Client) -> Check {
    const NAME: &str = "discord bot";
    let checked = async {
        let token = token(config, NAME, &["DISCORD_BOT_TOKEN"], "", DISCORD_MEND)?;
        let path = "v10/applications/@me";
        let url = address(config, NAME, "DISCORD_API_URL", "https://discord.com/api", path)?;
        let request = client.get(url.clone()).header("authorization", format!("Bot {token}"));
        let answer = ask(NAME, &url, request).await?;
        Ok(discord_bot(&answer, variable(config, "DISCORD_CLIENT_ID")))
    };
    one(checked.await)
}

const DISCORD_MEND: &str = "copy it anew from the application's page Bot, without `Bot` in front \
                            (docs/discord.md)";

/// What `GET /applications/@me` says of the bot.
fn discord_bot(answer: &Answer, application: Option<&str>) -> Check {
    const NAME: &str = "discord bot";
    match answer.code {
        200 => {}
        401 => return Check::fails(NAME, "Discord does not know this token", DISCORD_MEND),
        _ if !answer.is_fault() => return not_it(NAME, "Discord", "DISCORD_API_URL"),
        code => {
            let mend = "try again later; see https://discordstatus.com";
            return Check::fails(NAME, format!("Discord answers with {code}"), mend);
        }
    }
    let Some(id) = answer.body["id"].as_str() else {
        return not_it(NAME, "Discord", "DISCORD_API_URL");
    };
    let name = answer.body["name"].as_str().unwrap_or("?");
    match application {
        Some(said) if said == id => {}
        Some(_) => {
            let found =
                format!("the token is of application {id}, and DISCORD_CLIENT_ID is another");
            return Check::fails(NAME, found, format!("set DISCORD_CLIENT_ID to {id}"));
        }
        None => {
            let mend = format!("set it to {id}");
            return Check::fails(NAME, "DISCORD_CLIENT_ID is not set", mend);
        }
    }
    let flags = answer.body["flags"].as_u64().unwrap_or_default();
    if flags & MESSAGE_CONTENT == 0 {
        let mend = "turn Message Content Intent on, on the application's page Bot";
        return Check::fails(NAME, format!("{name} may not read what is said"), mend);
    }
    Check::ok(NAME, format!("it is {name}, and may read what is said"))
}

async fn teams(config: &Config, client: &Client) -> Check {
    const NAME: &str = "teams bot";
    let checked = async {
        let mend = "copy it from the Azure Bot's page Configuration (docs/teams.md)";
        let ids = ["MICROSOFT_APP_ID", "TEAMS_APP_ID"];
        let id = token(config, NAME, &ids, "", mend)?;
        let passwords = ["MICROSOFT_APP_PASSWORD", "TEAMS_APP_PASSWORD"];
        let password = token(config, NAME, &passwords, "", TEAMS_MEND)?;
        let tenant = token(config, NAME, &["MICROSOFT_APP_TENANT_ID"], "", mend)?;
        let login = "https://login.microsoftonline.com";
        // One word of a path, whatever somebody wrote.
        let tenant: String = url::form_urlencoded::byte_serialize(tenant.as_bytes()).collect();
        let path = format!("{tenant}/oauth2/v2.0/token");
        let url = address(config, NAME, "TEAMS_LOGIN_URL", login, &path)?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", id)
            .append_pair("client_secret", password)
            .append_pair("scope", "https://api.botframework.com/.default")
            .finish();
        let request = client
            .post(url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        Ok(teams_bot(&ask(NAME, &url, request).await?))
    };
    one(checked.await)
}

const TEAMS_MEND: &str = "make a client secret on the app registration's page Certificates & \
                          secrets, and copy its value, not its id (docs/teams.md)";

/// What Microsoft's token endpoint says of the app.
fn teams_bot(answer: &Answer) -> Check {
    const NAME: &str = "teams bot";
    if answer.code == 200 && answer.body["access_token"].is_string() {
        return Check::ok(NAME, "Microsoft gives it a token");
    }
    let said = answer.body["error_description"].as_str().unwrap_or_default();
    let code: String = said.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
    let (found, mend) = match code.as_str() {
        "AADSTS7000215" => ("the client secret is wrong".to_owned(), TEAMS_MEND),
        "AADSTS7000222" => ("the client secret has expired".to_owned(), TEAMS_MEND),
        "AADSTS700016" => (
            "there is no such app in this tenant".to_owned(),
            "check MICROSOFT_APP_ID and MICROSOFT_APP_TENANT_ID",
        ),
        "AADSTS90002" | "AADSTS900023" => (
            "there is no such tenant".to_owned(),
            "set MICROSOFT_APP_TENANT_ID to the directory (tenant) id of the app registration",
        ),
        "" if !answer.is_fault() => return not_it(NAME, "Microsoft", "TEAMS_LOGIN_URL"),
        "" => (format!("Microsoft answers with {}", answer.code), "try again later"),
        code => (format!("Microsoft says {code}"), "look that up, or see docs/teams.md"),
    };
    Check::fails(NAME, found, mend)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(code: u16, scopes: &str, body: Value) -> Answer {
        Answer { code, scopes: scopes.to_owned(), body }
    }

    #[test]
    fn each_fault_is_told_with_its_mend() {
        let scopes = SCOPES.join(",");
        let is = json!({"ok": true, "user": "dispatch", "team": "Acme"});
        let error = |error: &str| json!({"ok": false, "error": error});
        let app = |flags: u64| json!({"id": "456", "name": "dispatch", "flags": flags});
        let azure = |text: &str| json!({"error": "invalid", "error_description": text});
        let told = [
            slack_bot(&answer(200, &scopes, is.clone())),
            slack_bot(&answer(
                200,
                "app_mentions:read,channels:history,chat:write,commands,groups:history,im:history,mpim:history,users:read",
                is.clone(),
            )),
            slack_bot(&answer(200, "", is)),
            slack_bot(&answer(200, "", error("invalid_auth"))),
            slack_bot(&answer(200, "", error("Bearer xoxb-1"))),
            slack_app(&answer(302, "", Value::Null)),
            discord_bot(&answer(200, "", Value::Null), Some("1")),
            teams_bot(&answer(200, "", Value::Null)),
            slack_bot(&answer(500, "", Value::Null)),
            slack_app(&answer(200, "", json!({"ok": true, "url": "wss://x"}))),
            slack_app(&answer(200, "", error("not_allowed_token_type"))),
            slack_app(&answer(200, "", error("invalid_auth"))),
            discord_bot(&answer(200, "", app(1 << 19)), Some("456")),
            discord_bot(&answer(200, "", app(0)), Some("456")),
            discord_bot(&answer(200, "", app(1 << 18)), Some("9")),
            discord_bot(&answer(200, "", app(1 << 18)), None),
            discord_bot(&answer(401, "", Value::Null), Some("456")),
            discord_bot(&answer(502, "", Value::Null), Some("456")),
            teams_bot(&answer(200, "", json!({"access_token": "hush"}))),
            teams_bot(&answer(401, "", azure("AADSTS7000215: Invalid client secret. Trace: x"))),
            teams_bot(&answer(400, "", azure("AADSTS700016: Application not found"))),
            teams_bot(&answer(400, "", azure("AADSTS90002: Tenant"))),
            teams_bot(&answer(400, "", azure("AADSTS123: What"))),
            teams_bot(&answer(503, "", Value::Null)),
        ];
        insta::assert_snapshot!(super::super::lines(&told));
    }
}
