//! How long a session has to rest before it may be loaded again.
//!
//! Gemini keeps a session in a file that is named after the session and the minute (UTC) it was
//! begun in: `session-2026-01-31T12-42-a5b75717.jsonl`. When it loads a session it first begins
//! a new one of the same id, and only then reads the old one. Within the minute in which the
//! session was begun both have the same name, and what was said is gone for good. So the
//! greeting waits until that minute is over, where there is such a file and nowhere else: after a
//! crash, a changed spec, or a sleep and a wake, within the minute in which the conversation began.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;

use crate::wire::EnvVar;

/// How many characters of a session's id stand in its file's name.
const SHORT: usize = 8;
/// How far past the minute's end the agent is greeted, for clocks that are read more than once.
const MARGIN: Duration = Duration::from_millis(100);

/// How long the session that this run goes on with has to rest, if it has to.
pub(super) fn needed(session: Option<&str>, env: &[EnvVar], now: Timestamp) -> Option<Duration> {
    let name = file_name(session?, now)?;
    let projects = std::fs::read_dir(home(env)?.join(".gemini/tmp")).ok()?;
    let is_there = projects.flatten().any(|it| it.path().join("chats").join(&name).exists());
    is_there.then(|| to_next_minute(now) + MARGIN)
}

/// Where Gemini keeps its things.
fn home(env: &[EnvVar]) -> Option<PathBuf> {
    let variable = |name| env.iter().find(|it| it.name == name && !it.value.is_empty());
    variable("GEMINI_CLI_HOME").or_else(|| variable("HOME")).map(|it| it.value.clone().into())
}

/// The name of the file that a session begun now would have.
fn file_name(session: &str, now: Timestamp) -> Option<String> {
    let short = session.get(..SHORT)?;
    let is_plain = short.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
    let minute = now.strftime("%Y-%m-%dT%H-%M");
    is_plain.then(|| format!("session-{minute}-{short}.jsonl"))
}

fn to_next_minute(now: Timestamp) -> Duration {
    let within = now.as_millisecond().rem_euclid(60_000);
    Duration::from_millis(60_000_u64.saturating_sub(within.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a5b75717-c6c3-411a-858d-952f6bdcb94d";

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    fn rest(home: &std::path::Path, session: Option<&str>, time: &str) -> Option<Duration> {
        let value = home.to_string_lossy().into();
        needed(session, &[EnvVar { name: "HOME".into(), value, secret: false }], at(time))
    }

    #[test]
    fn a_session_rests_until_the_minute_of_its_beginning_is_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let chats = dir.path().join(".gemini/tmp/work/chats");
        std::fs::create_dir_all(&chats).expect("a directory");
        let file = chats.join("session-2026-01-31T12-42-a5b75717.jsonl");
        std::fs::write(file, "{}").expect("a file");
        let rest = |id, time| rest(dir.path(), id, time);
        let early = rest(Some(ID), "2026-01-31T12:42:00.000Z");
        assert_eq!(early, Some(Duration::from_millis(60_100)));
        let late = rest(Some(ID), "2026-01-31T12:42:59.750Z");
        assert_eq!(late, Some(Duration::from_millis(350)));
        assert_eq!(rest(Some(ID), "2026-01-31T12:43:00.000Z"), None, "the next minute");
        assert_eq!(rest(None, "2026-01-31T12:42:00Z"), None, "a new session");
        assert_eq!(rest(Some("b5b75717-c6c3"), "2026-01-31T12:42:00Z"), None, "another session");
    }

    #[test]
    fn an_id_that_is_no_file_name_needs_no_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        for id in ["", "short", "../../../etc/passwd", "ünïcödé-äö"] {
            assert_eq!(rest(dir.path(), Some(id), "2026-01-31T12:42:00Z"), None);
        }
    }
}
