//! Reading: one object, lists in pages, events.

use axum::{
    Json,
    extract::{Path, State as Shared},
    http::{HeaderMap, Uri},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    params::{Params, kind, wants_table},
    table, watch,
};
use crate::{
    resource::{API_VERSION, AnyObject, Kind},
    server::{State, status::Problem},
    store::Revision,
};

/// How many objects are read at once.
const PAGE: usize = 500;

/// `GET /{plural}/{name}` and `GET /{plural}/{name}/status`
pub(super) async fn get(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind = kind(&plural, &uri).await?;
    let object = object(&state, kind, &name).await?;
    if !wants_table(&headers) {
        return Ok(Json(object.to_json()).into_response());
    }
    let metadata = json!({"resourceVersion": object.metadata().resource_version});
    let context = table::context(&*state.0.store).await?;
    let now = state.0.ambient.clock.now();
    Ok(Json(table::table(kind, [&object], metadata, now, &context)).into_response())
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
    if params.flag("watch") {
        return watch::watch(&state, kind, &params, wants_table(&headers)).await;
    }
    let page = page(&state, kind, &params).await?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = page.next {
        metadata["continue"] = token.into();
    }
    if wants_table(&headers) {
        let context = table::context(&*state.0.store).await?;
        let now = state.0.ambient.clock.now();
        return Ok(Json(table::table(kind, &page.items, metadata, now, &context)).into_response());
    }
    let items: Vec<Value> = page.items.iter().map(AnyObject::to_json).collect();
    let list = json!({
        "kind": format!("{kind}List"),
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "items": items,
    });
    Ok(Json(list).into_response())
}

/// One page of a list.
pub(super) struct Page {
    pub(super) items: Vec<AnyObject>,
    /// The revision from which a watch shows what the pages do not.
    pub(super) revision: Revision,
    next: Option<String>,
}

/// Where the next page of a list begins. All pages bear the revision of the first: what
/// changes while a client turns pages, its watch shows.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Continue {
    revision: Revision,
    after: String,
}

impl Continue {
    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(token: &str) -> Result<Self, Problem> {
        URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| {
                Problem::bad_request("continue is none that this server gave; list anew")
            })
    }
}

/// Reads a page of the objects that are asked for.
pub(super) async fn page(state: &State, kind: Kind, params: &Params) -> Result<Page, Problem> {
    let store = &state.0.store;
    let selector = params.selector()?;
    let limit = match params.number("limit")? {
        None | Some(0) => usize::MAX,
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let from = params.text("continue").map(Continue::read).transpose()?;
    if let Some(from) = &from {
        // A watch from there must still be possible, or the pages would not fit together.
        store.changes(from.revision, 1).await?;
    }
    let (mut revision, mut after) =
        from.map_or((None, None), |from| (Some(from.revision), Some(from.after)));
    let mut items: Vec<AnyObject> = Vec::new();
    loop {
        let listing = store.list(kind, after.as_deref(), PAGE).await?;
        let revision = *revision.get_or_insert(listing.revision);
        after = listing.items.last().map(|object| object.metadata().name.clone());
        for object in listing.items {
            let metadata = object.metadata();
            let wanted = selector.matches(&metadata.labels)
                && params.field_name().is_none_or(|name| name == metadata.name);
            if wanted && items.len() == limit {
                // There is at least one more, so the next page is not empty.
                let after = items.last().map(|last| last.metadata().name.clone());
                let next = Continue { revision, after: after.unwrap_or_default() }.write();
                return Ok(Page { items, revision, next: Some(next) });
            }
            if wanted {
                items.push(object);
            }
        }
        if !listing.more {
            return Ok(Page { items, revision, next: None });
        }
    }
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
