//! What an object's history tells: a line for each condition that came to hold.
//!
//! The lines are made from the conditions before and after a status write, and commit with it.
//! So each turn of events is told once, however often a controller is interrupted, and a status
//! that does not change tells nothing.

use super::words;
use crate::{
    resource::{Conditions, Kind, Metadata},
    store::Op,
};

/// What is told when a condition comes to hold.
struct Line {
    condition: &'static str,
    warning: bool,
    /// The reason, where it is not the condition's own.
    reason: Option<&'static str>,
    /// What is said where the condition says nothing.
    plain: &'static str,
}

const LINES: [Line; 8] = [
    Line {
        condition: words::PROVISIONED,
        warning: false,
        reason: Some("Provisioned"),
        plain: "it is up; its reporter's first word is awaited",
    },
    Line {
        condition: words::READY,
        warning: false,
        reason: Some("Started"),
        plain: "its reporter runs, and its agent takes work",
    },
    Line {
        condition: words::STOPPING,
        warning: false,
        reason: None,
        plain: "its agent has ended; its last output is on its way",
    },
    Line {
        condition: words::ASLEEP,
        warning: false,
        reason: Some("FellAsleep"),
        plain: "its run has ended, and it sleeps until somebody speaks to its agent",
    },
    Line {
        condition: words::GONE,
        warning: false,
        reason: Some("Exited"),
        plain: "no process of it is left",
    },
    Line { condition: words::STALLED, warning: true, reason: None, plain: "it needs somebody" },
    Line { condition: words::COMPLETE, warning: false, reason: None, plain: "it ended well" },
    Line { condition: words::FAILED, warning: true, reason: None, plain: "it failed" },
];

/// The lines that a change of conditions adds to an object's history.
pub(super) fn told(
    kind: Kind,
    metadata: &Metadata,
    before: &Conditions,
    after: &Conditions,
) -> Vec<Op> {
    let came = |line: &&Line| !before.is_true(line.condition) && after.is_true(line.condition);
    // That its agent takes work is news of a sprite; whoever owns that says it in other words.
    let news = |line: &&Line| line.condition != words::READY || kind == Kind::Sprite;
    LINES
        .iter()
        .filter(came)
        .filter(news)
        .filter_map(|line| {
            let condition = after.get(line.condition)?;
            let said = &condition.message;
            let note = if said.is_empty() { line.plain } else { said };
            let reason = line.reason.unwrap_or(&condition.reason);
            Some(event(kind, metadata, line.warning, reason, note))
        })
        .collect()
}

/// One line of an object's history.
pub(super) fn event(
    kind: Kind,
    metadata: &Metadata,
    warning: bool,
    reason: &str,
    note: impl Into<String>,
) -> Op {
    Op::Event {
        kind,
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        warning,
        reason: reason.to_owned(),
        note: note.into(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::resource::ConditionStatus::{False, True};

    fn conditions(list: &[(&str, bool, &str)]) -> Conditions {
        let mut conditions = Conditions::default();
        for (kind, holds, message) in list {
            let status = if *holds { True } else { False };
            conditions.set(kind, status, "Because", *message, 1, Timestamp::UNIX_EPOCH);
        }
        conditions
    }

    fn lines(before: &Conditions, after: &Conditions) -> Vec<(bool, String, String)> {
        told(Kind::Job, &Metadata::default(), before, after)
            .into_iter()
            .map(|op| match op {
                Op::Event { warning, reason, note, .. } => (warning, reason, note),
                other => panic!("{other:?} is no line of a history"),
            })
            .collect()
    }

    #[test]
    fn a_condition_that_comes_to_hold_is_told_once() {
        let none = Conditions::default();
        let failed = conditions(&[(words::FAILED, true, "exit code 3")]);
        let line = (true, "Because".to_owned(), "exit code 3".to_owned());
        assert_eq!(lines(&none, &failed), [line]);
        assert_eq!(lines(&failed, &failed), []);
    }

    #[test]
    fn a_condition_that_says_nothing_is_put_into_words() {
        let after = conditions(&[(words::PROVISIONED, true, ""), (words::READY, true, "")]);
        let none = Conditions::default();
        let up = (false, "Provisioned", "it is up; its reporter's first word is awaited");
        let up = (up.0, up.1.to_owned(), up.2.to_owned());
        assert_eq!(lines(&none, &after), [up], "of its owner, readiness is told otherwise");
        let sprites = told(Kind::Sprite, &Metadata::default(), &none, &after);
        assert_eq!(sprites.len(), 2, "that it was provisioned does not say that it was heard");
    }

    #[test]
    fn a_condition_that_ceases_to_hold_is_not_told() {
        let before = conditions(&[(words::STALLED, true, "x")]);
        let after = conditions(&[(words::STALLED, false, "y")]);
        assert_eq!(lines(&before, &after), []);
    }
}
