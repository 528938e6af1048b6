use serde_json::json;

use super::*;

#[test]
fn only_what_was_asked_for_is_sent() {
    let wish = CreateMachine {
        name: "od-1".into(),
        region: "iad,us".into(),
        skip_launch: false,
        config: WishedConfig {
            image: "node:22".into(),
            guest: Guest { cpu_kind: "shared".into(), cpus: 1, memory_mb: 256, ..Guest::default() },
            env: Env::from_iter([("A", "b")]),
            ..WishedConfig::default()
        },
    };
    assert_eq!(
        serde_json::to_value(&wish).unwrap(),
        json!({"name": "od-1", "region": "iad,us", "config": {
            "image": "node:22", "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256},
            "env": {"A": "b"}, "auto_destroy": false, "restart": {"policy": "no"}, "metadata": {}}})
    );
}

#[test]
fn lengths_of_time_travel_as_go_writes_them() {
    let stop = |timeout| {
        serde_json::to_value(StopMachine { signal: Some(Signal::SigTerm), timeout }).unwrap()
    };
    let text = |ms| stop(Some(Duration::from_millis(ms)))["timeout"].clone();
    assert_eq!([text(30_000), text(1_500), text(0)], [json!("30s"), json!("1500ms"), json!("0s")]);
    assert_eq!(stop(None), json!({"signal": "SIGTERM"}));
    // Fly refuses a body that is no object.
    assert_eq!(serde_json::to_value(StopMachine::default()).unwrap(), json!({}));
}

#[test]
fn an_environment_shows_its_names_and_never_its_values() {
    let env = Env::from_iter([("JOB_TOKEN", "hunter2"), ("A", "b")]);
    assert_eq!(format!("{env:?}"), r#"{"A", "JOB_TOKEN"}"#);
    assert_eq!(env.get("JOB_TOKEN").map(|it| it.expose_secret()), Some("hunter2"));
    assert_ne!(env, Env::from_iter([("JOB_TOKEN", "hunter3"), ("A", "b")]));
}
