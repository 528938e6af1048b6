//! Files that an agent made: each comes behind the message that shows how it was made.
//!
//! The deliveries are written in the very transaction that says that the end of a turn or Job was
//! shown. That happens once, so each file is there once in each place, whatever breaks; and it
//! stands below all that was said. From there on a file is a delivery like any other: in order,
//! posted under a nonce, parked where its place cannot be reached.
//!
//! What a place does not take is told in its place, in a line that says where the file is. That is
//! committed first, as what the delivery is about from then on.
//!
//! What stood in front of a gap in the output cannot be told once a restart has lost what was read.

use bytes::Bytes;
use sprite_reporter::wire::EventBody;
use tokio::io::AsyncReadExt as _;

use super::{Outbox, names::id_behind, post::Posted, rendering::Frames};
use crate::{
    chat::{
        platform::{Capabilities, Markup, Platform, Upload},
        replies,
    },
    reconcile::{Error, Next},
    store::{
        Delivery, DeliveryState, Subject,
        attached::plain_name,
        files::{self, id_in_url},
    },
};

/// How many files of one turn or Job are posted; of those beyond, their names are told.
const MOST: usize = 10;
/// How many files may be in memory on their way at once: one has up to
/// [`files::MAX_FILE_BYTES`].
pub(super) const AT_ONCE: usize = 4;
/// How soon a file looks again whether it may go.
const SOON: std::time::Duration = std::time::Duration::from_millis(250);

/// A file of ours that an agent made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    id: String,
    name: String,
}

/// The file that an event tells of, if it is one of ours.
pub(super) fn made(body: &EventBody) -> Option<Made> {
    let EventBody::Artifact { name, url, .. } = body else { return None };
    id_in_url(url).map(|id| Made { id: id.to_owned(), name: plain_name(name) })
}

impl Outbox {
    /// Writes a delivery of which all is shown, and with it what comes behind.
    pub(super) async fn write_end(
        &self,
        step: &'static str,
        mut delivery: Delivery,
        capabilities: &Capabilities,
        frames: &Frames,
    ) -> Result<Delivery, Error> {
        let behind = self.behind(&delivery, capabilities, frames).await?;
        delivery.finish();
        self.write_with(step, delivery, behind).await
    }

    /// What comes behind a delivery whose end is shown now, for the first time: the files that were
    /// made, and a word of those that are not posted. A terminal is told where each can be had.
    pub(super) async fn behind(
        &self,
        delivery: &Delivery,
        capabilities: &Capabilities,
        frames: &Frames,
    ) -> Result<Vec<Delivery>, Error> {
        if delivery.complete || capabilities.markup == Markup::Plain {
            return Ok(Vec::new());
        }
        let mut behind = Vec::new();
        for (what, subject) in subjects(&frames.made, capabilities) {
            let id = id_behind(delivery, &what);
            if self.store.delivery(&id).await?.is_none() {
                let (place, now) = (delivery.conversation.clone(), self.ambient.clock.now());
                behind.push(Delivery::open(id, place, subject, now));
            }
        }
        Ok(behind)
    }

    /// Posts a file, or says why not.
    pub(super) async fn show_file(
        &self,
        delivery: Delivery,
        platform: &dyn Platform,
        capabilities: &Capabilities,
    ) -> Result<Next, Error> {
        let Subject::File { id, name } = &delivery.subject else { return Ok(Next::Done) };
        if let Some(ahead) = self.ahead(&delivery, capabilities).await? {
            return self.wait_behind(delivery, ahead).await;
        }
        let Ok(_one_of_few) = self.sending.try_acquire() else { return Ok(Next::After(SOON)) };
        let upload = match self.load(id, capabilities).await? {
            Ok(bytes) => Upload { name: name.clone(), bytes },
            Err(why) => return self.tell_instead(delivery, why).await,
        };
        match self.post(delivery, platform, Some((&upload, &Frames::default()))).await? {
            Posted::Yes(_) => Ok(Next::Done),
            Posted::No(next) => Ok(next),
            Posted::NoFile(delivery, why) => self.tell_instead(*delivery, why).await,
        }
    }

    /// A file's bytes, or why it is not for this place.
    async fn load(
        &self,
        id: &str,
        capabilities: &Capabilities,
    ) -> Result<Result<Bytes, String>, Error> {
        let Some(files) = &self.files else {
            return Ok(Err("this server keeps no files".to_owned()));
        };
        let (file, size) = match files.open_file(id).await {
            Ok(opened) => opened,
            Err(files::Error::NotFound(_)) => return Ok(Err("it is kept no longer".to_owned())),
            Err(error) => return Err(Error::Transient(error.to_string())),
        };
        if size > capabilities.max_file {
            return Ok(Err(replies::too_large(size, capabilities.max_file)));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let read = file.take(size).read_to_end(&mut bytes).await;
        read.map_err(|error| Error::Transient(format!("file {id} cannot be read: {error}")))?;
        Ok(Ok(bytes.into()))
    }

    /// A line takes the file's place. The bell of the row wakes its key again.
    async fn tell_instead(&self, mut delivery: Delivery, why: String) -> Result<Next, Error> {
        if let Subject::File { id, name } = &delivery.subject {
            tracing::warn!(delivery = delivery.id, "a file was not posted: {why}");
            let is_kept = self.files.as_ref().is_some_and(|files| files.size(id).is_some());
            let text = replies::not_posted(name, is_kept.then_some(id.as_str()), &why);
            delivery.subject = Subject::Notice { text };
            delivery.state = DeliveryState::Open;
            self.write("chat.commit-no-file", delivery).await?;
        }
        Ok(Next::Done)
    }
}

/// What is told of files, each with a word that names it.
fn subjects(made: &[Made], capabilities: &Capabilities) -> Vec<(String, Subject)> {
    let most = if capabilities.max_file == 0 { 0 } else { MOST };
    let (posted, rest) = made.split_at(made.len().min(most));
    let file = |made: &Made| {
        let Made { id, name } = made.clone();
        (format!("file/{id}/{name}"), Subject::File { id, name })
    };
    let mut subjects: Vec<(String, Subject)> = posted.iter().map(file).collect();
    if !rest.is_empty() {
        let rest: Vec<(&str, &str)> =
            rest.iter().map(|made| (made.name.as_str(), made.id.as_str())).collect();
        let text = replies::files_left(&rest, most);
        subjects.push(("files".to_owned(), Subject::Notice { text }));
    }
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn only_a_file_of_ours_is_one_and_its_name_leads_nowhere() {
        let of = |name: &str, url: &str| {
            made(&EventBody::Artifact { name: name.into(), url: url.into(), kind: "file".into() })
        };
        let ours = of("../a.txt", &format!("/files/{ID}?name=a.txt"));
        assert_eq!(ours, Some(Made { id: ID.into(), name: "a.txt".into() }));
        assert_eq!(of("pr", "https://github.com/o/r/pull/1"), None);
        assert_eq!(made(&EventBody::Ready {}), None);
    }
}
