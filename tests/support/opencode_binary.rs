//! Where the real OpenCode lies, and the environment in which it asks a model API on loopback.

use std::path::{Path, PathBuf};

use serde_json::json;

/// The environment in which OpenCode asks the model API at `url`, and nothing else.
pub fn environment(url: &str) -> Vec<(&'static str, String)> {
    let off = [
        "OPENCODE_DISABLE_MODELS_FETCH",
        "OPENCODE_DISABLE_LSP_DOWNLOAD",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS",
    ];
    let mut env = vec![("OPENCODE_CONFIG_CONTENT", config(url))];
    env.extend(off.map(|name| (name, "1".to_owned())));
    env
}

/// Settings with a provider of two models that are asked at `url`, and no other.
fn config(url: &str) -> String {
    let model = json!({
        "name": "fake",
        "reasoning": true,
        "cost": {"input": 1, "output": 2},
        "limit": {"context": 100_000, "output": 10_000},
    });
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": format!("{url}/v1"), "apiKey": "test-key"},
        "models": {"one": model, "two": model},
    });
    json!({
        "model": "fake/one",
        "small_model": "fake/one",
        "enabled_providers": ["fake"],
        "provider": {"fake": provider},
    })
    .to_string()
}

/// The OpenCode that `tests/agents/install` put there. Where it is missing, the test is skipped
/// and says so past the harness's capture; in CI, where it has to be there, it fails.
pub fn binary() -> Option<PathBuf> {
    use std::io::Write as _;
    let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let binary = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/agents/node_modules")
        .join(format!("opencode-{os}-{arch}/bin/opencode"));
    if binary.is_file() {
        return Some(binary);
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let lack = format!("{test}: OpenCode is not installed; run tests/agents/install");
    let is_pinned = os == "linux" && arch == "x64";
    assert!(!is_pinned || std::env::var("CI").as_deref() != Ok("true"), "{lack}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {lack}");
    None
}
