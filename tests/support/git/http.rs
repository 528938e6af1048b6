//! `git http-backend` behind a small server on loopback, which can be made to fail.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What is wrong with the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It takes a connection and answers nothing.
    Hang,
    /// It breaks off in the middle of each answer of this service.
    Half(&'static str),
    /// It does as it is told, and breaks off before it answers this service.
    Lost(&'static str),
    /// It knows nothing.
    Vanish,
    /// It sends everybody elsewhere.
    Redirect(String),
}

#[derive(Default)]
struct Inner {
    root: PathBuf,
    fault: Mutex<Fault>,
    /// What must be shown, as `user:password`.
    wanted: Mutex<Option<String>>,
    /// What was shown, request by request.
    seen: Mutex<Vec<Option<String>>>,
}

/// The server; it ends with the test.
pub struct GitHttp {
    pub url: String,
    inner: Arc<Inner>,
}

impl GitHttp {
    /// Serves the repositories below a directory.
    pub async fn serve(root: &Path) -> Self {
        let inner = Arc::new(Inner { root: root.to_owned(), ..Inner::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inner }
    }

    pub fn fault(&self, fault: Fault) {
        *self.inner.fault.lock().unwrap() = fault;
    }

    /// Lets in only who shows this user and password.
    pub fn want(&self, pair: &str) {
        *self.inner.wanted.lock().unwrap() = Some(pair.to_owned());
    }

    /// What was shown so far.
    pub fn seen(&self) -> Vec<Option<String>> {
        self.inner.seen.lock().unwrap().clone()
    }
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.map(|value| value.to_str().unwrap().to_owned());
    inner.seen.lock().unwrap().push(shown.clone());
    let fault = inner.fault.lock().unwrap().clone();
    match &fault {
        Fault::Hang => std::future::pending().await,
        Fault::Vanish => return (StatusCode::NOT_FOUND, "nothing").into_response(),
        Fault::Redirect(to) => {
            let path = request.uri().path_and_query().unwrap();
            return (StatusCode::FOUND, [(header::LOCATION, format!("{to}{path}"))])
                .into_response();
        }
        _ => {}
    }
    let wanted = inner.wanted.lock().unwrap().clone();
    if let Some(pair) = wanted {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(pair);
        if shown != Some(format!("Basic {basic}")) {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
            return (StatusCode::UNAUTHORIZED, challenge, "who are you?").into_response();
        }
    }
    let path = request.uri().to_string();
    let answer = cgi(&inner.root, request).await;
    let breaks = |at: &str| path.contains(at);
    let kept = match fault {
        Fault::Half(at) if breaks(at) => answer.1.len() / 2,
        Fault::Lost(at) if breaks(at) => 0,
        _ => return answer.0.body(Body::from(answer.1)).unwrap(),
    };
    let part = answer.1.slice(..kept);
    let broken: Vec<Result<Bytes, std::io::Error>> =
        vec![Ok(part), Err(std::io::ErrorKind::ConnectionReset.into())];
    answer.0.body(Body::from_stream(futures::stream::iter(broken))).unwrap()
}

/// Runs `git http-backend` for one request.
async fn cgi(root: &Path, request: Request) -> (axum::http::response::Builder, Bytes) {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let text = |name: &str| {
        let value = head.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().envs(super::plain());
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("PATH_INFO", head.uri.path());
    command.env("QUERY_STRING", head.uri.query().unwrap_or_default());
    command.env("REQUEST_METHOD", head.method.as_str());
    command.env("CONTENT_TYPE", text("content-type"));
    command.env("CONTENT_LENGTH", body.len().to_string());
    command.env("HTTP_CONTENT_ENCODING", text("content-encoding"));
    command.env("GIT_PROTOCOL", text("git-protocol"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        let _ = stdin.write_all(&body).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let printed = Bytes::from(output.unwrap().stdout);
    let end = printed.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&printed[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    (response, printed.slice(end + 4..))
}
