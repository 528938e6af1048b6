//! What a JSON Schema cannot say: names, members that exclude each other, and sizes that
//! no machine has.
//!
//! The rules walk the document and not the typed object, so that they find their faults
//! beside those of the schema, all at once, with their places. A rule that meets a value of
//! the wrong type is silent: the schema has said so already.

mod fleet;
mod git;
mod kept;
mod over;
mod schedule;
mod source;

pub(super) use kept::work_is_kept;

use std::collections::BTreeSet;

use super::{
    AnyObject, Fault, Faults, Kind, NoImage, Span,
    check::join,
    fault::quoted,
    fly, images,
    tree::{Member, Node, Shape},
};

/// The longest name, as DNS has it.
pub const MAX_NAME: usize = 63;
/// The most bytes that keys and values of annotations may take together, as in Kubernetes.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The most bytes that keys and values of labels may take together. Each has a place in the account of
/// fields, in selectors and in the indexes of clients, so they are few; Kubernetes has no such limit
/// but the size of the object.
const MAX_LABELS: usize = 64 * 1024;
/// Variables that the reporter sets, or that the agent must not see.
const RESERVED_ENV: [&str; 6] = [
    "JOB_ID",
    "JOB_TOKEN",
    "OPEN_DISPATCH_CLAIM",
    "OPEN_DISPATCH_TOKEN",
    "OPEN_DISPATCH_URL",
    "SPRITE_ROOT",
];

/// Checks an object that did not come through [`super::decode`], such as one that chat built.
///
/// # Errors
/// Every fault, with its path.
pub fn validate(object: &AnyObject) -> Result<(), Faults> {
    let mut faults = Vec::new();
    rules(object.kind(), &Node::from(object.to_json()), &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

/// All rules for a document of a kind.
pub(super) fn rules(kind: Kind, object: &Node, faults: &mut Vec<Fault>) {
    if let Some(metadata) = object.get("metadata").filter(|node| node.is_map()) {
        self::metadata(metadata, faults);
    }
    let Some(spec) = object.get("spec") else { return };
    match kind {
        Kind::Fleet => fleet::rules(object, spec, faults),
        Kind::Schedule => schedule::rules(spec, faults),
        Kind::Override => over::rules(spec, faults),
        Kind::Source => source::rules(spec, faults),
        _ => {}
    }
    let mut rules = Rules { spec, faults };
    if !matches!(kind, Kind::Agent | Kind::Job | Kind::Sprite) {
        rules.nul(spec, "spec");
        return;
    }
    rules.all(kind);
}

fn metadata(metadata: &Node, faults: &mut Vec<Fault>) {
    let name = metadata.get("name");
    let prefix = metadata.get("generateName");
    let empty = |node: Option<&Node>| node.is_none_or(|node| node.text() == Some(""));
    if empty(name) && empty(prefix) {
        let message = "is missing; write a name, or a prefix as generateName";
        faults.push(name.unwrap_or(metadata).fault("metadata.name", message));
    }
    if let Some((node, text)) = texted(name).filter(|(_, text)| !text.is_empty())
        && let Some(message) = bad_label(text)
    {
        faults.push(node.fault("metadata.name", message));
    }
    // A prefix may end in a dash, and a long one is cut: the suffix makes it a name.
    if let Some((node, text)) = texted(prefix).filter(|(_, text)| !text.is_empty())
        && bad_label(&text.chars().take(MAX_NAME - 1).chain(['x']).collect::<String>()).is_some()
    {
        let message = format!(
            "{} is no start of a DNS label; use a-z, 0-9 and -, with a letter or digit first",
            quoted(text)
        );
        faults.push(node.fault("metadata.generateName", message));
    }
    for member in members(metadata.get("labels")) {
        let path = join("metadata.labels", &member.key);
        faults.extend(bad_key(&member.key).map(|message| member.place.fault(&path, message)));
        if let Some(message) = member.node.text().and_then(bad_label_value) {
            faults.push(member.node.fault(path, message));
        }
    }
    for member in members(metadata.get("annotations")) {
        let path = join("metadata.annotations", &member.key);
        faults.extend(bad_key(&member.key).map(|message| member.place.fault(path, message)));
    }
    sizes(metadata, "metadata", faults);
}

/// How much labels and annotations take together, of an object or of what a template makes.
fn sizes(metadata: &Node, path: &str, faults: &mut Vec<Fault>) {
    for (part, most) in [("labels", MAX_LABELS), ("annotations", MAX_ANNOTATIONS)] {
        let Some(node) = metadata.get(part) else { continue };
        let of = |member: &Member| member.key.len() + member.node.text().map_or(0, str::len);
        let size: usize = members(Some(node)).iter().map(of).sum();
        if size > most {
            let message = format!("take {size} bytes together; the most is {most}");
            faults.push(node.fault(format!("{path}.{part}"), message));
        }
    }
}

fn texted(node: Option<&Node>) -> Option<(&Node, &str)> {
    node.and_then(|node| node.text().map(|text| (node, text)))
}

fn members(node: Option<&Node>) -> &[Member] {
    node.map(Node::members).unwrap_or_default()
}

/// Why a text is no DNS label, if it is none.
#[must_use]
pub fn bad_label(text: &str) -> Option<String> {
    if text.len() > MAX_NAME {
        let length = text.len();
        return Some(format!("is {length} characters long; the most is {MAX_NAME}"));
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !text.is_empty()
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    (!good).then(|| {
        format!(
            "{} is no DNS label; use a-z, 0-9 and -, with a letter or digit at both ends",
            quoted(text)
        )
    })
}

/// Why a text is no key of a label or annotation, if it is none.
pub(super) fn bad_key(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_good = prefix.is_none_or(|prefix| {
        prefix.len() <= 253 && prefix.split('.').all(|label| bad_label(label).is_none())
    });
    (!prefix_good || name.is_empty() || !is_word(name)).then(|| {
        format!(
            "{} is no key; use up to 63 of a-z, A-Z, 0-9, -, _ and ., with a letter or digit \
             at both ends, and in front of it a domain and a / if you like",
            quoted(key)
        )
    })
}

/// Why a text is no value of a label, if it is none.
pub(super) fn bad_label_value(value: &str) -> Option<String> {
    (!is_word(value)).then(|| {
        format!(
            "{} is no label value; use up to 63 of a-z, A-Z, 0-9, -, _ and ., with a letter \
             or digit at both ends, or keep it in an annotation",
            quoted(value)
        )
    })
}

/// Whether a text has the form that names in labels have; empty is good.
fn is_word(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= MAX_NAME
        && text.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
        && text.chars().next().is_none_or(end)
        && text.chars().last().is_none_or(end)
}

struct Rules<'a> {
    spec: &'a Node,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Rules<'a> {
    /// All of them, for an Agent, a Job or a Sprite.
    fn all(&mut self, kind: Kind) {
        self.agent();
        self.runtime();
        self.repo();
        self.env();
        self.task();
        self.spans();
        if kind != Kind::Sprite {
            self.command_has_no_prompt();
        }
        if kind == Kind::Job {
            self.nothing_of_a_job_is_kept();
        }
        self.budget();
        self.nul(self.spec, "spec");
    }

    fn say(&mut self, node: &Node, path: &str, message: impl Into<String>) {
        self.faults.push(node.fault(path, message));
    }

    fn text(&self, keys: &[&str]) -> Option<(&'a Node, &'a str)> {
        texted(self.spec.at(keys))
    }

    fn agent(&mut self) {
        for keys in [
            ["agent", "claude", "model"],
            ["agent", "claude", "path"],
            ["agent", "opencode", "model"],
            ["agent", "opencode", "path"],
            ["agent", "codex", "model"],
            ["agent", "codex", "path"],
            ["agent", "acp", "model"],
            ["agent", "command", "shell"],
        ] {
            if let Some((node, text)) = self.text(&keys)
                && text.trim().is_empty()
            {
                let message = "is empty; leave it out to get the default";
                self.say(node, &format!("spec.{}", keys.join(".")), message);
            }
        }
        if let Some((node, model)) = self.text(&["agent", "opencode", "model"])
            && !model.trim().is_empty()
            && !model.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
        {
            let message = format!(
                "`{model}` names no provider; write it as provider/model, such as \
                 anthropic/claude-sonnet-4-5"
            );
            self.say(node, "spec.agent.opencode.model", message);
        }
        self.acp_command();
    }

    /// The command line of an ACP agent: its first word names a program.
    fn acp_command(&mut self) {
        let path = "spec.agent.acp.command";
        let Some(command) = self.spec.at(&["agent", "acp", "command"]) else { return };
        let Shape::List(words) = &command.shape else { return };
        match words.first() {
            None => {
                let message = "is empty; write the agent's command line, such as [gemini, --acp]";
                self.say(command, path, message);
            }
            Some(program) if program.text().is_some_and(|program| program.trim().is_empty()) => {
                self.say(program, &format!("{path}[0]"), "is empty; name the agent's program");
            }
            Some(_) => {}
        }
    }

    /// What an Agent may spend: at least one limit, and none that forbids everything.
    fn budget(&mut self) {
        let Some(budget) = self.spec.get("budget").filter(|budget| budget.is_map()) else { return };
        let (usd, turns) = (budget.get("usd"), budget.get("turns"));
        if usd.is_none() && turns.is_none() {
            let message = "says nothing; write usd, turns or both, or leave it out";
            self.say(budget, "spec.budget", message);
        }
        for (node, name) in [(usd, "usd"), (turns, "turns")] {
            if let Some(node) = node
                && let Shape::Number(number) = &node.shape
                && number.as_f64().is_none_or(|number| number <= 0.0)
            {
                let message = format!("is {number}; write a number above 0, or suspend the agent");
                self.say(node, &format!("spec.budget.{name}"), message);
            }
        }
    }

    fn runtime(&mut self) {
        self.machine();
        if let Some((node, "worktree")) = self.text(&["runtime", "local", "isolation"])
            && self.spec.at(&["runtime", "local", "workdir"]).is_none()
            && self.spec.get("repo").is_none()
        {
            let message = "`worktree` needs a repository: name a workdir that is in one, or a repo";
            self.say(node, "spec.runtime.local.isolation", message);
        }
        if let Some((node, path)) = self.text(&["runtime", "local", "workdir"])
            && !(path.starts_with('/') || path == "~" || path.starts_with("~/"))
        {
            let message = format!("{} is no absolute path; begin it with / or ~/", quoted(path));
            self.say(node, "spec.runtime.local.workdir", message);
        }
    }

    /// What Fly can be known to refuse: sizes that it has not, and regions that are none.
    fn machine(&mut self) {
        if let Some((node, text)) = self.text(&["runtime", "fly", "region"])
            && let Some(message) = fly::bad_regions(text)
        {
            self.say(node, "spec.runtime.fly.region", message);
        }
        if let Some((node, text)) = self.text(&["runtime", "fly", "image"])
            && !(images::is_word(text) || images::is_reference(text))
        {
            let message = NoImage::Malformed(text.to_owned()).to_string();
            self.say(node, "spec.runtime.fly.image", message);
        }
        let Some(guest) = self.spec.at(&["runtime", "fly", "guest"]) else { return };
        let number = |key: &str| match &guest.get(key)?.shape {
            Shape::Number(number) => number.as_u64(),
            _ => None,
        };
        if let Some((_, kind)) = texted(guest.get("cpuKind"))
            && let (Some(cpus), Some(memory)) = (number("cpus"), number("memoryMb"))
            && let Some(bad) = fly::bad_guest(kind, cpus, memory)
        {
            let node = guest.get(bad.member).unwrap_or(guest);
            self.say(node, &format!("spec.runtime.fly.guest.{}", bad.member), bad.message);
        }
    }

    /// A Job's machine goes with its run: nobody would ever read its volume again.
    fn nothing_of_a_job_is_kept(&mut self) {
        if let Some(node) = self.spec.at(&["runtime", "fly", "persistent"])
            && node.shape == Shape::Bool(true)
        {
            let message = "means nothing to a Job, whose machine goes with it; leave it out, or \
                           make it an Agent";
            self.say(node, "spec.runtime.fly.persistent", message);
        }
    }

    fn repo(&mut self) {
        let Some(repo) = self.spec.get("repo").filter(|repo| repo.is_map()) else {
            return;
        };
        match (repo.get("github"), repo.get("url")) {
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => {
                self.say(repo, "spec.repo", "name exactly one of github, url; there is none")
            }
            (Some(_), Some(_)) => {
                self.say(repo, "spec.repo", "name exactly one of github, url; there are both");
            }
        }
        if let Some((node, text)) = texted(repo.get("github"))
            && !is_github(text)
        {
            let message = format!("{} is no GitHub repository; write owner/name", quoted(text));
            self.say(node, "spec.repo.github", message);
        }
        if let Some((node, text)) = texted(repo.get("url"))
            && let Some(message) = bad_url(text)
        {
            self.say(node, "spec.repo.url", message);
        } else if let Some((node, text)) = texted(repo.get("url"))
            && (text == "~" || text.starts_with("~/"))
            && self.spec.at(&["runtime", "fly"]).is_some()
        {
            let message = "lies on the server's machine, and a Fly Machine has none of that; name \
                           an address that git can clone from there";
            self.say(node, "spec.repo.url", message);
        }
        if let Some((node, text)) = texted(repo.get("branch"))
            && !is_branch(text)
        {
            let message = format!("{} is no name that git takes for a branch", quoted(text));
            self.say(node, "spec.repo.branch", message);
        }
    }

    fn env(&mut self) {
        let mut names = BTreeSet::new();
        for (n, entry) in
            self.spec.get("env").map(Node::items).unwrap_or_default().iter().enumerate()
        {
            let path = format!("spec.env[{n}]");
            if let Some((node, name)) = texted(entry.get("name")) {
                let path = format!("{path}.name");
                if !is_variable(name) {
                    let message = format!(
                        "{} is no variable; use letters, digits and _, and no digit first",
                        quoted(name)
                    );
                    self.say(node, &path, message);
                } else if RESERVED_ENV.contains(&name) {
                    self.say(
                        node,
                        &path,
                        format!("{} is set by the server; choose another name", quoted(name)),
                    );
                } else if !names.insert(name) {
                    self.say(
                        node,
                        &path,
                        format!("{} is there already; keep one of the two", quoted(name)),
                    );
                }
            }
            match (entry.get("value"), entry.get("fromSecret")) {
                (Some(_), Some(_)) => {
                    self.say(entry, &path, "name exactly one of value, fromSecret; there are both");
                }
                (None, Some(node)) => {
                    if let Some(name) = node.text().filter(|name| !is_secret_name(name)) {
                        let message = format!(
                            "{} is no name of a secret; use a-z, A-Z, 0-9, -, _ and ., with a \
                             letter or digit first",
                            quoted(name)
                        );
                        self.say(node, &format!("{path}.fromSecret"), message);
                    }
                }
                (None, None) if entry.is_map() => {
                    self.say(entry, &format!("{path}.value"), "is missing");
                }
                _ => {}
            }
        }
    }

    fn task(&mut self) {
        if let Some((node, task)) = self.text(&["task"])
            && task.trim().is_empty()
        {
            self.say(node, "spec.task", "is empty; write what the agent shall do");
        }
    }

    /// Whatever stands in a spec ends in a command line, a variable or a path.
    fn nul(&mut self, node: &Node, path: &str) {
        if node.text().is_some_and(|text| text.contains('\0')) {
            let message = "has a NUL byte, which no command line, variable or path can hold";
            self.say(node, path, message);
        }
        for member in node.members() {
            self.nul(&member.node, &join(path, &member.key));
        }
        for (n, item) in node.items().iter().enumerate() {
            self.nul(item, &format!("{path}[{n}]"));
        }
    }

    fn spans(&mut self) {
        for name in ["timeout", "idleTimeout", "turnTimeout", "deadline"] {
            if let Some((node, text)) = self.text(&[name])
                && text.parse() == Ok(Span::from_millis(0))
            {
                self.say(
                    node,
                    &format!("spec.{name}"),
                    "is no time at all; leave it out for the default",
                );
            }
        }
    }

    /// A shell has no system prompt and asks for nothing.
    fn command_has_no_prompt(&mut self) {
        if self.spec.at(&["agent", "command"]).is_none() {
            return;
        }
        if let Some(node) = self.spec.get("instructions") {
            self.say(
                node,
                "spec.instructions",
                "mean nothing to the command agent; put them into the task",
            );
        }
        if let Some((node, mode)) = self.text(&["permissions", "mode"])
            && matches!(mode, "ask" | "acceptEdits" | "plan")
        {
            let message = format!(
                "`{mode}` cannot be kept by the command agent, which never asks; leave it out or write bypass"
            );
            self.say(node, "spec.permissions.mode", message);
        }
        if let Some(node) = self.spec.at(&["permissions", "allow"])
            && !node.items().is_empty()
        {
            let message = "means nothing to the command agent, which never asks; leave it out";
            self.say(node, "spec.permissions.allow", message);
        }
    }
}

/// Whether a text can name a secret; whoever keeps them says the same.
pub(super) fn is_secret_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_variable(name: &str) -> bool {
    name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

pub(super) fn is_github(text: &str) -> bool {
    let owner = |owner: &str| {
        !owner.is_empty()
            && owner.len() <= 39
            && owner.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !owner.starts_with('-')
    };
    let project = |name: &str| {
        !name.is_empty()
            && name.len() <= 100
            && !matches!(name, "." | "..")
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    text.split_once('/').is_some_and(|(left, right)| owner(left) && project(right))
}

/// Why git should not get a text as the address of a repository, if it should not.
pub(super) fn bad_url(text: &str) -> Option<String> {
    // Where there are credentials in an address, no message repeats it.
    let is_path = text.starts_with('/') || text == "~" || text.starts_with("~/");
    let fault = if text.is_empty() {
        "is empty; write an https, ssh or file address, or a path that begins with / or ~/"
    } else if text.starts_with('-') {
        "begins with a dash, which git would take for a flag; write an https, ssh or file \
         address, or a path that begins with / or ~/"
    } else if text.contains(char::is_control) {
        "has a control character in it, such as a line break; take it out"
    } else if text.contains(char::is_whitespace) && !is_path {
        "has a space in it, which no address may have; write %20, or a path that begins with / \
         or ~/"
    } else if !is_path && !names_host(text) {
        "is a relative path, and the server does not stand where you do; begin it with / or ~/"
    } else {
        ""
    };
    if !fault.is_empty() {
        return Some(fault.to_owned());
    }
    if text.contains("::") && !text.contains("://") {
        return Some(
            "names a remote helper; write an https, ssh or file address, or a path".to_owned(),
        );
    }
    // Do not repeat the address: what is wrong with it is the secret in it.
    let url = text.parse::<url::Url>().ok()?;
    let secret = url.password().is_some()
        || (matches!(url.scheme(), "http" | "https") && !url.username().is_empty());
    secret.then(|| {
        "has credentials in it; leave them out, and let git's own credential helper or GH_TOKEN \
         of the server's environment give them"
            .to_owned()
    })
}

/// Whether git reads a text as an address, and not as a path: the colon comes before any slash.
fn names_host(text: &str) -> bool {
    text.split('/').next().is_some_and(|start| start.contains(':'))
}

/// Whether git takes a text as the name of a branch (`git check-ref-format`).
#[must_use]
pub fn is_branch(text: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    !text.is_empty()
        && text != "@"
        && !text.starts_with('-')
        && !text.contains(bad)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.ends_with('.')
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}
