//! `watch=1`: what happens to the objects of a kind, as a stream of lines.
//!
//! A stream is true to what its client knows: the client has the objects that it listed or was
//! shown, and for a selection of them a change of labels or fields is the coming or the going of
//! an object. Bookmarks say each minute, and at the end, how far the stream has come, so that who
//! comes back misses nothing and reads nothing twice.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

use super::{
    accept::Form,
    params::{Choice, Params},
    recent::Told,
    table::{self, Include},
    view,
};
use crate::{
    ambient::Clock,
    resource::{API_VERSION, AnyObject, Kind, table::Context},
    server::{State, hub::Topic, status::Problem},
    store::{self, ChangeKind, Revision, Store},
};

/// How long a watch lives at least where the client does not say; up to twice as long, so that
/// those that began together do not end together.
const LIFE: Duration = Duration::from_mins(30);
/// How long a client hears nothing of where the stream stands.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);
/// How many changes are read at once.
const CHANGES: usize = 500;
/// Opens a watch.
pub(super) async fn watch(
    state: &State,
    kind: Kind,
    params: &Params,
    form: Form,
) -> Result<Response, Problem> {
    let choice = params.choice(kind)?;
    let include = Include::of(params)?;
    let clock = state.0.ambient.clock.clone();
    let store = &state.0.store;
    let initial = params.flag("sendInitialEvents");
    if initial && params.text("resourceVersionMatch").is_some_and(|how| how != "NotOlderThan") {
        let message = "resourceVersionMatch can only be NotOlderThan with sendInitialEvents";
        return Err(Problem::bad_request(message));
    }
    let asked = params.number("resourceVersion")?.filter(|revision| *revision > 0);
    // Whoever wants the initial events gets them as fresh as they are, whatever version it names.
    let resume = asked.filter(|_| !initial);
    // Who says that no initial events are wanted gets what comes from now on.
    let silent = resume.is_none() && params.text("sendInitialEvents") == Some("false");
    let jitter = LIFE.mul_f64(1.0 + state.0.ambient.ids.unit());
    let life = params.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let life = life.map_or(jitter, Duration::from_secs);
    if let Some(revision) = resume {
        let newest = store.revision().await?;
        if revision > newest {
            return Err(Problem::expired(format!(
                "resourceVersion {revision} is not reached yet; the newest is {newest}: list \
                 anew, and watch from there"
            )));
        }
        // History that is gone is told by the answer's status, while there is one.
        store.changes(revision, 1).await?;
    }
    let mut view = View {
        kind,
        selective: !choice.is_everything(),
        choice,
        form,
        include,
        told_columns: false,
        known: HashSet::new(),
        unsure: HashSet::new(),
        bookmarks: params.flag("allowWatchBookmarks"),
        revision: 0,
        clock: clock.clone(),
    };
    // From before anything is read, so that nothing falls between.
    let bell = state.0.hub.wait_for(Topic::Objects);
    let mut lines = Vec::new();
    match resume {
        Some(revision) => {
            view.revision = revision;
            if view.selective {
                view.learn(&**store, revision).await?;
            }
        }
        None => {
            let all = store.list(kind, None, usize::MAX).await?;
            for object in all.items {
                if !view.choice.matches(&object) {
                    continue;
                }
                if view.selective {
                    view.known.insert(object.metadata().uid.clone());
                }
                if !silent {
                    lines.extend(view.line("ADDED", &object));
                }
            }
            view.revision = all.revision;
        }
    }
    if initial {
        lines.extend(view.bookmark(true));
    }
    let begins = clock.elapsed();
    let feed = Feed {
        first: Some(lines.into()),
        bell,
        read_to: view.revision,
        view,
        ends: begins.saturating_add(life),
        bookmark_due: begins + BOOKMARK_INTERVAL,
        state: state.clone(),
        over: false,
    };
    let body = stream::unfold(feed, |mut feed| async move {
        let lines = feed.next().await?;
        Some((Ok::<Bytes, Infallible>(lines), feed))
    });
    let json = HeaderValue::from_static("application/json;stream=watch");
    Ok(([(header::CONTENT_TYPE, json)], Body::from_stream(body)).into_response())
}

struct Feed {
    first: Option<Bytes>,
    /// Rings when there may be changes behind `read_to`.
    bell: Receiver<()>,
    /// All changes up to here were read, and shown if they are to be seen.
    read_to: Revision,
    view: View,
    /// When it ends, by the clock's `elapsed`.
    ends: Duration,
    /// When the client must hear where the stream stands, by the same.
    bookmark_due: Duration,
    state: State,
    over: bool,
}

/// What the clock says.
enum Due {
    Bookmark,
    End,
}

impl Feed {
    /// The next lines; nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(first);
        }
        while !self.over {
            // However much there is to be shown, the clock is heard.
            match self.due() {
                Some(Due::End) => {
                    self.over = true;
                    return self.last_words().await.map(Bytes::from);
                }
                Some(Due::Bookmark) => {
                    self.bookmark_due = self.state.0.ambient.clock.elapsed() + BOOKMARK_INTERVAL;
                    if self.view.bookmarks {
                        return Some(self.view.bookmark(false).into());
                    }
                }
                None => {}
            }
            self.bell.mark_unchanged();
            match self.read().await {
                Ok(Some(lines)) if lines.is_empty() => {}
                Ok(Some(lines)) => return Some(lines.into()),
                Ok(None) => self.wait().await,
                Err(error) => {
                    self.over = true;
                    return Some(line("ERROR", &Problem::from(error).to_json()).into());
                }
            }
        }
        None
    }

    fn due(&self) -> Option<Due> {
        let now = self.state.0.ambient.clock.elapsed();
        if now >= self.ends || self.state.0.closing.is_cancelled() {
            return Some(Due::End);
        }
        (now >= self.bookmark_due).then_some(Due::Bookmark)
    }

    /// What there is to be shown of the next changes, which may be nothing; `None` where there
    /// are no more.
    async fn read(&mut self) -> Result<Option<Vec<u8>>, store::Error> {
        let shared = &self.state.0;
        let told = shared.recent.after(&*shared.store, self.read_to).await?;
        let Some(last) = told.last() else { return Ok(None) };
        self.read_to = last.change.revision;
        let mut lines = Vec::new();
        for told in &told {
            self.view.show(told, &mut lines);
        }
        self.view.revision = self.read_to;
        Ok(Some(lines))
    }

    /// Waits until there may be something to show, or the clock has something to say.
    async fn wait(&mut self) {
        let clock = self.state.0.ambient.clock.clone();
        let rest = self.ends.min(self.bookmark_due).saturating_sub(clock.elapsed());
        tokio::select! {
            biased;
            () = self.state.0.closing.cancelled() => {}
            rung = self.bell.changed() => self.over = rung.is_err(),
            () = clock.sleep(rest) => {}
        }
    }

    /// The next of what is there yet, and the last bookmark: who comes back goes on there. So an end
    /// costs no more than any other line, however far behind the stream is.
    async fn last_words(&mut self) -> Option<Vec<u8>> {
        if !self.view.bookmarks {
            return None;
        }
        let mut lines = self.read().await.ok().flatten().unwrap_or_default();
        lines.extend(self.view.bookmark(false));
        Some(lines)
    }
}

/// What a client sees of the changes.
struct View {
    kind: Kind,
    choice: Choice,
    /// Whether the choice leaves anything out.
    selective: bool,
    form: Form,
    include: Include,
    /// Whether the client has been told the columns of its tables.
    told_columns: bool,
    /// Which of the objects that the choice is of the client has, by uid.
    known: HashSet<String>,
    /// Of which objects only the client knows whether it has them: those that came into the
    /// selection, or left it, or neither, between the version that it resumes from and the
    /// beginning of this watch.
    unsure: HashSet<String>,
    bookmarks: bool,
    revision: Revision,
    clock: Arc<dyn Clock>,
}

impl View {
    /// Notes which objects a client has that listed at a revision: those that were in the selection
    /// then. Of most that changed since, their first change tells; of the others, only the client
    /// knows.
    async fn learn(&mut self, store: &dyn Store, resume: Revision) -> Result<(), store::Error> {
        let all = store.list(self.kind, None, usize::MAX).await?;
        for object in all.items {
            let metadata = object.metadata();
            let changed = metadata.resource_version.parse().unwrap_or(Revision::MAX);
            if changed <= resume && self.choice.matches(&object) {
                self.known.insert(metadata.uid.clone());
            }
        }
        let mut after = resume;
        let mut seen = HashSet::new();
        while after < all.revision {
            let changes = store.changes(after, CHANGES).await?;
            let Some(last) = changes.last() else { break };
            after = last.revision;
            for change in changes.into_iter().filter(|it| it.object.kind() == self.kind) {
                let uid = &change.object.metadata().uid;
                if !seen.insert(uid.clone()) {
                    continue;
                }
                match self.choice.chose_before(&change) {
                    Some(true) => self.known.insert(uid.clone()),
                    Some(false) => continue,
                    None => self.unsure.insert(uid.clone()),
                };
            }
        }
        Ok(())
    }

    /// A change as a line, if the client is to see it. An object that leaves the selection is
    /// deleted for the client, and one that enters it is added.
    fn show(&mut self, told: &Told, into: &mut Vec<u8>) {
        let object = &told.change.object;
        if object.kind() != self.kind {
            return;
        }
        let word = match told.change.kind {
            ChangeKind::Added => "ADDED",
            ChangeKind::Modified => "MODIFIED",
            ChangeKind::Deleted => "DELETED",
        };
        let word = if self.selective { self.for_client(word, object) } else { Some(word) };
        match (word, self.form) {
            (None, _) => {}
            (Some(word), Form::Object) => {
                // Written once for all who watch.
                into.extend_from_slice(b"{\"type\":\"");
                into.extend_from_slice(word.as_bytes());
                into.extend_from_slice(b"\",\"object\":");
                into.extend_from_slice(told.json());
                into.extend_from_slice(b"}\n");
            }
            (Some(word), _) => into.extend(self.line(word, object)),
        }
    }

    /// What a change is for a client that has only what it chose.
    fn for_client(&mut self, word: &'static str, object: &AnyObject) -> Option<&'static str> {
        let uid = &object.metadata().uid;
        let unsure = self.unsure.remove(uid);
        let has = self.known.remove(uid);
        let stays = word != "DELETED" && self.choice.matches(object);
        if stays {
            self.known.insert(uid.clone());
        }
        match word {
            "ADDED" if stays => Some("ADDED"),
            "ADDED" => None,
            _ if stays && (has || unsure) => Some("MODIFIED"),
            _ if stays => Some("ADDED"),
            _ if has || unsure => Some("DELETED"),
            _ => None,
        }
    }

    fn line(&mut self, word: &str, object: &AnyObject) -> Vec<u8> {
        match self.form {
            Form::Object => line(word, &object.to_json()),
            Form::Partial(version) => line(word, &view::partial(object, version)),
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": object.metadata().resource_version});
                let now = self.clock.now();
                let rows = table::rows([object], now, &Context::default(), self.include);
                line(word, &table::table(version, self.columns(), rows, metadata))
            }
        }
    }

    /// The columns, once.
    fn columns(&mut self) -> Vec<Value> {
        if std::mem::replace(&mut self.told_columns, true) {
            return Vec::new();
        }
        table::columns(self.kind)
    }

    fn bookmark(&mut self, initial_end: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Table(version) => table::table(version, Vec::new(), Vec::new(), metadata),
            Form::Partial(version) => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
            }),
            Form::Object => {
                json!({"kind": self.kind.name(), "apiVersion": API_VERSION, "metadata": metadata})
            }
        };
        line("BOOKMARK", &object)
    }
}

fn line(word: &str, object: &Value) -> Vec<u8> {
    let mut line = serde_json::to_vec(&json!({"type": word, "object": object})).unwrap_or_default();
    line.push(b'\n');
    line
}
