//! Files that people send: fetched when the message is taken, and kept like any other.
//!
//! A file of a drive has an address that opens by itself; it is fetched from Microsoft's drives
//! alone, for whoever can make us fetch from anywhere can look around in our network. A picture
//! that stands in a message opens with our access token, which opens much else besides: so it is shown
//! only where the connector keeps such pictures ([`super::hear`]), and only a picture is taken.

use std::{collections::BTreeSet, time::Duration};

use reqwest::header::{CONTENT_TYPE, LOCATION};
use secrecy::ExposeSecret as _;
use sprite_reporter::wire::Attachment;
use url::Url;

use super::{
    Teams,
    hear::{FileAt, Opens},
    http::causes,
};
use crate::store::{
    attached::{MAX_FILES, NamedFile, attachments, own_name},
    files::MAX_FILE_BYTES,
};

/// Where drives are, with what is below.
const DRIVES: [&str; 3] = ["sharepoint.com", "sharepoint.us", "svc.ms"];
/// How many redirects of a drive's are followed, within the drives.
const HOPS: usize = 3;

fn is_drive(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let below = |drive: &&str| {
        host == *drive || host.strip_suffix(drive).is_some_and(|front| front.ends_with('.'))
    };
    url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && DRIVES.iter().any(below)
}

impl Teams {
    /// Fetches files, all at once. What could not be fetched in time is told beside what could.
    pub(super) async fn fetch(
        &self,
        files: &[FileAt],
        patience: Duration,
    ) -> (Vec<Attachment>, Vec<String>) {
        let (mut named, mut lacking) = (Vec::<NamedFile>::new(), Vec::new());
        let mut taken = BTreeSet::new();
        let fetches = files.iter().take(MAX_FILES).map(|file| async {
            tokio::select! {
                fetched = self.fetch_one(file) => fetched,
                () = self.ambient.clock.sleep(patience) => {
                    Err(format!("it did not come within {} s", patience.as_millis().div_ceil(1000)))
                }
            }
        });
        let fetched = futures::future::join_all(fetches).await;
        let too_many = || Err(format!("a message takes {MAX_FILES} files at most"));
        let fetched = fetched.into_iter().chain(std::iter::repeat_with(too_many));
        for (file, fetched) in files.iter().zip(fetched) {
            match fetched {
                Ok(id) => {
                    named.push(NamedFile { id, name: own_name(&file.name, &mut taken) });
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

    /// Whether files are at an address: a drive of Microsoft's, or a host that was named to us.
    pub(super) fn is_drive(&self, url: &Url) -> bool {
        is_drive(url) || self.settings.hosts.allow(url)
    }

    async fn fetch_one(&self, file: &FileAt) -> Result<String, String> {
        let mut url = file.url.clone();
        let mut hops = HOPS;
        let answer = loop {
            let host = url.host_str().unwrap_or_default();
            let mut ask = self.http.get(url.clone());
            match file.opens {
                Opens::Token if self.settings.hosts.allow(&url) => {
                    let token = self.bearer.token().await.map_err(|error| error.to_string())?;
                    ask = ask.bearer_auth(token.expose_secret());
                }
                Opens::Token => return Err(format!("{host} is no address of Teams")),
                Opens::Nothing => return Err("it lies where no picture of a message is".to_owned()),
                Opens::Address if self.is_drive(&url) => {}
                Opens::Address => return Err(format!("{host} is no drive of Microsoft's")),
            }
            let answer = ask.send().await.map_err(|error| causes(&error.without_url()))?;
            let status = answer.status();
            if status.is_success() {
                break answer;
            }
            let there = answer.headers().get(LOCATION).and_then(|it| it.to_str().ok());
            let there = there.and_then(|it| url.join(it).ok());
            // Each step is judged like the first; our token makes none.
            let may_go_on = file.opens == Opens::Address && hops > 0;
            match there.filter(|_| status.is_redirection() && may_go_on) {
                Some(there) => (url, hops) = (there, hops - 1),
                None => return Err(format!("HTTP {}", status.as_u16())),
            }
        };
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let is_picture =
            kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("image/"));
        if file.opens == Opens::Token && !is_picture {
            return Err("what lies there is no picture".to_owned());
        }
        let stored = self.files.put(answer.bytes_stream(), MAX_FILE_BYTES).await;
        stored.map(|stored| stored.id).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_microsofts_drives_are_drives() {
        let is_drive = |url: &str| is_drive(&Url::parse(url).expect("a URL"));
        for url in [
            "https://contoso-my.sharepoint.com/personal/a?tempauth=x",
            "https://eu-prod.asyncgw.svc.ms/v1/a",
        ] {
            assert!(is_drive(url), "{url}");
        }
        for url in [
            "http://contoso.sharepoint.com/a",
            "https://contoso.sharepoint.com:8443/a",
            "https://me@contoso.sharepoint.com/a",
            "https://evilsharepoint.com/a",
            "https://sharepoint.com.evil.example/a",
            "https://169.254.169.254/latest",
            "https://127.0.0.1/a",
            "https://[::1]/a",
            "file:///etc/passwd",
        ] {
            assert!(!is_drive(url), "{url}");
        }
    }
}
