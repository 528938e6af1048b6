//! Failures in one line for people, each with its mend.

use super::protocol::Fault;
use crate::driver::words::one_line;

/// The most characters of a message.
const MESSAGE_CHARS: usize = 400;

/// Why a turn failed.
pub(super) fn of_turn(fault: &Fault) -> String {
    // Some faults carry a stack trace below their first line.
    let said = one_line(fault.message.lines().next().unwrap_or_default(), MESSAGE_CHARS);
    let detail = match (said.as_str(), fault.status) {
        ("", Some(status)) => status.to_string(),
        ("", None) => fault.name.clone(),
        (said, Some(status)) => format!("{status}: {said}"),
        (said, None) => said.to_owned(),
    };
    match (fault.name.as_str(), fault.status) {
        ("ProviderAuthError", _) | (_, Some(401 | 403)) => format!(
            "the model API refused the log-in ({detail}); run `opencode auth login` as the user \
             who runs the agent, or set the provider's API key"
        ),
        (_, Some(402)) => {
            format!(
                "the model API's account has no credit ({detail}); add credit or change the key"
            )
        }
        (_, Some(429)) => format!("the model API's limit is reached ({detail}); try again later"),
        ("ContextOverflowError", _) => format!(
            "the conversation is longer than the model can read ({detail}); begin a new session"
        ),
        ("MessageOutputLengthError", _) => {
            "the answer was longer than the model may write; ask for less at once".to_owned()
        }
        _ if said.contains("Model not found") || said.contains("ProviderModelNotFoundError") => {
            format!("{said}; name the agent's model as `opencode models` lists it")
        }
        (_, Some(status)) => format!("the model API answered {status}{}", behind(&said)),
        (name, None) if said.is_empty() => {
            format!("OpenCode says that the turn failed: {name}")
        }
        _ => said,
    }
}

fn behind(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// A turn that ended without an answer and without a reason.
pub(super) const NO_ANSWER: &str = "OpenCode ended the turn without an answer; ask again";

/// Why the model API is tried again.
pub(super) fn of_retry(message: &str) -> String {
    match one_line(message, MESSAGE_CHARS).as_str() {
        "" => "the model API cannot be reached, or broke off".to_owned(),
        said => format!("the model API failed ({said})"),
    }
}

/// Why a prompt could not be given.
pub(super) fn of_prompt(why: &str) -> String {
    one_line(&format!("OpenCode did not take the prompt: {why}"), MESSAGE_CHARS)
}

/// Why the server was not there to speak with.
pub(super) fn of_opening(why: &str, last_words: &str) -> String {
    let why = one_line(why, MESSAGE_CHARS);
    match one_line(last_words, MESSAGE_CHARS).as_str() {
        "" => format!("OpenCode's server did not begin: {why}"),
        words => format!("OpenCode's server did not begin: {why}; it said: {words}"),
    }
}

/// Why the server ended by itself, from its last words.
pub(super) fn of_end(how: &str, last_words: &str) -> String {
    match one_line(last_words, MESSAGE_CHARS).as_str() {
        "" => format!("OpenCode ended by itself ({how}) and said nothing about it"),
        words => format!("OpenCode ended by itself ({how}): {words}"),
    }
}

/// Why the server could not be started.
pub(super) fn of_start(program: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "OpenCode was not found as `{program}`; install it, or put it on the agent's PATH"
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("OpenCode could not be started: `{program}` may not be executed")
        }
        _ => format!("OpenCode could not be started as `{program}`: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, message: &str, status: Option<u16>) -> Fault {
        Fault { name: name.into(), message: message.into(), status }
    }

    #[test]
    fn each_failure_names_its_mend() {
        let not_found = "ProviderModelNotFoundError: Model not found: a/b. Did you mean: c?\n at x";
        let lines = [
            of_turn(&fault("APIError", "no such key", Some(401))),
            of_turn(&fault("ProviderAuthError", "no key", None)),
            of_turn(&fault("APIError", "slow down", Some(429))),
            of_turn(&fault("APIError", "", Some(402))),
            of_turn(&fault("APIError", "what?\nhint", Some(400))),
            of_turn(&fault("APIError", "", Some(400))),
            of_turn(&fault("UnknownError", not_found, None)),
            of_turn(&fault("ContextOverflowError", "too long", None)),
            of_turn(&fault("MessageOutputLengthError", "", None)),
            of_turn(&fault("UnknownError", "", None)),
            of_retry("overloaded"),
            of_retry(""),
            of_prompt("it answered 400: parts"),
            of_opening("it did not listen within 60 s", ""),
            of_opening("it answered 400: config", "Error: Unexpected token"),
            of_end("signal 9", ""),
            of_end("exit code 1", "Error: database is locked"),
            of_start("opencode", &std::io::ErrorKind::NotFound.into()),
            of_start("/x", &std::io::ErrorKind::PermissionDenied.into()),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }
}
