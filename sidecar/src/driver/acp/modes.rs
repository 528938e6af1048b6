//! In which of its modes an agent has to run.
//!
//! What a mode is called is each agent's own matter, and what it leaves unasked as well. So here
//! stand the names that we know, the most careful first; a mode that nobody knows is never chosen.
//! For `ask` and `acceptEdits` the agent has to ask about everything, and we answer; for `bypass`
//! an agent whose sandbox would stand in the way is let out of it, and any other asks, and we
//! say yes.

use crate::wire::PermissionMode;

/// The modes in which an agent asks before it acts: Codex, Gemini and Claude Code, OpenCode.
const ASKING: [&str; 4] = ["read-only", "default", "ask", "build"];
/// The modes in which nothing stands in the way: Codex, Gemini.
const FREE: [&str; 2] = ["agent-full-access", "yolo"];
/// The modes in which an agent only plans, or only reads.
const PLANNING: [&str; 3] = ["plan", "read-only", "ask"];

/// What to do about the mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is right as it is, or the agent knows no modes.
    Keep,
    /// Set this one.
    Set(String),
    /// None is known to us; the agent goes on in its own.
    Unknown,
}

/// Chooses among the modes that an agent offers.
pub(super) fn choose<'a>(
    wanted: PermissionMode,
    current: &str,
    offered: impl Iterator<Item = &'a str> + Clone,
) -> Choice {
    let known: &[&str] = match wanted {
        PermissionMode::Ask | PermissionMode::AcceptEdits => &ASKING,
        PermissionMode::Plan => &PLANNING,
        PermissionMode::Bypass => &FREE,
    };
    // An agent that has no mode without questions is one that asks.
    let known =
        known.iter().chain(if wanted == PermissionMode::Bypass { &ASKING[..] } else { &[] });
    let found = known.copied().find(|known| offered.clone().any(|mode| mode == *known));
    match found {
        Some(mode) if mode == current => Choice::Keep,
        Some(mode) => Choice::Set(mode.to_owned()),
        None if offered.count() == 0 => Choice::Keep,
        None => Choice::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODEX: [&str; 4] = ["read-only", "workspace-write", "agent", "agent-full-access"];
    const GEMINI: [&str; 4] = ["default", "autoEdit", "yolo", "plan"];
    const CLAUDE: [&str; 4] = ["default", "acceptEdits", "plan", "bypassPermissions"];
    const OPENCODE: [&str; 2] = ["build", "plan"];

    fn chosen(wanted: PermissionMode, current: &str, offered: &[&str]) -> Choice {
        choose(wanted, current, offered.iter().copied())
    }

    #[test]
    fn each_agent_is_put_into_the_mode_that_asks() {
        for mode in [PermissionMode::Ask, PermissionMode::AcceptEdits] {
            assert_eq!(chosen(mode, "agent", &CODEX), Choice::Set("read-only".into()));
            assert_eq!(chosen(mode, "yolo", &GEMINI), Choice::Set("default".into()));
            assert_eq!(chosen(mode, "default", &CLAUDE), Choice::Keep);
            assert_eq!(chosen(mode, "plan", &OPENCODE), Choice::Set("build".into()));
        }
    }

    #[test]
    fn plans_are_made_in_the_mode_for_plans() {
        let set = |mode: &str| Choice::Set(mode.to_owned());
        let chosen = |offered: &[&str]| chosen(PermissionMode::Plan, "x", offered);
        assert_eq!(chosen(&CODEX), set("read-only"));
        assert_eq!(chosen(&GEMINI), set("plan"));
        assert_eq!(chosen(&OPENCODE), set("plan"));
    }

    #[test]
    fn without_questions_an_agent_is_free_or_is_told_yes() {
        let set = |mode: &str| Choice::Set(mode.to_owned());
        let chosen = |offered: &[&str]| chosen(PermissionMode::Bypass, "x", offered);
        assert_eq!(chosen(&CODEX), set("agent-full-access"));
        assert_eq!(chosen(&GEMINI), set("yolo"));
        assert_eq!(chosen(&CLAUDE), set("default"));
    }

    #[test]
    fn what_nobody_knows_is_not_chosen() {
        assert_eq!(chosen(PermissionMode::Ask, "x", &["x", "y"]), Choice::Unknown);
        assert_eq!(chosen(PermissionMode::Bypass, "", &[]), Choice::Keep);
    }
}
