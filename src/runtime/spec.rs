//! What a reporter is told, from what a Sprite is to be: the same wherever the Sprite lives.

use std::path::Path;

use secrecy::ExposeSecret as _;
use sprite_reporter::wire::{self, AgentSpec, EnvVar, RepoSpec};

use super::{Error, local::is_secret};
use crate::{
    resource::{AgentCli, EnvEntry, Permissions, Repo, Sprite},
    secrets::{self, Secrets},
};

/// A path as text.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::Terminal(format!("{} is not UTF-8", path.display())))
}

/// The session to resume: what the sprite was made with, and then what its runs told.
pub(super) fn session(sprite: &Sprite) -> Option<String> {
    let told = sprite.status.session_id.clone().filter(|_| sprite.spec.run > 1);
    told.or_else(|| sprite.spec.session.clone())
}

/// How to answer the CLI's permission requests.
pub(super) fn permissions(permissions: &Permissions) -> wire::Permissions {
    wire::Permissions {
        mode: permissions.mode.unwrap_or_default(),
        allow: permissions.allow.clone(),
    }
}

/// Which CLI to drive.
pub(super) fn agent_spec(agent: &AgentCli, instructions: Option<&str>) -> AgentSpec {
    let instructions = instructions.map(str::to_owned);
    match agent {
        AgentCli::Command(command) => AgentSpec::Command { shell: command.shell.clone() },
        AgentCli::Claude(claude) => AgentSpec::Claude {
            path: claude.path.clone(),
            model: claude.model.clone(),
            instructions,
        },
        AgentCli::Opencode(opencode) => AgentSpec::Opencode {
            path: opencode.path.clone(),
            model: opencode.model.clone(),
            instructions,
        },
        AgentCli::Codex(codex) => AgentSpec::Acp {
            command: vec![codex.path.clone().unwrap_or_else(|| "codex-acp".to_owned())],
            model: codex.model.clone(),
            instructions,
        },
        AgentCli::Acp(acp) => {
            AgentSpec::Acp { command: acp.command.clone(), model: acp.model.clone(), instructions }
        }
    }
}

/// What to clone. `~` is the home of the user who runs the server, where the clone is made beside
/// it; a machine of its own has none of that.
pub(super) fn repo_spec(repo: &Repo, home: Option<&Path>) -> Result<RepoSpec, Error> {
    let url = match (&repo.github, &repo.url) {
        (Some(github), None) => format!("https://github.com/{github}.git"),
        (None, Some(url)) => match (url.strip_prefix('~'), home) {
            (Some(""), Some(home)) => text(home)?,
            (Some(below), Some(home)) if below.starts_with('/') => {
                text(&home.join(below.trim_start_matches('/')))?
            }
            (Some(below), None) if below.is_empty() || below.starts_with('/') => {
                return Err(Error::Terminal(format!(
                    "repo {url} lies on the server's machine, and this agent gets one of its own; \
                     name an address that git can clone from there"
                )));
            }
            _ => url.clone(),
        },
        _ => {
            return Err(Error::Terminal("repo: give exactly one of github and url".into()));
        }
    };
    Ok(RepoSpec { url, branch: repo.branch.clone() })
}

/// One variable that a spec names, with its value.
pub(super) fn variable(entry: &EnvEntry, secrets: &Secrets) -> Result<EnvVar, Error> {
    let name = entry.name.clone();
    match (&entry.value, &entry.from_secret) {
        (Some(value), None) => Ok(EnvVar { secret: is_secret(&name), value: value.clone(), name }),
        (None, Some(secret)) => {
            let value = secrets.resolve(secret).map_err(|error| match error {
                // Whatever keeps it away, it works once somebody has seen to that.
                secrets::Error::BadName(_) => Error::Terminal(error.to_string()),
                _ => Error::SecretMissing(error.to_string()),
            })?;
            Ok(EnvVar { value: value.expose_secret().to_owned(), name, secret: true })
        }
        _ => Err(Error::Terminal(format!("env {name}: give exactly one of value and fromSecret"))),
    }
}
