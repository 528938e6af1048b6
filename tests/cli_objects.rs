//! The verbs of kubectl on our objects, as their users have them: the real program, a real server.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

#[path = "cli_objects/applied.rs"]
mod applied;
#[path = "cli_objects/changed.rs"]
mod changed;
#[path = "cli_objects/completed.rs"]
mod completed;
#[path = "cli_objects/deleted.rs"]
mod deleted;
#[path = "cli_objects/edited.rs"]
mod edited;
#[path = "cli_objects/learned.rs"]
mod learned;
#[path = "cli_objects/shown.rs"]
mod shown;
#[path = "cli_objects/waited.rs"]
mod waited;

use server::{Outcome, World};

/// An agent that is declared and does nothing.
fn agent(name: &str, more: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  agent: {{claude: {{}}}}
  suspend: true
{more}"
    )
}

/// Applies a text.
fn apply(world: &World, text: &str, more: &[&str]) -> Outcome {
    world.od_with(&[&["apply", "-f", "-"], more].concat(), text.as_bytes())
}

/// Applies a text that is good.
fn applied(world: &World, text: &str) {
    let outcome = apply(world, text, &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

/// An object as the server has it.
fn object(world: &World, word: &str) -> serde_json::Value {
    let outcome = world.od(&["get", word, "-o", "json"]);
    assert_eq!(outcome.code, 0, "{word}: {}", outcome.stderr);
    serde_json::from_slice(&outcome.stdout).unwrap()
}

/// Some commands and what came of each, for a snapshot.
fn session(world: &World, commands: &[&[&str]]) -> String {
    let text: Vec<String> = commands
        .iter()
        .map(|words| {
            let outcome = world.od(words).whole();
            format!("$ open-dispatch {}\n{}", words.join(" "), world.tame(&outcome))
        })
        .collect();
    text.join("\n")
}
