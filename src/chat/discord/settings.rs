//! What the environment says of Discord. Pure.

use secrecy::SecretString;
use url::Url;

use crate::chat::guard::is_private;

/// Where Discord's API is, unless the environment says otherwise.
const DISCORD: &str = "https://discord.com/api";

/// What is needed to speak with Discord.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bot's token.
    pub token: SecretString,
    /// The application's id.
    pub application: String,
    /// The one guild in which the commands are registered; in all of them without it.
    pub guild: Option<String>,
    /// Where the API is, without a version and without a slash at its end.
    pub api: Url,
    /// Whether the API is Discord's own, and not a proxy or a test's.
    pub is_discords: bool,
}

/// What the environment lacks, and the mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable is missing.
    #[error("CHAT_PROVIDER names discord, but {0} is not set; {1} (docs/discord.md)")]
    Missing(&'static str, &'static str),
    /// An id that is none.
    #[error("{0} is `{1}`, which is no id of Discord's; write the number that Copy ID gives")]
    BadId(&'static str, String),
    /// A token that cannot be one.
    #[error(
        "DISCORD_BOT_TOKEN cannot be a bot's token; copy it anew from the application's page Bot, \
         without `Bot` in front and without spaces"
    )]
    BadToken,
    /// An address that cannot be used.
    #[error(
        "DISCORD_API_URL is `{0}`, to which no token may go; write an https address, or an http \
         address of this machine, or leave it out"
    )]
    BadUrl(String),
}

impl Settings {
    /// Reads the settings out of an environment.
    ///
    /// # Errors
    /// The first variable that is missing or cannot be read, with the mend.
    pub fn read(environment: &[(String, String)]) -> Result<Self, Error> {
        let find = |name: &str| {
            let found = environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
        };
        let token = find("DISCORD_BOT_TOKEN").ok_or(Error::Missing(
            "DISCORD_BOT_TOKEN",
            "copy it from the application's page Bot at https://discord.com/developers",
        ))?;
        // It goes into a header, and into one word of it.
        if token.chars().any(|c| !c.is_ascii_graphic()) {
            return Err(Error::BadToken);
        }
        let application = find("DISCORD_CLIENT_ID").ok_or(Error::Missing(
            "DISCORD_CLIENT_ID",
            "copy Application ID from General Information at https://discord.com/developers",
        ))?;
        let id = |name, value: &str| match is_id(value) {
            true => Ok(value.to_owned()),
            false => Err(Error::BadId(name, value.to_owned())),
        };
        let text = find("DISCORD_API_URL");
        let bad = || Error::BadUrl(text.unwrap_or(DISCORD).to_owned());
        let api = Url::parse(text.unwrap_or(DISCORD).trim_end_matches('/')).map_err(|_| bad())?;
        if !is_safe(&api) {
            return Err(bad());
        }
        Ok(Self {
            token: SecretString::from(token),
            application: id("DISCORD_CLIENT_ID", application)?,
            guild: find("DISCORD_GUILD_ID")
                .map(|guild| id("DISCORD_GUILD_ID", guild))
                .transpose()?,
            is_discords: api.scheme() == "https" && api.host_str() == Some("discord.com"),
            api,
        })
    }
}

/// Whether the token may go there.
fn is_safe(api: &Url) -> bool {
    api.username().is_empty() && is_private(api)
}

/// Whether a text is an id as Discord gives them: a number of 64 bits, not zero.
pub(super) fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok_and(|id| id > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Settings::read(&variables.iter().map(own).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_its_mend() {
        let token = ("DISCORD_BOT_TOKEN", "abc.def.ghi");
        let client = ("DISCORD_CLIENT_ID", "123");
        let told = [
            read(&[]),
            read(&[("DISCORD_BOT_TOKEN", " "), client]),
            read(&[("DISCORD_BOT_TOKEN", "Bot abc"), client]),
            read(&[token]),
            read(&[token, ("DISCORD_CLIENT_ID", "my-app")]),
            read(&[token, client, ("DISCORD_GUILD_ID", "0")]),
            read(&[token, client, ("DISCORD_API_URL", "discord.example")]),
            read(&[token, client, ("DISCORD_API_URL", "http://discord.com/api")]),
        ];
        let told = told.map(|read| read.unwrap_err().to_string());
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn an_address_that_is_set_is_the_one_that_is_asked_and_the_token_is_not_shown() {
        let token = ("DISCORD_BOT_TOKEN", "abc.def.ghi");
        let client = ("DISCORD_CLIENT_ID", "123");
        let own = read(&[token, client]).unwrap();
        assert_eq!((own.api.as_str(), own.is_discords), ("https://discord.com/api", true));
        let url = ("DISCORD_API_URL", "http://127.0.0.1:9/api/");
        let other = read(&[token, client, url, ("DISCORD_GUILD_ID", "7")]).unwrap();
        assert_eq!((other.api.as_str(), other.is_discords), ("http://127.0.0.1:9/api", false));
        assert_eq!(other.guild.as_deref(), Some("7"));
        assert!(!format!("{other:?}").contains("abc.def"));
    }
}
