//! What an Agent's or a Job's spec may say.

use serde_json::Value;

use super::{Judge, words::Word};
use crate::resource::Kind;

/// What a shell is called that a spec does not name.
const SHELL: &str = "sh";
/// The agents whose program a spec may name.
const WITH_PATH: [&str; 3] = ["claude", "opencode", "codex"];

impl Judge<'_> {
    /// The spec of an Agent or a Job.
    pub(super) fn worker(&mut self, kind: Kind, spec: &Value, path: &str) {
        self.runtime(spec, path);
        self.program(spec, path);
        self.permissions(kind, spec, path);
        for member in ["github", "url"] {
            self.member(Word::Repos, spec, path, &["repo", member]);
        }
        if self.words.list(Word::Env).is_some() {
            // Whatever is in it: some do their work by being there, so a secret is no harmless value.
            for (entry, at) in self.entries(spec, path, &["env"]) {
                self.member(Word::Env, entry, &at, &["name"]);
            }
        }
        if self.words.list(Word::Secrets).is_some() {
            for (entry, at) in self.entries(spec, path, &["env"]) {
                self.member(Word::Secrets, entry, &at, &["fromSecret"]);
            }
        }
        self.channels(spec, path, &["channels"]);
        self.made(spec, path);
    }

    /// What of a Job that was made may still change: what its attempts are made from cannot.
    pub(super) fn made(&mut self, spec: &Value, path: &str) {
        self.channels(spec, path, &["report", "to"]);
    }

    fn runtime(&mut self, spec: &Value, path: &str) {
        let restricts = |word: &Word| self.words.list(*word).is_some();
        if ![Word::Runtimes, Word::Isolations, Word::Workdirs, Word::Images].iter().any(restricts) {
            return;
        }
        let at = format!("{path}.runtime");
        let before = self.faults.len();
        let found = self.within(spec, path, &["runtime"]);
        if self.faults.len() > before {
            return;
        }
        let named: Vec<&str> = match found {
            Some((Value::Object(members), _)) => {
                let there = members.iter().filter(|(_, value)| !value.is_null());
                there.map(|(name, _)| name.as_str()).collect()
            }
            Some((other, _)) => return self.one(Word::Runtimes, &at, &other.to_string()),
            None => Vec::new(),
        };
        let usual = if self.rules.defaults.on_fly { "fly" } else { "local" };
        match named.as_slice() {
            [] => self.one(Word::Runtimes, &at, usual),
            names => names.iter().for_each(|name| {
                self.one(Word::Runtimes, &format!("{at}.{name}"), name);
            }),
        }
        if named.contains(&"fly") {
            self.member(Word::Images, spec, path, &["runtime", "fly", "image"]);
        }
        if named.contains(&"local") || (named.is_empty() && usual == "local") {
            self.here(spec, path);
        }
    }

    /// Where it works on the server's machine, and how far apart.
    fn here(&mut self, spec: &Value, path: &str) {
        let local = ["runtime", "local"];
        if self.words.list(Word::Isolations).is_some() {
            let before = self.faults.len();
            match self.within(spec, path, &[local[0], local[1], "isolation"]) {
                Some((isolation, at)) => {
                    let text = isolation.as_str().unwrap_or_default().to_owned();
                    self.one(Word::Isolations, &at, &text);
                }
                None if self.faults.len() == before => {
                    self.one(Word::Isolations, &format!("{path}.runtime.local"), "none");
                }
                None => {}
            }
        }
        if self.words.list(Word::Workdirs).is_some() {
            let before = self.faults.len();
            let has_repo = !spec["repo"].is_null();
            match self.within(spec, path, &[local[0], local[1], "workdir"]) {
                Some((place, at)) => {
                    let text = place.as_str().unwrap_or_default().to_owned();
                    self.place(Word::Workdirs, &at, &text);
                }
                // A clone gets a directory of its own; what has none works in the home.
                None if self.faults.len() == before && !has_repo => {
                    self.place(Word::Workdirs, &format!("{path}.runtime.local"), "~");
                }
                None => {}
            }
        }
    }

    /// What runs in the agent's place.
    fn program(&mut self, spec: &Value, path: &str) {
        if self.words.list(Word::Programs).is_none() {
            return;
        }
        for agent in WITH_PATH {
            self.member(Word::Programs, spec, path, &["agent", agent, "path"]);
        }
        let words = self.entries(spec, path, &["agent", "acp", "command"]);
        if !words.is_empty() {
            let words: Vec<&str> = words.iter().filter_map(|(word, _)| word.as_str()).collect();
            self.one(Word::Programs, &format!("{path}.agent.acp.command"), &words.join(" "));
        }
        // A shell does what it is told, and asks nobody.
        let before = self.faults.len();
        if self.within(spec, path, &["agent", "command"]).is_some() {
            match self.within(spec, path, &["agent", "command", "shell"]) {
                Some((shell, at)) => {
                    let text = shell.as_str().unwrap_or_default().to_owned();
                    self.one(Word::Programs, &at, &text);
                }
                None if self.faults.len() == before => {
                    self.one(Word::Programs, &format!("{path}.agent.command"), SHELL);
                }
                None => {}
            }
        }
    }

    /// What it may do unasked.
    fn permissions(&mut self, kind: Kind, spec: &Value, path: &str) {
        if self.words.list(Word::PermissionModes).is_some() {
            let before = self.faults.len();
            match self.within(spec, path, &["permissions", "mode"]) {
                Some((mode, at)) => {
                    let text = mode.as_str().unwrap_or_default().to_owned();
                    self.one(Word::PermissionModes, &at, &text);
                }
                None if self.faults.len() == before => {
                    let usual = if kind == Kind::Job { "bypass" } else { "ask" };
                    self.one(Word::PermissionModes, &format!("{path}.permissions.mode"), usual);
                }
                None => {}
            }
        }
        if self.words.list(Word::PermissionRules).is_some() {
            for (rule, at) in self.entries(spec, path, &["permissions", "allow"]) {
                self.one(Word::PermissionRules, &at, rule.as_str().unwrap_or_default());
            }
        }
    }

    /// Channels, as `platform:channel`.
    pub(super) fn channels(&mut self, value: &Value, path: &str, keys: &[&str]) {
        if self.words.list(Word::Channels).is_none() {
            return;
        }
        for (channel, at) in self.entries(value, path, keys) {
            for (platform, place) in channel.as_object().into_iter().flatten() {
                if place.is_null() {
                    continue;
                }
                if let Some((id, at)) = self.within(channel, &at, &[platform, "channel"]) {
                    let id = id.as_str().unwrap_or_default();
                    self.one(Word::Channels, &at, &format!("{platform}:{id}"));
                }
            }
        }
    }
}
