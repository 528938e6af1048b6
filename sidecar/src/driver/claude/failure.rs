//! Failures in one line for people, each with its mend.

use super::protocol::TurnResult;
use crate::driver::words::one_line;

/// The most characters of a message.
const MESSAGE_CHARS: usize = 400;

const LOGGED_OUT: &str = "Claude Code is not logged in; run `claude` and /login as the user who \
                          runs the agent, or set ANTHROPIC_API_KEY";
const REFUSED: &str = "check ANTHROPIC_API_KEY, or run `claude` and /login";

/// Why a turn failed. `kind` is the CLI's word for the error of the last message, if it had one.
pub(super) fn of_turn(result: &TurnResult, kind: Option<&str>) -> String {
    let said = [result.text.as_str()]
        .into_iter()
        .chain(result.errors.iter().map(String::as_str))
        .map(|text| one_line(text, MESSAGE_CHARS))
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    if let Some(known) = known(&said) {
        return known;
    }
    let kind = kind.unwrap_or_default();
    let said = match (said.as_str(), result.api_status) {
        ("", Some(status)) => format!("API Error: {status}"),
        ("", None) => one_line(&kind.replace('_', " "), MESSAGE_CHARS),
        (said, _) => said.to_owned(),
    };
    match (result.api_status, kind) {
        (Some(401 | 403), _) | (_, "authentication_failed") => {
            format!("the model API refused the log-in ({said}); {REFUSED}")
        }
        (Some(429), _) | (_, "rate_limit") => {
            format!("the model API's limit is reached ({said}); try again later")
        }
        (_, "billing_error") => {
            format!("the model API's account has no credit ({said}); add credit or change the key")
        }
        (Some(404), _) | (_, "model_not_found") => {
            format!("the model API does not know the model ({said}); check the agent's model")
        }
        _ if result.subtype == "error_max_turns" => {
            "Claude Code stopped at its limit of steps in one turn".to_owned()
        }
        _ if said.is_empty() => match result.subtype.as_str() {
            "" | "success" => "Claude Code says that the turn failed, without a reason".to_owned(),
            subtype => format!("Claude Code says that the turn failed: {subtype}"),
        },
        _ => said,
    }
}

/// Whether the CLI says that it does not have the session that it was to resume.
pub(super) fn is_session_gone(result: &TurnResult) -> bool {
    let says = |text: &str| {
        text.contains("No conversation found") || text.contains("--resume requires a valid session")
    };
    says(&result.text) || result.errors.iter().any(|error| says(error))
}

/// What is said when a session is gone.
pub(super) fn session_gone(id: &str) -> String {
    format!("the session {} is gone; a new one begins\n", one_line(id, MESSAGE_CHARS))
}

/// What is said of background tasks that have to end with the CLI.
pub(super) fn tasks_ended(count: usize) -> String {
    match count {
        1 => "a background task of the agent was still running, and is ended\n".to_owned(),
        count => {
            format!("{count} background tasks of the agent were still running, and are ended\n")
        }
    }
}

/// Why the CLI ended by itself, from its last words.
pub(super) fn of_end(how: &str, last_words: &str) -> String {
    let words = one_line(last_words, MESSAGE_CHARS);
    if let Some(known) = known(&words) {
        return known;
    }
    match words.as_str() {
        "" => format!("Claude Code ended by itself ({how}) and said nothing about it"),
        words => format!("Claude Code ended by itself ({how}): {words}"),
    }
}

/// What the CLI's own words do not say well enough.
fn known(said: &str) -> Option<String> {
    if said.contains("Not logged in") || said.contains("Invalid API key · Please run /login") {
        return Some(LOGGED_OUT.to_owned());
    }
    if said.contains("No conversation found") {
        return Some(format!(
            "Claude Code does not have the session to resume any more ({said}); begin a new one"
        ));
    }
    None
}

/// Why the model API is tried again.
pub(super) fn of_retry(status: Option<u16>, kind: &str) -> String {
    let kind = match kind {
        "" | "unknown" => "",
        kind => kind,
    };
    let kind = kind.replace('_', " ");
    match (status, kind.as_str()) {
        (Some(status), "") => format!("the model API answered {status}"),
        (Some(status), kind) => format!("the model API answered {status} ({kind})"),
        (None, "") => "the model API cannot be reached, or broke off".to_owned(),
        (None, kind) => format!("the model API cannot be reached, or broke off ({kind})"),
    }
}

/// Why the CLI could not be started.
pub(super) fn of_start(program: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "Claude Code was not found as `{program}`; install it, or put it on the agent's PATH"
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("Claude Code could not be started: `{program}` may not be executed")
        }
        _ => format!("Claude Code could not be started as `{program}`: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &str, status: Option<u16>) -> TurnResult {
        TurnResult {
            is_error: true,
            subtype: "success".into(),
            text: text.into(),
            api_status: status,
            ..TurnResult::default()
        }
    }

    #[test]
    fn each_failure_names_its_mend() {
        let lines = [
            of_turn(&failed("Not logged in · Please run /login", None), None),
            of_turn(&failed("API Error: 401 no such key", Some(401)), None),
            of_turn(&failed("API Error: 429 slow down", Some(429)), Some("rate_limit")),
            of_turn(&failed("Credit balance is too low", None), Some("billing_error")),
            of_turn(&failed("API Error: 404 model: opus-9", Some(404)), None),
            of_turn(&failed("API Error: 529 overloaded\nhint", Some(529)), None),
            of_turn(&failed("", None), None),
            of_turn(
                &TurnResult {
                    subtype: "error_during_execution".into(),
                    errors: vec!["No conversation found with session ID: 7".into()],
                    ..TurnResult::default()
                },
                None,
            ),
            of_end("exit code 1", "error: unknown option '--nonsense'"),
            of_end("signal 9", ""),
            of_retry(Some(529), "overloaded"),
            of_retry(None, "unknown"),
            of_start("claude", &std::io::ErrorKind::NotFound.into()),
            of_start("/opt/claude", &std::io::ErrorKind::PermissionDenied.into()),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }
}
