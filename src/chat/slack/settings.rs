//! What Slack's part of the server is told by its environment.

use secrecy::SecretString;
use url::Url;

use crate::chat::guard::is_private;

/// Where Slack's Web API is, unless something else is said.
const API: &str = "https://slack.com/api";

/// The tokens, and where Slack is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bot's token, `xoxb-…`: what it posts, reads and fetches files with.
    pub bot_token: SecretString,
    /// The app-level token, `xapp-…`: what the socket is opened with.
    pub app_token: SecretString,
    /// The root of the Web API, without a slash at its end.
    pub api: Url,
}

/// Why Slack cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable is missing or empty.
    #[error("CHAT_PROVIDER names slack, but {variable} is not set; {mend}")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// A variable holds a token of another kind. The token itself is never told.
    #[error("{variable} does not begin with `{prefix}`, so it is another kind of token; {mend}")]
    OtherToken {
        /// The variable.
        variable: &'static str,
        /// What it ought to begin with.
        prefix: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// The API's address cannot be used.
    #[error(
        "SLACK_API_URL is `{0}`, which is no address of Slack's API; unset it, or for GovSlack \
         write https://slack-gov.com/api"
    )]
    Api(String),
}

/// Where the bot's token is found.
const BOT_MEND: &str =
    "copy the bot token from the app's page, OAuth & Permissions (docs/slack.md, step 3)";
/// Where the app-level token is found.
const APP_MEND: &str = "make an app-level token with the scope connections:write on the app's \
                        page, Basic Information (docs/slack.md, step 2)";

impl Settings {
    /// Reads them from an environment.
    ///
    /// # Errors
    /// The first variable that is missing or cannot be used.
    pub fn from_environment(environment: &[(String, String)]) -> Result<Self, Error> {
        let said = |name: &str| {
            let found = environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
        };
        let token = |variable, prefix: &'static str, mend| {
            let value = said(variable).ok_or(Error::Missing { variable, mend })?;
            if !value.starts_with(prefix) || value.chars().any(|c| !c.is_ascii_graphic()) {
                return Err(Error::OtherToken { variable, prefix, mend });
            }
            Ok(SecretString::from(value))
        };
        let bot_token = token("SLACK_BOT_TOKEN", "xoxb-", BOT_MEND)?;
        let app_token = token("SLACK_APP_TOKEN", "xapp-", APP_MEND)?;
        let api = said("SLACK_API_URL").unwrap_or(API).trim_end_matches('/');
        let url = Url::parse(api).ok().filter(safe).ok_or_else(|| Error::Api(api.to_owned()))?;
        Ok(Self { bot_token, app_token, api: url })
    }
}

/// Whether tokens may go there.
fn safe(api: &Url) -> bool {
    api.query().is_none() && api.username().is_empty() && is_private(api)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let owned: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Settings::from_environment(&owned)
    }

    const BOT: (&str, &str) = ("SLACK_BOT_TOKEN", " xoxb-hush ");
    const APP: (&str, &str) = ("SLACK_APP_TOKEN", "xapp-hush");

    #[test]
    fn two_tokens_are_enough() {
        let settings = read(&[BOT, APP, ("SLACK_API_URL", "")]).unwrap();
        assert_eq!(settings.api.as_str(), "https://slack.com/api");
        assert_eq!(settings.bot_token.expose_secret(), "xoxb-hush");
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_in_one_line_with_the_mend_and_no_token() {
        let api = |value| ("SLACK_API_URL", value);
        let all = [
            vec![APP],
            vec![BOT],
            vec![BOT, ("SLACK_APP_TOKEN", " ")],
            vec![("SLACK_BOT_TOKEN", "xapp-hush"), APP],
            vec![BOT, ("SLACK_APP_TOKEN", "xoxb-hush")],
            vec![BOT, APP, api("slack")],
            vec![BOT, APP, api("http://slack.com/api")],
        ];
        let told = all.map(|variables| read(&variables).unwrap_err().to_string()).join("\n");
        assert!(!told.contains("hush"), "{told}");
        insta::assert_snapshot!(told);
    }

    #[test]
    fn tokens_go_by_tls_or_stay_on_this_machine() {
        for (api, takes) in [
            ("https://slack-gov.com/api/", true),
            ("http://127.0.0.1:8123/api", true),
            ("http://[::1]:8123/api", true),
            ("http://127.0.0.1.example.com/api", false),
            ("https://me@slack.com/api", false),
            ("ftp://slack.com/api", false),
        ] {
            assert_eq!(read(&[BOT, APP, ("SLACK_API_URL", api)]).is_ok(), takes, "{api}");
        }
    }
}
