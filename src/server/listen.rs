//! The listening socket: how many may come in, how long they may take, and how it ends.
//!
//! A connection speaks plain HTTP or TLS, as its first byte says: see [`tls`](super::tls).

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::Sleep,
};
use tokio_rustls::server::TlsStream;

use super::{
    State,
    slots::Peer,
    tls::{HANDSHAKE, Tls},
};

/// How much a client may ask of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long a request's head may take, and how long a connection may stay without one.
    pub head: Duration,
    /// How long a client may leave an answer unread.
    pub unread: Duration,
    /// How long requests may go on after a shutdown has begun.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(30),
            unread: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

/// How far the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Each connection ends with the request that it is at.
    Ending,
    /// Each connection ends.
    Over,
}

/// How long the listener rests when the system has no more file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Serves a router until `shutdown` is done. Then no new connection is taken, streams end,
/// requests under way are answered, and after [`Limits::drain`] whatever is left is cut off.
///
/// # Errors
/// Only if the listener itself cannot be used any more.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    state: State,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (phase, phases) = watch::channel(Phase::Serving);
    let clock = state.0.ambient.clock.clone();
    let tls = state.0.tls.get();
    tokio::pin!(shutdown);
    let mut failed = None;
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accepted => match accepted {
                Some(accepted) => accepted,
                None => break,
            },
        };
        match accepted {
            Ok((stream, _)) => {
                let phases = phases.clone();
                let connection = connection(stream, tls.cloned(), router.clone(), limits, phases);
                tokio::spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) if is_passing(&error) => {
                tracing::warn!(%error, "no connection could be taken");
                clock.sleep(REST).await;
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(listener);
    state.close_streams();
    phase.send_replace(Phase::Ending);
    drop(phases);
    tokio::select! {
        () = phase.closed() => {}
        () = clock.sleep(limits.drain) => {
            tracing::warn!("some requests were not done in time and are cut off");
            phase.send_replace(Phase::Over);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Whether accepting may work again by itself.
fn is_passing(error: &io::Error) -> bool {
    let exhausted = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS];
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::OutOfMemory
    ) || exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Serves one connection in the language that it speaks.
async fn connection(
    stream: TcpStream,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    mut phases: watch::Receiver<Phase>,
) {
    // Small answers must not wait for more to come.
    let _ = stream.set_nodelay(true);
    let router = (router, stream.peer_addr().ok().map(|peer| Peer::of(peer.ip())));
    let Some(tls) = tls else {
        return requests(patient(stream, limits), router, limits, phases).await;
    };
    let greeted = tokio::select! {
        biased;
        greeted = greet(stream, &tls, limits) => greeted,
        // Whoever has said nothing yet is at no request.
        _ = phases.wait_for(|phase| *phase != Phase::Serving) => return,
    };
    match greeted {
        Ok(Greeted::Plain(stream)) => requests(stream, router, limits, phases).await,
        Ok(Greeted::Tls(stream)) => requests(*stream, router, limits, phases).await,
        Err(error) => tracing::debug!(%error, "a connection ended before its first request"),
    }
}

/// What a connection speaks.
enum Greeted {
    Plain(Impatient),
    Tls(Box<TlsStream<Impatient>>),
}

fn patient(stream: TcpStream, limits: Limits) -> Impatient {
    Impatient { stream, patience: limits.unread, stalled: None }
}

/// Hears by its first byte which language a connection speaks, and shakes hands where that is TLS;
/// both within the time that a request's head has.
async fn greet(stream: TcpStream, tls: &Tls, limits: Limits) -> io::Result<Greeted> {
    let greeting = async {
        let mut first = [0];
        match stream.peek(&mut first).await? {
            1 if first[0] == HANDSHAKE => {
                let stream = tls.accept(patient(stream, limits)).await?;
                Ok(Greeted::Tls(Box::new(stream)))
            }
            _ => Ok(Greeted::Plain(patient(stream, limits))),
        }
    };
    match tokio::time::timeout(limits.head, greeting).await {
        Ok(greeted) => greeted,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Answers the requests of one connection, each with whose it is.
async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (router, peer): (Router, Option<Peer>),
    limits: Limits,
    mut phases: watch::Receiver<Phase>,
) {
    let router = TowerToHyperService::new(router);
    let answers = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), answers);
    tokio::pin!(connection);
    let outcome = loop {
        let phase = *phases.borrow_and_update();
        match phase {
            Phase::Serving => {}
            Phase::Ending => connection.as_mut().graceful_shutdown(),
            Phase::Over => return,
        }
        tokio::select! {
            biased;
            outcome = connection.as_mut() => break outcome,
            changed = phases.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A stream that gives up when its other side leaves answers unread for too long.
struct Impatient {
    stream: TcpStream,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    /// Passes on how a write went, and counts the time while it cannot go on.
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel's buffers drain in real time, whatever clock the rooms have"
    )]
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
