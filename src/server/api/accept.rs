//! What form a client wants an answer in, and the last dress of an answer.
//!
//! `Accept` names forms in the order of their worth, and the first that we have is taken. Beside
//! plain JSON there are tables and bare metadata, as `as=` says, and YAML. kubectl names them
//! all with every request, and protobuf, which we have not, among them.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use super::params::Params;
use crate::{resource::yaml, server::status::Problem};

/// The plain type.
const JSON: &str = "application/json";
/// Its twin for people.
const YAML: &str = "application/yaml";
/// The group of tables and bare metadata.
const META: &str = "meta.k8s.io";
/// The group of discovery in one piece.
const DISCOVERY: &str = "apidiscovery.k8s.io";

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Object,
    /// As rows, in a table of this version.
    Table(&'static str),
    /// Their metadata alone, in this version.
    Partial(&'static str),
}

/// One of the forms that a client takes.
#[derive(Debug, Clone, PartialEq)]
struct Range {
    /// `application/json`, or with stars.
    sort: String,
    /// What stands behind it, such as `as=Table`.
    params: Vec<(String, String)>,
    /// Its worth, from 0 to 1.
    worth: f32,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let sort = parts.next().filter(|sort| !sort.is_empty())?.to_ascii_lowercase();
        let pair = |part: &str| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
        };
        let params: Vec<(String, String)> = parts.filter_map(pair).collect();
        let worth = params.iter().find(|(name, _)| name == "q");
        let worth = worth.and_then(|(_, worth)| worth.parse().ok()).unwrap_or(1.0);
        Some(Self { sort, params, worth })
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn takes(&self, sort: &str) -> bool {
        self.sort == sort || self.sort == "application/*" || self.sort == "*/*"
    }

    /// A version of a group that is asked for, if it is among those that there are.
    fn version(&self, group: &str, there: [&'static str; 2]) -> Option<&'static str> {
        let asked = self.param("v").filter(|_| self.param("g") == Some(group))?;
        there.into_iter().find(|version| *version == asked)
    }

    fn form(&self) -> Option<Form> {
        if !self.takes(JSON) && !self.takes(YAML) {
            return None;
        }
        let meta = || self.version(META, ["v1", "v1beta1"]);
        match self.param("as") {
            None => Some(Form::Object),
            Some("Table") => meta().map(Form::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => {
                meta().map(Form::Partial)
            }
            Some(_) => None,
        }
    }
}

/// The forms that a client takes, the best first.
pub(super) struct Accept(Vec<Range>);

impl Accept {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges = values.flat_map(|value| value.split(',')).filter_map(Range::read);
        let mut ranges: Vec<Range> = ranges.filter(|range| range.worth > 0.0).collect();
        ranges.sort_by(|a, b| b.worth.total_cmp(&a.worth));
        if !headers.contains_key(header::ACCEPT) {
            ranges.extend(Range::read("*/*"));
        }
        Self(ranges)
    }

    /// How objects are to be shown.
    pub(super) fn form(&self) -> Result<Form, Problem> {
        self.0.iter().find_map(Range::form).ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "NotAcceptable",
                format!(
                    "none of the types that Accept names is there; name {JSON} or {YAML}, the \
                     first with as=Table or as=PartialObjectMetadata;v=v1;g={META} if you like"
                ),
            )
        })
    }

    /// The version of discovery in one piece, if that is what is asked for before all else.
    pub(super) fn discovery(&self) -> Option<&'static str> {
        self.0.iter().find_map(|range| match range.param("as") {
            None if range.takes(JSON) => Some(None),
            Some("APIGroupDiscoveryList") => range.version(DISCOVERY, ["v2", "v2beta1"]).map(Some),
            _ => None,
        })?
    }

    /// Whether YAML is asked for before JSON.
    fn yaml(&self) -> bool {
        let known = |range: &&Range| range.takes(JSON) || range.takes(YAML);
        self.0.iter().find(known).is_some_and(|range| range.sort == YAML)
    }
}

/// Refuses what cannot be shown as asked for, and dresses what can: YAML where it is asked for,
/// and lines and indents for `pretty`.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let accept = Accept::of(request.headers());
    let params = Params::of(request.uri());
    let (yaml, pretty) = (accept.yaml(), params.flag("pretty"));
    if accept.discovery().is_none()
        && let Err(problem) = accept.form()
    {
        return problem.into_response();
    }
    let response = next.run(request).await;
    let plain = response.headers().get(header::CONTENT_TYPE).is_some_and(|sort| sort == JSON);
    if plain && (yaml || pretty) { dressed(response, yaml).await } else { response }
}

async fn dressed(response: Response, yaml: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    // It was made here, so it is no larger than what we hold.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let text = if yaml {
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(YAML));
        yaml::write_value(&value)
    } else {
        format!("{value:#}\n")
    };
    Response::from_parts(parts, Body::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().expect("a header"));
        Accept::of(&headers)
    }

    #[test]
    fn the_first_form_that_there_is_wins() {
        for (text, expected) in [
            ("application/json", Some(Form::Object)),
            ("*/*", Some(Form::Object)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some(Form::Table("v1")),
            ),
            (
                "application/json;as=Table;v=v9;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                Some(Form::Table("v1beta1")),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Some(Form::Partial("v1")),
            ),
            ("application/json;as=Table", None),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/vnd.kubernetes.protobuf,application/json", Some(Form::Object)),
            ("text/html;q=0.9, application/json;q=0.5", Some(Form::Object)),
            ("application/json;q=0", None),
            ("", None),
        ] {
            assert_eq!(accept(text).form().ok(), expected, "{text}");
        }
        assert_eq!(Accept::of(&HeaderMap::new()).form().ok(), Some(Form::Object));
    }

    #[test]
    fn yaml_and_discovery_are_taken_where_they_stand_before_json() {
        assert!(accept("application/yaml").yaml());
        assert!(accept("application/yaml, application/json").yaml());
        assert!(!accept("application/json, application/yaml").yaml());
        assert!(accept("application/json;q=0.1, application/yaml").yaml());
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        assert_eq!(accept(&format!("{discovery},application/json")).discovery(), Some("v2"));
        assert_eq!(accept(&format!("application/json,{discovery}")).discovery(), None);
        assert_eq!(accept("*/*").discovery(), None);
    }
}
