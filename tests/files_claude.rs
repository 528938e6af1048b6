//! Files with the real Claude Code: what comes with a turn stands in its prompt and lies there, and what
//! it makes and names is told before the turn's end.

#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

#[path = "support/claude_binary.rs"]
mod claude_binary;
#[path = "support/fake_model/mod.rs"]
mod fake_model;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod live;

use fake_model::FakeModel;
use live::Live;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_gets_the_files_of_a_turn_and_gives_back_a_file_and_a_pull_request() {
    let Some(binary) = claude_binary::binary() else { return };
    let model = FakeModel::start().await;
    let stage = tempfile::tempdir().unwrap();
    for name in ["data", "home", "work"] {
        std::fs::create_dir(stage.path().join(name)).unwrap();
    }
    let home = stage.path().join("home").display().to_string();
    let roots = stage.path().display().to_string();
    let beside = binary.parent().unwrap().display();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap());
    let env = [
        ("PATH", path.as_str()),
        ("HOME", &home),
        ("OPEN_DISPATCH_ROOTS", &roots),
        ("ANTHROPIC_BASE_URL", model.url()),
        ("ANTHROPIC_API_KEY", "test-key"),
        // As root it lets itself be told to ask nobody only where it is told that it is contained.
        ("IS_SANDBOX", "1"),
    ];
    let server = Live::start(&stage.path().join("data"), &[], &env).await;
    let agent = json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "ann"},
        "spec": {
            "agent": {"claude": {}},
            "runtime": {"local": {"workdir": stage.path().join("work")}},
            "permissions": {"mode": "bypass"},
        },
    });
    let (code, answer) = server.post("agents?requestId=agent", agent).await;
    assert_eq!(code, 201, "{answer}");
    let http = reqwest::Client::new();
    let put = http.post(server.url("/files?name=n")).bearer_auth(server.token());
    let stored = put.body("attached words").send().await.unwrap();
    let stored: Value = stored.json().await.unwrap();

    let text = "[[bash:cat ${OPEN_DISPATCH_ARTIFACTS%.out}.files/*/note.txt | tr a-z A-Z \
                > $OPEN_DISPATCH_ARTIFACTS/loud.txt]] see https://github.com/o/r/pull/12 now";
    let turn = json!({
        "requestId": "one", "text": text,
        "attachments": [{"id": stored["id"], "name": "note.txt"}],
    });
    let (code, turn) = server.post("agents/ann/turns", turn).await;
    assert_eq!(code, 201, "{turn}");
    let path = format!("agents/ann/turns/{}", turn["id"].as_str().unwrap());
    let done = |turn: &Value| turn["state"] == "Succeeded" || turn["state"] == "Failed";
    let turn = server.wait_for(&path, "an end", done).await;
    assert_eq!(turn["state"], "Succeeded", "{turn}");

    // The model hears where the file lies.
    let heard = model.requests().iter().map(|it| it.body.to_string()).collect::<String>();
    let place = format!(".files/{}/note.txt", turn["id"].as_str().unwrap());
    assert!(heard.contains(&place), "{place} in {heard}");
    let events = server.bytes("agents/ann/log?format=events").await;
    let events = String::from_utf8(events).unwrap();
    let events: Vec<Value> = events.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let artifacts: Vec<_> = events.iter().filter(|it| it["type"] == "artifact").collect();
    let mut names: Vec<_> = artifacts.iter().map(|it| it["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["loud.txt", "o/r#12"], "each once: {events:#?}");
    let last = |kind: &str| events.iter().rposition(|it| it["type"] == kind);
    assert!(last("artifact") < last("turnEnded"));
    let file = artifacts.iter().find(|it| it["name"] == "loud.txt").unwrap();
    let get = http.get(server.url(file["url"].as_str().unwrap())).bearer_auth(server.token());
    assert_eq!(get.send().await.unwrap().text().await.unwrap(), "ATTACHED WORDS");
    assert_eq!(server.delete("agents/ann").await, 200);
    server.wait_for("agents/ann", "gone", |answer| answer["code"] == 404).await;
}
