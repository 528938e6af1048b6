//! What the Teams room is told, read from the environment. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use secrecy::SecretString;
use url::Url;
use uuid::Uuid;

/// The port that Microsoft's own samples listen on.
const DEFAULT_PORT: u16 = 3978;
/// Where access tokens are made.
const LOGIN: &str = "https://login.microsoftonline.com";
/// Where the channel says with which keys it signs.
const OPENID: &str = "https://login.botframework.com/v1/.well-known/openidconfiguration";
/// The same two for the United States' government.
const LOGIN_US: &str = "https://login.microsoftonline.us";
const OPENID_US: &str = "https://login.botframework.azure.us/v1/.well-known/openidconfiguration";
/// Whom the access token may be shown, beside what `TEAMS_SERVICE_HOSTS` adds.
const HOSTS: [&str; 3] = ["smba.trafficmanager.net", "botframework.com", "teams.microsoft.com"];

/// What the Teams room is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The app's id, a GUID in lower case.
    pub app_id: String,
    /// The app's client secret.
    pub password: SecretString,
    /// The only tenant that is served, a GUID in lower case.
    pub tenant: String,
    /// Where Teams reaches us.
    pub listen: SocketAddr,
    /// Where access tokens are made.
    pub login: Url,
    /// Where the channel's signing keys are named.
    pub openid: Url,
    /// Who issues the channel's tokens.
    pub issuer: &'static str,
    /// What our access token is for.
    pub scope: &'static str,
    /// Whom the access token may be shown.
    pub hosts: Hosts,
    /// Whether answers grow as streams where Teams has them.
    pub streaming: bool,
}

/// What the environment lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable is not set.
    #[error("CHAT_PROVIDER names teams, and {names} is not set; it is {what} (docs/teams.md)")]
    Missing {
        /// The variable, and its other name.
        names: &'static str,
        /// Where its value is found.
        what: &'static str,
    },
    /// A variable has a value that it cannot have.
    #[error("{name} is `{value}`, which is no {what}")]
    Bad {
        /// The variable.
        name: &'static str,
        /// Its value; never a secret.
        value: String,
        /// What it should be.
        what: &'static str,
    },
}

impl Settings {
    /// Reads the variables.
    ///
    /// # Errors
    /// The first one that is missing or cannot be understood.
    pub fn from_environment(variables: &[(String, String)]) -> Result<Self, Error> {
        let read = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
        };
        let app_id = read("MICROSOFT_APP_ID").or_else(|| read("TEAMS_APP_ID"));
        let app_id = app_id.ok_or(Error::Missing {
            names: "MICROSOFT_APP_ID (or TEAMS_APP_ID)",
            what: "the Azure Bot's Microsoft App ID",
        })?;
        let app_id = guid("MICROSOFT_APP_ID", app_id, "app id: a GUID, as the Azure Bot shows it")?;
        let password = read("MICROSOFT_APP_PASSWORD").or_else(|| read("TEAMS_APP_PASSWORD"));
        let password = password.ok_or(Error::Missing {
            names: "MICROSOFT_APP_PASSWORD (or TEAMS_APP_PASSWORD)",
            what: "the value of a client secret of the app registration",
        })?;
        let tenant = read("MICROSOFT_APP_TENANT_ID").ok_or(Error::Missing {
            names: "MICROSOFT_APP_TENANT_ID",
            what: "the tenant's id, since bots are single-tenant",
        })?;
        let what = "tenant id: a GUID, as Entra ID's overview shows it";
        let tenant = guid("MICROSOFT_APP_TENANT_ID", tenant, what)?;
        let login = read("TEAMS_LOGIN_URL").unwrap_or(LOGIN);
        let is_us = login.trim_end_matches('/') == LOGIN_US;
        let openid = read("TEAMS_OPENID_URL").unwrap_or(if is_us { OPENID_US } else { OPENID });
        Ok(Self {
            app_id,
            password: password.into(),
            tenant,
            listen: listen(read("PORT"))?,
            login: web("TEAMS_LOGIN_URL", login)?,
            openid: web("TEAMS_OPENID_URL", openid)?,
            issuer: if is_us {
                "https://api.botframework.us"
            } else {
                "https://api.botframework.com"
            },
            scope: if is_us {
                "https://api.botframework.us/.default"
            } else {
                "https://api.botframework.com/.default"
            },
            hosts: Hosts::read(read("TEAMS_SERVICE_HOSTS").unwrap_or_default())?,
            streaming: switch("TEAMS_STREAMING", read("TEAMS_STREAMING"))?,
        })
    }
}

fn guid(name: &'static str, value: &str, what: &'static str) -> Result<String, Error> {
    let guid = Uuid::parse_str(value);
    let guid = guid.map_err(|_| Error::Bad { name, value: value.to_owned(), what })?;
    Ok(guid.hyphenated().to_string())
}

/// On, unless it says otherwise.
fn switch(name: &'static str, value: Option<&str>) -> Result<bool, Error> {
    match value {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(value) => {
            Err(Error::Bad { name, value: value.to_owned(), what: "switch: write on or off" })
        }
    }
}

/// A port, on all addresses, or an address with one.
fn listen(value: Option<&str>) -> Result<SocketAddr, Error> {
    let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let Some(value) = value else { return Ok(SocketAddr::new(all, DEFAULT_PORT)) };
    let port = value.parse::<u16>().map(|port| SocketAddr::new(all, port));
    port.or_else(|_| value.parse()).map_err(|_| Error::Bad {
        name: "PORT",
        value: value.to_owned(),
        what: "port, such as 3978 or 127.0.0.1:3978",
    })
}

fn web(name: &'static str, value: &str) -> Result<Url, Error> {
    let bad = || Error::Bad { name, value: value.to_owned(), what: "URL with https" };
    let url = Url::parse(value).map_err(|_| bad())?;
    let is_local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if url.scheme() == "https" || (url.scheme() == "http" && is_local) {
        Ok(url)
    } else {
        Err(bad())
    }
}

/// Whom our access token may be shown: whoever holds it can speak as the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Hosts, with those below them, by https.
    names: Vec<String>,
    /// Origins that are meant exactly.
    origins: Vec<Url>,
}

impl Hosts {
    /// Microsoft's, and a list of more, with commas between: `host`, or `scheme://host:port`.
    fn read(more: &str) -> Result<Self, Error> {
        let mut hosts = Self { names: HOSTS.map(str::to_owned).to_vec(), origins: Vec::new() };
        for entry in more.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry.contains("://") {
                hosts.origins.push(web("TEAMS_SERVICE_HOSTS", entry)?);
            } else {
                hosts.names.push(entry.to_ascii_lowercase());
            }
        }
        Ok(hosts)
    }

    /// Whether a URL leads to one of them.
    #[must_use]
    pub fn allow(&self, url: &Url) -> bool {
        if self.origins.iter().any(|origin| origin.origin() == url.origin()) {
            return true;
        }
        let Some(host) = url.host_str() else { return false };
        let below = |name: &String| {
            host == name || host.strip_suffix(name.as_str()).is_some_and(|it| it.ends_with('.'))
        };
        url.scheme() == "https"
            && url.port().is_none()
            && url.username().is_empty()
            && self.names.iter().any(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [(&str, &str); 3] = [
        ("MICROSOFT_APP_ID", "0AA00000-0000-4000-8000-000000000001"),
        ("MICROSOFT_APP_PASSWORD", "hidden-from-all"),
        ("MICROSOFT_APP_TENANT_ID", "0bb00000-0000-4000-8000-000000000002"),
    ];

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Settings::from_environment(&variables.collect::<Vec<_>>())
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_the_mend() {
        let with = |name, value| [&WHOLE[..], &[(name, value)]].concat();
        let mut no_guid = WHOLE;
        no_guid[2].1 = "contoso.example";
        let all = [
            read(&[]),
            read(&WHOLE[..1]),
            read(&WHOLE[..2]),
            read(&no_guid),
            read(&with("PORT", "high")),
            read(&with("TEAMS_LOGIN_URL", "http://login.example")),
            read(&with("TEAMS_SERVICE_HOSTS", "ftp://here")),
            read(&with("TEAMS_STREAMING", "no")),
        ];
        let told = all.map(|it| it.map_or_else(|error| error.to_string(), |_| "taken".to_owned()));
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn the_other_names_and_the_defaults_hold() {
        let other = [("TEAMS_APP_ID", WHOLE[0].1), ("TEAMS_APP_PASSWORD", "hidden"), WHOLE[2]];
        let settings = read(&other).unwrap();
        assert_eq!(settings.app_id, "0aa00000-0000-4000-8000-000000000001");
        assert_eq!(settings.listen, "0.0.0.0:3978".parse().unwrap());
        assert_eq!(settings.openid.as_str(), OPENID);
        assert!(settings.streaming);
        let off = [&WHOLE[..], &[("TEAMS_STREAMING", "off")]].concat();
        assert!(!read(&off).unwrap().streaming);
        let us = [&WHOLE[..], &[("TEAMS_LOGIN_URL", LOGIN_US)]].concat();
        assert_eq!(read(&us).unwrap().scope, "https://api.botframework.us/.default");
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let shown = format!("{:?}", read(&WHOLE).unwrap());
        assert!(!shown.contains("hidden-from-all"), "{shown}");
    }

    #[test]
    fn the_access_token_is_shown_to_known_hosts_alone() {
        let more = [("TEAMS_SERVICE_HOSTS", "gov.example, http://127.0.0.1:7000")];
        let hosts = read(&[&WHOLE[..], &more].concat()).unwrap().hosts;
        let allowed = |url: &str| hosts.allow(&url.parse().unwrap());
        for url in [
            "https://smba.trafficmanager.net/amer/",
            "https://europe.api.botframework.com/",
            "https://gov.example/teams/",
            "http://127.0.0.1:7000/x",
        ] {
            assert!(allowed(url), "{url}");
        }
        for url in [
            "http://smba.trafficmanager.net/amer/",
            "https://evilbotframework.com/",
            "https://botframework.com.evil.example/",
            "https://smba.trafficmanager.net:8443/",
            "https://me@botframework.com/",
            "http://127.0.0.1:7001/x",
            "http://gov.example/",
        ] {
            assert!(!allowed(url), "{url}");
        }
    }
}
