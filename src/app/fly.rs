//! What the configuration's words of Fly become: the runtime's settings, and what editors know
//! of images.

use std::sync::Arc;

use sprite_reporter::wire::Claimed;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    ambient::Ambient,
    config::{Config, Fly, SecretsBy, Where},
    resource::{Defaults, FlyMachine, Images, Sprite},
    runtime::fly::{self, FlyRuntime, FlySettings, Revision},
    secrets::Secrets,
    server,
    store::Store,
};

/// What `/ready` calls the part.
const PART: &str = "fly";

/// The Fly runtime; nothing where there are no machines.
///
/// # Errors
/// What of the configuration cannot be, in one line with the mend.
pub(super) fn runtime(
    config: &Config,
    store: &Arc<dyn Store>,
    secrets: &Secrets,
    ambient: &Ambient,
) -> Result<Option<Arc<FlyRuntime>>, String> {
    let Some(settings) = settings(config) else { return Ok(None) };
    let of = Arc::clone(store);
    let revision: Revision = Arc::new(move || {
        let of = Arc::clone(&of);
        Box::pin(async move { of.revision().await.ok() })
    });
    let (installation, secrets) = (store.installation(), secrets.clone());
    FlyRuntime::new(settings, installation, secrets, ambient.clone(), revision).map(Some)
}

/// Lets the server answer the claims of machines.
pub(super) struct Claims(pub(super) Arc<FlyRuntime>);

impl server::Claims for Claims {
    fn claimed(&self, sprite: &Sprite) -> Result<Claimed, String> {
        self.0.claimed(sprite)
    }

    fn machine(&self, id: &str) -> Option<FlyMachine> {
        Some(self.0.spoken(id))
    }
}

/// Looks at all machines, again and again, and says on `/ready` what is wrong with Fly as a whole.
pub(super) fn watch(runtime: Arc<FlyRuntime>, state: server::State) -> JoinSet<()> {
    let mut trouble = runtime.trouble();
    let mut tasks = JoinSet::new();
    state.readiness().up(PART);
    tasks.spawn(runtime.census());
    tasks.spawn(async move {
        while trouble.changed().await.is_ok() {
            match trouble.borrow_and_update().clone() {
                Some(why) => {
                    tracing::warn!(why, "Fly cannot be worked with; it is tried again");
                    state.readiness().down(PART, why);
                }
                None => state.readiness().up(PART),
            }
        }
    });
    tasks
}

/// Says on `/ready` what Fly holds for nobody, or why that is not swept: a person should see to it, and the
/// server works all the same.
pub(super) async fn tell(mut tidings: watch::Receiver<Option<String>>, state: server::State) {
    loop {
        let told = tidings.borrow_and_update().clone();
        state.readiness().warn(PART, told);
        if tidings.changed().await.is_err() {
            return;
        }
    }
}

/// The Fly runtime's settings; nothing where there are no machines.
fn settings(config: &Config) -> Option<FlySettings> {
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
