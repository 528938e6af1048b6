//! What to answer when the CLI asks whether it may.
//!
//! The CLI asks only about what its own mode and rules leave open: our `allow` rules are handed
//! to it as its own, and `acceptEdits` and `plan` are its own modes too. So here stands just
//! what remains: to say yes for `bypass`, no for `plan`, and to ask a person otherwise.
//!
//! A plan that a person approves lets the CLI work at it, in the mode `default`, until the turn
//! ends: then the person is asked about each step. The next turn plans again.

use std::collections::BTreeMap;

use serde_json::Value;

use super::question;
use crate::wire::{ApprovalKind, PermissionMode};

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may.
    Allow,
    /// It may not; the model is told why.
    Deny(&'static str),
    /// A person decides.
    Ask,
}

const NOBODY: &str = "Nobody is here to answer questions. Decide for yourself, say what you \
                      assumed, and go on.";
const ONLY_PLAN: &str = "You are here to plan, and nobody will approve the plan in this session. \
                         Give the whole plan as your answer, and stop.";
const NOT_IN_PLAN: &str = "You are here to plan and may not change anything. Go on with what you \
                           can read.";

const NO_ANSWER: &str = "The person did not choose. Decide for yourself, say what you assumed, \
                         and go on.";
const NOT_YET: &str = "The person does not agree with the plan yet. Do not begin; ask what is to \
                       change, or make another plan.";
const REFUSED: &str = "A person refused this. Do not try it in another way; go on without it, or \
                       say what you need.";

/// A request of the CLI.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// The tool that it wants to use.
    pub tool: &'a str,
    /// Whether the tool is a question to a person by itself.
    pub needs_person: bool,
    /// Whether the CLI only plans now.
    pub is_planning: bool,
}

/// What kind of answer a request waits for.
pub(super) fn kind(tool: &str) -> ApprovalKind {
    match tool {
        "AskUserQuestion" => ApprovalKind::Question,
        "ExitPlanMode" => ApprovalKind::Plan,
        _ => ApprovalKind::Tool,
    }
}

/// Decides on a request. `is_job` says that the run works at a single task, which nobody attends
/// to unless the mode says so.
pub(super) fn decide(mode: PermissionMode, is_job: bool, request: Request<'_>) -> Decision {
    let is_plan = kind(request.tool) == ApprovalKind::Plan;
    let is_question =
        kind(request.tool) == ApprovalKind::Question || (request.needs_person && !is_plan);
    match mode {
        PermissionMode::Bypass if is_question => Decision::Deny(NOBODY),
        PermissionMode::Bypass => Decision::Allow,
        PermissionMode::Plan if is_plan && is_job => Decision::Deny(ONLY_PLAN),
        PermissionMode::Plan if is_question && is_job => Decision::Deny(NOBODY),
        PermissionMode::Plan if is_plan || is_question => Decision::Ask,
        PermissionMode::Plan if is_job || request.is_planning => Decision::Deny(NOT_IN_PLAN),
        PermissionMode::Plan => Decision::Ask,
        PermissionMode::Ask | PermissionMode::AcceptEdits => Decision::Ask,
    }
}

/// The input with which an allowed tool runs. A question is answered with what the person
/// chose or wrote; without words there is no answer to it.
pub(super) fn allowed_input(
    tool: &str,
    input: &Value,
    answers: &BTreeMap<String, String>,
    words: &str,
) -> Option<Value> {
    match kind(tool) {
        ApprovalKind::Question => question::answered(input, answers, words),
        ApprovalKind::Tool | ApprovalKind::Plan => Some(input.clone()),
    }
}

/// What the model is told when a person said no, or yes to a question without an answer.
pub(super) fn refusal<'a>(tool: &str, words: &'a str) -> &'a str {
    match (words.trim(), kind(tool)) {
        ("", ApprovalKind::Question) => NO_ANSWER,
        ("", ApprovalKind::Plan) => NOT_YET,
        ("", ApprovalKind::Tool) => REFUSED,
        (words, _) => words,
    }
}

/// The CLI's name for the mode in which it has to run.
pub(super) fn cli_mode(mode: PermissionMode) -> &'static str {
    match mode {
        PermissionMode::Ask | PermissionMode::Bypass => "default",
        PermissionMode::AcceptEdits => "acceptEdits",
        PermissionMode::Plan => "plan",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(tool: &str) -> Request<'_> {
        let needs_person = tool.starts_with("Ask") || tool == "ExitPlanMode";
        Request { tool, needs_person, is_planning: true }
    }

    #[test]
    fn bypass_allows_everything_but_questions_that_nobody_would_answer() {
        for is_job in [true, false] {
            let decide = |tool| super::decide(PermissionMode::Bypass, is_job, request(tool));
            assert_eq!(decide("Bash"), Decision::Allow);
            assert_eq!(decide("ExitPlanMode"), Decision::Allow);
            assert_eq!(decide("AskUserQuestion"), Decision::Deny(NOBODY));
            assert_eq!(decide("AskSomethingNew"), Decision::Deny(NOBODY));
        }
    }

    #[test]
    fn plan_changes_nothing_and_never_waits_in_a_job() {
        for tool in ["Bash", "Write", "ExitPlanMode", "AskUserQuestion", "mcp__a__b"] {
            let decision = decide(PermissionMode::Plan, true, request(tool));
            assert!(matches!(decision, Decision::Deny(_)), "{tool}: {decision:?}");
        }
    }

    #[test]
    fn a_conversation_plans_until_its_person_approves_the_plan() {
        let decide = |request| super::decide(PermissionMode::Plan, false, request);
        for tool in ["AskUserQuestion", "ExitPlanMode"] {
            assert_eq!(decide(request(tool)), Decision::Ask);
        }
        assert_eq!(decide(request("Write")), Decision::Deny(NOT_IN_PLAN));
        assert_eq!(decide(Request { is_planning: false, ..request("Write") }), Decision::Ask);
    }

    #[test]
    fn the_other_modes_ask_a_person() {
        for mode in [PermissionMode::Ask, PermissionMode::AcceptEdits] {
            for tool in ["Bash", "Write", "AskUserQuestion"] {
                assert_eq!(decide(mode, true, request(tool)), Decision::Ask);
            }
        }
    }

    #[test]
    fn a_question_is_answered_and_any_other_input_stays() {
        let input = json!({"questions": [{"question": "Colour?"}, {"question": "Size?"}]});
        let none = BTreeMap::new();
        assert_eq!(
            allowed_input("AskUserQuestion", &input, &none, "blue").expect("an input")["answers"],
            json!({"Colour?": "blue", "Size?": "blue"}),
        );
        assert_eq!(allowed_input("AskUserQuestion", &input, &none, " "), None);
        for tool in ["Bash", "ExitPlanMode"] {
            assert_eq!(allowed_input(tool, &input, &none, "blue").as_ref(), Some(&input));
        }
    }
}
