//! `delete` and `cancel`: what ends things.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{CancelArgs, DeleteArgs},
    client::{Client, member},
    error::Error,
    files, out,
    patience::Patience,
    target::{self, Targets, full_name},
    watch,
};
use crate::resource::{GROUP, Kind};

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
        let patch = json!({"spec": {"cancel": true}});
        match client.write(Method::PATCH, &member(kind, &name), &[], &patch).await {
            Ok(_) => out::line(format!("{} cancelled", full_name(kind, &name)))?,
            Err(error @ Error::Api { .. }) => {
                failed = true;
                out::note(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}
