//! The common claims on drivers, held against real Codex and real Gemini by ACP.

#[path = "support/acp.rs"]
mod acp;
mod driver_suite;

use driver_suite::{Can, Candidate, desk, desk::Desk, fake_model::FakeModel};

struct Codex;

impl Candidate for Codex {
    fn desk(&self, model: &FakeModel) -> Option<Desk> {
        acp::codex(model.url())
    }

    fn can(&self) -> Can {
        Can {
            tell_retries: false,
            hear_reasons: false,
            count: true,
            count_within: false,
            accept_edits: true,
            plan: true,
            allow_python: Some("execute(python3 -c:*)"),
            gone_session: "01a1fbfa-0767-7141-96a9-d8755624d614",
            key_mend: "set its API key",
        }
    }
}

struct Gemini;

impl Candidate for Gemini {
    fn desk(&self, model: &FakeModel) -> Option<Desk> {
        acp::gemini(model.url())
    }

    fn can(&self) -> Can {
        Can {
            tell_retries: false,
            hear_reasons: false,
            count: true,
            count_within: false,
            accept_edits: true,
            plan: true,
            allow_python: Some("execute(python3 -c:*)"),
            gone_session: "65730117-0e0f-4d39-a7b5-4e333b8393f4",
            key_mend: "check the key",
        }
    }

    // What a command prints goes to the model whole, and 20 MB is more than it reads.
    fn shortens_output(&self) -> bool {
        false
    }
}

mod codex {
    use super::{Codex, driver_suite};
    driver_suite::claims!(Codex);
}

mod gemini {
    use super::{Gemini, driver_suite};
    driver_suite::claims!(Gemini);
}
