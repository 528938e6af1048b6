//! OpenCode at a desk, against a model API on loopback.

use std::path::Path;

use sprite_reporter::wire::AgentSpec;

use super::desk::Desk;

#[path = "opencode_binary.rs"]
mod opencode_binary;

pub use opencode_binary::binary;

/// A desk at which OpenCode asks the model API at `url`.
pub fn desk(binary: &Path, url: &str) -> Desk {
    let path = Some(binary.to_string_lossy().into_owned());
    let mut desk = Desk::new(AgentSpec::Opencode { path, model: None, instructions: None });
    for (name, value) in opencode_binary::environment(url) {
        desk.set(name, &value);
    }
    desk
}
