//! An agent's variables: what the server passes on, what the spec says, what its places are.

use std::sync::PoisonError;

use secrecy::ExposeSecret as _;
use sprite_reporter::wire::EnvVar;

use super::{
    super::Error, DEFAULT_PATH, LocalRuntime, environment, is_secret, places::Places, sandbox, text,
};
use crate::{
    resource::EnvEntry,
    secrets::{self, Secrets},
};

/// The variable that tells an agent where it may put files that it made.
const ARTIFACTS: &str = "OPEN_DISPATCH_ARTIFACTS";

impl LocalRuntime {
    /// An agent's whole environment.
    pub(super) fn variables(
        &self,
        entries: &[EnvEntry],
        places: &Places,
    ) -> Result<Vec<EnvVar>, Error> {
        let spec = entries.iter().map(|entry| self.variable(entry)).collect::<Result<_, _>>()?;
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

    fn variable(&self, entry: &EnvEntry) -> Result<EnvVar, Error> {
        let name = entry.name.clone();
        match (&entry.value, &entry.from_secret) {
            (Some(value), None) => {
                Ok(EnvVar { secret: is_secret(&name), value: value.clone(), name })
            }
            (None, Some(secret)) => {
                let value = self.secrets().resolve(secret).map_err(|error| match error {
                    // Whatever keeps it away, it works once somebody has seen to that.
                    secrets::Error::BadName(_) => Error::Terminal(error.to_string()),
                    _ => Error::SecretMissing(error.to_string()),
                })?;
                Ok(EnvVar { value: value.expose_secret().to_owned(), name, secret: true })
            }
            _ => Err(Error::Terminal(format!(
                "env {name}: give exactly one of value and fromSecret"
            ))),
        }
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
