//! `retry`: says again what an agent did not answer, or runs a job again.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    agents::{named, number, turns_path},
    args::RetryArgs,
    client::{AS_JSON, Client, collection, member},
    error::Error,
    out,
    patience::Patience,
    send::say_as,
    target::full_name,
};
use crate::{
    ambient::Ambient,
    resource::{API_VERSION, FRESH_SESSION_AFTER, Kind},
};

/// How many of the newest turns are looked through.
const LOOK_BACK: &str = "100";

/// Runs `retry`.
///
/// # Errors
/// That there is nothing to retry, or the server's refusal.
pub async fn retry(args: RetryArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, object) = named(&client, &args.name).await?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match kind {
        Kind::Agent => agent(&client, &name, &object, args.force).await,
        Kind::Job if args.force => {
            Err(Error::Usage("--force is for agents; a job begins anew anyway".to_owned()))
        }
        Kind::Job => job(&client, &name, &object).await,
        _ => Err(Error::Usage("retry is for agents and jobs".to_owned())),
    }
}

async fn agent(client: &Client, name: &str, agent: &Value, force: bool) -> Result<u8, Error> {
    if force {
        let upto = agent["status"]["incarnation"].as_u64().unwrap_or_default().to_string();
        let patch = json!({"metadata": {"annotations": {FRESH_SESSION_AFTER: upto}}});
        client.write(Method::PATCH, &member(Kind::Agent, name), &[], &patch).await?;
        out::line(format!("{} begins a new session", full_name(Kind::Agent, name)))?;
    }
    let list = client.get(&turns_path(name), &[("last", LOOK_BACK)], AS_JSON).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(turn) = items.iter().rev().find(|turn| is_unanswered(turn)) else {
        if force {
            return Ok(0);
        }
        out::note(format!("agent {name} has answered everything; there is nothing to retry"));
        return Err(Error::Told);
    };
    let text = turn["text"].as_str().unwrap_or_default();
    let files = turn["attachments"].as_array().into_iter().flatten();
    let files = files.map(|file| json!({"id": file["id"], "name": file["name"]})).collect();
    // Typed twice, it is done once; whoever wants a new session wants it once more.
    let request = match force {
        true => Ambient::real().ids.uid(),
        false => format!("retry-{}", turn["id"].as_str().unwrap_or_default()),
    };
    let again = say_as(client, name, text, files, request).await?;
    if items.iter().any(|known| known["id"] == again["id"]) {
        out::note(format!(
            "turn {} of {} was said again already, as turn {}; --force says it once more, in a new \
             session",
            number(turn),
            full_name(Kind::Agent, name),
            number(&again)
        ));
        return Ok(0);
    }
    out::line(format!(
        "{} turn {} queued again as turn {}",
        full_name(Kind::Agent, name),
        number(turn),
        number(&again)
    ))?;
    Ok(0)
}

/// Whether a person's turn ended without an answer.
fn is_unanswered(turn: &Value) -> bool {
    matches!(turn["state"].as_str(), Some("Interrupted" | "Failed" | "Cancelled"))
        && turn["origin"] != "agent"
}

async fn job(client: &Client, name: &str, job: &Value) -> Result<u8, Error> {
    let mut spec = job["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("cancel");
    }
    let front: String = name.chars().take(40).collect();
    let again = json!({
        "apiVersion": API_VERSION,
        "kind": "Job",
        "metadata": {
            "generateName": format!("{}-", front.trim_end_matches(['-', '.'])),
            "labels": job["metadata"]["labels"],
        },
        "spec": spec,
    });
    let request = Ambient::real().ids.uid();
    let query = [("requestId", request.as_str())];
    let path = collection(Kind::Job);
    let mut patience = Patience::new();
    let created = client.persist(Method::POST, &path, &query, &again, &mut patience).await?;
    let created = created["metadata"]["name"].as_str().unwrap_or_default();
    out::line(format!("{} created", full_name(Kind::Job, created)))?;
    Ok(0)
}
