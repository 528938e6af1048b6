//! The files of a line, fetched before it is taken.
//!
//! All of them together have a minute, and a few are fetched at once, of all channels; what cannot
//! be had by then is told in the channel, and the line goes without it.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt as _;
use serde_json::json;
use sprite_reporter::wire::Attachment;

use super::{Discord, heard::FileAt, mouth::shorten};
use crate::{
    chat::Incoming,
    store::{
        attached::{MAX_FILES, NamedFile, attachments, own_name},
        files::MAX_FILE_BYTES,
    },
};

/// How long the files of a line may take, all together.
const WITHIN: Duration = Duration::from_secs(60);
/// How many files of a line are fetched at once.
const BESIDE: usize = 4;
/// How many of all lines.
pub(super) const FETCHES: usize = 16;

impl Discord {
    /// Fetches the files of a line. What cannot be had is told in the channel, and the rest comes
    /// along.
    pub(super) async fn fetch(&self, files: &[FileAt], line: &Incoming) -> Vec<Attachment> {
        let (place, key) = (&line.conversation, &line.key);
        let mut taken = BTreeSet::new();
        let names: Vec<String> =
            files.iter().map(|file| own_name(&file.name, &mut taken)).collect();
        let until = self.clock.elapsed() + WITHIN;
        let mut fetching = Vec::new();
        for (n, file) in files.iter().take(MAX_FILES).enumerate() {
            fetching.push(self.fetch_until(file, names[n].clone(), until));
        }
        let mut fetched: Vec<_> = futures::stream::iter(fetching).buffered(BESIDE).collect().await;
        for name in names.into_iter().skip(MAX_FILES) {
            fetched.push((name, Err(format!("a message takes {MAX_FILES} files at most"))));
        }
        let (mut named, mut missing) = (Vec::<NamedFile>::new(), Vec::new());
        for (name, got) in fetched {
            match got {
                Ok(id) => named.push(NamedFile { id, name }),
                Err(why) => missing.push(format!("`{name}` did not come along: {why}")),
            }
        }
        let found = match attachments(named, |id| self.files.size(id)) {
            Ok(found) => found,
            Err(error) => {
                missing.push(error.to_string());
                Vec::new()
            }
        };
        if !missing.is_empty() {
            let text: String = missing.join("\n").chars().take(2_000).collect();
            let body = json!({"content": text, "allowed_mentions": {"parse": []}});
            let channel = place.thread.as_deref().unwrap_or(&place.channel);
            if let Err(error) = self.say(channel, &shorten(&format!("{key} files")), body).await {
                tracing::warn!(key, "it could not be told that files are missing: {error}");
            }
        }
        found
    }

    async fn fetch_until(
        &self,
        file: &FileAt,
        name: String,
        until: Duration,
    ) -> (String, Result<String, String>) {
        let left = until.saturating_sub(self.clock.elapsed());
        let got = tokio::select! {
            got = self.fetch_one(file) => got,
            () = self.clock.sleep(left) => Err(format!("it took longer than {} s", WITHIN.as_secs())),
        };
        (name, got)
    }

    async fn fetch_one(&self, file: &FileAt) -> Result<String, String> {
        if file.size > MAX_FILE_BYTES {
            return Err(format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024));
        }
        // Never closed.
        let _one_of_few = self.fetches.acquire().await;
        let bytes = self.rest.fetch(&file.url).await?.bytes_stream();
        let bytes = bytes.map(|piece| piece.map_err(reqwest::Error::without_url));
        let stored = self.files.put(Box::pin(bytes), MAX_FILE_BYTES).await;
        stored.map(|stored| stored.id).map_err(|error| error.to_string())
    }
}
