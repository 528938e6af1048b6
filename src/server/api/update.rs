//! Changing objects: whole, by patch, or by applying a configuration.
//!
//! A strategic merge patch is refused with 415, as Kubernetes refuses it for the kinds that are
//! not its own; kubectl then makes a merge patch.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::{HeaderMap, StatusCode, request},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use super::{
    audit::Caller,
    create::{self, New},
    document::{self, Document, MAX_BODY, content_type, typed, warn},
    options::{Validation, WriteOptions},
    owned,
    params::{Params, kind},
    read,
    write::{Account, TRIES, Write, too_busy, write},
};
use crate::{
    resource::{AnyObject, Kind, apply, json_patch, merge::merge_patch, unknown::drop_unknown},
    server::{State, body, status::Problem},
    store::Part,
};

/// The kinds of patches that are taken.
const PATCHES: &str = "application/merge-patch+json, application/json-patch+json or \
                       application/apply-patch+yaml";

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
    Path(which): Path<(String, String)>,
    request: Request,
    part: Part,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let job = Changing::of(&parts, which, part, false).await?;
    let Document { value, mut warnings } =
        document::whole(&state, job.kind, &parts, body, &job.options).await?;
    for _ in 0..TRIES {
        let old = read::object(&state, job.kind, &job.name).await?;
        let mut value = value.clone();
        if part == Part::Desired {
            create::fill_change(&state, job.kind, &old, &mut value)?;
        }
        let change = Write {
            old: &old,
            wanted: typed(job.kind, value)?,
            part,
            account: Account::Record(&job.options.manager),
            dry_run: job.options.dry_run,
            warnings: (!job.options.refuses).then_some(&mut warnings),
        };
        if let Some(written) = write(&state, &job.caller, change).await? {
            warnings.extend(owned::put_back(&state, &old, &written).await.unwrap_or_default());
            return Ok(warn(Json(written.to_json()).into_response(), &warnings));
        }
    }
    Err(too_busy("the object changes too fast; try again"))
}

/// `PATCH /{plural}/{name}`: a patch on spec, labels and annotations.
pub(super) async fn patch(
    state: Shared<State>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    patched(state, path, request, Part::Desired).await
}

/// `PATCH /{plural}/{name}/status`: a patch on the status.
pub(super) async fn patch_status(
    state: Shared<State>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    patched(state, path, request, Part::Status).await
}

async fn patched(
    Shared(state): Shared<State>,
    Path(which): Path<(String, String)>,
    request: Request,
    part: Part,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let sort = Sort::of(&parts.headers, part);
    // Which kind it is comes first: of one that there is not, no sort is right.
    let job = Changing::of(&parts, which, part, matches!(sort, Ok(Sort::Apply))).await?;
    let sort = sort?;
    let bytes = body::read(body, MAX_BODY, &*state.0.ambient.clock).await?;
    let patch = match sort {
        Sort::Apply => document::part(job.kind, &bytes, job.options.validation)?,
        Sort::Merge | Sort::Json => document::json(job.kind, &bytes, job.options.validation)?,
    };
    if sort == Sort::Merge && !patch.value.is_object() {
        return Err(Problem::bad_request("a merge patch is a JSON object"));
    }
    match sort {
        Sort::Apply => job.apply(&state, patch).await,
        Sort::Merge | Sort::Json => job.patch(&state, sort, patch).await,
    }
}

/// What a patch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
    /// A configuration that is applied.
    Apply,
}

impl Sort {
    fn of(headers: &HeaderMap, part: Part) -> Result<Self, Problem> {
        match content_type(headers) {
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/json-patch+json" => Ok(Self::Json),
            "application/apply-patch+yaml" if part == Part::Status => Err(Problem::unsupported(
                "application/apply-patch+yaml",
                "application/merge-patch+json or application/json-patch+json; a status is what \
                 was seen, and nobody's wish",
            )),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(Problem::unsupported(other, PATCHES)),
        }
    }
}

/// A change that is under way: of which object, of what part of it, whose, and how.
struct Changing {
    kind: Kind,
    name: String,
    part: Part,
    caller: Caller,
    options: WriteOptions,
}

impl Changing {
    /// What the head of a request says.
    async fn of(
        parts: &request::Parts,
        (plural, name): (String, String),
        part: Part,
        apply: bool,
    ) -> Result<Self, Problem> {
        let kind = kind(&plural, &parts.uri).await?;
        let options = WriteOptions::of(&Params::of(&parts.uri), &parts.headers, apply)?;
        let caller = Caller::of(&parts.headers, &parts.extensions);
        Ok(Self { kind, name, part, caller, options })
    }

    async fn patch(self, state: &State, sort: Sort, patch: Document) -> Result<Response, Problem> {
        let pinned = pins(sort, &patch.value);
        let mut warnings = patch.warnings;
        for _ in 0..TRIES {
            let old = read::object(state, self.kind, &self.name).await?;
            let mut json = old.to_json();
            match sort {
                Sort::Json => json_patch::json_patch(&mut json, patch.value.clone())
                    .map_err(|error| self.bad_patch(&error))?,
                Sort::Merge | Sort::Apply => merge_patch(&mut json, &patch.value),
            }
            if let (false, Some(metadata)) =
                (pinned, json.get_mut("metadata").and_then(Value::as_object_mut))
            {
                metadata.insert("resourceVersion".to_owned(), Value::Null);
            }
            if self.options.validation != Validation::Strict {
                let dropped = drop_unknown(self.kind, &mut json);
                if self.options.validation == Validation::Warn && warnings.is_empty() {
                    warnings.extend(dropped.iter().map(|it| format!("unknown field \"{it}\"")));
                }
            }
            if self.part == Part::Desired {
                // What a patch takes away is the server's to say again.
                create::fill_change(state, self.kind, &old, &mut json)?;
            }
            let wanted = typed(self.kind, json)?;
            let change = Write {
                old: &old,
                wanted,
                part: self.part,
                account: Account::Record(&self.options.manager),
                dry_run: self.options.dry_run,
                warnings: (!self.options.refuses).then_some(&mut warnings),
            };
            if let Some(written) = write(state, &self.caller, change).await? {
                warnings.extend(owned::put_back(state, &old, &written).await.unwrap_or_default());
                return Ok(warn(Json(written.to_json()).into_response(), &warnings));
            }
        }
        Err(too_busy("the object changes too fast; try again"))
    }

    fn bad_patch(&self, error: &json_patch::Error) -> Problem {
        let message = error.to_string();
        match error {
            json_patch::Error::NoPatch(_) => Problem::bad_request(message),
            json_patch::Error::TooMany(_)
            | json_patch::Error::TooLarge
            | json_patch::Error::TooMuch
            | json_patch::Error::TooDeep => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
            }
            json_patch::Error::DoesNotFit { .. } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
                    .about(self.kind, &self.name)
            }
        }
    }

    /// Applies a configuration: to what is there, or as a new object.
    async fn apply(self, state: &State, config: Document) -> Result<Response, Problem> {
        let Document { value: mut config, mut warnings } = config;
        self.check_config(&config)?;
        let now = state.0.ambient.clock.now();
        for _ in 0..TRIES {
            let Some(old) = state.0.store.get(self.kind, &self.name).await? else {
                if let Some(uid) = said(&config, "uid") {
                    let why = format!("it is not there, and the uid {uid} is of one that was");
                    return Err(Problem::conflict(self.kind, &self.name, &why));
                }
                config["metadata"]["name"] = self.name.clone().into();
                let made = self.first(state, &config, &mut warnings).await;
                match made {
                    // Somebody else made it first, so it is there to be applied to.
                    Err(problem) if problem.is_already_exists() => continue,
                    made => return Ok(warn(made?, &warnings)),
                }
            };
            let manager = &self.options.manager;
            let force = self.options.force;
            let applied = apply::apply_filled(&old, &config, manager, force, now, |left| {
                // What is given up is the server's to say again, as with a patch.
                create::filled_change(state, self.kind, &old, left)
            });
            let mut wanted = applied.map_err(|error| match error {
                apply::Error::Conflicts(all) => {
                    let message = apply::Error::Conflicts(all.clone()).to_string();
                    Problem::held_by_others(self.kind, &self.name, &message, &all)
                }
                apply::Error::Faults(faults) => Problem::invalid(self.kind, &self.name, &faults),
            })?;
            self.pin(&mut wanted, &config);
            let change = Write {
                old: &old,
                wanted,
                part: Part::Desired,
                account: Account::Kept,
                dry_run: self.options.dry_run,
                warnings: (!self.options.refuses).then_some(&mut warnings),
            };
            if let Some(written) = write(state, &self.caller, change).await? {
                warnings.extend(owned::put_back(state, &old, &written).await.unwrap_or_default());
                return Ok(warn(Json(written.to_json()).into_response(), &warnings));
            }
        }
        Err(too_busy("the object changes too fast; try again"))
    }

    /// Makes the object that a configuration describes.
    async fn first(
        &self,
        state: &State,
        config: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Response, Problem> {
        let now = state.0.ambient.clock.now();
        let mut filled = config.clone();
        create::fill(state, self.kind, &mut filled, false)?;
        let mut wanted = typed(self.kind, filled)?;
        // What was filled in is nobody's wish.
        wanted.metadata_mut().managed_fields =
            apply::first(self.kind, config, &self.options.manager, now);
        let new = New {
            caller: &self.caller,
            receipt_key: None,
            dry_run: self.options.dry_run,
            warnings: (!self.options.refuses).then_some(warnings),
        };
        let (code, made) = create::make(state, wanted, new).await?;
        Ok((code, Json(made.to_json())).into_response())
    }

    /// Whether a configuration is one of this object.
    fn check_config(&self, config: &Value) -> Result<(), Problem> {
        let expected = [("apiVersion", crate::resource::API_VERSION), ("kind", self.kind.name())];
        for (member, expected) in expected {
            if config[member] != expected {
                let found = &config[member];
                return Err(Problem::bad_request(format!(
                    "the {member} of the configuration must be {expected}, and is {found}"
                )));
            }
        }
        if let Some(name) = said(config, "name").filter(|name| *name != self.name) {
            return Err(Problem::bad_request(format!(
                "the configuration is of `{name}`, and the address is of `{}`",
                self.name
            )));
        }
        if !config["metadata"]["managedFields"].is_null() {
            let message = "metadata.managedFields must be left out of what is applied";
            return Err(Problem::bad_request(message));
        }
        Ok(())
    }

    /// Takes over which version and which object the configuration is meant for.
    fn pin(&self, wanted: &mut AnyObject, config: &Value) {
        let metadata = wanted.metadata_mut();
        metadata.resource_version = said(config, "resourceVersion").unwrap_or_default().to_owned();
        if let Some(uid) = said(config, "uid") {
            uid.clone_into(&mut metadata.uid);
        }
    }
}

/// A text of a document's metadata, if it is there.
fn said<'v>(document: &'v Value, member: &str) -> Option<&'v str> {
    document["metadata"][member].as_str().filter(|text| !text.is_empty())
}

/// Whether a patch says on top of which version it is to be made.
fn pins(sort: Sort, patch: &Value) -> bool {
    const VERSION: &str = "/metadata/resourceVersion";
    match sort {
        Sort::Json => patch.as_array().into_iter().flatten().any(|operation| {
            operation["path"] == VERSION
                || operation["path"] == "/metadata"
                || operation["path"] == ""
        }),
        Sort::Merge | Sort::Apply => patch.pointer(VERSION).is_some_and(|it| !it.is_null()),
    }
}
