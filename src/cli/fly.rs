//! `fly`: what Fly holds for nobody, and an operator's word that it may go.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::ServerArgs,
    client::{AS_JSON, Client, api},
    error::Error,
    out,
};

/// `fly` and what it does.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch fly leaks
  open-dispatch fly confirm                  after a restore, once you have looked

A server on a restored store does not know what was made after the backup. It destroys nothing of
that before somebody has looked and agrees.")]
pub enum FlyCommand {
    /// Show the machines and volumes that belong to nothing here, and when they go
    Leaks(FlyArgs),
    /// Agree that what a restored store does not know may be destroyed
    Confirm(FlyArgs),
}

/// `fly leaks` and `fly confirm`.
#[derive(Debug, Clone, Args)]
pub struct FlyArgs {
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Runs `fly`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn fly(command: FlyCommand) -> Result<u8, Error> {
    match command {
        FlyCommand::Leaks(args) => {
            let told = Client::find(&args.server)?.get(&api("fly/leaks"), &[], AS_JSON).await?;
            match shown(&told) {
                text if text.is_empty() => out::note("Fly holds nothing that belongs to nobody"),
                text => out::data(text)?,
            }
        }
        FlyCommand::Confirm(args) => {
            let client = Client::find(&args.server)?;
            client.write(Method::POST, &api("fly/leaks/confirm"), &[], &json!({})).await?;
            out::line("confirmed: what the store does not know goes after its grace")?;
        }
    }
    Ok(0)
}

/// What is told, for people.
fn shown(told: &Value) -> String {
    let mut lines: Vec<String> = Vec::new();
    let text = |value: &Value| value.as_str().map(out::harmless);
    lines.extend(text(&told["told"]).or_else(|| text(&told["held"])));
    let unwanted = told["unwanted"].as_object();
    for (thing, since) in unwanted.into_iter().flatten() {
        let since = text(since).unwrap_or_default();
        lines.push(format!("{}, found at {since}", out::harmless(thing)));
    }
    let events = told["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    for event in events.iter().filter(|event| event["reason"] == "Swept") {
        let (at, note) = (text(&event["last"]), text(&event["note"]));
        lines.push(format!("{}: {}", at.unwrap_or_default(), note.unwrap_or_default()));
    }
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unwanted_is_shown_with_since_when() {
        let told = json!({
            "told": "1 machine on Fly belongs to nothing here",
            "unwanted": {"machine 148e": "2026-01-01T00:00:00Z"},
            "events": [
                {"reason": "Leaking", "note": "x", "last": "2026-01-01T00:00:00Z"},
                {"reason": "Swept", "note": "destroyed machine 9f", "last": "2026-01-01T01:00:00Z"},
            ],
        });
        insta::assert_snapshot!(shown(&told), @r"
        1 machine on Fly belongs to nothing here
        machine 148e, found at 2026-01-01T00:00:00Z
        2026-01-01T01:00:00Z: destroyed machine 9f
        ");
        assert_eq!(shown(&json!({"told": null, "unwanted": {}, "events": []})), "");
    }
}
