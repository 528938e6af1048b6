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
const EXAMPLES: &str = "10";
/// From what they are drawn.
const SEED: &str = "6";
/// How long that may go on for a kind, in seconds, behind the requests at the bounds, which all are
/// made.
const TIME: &str = "8";
/// What must hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance";
/// The kinds that people declare, and a spec of each that does nothing by itself.
const SPECS: [(Kind, &str); 6] = [
    (Kind::Agent, "{agent: {command: {}}, suspend: true}"),
    (Kind::Job, "{agent: {command: {}}, task: 'echo one; echo two >&2'}"),
    (
        Kind::Fleet,
        "{suspend: true, generate: {replicas: 2}, \
          template: {kind: Agent, spec: {agent: {command: {}}, suspend: true}}}",
    ),
    (
        Kind::Schedule,
        "{suspend: true, schedule: '0 5 * * *', \
          jobTemplate: {spec: {agent: {command: {}}, task: 'true'}}}",
    ),
    (Kind::Source, "{suspend: true, from: {directory: {path: nowhere}}}"),
    (
        Kind::Override,
        "{target: {kind: Agent, name: owned-agent}, patch: {idleTimeout: 1h}, expiresAfter: 1d}",
    ),
];

fn document(kind: Kind, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: opendispatch.dev/v1alpha1\nkind: {kind}\n\
         metadata: {{name: {name}, labels: {{{name}: 'yes'}}}}\nspec: {spec}\n"
    )
}

/// Puts something of everything there, and gives the names by which that is found.
fn settled(rig: &Rig) -> Value {
    let od = |words: &[&str], stdin: &str| {
        let outcome = rig.world.od_with(words, stdin.as_bytes());
        assert_eq!(outcome.code, 0, "{words:?}: {}", outcome.stderr);
        outcome.text()
    };
    let mut there = json!({});
    let (mut mine, mut declared) = (String::new(), String::new());
    for (kind, spec) in SPECS {
        let (one, plural) = (kind.singular(), kind.plural());
        mine += &document(kind, "tour", spec);
        mine += &document(kind, "doomed", spec);
        mine += &document(kind, "leaving", spec);
        there[plural] = json!(["tour"]);
        there[format!("{plural}:delete")] = json!(["leaving"]);
        if !matches!(kind, Kind::Source | Kind::Override) {
            let owned = format!("owned-{one}");
            // What was let go cannot be let go again.
            let free = [1, 2, 3].map(|n| format!("free-{one}-{n}"));
            for name in free.iter().chain([&owned]) {
                declared += &document(kind, name, spec);
            }
            there[format!("{plural}/source")] = json!([owned]);
            there[format!("{plural}/release")] = json!(free);
        }
    }
    // What its Sprite is of stays whole.
    there["kept"] = json!(["unknown", "team"]);
    mine += &document(Kind::Job, "unknown", "{agent: {command: {}}, task: echo hello}");
    mine += &document(Kind::Source, "team", "{from: {directory: {path: declared}}}");
    rig.world.write("declared/all.yaml", declared);
    od(&["apply", "-f", "-"], &mine);
    for job in ["job/tour", "job/unknown"] {
        od(&["wait", job, "--for", "condition=Complete", "--timeout", "60s"], "");
    }
    od(&["wait", "source/team", "--for", "condition=Ready", "--timeout", "60s"], "");
    // What was said to an agent stays, also where it is stopped.
    od(&["start", "tour"], "");
    od(&["send", "tour", "echo hello"], "");
    let turns: Value = serde_json::from_str(&od(&["turns", "tour", "-o", "json"], "")).unwrap();
    let turn = turns.pointer("/items/0/id").or_else(|| turns.pointer("/0/id")).unwrap();
    there["agents/turns:id"] = json!([turn]);
    od(&["stop", "tour"], "");
    let sprite = |job: &str| od(&["get", job, "-o", "jsonpath={.status.sprite}"], "");
    there["sprites"] = json!([sprite("job/unknown").trim()]);
    there["sprites:delete"] = json!([sprite("job/tour").trim()]);
    there
}

/// Where all addresses begin.
const PREFIX: &str = "/apis/opendispatch.dev/v1alpha1/";

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

/// What no request that is made up can bring about, and why.
fn excused(operation: &str) -> Option<&'static str> {
    let (method, path) = operation.split_once(' ').unwrap();
    if path.ends_with("/approvals/{request}") || path.ends_with("/grants/{id}") {
        return Some("no agent asks for anything here, so nothing is granted");
    }
    if path.ends_with("/turns") && method == "POST" || path.ends_with("/cancel") {
        return Some("an agent at rest takes no messages, and its only turn has ended");
    }
    if ["POST", "PUT"].contains(&method) && !path.ends_with("/release") {
        return Some("no whole object that is made up is good; the tours write good ones");
    }
    None
}

/// Whether an operation is about a kind.
fn is_of(operation: &str, kind: Kind) -> bool {
    let rest = operation.split_once(PREFIX).and_then(|(_, rest)| rest.strip_prefix(kind.plural()));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Runs schemathesis over the operations of a kind, and gives its report.
fn run(rig: &Rig, kind: Kind, there: &str, phase: &[&str]) -> Option<Value> {
    let mut python = rig.python()?;
    let endpoint = std::fs::read_to_string(rig.world.data().join("endpoint")).unwrap();
    let endpoint = endpoint.trim();
    let made = rig.world.od(&["token", "create", phase[1], "--role", "admin"]);
    let bearer = format!("Authorization: Bearer {}", made.text().trim());
    let document = format!("{endpoint}/openapi/v3/apis/opendispatch.dev/v1alpha1");
    let report = rig.world.work().join("report.json");
    let output = python
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("THERE", there)
        .args(["-m", "schemathesis.cli", "run", &document])
        .args(["--header", &bearer, "--url", endpoint, "--checks", CHECKS])
        .args(["--include-path-regex", &format!("^{PREFIX}{}(/|$)", kind.plural())])
        .args(phase)
        .args(["--seed", SEED, "--generation-deterministic", "--no-color"])
        .args(["--request-timeout", "20", "--warnings", "off"])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{faults}");
    Some(serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap())
}

/// What is made up by the document for a kind is answered as the document says.
fn driven(kind: Kind) {
    let rig = Rig::new("admin");
    if rig.python().is_none() {
        return;
    }
    let there = settled(&rig).to_string();
    // At the bounds of each schema: all of it, however long that takes.
    let Some(report) = run(&rig, kind, &there, &["--phases", "coverage"]) else { return };
    let all: Vec<String> = operations().into_iter().filter(|it| is_of(it, kind)).collect();
    let (done, stopped) = (&report["operations"], &report["stop_reason"]);
    assert_eq!((&done["selected"], &done["tested"]), (&json!(all.len()), &json!(all.len())));
    assert_eq!((&done["skipped"], &done["errored"]), (&json!(0), &json!(0)));
    assert_eq!((stopped, &report["complete"]), (&json!("completed"), &json!(true)));
    // No operation was tested by refusals alone, save for those of which that is known.
    let refused = |operation: &&String| {
        let accepted = &report["valid_rates"][operation]["coverage"]["accepted"];
        accepted.as_u64().is_none_or(|count| count == 0) && excused(operation).is_none()
    };
    let told = |it: &String| format!("{it}: {}", report["valid_rates"][it]);
    let refused: Vec<String> = all.iter().filter(refused).map(told).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // And beyond them, for a while.
    let fuzzed = ["--phases", "fuzzing", "--max-examples", EXAMPLES, "--max-time", TIME];
    run(&rig, kind, &there, &fuzzed);
    // Whatever came, the server is well.
    for kind in Kind::ALL {
        let listed = rig.world.od(&["get", kind.plural()]);
        assert_eq!(listed.code, 0, "{kind}: {}", listed.stderr);
    }
}

#[test]
fn agents_answer_as_the_document_says() {
    driven(Kind::Agent);
}

#[test]
fn jobs_answer_as_the_document_says() {
    driven(Kind::Job);
}

#[test]
fn fleets_answer_as_the_document_says() {
    driven(Kind::Fleet);
}

#[test]
fn schedules_answer_as_the_document_says() {
    driven(Kind::Schedule);
}

#[test]
fn sprites_answer_as_the_document_says() {
    driven(Kind::Sprite);
}

#[test]
fn sources_answer_as_the_document_says() {
    driven(Kind::Source);
}

#[test]
fn overrides_answer_as_the_document_says() {
    driven(Kind::Override);
}

#[test]
fn each_operation_is_of_one_of_the_kinds() {
    for operation in operations() {
        let of = Kind::ALL.into_iter().filter(|kind| is_of(&operation, *kind)).count();
        // Kubernetes' own address, whose pages `tests/api_bounds.rs` walks.
        assert_eq!(of, usize::from(operation != "GET /api/v1/events"), "{operation}");
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
    ("/sources/{name}/inventory", "what open-dispatch describe source reads"),
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
