//! One request and its answer, bounded in time and bytes.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;

use super::{
    action::Action,
    carrier::{Carrier, Unanswered, causes},
    errors::{Answer, AnswerHeaders, ApiError, classify_as, one_line},
    is_plain,
    reading::{Reading, Whole},
};

/// What is to be asked.
pub(super) struct Request {
    pub(super) action: Action,
    /// What it acts on: a machine, a volume, else the app. Fly counts calls by it.
    pub(super) id: String,
    /// The segments of the path below `/v1/apps`.
    pub(super) path: Vec<String>,
    query: Vec<(String, String)>,
    body: Option<Result<Vec<u8>, String>>,
    /// What must not stand in an error, although it was sent.
    hide: Vec<SecretString>,
}

impl Request {
    pub(super) fn new(action: Action, app: &str) -> Self {
        let path = vec![app.to_owned()];
        Self { action, id: app.to_owned(), path, query: Vec::new(), body: None, hide: Vec::new() }
    }

    pub(super) fn of(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    pub(super) fn query<'a>(mut self, pairs: impl IntoIterator<Item = (String, &'a str)>) -> Self {
        self.query.extend(pairs.into_iter().map(|(key, value)| (key, value.to_owned())));
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).map_err(|error| error.to_string()));
        self
    }

    pub(super) fn hide(mut self, secrets: Vec<SecretString>) -> Self {
        self.hide = secrets;
        self
    }

    /// Refuses ids that would make another path: an empty one, or `..`.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        match self.path.iter().find(|segment| !is_plain(segment)) {
            None => Ok(()),
            Some(segment) => Err(ApiError::Setup(format!(
                "cannot {}: {segment:?} is neither an id nor a key that Fly has",
                self.action.phrase()
            ))),
        }
    }

    /// A text without what was sent in secret, as it is or as JSON writes it.
    fn masked(&self, text: &str) -> String {
        let mut secrets: Vec<&str> = self.hide.iter().map(ExposeSecret::expose_secret).collect();
        secrets.retain(|secret| secret.len() >= SHORTEST_HIDDEN);
        // One may begin with another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| {
            let written = serde_json::Value::from(*secret).to_string();
            let written = written.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            text.replace(secret, "***").replace(written.unwrap_or(secret), "***")
        })
    }
}

/// What is shorter is no secret, and stands in too many texts.
const SHORTEST_HIDDEN: usize = 6;

/// The way to the API.
pub(super) struct Door {
    carrier: Arc<dyn Carrier>,
    base: Url,
    authorization: SecretString,
}

impl Door {
    /// The way to the API at an address.
    pub(super) fn new(carrier: Arc<dyn Carrier>, base: Url, authorization: SecretString) -> Self {
        Self { carrier, base, authorization }
    }

    /// Sends a request, and reads its answer.
    pub(super) async fn pass<R: Reading>(
        &self,
        request: &Request,
        mut reading: R,
    ) -> Result<R::Out, ApiError> {
        let action = request.action;
        let open = |answer| match action.is_write() {
            true => ApiError::Ambiguous(answer),
            false => ApiError::Unavailable(answer),
        };
        let response = match self.carrier.carry(self.build(request)?).await {
            Ok(response) => response,
            Err(Unanswered { may_have_arrived, why }) => {
                let answer = Answer::without(action, why);
                tracing::debug!(
                    method = %action.method(),
                    path = action.template(),
                    failed = answer.said,
                    "Fly was not reached"
                );
                return Err(match may_have_arrived {
                    true => open(answer),
                    false => ApiError::Unavailable(answer),
                });
            }
        };
        let status = response.status();
        let headers = headers(response.headers());
        tracing::debug!(
            method = %action.method(),
            path = action.template(),
            status = status.as_u16(),
            fly_request_id = headers.request_id.as_deref().unwrap_or_default(),
            "Fly was asked"
        );
        let lost = |said: &str| {
            open(Answer {
                action,
                status: Some(status.as_u16()),
                code: None,
                said: one_line(said),
                request_id: headers.request_id.clone(),
            })
        };
        if !status.is_success() {
            let mut body = Whole::new(|body: &[u8]| Ok(body.to_vec()));
            let told = bounded(response, action.most_bytes(), &mut body).await;
            let body = told.and_then(|()| body.end()).unwrap_or_default();
            let shown = request.masked(&String::from_utf8_lossy(&body));
            return Err(classify_as(action, status.as_u16(), &headers, &body, shown.as_bytes()));
        }
        let told = bounded(response, action.most_bytes(), &mut reading).await;
        // Where it cannot be read, it was done all the same.
        told.and_then(|()| reading.end()).map_err(|said| lost(&request.masked(&said)))
    }

    fn build(&self, request: &Request) -> Result<reqwest::Request, ApiError> {
        let broken =
            |why: String| ApiError::Setup(format!("cannot {}: {why}", request.action.phrase()));
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push("apps").extend(&request.path);
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let mut value = HeaderValue::try_from(self.authorization.expose_secret())
            .map_err(|_| broken("the token cannot stand in a header".into()))?;
        value.set_sensitive(true);
        let mut built = reqwest::Request::new(request.action.method(), url);
        *built.timeout_mut() = Some(request.action.patience());
        built.headers_mut().insert(AUTHORIZATION, value);
        if let Some(body) = &request.body {
            let json = HeaderValue::from_static("application/json");
            built.headers_mut().insert(CONTENT_TYPE, json);
            *built.body_mut() = Some(body.clone().map_err(broken)?.into());
        }
        Ok(built)
    }
}

/// Reads a body, up to so many bytes.
async fn bounded(
    mut response: Response,
    most: usize,
    reading: &mut impl Reading,
) -> Result<(), String> {
    let mut bytes = 0_usize;
    while let Some(piece) = response.chunk().await.map_err(|error| causes(&error))? {
        bytes += piece.len();
        if bytes > most {
            return Err(format!("an answer of more than {most} bytes, which was not read"));
        }
        reading.take(&piece)?;
    }
    Ok(())
}

fn headers(headers: &HeaderMap) -> AnswerHeaders {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let seconds = |value: &HeaderValue| {
        let seconds = value.to_str().ok()?.trim().parse::<f64>().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    AnswerHeaders {
        request_id: headers.get("fly-request-id").and_then(text).map(|id| one_line(&id)),
        retry_after: headers.get(RETRY_AFTER).and_then(seconds),
        location: headers.contains_key(LOCATION),
    }
}
