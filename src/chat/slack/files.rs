//! Files: those that people send, fetched into the store; and those that agents make, sent up.
//!
//! A file's address comes from Slack, but our token goes only to Slack's own hosts, by TLS, and
//! follows no redirect: or whoever can make a message could have it.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sprite_reporter::wire::Attachment;
use url::Url;

use super::envelope::Shared;
use crate::{
    ambient::Clock,
    store::{
        attached::{MAX_FILES, own_name},
        files::{Files, MAX_FILE_BYTES},
    },
};

/// The longest that sending one file may take, or fetching all files of a message: Slack brings a
/// message again for some minutes, and by then it must be taken.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether our token may go to an address: to Slack, or to where the API is.
pub(super) fn may_fetch(url: &Url, api: &Url) -> bool {
    if url.origin() == api.origin() {
        return true;
    }
    let host = url.host_str().unwrap_or_default();
    let slack = ["slack.com", "slack-gov.com", "slack-edge.com", "slack-files.com"];
    let ours = slack
        .iter()
        .any(|it| host == *it || host.strip_suffix(it).is_some_and(|front| front.ends_with('.')));
    ours && url.scheme() == "https" && url.port().is_none()
}

/// The same for an address as it came.
pub(super) fn may_fetch_text(url: &str, api: &Url) -> bool {
    Url::parse(url).is_ok_and(|url| may_fetch(&url, api))
}

/// An HTTP client that follows no redirect.
pub(super) fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|error| format!("no HTTP client can be made for Slack's files: {error}"))
}

/// Fetches files with the bot's token.
pub(super) struct Fetcher<'a> {
    /// The client.
    pub(super) http: &'a reqwest::Client,
    /// The bot's token.
    pub(super) token: &'a SecretString,
    /// Where the API is.
    pub(super) api: &'a Url,
    /// Where files are kept.
    pub(super) store: &'a Files,
    /// What says how long it takes.
    pub(super) clock: &'a dyn Clock,
}

impl Fetcher<'_> {
    /// Fetches all of them; for each one that does not come, a line that says why.
    pub(super) async fn fetch(&self, files: &[Shared]) -> (Vec<Attachment>, Vec<String>) {
        let (mut taken, mut lost) = (BTreeSet::new(), Vec::new());
        let mut attachments = Vec::new();
        let since = self.clock.elapsed();
        for (n, file) in files.iter().enumerate() {
            let name = own_name(&file.name, &mut taken);
            let fetched = if n < MAX_FILES {
                let left = PATIENCE.saturating_sub(self.clock.elapsed().saturating_sub(since));
                tokio::select! {
                    fetched = self.one(file) => fetched,
                    () = self.clock.sleep(left) => {
                        Err(format!("Slack took longer than {} s", PATIENCE.as_secs()))
                    }
                }
            } else {
                Err(format!("a message takes {MAX_FILES} files at most"))
            };
            match fetched {
                Ok((id, size)) => attachments.push(Attachment { id, name, size }),
                Err(why) => lost.push(format!("[the file {name} did not come: {why}]")),
            }
        }
        (attachments, lost)
    }

    async fn one(&self, file: &Shared) -> Result<(String, u64), String> {
        if file.size > MAX_FILE_BYTES {
            return Err(format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024));
        }
        let url = Url::parse(&file.url).map_err(|_| "Slack names no address for it".to_owned())?;
        if !may_fetch(&url, self.api) {
            return Err(format!("it lies at {}, not at Slack", url.host_str().unwrap_or("?")));
        }
        let gone = |error: reqwest::Error| format!("{}", error.without_url());
        let request = self.http.get(url).bearer_auth(self.token.expose_secret());
        let response = request.send().await.map_err(gone)?;
        let status = response.status();
        let sort = response.headers().get(reqwest::header::CONTENT_TYPE);
        let page = sort.and_then(|it| it.to_str().ok()).is_some_and(|it| it.contains("text/html"));
        // Without the scope, Slack shows its log-in page instead.
        if status.is_redirection() || (page && !file.mimetype.contains("html")) {
            return Err("the bot may not read it; give the app the scope files:read".to_owned());
        }
        if !status.is_success() {
            return Err(format!("Slack answers with HTTP status {}", status.as_u16()));
        }
        let bytes = response.bytes_stream().map(|piece| piece.map_err(reqwest::Error::without_url));
        let stored = self.store.put(Box::pin(bytes), MAX_FILE_BYTES).await;
        stored.map(|stored| (stored.id, stored.size)).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_slack_alone() {
        let api = Url::parse("http://127.0.0.1:81/api").unwrap();
        for (url, may) in [
            ("https://files.slack.com/files-pri/T1-F1/a.txt", true),
            ("https://files.slack-gov.com/a", true),
            ("http://127.0.0.1:81/files/a", true),
            ("http://127.0.0.1:82/files/a", false),
            ("http://files.slack.com/a", false),
            ("https://files.slack.com.example.com/a", false),
            ("https://evilslack.com/a", false),
            ("https://files.slack.com:8443/a", false),
        ] {
            assert_eq!(may_fetch(&Url::parse(url).unwrap(), &api), may, "{url}");
        }
    }
}
