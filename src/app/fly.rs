//! What the configuration's words of Fly become: the runtime's settings, and what editors know
//! of images.

use crate::{
    config::{Config, Fly, SecretsBy, Where},
    resource::{Defaults, Images},
    runtime::fly::{self, FlySettings},
};

/// The Fly runtime's settings; nothing where there are no machines.
#[expect(dead_code, reason = "the Fly runtime is made from it as soon as it is here")]
pub(super) fn settings(config: &Config) -> Option<FlySettings> {
    let fly = config.fly.as_ref()?;
    Some(FlySettings {
        api: fly.api.value.clone(),
        token: fly.token.value.clone(),
        app: fly.app.value.clone(),
        region: fly.regions.value.clone(),
        image: fly.image.value.clone(),
        images: fly.images.value.clone(),
        allowed_images: fly.allowed_images.value.clone(),
        server: fly.server.value.clone(),
        capacity: fly.max_machines.value,
        secrets_by: match fly.secrets_by.value {
            SecretsBy::Environment => fly::SecretsBy::Environment,
            SecretsBy::Claim => fly::SecretsBy::Claim,
        },
        environment: config.environment.clone(),
        extra_env: config.pass_env.value.clone(),
    })
}

/// Lets those who take specs know whether there are machines, and from which images.
pub(super) fn fill(defaults: &mut Defaults, config: &Config) {
    defaults.images = config.fly.as_ref().map(images);
    defaults.on_fly = config.runtime.value == Where::Fly;
}

fn images(fly: &Fly) -> Images {
    Images {
        usual: fly.image.value.clone(),
        aliases: fly.images.value.clone(),
        allowed: fly.allowed_images.value.clone(),
    }
}
