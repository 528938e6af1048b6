//! The common claims on drivers, held against real OpenCode, and its own traps.

mod driver_suite;
#[path = "support/opencode.rs"]
mod opencode;

use driver_suite::{Can, Candidate, desk, desk::Desk, fake_model::FakeModel};

struct OpenCode;

impl Candidate for OpenCode {
    fn desk(&self, model: &FakeModel) -> Option<Desk> {
        Some(opencode::desk(&opencode::binary()?, model.url()))
    }

    fn can(&self) -> Can {
        Can {
            tell_retries: true,
            hear_reasons: true,
            count: true,
            count_within: true,
            accept_edits: true,
            plan: true,
            allow_python: Some("bash(python3 -c *)"),
            gone_session: "ses_e022116e1fferAm4sR3fV1XQvt",
            key_mend: "opencode auth login",
        }
    }
}

driver_suite::claims!(OpenCode);
