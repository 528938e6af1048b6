//! What answers to an agent's requests are answered.

use jiff::Timestamp;
use sprite_reporter::wire::ApprovalKind;

use super::{ago, aligned, fenced};
use crate::{
    chat::{
        platform::Markup,
        tag::Tag,
        transcript::{Request, as_code, one_line},
    },
    store::{Approval, ApprovalState, Grant},
};

/// What a request is about, in one line.
pub(in crate::chat) fn wish(approval: &Approval) -> String {
    let title = one_line(&approval.title);
    if title.is_empty() || title.starts_with(&format!("{}:", approval.tool)) {
        if title.is_empty() { approval.tool.clone() } else { title }
    } else {
        format!("{}: {title}", approval.tool)
    }
}

/// The answer to `/od-approve` that was the first.
pub(in crate::chat) fn approved(
    name: &str,
    approval: &Approval,
    allow: bool,
    always: bool,
    message: &str,
) -> String {
    let what = wish(approval);
    let because = match one_line(message).as_str() {
        "" => String::new(),
        message => format!(" ({message})"),
    };
    match (approval.kind, allow) {
        (ApprovalKind::Question, true) => format!("{name} gets your answer"),
        (ApprovalKind::Question, false) => {
            format!("{name} is told that you do not answer{because}")
        }
        (_, true) if always => {
            let rule = approval.rule.as_deref().unwrap_or(&approval.tool);
            format!(
                "{name} is told yes: {what}\nFrom now on it need not ask for {rule}; \
                 /od-approve {name} list shows what it may, /od-approve {name} revoke takes it back"
            )
        }
        (_, true) => format!("{name} is told yes: {what}"),
        (_, false) => format!("{name} is told no{because}: {what}"),
    }
}

/// The answer to `/od-approve NAME show`: all of a request, with how to answer just that.
pub(in crate::chat) fn request(name: &str, approval: &Approval) -> String {
    let asked = Request::of(approval);
    let tag = Tag::of_request(&approval.sprite_uid, approval.run, &approval.request);
    let code = as_code(&asked.all(), Markup::Markdown).join("\n");
    let tool = one_line(&approval.tool);
    let always = match asked.rule() {
        Some(rule) => format!("; what always would allow is {rule}"),
        None => String::new(),
    };
    match approval.state {
        ApprovalState::Pending => format!(
            "{name} asks for {tool}:\n{code}\nanswer with /od-approve {name} yes {tag}, or \
             no{always}"
        ),
        _ => format!("{name} has asked for {tool}:\n{code}\n{}", answered(name, approval)),
    }
}

/// The answer to `always` for a job.
pub(in crate::chat) fn no_grants_for_jobs(name: &str) -> String {
    format!(
        "{name} is a job, which runs once; answer yes. What jobs may do unasked is said with \
         --permissions, or as permissions.allow in YAML"
    )
}

/// The answer to `/od-approve` of a request that was answered before.
pub(in crate::chat) fn answered(name: &str, approval: &Approval) -> String {
    let what = wish(approval);
    // Whoever sits at the server's own console is called you.
    let by = match approval.by.as_str() {
        "you" => "you have".to_owned(),
        by => format!("{by} has"),
    };
    match (approval.state, approval.kind) {
        (ApprovalState::Allowed, ApprovalKind::Question) => {
            format!("{by} answered {name} already: {what}")
        }
        (ApprovalState::Allowed, _) => format!("{by} told {name} yes already: {what}"),
        (ApprovalState::Denied, _) => format!("{by} told {name} no already: {what}"),
        (ApprovalState::Expired, _) => {
            format!("Nobody answered {name} in time, so it was no: {what}")
        }
        _ => format!("{name} does not wait for that any more: {what}"),
    }
}

/// The answer to `/od-approve` where nothing waits.
pub(in crate::chat) fn nothing_waits(name: &str, last: Option<&Approval>) -> String {
    match last {
        Some(last) => format!("Nothing waits for an answer in {name}; {}", answered(name, last)),
        None => format!("Nothing waits for an answer in {name}"),
    }
}

/// The end of a grant's id, by which people name it.
fn short(grant: &Grant) -> &str {
    let at = grant.id.len().saturating_sub(6);
    grant.id.get(at..).unwrap_or(&grant.id)
}

/// The answer to `/od-approve NAME list`.
pub(in crate::chat) fn grants(name: &str, grants: &[Grant], now: Timestamp) -> String {
    if grants.is_empty() {
        return format!(
            "{name} must ask for everything that its permissions do not allow; \
             /od-approve {name} always, where it asks, allows a thing for good"
        );
    }
    let mut rows = vec![["ID", "RULE", "BY", "AGE"].map(str::to_owned)];
    rows.extend(grants.iter().map(|grant| {
        let age = ago(Some(grant.created), now);
        [short(grant).to_owned(), one_line(&grant.rule), grant.by.clone(), age]
    }));
    format!("{}\n/od-approve {name} revoke ID takes one back", fenced(&aligned(&rows)))
}

/// The grants that an id, or its end, names.
pub(in crate::chat) fn grants_named<'a>(grants: &'a [Grant], id: &str) -> Vec<&'a Grant> {
    let id = id.to_lowercase();
    grants.iter().filter(|grant| id.len() >= 4 && grant.id.ends_with(&id)).collect()
}

/// The answer to `/od-approve NAME revoke`.
pub(in crate::chat) fn revoked(name: &str, grant: &Grant) -> String {
    format!("{name} must ask for {} again", one_line(&grant.rule))
}

/// The answer to a revocation that names none, or more than one.
pub(in crate::chat) fn which_grant(name: &str, all: &[Grant], now: Timestamp) -> String {
    match all {
        [] => format!("There is nothing to take back: {}", grants(name, all, now)),
        _ => format!("Which one?\n{}", grants(name, all, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(kind: ApprovalKind) -> Approval {
        Approval {
            sprite_uid: "s".into(),
            run: 1,
            request: "r".into(),
            turn: "t".into(),
            tool: "Bash".into(),
            title: "Bash: cargo\n test".into(),
            input: serde_json::Value::Null,
            kind,
            rule: Some("Bash(cargo test:*)".into()),
            questions: Vec::new(),
            answers: Default::default(),
            state: ApprovalState::Pending,
            by: "ann".into(),
            message: String::new(),
            resolved: None,
            user: None,
            grant: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn replies_about_answers_read_well() {
        let now = Timestamp::from_second(7_300).expect("a time");
        let tool = approval(ApprovalKind::Tool);
        let question = approval(ApprovalKind::Question);
        let mut told = vec![
            approved("bot", &tool, true, false, ""),
            approved("bot", &tool, true, true, ""),
            approved("bot", &tool, false, false, "it is\nlate"),
            approved("bot", &question, true, false, ""),
            approved("bot", &question, false, false, "ask later"),
            no_grants_for_jobs("run-x"),
            nothing_waits("bot", None),
        ];
        for state in [
            ApprovalState::Allowed,
            ApprovalState::Denied,
            ApprovalState::Expired,
            ApprovalState::Withdrawn,
        ] {
            for approval in [&tool, &question] {
                let approval = Approval { state, ..approval.clone() };
                told.push(answered("bot", &approval));
            }
        }
        let grant = Grant {
            id: "0199f0a0-0000-7000-8000-0000000abcde".into(),
            agent_uid: "a".into(),
            tool: "Bash".into(),
            rule: "Bash(cargo test:*)".into(),
            by: "ann".into(),
            user: None,
            created: Timestamp::UNIX_EPOCH,
        };
        let all = [grant];
        told.extend([grants("bot", &all, now), grants("bot", &[], now), revoked("bot", &all[0])]);
        told.extend([which_grant("bot", &all, now), which_grant("bot", &[], now)]);
        insta::assert_snapshot!(told.join("\n-----\n"));
        assert_eq!(grants_named(&all, "0ABCDE").len(), 1);
        assert!(grants_named(&all, "e").is_empty());
    }
}
