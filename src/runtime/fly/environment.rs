//! What stands in a machine's environment.
//!
//! The original's variables always, so that an image with the original's sidecar works as well; the
//! mark that ours is to claim its run; and what the agent gets: of the server's environment what the
//! local runtime's allow-list names and a machine of its own can use, then what the spec says. Where
//! secrets travel by claim, no value that is one stands here: Fly shows a machine's environment to
//! whoever may read the app.

use sprite_reporter::wire::{CLAIM_VARIABLE, EnvVar, JOB_ID_VARIABLE};

use super::{FlySettings, SecretsBy, api::Env, claim::workdir, command::command};
use crate::{
    resource::Sprite,
    runtime::{Error, local::environment::pick, spec::variable},
    secrets::Secrets,
};

/// What of the server's environment speaks of the server's own machine: its files, its sockets, its
/// terminal, its way out.
const OF_HERE: &[&str] = &[
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "OPENCODE_CONFIG_DIR",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// The same, by the beginnings of names.
const OF_HERE_PREFIXES: &[&str] = &["LC_", "XDG_"];

/// What an agent in a machine gets beside what its image has.
pub(super) fn variables(
    settings: &FlySettings,
    secrets: &Secrets,
    sprite: &Sprite,
) -> Result<Vec<EnvVar>, Error> {
    let spec = sprite.spec.env.iter().map(|entry| variable(entry, secrets));
    let spec = spec.collect::<Result<Vec<_>, _>>()?;
    let of_here = |name: &str| {
        OF_HERE.contains(&name) || OF_HERE_PREFIXES.iter().any(|front| name.starts_with(front))
    };
    let server: Vec<(String, String)> = settings
        .environment
        .iter()
        .filter(|(name, _)| !of_here(name) || settings.extra_env.contains(name))
        .cloned()
        .collect();
    Ok(pick(&server, &settings.extra_env, spec))
}

/// A machine's whole environment.
pub(super) fn environment(
    settings: &FlySettings,
    secrets: &Secrets,
    sprite: &Sprite,
    token: &str,
) -> Result<Env, Error> {
    let shown =
        |variable: &EnvVar| settings.secrets_by == SecretsBy::Environment || !variable.secret;
    let agent = variables(settings, secrets, sprite)?;
    let mut env: Env = agent.into_iter().filter(shown).map(|it| (it.name, it.value)).collect();
    let spec = &sprite.spec;
    let repo = spec.repo.as_ref();
    // Whatever a spec says: these are the machine's own.
    let own = [
        (JOB_ID_VARIABLE, Some(sprite.metadata.uid.clone())),
        ("JOB_TOKEN", Some(token.to_owned())),
        ("OPEN_DISPATCH_URL", Some(server(settings))),
        ("COMMAND", Some(command(spec))),
        ("REPO", repo.and_then(|repo| repo.github.clone())),
        ("BRANCH", repo.and_then(|repo| repo.branch.clone())),
        ("WORKDIR", Some(workdir(sprite))),
        (CLAIM_VARIABLE, Some("1".to_owned())),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            env.set(name, value);
        }
    }
    Ok(env)
}

/// The server's address, as the original's sidecar puts paths behind it.
pub(super) fn server(settings: &FlySettings) -> String {
    settings.server.as_str().trim_end_matches('/').to_owned()
}
