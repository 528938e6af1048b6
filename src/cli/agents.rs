//! What commands on agents share: whom a name means, which turn a word means; and `stop`.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::StopArgs,
    client::{AS_JSON, Client, collection, escaped, member},
    error::Error,
    out,
    target::{self, full_name},
    watch,
};
use crate::resource::Kind;

/// Finds what a name means: KIND/NAME, or the agent or the job of that name.
///
/// # Errors
/// That there is none, or that there are both, or why the server cannot be asked.
pub async fn named(client: &Client, word: &str) -> Result<(Kind, Value), Error> {
    if word.contains('/') {
        let (kind, name) = target::object(word)?;
        return client.get(&member(kind, &name), &[], AS_JSON).await.map(|object| (kind, object));
    }
    // It is refused here where it cannot be a name at all.
    target::object(&format!("job/{word}"))?;
    let agent = watch::object(client, Kind::Agent, word).await?;
    let job = watch::object(client, Kind::Job, word).await?;
    match (agent, job) {
        (Some(agent), None) => Ok((Kind::Agent, agent)),
        (None, Some(job)) => Ok((Kind::Job, job)),
        (Some(_), Some(_)) => Err(Error::Usage(format!(
            "there is an agent {word} and a job {word}; write agent/{word} or job/{word}"
        ))),
        (None, None) => Err(Error::Api {
            code: 404,
            reason: "NotFound".to_owned(),
            message: format!("there is no agent and no job \"{word}\""),
        }),
    }
}

/// Reads the name of an agent, alone or as `agent/NAME`.
///
/// # Errors
/// A word that is something else.
pub fn agent_name(word: &str) -> Result<String, Error> {
    let whole = if word.contains('/') { word.to_owned() } else { format!("agent/{word}") };
    match target::object(&whole)? {
        (Kind::Agent, name) => Ok(name),
        _ => Err(Error::Usage(format!("`{word}` is no agent"))),
    }
}

/// The path of an agent's turns.
#[must_use]
pub fn turns_path(agent: &str) -> String {
    format!("{}/turns", member(Kind::Agent, agent))
}

/// The path of one turn.
#[must_use]
pub fn turn_path(agent: &str, id: &str) -> String {
    format!("{}/{}", turns_path(agent), escaped(id))
}

/// All turns of an agent by number.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn all_turns(client: &Client, agent: &str) -> Result<Vec<Value>, Error> {
    let mut turns: Vec<Value> = Vec::new();
    loop {
        let after = turns.last().map_or(0, number).to_string();
        let query = [("limit", "1000"), ("after", after.as_str())];
        let list = client.get(&turns_path(agent), &query, AS_JSON).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let more = items.len() == 1000;
        turns.extend(items);
        if !more {
            return Ok(turns);
        }
    }
}

/// A turn's number in its agent's queue.
#[must_use]
pub fn number(turn: &Value) -> u64 {
    turn["n"].as_u64().unwrap_or_default()
}

/// Finds the turn that a word means: a number, `#` and a number, or an id.
///
/// # Errors
/// That there is none.
pub async fn turn_of(client: &Client, agent: &str, word: &str) -> Result<Value, Error> {
    let Ok(n) = word.trim_start_matches('#').parse::<u64>() else {
        return client.get(&turn_path(agent, word), &[], AS_JSON).await;
    };
    let before = n.saturating_sub(1).to_string();
    let query = [("limit", "1"), ("after", before.as_str())];
    let list = client.get(&turns_path(agent), &query, AS_JSON).await?;
    match list["items"].as_array().and_then(|items| items.first()) {
        Some(turn) if number(turn) == n => Ok(turn.clone()),
        _ => Err(Error::Api {
            code: 404,
            reason: "NotFound".to_owned(),
            message: format!("agent {agent} has no turn {n}"),
        }),
    }
}

/// Whether a turn has its outcome.
#[must_use]
pub fn has_ended(turn: &Value) -> bool {
    !matches!(turn["state"].as_str(), Some("Queued" | "Sent" | "Running"))
}

/// Runs `stop`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn stop(args: StopArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let names = if args.all {
        let names = running(&client).await?;
        if names.is_empty() {
            out::note("no agent runs");
        }
        names
    } else {
        args.names.iter().map(|word| agent_name(word)).collect::<Result<_, _>>()?
    };
    let mut failed = false;
    for name in names {
        match suspend(&client, &name, true).await {
            Ok(_) => out::line(format!("{} stopped", full_name(Kind::Agent, &name)))?,
            Err(error @ Error::Api { .. }) => {
                failed = true;
                out::note(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// The names of the agents that are not suspended.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn running(client: &Client) -> Result<Vec<String>, Error> {
    let list = client.get(&collection(Kind::Agent), &[], AS_JSON).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = items
        .iter()
        .filter(|agent| agent["spec"]["suspend"] != true)
        .filter_map(|agent| agent["metadata"]["name"].as_str().map(str::to_owned));
    Ok(names.collect())
}

/// Suspends an agent, or lets it go on.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn suspend(client: &Client, name: &str, suspend: bool) -> Result<Value, Error> {
    let patch = json!({"spec": {"suspend": suspend}});
    client.write(Method::PATCH, &member(Kind::Agent, name), &[], &patch).await
}
