//! Making objects.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use super::{
    audit::{Caller, called},
    document,
    options::WriteOptions,
    owned,
    params::{Params, kind},
    write::{Edit, TRIES, check_request_id, editable, too_busy},
};
use crate::{
    resource::{AnyObject, Faults, Kind, admit, apply, sign},
    server::{State, status::Problem},
    store::{self, Op, Receipt, Transaction},
};

/// `POST /{plural}`: creates an object. A repeated `requestId` gets what the first one got. An
/// Agent, a Job or a Schedule that names no agent CLI gets the one that the server resolves; with `console`,
/// which says that a person types on this machine, a shell is the last resort.
pub(super) async fn create(
    Shared(state): Shared<State>,
    Path(plural): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let kind = kind(&plural, &parts.uri).await?;
    let params = Params::of(&parts.uri);
    let options = WriteOptions::of(&params, &parts.headers, false)?;
    let receipt_key = params.text("requestId").map(receipt_key).transpose()?;
    let caller = Caller::of(&parts.headers, &parts.extensions);
    let mut document = document::whole(&state, kind, &parts, body, &options).await?;
    fill(&state, kind, &mut document.value, params.flag("console"))?;
    let mut wanted = document::typed(kind, document.value)?;
    // Whose account it was before, it is not of this object.
    wanted.metadata_mut().managed_fields.clear();
    let now = state.0.ambient.clock.now();
    apply::record(None, &mut wanted, &options.manager, now);
    let warnings = (!options.refuses).then_some(&mut document.warnings);
    let new = New { caller: &caller, receipt_key, dry_run: options.dry_run, warnings };
    let (code, made) = make(&state, wanted, new).await?;
    Ok(document::warn((code, Json(made.to_json())).into_response(), &document.warnings))
}

/// How an object is to be made.
pub(super) struct New<'a> {
    pub(super) caller: &'a Caller,
    /// Under which key its effect is kept.
    pub(super) receipt_key: Option<String>,
    pub(super) dry_run: bool,
    /// As of a [`super::write::Write`].
    pub(super) warnings: Option<&'a mut Vec<String>>,
}

/// Makes an object.
pub(super) async fn make(
    state: &State,
    mut wanted: AnyObject,
    New { caller, receipt_key, dry_run, mut warnings }: New<'_>,
) -> Result<(StatusCode, AnyObject), Problem> {
    let kind = wanted.kind();
    sign(&mut wanted, None, &caller.signature());
    editable(state, Edit::Create(&wanted))?;
    let shared = &state.0;
    if let Some(key) = &receipt_key
        && let Some(receipt) = shared.store.receipt(key).await?
    {
        return first_effect(state, &receipt.effect).await;
    }
    let drawn = wanted.metadata().name.is_empty();
    for _ in 0..TRIES {
        let suffix = shared.ambient.ids.suffix();
        let object = admit::create(wanted.clone(), shared.ambient.ids.uid(), &suffix)
            .map_err(|faults| Problem::invalid(kind, &wanted.metadata().name, &faults))?;
        let name = object.metadata().name.clone();
        if dry_run {
            // In the order in which the store looks: what is there is there, whoever declares it.
            match shared.store.get(kind, &name).await? {
                Some(_) if drawn => continue,
                Some(_) => return Err(store::Error::AlreadyExists { kind, name }.into()),
                None => {}
            }
            owned::check(state, Edit::Create(&object), warnings.as_deref_mut()).await?;
            let mut object = object;
            object.metadata_mut().creation_timestamp = Some(shared.ambient.clock.now());
            object.metadata_mut().generation = 1;
            return Ok((StatusCode::CREATED, object));
        }
        let guard = owned::guard(Edit::Create(&object));
        let note = caller.did(state, format!("create {}", called(kind, &name)));
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
                return Ok((StatusCode::CREATED, created));
            }
            Err(store::Error::Duplicate { effect, .. }) => {
                return first_effect(state, &effect).await;
            }
            Err(store::Error::AlreadyExists { .. }) => {
                // The same request may have won a race against itself.
                if let Some(key) = &receipt_key
                    && let Some(receipt) = shared.store.receipt(key).await?
                {
                    return first_effect(state, &receipt.effect).await;
                }
                if !drawn {
                    return Err(store::Error::AlreadyExists { kind, name }.into());
                }
            }
            // It was not there, so what can be done is not what can be done with one that is.
            Err(store::Error::Owned { kind, name, source_name, file }) => {
                return Err(Problem::declared_and_gone(kind, &name, &source_name, &file));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_busy("no free name was found; choose another generateName, or a name"))
}

/// Fills in what a person need not say.
pub(super) fn fill(
    state: &State,
    kind: Kind,
    document: &mut Value,
    console: bool,
) -> Result<(), Problem> {
    let Some(defaults) = &state.0.extras.defaults else { return Ok(()) };
    let name = document::name_in(document).to_owned();
    defaults
        .fill_document(kind, document, console)
        .map_err(|fault| Problem::invalid(kind, &name, &Faults(vec![fault])))
}

/// As [`fill`], for what takes the place of an object that is there.
pub(super) fn fill_change(
    state: &State,
    kind: Kind,
    old: &AnyObject,
    document: &mut Value,
) -> Result<(), Problem> {
    filled_change(state, kind, old, document)
        .map_err(|faults| Problem::invalid(kind, &old.metadata().name, &faults))
}

/// As [`fill_change`], with what is wrong as it is.
pub(super) fn filled_change(
    state: &State,
    kind: Kind,
    old: &AnyObject,
    document: &mut Value,
) -> Result<(), Faults> {
    let Some(defaults) = &state.0.extras.defaults else { return Ok(()) };
    defaults.fill_change(kind, &old.to_json(), document).map_err(Faults::from)
}

fn receipt_key(id: &str) -> Result<String, Problem> {
    check_request_id(id)?;
    Ok(format!("api/{id}"))
}

/// What a request led to when it came first.
async fn first_effect(state: &State, effect: &str) -> Result<(StatusCode, AnyObject), Problem> {
    let found = match effect.split_once('/') {
        Some((plural, name)) => match Kind::find(plural) {
            Some(kind) => state.0.store.get(kind, name).await?,
            None => None,
        },
        None => None,
    };
    match found {
        Some(object) => Ok((StatusCode::OK, object)),
        None => Err(Problem::new(
            StatusCode::GONE,
            "Gone",
            format!("this request was taken before and led to {effect}, which is gone by now"),
        )),
    }
}
