//! Reading: one object, lists, and what happened to an object.

use axum::{
    Json,
    extract::{Path, State as Shared},
    http::{HeaderMap, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{
    accept::Accept,
    list,
    params::{Params, kind},
    view, watch,
};
use crate::{
    resource::{AnyObject, Kind},
    server::{State, status::Problem},
};

/// `GET /{plural}/{name}` and `GET /{plural}/{name}/status`
pub(super) async fn get(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind = kind(&plural, &uri).await?;
    let form = Accept::of(&headers).form()?;
    let object = object(&state, kind, &name).await?;
    view::one(&state, &object, form, &Params::of(&uri)).await
}

/// An object that must be there.
pub(super) async fn object(state: &State, kind: Kind, name: &str) -> Result<AnyObject, Problem> {
    state.0.store.get(kind, name).await?.ok_or_else(|| Problem::not_found(kind, name))
}

/// `GET /{plural}`: a list, or with `watch=1` what happens to it.
pub(super) async fn list(
    Shared(state): Shared<State>,
    Path(plural): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind = kind(&plural, &uri).await?;
    let params = Params::of(&uri);
    let form = Accept::of(&headers).form()?;
    if params.flag("watch") {
        return watch::watch(&state, kind, &params, form).await;
    }
    let page = list::page(&state, kind, &params).await?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = page.next {
        metadata["continue"] = token.into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    view::list(&state, kind, &page.items, metadata, form, &params).await
}

/// `GET /{plural}/{name}/events`: an object's history, oldest first.
pub(super) async fn events(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let kind = kind(&plural, &uri).await?;
    let object = object(&state, kind, &name).await?;
    let rows = state.0.store.events(&object.metadata().uid).await?;
    Ok(Json(rows).into_response())
}
