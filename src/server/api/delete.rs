//! Deleting objects: one, or all that are chosen.

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State as Shared},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    audit::{Caller, called},
    document::{MAX_BODY, content_type},
    list, owned,
    params::{Params, kind},
    read,
    write::{Edit, editable},
};
use crate::{
    resource::{API_VERSION, AnyObject, GROUP, Kind, yaml},
    server::{State, body, status::Problem},
    store::{Error, Op, Transaction},
};

/// How a deletion is to be done: `DeleteOptions`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Options {
    api_version: Option<String>,
    kind: Option<String>,
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
    ignore_store_read_error_with_cluster_breaking_potential: Option<bool>,
}

/// Which object is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// `DELETE /{plural}/{name}`: asks for the object's end. It goes when its finalizers are gone.
pub(super) async fn delete(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let kind = kind(&plural, &parts.uri).await?;
    let caller = Caller::of(&parts.headers, &parts.extensions);
    let params = Params::of(&parts.uri);
    let options = Options::read(&state, &params, content_type(&parts.headers), body).await?;
    let old = read::object(&state, kind, &name).await?;
    let preconditions = options.preconditions.as_ref();
    let condition = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let uid = condition(preconditions.and_then(|it| it.uid.as_ref()));
    let resource_version = condition(preconditions.and_then(|it| it.resource_version.as_ref()));
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
    editable(&state, Edit::Delete(&old))?;
    owned::check(&state, Edit::Delete(&old), None).await?;
    if options.is_dry() {
        return Ok(Json(old.to_json()).into_response());
    }
    Ok(match end(&state, &caller, &old, uid, resource_version).await? {
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

/// `DELETE /{plural}`: asks for the end of all objects that the selectors choose; answers with
/// what they were. Those that go meanwhile by themselves are no failure.
pub(super) async fn delete_collection(
    Shared(state): Shared<State>,
    Path(plural): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let kind = kind(&plural, &parts.uri).await?;
    let caller = Caller::of(&parts.headers, &parts.extensions);
    let params = Params::of(&parts.uri);
    let options = Options::read(&state, &params, content_type(&parts.headers), body).await?;
    if options.preconditions.is_some() {
        let message = "preconditions name one object, and many are to go; delete it by its name";
        return Err(Problem::bad_request(message));
    }
    let page = list::page(&state, kind, &params).await?;
    for object in &page.items {
        editable(&state, Edit::Delete(object))?;
        owned::check(&state, Edit::Delete(object), None).await?;
    }
    let mut ended = Vec::new();
    for object in page.items {
        if options.is_dry() {
            ended.push(object.to_json());
            continue;
        }
        // Only the one that was chosen, and not another of its name.
        let uid = Some(object.metadata().uid.clone());
        match end(&state, &caller, &object, uid, None).await {
            Ok(waiting) => ended.push(waiting.unwrap_or(object).to_json()),
            Err(Error::NotFound { .. } | Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = page.next {
        metadata["continue"] = token.into();
    }
    let list = json!({
        "kind": format!("{kind}List"),
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "items": ended,
    });
    Ok(Json(list).into_response())
}

/// Asks for an object's end: the object, while its finalizers hold it.
async fn end(
    state: &State,
    caller: &Caller,
    old: &AnyObject,
    uid: Option<String>,
    resource_version: Option<String>,
) -> Result<Option<AnyObject>, Error> {
    let (kind, name): (Kind, _) = (old.kind(), old.metadata().name.clone());
    let note = caller.did(state, format!("delete {}", called(kind, &name)));
    let op = Op::Delete { kind, name, uid, resource_version };
    let mut transaction = Transaction::at(state.0.ambient.clock.now()).with(op).with(note);
    transaction.ops.extend(owned::guard(Edit::Delete(old)));
    let apply = state.0.store.apply(transaction);
    let applied = state.0.ambient.step("api.delete", apply).await?;
    Ok(applied.objects.into_iter().next().flatten())
}

impl Options {
    /// The options of a request: those of its body, and those of its address.
    async fn read(state: &State, params: &Params, sort: &str, body: Body) -> Result<Self, Problem> {
        let bytes = body::read(body, MAX_BODY, &*state.0.ambient.clock).await?;
        let mut options = if bytes.iter().all(u8::is_ascii_whitespace) {
            Self::default()
        } else if sort.ends_with("yaml") {
            let text = String::from_utf8_lossy(&bytes);
            Self::said(yaml::one(&text).map_err(|faults| bad(&faults))?)?
        } else {
            Self::said(serde_json::from_slice(&bytes).map_err(|error| bad(&error))?)?
        };
        if params.dry_run()? {
            options.dry_run = Some(vec!["All".to_owned()]);
        }
        if let Some(policy) = params.text("propagationPolicy") {
            options.propagation_policy = Some(policy.to_owned());
        }
        if let Some(seconds) = params.number("gracePeriodSeconds")? {
            options.grace_period_seconds = i64::try_from(seconds).ok();
        }
        if params.text("orphanDependents").is_some() {
            options.orphan_dependents = Some(params.flag("orphanDependents"));
        }
        options.check()?;
        Ok(options)
    }

    /// The options of a body. A list is none, although serde would take it for their values.
    fn said(body: Value) -> Result<Self, Problem> {
        if !body.is_object() {
            return Err(bad(&"they are an object"));
        }
        serde_json::from_value(body).map_err(|error| bad(&error))
    }

    /// Sprites never outlive their owner, so whoever wants them to is told before anything goes.
    /// A grace period is taken and has no meaning: a sprite is asked to end, and is given its time.
    fn check(&self) -> Result<(), Problem> {
        if self.grace_period_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(Problem::bad_option("gracePeriodSeconds", "must not be negative"));
        }
        let policy = self.propagation_policy.as_deref();
        match policy {
            None | Some("" | "Background" | "Foreground") => {}
            Some("Orphan") => return Err(orphan()),
            Some(other) => {
                let message = format!("is `{other}`, and can be Background or Foreground");
                return Err(Problem::bad_option("propagationPolicy", &message));
            }
        }
        if self.orphan_dependents == Some(true) {
            return Err(orphan());
        }
        for run in self.dry_run.iter().flatten() {
            if run != "All" {
                let message = format!("is `{run}`, and can only be All");
                return Err(Problem::bad_option("dryRun", &message));
            }
        }
        Ok(())
    }

    fn is_dry(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|runs| !runs.is_empty())
    }
}

fn orphan() -> Problem {
    Problem::bad_option(
        "propagationPolicy",
        "Orphan is not supported: what an object owns goes with it; say Background or Foreground",
    )
}

fn bad(error: &dyn std::fmt::Display) -> Problem {
    Problem::bad_request(format!("the options are no DeleteOptions: {error}"))
}
