//! The configuration file: what the environment can say, as YAML, without its secrets.

use std::path::Path;

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
    /// Who may do everything from chat, each as `PLATFORM:USER` with the platform's own id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admins: Vec<String>,
    /// The agent of who names none: `claude`, `opencode`, `codex`, `gemini` or `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// OpenCode's model, as `provider/model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opencode_model: Option<String>,
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
            "CHAT_PROVIDER" => ("chat", self.chat.clone()),
            "OPEN_DISPATCH_MAX_SPRITES" => {
                ("maxSprites", self.max_sprites.map(|number| number.to_string()))
            }
            "OPEN_DISPATCH_LOG" => ("log", self.log.clone()),
            "OPEN_DISPATCH_LOG_FORMAT" => ("logFormat", self.log_format.clone()),
            "OPEN_DISPATCH_STORE" => ("store", self.store.clone()),
            "OPEN_DISPATCH_PASS_ENV" => ("passEnv", list(&self.pass_env, ",")),
            "OPEN_DISPATCH_ROOTS" => ("roots", list(&self.roots, ":")),
            "OPEN_DISPATCH_ADMINS" => ("admins", list(&self.admins, ",")),
            "SPRITE_AGENT_TYPE" => ("agent", self.agent.clone()),
            "OPENCODE_MODEL" => ("opencodeModel", self.opencode_model.clone()),
            _ => return None,
        };
        value.filter(|value| !value.is_empty()).map(|value| (key, value))
    }

    /// The JSON Schema by which editors complete the file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).into()
    }
}
