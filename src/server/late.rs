//! Bodies that come late: what the door said of a request's head must still be so at its body's end.
//!
//! A body may take half a minute, and a file five. Whoever's token was revoked, replaced or over in
//! that time has been let in, and shall do nothing any more. So the body of a request by a named
//! token ends only once the store has said again that the token stands just as the door saw it; else
//! it breaks off, nobody has read it whole, and the door answers why. What lies between a body's end
//! and the commit is seen to by the transaction itself ([`Op::ByToken`](crate::store::Op::ByToken)).
//! No handler need know of this, so none can forget it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
};
use hyper::body::{Frame, SizeHint};

use super::State;
use crate::store::{Access, Error};

/// Why a body broke off at its end, if it did.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate(Arc<Mutex<Option<Error>>>);

impl Fate {
    /// Takes it.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// The same request, with a body that ends only while the token stands by which it was let in; and
/// what became of that.
pub(super) fn watched(request: Request, state: &State, token: &Access) -> (Request, Fate) {
    let fate = Fate::default();
    let asked = stands(state.clone(), token.clone());
    let (asks, noted): (Answer, _) = (Box::pin(asked), fate.clone());
    let request = request.map(|body| {
        Body::new(Watched { body, progress: Progress::Waits, asks: Some(asks), fate: noted })
    });
    (request, fate)
}

/// Whether a token stands now just as it was read.
async fn stands(state: State, token: Access) -> Result<(), Error> {
    let rows = state.0.store.access().await?;
    let now = state.0.ambient.clock.now();
    let is_live = token.token.as_ref().is_some_and(|it| it.is_live(now));
    match is_live && rows.contains(&token) {
        true => Ok(()),
        false => Err(Error::Revoked { who: token.principal.to_string() }),
    }
}

/// How far somebody has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing was read.
    Waits,
    /// Some of it.
    Comes,
    /// All of it; the store is asked.
    Asks,
    /// It is over.
    Over,
}

/// What the store says of the token.
type Answer = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

struct Watched {
    body: Body,
    progress: Progress,
    asks: Option<Answer>,
    fate: Fate,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if matches!(this.progress, Progress::Waits | Progress::Comes) {
            this.progress = Progress::Comes;
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => this.progress = Progress::Asks,
                frame => return Poll::Ready(frame),
            }
        }
        let Some(asks) = &mut this.asks else { return Poll::Ready(None) };
        let said = ready!(asks.as_mut().poll(cx));
        this.asks = None;
        this.progress = Progress::Over;
        let Err(error) = said else { return Poll::Ready(None) };
        let broken = axum::Error::new(error.to_string());
        this.fate.set(error);
        Poll::Ready(Some(Err(broken)))
    }

    /// One that is empty is over with its head. Of any other, whoever reads must hear the end.
    fn is_end_stream(&self) -> bool {
        match self.progress {
            Progress::Waits => self.body.is_end_stream(),
            Progress::Comes | Progress::Asks => false,
            Progress::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
