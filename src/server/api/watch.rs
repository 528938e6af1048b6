//! `watch=1`: what happens to the objects of a kind, as a stream of lines.

use std::{collections::HashMap, convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{params::Params, read, table};
use crate::{
    resource::{API_VERSION, AnyObject, Kind, selector::Selector, table::Context},
    server::{State, status::Problem},
    store::{self, Revision, WatchEvent, watch_with},
};

/// How long a watch lives where the client does not say.
const LIFE: Duration = Duration::from_mins(60);

/// Opens a watch.
pub(super) async fn watch(
    state: &State,
    kind: Kind,
    params: &Params,
    as_table: bool,
) -> Result<Response, Problem> {
    let selector = params.selector()?;
    // Whoever wants the initial events gets them as fresh as they are, whatever version it names.
    let resume = params
        .number("resourceVersion")?
        .filter(|revision| *revision > 0 && !params.flag("sendInitialEvents"));
    let life = params.number("timeoutSeconds")?.map_or(LIFE, Duration::from_secs);
    let clock = state.0.ambient.clock.clone();
    let mut view = View {
        kind,
        selector,
        name: params.field_name().map(str::to_owned),
        as_table,
        known: HashMap::new(),
        bookmarks: params.flag("allowWatchBookmarks"),
        revision: 0,
        clock: clock.clone(),
    };
    let mut lines = Vec::new();
    match resume {
        Some(revision) => {
            let newest = state.0.store.revision().await?;
            if revision > newest {
                return Err(Problem::expired(format!(
                    "resourceVersion {revision} is not reached yet; the newest is {newest}: list \
                     anew, and watch from there"
                )));
            }
            // History that is gone is told by the answer's status, while there is one.
            state.0.store.changes(revision, 1).await?;
            view.revision = revision;
        }
        None => {
            let all = read::page(state, kind, &Params::of(&axum::http::Uri::default())).await?;
            view.revision = all.revision;
            for object in all.items {
                lines.extend(view.show(WatchEvent::Added(object)));
            }
            if params.flag("sendInitialEvents") {
                lines.push(view.bookmark(true));
            }
        }
    }
    let changes = watch_with(
        state.0.store.clone(),
        kind,
        view.revision,
        clock.clone(),
        Arc::new(Notify::new()),
    );
    let feed = Feed {
        first: Some(lines.concat().into()),
        changes: Box::pin(changes),
        view,
        ends: clock.elapsed() + life,
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
    view: View,
    /// When it ends, by the clock's `elapsed`.
    ends: Duration,
    state: State,
    over: bool,
}

impl Feed {
    /// The next lines; nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(first);
        }
        let clock = self.state.0.ambient.clock.clone();
        while !self.over {
            let left = self.ends.saturating_sub(clock.elapsed());
            let change = tokio::select! {
                biased;
                () = self.state.0.closing.cancelled() => None,
                change = self.changes.next() => change,
                () = clock.sleep(left) => None,
            };
            let line = match change {
                Some(Ok(event)) => self.view.show(event),
                Some(Err(error)) => {
                    self.over = true;
                    Some(line("ERROR", Problem::from(error).to_json()))
                }
                None => {
                    self.over = true;
                    self.view.bookmarks.then(|| self.view.bookmark(false))
                }
            };
            if let Some(line) = line {
                return Some(line.into());
            }
        }
        None
    }
}

/// What a client sees of the changes.
struct View {
    kind: Kind,
    selector: Selector,
    name: Option<String>,
    as_table: bool,
    /// Which objects the client has, as far as this watch has shown or hidden them.
    known: HashMap<String, bool>,
    bookmarks: bool,
    revision: Revision,
    clock: Arc<dyn crate::ambient::Clock>,
}

impl View {
    /// A change as a line, if the client is to see it. An object whose labels leave the
    /// selection is deleted for the client, and one that enters it is added.
    fn show(&mut self, event: WatchEvent) -> Option<Vec<u8>> {
        let (was_added, object) = match event {
            WatchEvent::Bookmark(revision) => {
                self.revision = revision;
                return self.bookmarks.then(|| self.bookmark(false));
            }
            WatchEvent::Added(object) => (Some(true), object),
            WatchEvent::Modified(object) => (Some(false), object),
            WatchEvent::Deleted(object) => (None, object),
        };
        let metadata = object.metadata();
        self.revision = metadata.resource_version.parse().unwrap_or(self.revision);
        if self.name.as_ref().is_some_and(|name| *name != metadata.name) {
            return None;
        }
        if self.selector.is_everything() {
            let word = match was_added {
                Some(true) => "ADDED",
                Some(false) => "MODIFIED",
                None => "DELETED",
            };
            return Some(self.line(word, &object));
        }
        let matches = self.selector.matches(&metadata.labels);
        let known = match was_added {
            // What was before this watch began, only the client knows.
            Some(false) => self.known.insert(metadata.uid.clone(), matches),
            Some(true) => {
                self.known.insert(metadata.uid.clone(), matches);
                Some(false)
            }
            None => self.known.remove(&metadata.uid),
        };
        let word = match (known, matches, was_added) {
            (Some(false), true, Some(_)) => "ADDED",
            (_, true, Some(_)) => "MODIFIED",
            (Some(true), _, _) | (None, true, None) | (None, false, Some(false)) => "DELETED",
            _ => return None,
        };
        Some(self.line(word, &object))
    }

    fn line(&self, word: &str, object: &AnyObject) -> Vec<u8> {
        if !self.as_table {
            return line(word, object.to_json());
        }
        let metadata = json!({"resourceVersion": object.metadata().resource_version});
        let now = self.clock.now();
        line(word, table::table(self.kind, [object], metadata, now, &Context::default()))
    }

    fn bookmark(&self, initial_end: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = if self.as_table {
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "columnDefinitions": [], "rows": []})
        } else {
            json!({"kind": self.kind.name(), "apiVersion": API_VERSION, "metadata": metadata})
        };
        line("BOOKMARK", object)
    }
}

fn line(word: &str, object: Value) -> Vec<u8> {
    let mut line = serde_json::to_vec(&json!({"type": word, "object": object})).unwrap_or_default();
    line.push(b'\n');
    line
}
