//! ACP agents at a desk, against a model API on loopback.

#[path = "acp_binary.rs"]
mod binary;

use std::path::PathBuf;

pub use binary::*;
use sprite_reporter::wire::AgentSpec;

use super::desk::Desk;

/// The agent's home.
fn home(desk: &Desk) -> PathBuf {
    let home = desk.spec.env.iter().find(|variable| variable.name == "HOME");
    home.map(|variable| PathBuf::from(&variable.value)).expect("a home")
}

/// A desk at which Codex asks the model API at `url`, by way of its ACP adapter.
pub fn codex(url: &str) -> Option<Desk> {
    let command = vec![codex_program()?.to_string_lossy().into_owned()];
    let mut desk = Desk::new(AgentSpec::Acp { command, model: None, instructions: None });
    let home = home(&desk).join(".codex");
    std::fs::create_dir_all(&home).expect("a directory");
    std::fs::write(home.join("config.toml"), codex_config(url)).expect("a configuration");
    desk.set("CODEX_HOME", &home.to_string_lossy());
    desk.set("OPENAI_API_KEY", "test-key");
    Some(desk)
}

/// A desk at which Gemini asks the model API at `url`.
pub fn gemini(url: &str) -> Option<Desk> {
    let command = gemini_command()?;
    let mut desk = Desk::new(AgentSpec::Acp { command, model: None, instructions: None });
    let home = home(&desk).join(".gemini");
    std::fs::create_dir_all(&home).expect("a directory");
    std::fs::write(home.join("settings.json"), gemini_settings().to_string()).expect("settings");
    desk.set("GEMINI_API_KEY", "test-key");
    desk.set("GOOGLE_GEMINI_BASE_URL", url);
    desk.set("GEMINI_CLI_NO_RELAUNCH", "true");
    Some(desk)
}
