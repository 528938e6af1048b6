//! What a sandboxed agent is given of this machine, and what it is not.
//!
//! It reads the system's programs (the reporter knows where these are), and where its own CLI and
//! the other programs on its `PATH` are installed. A home holds more than programs: of an entry
//! such as `~/.local/bin`, that very directory and the libraries beside it are given, and nothing
//! else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sprite_reporter::wire::EnvVar;

use super::{super::Error, DEFAULT_PATH, LocalConfig, text};
use crate::resource::AgentCli;

/// What stands beside a directory of programs and belongs to them.
const LIBRARIES: [&str; 4] = ["lib", "lib32", "lib64", "libexec"];
/// Where a package of a CLI lies among others, whose files it needs too.
const PACKAGES: &str = "node_modules";
/// What of an agent's environment leads out of its sandbox.
const LEADS_OUT: [&str; 7] = [
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "XDG_RUNTIME_DIR",
    "OPENCODE_CONFIG_DIR",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// Refuses a work directory that would open the sandbox.
pub(super) fn check_workdir(config: &LocalConfig, workdir: &Path) -> Result<(), Error> {
    let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (workdir, home, data) = (resolved(workdir), resolved(&config.home), resolved(&config.data));
    let opens =
        home.starts_with(&workdir) || data.starts_with(&workdir) || workdir.starts_with(&data);
    if opens {
        return Err(Error::Terminal(format!(
            "isolation sandbox cannot keep an agent in {}, which holds your home or the server's \
             data; name a directory below your home",
            workdir.display()
        )));
    }
    Ok(())
}

/// Where a sandboxed agent may read, beside the system's own directories.
pub(super) fn readable(config: &LocalConfig, agent: &AgentCli) -> Result<Vec<String>, Error> {
    let path = config.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
    let entries: Vec<PathBuf> = std::env::split_paths(path).collect();
    let mut places = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_absolute()) {
        places.push(entry.clone());
        if let Some(parent) = entry.parent() {
            places.extend(LIBRARIES.iter().map(|name| parent.join(name)));
        }
    }
    let program = program(agent);
    let program = PathBuf::from(program);
    let found = if program.components().count() > 1 {
        Some(program)
    } else {
        entries.iter().map(|entry| entry.join(&program)).find(|it| it.exists())
    };
    if let Some(installed) = found.and_then(|found| fs::canonicalize(found).ok()) {
        let packages = installed.ancestors().filter(|it| it.ends_with(PACKAGES)).last();
        places.extend(packages.or(installed.parent()).map(Path::to_owned));
    }
    places.retain(|place| place.exists() && !is_too_much(config, place));
    places.dedup();
    places.iter().map(|place| text(place)).collect()
}

/// Whether a place holds the home or the server's data, or is among that.
fn is_too_much(config: &LocalConfig, place: &Path) -> bool {
    let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (place, data) = (resolved(place), resolved(&config.data));
    resolved(&config.home).starts_with(&place)
        || data.starts_with(&place)
        || place.starts_with(&data)
}

/// The program that an agent is.
fn program(agent: &AgentCli) -> String {
    let or = |path: &Option<String>, name: &str| path.clone().unwrap_or_else(|| name.to_owned());
    match agent {
        AgentCli::Command(command) => or(&command.shell, "sh"),
        AgentCli::Claude(claude) => or(&claude.path, "claude"),
        AgentCli::Opencode(opencode) => or(&opencode.path, "opencode"),
        AgentCli::Codex(codex) => or(&codex.path, "codex-acp"),
        AgentCli::Acp(acp) => acp.command.first().cloned().unwrap_or_default(),
    }
}

/// An agent's environment in its sandbox: its own home, and nothing that leads out. What the
/// spec itself says stays.
pub(super) fn enclosed(
    env: Vec<EnvVar>,
    said: &[String],
    home: &Path,
) -> Result<Vec<EnvVar>, Error> {
    let leads_out = |name: &str| {
        LEADS_OUT.contains(&name) || name.starts_with("XDG_") || name == "HOME" || name == "TMPDIR"
    };
    let mut env: Vec<EnvVar> =
        env.into_iter().filter(|it| said.contains(&it.name) || !leads_out(&it.name)).collect();
    for (name, place) in [("HOME", home.to_owned()), ("TMPDIR", home.join("tmp"))] {
        if !said.iter().any(|it| it == name) {
            env.push(EnvVar { name: name.to_owned(), value: text(&place)?, secret: false });
        }
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::ClaudeCli;

    #[test]
    fn programs_are_readable_where_they_are_installed_and_the_home_is_not() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let home = root.join("home");
        let prefix = home.join(".nvm/v20");
        let package = prefix.join("lib/node_modules/@anthropic-ai/claude-code");
        for place in [prefix.join("bin"), package.clone(), home.join(".local/share/keys")] {
            fs::create_dir_all(place).unwrap();
        }
        fs::create_dir_all(home.join(".local/bin")).unwrap();
        fs::write(package.join("cli.js"), "").unwrap();
        std::os::unix::fs::symlink(package.join("cli.js"), prefix.join("bin/claude")).unwrap();
        let mut config = LocalConfig::new(&root.join("data"), "i", &home);
        let at = |below: &str| home.join(below).display().to_string();
        let path = [at(".nvm/v20/bin"), at(".local/bin"), at(""), "bin".into(), "/usr/bin".into()];
        config.environment = vec![("PATH".into(), path.join(":"))];
        let claude = AgentCli::Claude(ClaudeCli::default());
        let mut given = readable(&config, &claude).unwrap();
        given.retain(|place| !place.starts_with("/usr"));
        assert_eq!(
            given,
            [
                at(".nvm/v20/bin"),
                at(".nvm/v20/lib"),
                at(".local/bin"),
                at(".nvm/v20/lib/node_modules"),
            ]
        );
    }

    #[test]
    fn the_environment_leads_home_and_not_out() {
        let variable = |name: &str, value: &str| EnvVar {
            name: name.into(),
            value: value.into(),
            secret: false,
        };
        let env = ["HOME", "SSH_AUTH_SOCK", "XDG_DATA_HOME", "LANG", "CODEX_HOME"];
        let env = env.map(|name| variable(name, "theirs")).into();
        let enclosed = enclosed(env, &["CODEX_HOME".into()], Path::new("/own")).unwrap();
        assert_eq!(
            enclosed,
            [
                variable("LANG", "theirs"),
                variable("CODEX_HOME", "theirs"),
                variable("HOME", "/own"),
                variable("TMPDIR", "/own/tmp"),
            ]
        );
    }
}
