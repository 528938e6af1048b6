//! Promise: the server does what its OpenAPI document says, in each of its operations: whatever a
//! stranger to it makes up by the document gets an answer that the document names, and never an error
//! of the server's own.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/clients.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod clients;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

use clients::Rig;
use open_dispatch::{resource::Kind, server::openapi};
use serde_json::{Value, json};

/// How many requests are made up for each operation, beside those at the bounds of each schema.
const EXAMPLES: &str = "5";
/// From what they are drawn.
const SEED: &str = "6";
/// How long that may take at most, in seconds; a run that takes longer has left something out, and
/// fails.
const TIME: &str = "270";
/// What must hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance";
/// One object of every kind that people declare, which does nothing by itself.
const THERE: &str = "
apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: bot}
spec: {agent: {command: {}}, suspend: true}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {name: nightly}
spec: {agent: {command: {}}, task: 'echo one; echo two >&2'}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Fleet
metadata: {name: many}
spec:
  suspend: true
  generate: {replicas: 2}
  template: {kind: Agent, spec: {agent: {command: {}}, suspend: true}}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Schedule
metadata: {name: daily}
spec: {suspend: true, schedule: '0 5 * * *', jobTemplate: {spec: {agent: {command: {}}, task: 'true'}}}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Override
metadata: {name: louder}
spec: {target: {kind: Agent, name: owned}, patch: {idleTimeout: 1h}, expiresAfter: 1d}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Source
metadata: {name: team}
spec: {from: {directory: {path: declared}}}
";
/// What that Source declares.
const OWNED: &str = "
apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: owned}
spec: {agent: {command: {}}, suspend: true}
";

/// Puts something of everything there, and gives the names by which that is found.
fn settled(rig: &Rig) -> Value {
    let od = |words: &[&str], stdin: &str| {
        let outcome = rig.world.od_with(words, stdin.as_bytes());
        assert_eq!(outcome.code, 0, "{words:?}: {}", outcome.stderr);
        outcome.text()
    };
    rig.world.write("declared/owned.yaml", OWNED);
    od(&["apply", "-f", "-"], THERE);
    od(&["wait", "job/nightly", "--for", "condition=Complete", "--timeout", "60s"], "");
    od(&["wait", "source/team", "--for", "condition=Ready", "--timeout", "60s"], "");
    // What was said to an agent stays, also where it is stopped.
    od(&["start", "bot"], "");
    od(&["send", "bot", "echo hello"], "");
    let turns = "/apis/opendispatch.dev/v1alpha1/agents/bot/turns";
    let turns: Value = serde_json::from_str(&od(&["get", "--raw", turns], "")).unwrap();
    od(&["stop", "bot"], "");
    let sprites = od(&["get", "sprites", "-o", "jsonpath={.items[*].metadata.name}"], "");
    let sprites: Vec<&str> = sprites.split_whitespace().collect();
    json!({
        "agents": ["bot", "owned"], "jobs": ["nightly"], "fleets": ["many"], "schedules": ["daily"],
        "overrides": ["louder"], "sources": ["team"], "sprites": sprites,
        "agents/turns": [turns["items"][0]["id"]],
    })
}

/// The operations of the document, as `METHOD PATH`.
fn operations() -> Vec<String> {
    let document = openapi::v3();
    let methods = ["get", "put", "post", "delete", "patch"];
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let there = methods.into_iter().filter(|method| item.get(*method).is_some());
            there.map(move |method| format!("{} {path}", method.to_ascii_uppercase()))
        })
        .collect()
}

#[test]
fn what_is_made_up_by_the_document_is_answered_as_the_document_says() {
    let rig = Rig::new("admin");
    let Some(mut python) = rig.python() else { return };
    let endpoint = std::fs::read_to_string(rig.world.data().join("endpoint")).unwrap();
    let endpoint = endpoint.trim();
    let made = rig.world.od(&["token", "create", "stranger", "--role", "admin"]);
    let bearer = format!("Authorization: Bearer {}", made.text().trim());
    let there = settled(&rig).to_string();
    let document = format!("{endpoint}/openapi/v3/apis/opendispatch.dev/v1alpha1");
    let report = rig.world.work().join("report.json");
    let output = python
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("THERE", there)
        .args(["-m", "schemathesis.cli", "run", &document])
        .args(["--header", &bearer, "--url", endpoint, "--checks", CHECKS])
        .args(["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--max-time", TIME])
        .args(["--seed", SEED, "--generation-deterministic", "--no-color"])
        .args(["--request-timeout", "20", "--warnings", "off"])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{faults}");
    // Nothing was left out: neither an operation, nor the rest of one for want of time.
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let all = operations();
    let (done, stopped) = (&report["operations"], &report["stop_reason"]);
    assert_eq!((&done["total"], &done["tested"]), (&json!(all.len()), &json!(all.len())), "{text}");
    assert_eq!((&done["skipped"], &done["errored"]), (&json!(0), &json!(0)), "{text}");
    assert_eq!((stopped, &report["complete"]), (&json!("completed"), &json!(true)), "{text}");
    // Whatever came, the server is well. What was there may be gone: some calls delete.
    for kind in Kind::ALL {
        let listed = rig.world.od(&["get", kind.plural()]);
        assert_eq!(listed.code, 0, "{kind}: {}", listed.stderr);
    }
}

/// Each address that the server has under our prefix and the document does not, and why it does not.
const UNTOLD: &[(&str, &str)] = &[
    ("/access", "of whom the server takes words is its own business, and no client's of objects"),
    ("/access/grants/{principal}", "as /access"),
    ("/access/pairings", "as /access"),
    ("/access/pairings/{code}/approve", "as /access"),
    ("/audit", "as /access"),
    ("/tokens", "as /access"),
    ("/tokens/{name}", "as /access"),
    ("/secrets", "as /access"),
    ("/secrets/{name}", "as /access"),
    ("/tls", "what open-dispatch kubeconfig reads"),
    ("/deliveries", "what chat must still be told is told to look into faults"),
    ("/fly/leaks", "what open-dispatch doctor reads"),
    ("/fly/leaks/confirm", "as /fly/leaks"),
];

#[test]
fn the_document_tells_each_address_or_says_why_not() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/api/mod.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let quoted = |text: &str| text.split('"').next().unwrap().to_owned();
    let routes: Vec<String> = source.split("&at(\"").skip(1).map(quoted).collect();
    assert!(routes.len() > 25, "{routes:?}");
    let told = operations();
    for route in &routes {
        let reason = UNTOLD.iter().find(|(path, _)| path == route);
        // Agents have all that kinds have, save for the scale of Fleets.
        let kinds = ["agents", "fleets"].map(|plural| route.replace("{plural}", plural));
        let is = |it: &String| kinds.iter().any(|at| it.ends_with(&format!("v1alpha1{at}")));
        let is_told = told.iter().any(is);
        assert_ne!(reason.is_some(), is_told, "{route}");
    }
    let stale = UNTOLD.iter().find(|(path, _)| !routes.iter().any(|route| route == path));
    assert_eq!(stale, None, "the server has no such address any more");
}
