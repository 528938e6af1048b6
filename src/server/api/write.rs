//! Writing: what editors want, checked whole, then committed or refused. A work directory lies
//! within the configured roots, as in chat: [`Defaults`](crate::resource::Defaults) says so.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    audit::{self, Caller, called},
    owned::{self, Doing},
    params::{Params, kind},
    read,
};
use crate::{
    resource::{
        AnyObject, FINALIZER_SPRITES, Fault, Faults, GROUP, Kind, admit, decode, json_doubles,
        merge::merge_patch, yaml,
    },
    server::{State, body, status::Problem},
    store::{self, Expect, Op, Part, Receipt, Transaction},
};

/// The largest document.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// The longest `requestId`.
const MAX_REQUEST_ID: usize = 200;
/// How often a write is tried that loses against others, or a name that is taken.
pub(super) const TRIES: usize = 16;

/// `POST /{plural}`: creates an object. A repeated `requestId` gets what the first one got. An
/// Agent or a Job that names no agent CLI gets the one that the server resolves; with `console`,
/// which says that a person types on this machine, a shell is the last resort.
pub(super) async fn create(
    Shared(state): Shared<State>,
    Path(plural): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let kind = kind(&plural, request.uri()).await?;
    let params = Params::of(request.uri());
    let dry_run = params.dry_run()?;
    let receipt_key = params.text("requestId").map(receipt_key).transpose()?;
    let console = params.flag("console");
    let caller = Caller::of(request.headers());
    let mut document = document(&state, request).await?;
    fill(&state, kind, &mut document, console)?;
    let wanted = typed(kind, document)?;
    within_roots(&state, None, &wanted)?;
    let shared = &state.0;
    if let Some(key) = &receipt_key
        && let Some(receipt) = shared.store.receipt(key).await?
    {
        return first_effect(&state, &receipt.effect).await;
    }
    let drawn = wanted.metadata().name.is_empty();
    for _ in 0..TRIES {
        let suffix = shared.ambient.ids.suffix();
        let object = admit::create(wanted.clone(), shared.ambient.ids.uid(), &suffix)
            .map_err(|faults| Problem::invalid(kind, &wanted.metadata().name, &faults))?;
        let name = object.metadata().name.clone();
        let guard = owned::guard(Doing::This(&object));
        if dry_run {
            owned::check(&state, guard.as_ref()).await?;
            let mut object = object;
            object.metadata_mut().creation_timestamp = Some(shared.ambient.clock.now());
            object.metadata_mut().generation = 1;
            match shared.store.get(kind, &name).await? {
                Some(_) if drawn => continue,
                Some(_) => return Err(store::Error::AlreadyExists { kind, name }.into()),
                None => return Ok((StatusCode::CREATED, Json(object.to_json())).into_response()),
            }
        }
        let note = caller.did(&state, format!("create {}", called(kind, &name)));
        let mut transaction =
            Transaction::at(shared.ambient.clock.now()).with(Op::Create(object)).with(note);
        transaction.ops.extend(guard);
        if let Some(key) = &receipt_key {
            let effect = format!("{}/{name}", kind.plural());
            transaction.ops.push(Op::Receipt(Receipt { key: key.clone(), effect }));
        }
        let apply = shared.store.apply(transaction);
        match shared.ambient.step("api.create", apply).await {
            Ok(applied) => {
                let created = applied.objects.into_iter().flatten().next();
                let created = created.ok_or_else(|| Problem::not_found(kind, &name))?;
                return Ok((StatusCode::CREATED, Json(created.to_json())).into_response());
            }
            Err(store::Error::Duplicate { effect, .. }) => {
                return first_effect(&state, &effect).await;
            }
            Err(store::Error::AlreadyExists { .. }) => {
                // The same request may have won a race against itself.
                if let Some(key) = &receipt_key
                    && let Some(receipt) = shared.store.receipt(key).await?
                {
                    return first_effect(&state, &receipt.effect).await;
                }
                if !drawn {
                    return Err(store::Error::AlreadyExists { kind, name }.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_busy("no free name was found; choose another generateName, or a name"))
}

/// Fills in what a person need not say.
fn fill(state: &State, kind: Kind, document: &mut Value, console: bool) -> Result<(), Problem> {
    let (Kind::Agent | Kind::Job, Some(defaults)) = (kind, &state.0.extras.defaults) else {
        return Ok(());
    };
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let name = name.to_owned();
    let Some(spec) = document.get_mut("spec") else { return Ok(()) };
    defaults
        .fill(spec, console)
        .map_err(|fault| Problem::invalid(kind, &name, &Faults(vec![fault])))
}

/// Whether an Agent or a Job works where agents may work. What stays where it was is not asked
/// for again, whatever the roots are by now.
fn within_roots(state: &State, old: Option<&AnyObject>, new: &AnyObject) -> Result<(), Problem> {
    let kind = new.kind();
    let (Kind::Agent | Kind::Job, Some(defaults)) = (kind, &state.0.extras.defaults) else {
        return Ok(());
    };
    let spec = &new.to_json()["spec"];
    let checked = match old {
        Some(old) => defaults.check_move(&old.to_json()["spec"], spec),
        None => defaults.check_place(spec),
    };
    checked.map_err(|fault| Problem::invalid(kind, &new.metadata().name, &fault.into()))
}

pub(super) fn too_busy(message: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
}

fn receipt_key(id: &str) -> Result<String, Problem> {
    check_request_id(id)?;
    Ok(format!("api/{id}"))
}

/// Whether a `requestId` is short enough to be kept.
pub(super) fn check_request_id(id: &str) -> Result<(), Problem> {
    if id.len() > MAX_REQUEST_ID {
        let message = format!("requestId is longer than {MAX_REQUEST_ID} bytes");
        return Err(Problem::bad_request(message));
    }
    Ok(())
}

/// What a request led to when it came first.
async fn first_effect(state: &State, effect: &str) -> Result<Response, Problem> {
    let found = match effect.split_once('/') {
        Some((plural, name)) => match Kind::find(plural) {
            Some(kind) => state.0.store.get(kind, name).await?,
            None => None,
        },
        None => None,
    };
    match found {
        Some(object) => Ok(Json(object.to_json()).into_response()),
        None => Err(Problem::new(
            StatusCode::GONE,
            "Gone",
            format!("this request was taken before and led to {effect}, which is gone by now"),
        )),
    }
}

/// `PUT /{plural}/{name}`: replaces spec, labels and annotations.
pub(super) async fn put(
    state: Shared<State>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    replace(state, path, request, Part::Desired).await
}

/// `PUT /{plural}/{name}/status`: replaces the status.
pub(super) async fn put_status(
    state: Shared<State>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    replace(state, path, request, Part::Status).await
}

async fn replace(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    request: Request,
    part: Part,
) -> Result<Response, Problem> {
    let kind = kind(&plural, request.uri()).await?;
    let dry_run = Params::of(request.uri()).dry_run()?;
    let caller = Caller::of(request.headers());
    let wanted = typed(kind, document(&state, request).await?)?;
    for _ in 0..TRIES {
        let old = read::object(&state, kind, &name).await?;
        if let Some(written) = write(&state, &caller, &old, wanted.clone(), part, dry_run).await? {
            return Ok(Json(written.to_json()).into_response());
        }
    }
    Err(too_busy("the object changes too fast; try again"))
}

/// `PATCH /{plural}/{name}`: a JSON Merge Patch on spec, labels and annotations.
pub(super) async fn patch(
    state: Shared<State>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    merge(state, path, request, Part::Desired).await
}

/// `PATCH /{plural}/{name}/status`: a JSON Merge Patch on the status.
pub(super) async fn patch_status(
    state: Shared<State>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    merge(state, path, request, Part::Status).await
}

async fn merge(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    request: Request,
    part: Part,
) -> Result<Response, Problem> {
    let kind = kind(&plural, request.uri()).await?;
    let dry_run = Params::of(request.uri()).dry_run()?;
    let sort = content_type(request.headers());
    if sort != "application/merge-patch+json" {
        let message = format!(
            "a patch of the type `{sort}` is not supported; send application/merge-patch+json"
        );
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        ));
    }
    let caller = Caller::of(request.headers());
    let patch = document(&state, request).await?;
    if !patch.is_object() {
        return Err(Problem::bad_request("a merge patch is a JSON object"));
    }
    let pinned = patch.pointer("/metadata/resourceVersion").is_some();
    for _ in 0..TRIES {
        let old = read::object(&state, kind, &name).await?;
        let mut json = old.to_json();
        merge_patch(&mut json, &patch);
        if let (false, Some(metadata)) = (pinned, json.get_mut("metadata")) {
            metadata["resourceVersion"] = Value::Null;
        }
        let wanted = typed(kind, json)?;
        if let Some(written) = write(&state, &caller, &old, wanted, part, dry_run).await? {
            return Ok(Json(written.to_json()).into_response());
        }
    }
    Err(too_busy("the object changes too fast; try again"))
}

/// Writes one part of an object on top of what was read. Nothing, if somebody else wrote
/// meanwhile and the client did not say on top of which version.
async fn write(
    state: &State,
    caller: &Caller,
    old: &AnyObject,
    mut wanted: AnyObject,
    part: Part,
    dry_run: bool,
) -> Result<Option<AnyObject>, Problem> {
    let (kind, name) = (old.kind(), old.metadata().name.clone());
    let pinned = !wanted.metadata().resource_version.is_empty();
    if pinned && wanted.metadata().resource_version != old.metadata().resource_version {
        return Err(store::Error::Conflict { kind, name }.into());
    }
    let invalid = |faults: &Faults| Problem::invalid(kind, &name, faults);
    controllers_own(old, &wanted).map_err(|faults| invalid(&faults))?;
    if part == Part::Desired {
        admit::update(old, &wanted).map_err(|faults| invalid(&faults))?;
        within_roots(state, Some(old), &wanted)?;
    }
    let mut merged = old.clone();
    match part {
        Part::Desired => {
            let metadata = merged.metadata_mut();
            metadata.labels = std::mem::take(&mut wanted.metadata_mut().labels);
            metadata.annotations = std::mem::take(&mut wanted.metadata_mut().annotations);
            take_spec(&mut merged, wanted);
        }
        Part::Status | Part::Finalizers => take_status(&mut merged, wanted),
    }
    let guard = match part {
        Part::Desired => owned::guard(Doing::Change(old, &merged)),
        Part::Status | Part::Finalizers => None,
    };
    if merged == *old || dry_run {
        owned::check(state, guard.as_ref()).await?;
        return Ok(Some(merged));
    }
    // A status is what was seen, and no wish.
    let note = (part == Part::Desired).then(|| caller.did(state, audit::change(old, &merged)));
    let op = Op::Write { object: merged, part, expect: Expect::SameVersion };
    let mut transaction = Transaction::at(state.0.ambient.clock.now()).with(op);
    transaction.ops.extend(note);
    transaction.ops.extend(guard);
    let apply = state.0.store.apply(transaction);
    match state.0.ambient.step("api.write", apply).await {
        Ok(applied) => {
            let written = applied.objects.into_iter().flatten().next();
            Ok(Some(written.ok_or_else(|| Problem::not_found(kind, &name))?))
        }
        Err(store::Error::Conflict { .. }) if !pinned => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Finalizers and owners belong to controllers. A document may leave them out or repeat them.
fn controllers_own(old: &AnyObject, wanted: &AnyObject) -> Result<(), Faults> {
    let (old, wanted) = (old.metadata(), wanted.metadata());
    let mut faults = Vec::new();
    if !wanted.finalizers.is_empty() && wanted.finalizers != old.finalizers {
        let message = format!(
            "belong to controllers, which take them away when they have cleaned up; leave them \
             out ({FINALIZER_SPRITES} and the like stay)"
        );
        faults.push(Fault::new("metadata.finalizers", message));
    }
    if !wanted.owner_references.is_empty() && wanted.owner_references != old.owner_references {
        let message = "belong to controllers; leave them out";
        faults.push(Fault::new("metadata.ownerReferences", message));
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

fn take_spec(into: &mut AnyObject, from: AnyObject) {
    match (into, from) {
        (AnyObject::Agent(into), AnyObject::Agent(from)) => into.spec = from.spec,
        (AnyObject::Job(into), AnyObject::Job(from)) => into.spec = from.spec,
        (AnyObject::Fleet(into), AnyObject::Fleet(from)) => into.spec = from.spec,
        (AnyObject::Schedule(into), AnyObject::Schedule(from)) => into.spec = from.spec,
        (AnyObject::Source(into), AnyObject::Source(from)) => into.spec = from.spec,
        (AnyObject::Override(into), AnyObject::Override(from)) => into.spec = from.spec,
        (AnyObject::Sprite(into), AnyObject::Sprite(from)) => into.spec = from.spec,
        // Both are of the path's kind.
        _ => {}
    }
}

fn take_status(into: &mut AnyObject, from: AnyObject) {
    match (into, from) {
        (AnyObject::Agent(into), AnyObject::Agent(from)) => into.status = from.status,
        (AnyObject::Job(into), AnyObject::Job(from)) => into.status = from.status,
        (AnyObject::Fleet(into), AnyObject::Fleet(from)) => into.status = from.status,
        (AnyObject::Schedule(into), AnyObject::Schedule(from)) => into.status = from.status,
        (AnyObject::Source(into), AnyObject::Source(from)) => into.status = from.status,
        (AnyObject::Override(into), AnyObject::Override(from)) => into.status = from.status,
        (AnyObject::Sprite(into), AnyObject::Sprite(from)) => into.status = from.status,
        // Both are of the path's kind.
        _ => {}
    }
}

/// `DELETE /{plural}/{name}`: asks for the object's end. It goes when its finalizers are gone.
pub(super) async fn delete(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let kind = kind(&plural, request.uri()).await?;
    let mut dry_run = Params::of(request.uri()).dry_run()?;
    let caller = Caller::of(request.headers());
    let bytes = body::read(request.into_body(), MAX_BODY, &*state.0.ambient.clock).await?;
    let options: Value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| Problem::bad_request(format!("the options are no JSON: {error}")))?
    };
    dry_run |= options["dryRun"].as_array().is_some_and(|runs| runs.contains(&json!("All")));
    let condition = |name: &str| {
        options["preconditions"][name].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let (uid, resource_version) = (condition("uid"), condition("resourceVersion"));

    let old = read::object(&state, kind, &name).await?;
    let differs =
        |asked: &Option<String>, is: &str| asked.as_ref().is_some_and(|asked| asked != is);
    if differs(&uid, &old.metadata().uid)
        || differs(&resource_version, &old.metadata().resource_version)
    {
        return Err(Problem::conflict(
            kind,
            &name,
            "it is not the one that the preconditions name; read it again",
        ));
    }
    let guard = owned::guard(Doing::This(&old));
    if dry_run {
        owned::check(&state, guard.as_ref()).await?;
        return Ok(Json(old.to_json()).into_response());
    }
    let note = caller.did(&state, format!("delete {}", called(kind, &name)));
    let op = Op::Delete { kind, name: name.clone(), uid, resource_version };
    let mut transaction = Transaction::at(state.0.ambient.clock.now()).with(op).with(note);
    transaction.ops.extend(guard);
    let apply = state.0.store.apply(transaction);
    let applied = state.0.ambient.step("api.delete", apply).await.map_err(Problem::from)?;
    Ok(match applied.objects.into_iter().next().flatten() {
        Some(waiting) => Json(waiting.to_json()).into_response(),
        None => Json(json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {
                "name": name, "group": GROUP, "kind": kind.plural(), "uid": old.metadata().uid,
            },
        }))
        .into_response(),
    })
}

fn content_type(headers: &HeaderMap) -> &str {
    let whole = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    whole.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// Reads the document of a request: JSON, or YAML where the request says so.
async fn document(state: &State, request: Request) -> Result<Value, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(body, MAX_BODY, &*state.0.ambient.clock).await?;
    if content_type(&parts.headers).ends_with("yaml") {
        return from_yaml(&parts.uri, &bytes);
    }
    let json = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))?;
    json_doubles(&bytes).map_err(|faults| {
        let plural = parts.uri.path().rsplit('/').find_map(Kind::find);
        Problem::invalid(plural.unwrap_or(Kind::Job), "", &faults)
    })?;
    Ok(json)
}

fn from_yaml(uri: &Uri, bytes: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no UTF-8: {error}")))?;
    let mut objects = yaml::read(text, None).map_err(|faults| {
        let plural = uri.path().rsplit('/').find_map(Kind::find);
        Problem::invalid(plural.unwrap_or(Kind::Job), "", &faults)
    })?;
    match objects.pop() {
        Some(object) if objects.is_empty() => Ok(object.to_json()),
        _ => Err(Problem::bad_request("the body must hold exactly one document")),
    }
}

/// Reads a document strictly; it must be of the path's kind.
fn typed(kind: Kind, document: Value) -> Result<AnyObject, Problem> {
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let name = name.to_owned();
    let object = decode(document).map_err(|faults| Problem::invalid(kind, &name, &faults))?;
    if object.kind() != kind {
        let found = object.kind();
        return Err(Problem::bad_request(format!(
            "the document is of the kind {found}, and the address takes {kind}"
        )));
    }
    Ok(object)
}
