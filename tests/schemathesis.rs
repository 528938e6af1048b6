//! Promise: the server does what its OpenAPI document says: whatever a stranger to it makes up by the
//! document gets an answer that the document names, and never an error of the server's own.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/clients.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod clients;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

use clients::Rig;

/// How many requests are made up for each operation.
const EXAMPLES: &str = "12";
/// From what they are drawn.
const SEED: &str = "6";

#[test]
fn what_is_made_up_by_the_document_is_answered_as_the_document_says() {
    let rig = Rig::new("operator");
    let Some(mut python) = rig.python() else { return };
    let endpoint = std::fs::read_to_string(rig.world.data().join("endpoint")).unwrap();
    let made = rig.world.od(&["token", "create", "stranger", "--role", "operator"]);
    let bearer = format!("Authorization: Bearer {}", made.text().trim());
    let document = format!("{}/openapi/v3/apis/opendispatch.dev/v1alpha1", endpoint.trim());
    let output = python
        .args(["-m", "schemathesis.cli", "run", &document])
        .args(["--header", &bearer, "--url", endpoint.trim()])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES])
        .args(["--seed", SEED, "--workers", "2", "--request-timeout", "20"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        // A watch goes on for as long as somebody listens.
        .args(["--exclude-path-regex", "/log$"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{faults}");
}
