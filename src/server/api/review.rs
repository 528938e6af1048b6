//! Who am I, and may I: what `kubectl auth whoami` and `kubectl auth can-i` ask.
//!
//! The answers are those of the [door](crate::server::access), by the same
//! [table](crate::server::rights). Nothing is written.

use axum::{
    Json,
    extract::{Request, State as Shared},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::protobuf;
use crate::{
    access::Right,
    resource::{GROUP, Kind},
    server::{State, access::Standing, body, rights, status::Problem},
};

/// The largest question.
const MAX_BODY: usize = 64 * 1024;
/// The verbs of which the rules tell.
const VERBS: [&str; 8] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// What somebody asks whether they may.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    resource_attributes: Option<OfResource>,
    non_resource_attributes: Option<OfPath>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OfResource {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OfPath {
    verb: String,
    path: String,
}

/// `POST …/selfsubjectreviews`: who asks.
pub(super) async fn whoami(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let standing = standing(&request);
    question(&state, request, "SelfSubjectReview").await?;
    let user = json!({
        "username": standing.name(),
        "groups": [format!("open-dispatch:{}", standing.role())],
    });
    Ok(answer("authentication.k8s.io/v1", "SelfSubjectReview", None, json!({"userInfo": user})))
}

/// `POST …/selfsubjectaccessreviews`: whether the one who asks may do something.
pub(super) async fn may_i(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let standing = standing(&request);
    let spec = question(&state, request, "SelfSubjectAccessReview").await?;
    let asked: Asked = serde_json::from_value(spec.clone())
        .map_err(|error| Problem::bad_request(format!("spec: {error}")))?;
    let right = match asked {
        Asked { resource_attributes: Some(of), non_resource_attributes: None } => of_resource(&of),
        Asked { resource_attributes: None, non_resource_attributes: Some(of) } => of_path(&of),
        Asked { .. } => {
            return Err(Problem::bad_request(
                "spec must have resourceAttributes or nonResourceAttributes, exactly one of them",
            ));
        }
    };
    let reason = format!(
        "{} has the role {}, and this takes the role {}",
        standing.name(),
        standing.role(),
        right.needs()
    );
    let status = json!({"allowed": standing.role() >= right.needs(), "reason": reason});
    Ok(answer("authorization.k8s.io/v1", "SelfSubjectAccessReview", Some(spec), status))
}

/// `POST …/selfsubjectrulesreviews`: all that the one who asks may do with objects.
pub(super) async fn rules(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let role = standing(&request).role();
    let spec = question(&state, request, "SelfSubjectRulesReview").await?;
    let plurals: Vec<&str> = Kind::ALL.into_iter().map(Kind::plural).collect();
    let verbs = |resource: &str| -> Vec<&str> {
        let may = |verb: &&str| role >= rights::of_verb(verb, resource, "").needs();
        VERBS.into_iter().filter(may).collect()
    };
    // All kinds stand in the same rows of the table.
    let objects = plurals.first().map(|plural| verbs(plural)).unwrap_or_default();
    let status = json!({
        "incomplete": false,
        "resourceRules": [{"verbs": objects, "apiGroups": [GROUP], "resources": plurals}],
        "nonResourceRules": [],
    });
    Ok(answer("authorization.k8s.io/v1", "SelfSubjectRulesReview", Some(spec), status))
}

fn standing(request: &Request) -> Standing {
    // The door lets nobody through without one.
    request.extensions().get::<Standing>().cloned().unwrap_or(Standing::Server)
}

/// What a verb on a resource takes. Of groups that are not ours there is nothing, so whatever is
/// asked of them is for admins.
fn of_resource(of: &OfResource) -> Right {
    match of.group == GROUP {
        true => rights::of_verb(&of.verb, &of.resource, &of.subresource),
        false => Right::Admin,
    }
}

fn of_path(of: &OfPath) -> Right {
    let method = of.verb.to_uppercase().parse().ok();
    method.and_then(|method| rights::needs(&method, &of.path)).unwrap_or(Right::Admin)
}

/// The `spec` of what is asked.
async fn question(state: &State, request: Request, kind: &str) -> Result<Value, Problem> {
    let bytes = body::read(request.into_body(), MAX_BODY, &*state.0.ambient.clock).await?;
    if let Some(object) = protobuf::object(&bytes) {
        return Ok(spec_of(&object));
    }
    let question: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))?;
    if question["kind"] != kind {
        return Err(Problem::bad_request(format!("the body must be of the kind {kind}")));
    }
    Ok(question["spec"].clone())
}

/// The `spec` of a SelfSubjectAccessReview in protobuf; the members of the others are not read.
fn spec_of(object: &protobuf::Message<'_>) -> Value {
    let Some(spec) = object.message(2) else { return json!({}) };
    let mut read = json!({});
    if let Some(of) = spec.message(1) {
        read["resourceAttributes"] = json!({
            "namespace": of.text(1),
            "verb": of.text(2),
            "group": of.text(3),
            "version": of.text(4),
            "resource": of.text(5),
            "subresource": of.text(6),
            "name": of.text(7),
        });
    }
    if let Some(of) = spec.message(2) {
        read["nonResourceAttributes"] = json!({"path": of.text(1), "verb": of.text(2)});
    }
    read
}

fn answer(version: &str, kind: &str, spec: Option<Value>, status: Value) -> Response {
    let mut review = json!({
        "kind": kind,
        "apiVersion": version,
        "metadata": {"creationTimestamp": null},
        "status": status,
    });
    if let Some(spec) = spec {
        review["spec"] = spec;
    }
    (StatusCode::CREATED, Json(review)).into_response()
}
