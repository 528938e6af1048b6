//! Watching: what changes, and until when.

use serde_json::Value;

use super::{
    client::{AS_JSON, Client, Lines, collection, member},
    error::Error,
    patience::Patience,
};
use crate::resource::Kind;

/// What a watch said.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An object came, or was changed.
    There(Value),
    /// An object is gone; this was its last state.
    Gone(Value),
}

/// A watch of one kind, from a revision on.
pub struct Watch(Lines);

impl Watch {
    /// Opens a watch of what changes behind a revision, among the objects that a selector names.
    ///
    /// # Errors
    /// The server's refusal, or why it cannot be reached.
    pub async fn open(
        client: &Client,
        kind: Kind,
        which: &[(&str, &str)],
        revision: &str,
        accept: &str,
    ) -> Result<Self, Error> {
        let mut query = vec![("watch", "1"), ("resourceVersion", revision)];
        query.extend(which);
        client.lines(&collection(kind), &query, accept).await.map(Self)
    }

    /// The next change; nothing at the watch's end, after which another one begins anew.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn next(&mut self) -> Result<Option<Change>, Error> {
        while let Some(mut event) = self.0.next_json().await? {
            let object = event["object"].take();
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => return Ok(Some(Change::There(object))),
                Some("DELETED") => return Ok(Some(Change::Gone(object))),
                Some("ERROR") => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Gets an object; nothing where there is none.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn object(client: &Client, kind: Kind, name: &str) -> Result<Option<Value>, Error> {
    match client.get(&member(kind, name), &[], AS_JSON).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until the judge says something of an object; it sees nothing where there is none.
///
/// # Errors
/// The server's refusal, or that it is away, once patience is over.
pub async fn until<T>(
    client: &Client,
    kind: Kind,
    name: &str,
    patience: &mut Patience,
    mut judge: impl FnMut(Option<&Value>) -> Option<T>,
) -> Result<T, Error> {
    loop {
        match once(client, kind, name, patience, &mut judge).await {
            Ok(Some(verdict)) => return Ok(verdict),
            // The watch ended in good order, as watches do after a while.
            Ok(None) => {}
            Err(error) => patience.wait(error).await?,
        }
    }
}

async fn once<T>(
    client: &Client,
    kind: Kind,
    name: &str,
    patience: &mut Patience,
    judge: &mut impl FnMut(Option<&Value>) -> Option<T>,
) -> Result<Option<T>, Error> {
    // The list's revision, and not the object's own, which may be too old to watch from.
    let list = client.get(&collection(kind), &[("limit", "1")], AS_JSON).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let found = object(client, kind, name).await?;
    patience.answered();
    if let Some(verdict) = judge(found.as_ref()) {
        return Ok(Some(verdict));
    }
    let field = format!("metadata.name={name}");
    let which = [("fieldSelector", field.as_str())];
    let mut watch = Watch::open(client, kind, &which, &revision, AS_JSON).await?;
    while let Some(change) = watch.next().await? {
        let verdict = match &change {
            Change::There(object) => judge(Some(object)),
            Change::Gone(_) => judge(None),
        };
        if verdict.is_some() {
            return Ok(verdict);
        }
    }
    Ok(None)
}
