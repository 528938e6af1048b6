//! The chat platforms that the configuration names.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    ambient::Ambient,
    chat::{
        Commands,
        ear::{Ear, Hearing},
    },
    server::State,
};

/// How often it is looked whether people are heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The platforms that listen by themselves. There is none yet: the console is asked over HTTP, and
/// the configuration refuses to name others.
pub(super) fn ears() -> Vec<Arc<dyn Ear>> {
    Vec::new()
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
        tasks.spawn(Arc::clone(ear).listen(Arc::clone(commands), stop.clone()));
        tasks.spawn(tell(Arc::clone(ear), state.clone(), ambient.clone(), stop.clone()));
    }
    tasks
}

/// Says on `/ready` whether people are heard.
async fn tell(ear: Arc<dyn Ear>, state: State, ambient: Ambient, stop: CancellationToken) {
    let name = Arc::clone(&ear).platform().name();
    while !stop.is_cancelled() {
        match ear.hearing() {
            Hearing::Yes => state.readiness().up(name),
            Hearing::NotNow(why) | Hearing::Never(why) => state.readiness().down(name, why),
        }
        tokio::select! {
            () = ambient.clock.sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
