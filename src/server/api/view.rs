//! How objects are shown: whole, as rows, or by their metadata alone.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    accept::Form,
    params::Params,
    table::{self, Include},
};
use crate::{
    resource::{API_VERSION, AnyObject, Kind},
    server::{State, status::Problem},
};

/// Shows one object.
pub(super) async fn one(
    state: &State,
    object: &AnyObject,
    form: Form,
    params: &Params,
) -> Result<Response, Problem> {
    let shown = match form {
        Form::Object => object.to_json(),
        Form::Partial(version) => partial(object, version),
        Form::Table(version) => {
            let metadata = json!({"resourceVersion": object.metadata().resource_version});
            let include = Include::of(params)?;
            let context = table::context(&*state.0.store).await?;
            let now = state.0.ambient.clock.now();
            let rows = table::rows([object], now, &context, include);
            table::table(version, table::columns(object.kind()), rows, metadata)
        }
    };
    Ok(Json(shown).into_response())
}

/// Shows a list. `metadata` is the list's own.
pub(super) async fn list(
    state: &State,
    kind: Kind,
    objects: &[AnyObject],
    metadata: Value,
    form: Form,
    params: &Params,
) -> Result<Response, Problem> {
    let shown = match form {
        Form::Object => {
            let items: Vec<Value> = objects.iter().map(AnyObject::to_json).collect();
            json!({
                "kind": format!("{kind}List"),
                "apiVersion": API_VERSION,
                "metadata": metadata,
                "items": items,
            })
        }
        Form::Partial(version) => {
            let items: Vec<Value> = objects.iter().map(|object| partial(object, version)).collect();
            json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
                "items": items,
            })
        }
        Form::Table(version) => {
            let include = Include::of(params)?;
            let context = table::context(&*state.0.store).await?;
            let now = state.0.ambient.clock.now();
            let rows = table::rows(objects, now, &context, include);
            table::table(version, table::columns(kind), rows, metadata)
        }
    };
    Ok(Json(shown).into_response())
}

/// An object's metadata alone.
pub(super) fn partial(object: &AnyObject, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.metadata(),
    })
}
