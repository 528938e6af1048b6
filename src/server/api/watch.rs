//! `watch=1`: what happens to the objects of a kind, as a stream of lines.
//!
//! A stream is true to what its client knows: the client has the objects that it listed or was
//! shown, and for a selection of them a change of labels or fields is the coming or the going of
//! an object. Bookmarks say each minute, and at the end, how far the stream has come, so that who
//! comes back misses nothing and reads nothing twice.

use std::{collections::HashSet, convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    accept::Form,
    params::{Choice, Params},
    table::{self, Include},
    view,
};
use crate::{
    ambient::Clock,
    resource::{API_VERSION, AnyObject, Kind, table::Context},
    server::{State, status::Problem},
    store::{self, ChangeKind, Revision, Store, WatchEvent, watch_with},
};

/// How long a watch lives at least where the client does not say; up to twice as long, so that
/// those that began together do not end together.
const LIFE: Duration = Duration::from_mins(30);
/// How long a client hears nothing of where the stream stands.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);
/// How many changes are read at once.
const CHANGES: usize = 500;
/// How long the end waits for the last bookmark.
const LAST_WORD: Duration = Duration::from_secs(1);

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
    let demand = Arc::new(Notify::new());
    let changes = watch_with(store.clone(), kind, view.revision, clock.clone(), demand.clone());
    let begins = clock.elapsed();
    let feed = Feed {
        first: Some(lines.into()),
        changes: Box::pin(changes),
        demand,
        view,
        ends: begins + life,
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
    changes: Pin<Box<dyn Stream<Item = Result<WatchEvent, store::Error>> + Send>>,
    /// Asks the store's watch where it stands.
    demand: Arc<Notify>,
    view: View,
    /// When it ends, by the clock's `elapsed`.
    ends: Duration,
    /// When the client must hear where the stream stands, by the same.
    bookmark_due: Duration,
    state: State,
    over: bool,
}

/// What a feed was woken by.
enum Woken {
    Change(Option<Result<WatchEvent, store::Error>>),
    BookmarkDue,
    Over,
}

impl Feed {
    /// The next lines; nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(first);
        }
        let clock = self.state.0.ambient.clock.clone();
        while !self.over {
            let now = clock.elapsed();
            let rest = self.ends.min(self.bookmark_due).saturating_sub(now);
            let woken = tokio::select! {
                biased;
                () = self.state.0.closing.cancelled() => Woken::Over,
                change = self.changes.next() => Woken::Change(change),
                () = clock.sleep(rest) => match clock.elapsed() >= self.ends {
                    true => Woken::Over,
                    false => Woken::BookmarkDue,
                },
            };
            let lines = match woken {
                Woken::Change(Some(Ok(WatchEvent::Bookmark(revision)))) => {
                    self.view.revision = revision;
                    self.bookmark()
                }
                Woken::Change(Some(Ok(event))) => self.view.show(event),
                Woken::Change(Some(Err(error))) => {
                    self.over = true;
                    Some(line("ERROR", &Problem::from(error).to_json()))
                }
                // What was shown of the kind, or passed over, is behind the client.
                Woken::BookmarkDue => self.bookmark(),
                Woken::Change(None) | Woken::Over => {
                    self.over = true;
                    self.last_words().await
                }
            };
            if let Some(lines) = lines.filter(|lines| !lines.is_empty()) {
                return Some(lines.into());
            }
        }
        None
    }

    fn bookmark(&mut self) -> Option<Vec<u8>> {
        self.bookmark_due = self.state.0.ambient.clock.elapsed() + BOOKMARK_INTERVAL;
        self.view.bookmarks.then(|| self.view.bookmark(false))
    }

    /// What is there yet, and the last bookmark.
    async fn last_words(&mut self) -> Option<Vec<u8>> {
        if !self.view.bookmarks {
            return None;
        }
        self.demand.notify_one();
        let clock = self.state.0.ambient.clock.clone();
        let patience = clock.sleep(LAST_WORD);
        tokio::pin!(patience);
        let mut lines = Vec::new();
        loop {
            let event = tokio::select! {
                biased;
                event = self.changes.next() => event,
                () = &mut patience => None,
            };
            match event {
                Some(Ok(WatchEvent::Bookmark(revision))) => {
                    self.view.revision = revision;
                    break;
                }
                Some(Ok(event)) => lines.extend(self.view.show(event).into_iter().flatten()),
                Some(Err(_)) | None => break,
            }
        }
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
    /// Of which objects only the client knows whether it has them: those that changed between
    /// the version that it resumes from and the beginning of this watch.
    unsure: HashSet<String>,
    bookmarks: bool,
    revision: Revision,
    clock: Arc<dyn Clock>,
}

impl View {
    /// Notes which objects a client has that listed at a revision: those that are in the selection
    /// and were not changed since; of the others, only the client knows.
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
                if seen.insert(uid.clone()) && change.kind != ChangeKind::Added {
                    self.unsure.insert(uid.clone());
                }
            }
        }
        Ok(())
    }

    /// A change as a line, if the client is to see it. An object that leaves the selection is
    /// deleted for the client, and one that enters it is added.
    fn show(&mut self, event: WatchEvent) -> Option<Vec<u8>> {
        let (word, object) = match event {
            WatchEvent::Bookmark(_) => return None,
            WatchEvent::Added(object) => ("ADDED", object),
            WatchEvent::Modified(object) => ("MODIFIED", object),
            WatchEvent::Deleted(object) => ("DELETED", object),
        };
        let metadata = object.metadata();
        self.revision = metadata.resource_version.parse().unwrap_or(self.revision);
        if !self.selective {
            return Some(self.line(word, &object));
        }
        let uid = metadata.uid.clone();
        let unsure = self.unsure.remove(&uid);
        let has = self.known.remove(&uid);
        let matches = self.choice.matches(&object);
        let stays = matches && word != "DELETED";
        if stays {
            self.known.insert(uid);
        }
        let word = match word {
            "ADDED" if stays => "ADDED",
            "ADDED" => return None,
            _ if stays && (has || unsure) => "MODIFIED",
            _ if stays => "ADDED",
            _ if has || unsure => "DELETED",
            _ => return None,
        };
        Some(self.line(word, &object))
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
