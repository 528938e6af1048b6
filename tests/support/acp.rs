//! ACP agents at a desk, against a model API on loopback.

use std::path::{Path, PathBuf};

use serde_json::json;
use sprite_reporter::wire::AgentSpec;

use super::desk::Desk;

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

/// The agent's home.
fn home(desk: &Desk) -> PathBuf {
    let home = desk.spec.env.iter().find(|variable| variable.name == "HOME");
    home.map(|variable| PathBuf::from(&variable.value)).expect("a home")
}

/// A desk at which Codex asks the model API at `url`, by way of its ACP adapter.
pub fn codex(url: &str) -> Option<Desk> {
    let command = agent("@agentclientprotocol/codex-acp/dist/index.js")?;
    let mut desk = Desk::new(AgentSpec::Acp { command, model: None, instructions: None });
    let home = home(&desk).join(".codex");
    std::fs::create_dir_all(&home).expect("a directory");
    std::fs::write(home.join("config.toml"), codex_config(url)).expect("a configuration");
    desk.set("CODEX_HOME", &home.to_string_lossy());
    desk.set("OPENAI_API_KEY", "test-key");
    Some(desk)
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

/// A desk at which Gemini asks the model API at `url`.
pub fn gemini(url: &str) -> Option<Desk> {
    let mut command = agent("@google/gemini-cli/bundle/gemini.js")?;
    command.extend(["--acp", "--skip-trust"].map(str::to_owned));
    let mut desk = Desk::new(AgentSpec::Acp { command, model: None, instructions: None });
    let home = home(&desk).join(".gemini");
    std::fs::create_dir_all(&home).expect("a directory");
    let settings = json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false},
        "general": {"disableAutoUpdate": true, "enableAutoUpdate": false},
        // The fake model says the same letter for long.
        "model": {"name": "gemini-2.5-flash", "disableLoopDetection": true},
        // The terminal that it draws commands in needs minutes for a line of 20 MB.
        "tools": {"shell": {"enableInteractiveShell": false}},
    });
    std::fs::write(home.join("settings.json"), settings.to_string()).expect("settings");
    desk.set("GEMINI_API_KEY", "test-key");
    desk.set("GOOGLE_GEMINI_BASE_URL", url);
    desk.set("GEMINI_CLI_NO_RELAUNCH", "true");
    Some(desk)
}
