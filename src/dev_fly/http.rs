//! HTTP around the world: hyper alone, since a lost answer is a connection that ends.
//!
//! Who asks must call this computer by an address or as `localhost`. By any other name it may be a
//! page in somebody's browser, whose name was made to mean this computer after it was loaded.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Response, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::{
    call::Request,
    shared::Shared,
    world::reply::{Answer, Body, Outcome, Waiting},
};
use crate::ambient::{between, later};

/// The most that a request may say.
const BODY: usize = 8 << 20;

/// The caller gets no answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped, as a fault wants it")]
pub(super) struct Dropped;

/// Takes connections until it is aborted.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut open = tokio::task::JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.spawn(connection(stream, Arc::clone(&shared)));
            }
            // Out of descriptors, most likely; the next try may do.
            Err(error) => tracing::warn!(%error, "dev-fly takes no connection"),
        }
        while open.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Else small answers wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            if !names_address(&request) {
                return Ok(response(&shared, Answer::refused_host()).map(Full::new));
            }
            answer(shared, request).await.map(|answer| answer.map(Full::new))
        }
    });
    // An error means that the caller went, or that a fault dropped it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Whether a request calls us by an address, or as `localhost`.
fn names_address<B>(request: &hyper::Request<B>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<hyper::http::uri::Authority>().ok());
    host.is_some_and(|host| {
        let host = host.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
    })
}

/// Answers one request, however it came.
pub(super) async fn answer<B: hyper::body::Body<Data = Bytes>>(
    shared: Arc<Shared>,
    request: hyper::Request<B>,
) -> Result<Response<Bytes>, Dropped>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(request) = read(request).await else {
        return Ok(response(&shared, Answer::refused_body()));
    };
    let answer = match shared.with(|world, now| world.step(&request, now)) {
        Outcome::Answer(answer) => answer,
        Outcome::Dropped => return Err(Dropped),
        Outcome::Wait(wait) => waited(&shared, &wait).await,
        Outcome::Exec(wish) => shared.host.exec(&shared, wish).await,
    };
    if !answer.late.is_zero() {
        shared.ambient.clock.sleep(answer.late).await;
    }
    Ok(response(&shared, answer))
}

async fn read<B: hyper::body::Body<Data = Bytes>>(request: hyper::Request<B>) -> Option<Request>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let head = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
    let query = parts.uri.query().unwrap_or_default();
    let query = url::form_urlencoded::parse(query.as_bytes());
    Some(Request {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: query.map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
        authorization: head("authorization"),
        nonce: head("fly-machine-lease-nonce"),
        body: Limited::new(body, BODY).collect().await.ok()?.to_bytes().to_vec(),
    })
}

async fn waited(shared: &Arc<Shared>, wait: &Waiting) -> Answer {
    let mut changed = shared.changed.subscribe();
    let end = later(shared.ambient.clock.now(), wait.timeout);
    loop {
        changed.mark_unchanged();
        let now = shared.ambient.clock.now();
        if let Some(answer) = shared.look(|world| world.reached(wait, now >= end)) {
            return answer;
        }
        tokio::select! {
            () = shared.ambient.clock.sleep(between(now, end)) => {}
            _ = changed.changed() => {}
        }
    }
}

fn response(shared: &Shared, answer: Answer) -> Response<Bytes> {
    let (kind, text) = match answer.body {
        Body::Json(value) => ("application/json; charset=utf-8", value.to_string()),
        Body::Html(page) => ("text/html", page),
        Body::Empty => ("", String::new()),
    };
    let mut builder = Response::builder()
        .status(answer.status)
        // Always there. [src]
        .header("fly-request-id", format!("{}-dev", shared.ambient.ids.uid()));
    if !kind.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, kind);
    }
    if let Some(seconds) = answer.retry_after {
        builder = builder.header(header::RETRY_AFTER, seconds);
    }
    builder.body(Bytes::from(text)).unwrap_or_default()
}

/// Where it listens.
pub(super) async fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
