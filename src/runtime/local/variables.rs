//! An agent's variables: what the server passes on, what the spec says, what its places are.

use std::sync::PoisonError;

use sprite_reporter::wire::EnvVar;

use super::{
    super::{Error, spec::variable},
    DEFAULT_PATH, LocalRuntime, environment,
    places::Places,
    sandbox, text,
};
use crate::{resource::EnvEntry, secrets::Secrets};

/// The variable that tells an agent where it may put files that it made.
const ARTIFACTS: &str = "OPEN_DISPATCH_ARTIFACTS";

impl LocalRuntime {
    /// An agent's whole environment.
    pub(super) fn variables(
        &self,
        entries: &[EnvEntry],
        places: &Places,
    ) -> Result<Vec<EnvVar>, Error> {
        let secrets = self.secrets();
        let spec =
            entries.iter().map(|entry| variable(entry, &secrets)).collect::<Result<_, _>>()?;
        let config = &self.config;
        let mut picked = environment::pick(&config.environment, &config.extra_env, spec);
        for (name, value) in [("HOME", text(&config.home)?), ("PATH", DEFAULT_PATH.to_owned())] {
            if !picked.iter().any(|variable| variable.name == name) {
                picked.push(EnvVar { name: name.into(), value, secret: false });
            }
        }
        if let Some(home) = &places.home {
            let said: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
            picked = sandbox::enclosed(picked, &said, home)?;
        }
        picked.retain(|variable| variable.name != ARTIFACTS);
        let artifacts = text(&places.artifacts)?;
        picked.push(EnvVar { name: ARTIFACTS.to_owned(), value: artifacts, secret: false });
        Ok(picked)
    }

    fn secrets(&self) -> Secrets {
        self.config.secrets.clone().unwrap_or_else(|| {
            let config = &self.config;
            Secrets::new(config.data.join("secrets"), config.environment.clone())
        })
    }

    /// Wakes whoever looks after a sprite once a secret was set or removed here.
    pub(super) fn wait_for_secret(&self, uid: &str) {
        let Some(secrets) = &self.config.secrets else { return };
        let waits = format!("secret/{uid}");
        if !self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(waits.clone()) {
            return;
        }
        let watched = self.watched.clone();
        let (mut changes, wake, uid) = (secrets.changes(), self.wake.clone(), uid.to_owned());
        tokio::spawn(async move {
            let changed = changes.changed().await;
            watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&waits);
            if changed.is_ok() {
                // Nobody listens any more when the server goes down.
                let _ = wake.send(uid);
            }
        });
    }
}
