//! Watches, and what they show over a crash of the server.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use super::{Rig, json, toured};

/// A kubectl that goes on, and the lines that it prints.
pub struct Going {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Going {
    pub fn start(rig: &Rig, args: &[&str]) -> Self {
        let mut command = rig.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line holds this; nothing where the stream ends.
    pub fn until(&mut self, text: &str) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find(|line| line.contains(text))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_shows_each_change_as_it_comes() {
    let Some(rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    let mut all = Going::start(&rig, &["get", "agents", "-w", "--output-watch-events"]);
    let mut red =
        Going::start(&rig, &["get", "agents", "-w", "-l", "team=red", "--output-watch-events"]);
    assert!(all.until("ADDED").unwrap().contains("bot"));
    assert!(red.until("ADDED").unwrap().contains("bot"));
    rig.ok(&["label", "agent", "bot", "team=green", "--overwrite"]);
    assert!(all.until("MODIFIED").unwrap().contains("bot"));
    assert!(red.until("DELETED").unwrap().contains("bot"), "it left the selection");
    rig.ok(&["label", "agent", "bot", "team=red", "--overwrite"]);
    assert!(red.until("ADDED").unwrap().contains("bot"), "and came back");
    rig.ok(&["delete", "agent", "bot"]);
    assert!(all.until("DELETED").unwrap().contains("bot"));
    assert!(red.until("DELETED").unwrap().contains("bot"));
}

#[test]
fn a_watch_goes_on_over_a_crash_of_the_server_without_a_lost_change() {
    let Some(mut rig) = Rig::of_kubectl() else { return };
    toured(&rig);
    let mut before = Going::start(&rig, &["get", "agents", "-w", "--output-watch-events"]);
    assert!(before.until("ADDED").is_some());
    let last = json(&rig.ok(&["get", "agents", "-o", "json"]));
    let revision = rig.ok(&["get", "--raw", "/apis/opendispatch.dev/v1alpha1/agents"]);
    let revision = json(&revision)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert!(!last["items"].as_array().unwrap().is_empty());
    for n in 0..3 {
        rig.ok(&["annotate", "agent", "bot", &format!("before={n}"), "--overwrite"]);
    }
    rig.world.kill_server();
    assert!(before.until("no line has this").is_none(), "kubectl is told that the stream ended");
    rig.world.serve(&[]);
    for n in 0..3 {
        rig.ok(&["annotate", "agent", "bot", &format!("after={n}"), "--overwrite"]);
    }
    // Where the first watch ended, the next one goes on: each change once, in order.
    let path = format!(
        "/apis/opendispatch.dev/v1alpha1/agents?watch=1&timeoutSeconds=2&resourceVersion={revision}"
    );
    let events = rig.ok(&["get", "--raw", &path]);
    let seen: Vec<String> = events
        .lines()
        .map(json)
        .filter(|event| event["type"] == "MODIFIED")
        .map(|event| {
            let notes = &event["object"]["metadata"]["annotations"];
            let note = |name: &str| notes[name].as_str().unwrap_or("-").to_owned();
            format!("{}{}", note("before"), note("after"))
        })
        .collect();
    assert_eq!(seen, ["0-", "1-", "2-", "20", "21", "22"], "{events}");
    // And a new watch shows what is.
    let mut after = Going::start(&rig, &["get", "agents", "-w", "--output-watch-events"]);
    assert!(after.until("ADDED").unwrap().contains("bot"));
    rig.ok(&["annotate", "agent", "bot", "last=yes"]);
    assert!(after.until("MODIFIED").is_some());
}
