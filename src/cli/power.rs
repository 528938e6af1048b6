//! `suspend`, `resume` and `reconcile`: turning an object off and on, and asking for a look now.
//!
//! They change nothing but power fields and requests, so they are never refused because a Source
//! declares the object.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{PowerArgs, ReconcileArgs},
    client::{AS_JSON, Client, member},
    error::Error,
    out,
    target::{self, full_name},
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::{CONFIRM_DELETIONS, Kind, RECONCILE_REQUESTED},
};

/// Runs `suspend`, or `resume` where `suspend` is false.
///
/// # Errors
/// A kind that cannot be suspended, or the server's refusal.
pub async fn power(args: PowerArgs, suspend: bool) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let objects =
        args.what.iter().map(|word| target::object(word)).collect::<Result<Vec<_>, _>>()?;
    for (kind, _) in &objects {
        if !matches!(kind, Kind::Agent | Kind::Fleet | Kind::Schedule | Kind::Source) {
            return Err(Error::Usage(format!(
                "{} cannot be suspended; agents, fleets, schedules and sources can",
                kind.plural()
            )));
        }
    }
    for (kind, name) in objects {
        let patch = json!({"spec": {"suspend": suspend}});
        client.write(Method::PATCH, &member(kind, &name), &[], &patch).await?;
        let word = if suspend { "suspended" } else { "resumed" };
        out::line(format!("{} {word}", full_name(kind, &name)))?;
    }
    Ok(0)
}

/// Runs `reconcile`.
///
/// # Errors
/// What is no source, deletions that need no confirmation, or the server's refusal.
pub async fn reconcile(args: ReconcileArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, name) = target::object(&args.what)?;
    if kind != Kind::Source {
        let message = format!("only sources are reconciled on request, and {} is none", args.what);
        return Err(Error::Usage(message));
    }
    let path = member(kind, &name);
    let mut annotations = json!({RECONCILE_REQUESTED: SystemClock.now().to_string()});
    if args.confirm_deletions {
        let source = client.get(&path, &[], AS_JSON).await?;
        let held = source["status"]["heldDeletions"].as_u64().unwrap_or_default();
        let revision = revision_to_confirm(&source);
        match revision {
            Some(revision) if held > 0 => annotations[CONFIRM_DELETIONS] = revision.into(),
            _ => {
                return Err(Error::Usage(format!("source/{name} holds no deletions back")));
            }
        }
        out::note(format!("confirmed: {held} objects are deleted"));
    }
    let patch = json!({"metadata": {"annotations": annotations}});
    client.write(Method::PATCH, &path, &[], &patch).await?;
    out::line(format!("{} reconcile requested", full_name(kind, &name)))?;
    Ok(0)
}

/// What names the deletions that a Source holds back.
fn revision_to_confirm(source: &Value) -> Option<String> {
    if source["metadata"]["deletionTimestamp"].is_string() {
        return Some("all".to_owned());
    }
    source["status"]["lastAttemptedRevision"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_confirmed_is_the_revision_that_was_seen_and_for_a_deleted_source_all() {
        let source = json!({"metadata": {}, "status": {"lastAttemptedRevision": "abc"}});
        assert_eq!(revision_to_confirm(&source).as_deref(), Some("abc"));
        let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(revision_to_confirm(&gone).as_deref(), Some("all"));
        assert_eq!(revision_to_confirm(&json!({})), None);
    }
}
