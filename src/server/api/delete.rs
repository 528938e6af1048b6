//! Deleting objects: one, or all that are chosen.
//!
//! What an object owns goes with it. Of Fleets and Schedules it stays where somebody asks for that
//! (`propagationPolicy: Orphan`): then the annotation by which their controllers let it go is written
//! in the transaction that asks for the end, so that no crash can come between.

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
    list,
    options::program,
    owned,
    params::{Params, kind},
    read,
    write::{Edit, TRIES, editable},
};
use crate::{
    resource::{API_VERSION, AnyObject, GROUP, Kind, ORPHAN, yaml},
    server::{State, body, status::Problem},
    store::{Error, Expect, Op, Part, Transaction},
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
    options.check_orphans(kind)?;
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
    let asks =
        Asks { caller: &caller, orphans: options.orphans(), manager: program(&parts.headers) };
    let ended = asks.end_of(&state, old.clone(), uid, resource_version).await?;
    Ok(match ended {
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
    options.check_orphans(kind)?;
    let page = list::page(&state, kind, &params).await?;
    for object in &page.items {
        editable(&state, Edit::Delete(object))?;
        owned::check(&state, Edit::Delete(object), None).await?;
    }
    let asks =
        Asks { caller: &caller, orphans: options.orphans(), manager: program(&parts.headers) };
    let mut ended = Vec::new();
    for object in page.items {
        if options.is_dry() {
            ended.push(object.to_json());
            continue;
        }
        // Only the one that was chosen, and not another of its name.
        let uid = Some(object.metadata().uid.clone());
        match asks.end_of(&state, object.clone(), uid, None).await {
            Ok(waiting) => ended.push(waiting.unwrap_or(object).to_json()),
            Err(Error::NotFound { .. }) => {}
            Err(Error::Conflict { .. }) => still_there(&state, &object).await?,
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

/// Says that an object was not asked to end, if it is the one that was chosen.
///
/// # Errors
/// That it stands, and what can be done; those of the store.
async fn still_there(state: &State, chosen: &AnyObject) -> Result<(), Problem> {
    let (kind, metadata) = (chosen.kind(), chosen.metadata());
    match state.0.store.get(kind, &metadata.name).await? {
        Some(found) if found.metadata().uid == metadata.uid => {
            let why = "it changes too fast to be told to leave what it made; delete it again, and \
                       those behind it";
            Err(Problem::conflict(kind, &metadata.name, why))
        }
        _ => Ok(()),
    }
}

/// Who asks for ends, and how.
struct Asks<'a> {
    caller: &'a Caller,
    /// Whether what the objects have made stays.
    orphans: bool,
    /// The program that asks, in the account of fields.
    manager: String,
}

impl Asks<'_> {
    /// Asks for an object's end, and again where it was written meanwhile and nobody said which version
    /// is meant: the new one is as well.
    ///
    /// # Errors
    /// Those of the store: [`Error::Conflict`] also where the name is another's by now, and where it is
    /// written too often.
    async fn end_of(
        &self,
        state: &State,
        mut old: AnyObject,
        uid: Option<String>,
        resource_version: Option<String>,
    ) -> Result<Option<AnyObject>, Error> {
        let (kind, name) = (old.kind(), old.metadata().name.clone());
        let conflict = || Error::Conflict { kind, name: name.clone() };
        for _ in 0..TRIES {
            match self.end(state, &old, uid.clone(), resource_version.clone()).await {
                Err(Error::Conflict { .. }) if resource_version.is_none() && self.orphans => {}
                ended => return ended,
            }
            let found = state.0.store.get(kind, &name).await?;
            old = found.ok_or_else(|| Error::NotFound { kind, name: name.clone() })?;
            if uid.as_ref().is_some_and(|uid| *uid != old.metadata().uid) {
                return Err(conflict());
            }
        }
        Err(conflict())
    }

    /// Asks for an object's end: the object, while its finalizers hold it.
    async fn end(
        &self,
        state: &State,
        old: &AnyObject,
        uid: Option<String>,
        resource_version: Option<String>,
    ) -> Result<Option<AnyObject>, Error> {
        let (kind, name): (Kind, _) = (old.kind(), old.metadata().name.clone());
        let note = self.caller.did(state, format!("delete {}", called(kind, &name)));
        let mut transaction = Transaction::at(state.0.ambient.clock.now());
        if self.orphans {
            let mut object = old.clone();
            object.metadata_mut().annotations.insert(ORPHAN.to_owned(), "true".to_owned());
            let (part, expect) = (Part::Desired, Expect::SameVersion);
            transaction.ops.push(Op::WrittenBy(self.manager.clone()));
            transaction.ops.push(Op::Write { object, part, expect });
        }
        if !old.metadata().is_deleting() {
            transaction.ops.push(self.told(old));
        }
        let op = Op::Delete { kind, name, uid, resource_version };
        let mut transaction = transaction.with(op).with(note);
        transaction.ops.extend(owned::guard(Edit::Delete(old)));
        let apply = state.0.store.apply(transaction);
        let applied = state.0.ambient.step("api.delete", apply).await?;
        Ok(applied.objects.into_iter().next_back().flatten())
    }
}

impl Asks<'_> {
    /// What the object's events say of it: who asked, which is what is looked for there.
    fn told(&self, old: &AnyObject) -> Op {
        let metadata = old.metadata();
        let stays = if self.orphans { "; what it has made stays" } else { "" };
        Op::Event {
            kind: old.kind(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            warning: false,
            reason: "Deleted".to_owned(),
            note: format!("{} asked for its end{stays}", self.caller.signature()),
        }
    }
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

    /// A grace period is taken and has no meaning: a sprite is asked to end, and is given its time.
    fn check(&self) -> Result<(), Problem> {
        if self.grace_period_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(Problem::bad_option("gracePeriodSeconds", "must not be negative"));
        }
        let policy = self.propagation_policy.as_deref();
        match policy {
            None | Some("" | "Background" | "Foreground" | "Orphan") => {}
            Some(other) => {
                let message = format!("is `{other}`, and can be Background, Foreground or Orphan");
                return Err(Problem::bad_option("propagationPolicy", &message));
            }
        }
        if self.orphan_dependents.is_some() && !policy.unwrap_or_default().is_empty() {
            let message = "cannot be said with propagationPolicy; say Orphan there";
            return Err(Problem::bad_option("orphanDependents", message));
        }
        for run in self.dry_run.iter().flatten() {
            if run != "All" {
                let message = format!("is `{run}`, and can only be All");
                return Err(Problem::bad_option("dryRun", &message));
            }
        }
        Ok(())
    }

    /// Whether what the objects have made is to stay.
    fn orphans(&self) -> bool {
        self.propagation_policy.as_deref() == Some("Orphan") || self.orphan_dependents == Some(true)
    }

    /// Sprites never outlive their owner, so whoever wants them to is told before anything goes.
    fn check_orphans(&self, kind: Kind) -> Result<(), Problem> {
        if !self.orphans() || matches!(kind, Kind::Fleet | Kind::Schedule) {
            return Ok(());
        }
        let message = format!(
            "Orphan is for fleets and schedules alone: what {} own goes with them; say Background or \
             Foreground",
            kind.plural()
        );
        Err(Problem::bad_option("propagationPolicy", &message))
    }

    fn is_dry(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|runs| !runs.is_empty())
    }
}

fn bad(error: &dyn std::fmt::Display) -> Problem {
    Problem::bad_request(format!("the options are no DeleteOptions: {error}"))
}
