//! The configuration file: what the environment can say, as YAML, without its secrets.

use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Error;

/// The optional configuration file: `config.yaml` in the data directory, or what `--config` names.
/// Each key gives way to the variable of the same meaning. Secrets have no key here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(title = "Open Dispatch configuration")]
pub struct File {
    /// Where the server listens: an address, a port, or both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Further names and addresses by which clients reach the server over TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_names: Vec<String>,
    /// The chat platforms, with commas between: `console`, `slack`, `discord`, `teams`; or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// How many sprites may live on this machine at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sprites: Option<u32>,
    /// What is logged, as `level` or `target=level,...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How the log is written: `text` or `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
    /// The directory that holds the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Names of further variables that agents inherit from the server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass_env: Vec<String>,
    /// Directories within which agents may work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// Directories whose YAML files the server keeps up; or `none` alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub specs: Vec<String>,
    /// Who may do everything from chat, each as `PLATFORM:USER` with the platform's own id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admins: Vec<String>,
    /// The agent of who names none: `claude`, `opencode`, `codex`, `gemini` or `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// OpenCode's model, as `provider/model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opencode_model: Option<String>,
    /// Where what names no place runs: `local` or `fly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Fly Machines. The token has no key: it is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fly: Option<FlyFile>,
}

/// Fly Machines, as the configuration file says them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FlyFile {
    /// The Fly app whose machines are the sprites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The regions of machines in the order in which they are tried, with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The image of who names none: a whole reference, or an alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Images by alias.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// Beginnings of the images that may be named beside those; every one where it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_images: Vec<String>,
    /// How machines reach the server: a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// How many machines may live at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_machines: Option<u32>,
    /// How machines get their secrets: `environment` or `claim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets_by: Option<String>,
}

impl FlyFile {
    fn get(&self, variable: &str) -> Option<(&'static str, Option<String>)> {
        // A map of texts is always JSON.
        let json = |map: &BTreeMap<String, String>| serde_json::to_string(map).unwrap_or_default();
        let some = |there: bool, text: String| there.then_some(text);
        Some(match variable {
            "FLY_SPRITE_APP" => ("fly.app", self.app.clone()),
            "FLY_REGION" => ("fly.region", self.region.clone()),
            "SPRITE_IMAGE" => ("fly.image", self.image.clone()),
            "SPRITE_IMAGES" => ("fly.images", some(!self.images.is_empty(), json(&self.images))),
            "OPEN_DISPATCH_ALLOWED_IMAGES" => {
                let list = self.allowed_images.join(",");
                ("fly.allowedImages", some(!list.is_empty(), list))
            }
            "OPEN_DISPATCH_URL" => ("fly.server", self.server.clone()),
            "OPEN_DISPATCH_MAX_MACHINES" => {
                ("fly.maxMachines", self.max_machines.map(|number| number.to_string()))
            }
            "OPEN_DISPATCH_SPRITE_SECRETS" => ("fly.secretsBy", self.secrets_by.clone()),
            _ => return None,
        })
    }
}

impl File {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            let what = line.strip_prefix("error: ").unwrap_or(line).to_owned();
            Error::File { path: path.to_owned(), what }
        })
    }

    /// The value that stands for a variable, with its key.
    pub(super) fn get(&self, variable: &str) -> Option<(&'static str, String)> {
        let list =
            |values: &[String], between: &str| (!values.is_empty()).then(|| values.join(between));
        let (key, value) = match variable {
            "OPEN_DISPATCH_LISTEN" => ("listen", self.listen.clone()),
            "OPEN_DISPATCH_TLS_NAMES" => ("tlsNames", list(&self.tls_names, ",")),
            "CHAT_PROVIDER" => ("chat", self.chat.clone()),
            "OPEN_DISPATCH_MAX_SPRITES" => {
                ("maxSprites", self.max_sprites.map(|number| number.to_string()))
            }
            "OPEN_DISPATCH_LOG" => ("log", self.log.clone()),
            "OPEN_DISPATCH_LOG_FORMAT" => ("logFormat", self.log_format.clone()),
            "OPEN_DISPATCH_STORE" => ("store", self.store.clone()),
            "OPEN_DISPATCH_PASS_ENV" => ("passEnv", list(&self.pass_env, ",")),
            "OPEN_DISPATCH_ROOTS" => ("roots", list(&self.roots, ":")),
            "OPEN_DISPATCH_SPECS" => ("specs", list(&self.specs, ":")),
            "OPEN_DISPATCH_ADMINS" => ("admins", list(&self.admins, ",")),
            "SPRITE_AGENT_TYPE" => ("agent", self.agent.clone()),
            "OPENCODE_MODEL" => ("opencodeModel", self.opencode_model.clone()),
            "OPEN_DISPATCH_RUNTIME" => ("runtime", self.runtime.clone()),
            _ => self.fly.as_ref()?.get(variable)?,
        };
        value.filter(|value| !value.is_empty()).map(|value| (key, value))
    }

    /// The JSON Schema by which editors complete the file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).into()
    }
}
