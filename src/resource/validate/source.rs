//! What a Source can be: a place that can be read, and a policy of words that there are.

use super::{is_branch, is_secret_name, quoted, texted};
use crate::resource::{
    Fault, Kind, Span,
    tree::{Node, Shape},
};

/// The shortest interval.
const SHORTEST: Span = Span::from_secs(1);
/// The words of a policy that stand for themselves, by its members.
const WORDS: [(&str, &[&str]); 3] = [
    ("runtimes", &["local", "fly"]),
    ("isolations", &["none", "worktree", "sandbox"]),
    ("permissionModes", &["ask", "acceptEdits", "plan", "bypass"]),
];

pub(super) fn rules(spec: &Node, faults: &mut Vec<Fault>) {
    if let Some((node, path)) = texted(spec.at(&["from", "directory", "path"]))
        && path.trim().is_empty()
    {
        faults.push(node.fault("spec.from.directory.path", "is empty; name a directory"));
    }
    if let Some(git) = spec.at(&["from", "git"]).filter(|git| git.is_map()) {
        self::git(git, faults);
        super::git::addresses(git, faults);
    }
    if let Some((node, text)) = texted(spec.get("interval"))
        && text.parse::<Span>().is_ok_and(|span| span < SHORTEST)
    {
        let message = format!("is shorter than {SHORTEST}; write that, or more");
        faults.push(node.fault("spec.interval", message));
    }
    if let Some(policy) = spec.get("policy") {
        self::policy(policy, faults);
    }
}

fn git(git: &Node, faults: &mut Vec<Fault>) {
    let repos = git.get("repos").is_some_and(|repos| !repos.items().is_empty());
    match (git.get("url").is_some(), repos) {
        (true, true) => {
            let message = "name exactly one of url, repos; there are both";
            faults.push(git.fault("spec.from.git", message));
        }
        (false, false) => {
            let message = "name exactly one of url, repos; there is none";
            faults.push(git.fault("spec.from.git", message));
        }
        _ => {}
    }
    if let Some((node, branch)) = texted(git.get("branch"))
        && !is_branch(branch)
    {
        let message = format!("{} is no name that git takes for a branch", quoted(branch));
        faults.push(node.fault("spec.from.git.branch", message));
    }
    if let Some((node, path)) = texted(git.get("path"))
        && (path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        let message = format!(
            "{} leads out of the repository; write it from the repository's root, without ..",
            quoted(path)
        );
        faults.push(node.fault("spec.from.git.path", message));
    }
    for member in ["tokenFromSecret", "webhookSecretFromSecret"] {
        if let Some((node, name)) = texted(git.get(member))
            && !is_secret_name(name)
        {
            let message = format!(
                "{} is no name of a secret; use a-z, A-Z, 0-9, -, _ and ., with a letter or digit \
                 first",
                quoted(name)
            );
            faults.push(node.fault(format!("spec.from.git.{member}"), message));
        }
    }
}

fn policy(policy: &Node, faults: &mut Vec<Fault>) {
    let items = |member: &str| policy.get(member).map(Node::items).unwrap_or_default();
    for (n, kind) in items("kinds").iter().enumerate() {
        if kind.text() == Some(Kind::Sprite.name()) {
            let message = "Sprites are made by the server alone; take it out";
            faults.push(kind.fault(format!("spec.policy.kinds[{n}]"), message));
        }
    }
    for (member, words) in WORDS {
        for (n, item) in items(member).iter().enumerate() {
            if let Shape::Text(word) = &item.shape
                && word != "*"
                && !words.contains(&word.as_str())
            {
                let message =
                    format!("{} is none; write one of {}", quoted(word), words.join(", "));
                faults.push(item.fault(format!("spec.policy.{member}[{n}]"), message));
            }
        }
    }
    for (n, item) in items("channels").iter().enumerate() {
        if let Some(word) = item.text()
            && word != "*"
            && !word.contains(':')
        {
            let message = format!(
                "{} names no platform; write platform:channel, such as slack:C0123ABC or slack:*",
                quoted(word)
            );
            faults.push(item.fault(format!("spec.policy.channels[{n}]"), message));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::resource::{API_VERSION, decode};

    fn told(spec: Value) -> String {
        let object = json!({
            "apiVersion": API_VERSION, "kind": "Source", "metadata": {"name": "a"}, "spec": spec,
        });
        decode(object).err().map(|faults| faults.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_can_be_read_and_judged_is_taken() {
        assert_eq!(told(json!({"from": {"directory": {"path": "specs"}}, "interval": "1s"})), "");
        assert_eq!(
            told(json!({
                "from": {"git": {"url": "https://a.example/b.git", "branch": "main", "path": "a/b",
                                 "tokenFromSecret": "git"}},
                "policy": {"kinds": ["Agent"], "runtimes": ["*"], "permissionModes": ["ask"],
                           "channels": ["slack:C1", "*"]},
            })),
            ""
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        insta::assert_snapshot!(told(json!({
            "from": {"git": {"url": "https://a.example/b.git", "repos": ["a/b"], "branch": "-x",
                             "path": "../up", "tokenFromSecret": "/etc/passwd"}},
            "interval": "10ms",
            "policy": {"kinds": ["Sprite"], "runtimes": ["cloud"], "permissionModes": ["yolo"],
                       "channels": ["C1"]},
        })), @r"
        spec.from.git: name exactly one of url, repos; there are both
        spec.from.git.branch: `-x` is no name that git takes for a branch
        spec.from.git.path: `../up` leads out of the repository; write it from the repository's root, without ..
        spec.from.git.tokenFromSecret: `/etc/passwd` is no name of a secret; use a-z, A-Z, 0-9, -, _ and ., with a letter or digit first
        spec.interval: is shorter than 1s; write that, or more
        spec.policy.kinds[0]: Sprites are made by the server alone; take it out
        spec.policy.runtimes[0]: `cloud` is none; write one of local, fly
        spec.policy.permissionModes[0]: `yolo` is none; write one of ask, acceptEdits, plan, bypass
        spec.policy.channels[0]: `C1` names no platform; write platform:channel, such as slack:C0123ABC or slack:*
        ");
        let none = told(json!({"from": {"git": {"repos": []}}}));
        assert_eq!(none, "spec.from.git: name exactly one of url, repos; there is none");
        let empty = told(json!({"from": {"directory": {"path": " "}}}));
        assert_eq!(empty, "spec.from.directory.path: is empty; name a directory");
    }
}
