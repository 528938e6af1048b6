//! `doctor`: what stands between this machine and a working server, one line a check.
//!
//! It needs no server. It reads the settings that `serve` would read, looks at this machine
//! ([`here`]), and asks each chat platform that is named, Fly, and the repositories of Sources one thing
//! that changes nothing ([`platforms`], [`fly`], [`sources`]). What is wrong comes with its mend. A token is shown to the address that the
//! settings name and to nobody else: not in a line, not in an error.

mod fly;
mod here;
mod platforms;
mod sources;

use serde::Serialize;

use super::{
    args::{ConfigForm, DoctorArgs},
    error::Error,
    out,
    serve::{layers, machine},
};
use crate::config::{Chat, Config, Flags};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at.
    name: &'static str,
    /// How it is.
    state: State,
    /// What was found, in one line.
    found: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    mend: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing fails by it alone.
    Note,
    /// Something will not work.
    Fails,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), mend: String::new() }
    }

    fn note(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Note, found: found.into(), mend: mend.into() }
    }

    fn fails(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Fails, found: found.into(), mend: mend.into() }
    }
}

/// Runs `doctor`: 1 if anything fails.
///
/// # Errors
/// Only where nothing can be printed.
pub async fn doctor(args: DoctorArgs) -> Result<u8, Error> {
    let checks = match settings(&args) {
        Err(error) => {
            let mend = "see open-dispatch config view, and docs/configuration.md";
            vec![Check::fails("settings", error.to_string(), mend)]
        }
        Ok((config, warnings)) => {
            let warned = warnings.into_iter().map(|warning| Check::note("settings", warning, ""));
            let mut checks = all(&config).await;
            checks.splice(1..1, warned);
            checks
        }
    };
    match args.output {
        ConfigForm::Json => {
            let text = serde_json::to_string_pretty(&checks).unwrap_or_default();
            out::line(text)?;
        }
        ConfigForm::Text => out::data(lines(&checks))?,
    }
    Ok(u8::from(checks.iter().any(|check| check.state == State::Fails)))
}

/// The settings, and what `config view` warns of.
fn settings(args: &DoctorArgs) -> Result<(Config, Vec<String>), Error> {
    let layers = layers(args.data.clone(), args.config.clone())?;
    let flags = Flags { data: args.data.clone(), ..Flags::default() };
    Ok((Config::resolve(&flags, &layers, machine())?, layers.warnings()))
}

async fn all(config: &Config) -> Vec<Check> {
    let chats: Vec<&str> = config.chat.value.iter().map(|chat| chat.name()).collect();
    let found = if chats.is_empty() { "no chat".to_owned() } else { chats.join(", ") };
    let mut checks = vec![Check::ok("settings", format!("chat: {found}"))];
    checks.extend(here::checks(config).await);
    checks.extend(admins(config));
    // Whoever does not answer takes its time alone.
    let (platforms, fly, sources) =
        tokio::join!(platforms::checks(config), fly::checks(config), sources::checks(config));
    checks.extend(platforms);
    checks.extend(fly);
    checks.extend(sources);
    checks
}

/// Somebody must be able to begin.
fn admins(config: &Config) -> Option<Check> {
    let others = config.chat.value.iter().any(|chat| *chat != Chat::Console);
    let mend = "set OPEN_DISPATCH_ADMINS to your own id, as in slack:U0123ABC, or let yourself in \
                with open-dispatch access approve (docs/access.md)";
    (others && config.admins.value.is_empty())
        .then(|| Check::note("admins", "the settings name no admin", mend))
}

/// One line a check, and below it the mend.
fn lines(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Fails => "FAILS",
        };
        let found = out::harmless(&check.found);
        text.push_str(&format!("{state:<6}{:<width$}  {found}", check.name));
        if !check.mend.is_empty() {
            text.push_str(&format!("; {}", out::harmless(&check.mend)));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_one_line_with_its_mend() {
        let checks = [
            Check::ok("git", "git version 2.47.0"),
            Check::note("claude", "is not logged in", "run claude once"),
            Check::fails("slack bot token", "Slack says invalid_auth\n\u{1b}[2J", "copy it anew"),
        ];
        insta::assert_snapshot!(lines(&checks));
    }
}
