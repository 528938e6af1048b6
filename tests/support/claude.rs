//! Claude Code at a desk, against a model API on loopback.

use std::path::Path;

use sprite_reporter::wire::AgentSpec;

use super::desk::Desk;

/// A desk at which Claude Code asks the model API at `url`.
pub fn desk(binary: &Path, url: &str) -> Desk {
    let path = Some(binary.to_string_lossy().into_owned());
    let mut desk = Desk::new(AgentSpec::Claude { path, model: None, instructions: None });
    desk.set("ANTHROPIC_BASE_URL", url);
    desk.set("ANTHROPIC_API_KEY", "test-key");
    desk.set("CLAUDE_CODE_MAX_RETRIES", "2");
    desk
}
