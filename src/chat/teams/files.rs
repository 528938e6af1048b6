//! Files that people send: fetched when the message is taken, and kept like any other.
//!
//! A file of a drive has an address that opens by itself; it is fetched from Microsoft's drives
//! alone, for whoever can make us fetch from anywhere can look around in our network. A picture
//! that stands in a message opens with our access token.

use secrecy::ExposeSecret as _;
use sprite_reporter::wire::Attachment;

use super::{Teams, hear::FileAt, http::causes};
use crate::store::{
    attached::{NamedFile, attachments},
    files::MAX_FILE_BYTES,
};

/// Where drives are, with what is below.
const DRIVES: [&str; 3] = ["sharepoint.com", "sharepoint.us", "svc.ms"];

impl Teams {
    /// Fetches files. What could not be fetched is told beside what could.
    pub(super) async fn fetch(&self, files: &[FileAt]) -> (Vec<Attachment>, Vec<String>) {
        let (mut named, mut lacking) = (Vec::<NamedFile>::new(), Vec::new());
        for file in files {
            match self.fetch_one(file).await {
                Ok(id) => {
                    let mut name = file.name.clone();
                    while named.iter().any(|other| other.name == name) {
                        name = format!("again-{name}");
                    }
                    named.push(NamedFile { id, name });
                }
                Err(why) => lacking.push(format!("{}: {why}", file.name)),
            }
        }
        match attachments(named, |id| self.files.size(id)) {
            Ok(found) => (found, lacking),
            Err(error) => {
                lacking.push(error.to_string());
                (Vec::new(), lacking)
            }
        }
    }

    async fn fetch_one(&self, file: &FileAt) -> Result<String, String> {
        let hosts = &self.settings.hosts;
        let host = file.url.host_str().unwrap_or_default();
        let below = |drive: &&str| {
            host == *drive || host.strip_suffix(drive).is_some_and(|front| front.ends_with('.'))
        };
        let of_drive = file.url.scheme() == "https" && DRIVES.iter().any(below);
        let mut ask = self.http.get(file.url.clone());
        if file.ours {
            if !hosts.allow(&file.url) {
                return Err(format!("{host} is no address of Teams"));
            }
            let token = self.bearer.token().await.map_err(|error| error.to_string())?;
            ask = ask.bearer_auth(token.expose_secret());
        } else if !of_drive && !hosts.allow(&file.url) {
            return Err(format!("{host} is no drive of Microsoft's"));
        }
        let answer = ask.send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(|error| causes(&error.without_url()))?;
        let stored = self.files.put(answer.bytes_stream(), MAX_FILE_BYTES).await;
        stored.map(|stored| stored.id).map_err(|error| error.to_string())
    }
}
