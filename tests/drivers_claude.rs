//! The common claims on drivers, held against real Claude Code.

#[path = "support/claude.rs"]
mod claude;
#[path = "support/claude_binary.rs"]
mod claude_binary;
mod driver_suite;

use driver_suite::{Can, Candidate, desk, desk::Desk, fake_model::FakeModel};

struct ClaudeCode;

impl Candidate for ClaudeCode {
    fn desk(&self, model: &FakeModel) -> Option<Desk> {
        Some(claude::desk(&claude_binary::binary()?, model.url()))
    }

    fn can(&self) -> Can {
        Can {
            tell_retries: true,
            hear_reasons: true,
            count: true,
            count_within: true,
            accept_edits: true,
            plan: true,
            allow_python: Some("Bash(python3 -c:*)"),
            gone_session: "0b6cbd1c-7f5e-4b6e-9d3c-2f1f9a3f9d10",
            key_mend: "check ANTHROPIC_API_KEY",
        }
    }
}

driver_suite::claims!(ClaudeCode);
