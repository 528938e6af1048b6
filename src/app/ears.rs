//! The chat platforms that the configuration names.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    ambient::Ambient,
    chat::{
        Commands,
        discord::{Discord, settings::Settings as DiscordSettings},
        ear::{Ear, Hearing},
        slack::{self, Slack},
        teams::{self, Teams},
    },
    config::{Chat, Config},
    server::State,
    store::{Store, files::Files},
};

/// How often it is looked whether people are heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The platforms that listen by themselves.
///
/// # Errors
/// What the configuration does not say, with the mend.
pub(super) fn ears(
    config: &Config,
    store: &Arc<dyn Store>,
    files: &Arc<Files>,
    ambient: &Ambient,
) -> Result<Vec<Arc<dyn Ear>>, String> {
    let mut ears: Vec<Arc<dyn Ear>> = Vec::new();
    for chat in &config.chat.value {
        match chat {
            // It is asked over HTTP, and is always there.
            Chat::Console => {}
            Chat::Slack => {
                let settings = slack::Settings::from_environment(&config.environment)
                    .map_err(|error| error.to_string())?;
                let (files, tempo) = (Arc::clone(files), slack::Tempo::default());
                ears.push(Slack::new(settings, files, ambient.clone(), tempo)?);
            }
            Chat::Discord => {
                let settings = DiscordSettings::read(&config.environment);
                let settings = settings.map_err(|error| error.to_string())?;
                let clock = Arc::clone(&ambient.clock);
                ears.push(Discord::new(settings, Arc::clone(files), clock)?);
            }
            Chat::Teams => {
                let settings = teams::Settings::from_environment(&config.environment);
                let settings = settings.map_err(|error| error.to_string())?;
                let (store, files) = (Arc::clone(store), Arc::clone(files));
                ears.push(Teams::new(settings, store, files, ambient.clone())?);
            }
        }
    }
    Ok(ears)
}

/// Lets all of them listen until `stop`.
pub(super) fn listen(
    ears: &[Arc<dyn Ear>],
    commands: &Arc<Commands>,
    state: &State,
    ambient: &Ambient,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for ear in ears {
        // From the beginning: nobody is ready who does not hear yet.
        note(&**ear, Arc::clone(ear).platform().name(), state);
        tasks.spawn(Arc::clone(ear).listen(Arc::clone(commands), stop.clone()));
        tasks.spawn(tell(Arc::clone(ear), state.clone(), ambient.clone(), stop.clone()));
    }
    tasks
}

/// Says on `/ready` whether people are heard.
async fn tell(ear: Arc<dyn Ear>, state: State, ambient: Ambient, stop: CancellationToken) {
    let name = Arc::clone(&ear).platform().name();
    while !stop.is_cancelled() {
        note(&*ear, name, &state);
        tokio::select! {
            () = ambient.clock.sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn note(ear: &dyn Ear, name: &str, state: &State) {
    match ear.hearing() {
        Hearing::Yes => state.readiness().up(name),
        Hearing::NotNow(why) | Hearing::Never(why) => state.readiness().down(name, why),
    }
}
