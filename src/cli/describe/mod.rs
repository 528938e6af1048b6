//! `describe`: one object as a page for people, its events last.
//!
//! The page is a pure function of the object, its events and the time.

mod page;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    args::DescribeArgs,
    client::{Client, member},
    error::Error,
    out,
    select::select,
    target::{self, Targets},
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::Kind,
};
use page::Page;

/// Runs `describe`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn describe(args: DescribeArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let all = args.selector.is_none() && matches!(target::read(&args.what), Ok(Targets::Kinds(_)));
    let selected = select(&client, &args.what, args.selector.as_deref(), all).await;
    let objects = selected.map_err(|error| match error {
        Error::NoSuchKind(word) if args.what == [word.as_str()] => Error::NoSuchKindOrJob(word),
        error => error,
    })?;
    let mut failed = false;
    let mut first = true;
    for (kind, name) in objects {
        let path = member(kind, &name);
        let object = match client.get(&path, &[], "application/json").await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => {
                failed = true;
                out::note(error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        let events = client.get(&format!("{path}/events"), &[], "application/json").await?;
        let now = SystemClock.now();
        let separator = if first { "" } else { "\n\n" };
        first = false;
        let talk = match kind {
            Kind::Agent => Some(talk(&client, &name).await?),
            _ => None,
        };
        let inventory = match kind {
            Kind::Source => {
                client.get(&format!("{path}/inventory"), &[], "application/json").await?
            }
            _ => Value::Null,
        };
        let beside = Beside { talk, inventory, events };
        let text = page(kind, &object, &beside, now);
        out::data(format!("{separator}{text}"))?;
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// What stands on a page beside the object itself.
struct Beside {
    /// Of an agent.
    talk: Option<Talk>,
    /// Of a source: what it owns.
    inventory: Value,
    events: Value,
}

/// What an agent was told, asks for, and may do.
struct Talk {
    turns: Value,
    approvals: Value,
    grants: Value,
}

/// How many of the newest turns the page shows.
const LAST_TURNS: &str = "10";

async fn talk(client: &Client, name: &str) -> Result<Talk, Error> {
    let path = member(Kind::Agent, name);
    let get = async |rest: &str, query: &[(&str, &str)]| {
        client.get(&format!("{path}/{rest}"), query, "application/json").await
    };
    Ok(Talk {
        turns: get("turns", &[("last", LAST_TURNS)]).await?,
        approvals: get("approvals", &[]).await?,
        grants: get("grants", &[]).await?,
    })
}

/// The page.
fn page(kind: Kind, object: &Value, beside: &Beside, now: Timestamp) -> String {
    let mut page = Page::new(now);
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    page.text("Name", &meta["name"]);
    page.map("Labels", &meta["labels"]);
    page.map("Annotations", &without_ours(&meta["annotations"]));
    page.row("Kind", kind.name());
    page.time("Created", &meta["creationTimestamp"]);
    if meta["deletionTimestamp"].is_string() {
        page.time("Deleting since", &meta["deletionTimestamp"]);
    }
    page.owner(&meta["ownerReferences"]);
    page.text("Phase", &status["phase"]);
    match kind.name() {
        "Agent" => {
            page.work(spec);
            page.agent(spec, status);
        }
        "Job" => {
            page.work(spec);
            page.job(spec, status);
        }
        "Sprite" => {
            page.work(spec);
            page.sprite(spec, status);
        }
        // A kind that is not known in detail shows all that it has.
        _ => {
            page.tree("Spec", spec);
            page.tree("Status", &rest_of(status));
        }
    }
    page.text("Message", &status["message"]);
    page.cost(&status["cost"]);
    page.artifacts(&status["artifacts"]);
    page.conditions(&status["conditions"]);
    if let Some(talk) = &beside.talk {
        page.talk(talk);
    }
    page.inventory(&beside.inventory);
    page.events(&beside.events);
    page.finish()
}

/// The annotation in which `apply` keeps what a file said is for machines.
fn without_ours(annotations: &Value) -> Value {
    let mut annotations = annotations.clone();
    if let Some(map) = annotations.as_object_mut() {
        map.remove(super::apply::LAST_APPLIED);
    }
    annotations
}

/// What of a status stands nowhere else on the page.
fn rest_of(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(map) = status.as_object_mut() {
        for shown in ["conditions", "phase", "message", "cost", "artifacts", "observedGeneration"] {
            map.remove(shown);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn beside(events: Value) -> Beside {
        Beside { talk: None, inventory: Value::Null, events }
    }

    #[test]
    fn a_source_shows_what_it_declares_with_file_and_line() {
        let source = json!({
            "kind": "Source",
            "metadata": {"name": "team", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"from": {"directory": {"path": "/srv/team"}}},
            "status": {"phase": "Ready", "lastAppliedRevision": "abc", "objects": 3},
        });
        let row = |kind: &str, name: &str, line: u32, leaving: bool, overrides: Value| {
            json!({
                "kind": kind, "name": name, "file": "a\u{1b}.yaml", "line": line,
                "leaving": leaving, "overrides": overrides,
            })
        };
        let items = json!([
            row("Agent", "bot", 1, false, json!(["bot-x2b4c", "more"])),
            row("Schedule", "nightly", 9, false, json!([])),
            row("Job", "once", 20, true, json!([])),
        ]);
        let inventory = json!({"items": items});
        let beside = Beside { inventory, ..beside(json!({"items": []})) };
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(page(Kind::Source, &source, &beside, now));
    }

    #[test]
    fn a_job_reads_as_kubectl_would_show_it() {
        let job = json!({
            "kind": "Job",
            "metadata": {
                "name": "nightly", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"team": "a", "tier": "b"},
                "annotations": {"opendispatch.dev/last-applied-configuration": "{}"},
            },
            "spec": {
                "task": "cargo test\n\u{1b}[2Jsecond line",
                "agent": {"claude": {"model": "m"}},
                "runtime": {"local": {"workdir": "/w"}},
                "repo": {"github": "o/r", "branch": "b"},
                "env": [{"name": "A", "value": "1"}, {"name": "B", "fromSecret": "s"}],
                "timeout": "10m", "retries": 2,
            },
            "status": {
                "phase": "Failed", "attempts": 1, "exitCode": 3, "message": "exit code 3",
                "startTime": "2026-01-01T00:00:05Z",
                "cost": {"microUsd": 12_345, "inputTokens": 10, "outputTokens": 2},
                "artifacts": [{"name": "n", "type": "pr", "url": "https://h/1"}],
                "conditions": [{
                    "type": "Failed", "status": "True", "reason": "Failed",
                    "message": "exit code 3", "lastTransitionTime": "2026-01-01T00:09:00Z",
                }],
            },
        });
        let events = json!([
            {"type": "Normal", "reason": "SpriteCreated", "note": "created sprite x", "count": 1,
             "first": "2026-01-01T00:00:01Z", "last": "2026-01-01T00:00:01Z"},
            {"type": "Warning", "reason": "Retry", "note": "again", "count": 3,
             "first": "2026-01-01T00:00:01Z", "last": "2026-01-01T00:05:00Z"},
        ]);
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(page(Kind::Job, &job, &beside(events), now));
    }

    #[test]
    fn a_new_sprite_shows_what_is_known_and_no_more() {
        let sprite = json!({
            "kind": "Sprite",
            "metadata": {
                "name": "nightly-abc123-1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "Job", "name": "nightly", "controller": true}],
            },
            "spec": {"agent": {"command": {}}, "runtime": {"local": {}}, "attempt": 1},
            "status": {
                "run": 0, "local": {"bootId": "b", "pid": 7, "startTime": 9},
                "fly": {
                    "app": "my-sprites", "machineId": "d8910f2c94e318", "region": "iad",
                    "state": "started",
                },
            },
        });
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(page(Kind::Sprite, &sprite, &beside(json!({"items": []})), now));
    }

    #[test]
    fn a_kind_that_is_not_known_in_detail_shows_all_that_it_has() {
        let mut page = Page::new(Timestamp::UNIX_EPOCH);
        let spec = json!({
            "git": {"url": "https://h/r", "pollInterval": "1m"}, "paths": ["a", "b\nc"],
            "suspend": false, "ignore": [],
        });
        page.tree("Spec", &spec);
        page.tree("Status", &rest_of(&json!({"conditions": [], "lastAppliedRevision": "abc"})));
        insta::assert_snapshot!(page.finish());
    }

    #[test]
    fn a_machine_is_told_with_its_size_in_words_and_as_it_was_seen_last_or_as_gone() {
        let sprite = |conditions: Value| {
            let sprite = json!({
                "kind": "Sprite",
                "metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {
                    "agent": {"command": {}}, "attempt": 1,
                    "runtime": {"fly": {
                        "region": "iad,us",
                        "guest": {"cpuKind": "shared", "cpus": 2, "memoryMb": 2048},
                    }},
                },
                "status": {"conditions": conditions, "fly": {
                    "app": "a", "machineId": "d891", "region": "iad", "state": "created",
                }},
            });
            let now = "2026-01-01T00:10:00Z".parse().unwrap();
            page(Kind::Sprite, &sprite, &beside(json!({"items": []})), now)
        };
        let there = sprite(json!([]));
        assert!(there.contains("guest=2 shared CPUs with 2048 MB"), "{there}");
        assert!(there.contains("d891 in iad, last seen created"), "{there}");
        let gone = sprite(json!([{"type": "Gone", "status": "True", "reason": "Observed"}]));
        assert!(gone.contains("d891 in iad, gone"), "{gone}");
    }
}
