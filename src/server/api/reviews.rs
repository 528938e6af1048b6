//! What a client may ask of itself: who am I, and what may I do. `kubectl auth whoami` and
//! `kubectl auth can-i` come here. Nothing is written.

use axum::{
    Json,
    extract::{Request, State as Shared},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    access::Right,
    resource::GROUP,
    server::{State, access::Standing, body, rights, status::Problem},
    store::Role,
};

/// The largest body.
const MAX_BODY: usize = 64 * 1024;

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

/// `POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews`: whether whoever asks may do
/// something.
pub(super) async fn access(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let standing = standing(&request);
    let document = document(&state, request).await?;
    let asked: Asked = serde_json::from_value(document["spec"].clone())
        .map_err(|error| Problem::bad_request(format!("spec: {error}")))?;
    let right = match asked {
        Asked { resource_attributes: Some(of), .. } => of_resource(&of),
        Asked { non_resource_attributes: Some(of), .. } => of_path(&of),
        Asked { .. } => {
            let message = "spec has neither resourceAttributes nor nonResourceAttributes";
            return Err(Problem::bad_request(message));
        }
    };
    let allowed = standing.role() >= right.needs();
    let reason = reason(&standing, right.needs());
    Ok(answer(
        document,
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        json!({
            "allowed": allowed,
            "reason": reason,
        }),
    ))
}

/// `POST /apis/authentication.k8s.io/v1/selfsubjectreviews`: who asks.
pub(super) async fn whoami(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let standing = standing(&request);
    let document = document(&state, request).await?;
    let user =
        json!({"username": standing.name(), "groups": [format!("role:{}", standing.role())]});
    let status = json!({"userInfo": user});
    Ok(answer(document, "authentication.k8s.io/v1", "SelfSubjectReview", status))
}

fn standing(request: &Request) -> Standing {
    // The door lets nobody through without one.
    request.extensions().get::<Standing>().cloned().unwrap_or(Standing::Server)
}

/// What a verb on a resource takes. Of groups that are not ours there is nothing, so all that is left
/// is for admins.
fn of_resource(of: &OfResource) -> Right {
    if of.group == GROUP {
        rights::of_verb(&of.verb, &of.resource, &of.subresource)
    } else {
        Right::Admin
    }
}

/// What a path takes; ours are looked up as they stand there, without names.
fn of_path(of: &OfPath) -> Right {
    match of.verb.to_uppercase().parse() {
        Ok(method) => rights::needs(&method, &of.path).unwrap_or(Right::Admin),
        Err(_) => Right::Admin,
    }
}

fn reason(standing: &Standing, needs: Role) -> String {
    format!("{} has the role {}, and this takes the role {needs}", standing.name(), standing.role())
}

async fn document(state: &State, request: Request) -> Result<Value, Problem> {
    let bytes = body::read(request.into_body(), MAX_BODY, &*state.0.ambient.clock).await?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))?;
    if document.is_object() {
        return Ok(document);
    }
    Err(Problem::bad_request("the body is no object"))
}

fn answer(mut document: Value, version: &str, kind: &str, status: Value) -> Response {
    document["apiVersion"] = version.into();
    document["kind"] = kind.into();
    if !document["metadata"].is_object() {
        document["metadata"] = json!({});
    }
    document["status"] = status;
    (StatusCode::CREATED, Json(document)).into_response()
}
