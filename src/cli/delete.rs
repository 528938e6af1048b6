//! `delete` and `cancel`: what ends things.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{CancelArgs, DeleteArgs},
    client::{AS_JSON, Client, member},
    error::Error,
    files, out,
    patience::Patience,
    run::Outcome,
    target::{self, Targets, full_name},
    watch,
};
use crate::resource::{GROUP, Kind};

/// How often a write is tried again when somebody else wrote first.
const TRIES: u32 = 8;

/// Runs `delete`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn delete(args: DeleteArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let objects = if args.file.is_empty() {
        match target::read(&args.what)? {
            Targets::Objects(objects) => objects,
            Targets::Kinds(_) => {
                let line = "name the objects to delete, such as job/nightly; nothing deletes \
                            whole kinds";
                return Err(Error::Usage(line.to_owned()));
            }
        }
    } else {
        let documents = files::read(&args.file)?;
        documents
            .iter()
            .map(|document| {
                let object = &document.object;
                (object.kind(), object.metadata().name.clone())
            })
            .collect()
    };
    let mut failed = false;
    let mut waiting = Vec::new();
    for (kind, name) in objects {
        match client.write(Method::DELETE, &member(kind, &name), &[], &json!({})).await {
            Ok(answer) => {
                out::line(format!("{}.{GROUP} \"{name}\" deleted", kind.singular()))?;
                waiting.push((kind, name, uid_of(&answer)));
            }
            Err(error) if error.is_not_found() && args.ignore_not_found => {}
            Err(error @ Error::Api { .. }) => {
                failed = true;
                out::note(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if args.wait {
        for (kind, name, uid) in waiting {
            let mut patience = Patience::new();
            watch::until(&client, kind, &name, &mut patience, |object| match object {
                // Another object of the same name is not the one that was deleted.
                Some(object) => (uid_of(object) != uid).then_some(()),
                None => Some(()),
            })
            .await?;
        }
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// The uid of a deleted object: the object itself is answered while finalizers hold it, else
/// a `Status` that names it.
fn uid_of(answer: &Value) -> Option<String> {
    let uid = match answer["kind"].as_str() {
        Some("Status") => &answer["details"]["uid"],
        _ => &answer["metadata"]["uid"],
    };
    uid.as_str().map(str::to_owned)
}

/// Runs `cancel`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn cancel(args: CancelArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let mut failed = false;
    for word in &args.names {
        let (kind, name) = target::object_or_job(word)?;
        if kind != Kind::Job {
            return Err(Error::Usage(format!("`{word}` is no job; only jobs can be cancelled")));
        }
        match cancel_one(&client, &name).await {
            Ok(None) => out::line(format!("{} cancelled", full_name(kind, &name)))?,
            Ok(Some(outcome)) => {
                failed = true;
                out::note(format!("there is nothing to cancel: {}", ended(&name, &outcome)));
            }
            Err(error @ Error::Api { .. }) => {
                failed = true;
                out::note(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// Asks for a job's end; where it has ended already, nothing is written, and this is how.
async fn cancel_one(client: &Client, name: &str) -> Result<Option<Outcome>, Error> {
    let path = member(Kind::Job, name);
    let mut tries = 0;
    loop {
        let job = client.get(&path, &[], AS_JSON).await?;
        if let Some(outcome) = Outcome::of(&job) {
            return Ok(Some(outcome));
        }
        // The version makes sure that it has not ended meanwhile.
        let version = &job["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"cancel": true}});
        match client.write(Method::PATCH, &path, &[], &patch).await {
            Ok(_) => return Ok(None),
            Err(Error::Api { code: 409, .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// How a job ended, in one line.
fn ended(name: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Complete => format!("job {name} has succeeded"),
        Outcome::Failed { reason, .. } if reason == "Cancelled" => {
            format!("job {name} was cancelled already")
        }
        Outcome::Failed { reason, message, .. } => {
            let why = if message.is_empty() { reason } else { message };
            format!("job {name} has failed: {}", out::harmless(why))
        }
    }
}
