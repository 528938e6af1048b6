//! `…/scale`: how many there are to be, under the one name that all clients know.
//!
//! A kind has it whose spec says a number of replicas; the schema tells, so that a new kind has it
//! as soon as it says so. What is written here is written to that field of the spec, and passes
//! the same gate as all else.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::Uri,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    audit::Caller,
    document::{self, MAX_BODY, content_type, typed},
    options::WriteOptions,
    params::{Params, kind},
    read,
    write::{Account, TRIES, Write, too_busy, write},
};
use crate::{
    resource::{AnyObject, Kind, counted_by, json_patch::json_patch, merge::merge_patch, schema},
    server::{
        State, body,
        status::{Problem, unknown_path},
    },
    store::Part,
};

/// Where a spec may say how many there are to be.
const WANTED: [&str; 2] = ["spec.replicas", "spec.generate.replicas"];
/// Where a status says how many there are.
const THERE: &str = "/status/replicas";

/// Where a kind's objects say how many there are to be, if they do: a JSON pointer.
pub(super) fn wanted(kind: Kind) -> Option<String> {
    let path = WANTED.into_iter().find(|path| schema::has_scalar(kind, path))?;
    Some(format!("/{}", path.replace('.', "/")))
}

/// `GET /{plural}/{name}/scale`
pub(super) async fn get(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let (kind, wanted) = scalable(&plural, &uri).await?;
    let object = read::object(&state, kind, &name).await?;
    Ok(Json(scale(&object.to_json(), &wanted)).into_response())
}

/// `PUT` and `PATCH /{plural}/{name}/scale`
pub(super) async fn put(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (kind, wanted) = scalable(&plural, &parts.uri).await?;
    let options = WriteOptions::of(&Params::of(&parts.uri), &parts.headers, false)?;
    let caller = Caller::of(&parts.headers, &parts.extensions);
    let bytes = body::read(body, MAX_BODY, &*state.0.ambient.clock).await?;
    let sent = document::json(kind, &bytes, options.validation)?.value;
    let sort = content_type(&parts.headers);
    for _ in 0..TRIES {
        let old = read::object(&state, kind, &name).await?;
        let mut json = old.to_json();
        let mut new = scale(&json, &wanted);
        // Who sends no version writes whatever there is.
        new["metadata"]["resourceVersion"] = Value::Null;
        match sort {
            "" | "application/json" => new.clone_from(&sent),
            "application/merge-patch+json" => merge_patch(&mut new, &sent),
            "application/json-patch+json" => json_patch(&mut new, sent.clone())
                .map_err(|error| Problem::bad_request(error.to_string()))?,
            other => {
                let taken = "application/json, application/merge-patch+json or \
                             application/json-patch+json";
                return Err(Problem::unsupported(other, taken));
            }
        }
        take(kind, &name, &mut json, &wanted, &new)?;
        let change = Write {
            old: &old,
            wanted: typed(kind, json)?,
            part: Part::Desired,
            account: Account::Record(&options.manager),
            dry_run: options.dry_run,
            warnings: None,
        };
        if let Some(written) = write(&state, &caller, change).await? {
            return Ok(Json(scale(&AnyObject::to_json(&written), &wanted)).into_response());
        }
    }
    Err(too_busy("the object changes too fast; try again"))
}

async fn scalable(plural: &str, uri: &Uri) -> Result<(Kind, String), Problem> {
    let kind = kind(plural, uri).await?;
    match wanted(kind) {
        Some(wanted) => Ok((kind, wanted)),
        None => Err(unknown_path(uri.clone()).await),
    }
}

/// The scale of an object.
fn scale(object: &Value, wanted: &str) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {},
        "status": {"replicas": number(THERE).unwrap_or_default()},
    });
    if let Some(wanted) = number(wanted) {
        scale["spec"]["replicas"] = wanted.into();
    }
    scale
}

/// Takes over what a scale says.
fn take(
    kind: Kind,
    name: &str,
    object: &mut Value,
    wanted: &str,
    scale: &Value,
) -> Result<(), Problem> {
    let Some(place) = object.pointer_mut(wanted) else {
        let path = wanted.trim_start_matches('/').replace('/', ".");
        let instead = match counted_by(&object["spec"]["generate"]) {
            Some((field, of)) => format!("change {field}, which makes a member of {of}"),
            None => "change its spec instead".to_owned(),
        };
        let message =
            format!("{kind} {name} says no {path}, so there is nothing to scale; {instead}");
        return Err(Problem::bad_option(&path, &message));
    };
    let replicas = &scale["spec"]["replicas"];
    if replicas.as_u64().is_none() {
        let message = format!("must be a whole number from 0, and is {replicas}");
        return Err(Problem::bad_option("spec.replicas", &message));
    }
    place.clone_from(replicas);
    object["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_the_number_of_the_spec_and_of_the_status() {
        const WANTED: &str = "/spec/generate/replicas";
        let mut fleet = json!({
            "metadata": {"name": "f", "uid": "u", "resourceVersion": "7"},
            "spec": {"generate": {"replicas": 3}}, "status": {"replicas": 2},
        });
        let mut seen = scale(&fleet, WANTED);
        assert_eq!(
            (&seen["spec"]["replicas"], &seen["status"]["replicas"]),
            (&json!(3), &json!(2))
        );
        merge_patch(&mut seen, &json!({"spec": {"replicas": 5}}));
        assert!(take(Kind::Agent, "f", &mut fleet, WANTED, &seen).is_ok());
        assert_eq!(fleet["spec"]["generate"]["replicas"], 5);
        assert_eq!(
            fleet["metadata"]["resourceVersion"], "7",
            "it is written on top of what was read"
        );
        for bad in [
            json!({"spec": {}}),
            json!({"spec": {"replicas": -1}}),
            json!({"spec": {"replicas": "2"}}),
        ] {
            assert!(take(Kind::Agent, "f", &mut fleet, WANTED, &bad).is_err(), "{bad}");
        }
        let mut listed = json!({"spec": {"generate": {"list": []}}});
        assert!(take(Kind::Agent, "f", &mut listed, WANTED, &seen).is_err());
    }

    #[test]
    fn what_says_no_number_has_no_scale() {
        assert_eq!([Kind::Agent, Kind::Job, Kind::Sprite].map(wanted), [None, None, None]);
    }
}
