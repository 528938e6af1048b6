//! Failures in one line for people, each with its mend.

use agent_client_protocol_schema::v1::{Error, ErrorCode, StopReason};
use serde_json::Value;

use crate::driver::words::one_line;

/// The most characters of a message.
const MESSAGE_CHARS: usize = 400;

/// Who speaks, as far as messages name it.
#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    /// Its name for people.
    pub name: String,
    /// The ways to log in that it offers.
    pub logins: Vec<String>,
}

impl Agent {
    /// Why a turn failed that was answered with an error.
    pub(super) fn of_turn(&self, error: &Error) -> String {
        if error.code == ErrorCode::AuthRequired {
            return self.logged_out();
        }
        self.of_words(&said(error))
    }

    /// Why a turn failed, from the words that an agent or its model API had for it.
    pub(super) fn of_words(&self, words: &str) -> String {
        let said = one_line(words, MESSAGE_CHARS);
        let has = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
        match said.as_str() {
            "" => format!("{} says that the turn failed, without a reason", self.name),
            _ if has(&["401", "403", "API key not valid", "API_KEY_INVALID", "Unauthorized"]) => {
                format!(
                    "the model API refused the log-in ({said}); check the key that {} uses, or log in again",
                    self.name
                )
            }
            _ if has(&["429", "RESOURCE_EXHAUSTED", "rate limit", "Too Many Requests"]) => {
                format!("the model API's limit is reached ({said}); try again later")
            }
            _ => said,
        }
    }

    /// Why a turn failed that the agent ended without an answer; none where it did not fail.
    pub(super) fn of_stop(&self, reason: StopReason) -> Option<String> {
        let name = &self.name;
        Some(match reason {
            StopReason::EndTurn | StopReason::Cancelled => return None,
            StopReason::MaxTokens => format!(
                "{name} stopped at the most tokens that its model may write; tell it to go on"
            ),
            StopReason::MaxTurnRequests => {
                format!("{name} stopped at its limit of steps in one turn; tell it to go on")
            }
            StopReason::Refusal => {
                format!("{name} refused to go on, and forgets this message; ask in another way")
            }
            _ => format!("{name} ended the turn for a reason that is not known here"),
        })
    }

    /// Why a session could not be had.
    pub(super) fn of_session(&self, error: &Error) -> String {
        if error.code == ErrorCode::AuthRequired {
            return self.logged_out();
        }
        format!("{} gives no session: {}", self.name, said(error))
    }

    fn logged_out(&self) -> String {
        let ways = self.logins.join(", ");
        let offer = if ways.is_empty() { String::new() } else { format!(" (it offers: {ways})") };
        format!(
            "{} is not logged in; log in with its own command as the user who runs the agent, or \
             set its API key{offer}",
            self.name
        )
    }

    /// Why a program that was started is no agent for us.
    pub(super) fn of_greeting(&self, error: &Error) -> String {
        format!(
            "`{}` does not answer as an ACP agent does: {}; check the agent's command",
            self.name,
            said(error)
        )
    }

    /// That the agent speaks another version of the protocol.
    pub(super) fn of_version(&self, version: &str) -> String {
        format!(
            "{} speaks version {version} of the Agent Client Protocol, and not version 1; install \
             a version of it that does",
            self.name
        )
    }

    /// That nothing is heard from it.
    pub(super) fn of_silence(&self) -> String {
        format!(
            "`{}` was started and says nothing; check whether the command is that of an ACP agent",
            self.name
        )
    }

    /// That it runs but has closed its output, so that no answer of it can come.
    pub(super) fn of_muteness(&self) -> String {
        format!("{} closed its output and runs on, so that it was given up", self.name)
    }

    /// Why the agent ended by itself, from its last words.
    pub(super) fn of_end(&self, how: &str, last_words: &str) -> String {
        match one_line(last_words, MESSAGE_CHARS).as_str() {
            "" => format!("{} ended by itself ({how}) and said nothing about it", self.name),
            words => format!("{} ended by itself ({how}): {words}", self.name),
        }
    }
}

/// Why the agent could not be started.
pub(super) fn of_start(program: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "the ACP agent was not found as `{program}`; install it, or put it on the agent's PATH"
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("the ACP agent could not be started: `{program}` may not be executed")
        }
        _ => format!("the ACP agent could not be started as `{program}`: {error}"),
    }
}

/// An error in its own words. Many put what matters into the data, and a commonplace before it.
pub(super) fn said(error: &Error) -> String {
    let data = error.data.as_ref();
    let detail = data.and_then(|data| match data {
        Value::String(text) => Some(text.as_str()),
        _ => ["details", "message", "error"].iter().find_map(|member| data[*member].as_str()),
    });
    let message = error.message.trim();
    let text = match detail {
        Some(detail) if message.is_empty() || detail.contains(message) => detail.to_owned(),
        Some(detail) if !message.contains(detail) => format!("{message}: {detail}"),
        _ => message.to_owned(),
    };
    match one_line(&text, MESSAGE_CHARS) {
        text if text.is_empty() => format!("error {}", i32::from(error.code)),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_failure_names_its_mend() {
        let agent =
            Agent { name: "Codex".into(), logins: vec!["API Key".into(), "ChatGPT".into()] };
        let internal = |data| Error::internal_error().data(data);
        let lines = [
            agent.of_turn(&Error::auth_required()),
            agent.of_turn(&internal(json!("401 Unauthorized"))),
            agent.of_turn(&internal(json!({"details": "429: slow down"}))),
            agent.of_turn(&internal(json!({"errorKind": "unknown"}))),
            agent.of_turn(&Error::new(400, "bad\nrequest")),
            agent.of_turn(&Error::new(7, " ")),
            agent.of_words(""),
            agent.of_stop(StopReason::MaxTokens).unwrap_or_default(),
            agent.of_stop(StopReason::MaxTurnRequests).unwrap_or_default(),
            agent.of_stop(StopReason::Refusal).unwrap_or_default(),
            agent.of_session(&Error::auth_required()),
            agent.of_session(&internal(json!("no such directory"))),
            agent.of_greeting(&Error::method_not_found()),
            agent.of_version("2"),
            agent.of_silence(),
            agent.of_muteness(),
            agent.of_end("exit code 41", "Invalid auth method selected."),
            agent.of_end("signal 9", ""),
            of_start("codex-acp", &std::io::ErrorKind::NotFound.into()),
            of_start("/opt/agent", &std::io::ErrorKind::PermissionDenied.into()),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }
}
