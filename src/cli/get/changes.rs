//! What changes among the objects of a kind, told as it happens.

use serde_json::Value;

use super::Which;
use crate::{
    cli::{
        client::{AS_JSON, Client, collection},
        error::Error,
        patience::Patience,
        watch::{Change, Watch},
    },
    resource::Kind,
};

/// What changes, one after the other, whatever becomes of the server meanwhile.
pub(super) struct Changes<'a> {
    client: &'a Client,
    kind: Kind,
    which: Which<'a>,
    revision: String,
    accept: &'static str,
    watch: Option<Watch>,
    patience: Patience,
}

impl<'a> Changes<'a> {
    /// Changes behind a revision.
    pub(super) fn new(
        client: &'a Client,
        kind: Kind,
        which: Which<'a>,
        revision: String,
        accept: &'static str,
    ) -> Self {
        let patience = Patience::new();
        Self { client, kind, which, revision, accept, watch: None, patience }
    }

    /// The next one, as it was asked for.
    ///
    /// # Errors
    /// The server's refusal, or that it is away, once patience is over.
    pub(super) async fn next(&mut self) -> Result<Value, Error> {
        loop {
            match self.once().await {
                Ok(Some(object)) => return Ok(object),
                Ok(None) => self.watch = None,
                Err(Error::Api { code: 410, .. }) => {
                    let path = collection(self.kind);
                    let list = self.client.get(&path, &[("limit", "1")], AS_JSON).await?;
                    self.revision = revision_of(&list);
                }
                Err(error) => {
                    self.watch = None;
                    self.patience.wait(error).await?;
                }
            }
        }
    }

    async fn once(&mut self) -> Result<Option<Value>, Error> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                let which = self.which.query();
                let watch =
                    Watch::open(self.client, self.kind, &which, &self.revision, self.accept)
                        .await?;
                self.patience.answered();
                self.watch.insert(watch)
            }
        };
        let Some(Change::There(object) | Change::Gone(object)) = watch.next().await? else {
            return Ok(None);
        };
        self.revision = revision_of(&object);
        Ok(Some(object))
    }
}

/// The revision of an object, a list or a table.
pub(super) fn revision_of(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}
