//! What the agent inherits: the machine's environment, without what is the wire's.
//!
//! In a machine of its own the environment is the image's and the runtime's, made for the agent; so
//! all of it passes, other than on the server's computer, where a list says what does. What is
//! ours stays behind: the token, the call to claim, the server's address. Whatever is named like a secret is masked wherever it is printed.
//!
//! Two things are added where the machine has none, since a fresh one has no person's settings: who
//! commits, and how git gets at GitHub. The latter is a helper that takes the token out of the
//! agent's own environment at the moment when git asks: it stands in no file, and in no
//! clone's configuration.

use std::path::{Path, PathBuf};

use crate::{
    driver,
    wire::{CLAIM_VARIABLE, EnvVar, JOB_ID_VARIABLE, ROOT_VARIABLE, RunSpec, names_secret},
};

/// The variable that tells an agent where it may put files that it made.
const ARTIFACTS: &str = "OPEN_DISPATCH_ARTIFACTS";
/// What no agent gets, beside all that begins with [`OURS`].
const WIRE: [&str; 6] = [
    JOB_ID_VARIABLE,
    "JOB_TOKEN",
    "COMMAND",
    "OUTPUT_FORMATTER",
    ROOT_VARIABLE,
    super::user::VARIABLE,
];
/// How the names of our own variables begin.
const OURS: &str = "OPEN_DISPATCH_";
/// Where programs are where nothing says so.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Who commits where nobody says who.
const AUTHOR: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "Open Dispatch"),
    ("GIT_AUTHOR_EMAIL", "sprite@open-dispatch.invalid"),
    ("GIT_COMMITTER_NAME", "Open Dispatch"),
    ("GIT_COMMITTER_EMAIL", "sprite@open-dispatch.invalid"),
];
/// How git gets at GitHub: by the token that the agent has, whenever git asks for it.
const GITHUB: [(&str, &str); 3] = [
    ("GIT_CONFIG_COUNT", "1"),
    ("GIT_CONFIG_KEY_0", "credential.https://github.com.helper"),
    (
        "GIT_CONFIG_VALUE_0",
        "!f() { test \"$1\" = get && echo username=x-access-token && \
         echo \"password=${GH_TOKEN:-$GITHUB_TOKEN}\"; }; f",
    ),
];

/// A machine's environment.
#[derive(Clone)]
pub struct Heritage(Vec<(String, String)>);

impl std::fmt::Debug for Heritage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values are nobody's to see.
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Heritage {
    /// What this process was started with. What is no text cannot be handed on.
    #[must_use]
    pub fn of_process() -> Self {
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self(texts.collect())
    }

    /// These variables.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    /// A variable's value; none where it is empty, which says the same as not being there.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rev().find(|(it, _)| it == name)?;
        Some(value.as_str()).filter(|value| !value.trim().is_empty())
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(it, _)| it != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Puts the machine's environment below the spec's, with this home.
    pub fn give(&self, spec: &mut RunSpec, home: &Path) {
        let said = std::mem::take(&mut spec.env);
        let passes = |name: &str| !WIRE.contains(&name) && !name.starts_with(OURS);
        let mut env: Vec<EnvVar> = Vec::new();
        let mut put = |name: &str, value: &str| env.push(variable(name, value));
        for (name, value) in self.0.iter().filter(|(name, _)| passes(name)) {
            put(name, value);
        }
        put("HOME", &home.to_string_lossy());
        if self.value("PATH").is_none() {
            put("PATH", PATH);
        }
        if !has_author(home) && self.value("GIT_AUTHOR_EMAIL").is_none() {
            AUTHOR.iter().for_each(|(name, value)| put(name, value));
        }
        let has_token = |name: &str| {
            self.value(name).is_some()
                || said.iter().any(|it| it.name == name && !it.value.is_empty())
        };
        let is_configured = self.value("GIT_CONFIG_COUNT").is_some()
            || said.iter().any(|it| it.name == "GIT_CONFIG_COUNT");
        if (has_token("GH_TOKEN") || has_token("GITHUB_TOKEN")) && !is_configured {
            GITHUB.iter().for_each(|(name, value)| put(name, value));
        }
        // What the spec says comes last, and counts, save for what is the wire's.
        env.extend(
            said.into_iter().filter(|it| it.name != "JOB_TOKEN" && it.name != CLAIM_VARIABLE),
        );
        if let Some(artifacts) = &spec.artifacts {
            env.push(variable(ARTIFACTS, artifacts));
        }
        last_of_each(&mut env);
        spec.env = env;
        Self::settle_login(spec);
    }

    /// What the original's sidecar gives its agent beside that: its own command, and the token
    /// under the name by which the older tools know it.
    pub fn give_task(&self, spec: &mut RunSpec) {
        for (name, source) in [("COMMAND", "COMMAND"), ("GITHUB_TOKEN", "GH_TOKEN")] {
            if let Some(value) = self.value(source)
                && !spec.env.iter().any(|it| it.name == name)
            {
                spec.env.push(variable(name, value));
            }
        }
    }

    /// Lets OpenCode's log-in become the file that OpenCode looks for.
    fn settle_login(spec: &RunSpec) {
        if let Err(why) = driver::settle_opencode_login(spec) {
            eprintln!("{}: {why}", crate::cli::PROGRAM);
        }
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: value.to_owned(), secret: names_secret(name) }
}

/// Keeps the last of several variables of one name, where it stands.
fn last_of_each(env: &mut Vec<EnvVar>) {
    let names: Vec<String> = env.iter().map(|it| it.name.clone()).collect();
    let mut at = 0;
    env.retain(|it| {
        at += 1;
        !names[at..].contains(&it.name)
    });
}

/// The settings that git reads of itself.
fn git_settings(home: &Path) -> [PathBuf; 3] {
    [home.join(".gitconfig"), home.join(".config/git/config"), "/etc/gitconfig".into()]
}

/// Whether somebody has said who commits here.
fn has_author(home: &Path) -> bool {
    let says = |file: &PathBuf| {
        let settings = std::fs::read_to_string(file).unwrap_or_default();
        settings.to_ascii_lowercase().contains("[user]")
    };
    git_settings(home).iter().any(says)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(machine: &[(&str, &str)], said: &[(&str, &str)]) -> Vec<EnvVar> {
        let home = tempfile::tempdir().unwrap();
        let mut spec = super::super::original::tests::spec();
        spec.env = said.iter().map(|(name, value)| variable(name, value)).collect();
        Heritage::of(machine).give(&mut spec, home.path());
        spec.env
    }

    fn find<'a>(env: &'a [EnvVar], name: &str) -> Option<&'a EnvVar> {
        let found: Vec<_> = env.iter().filter(|it| it.name == name).collect();
        assert!(found.len() <= 1, "{name} stands once");
        found.first().copied()
    }

    #[test]
    fn the_machines_environment_passes_without_what_is_the_wires() {
        let env = given(
            &[
                ("JOB_ID", "j"),
                ("JOB_TOKEN", "the-token"),
                ("OPEN_DISPATCH_CLAIM", "1"),
                ("OPEN_DISPATCH_URL", "http://server"),
                ("COMMAND", "claude"),
                ("SPRITE_ROOT", "/"),
                ("ANTHROPIC_API_KEY", "sk-ant-1"),
                ("DATABASE_URL", "postgres://u:p@h/d"),
                ("LANG", "C.UTF-8"),
                ("REPO", "o/r"),
            ],
            &[("LANG", "de_DE.UTF-8"), ("JOB_TOKEN", "again")],
        );
        for name in ["JOB_ID", "JOB_TOKEN", "OPEN_DISPATCH_CLAIM", "OPEN_DISPATCH_URL", "COMMAND"] {
            assert_eq!(find(&env, name), None);
        }
        let secret = |name: &str| find(&env, name).map(|it| it.secret);
        assert_eq!((secret("ANTHROPIC_API_KEY"), secret("DATABASE_URL")), (Some(true), Some(true)));
        assert_eq!((secret("REPO"), secret("SPRITE_ROOT")), (Some(false), None));
        assert_eq!(find(&env, "LANG").map(|it| it.value.as_str()), Some("de_DE.UTF-8"));
        assert_eq!(find(&env, "PATH").map(|it| it.value.as_str()), Some(PATH));
    }

    #[test]
    fn git_gets_the_token_when_it_asks_and_nobody_overrides_what_is_set() {
        let env = given(&[("GH_TOKEN", "ghp_1234567890")], &[]);
        let helper = find(&env, "GIT_CONFIG_VALUE_0").unwrap();
        assert!(!helper.value.contains("ghp_"), "it names where the token is, and not the token");
        // This computer's own settings may name one.
        let is_named = has_author(Path::new("/nowhere"));
        assert_eq!(find(&env, "GIT_AUTHOR_NAME").is_none(), is_named);
        let env = given(&[("GH_TOKEN", "ghp_1"), ("GIT_CONFIG_COUNT", "0")], &[]);
        assert_eq!(find(&env, "GIT_CONFIG_VALUE_0"), None);
        assert_eq!(find(&given(&[], &[]), "GIT_CONFIG_COUNT"), None);
    }

    #[test]
    fn who_commits_is_left_to_whoever_has_said_so() {
        let home = tempfile::tempdir().unwrap();
        let settings = home.path().join(".gitconfig");
        std::fs::write(&settings, "[safe]\n\tdirectory = *\n").unwrap();
        let before = has_author(home.path());
        std::fs::write(&settings, "[User]\n\temail = a@b\n").unwrap();
        assert_eq!((before, has_author(home.path())), (has_author(Path::new("/nowhere")), true));
    }

    #[test]
    fn no_value_is_shown() {
        let shown = format!("{:?}", Heritage::of(&[("GH_TOKEN", "ghp_1234567890")]));
        assert_eq!(shown, r#"["GH_TOKEN"]"#);
    }
}
