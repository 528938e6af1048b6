//! Promise: the server does what its OpenAPI document says: whatever a stranger to it makes up by the
//! document gets an answer that the document names, and never an error of the server's own.

#[path = "support/clients.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod clients;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

use clients::Rig;

/// How many requests are made up for each operation, beside those at the bounds of each schema.
const EXAMPLES: &str = "10";
/// From what they are drawn.
const SEED: &str = "6";
/// How long that may take at most, in seconds.
const TIME: &str = "60";
/// What must hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance";

#[test]
fn what_is_made_up_by_the_document_is_answered_as_the_document_says() {
    let rig = Rig::new("admin");
    let Some(mut python) = rig.python() else { return };
    let endpoint = std::fs::read_to_string(rig.world.data().join("endpoint")).unwrap();
    let endpoint = endpoint.trim();
    let made = rig.world.od(&["token", "create", "stranger", "--role", "admin"]);
    let bearer = format!("Authorization: Bearer {}", made.text().trim());
    for words in [
        &["start", "--agent", "command", "bot", "."][..],
        &["stop", "bot"],
        &["run", "-f", "--name", "nightly", "true"],
    ] {
        let outcome = rig.world.od(words);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    let document = format!("{endpoint}/openapi/v3/apis/opendispatch.dev/v1alpha1");
    let output = python
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .args(["-m", "schemathesis.cli", "run", &document])
        .args(["--header", &bearer, "--url", endpoint, "--checks", CHECKS])
        .args(["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--max-time", TIME])
        .args(["--seed", SEED, "--generation-deterministic", "--no-color"])
        .args(["--request-timeout", "20", "--warnings", "off"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{faults}");
    assert!(text.contains("Tested: "), "{text}");
    // Whatever came, the server is well. What was there may be gone: some calls delete.
    for kind in ["agents", "jobs", "sprites", "fleets", "schedules", "sources", "overrides"] {
        let listed = rig.world.od(&["get", kind]);
        assert_eq!(listed.code, 0, "{kind}: {}", listed.stderr);
    }
}
