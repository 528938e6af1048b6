//! Which files somebody still names, and the removal of the others.

use std::{collections::HashSet, sync::Arc};

use crate::{
    resource::{AnyObject, Artifact, Kind},
    store::{
        self, Store, Subject,
        files::{Files, id_in_url},
    },
};

/// How many rows are read at once.
const PAGE: usize = 500;

/// Removes the files that no turn, no artifact and no delivery names any more. Nothing goes where the store
/// could not be read whole.
///
/// # Errors
/// One line that says what is in the way.
pub(super) async fn sweep(
    store: &Arc<dyn Store>,
    files: &Arc<Files>,
    now: jiff::Timestamp,
) -> Result<usize, String> {
    let named = named(store).await.map_err(|error| error.to_string())?;
    let files = Arc::clone(files);
    let swept = tokio::task::spawn_blocking(move || files.sweep(&named, now.into())).await;
    swept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn named(store: &Arc<dyn Store>) -> Result<HashSet<String>, store::Error> {
    let mut named = HashSet::new();
    for delivery in store.open_deliveries().await? {
        if let Subject::File { id, .. } = delivery.subject {
            named.insert(id);
        }
    }
    for kind in [Kind::Agent, Kind::Job, Kind::Sprite] {
        let mut after: Option<String> = None;
        loop {
            let page = store.list(kind, after.as_deref(), PAGE).await?;
            for object in &page.items {
                let artifacts: &[Artifact] = match object {
                    AnyObject::Job(job) => &job.status.artifacts,
                    AnyObject::Sprite(sprite) => &sprite.status.artifacts,
                    _ => &[],
                };
                named.extend(
                    artifacts.iter().filter_map(|it| id_in_url(&it.url)).map(str::to_owned),
                );
                if kind == Kind::Agent {
                    attached(store, &object.metadata().uid, &mut named).await?;
                }
            }
            after = page.items.last().map(|object| object.metadata().name.clone());
            if !page.more {
                break;
            }
        }
    }
    Ok(named)
}

/// What an agent's turns name.
async fn attached(
    store: &Arc<dyn Store>,
    agent_uid: &str,
    named: &mut HashSet<String>,
) -> Result<(), store::Error> {
    let mut after = 0;
    loop {
        let turns = store.turns(agent_uid, after, PAGE).await?;
        let Some(last) = turns.last() else { return Ok(()) };
        after = last.n;
        named.extend(turns.into_iter().flat_map(|turn| turn.attachments).map(|file| file.id));
    }
}
