//! What a machine's reporter hears when it has claimed its run.

use sprite_reporter::wire::{Claimed, RunSpec};

use super::{FlySettings, environment};
use crate::{
    resource::{RuntimeSpec, Sprite},
    runtime::{
        Error,
        spec::{agent_spec, permissions, repo_spec, session},
    },
    secrets::Secrets,
};

/// Where the volume is mounted.
pub(super) const VOLUME: &str = "/data";
/// The agent's home on the volume.
const HOME: &str = "/data/home";
/// Where the agent works, on the volume.
const WORK: &str = "/data/work";
/// What comes and goes with turns, on the volume.
const FILES: &str = "/data/files";
/// Where the agent works in a machine that keeps nothing, as the original has it.
const WORKSPACE: &str = "/workspace";
/// What comes and goes with turns, where nothing is kept.
const SHORT_LIVED: &str = "/tmp/open-dispatch";
/// By what a spec says where to work, as in the original.
const WORKDIR: &str = "WORKDIR";

/// Whether a volume keeps what the agent does beyond a sleep: by default for those who take turns,
/// and never for one task, whose machine goes with it.
pub(super) fn is_persistent(sprite: &Sprite) -> bool {
    let said = match &sprite.spec.runtime {
        RuntimeSpec::Fly(fly) => fly.persistent,
        RuntimeSpec::Local(_) => None,
    };
    sprite.spec.task.is_none() && said.unwrap_or(true)
}

/// Where the agent works.
pub(super) fn workdir(sprite: &Sprite) -> String {
    let named = sprite.spec.env.iter().find(|entry| entry.name == WORKDIR);
    let named = named.and_then(|entry| entry.value.clone()).filter(|path| path.starts_with('/'));
    match (named, is_persistent(sprite)) {
        // What is to be kept must lie where it is kept.
        (Some(path), true) if path.starts_with("/data/") => path,
        (Some(path), false) => path,
        (_, true) => WORK.to_owned(),
        (None, false) => WORKSPACE.to_owned(),
    }
}

/// What the run that is wanted is to do.
pub(super) fn claimed(
    settings: &FlySettings,
    installation: &str,
    secrets: &Secrets,
    sprite: &Sprite,
) -> Result<Claimed, Error> {
    let spec = &sprite.spec;
    let kept = is_persistent(sprite);
    let files = if kept { FILES } else { SHORT_LIVED };
    Ok(Claimed {
        spec: RunSpec {
            job_id: sprite.metadata.uid.clone(),
            run: spec.run,
            installation: installation.to_owned(),
            server: Some(environment::server(settings)),
            endpoint_file: None,
            agent: agent_spec(&spec.agent, spec.instructions.as_deref()),
            task: spec.task.clone(),
            workdir: workdir(sprite),
            repo: spec.repo.as_ref().map(|repo| repo_spec(repo, None)).transpose()?,
            permissions: permissions(&spec.permissions),
            env: environment::variables(settings, secrets, sprite)?,
            timeout_ms: spec.timeout.map(|span| span.as_millis()),
            idle_timeout_ms: spec.idle_timeout.map(|span| span.as_millis()),
            // What a session stands on went with the machine's disk.
            session: session(sprite).filter(|_| kept),
            hide: Vec::new(),
            worktree: None,
            sandbox: None,
            attachments: Some(format!("{files}/attachments")),
            artifacts: Some(format!("{files}/artifacts")),
        },
        home: kept.then(|| HOME.to_owned()),
    })
}
