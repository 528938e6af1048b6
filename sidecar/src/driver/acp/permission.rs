//! What to answer when an agent asks whether it may.
//!
//! Options are told apart by their kind alone, never by their id or name. "Always" is never
//! chosen where "once" is offered: what is always allowed is ours to remember, and to forget.

use std::path::{Component, Path};

use agent_client_protocol_schema::v1::{PermissionOption, PermissionOptionKind, ToolKind};

use super::rules;
use crate::wire::{PermissionMode, Permissions};

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may.
    Allow,
    /// It may not.
    Deny,
    /// A person decides.
    Ask,
}

/// What an agent wants to do.
#[derive(Debug, Clone)]
pub(super) struct Wish<'a> {
    /// Which kind of tool it wants to use.
    pub kind: ToolKind,
    /// What it is about: a command, or the tool's title.
    pub subject: &'a str,
    /// The files that it touches, as far as the agent says.
    pub paths: Vec<&'a Path>,
}

/// Decides on a request.
pub(super) fn decide(permissions: &Permissions, workdir: &Path, wish: &Wish<'_>) -> Decision {
    let by_rule = || permissions.allow.iter().any(|it| rules::allows(it, wish.kind, wish.subject));
    match permissions.mode {
        PermissionMode::Bypass => Decision::Allow,
        PermissionMode::Plan => match wish.kind {
            ToolKind::Read | ToolKind::Search | ToolKind::Think | ToolKind::Fetch => {
                Decision::Allow
            }
            _ => Decision::Deny,
        },
        PermissionMode::AcceptEdits if is_edit_within(workdir, wish) => Decision::Allow,
        _ if by_rule() => Decision::Allow,
        PermissionMode::AcceptEdits | PermissionMode::Ask => Decision::Ask,
    }
}

/// Whether it changes files, and none outside of the work directory.
fn is_edit_within(workdir: &Path, wish: &Wish<'_>) -> bool {
    matches!(wish.kind, ToolKind::Edit | ToolKind::Move | ToolKind::Delete)
        && wish.paths.iter().all(|path| {
            let climbs = path.components().any(|part| part == Component::ParentDir);
            !climbs && (path.is_relative() || path.starts_with(workdir))
        })
}

/// The option by which a request is allowed or refused; none where the agent offers none.
pub(super) fn option(options: &[PermissionOption], allow: bool) -> Option<&str> {
    let kinds = match allow {
        true => [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways],
        false => [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways],
    };
    kinds
        .iter()
        .find_map(|kind| options.iter().find(|option| option.kind == *kind))
        .map(|option| &*option.option_id.0)
}

/// Whether the agent itself would let the person allow all requests like this one.
pub(super) fn offers_always(options: &[PermissionOption]) -> bool {
    options.iter().any(|option| option.kind == PermissionOptionKind::AllowAlways)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(mode: PermissionMode, allow: &[&str], wish: &Wish<'_>) -> Decision {
        let allow = allow.iter().map(|rule| (*rule).to_owned()).collect();
        decide(&Permissions { mode, allow }, Path::new("/work/api"), wish)
    }

    fn wish<'a>(kind: ToolKind, subject: &'a str, paths: &'a [&'a str]) -> Wish<'a> {
        Wish { kind, subject, paths: paths.iter().map(Path::new).collect() }
    }

    #[test]
    fn modes_decide_by_kind() {
        let run = wish(ToolKind::Execute, "ls", &[]);
        let edit = wish(ToolKind::Edit, "Writing to a", &["/work/api/a"]);
        let read = wish(ToolKind::Read, "a", &[]);
        let decided = |mode, wish| super::tests::decided(mode, &[], wish);
        assert_eq!(decided(PermissionMode::Bypass, &run), Decision::Allow);
        assert_eq!(decided(PermissionMode::Ask, &edit), Decision::Ask);
        assert_eq!(decided(PermissionMode::AcceptEdits, &edit), Decision::Allow);
        assert_eq!(decided(PermissionMode::AcceptEdits, &run), Decision::Ask);
        assert_eq!(decided(PermissionMode::Plan, &read), Decision::Allow);
        assert_eq!(decided(PermissionMode::Plan, &edit), Decision::Deny);
        let leave = wish(ToolKind::SwitchMode, "Ready to code?", &[]);
        assert_eq!(decided(PermissionMode::Plan, &leave), Decision::Deny);
    }

    #[test]
    fn edits_outside_of_the_work_directory_are_asked_about() {
        for path in ["/work/apis/a", "/etc/passwd", "/work/api/../b", "../b"] {
            let paths = ["/work/api/a", path];
            let edit = wish(ToolKind::Edit, "Writing", &paths);
            assert_eq!(decided(PermissionMode::AcceptEdits, &[], &edit), Decision::Ask, "{path}");
        }
    }

    #[test]
    fn rules_pass_unasked_and_do_not_widen_a_plan() {
        let run = wish(ToolKind::Execute, "cargo test --all", &[]);
        let rules = ["execute(cargo test:*)"];
        assert_eq!(decided(PermissionMode::Ask, &rules, &run), Decision::Allow);
        assert_eq!(decided(PermissionMode::Plan, &rules, &run), Decision::Deny);
    }

    #[test]
    fn options_are_chosen_by_kind_and_once_goes_before_always() {
        let options = |kinds: &[PermissionOptionKind]| -> Vec<PermissionOption> {
            let named = |(n, kind): (usize, &PermissionOptionKind)| {
                PermissionOption::new(n.to_string(), "allow_once", *kind)
            };
            kinds.iter().enumerate().map(named).collect()
        };
        use PermissionOptionKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};
        let all = options(&[RejectAlways, AllowAlways, RejectOnce, AllowOnce, AllowOnce]);
        assert_eq!(option(&all, true), Some("3"));
        assert_eq!(option(&all, false), Some("2"));
        assert!(offers_always(&all));
        assert_eq!(option(&options(&[AllowAlways]), true), Some("0"));
        assert_eq!(option(&options(&[AllowOnce]), false), None);
    }
}
