//! Where the real Claude Code lies.

use std::path::{Path, PathBuf};

/// The Claude Code that `tests/agents/install` put there. Where it is missing, the test is
/// skipped and says so past the harness's capture; in CI, where it has to be there, it fails.
pub fn binary() -> Option<PathBuf> {
    use std::io::Write as _;
    let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let binary = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/agents/node_modules/@anthropic-ai")
        .join(format!("claude-code-{os}-{arch}/claude"));
    if binary.is_file() {
        return Some(binary);
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let lack = format!("{test}: Claude Code is not installed; run tests/agents/install");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{lack}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {lack}");
    None
}
