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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        resource::{Kind, OwnerReference},
        runtime::fly::{SecretsBy, claim::claimed, environment::environment},
        secrets::Secrets,
    };

    fn settings(secrets_by: SecretsBy) -> FlySettings {
        let own = [
            ("ANTHROPIC_API_KEY", "sk-server"),
            ("DATABASE_URL", "postgres://u:p@h/d"),
            ("FLY_API_TOKEN", "fm2_never"),
            ("HOME", "/home/server"),
            ("SLACK_BOT_TOKEN", "xoxb-never"),
            ("TZ", "Europe/Berlin"),
        ];
        FlySettings {
            api: "http://127.0.0.1:1".parse().unwrap(),
            token: "fm2_never".to_owned().into(),
            app: "my-sprites".into(),
            region: "iad, lhr".into(),
            image: Some("node".into()),
            images: [("node".to_owned(), "registry.fly.io/a/node:v1".to_owned())].into(),
            allowed_images: Vec::new(),
            server: "http://open-dispatch.internal:8080/".parse().unwrap(),
            capacity: 10,
            secrets_by,
            environment: own.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            extra_env: Vec::new(),
        }
    }

    fn secrets() -> Secrets {
        let variable = ("OPEN_DISPATCH_SECRET_GITHUB".to_owned(), "ghp_value".to_owned());
        Secrets::new("/nowhere".into(), vec![variable])
    }

    fn sprite(task: Option<&str>) -> Sprite {
        let spec = json!({
            "agent": {"command": {}}, "runtime": {"fly": {"region": "ams,fra"}}, "task": task,
            "repo": {"github": "owner/project", "branch": "main"}, "permissions": {"mode": "bypass"},
            "env": [{"name": "RUST_LOG", "value": "info"}, {"name": "GH_TOKEN", "fromSecret": "github"}],
            "attempt": 1, "running": true, "session": "s-1",
        });
        let mut sprite = Sprite::new("s", serde_json::from_value(spec).unwrap());
        sprite.metadata.uid = "0198c0de-aaaa-7bbb-8ccc-000000000002".into();
        sprite.metadata.resource_version = "41".into();
        sprite.metadata.owner_references = vec![OwnerReference {
            api_version: String::new(),
            kind: Kind::Agent,
            name: "bot".into(),
            uid: "owner".into(),
            controller: true,
        }];
        sprite
    }

    fn asked(sprite: &Sprite, secrets_by: SecretsBy) -> serde_json::Value {
        let settings = settings(secrets_by);
        let env = environment(&settings, &secrets(), sprite, "token-of-the-sprite").unwrap();
        let fly = of(sprite).unwrap();
        let region = regions(fly, &settings).join(",");
        let volume = sprite.spec.task.is_none().then_some("vol_1");
        let home = "0198c0de-7000-7abc-8def-000000000001";
        serde_json::to_value(machine(&settings, home, sprite, env, &region, volume).unwrap())
            .unwrap()
    }

    #[test]
    fn a_jobs_machine_goes_with_its_end_and_an_agents_keeps_a_volume() {
        insta::assert_json_snapshot!(
            "a_jobs_machine",
            asked(&sprite(Some("make test")), SecretsBy::Environment)
        );
        insta::assert_json_snapshot!("an_agents_machine", asked(&sprite(None), SecretsBy::Claim));
    }

    #[test]
    fn where_secrets_travel_by_claim_none_stands_in_the_machine() {
        let secret = ["ghp_value", "sk-server", "postgres://u:p@h/d"];
        let sprite = sprite(None);
        let (text, open) = (
            asked(&sprite, SecretsBy::Claim).to_string(),
            asked(&sprite, SecretsBy::Environment).to_string(),
        );
        for secret in secret {
            assert!(!text.contains(secret), "{secret}");
            assert!(open.contains(secret), "{secret}");
        }
        let told = claimed(&settings(SecretsBy::Claim), "home", &secrets(), &sprite).unwrap();
        let told = serde_json::to_string(&told).unwrap();
        assert!(secret.iter().all(|secret| told.contains(secret)));
        for never in ["fm2_never", "xoxb-never", "/home/server"] {
            assert!(!told.contains(never) && !open.contains(never), "{never}");
        }
    }

    #[test]
    fn what_was_asked_for_shows_no_secret_to_whoever_prints_it() {
        let settings = settings(SecretsBy::Environment);
        let env = environment(&settings, &secrets(), &sprite(None), "token-of-the-sprite").unwrap();
        let wish = machine(&settings, "home", &sprite(None), env, "iad", None).unwrap();
        let printed = format!("{wish:?}");
        for secret in ["ghp_value", "sk-server", "token-of-the-sprite"] {
            assert!(!printed.contains(secret), "{secret}");
        }
    }

    #[test]
    fn a_run_that_keeps_nothing_begins_without_the_session_of_the_last() {
        let told = |persistent: Option<bool>| {
            let mut sprite = sprite(None);
            let RuntimeSpec::Fly(fly) = &mut sprite.spec.runtime else { unreachable!() };
            fly.persistent = persistent;
            claimed(&settings(SecretsBy::Claim), "home", &secrets(), &sprite).unwrap()
        };
        let kept = told(None);
        assert_eq!(kept.spec.session.as_deref(), Some("s-1"));
        assert_eq!(
            (kept.home.as_deref(), kept.spec.workdir.as_str()),
            (Some("/data/home"), "/data/work")
        );
        let fresh = told(Some(false));
        assert_eq!(fresh.spec.session, None);
        assert_eq!((fresh.home.as_deref(), fresh.spec.workdir.as_str()), (None, "/workspace"));
    }

    #[test]
    fn what_cannot_be_had_says_what_there_is_to_do() {
        let mut sprite = sprite(None);
        sprite.spec.repo.as_mut().unwrap().github = None;
        sprite.spec.repo.as_mut().unwrap().url = Some("~/project".into());
        let told = claimed(&settings(SecretsBy::Claim), "home", &secrets(), &sprite).unwrap_err();
        insta::assert_snapshot!(told, @"repo ~/project lies on the server's machine, and this agent gets one of its own; name an address that git can clone from there");
    }
}
