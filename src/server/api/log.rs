//! `GET /{agents|jobs|sprites}/{name}/log`: what agents print, over all attempts, to the end.
//!
//! `format=raw` is exactly what the agent printed or said, and nothing else. `format=events` is
//! one event per line, with the sprite that it comes from. With `follow=1` the stream ends when
//! its object has ended and all is sent; when it ends for another reason, it breaks off, so that
//! a client can tell and come back with `after`.
//!
//! `after=RUN.SEQ` is a place in the output of the first sprite, which for most objects is the
//! only one; `after=SPRITE/RUN.SEQ` names the sprite, and leaves out all that came before it.
//! `after=now` leaves out all that is there already, and `after=last` all but the last event of each
//! sprite, which tells a follower where it is.

use std::{collections::HashMap, io};

use axum::{
    body::Body,
    extract::{Path, State as Shared},
    http::{HeaderValue, Uri, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use sprite_reporter::wire::{EventBody, Stream};
use tokio::sync::mpsc;

use super::{
    params::{Params, kind},
    read,
};
use crate::{
    resource::{AnyObject, FINALIZER_RUNTIME, Kind, Sprite},
    server::{State, hub::Topic, status::Problem},
    store::{self, Cursor, OutputRow},
};

/// About how many bytes are read, and sent, at once.
const PIECE: usize = 64 * 1024;
/// How many pieces wait for a slow client; then nothing more is read.
const AHEAD: usize = 4;

/// `GET /{plural}/{name}/log`
pub(super) async fn log(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let kind = kind(&plural, &uri).await?;
    let params = Params::of(&uri);
    let events = match params.text("format") {
        None | Some("raw") => false,
        Some("events") => true,
        Some(other) => {
            let message = format!("format is `{other}`, and must be raw or events");
            return Err(Problem::bad_request(message));
        }
    };
    let object = read::object(&state, kind, &name).await?;
    let mut reader = Reader {
        kind,
        uid: object.metadata().uid.clone(),
        events,
        places: HashMap::new(),
        state: state.clone(),
    };
    if let Some(after) = params.text("after") {
        reader.begin_behind(after).await?;
    }
    let (out, pieces) = mpsc::channel(AHEAD);
    let follow = params.flag("follow");
    tokio::spawn(async move {
        if let Err(error) = reader.run(follow, &out).await {
            // Whoever hung up does not want to know.
            let _ = out.send(Err(io::Error::other(error))).await;
        }
    });
    let body = stream::unfold(pieces, |mut pieces| async move {
        let piece: io::Result<Bytes> = pieces.recv().await?;
        Some((piece, pieces))
    });
    let sort = if events { "application/x-ndjson" } else { "text/plain; charset=utf-8" };
    let sort = HeaderValue::from_static(sort);
    Ok(([(header::CONTENT_TYPE, sort)], Body::from_stream(body)).into_response())
}

/// Why a log breaks off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the server shuts down")]
    Closing,
    #[error("nobody reads")]
    Unread,
}

struct Reader {
    state: State,
    kind: Kind,
    uid: String,
    events: bool,
    /// Up to where each sprite's output was sent, by its uid.
    places: HashMap<String, Cursor>,
}

impl Reader {
    async fn begin_behind(&mut self, after: &str) -> Result<(), Problem> {
        if matches!(after, "now" | "last") {
            for sprite in self.sprites().await? {
                let uid = sprite.metadata.uid;
                let held = self.state.0.store.held(&uid, None).await?;
                let seq = if after == "last" { held.seq.saturating_sub(1) } else { held.seq };
                self.places.insert(uid, Cursor { run: held.run, seq });
            }
            return Ok(());
        }
        let bad = || {
            Problem::bad_request(format!(
                "after is `{after}`, and must be RUN.SEQ or SPRITE/RUN.SEQ, such as 1.42, or last or now"
            ))
        };
        let (name, place) = match after.rsplit_once('/') {
            Some((name, place)) => (Some(name), place),
            None => (None, after),
        };
        let (run, seq) = place.split_once('.').ok_or_else(bad)?;
        let cursor = Cursor {
            run: run.parse().map_err(|_| bad())?,
            seq: seq.parse::<u64>().map_err(|_| bad())?.min(1 << 62),
        };
        let sprites = self.sprites().await?;
        let at = match name {
            Some(name) => sprites
                .iter()
                .position(|sprite| sprite.metadata.name == name)
                .ok_or_else(|| Problem::not_found(Kind::Sprite, name))?,
            None => 0,
        };
        for (n, sprite) in sprites.iter().enumerate().take(at + 1) {
            let end = Cursor { run: u32::MAX, seq: 1 << 62 };
            let place = if n == at { cursor } else { end };
            self.places.insert(sprite.metadata.uid.clone(), place);
        }
        Ok(())
    }

    async fn run(
        &mut self,
        follow: bool,
        out: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), Broken> {
        let state = self.state.clone();
        let mut objects = state.0.hub.wait_for(Topic::Objects);
        loop {
            // What comes before the end is committed before it, so this order misses nothing.
            let object = state.0.store.get_by_uid(self.kind, &self.uid).await?;
            let ended = object.as_ref().is_none_or(has_ended) || self.has_exited().await?;
            let sprites = self.sprites().await?;
            let mut output = sprites
                .last()
                .map(|newest| state.0.hub.wait_for(Topic::Output(newest.metadata.uid.clone())));
            for sprite in &sprites {
                self.send_all(sprite, out).await?;
            }
            if ended || !follow {
                return Ok(());
            }
            let more = async {
                match &mut output {
                    Some(output) => output.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = state.0.closing.cancelled() => return Err(Broken::Closing),
                () = out.closed() => return Err(Broken::Unread),
                _ = more => {}
                changed = objects.changed() => changed.map_err(|_| Broken::Closing)?,
            }
        }
    }

    /// Whether the log is that of a sprite whose exit is held.
    async fn has_exited(&self) -> Result<bool, store::Error> {
        Ok(self.kind == Kind::Sprite && self.state.0.store.held(&self.uid, None).await?.finished)
    }

    /// Sends what is there of a sprite's output.
    async fn send_all(
        &mut self,
        sprite: &Sprite,
        out: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), Broken> {
        let uid = &sprite.metadata.uid;
        let mut place = self.places.get(uid).copied().unwrap_or_default();
        loop {
            let rows = self.state.0.store.output(uid, place, PIECE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            place = last.cursor();
            self.places.insert(uid.clone(), place);
            let mut piece = Vec::new();
            for row in &rows {
                if self.events {
                    write_event(&sprite.metadata.name, row, &mut piece);
                } else {
                    write_raw(&row.event.body, &mut piece);
                }
            }
            if !piece.is_empty() {
                out.send(Ok(piece.into())).await.map_err(|_| Broken::Unread)?;
            }
        }
    }

    /// The sprites of the object, in the order in which they were made.
    async fn sprites(&self) -> Result<Vec<Sprite>, store::Error> {
        let store = &self.state.0.store;
        if self.kind == Kind::Sprite {
            let sprite = store.get_by_uid(Kind::Sprite, &self.uid).await?;
            return Ok(sprite.and_then(AnyObject::into_sprite).into_iter().collect());
        }
        let owned = store.list_owned(Kind::Sprite, &self.uid).await?;
        let mut sprites: Vec<Sprite> =
            owned.into_iter().filter_map(AnyObject::into_sprite).collect();
        sprites.sort_by_key(|sprite| (sprite.spec.attempt, sprite.metadata.creation_timestamp));
        Ok(sprites)
    }
}

/// Whether nothing more will be printed for an object.
fn has_ended(object: &AnyObject) -> bool {
    match object {
        AnyObject::Job(job) => {
            let conditions = &job.status.conditions;
            conditions.is_true("Complete") || conditions.is_true("Failed")
        }
        AnyObject::Sprite(sprite) => {
            !sprite.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_RUNTIME)
        }
        AnyObject::Agent(_) => false,
        // These print nothing.
        _ => true,
    }
}

/// What the agent itself printed or said.
fn write_raw(event: &EventBody, piece: &mut Vec<u8>) {
    match event {
        EventBody::Log { stream: Stream::Stdout | Stream::Stderr, chunk }
        | EventBody::Text { chunk, .. } => match &chunk.text {
            Some(text) => piece.extend_from_slice(text.as_bytes()),
            None => piece.extend(chunk.bytes()),
        },
        _ => {}
    }
}

#[derive(Serialize)]
struct Line<'a> {
    sprite: &'a str,
    #[serde(flatten)]
    row: &'a OutputRow,
}

fn write_event(sprite: &str, row: &OutputRow, piece: &mut Vec<u8>) {
    // Rows came out of JSON and go into it again.
    if serde_json::to_writer(&mut *piece, &Line { sprite, row }).is_ok() {
        piece.push(b'\n');
    }
}
