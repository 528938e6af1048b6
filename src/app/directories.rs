//! The directories of what Git sources have applied, for Fleets that are made for each of them.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    reconcile::controllers::Directories,
    resource::{Kind, SourceFrom},
    source::git::Git,
    store::Store,
};

/// Asks the mirrors, by the revision that a Source's status says was applied.
pub(super) struct Applied {
    pub(super) store: Arc<dyn Store>,
    pub(super) git: Git,
}

#[async_trait]
impl Directories for Applied {
    async fn matching(&self, source: &str, pattern: &str) -> Result<Vec<String>, String> {
        let found =
            self.store.get(Kind::Source, source).await.map_err(|error| error.to_string())?;
        let found = found.and_then(crate::resource::AnyObject::into_source);
        let found = found.ok_or_else(|| format!("there is no source {source}; create it"))?;
        let SourceFrom::Git(spec) = &found.spec.from else {
            return Err(format!(
                "source {source} is a directory, and its directories are not \
                                listed; name a Source with from.git.url"
            ));
        };
        let Some(revision) = &found.status.last_applied_revision else {
            return Err(format!("source {source} has applied nothing yet"));
        };
        let uid = &found.metadata.uid;
        let found = self.git.directories(uid, spec, revision, pattern).await;
        found.map_err(|error| format!("source {source}: {error}"))
    }
}
