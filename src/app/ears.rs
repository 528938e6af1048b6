//! The chat platforms that the configuration names.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
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
    server::{State, public_router},
    store::{Store, files::Files},
};

/// How often it is looked whether people are heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long until one that ended by a fault is started again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long they may take to end what they are at.
const HUSH_WITHIN: Duration = Duration::from_secs(8);

/// The platforms that listen by themselves.
///
/// # Errors
/// What the configuration does not say, with the mend.
pub(super) fn ears(
    config: &Config,
    store: &Arc<dyn Store>,
    files: &Arc<Files>,
    state: &State,
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
                let (store, clock) = (Arc::clone(store), Arc::clone(&ambient.clock));
                ears.push(Discord::new(settings, Arc::clone(files), store, clock)?);
            }
            Chat::Teams => {
                let settings = teams::Settings::from_environment(&config.environment);
                let settings = settings.map_err(|error| error.to_string())?;
                let (store, files) = (Arc::clone(store), Arc::clone(files));
                let teams = Teams::new(settings, store, files, ambient.clone())?;
                // It is the one listener that the internet reaches.
                teams.serve_beside(public_router(state.clone()));
                ears.push(teams);
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
        let (ear, commands) = (Arc::clone(ear), Arc::clone(commands));
        tasks.spawn(keep(ear, commands, state.clone(), ambient.clone(), stop.clone()));
    }
    tasks
}

/// Waits until all of them have let go of what they were at.
pub(super) async fn hush(mut hearing: JoinSet<()>, ambient: &Ambient) {
    let quiet = async { while hearing.join_next().await.is_some() {} };
    tokio::select! {
        () = quiet => {}
        () = ambient.clock.sleep(HUSH_WITHIN) => {
            tracing::warn!("a chat platform did not end in time, and is cut off");
        }
    }
    hearing.shutdown().await;
}

/// Lets one listen until `stop`, through every fault of its own, and says on `/ready` whether
/// people are heard.
async fn keep(
    ear: Arc<dyn Ear>,
    commands: Arc<Commands>,
    state: State,
    ambient: Ambient,
    stop: CancellationToken,
) {
    let name = Arc::clone(&ear).platform().name();
    loop {
        let listening = Arc::clone(&ear).listen(Arc::clone(&commands), stop.clone());
        let listening = AssertUnwindSafe(listening).catch_unwind();
        tokio::pin!(listening);
        let ended = loop {
            note(&*ear, name, &state);
            tokio::select! {
                ended = &mut listening => break ended,
                () = ambient.clock.sleep(LOOK_EVERY) => {}
            }
        };
        if stop.is_cancelled() {
            return;
        }
        let why = if ended.is_ok() { "it ended by itself" } else { "it panicked" };
        tracing::error!(platform = name, "people are not heard: {why}; it is started again");
        state.readiness().down(name, format!("{why}, and is started again"));
        tokio::select! {
            () = ambient.clock.sleep(AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn note(ear: &dyn Ear, name: &str, state: &State) {
    match ear.hearing() {
        Hearing::Yes => state.readiness().up(name),
        Hearing::NotNow(why) | Hearing::Never(why) => state.readiness().down(name, why),
    }
}
