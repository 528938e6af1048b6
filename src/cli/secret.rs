//! `secret`: sets, lists and removes secrets. A value comes from standard input, or is asked for
//! without being shown; it is never an argument, which everybody on the machine could read.

use std::io::{IsTerminal as _, Read as _, Write as _};

use reqwest::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::{
    args::{SecretArgs, SecretCommand, SecretListArgs},
    client::{AS_JSON, Client, api, escaped},
    error::Error,
    out,
};

/// The most bytes that are read of a value; the server's own bound is lower.
const LONGEST: u64 = 1024 * 1024;

/// Runs `secret`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn secret(command: SecretCommand) -> Result<u8, Error> {
    match command {
        SecretCommand::Set(args) => set(args).await,
        SecretCommand::List(args) => list(args).await,
        SecretCommand::Rm(args) => remove(args).await,
    }
}

fn path(name: &str) -> Result<String, Error> {
    if name.trim_matches('.').is_empty() {
        return Err(Error::Usage(format!("`{name}` is no name for a secret")));
    }
    Ok(api(&format!("secrets/{}", escaped(name))))
}

async fn set(args: SecretArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let path = path(&args.name)?;
    let value = value(&args.name)?;
    client.send_bytes(Method::PUT, &path, &[], value).await?;
    out::line(format!("secret/{} set", args.name))?;
    Ok(0)
}

async fn list(args: SecretListArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let list = client.get(&api("secrets"), &[], AS_JSON).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        out::note("No secrets found");
        return Ok(0);
    }
    let text = |entry: &serde_json::Value, member: &str| {
        out::harmless(entry[member].as_str().unwrap_or_default())
    };
    let widest = items.iter().map(|entry| text(entry, "name").len()).max().unwrap_or_default();
    let widest = widest.max("NAME".len());
    let mut lines = format!("{:<widest$}   FROM\n", "NAME");
    for entry in items {
        lines.push_str(&format!("{:<widest$}   {}\n", text(entry, "name"), text(entry, "from")));
    }
    out::data(lines)?;
    Ok(0)
}

async fn remove(args: SecretArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    client.write(Method::DELETE, &path(&args.name)?, &[], &json!({})).await?;
    out::line(format!("secret/{} removed", args.name))?;
    Ok(0)
}

/// The value: what stands on standard input, or what a person types unseen.
fn value(name: &str) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| Error::Terminal(error.to_string());
    let stdin = std::io::stdin();
    let mut value = Vec::new();
    if !stdin.is_terminal() {
        stdin.lock().take(LONGEST).read_to_end(&mut value).map_err(failed)?;
        return Ok(value);
    }
    let mut stderr = std::io::stderr();
    stderr.write_all(format!("value of {name} (not shown): ").as_bytes()).map_err(failed)?;
    let unseen = Unseen::terminal();
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    drop(unseen);
    out::note("");
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Unseen(Option<rustix::termios::Termios>);

impl Unseen {
    fn terminal() -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        unseen.local_modes.insert(LocalModes::ECHONL);
        match tcsetattr(&stdin, OptionalActions::Flush, &unseen) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
