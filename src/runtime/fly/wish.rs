//! From what a Sprite is to be to the machine that is asked for. Pure.

use std::time::Duration;

use super::{
    FlySettings,
    api::{CreateMachine, Env, Guest, Mount, Restart, Signal, StopMachine, WishedConfig},
    claim::{VOLUME, is_persistent},
    images, names, tags,
};
use crate::{
    resource::{FlyRuntime, RuntimeSpec, Sprite},
    runtime::Error,
};

/// The size of who names none, as the original has it.
const CPU_KIND: &str = "shared";
const CPUS: u32 = 2;
const MEMORY_MB: u32 = 2048;
/// How long a reporter has to end its agent and to say how, once its machine is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How every machine of ours is stopped.
pub(super) fn stop() -> StopMachine {
    StopMachine { signal: Some(Signal::SigTerm), timeout: Some(STOP_WITHIN) }
}

/// What a Sprite's spec says of Fly.
pub(super) fn of(sprite: &Sprite) -> Result<&FlyRuntime, Error> {
    match &sprite.spec.runtime {
        RuntimeSpec::Fly(fly) => Ok(fly),
        RuntimeSpec::Local(_) => Err(Error::Terminal("its runtime is not fly".to_owned())),
    }
}

/// Its size.
pub(super) fn guest(fly: &FlyRuntime) -> Guest {
    let guest = fly.guest.as_ref();
    Guest {
        cpu_kind: guest.map_or_else(|| CPU_KIND.to_owned(), |guest| guest.cpu_kind.clone()),
        cpus: guest.map_or(CPUS, |guest| guest.cpus),
        memory_mb: guest.map_or(MEMORY_MB, |guest| guest.memory_mb),
        ..Guest::default()
    }
}

/// The regions in which it may be, in the order in which they are tried.
pub(super) fn regions(fly: &FlyRuntime, settings: &FlySettings) -> Vec<String> {
    let said = fly.region.as_deref().unwrap_or(&settings.region);
    said.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
}

/// The machine to ask for.
pub(super) fn machine(
    settings: &FlySettings,
    installation: &str,
    sprite: &Sprite,
    env: Env,
    region: &str,
    volume: Option<&str>,
) -> Result<CreateMachine, Error> {
    let fly = of(sprite)?;
    let image =
        images::resolve(fly, settings).map_err(|error| Error::Terminal(error.to_string()))?;
    let guest = guest(fly);
    let spec = format!("{image} {guest:?} {region} {} {}", settings.server, is_persistent(sprite));
    let spec = names::digest(&spec, 16);
    let mounts = volume.map(|id| Mount { volume: id.to_owned(), path: VOLUME.to_owned() });
    Ok(CreateMachine {
        name: names::machine(installation, &sprite.metadata.uid),
        region: region.to_owned(),
        skip_launch: false,
        config: WishedConfig {
            image,
            guest,
            env,
            init: None,
            // One who takes turns sleeps in its machine.
            auto_destroy: sprite.spec.task.is_some(),
            restart: Restart::default(),
            metadata: tags::tags(installation, sprite, &spec),
            mounts: mounts.into_iter().collect(),
            stop_config: Some(stop()),
        },
    })
}
