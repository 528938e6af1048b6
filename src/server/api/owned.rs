//! What a Source owns is not changed past it: each creation, change and deletion that an editor asks
//! for commits only while no Source declares the object. Power fields and requests pass, whoever owns
//! it; the answer to all else names the three ways that there are.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    audit::{Caller, called},
    options::WriteOptions,
    params::{Params, kind},
    read,
    write::{Edit, TRIES, too_busy},
};
use crate::{
    resource::{
        AnyObject, Kind,
        overlay::{is_ownable, only_power_differs},
    },
    server::{
        State,
        status::{self, Problem},
    },
    store::{self, Op, Owned, Transaction},
};

/// The operation by which the transaction of an editor passes only while nobody declares the object;
/// none where that does not matter.
pub(super) fn guard(edit: Edit<'_>) -> Option<Op> {
    let object = match edit {
        Edit::Create(object) | Edit::Delete(object) => object,
        Edit::Change(old, new) if only_power_differs(old, new) => return None,
        Edit::Change(old, _) => old,
    };
    let (kind, name) = (object.kind(), object.metadata().name.clone());
    is_ownable(kind).then_some(Op::StillFree { kind, name })
}

/// Says now what the guard would say at the commit: refuses, or, where somebody wants to see what a
/// dry run would come to, warns.
///
/// # Errors
/// That a Source declares the object, and what can be done.
pub(super) async fn check(
    state: &State,
    edit: Edit<'_>,
    warnings: Option<&mut Vec<String>>,
) -> Result<(), Problem> {
    let Some(Op::StillFree { kind, name }) = guard(edit) else { return Ok(()) };
    let Some(row) = state.0.store.owned(kind, &name).await? else { return Ok(()) };
    let place = format!("{}:{}", row.file, row.line);
    match (edit, warnings) {
        (Edit::Delete(_), _) => Err(Problem::kept(kind, &name, &row.source, &place)),
        (Edit::Create(_), Some(warnings)) => {
            warnings.push(status::is_declared_already(kind, &name, &row.source, &place));
            Ok(())
        }
        (Edit::Create(_), None) => {
            Err(Problem::declared_and_gone(kind, &name, &row.source, &place))
        }
        (_, Some(warnings)) => {
            warnings.push(status::would_be_declared(kind, &name, &row.source, &place));
            Ok(())
        }
        (_, None) => Err(Problem::declared(kind, &name, &row.source, &place)),
    }
}

/// What is to be said of a change that a Fleet undoes, because it keeps its members as its template
/// says; nothing where it does not.
///
/// # Errors
/// The store's.
pub(super) async fn put_back(
    state: &State,
    old: &AnyObject,
    new: &AnyObject,
) -> Result<Option<String>, Problem> {
    let owner = old.metadata().controller().filter(|owner| owner.kind == Kind::Fleet);
    let Some(owner) = owner.filter(|_| !only_power_differs(old, new)) else { return Ok(None) };
    let fleet = state.0.store.get_by_uid(Kind::Fleet, &owner.uid).await?;
    let fleet = fleet.and_then(AnyObject::into_fleet);
    let keeps = fleet.is_some_and(|it| !it.spec.suspend && !it.metadata.is_deleting());
    Ok(keeps.then(|| {
        format!(
            "{}/{} is a member of fleet/{}, which puts it back as its template says; change the \
             template, or suspend the fleet",
            old.kind().singular(),
            old.metadata().name,
            owner.name
        )
    }))
}

/// `GET /sources/{name}/inventory`: what a Source owns, in the order of files and lines, each with its
/// file, its line, the Overrides on top, and whether it is on its way out.
pub(super) async fn inventory(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let source = read::object(&state, Kind::Source, &name).await?;
    let mut rows = state.0.store.inventory(&source.metadata().uid).await?;
    rows.sort_by(|a, b| (&a.file, a.line, &a.name).cmp(&(&b.file, b.line, &b.name)));
    let one = |row: &Owned| {
        let overrides: Vec<&str> = row.overrides.iter().map(|over| over.name.as_str()).collect();
        json!({
            "kind": row.kind, "name": row.name, "file": row.file, "line": row.line,
            "leaving": row.leaving, "overrides": overrides,
        })
    };
    Ok(Json(json!({"items": rows.iter().map(one).collect::<Vec<Value>>()})).into_response())
}

/// `GET /{plural}/{name}/source`: what declares an object: the Source, the file, what that says, and
/// the Overrides laid over it.
pub(super) async fn get(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let kind = kind(&plural, request.uri()).await?;
    let row = declared(&state, kind, &name).await?;
    let overrides: Vec<Value> = row
        .overrides
        .iter()
        .map(|over| json!({"name": over.name, "patch": over.patch, "expires": over.expires}))
        .collect();
    let base = json!({
        "spec": row.base.spec, "labels": row.base.labels, "annotations": row.base.annotations,
    });
    let declared = json!({
        "source": row.source, "file": row.file, "line": row.line, "base": base,
        "overrides": overrides,
    });
    Ok(Json(declared).into_response())
}

/// `POST /{plural}/{name}/release`: lets an object go: it stays as it is, and belongs to no Source. One
/// that is gone cannot bear the note that it was let go, so its Source would make it again: whoever asks
/// is told to take it out of the file.
pub(super) async fn release(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let kind = kind(&plural, request.uri()).await?;
    let caller = Caller::of(request.headers(), request.extensions());
    let manager = WriteOptions::of(&Params::of(request.uri()), request.headers(), false)?.manager;
    for _ in 0..TRIES {
        let row = declared(&state, kind, &name).await?;
        let Some(object) = state.0.store.get(kind, &name).await? else {
            let place = format!("{}:{}", row.file, row.line);
            return Err(Problem::declared_and_gone(kind, &name, &row.source, &place));
        };
        let note = caller.did(&state, format!("release {}", called(kind, &name)));
        let mut transaction = Transaction::at(state.0.ambient.clock.now());
        transaction.ops.push(Op::WrittenBy(manager.clone()));
        transaction.ops.extend(row.let_go(object));
        transaction.ops.push(note);
        let apply = state.0.store.apply(transaction);
        match state.0.ambient.step("api.release", apply).await {
            Ok(applied) => {
                let released = applied.objects.into_iter().flatten().next();
                let released = released.ok_or_else(|| Problem::not_found(kind, &name))?;
                return Ok(Json(released.to_json()).into_response());
            }
            Err(store::Error::Conflict { .. } | store::Error::Stale { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_busy("the object changes too fast; try again"))
}

async fn declared(state: &State, kind: Kind, name: &str) -> Result<Owned, Problem> {
    // A Job that has run and is gone is declared still.
    if let Some(row) = state.0.store.owned(kind, name).await? {
        return Ok(row);
    }
    read::object(state, kind, name).await?;
    Err(Problem::conflict(kind, name, "no source declares it; edit it directly"))
}
