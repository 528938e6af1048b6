//! The ACP agents that `tests/agents/install` put there, and how they are told to ask a model API
//! on loopback and nobody else.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The command line of an agent that `tests/agents/install` put there, run by node. Where it or
/// node is missing, the test is skipped and says so past the harness's capture; in CI, where both
/// have to be there, it fails.
pub fn agent(script: &str) -> Option<Vec<String>> {
    use std::io::Write as _;
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/node_modules");
    let script = modules.join(script);
    match node() {
        Some(node) if script.is_file() => {
            let text = |path: PathBuf| path.to_string_lossy().into_owned();
            Some(vec![text(node), text(script)])
        }
        _ => {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            let script = script.display();
            let lack = format!("{test}: {script} or node is missing; run tests/agents/install");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{lack}");
            let _ = writeln!(std::io::stderr(), "SKIPPED {lack}");
            None
        }
    }
}

fn node() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("node")).find(|node| node.is_file())
}

/// Codex's ACP adapter, as it is called by whoever installed it. It finds node by itself.
pub fn codex_program() -> Option<PathBuf> {
    agent("@agentclientprotocol/codex-acp/dist/index.js")?;
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/node_modules/.bin/codex-acp"))
}

/// The command line of Gemini.
pub fn gemini_command() -> Option<Vec<String>> {
    let mut command = agent("@google/gemini-cli/bundle/gemini.js")?;
    command.extend(["--acp", "--skip-trust"].map(str::to_owned));
    Some(command)
}

/// A configuration of Codex that asks this model API and nobody else.
pub fn codex_config(url: &str) -> String {
    let url = json!(format!("{url}/v1"));
    format!(
        "model = \"fake-model\"\nmodel_provider = \"fake\"\ncheck_for_update_on_startup = false\n\
         [model_providers.fake]\nname = \"fake\"\nbase_url = {url}\nwire_api = \"responses\"\n\
         env_key = \"OPENAI_API_KEY\"\nrequest_max_retries = 2\nstream_max_retries = 2\n\
         [features]\nplugins = false\n[analytics]\nenabled = false\n"
    )
}

/// Settings of Gemini with which it asks nobody but the model API of its environment.
pub fn gemini_settings() -> Value {
    json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false},
        "general": {"disableAutoUpdate": true, "enableAutoUpdate": false},
        // The fake model says the same letter for long.
        "model": {"name": "gemini-2.5-flash", "disableLoopDetection": true},
        // The terminal that it draws commands in needs minutes for a line of 20 MB.
        "tools": {"shell": {"enableInteractiveShell": false}},
    })
}
