//! The one gate through which everything passes that editors want: checked whole, then committed
//! or refused. A work directory lies within the configured roots, as in chat:
//! [`Defaults`](crate::resource::Defaults) says so.

use axum::http::StatusCode;

use super::{
    audit::{self, Caller},
    owned,
};
use crate::{
    resource::{AnyObject, Fault, Faults, admit, apply, sign},
    server::{State, status::Problem},
    store::{self, Expect, Op, Part, Transaction},
};

/// The longest `requestId`.
const MAX_REQUEST_ID: usize = 200;
/// How often a write is tried that loses against others, or a name that is taken.
pub(super) const TRIES: usize = 16;
/// What our own finalizers begin with.
const OURS: &str = "opendispatch.dev/";

/// What an editor is about to do with an object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit<'a> {
    /// To make it.
    Create(&'a AnyObject),
    /// To make one version into another.
    Change(&'a AnyObject, &'a AnyObject),
    /// To delete it.
    Delete(&'a AnyObject),
}

impl<'a> Edit<'a> {
    /// The object that it is about: as it would be, or, where it is to go, as it is.
    fn about(self) -> &'a AnyObject {
        match self {
            Self::Create(object) | Self::Change(_, object) | Self::Delete(object) => object,
        }
    }
}

/// Whether an editor may do this: each creation, each change of what is desired and each deletion
/// asks here, dry runs among them, and so before anything is committed.
///
/// Agents and Jobs work where agents may work, also those that a Fleet or a Schedule makes. What
/// stays where it was is not asked for again, whatever the roots are by now. What a Sprite is to do
/// is up to the controllers alone.
pub(super) fn editable(state: &State, edit: Edit<'_>) -> Result<(), Problem> {
    let new = edit.about();
    let kind = new.kind();
    let name = &new.metadata().name;
    if let Edit::Change(AnyObject::Sprite(old), AnyObject::Sprite(new)) = edit
        && old.spec != new.spec
    {
        let message = "is written by controllers alone; change the Job or the Agent that the \
                       Sprite belongs to";
        return Err(Problem::invalid(kind, name, &Fault::new("spec", message).into()));
    }
    let Some(defaults) = &state.0.extras.defaults else { return Ok(()) };
    let checked = match edit {
        Edit::Create(_) => defaults.check_new(new),
        Edit::Change(old, _) => {
            defaults.check_change(kind, name, &old.to_json()["spec"], &new.to_json()["spec"])
        }
        Edit::Delete(_) => Ok(()),
    };
    checked.map_err(|faults| Problem::invalid(kind, name, &faults))
}

pub(super) fn too_busy(message: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
}

/// Whether a `requestId` is short enough to be kept.
pub(super) fn check_request_id(id: &str) -> Result<(), Problem> {
    if id.len() > MAX_REQUEST_ID {
        let message = format!("requestId is longer than {MAX_REQUEST_ID} bytes");
        return Err(Problem::bad_request(message));
    }
    Ok(())
}

/// Who keeps the account of fields when an object is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Account<'a> {
    /// This manager takes what it changes.
    Record(&'a str),
    /// The account is in the object already.
    Kept,
}

/// A write of one part of an object on top of what was read.
pub(super) struct Write<'a> {
    pub(super) old: &'a AnyObject,
    pub(super) wanted: AnyObject,
    pub(super) part: Part,
    pub(super) account: Account<'a>,
    pub(super) dry_run: bool,
    /// Where a dry run says what would be refused, because a Source declares the object; else it is
    /// refused as the write is.
    pub(super) warnings: Option<&'a mut Vec<String>>,
}

/// Writes. Nothing, if somebody else wrote meanwhile and the client did not say on top of which
/// version.
pub(super) async fn write(
    state: &State,
    caller: &Caller,
    write: Write<'_>,
) -> Result<Option<AnyObject>, Problem> {
    let Write { old, mut wanted, part, account, dry_run, warnings } = write;
    let (kind, name) = (old.kind(), old.metadata().name.clone());
    let pinned = !wanted.metadata().resource_version.is_empty();
    if pinned && wanted.metadata().resource_version != old.metadata().resource_version {
        return Err(store::Error::Conflict { kind, name }.into());
    }
    let invalid = |faults: &Faults| Problem::invalid(kind, &name, faults);
    controllers_own(old, &wanted).map_err(|faults| invalid(&faults))?;
    if part == Part::Desired {
        admit::update(old, &wanted).map_err(|faults| invalid(&faults))?;
    }
    let mut merged = old.clone();
    match part {
        Part::Desired => {
            let metadata = merged.metadata_mut();
            metadata.labels = std::mem::take(&mut wanted.metadata_mut().labels);
            metadata.annotations = std::mem::take(&mut wanted.metadata_mut().annotations);
            metadata.managed_fields = std::mem::take(&mut wanted.metadata_mut().managed_fields);
            take_spec(&mut merged, wanted);
            sign(&mut merged, Some(old), "");
            if let Account::Record(manager) = account {
                apply::record(Some(old), &mut merged, manager, state.0.ambient.clock.now());
            }
            editable(state, Edit::Change(old, &merged))?;
        }
        Part::Status | Part::Finalizers => take_status(&mut merged, wanted),
    }
    if dry_run && part == Part::Desired {
        owned::check(state, Edit::Change(old, &merged), warnings).await?;
    }
    if merged == *old || dry_run {
        return Ok(Some(merged));
    }
    let guard = match part {
        Part::Desired => owned::guard(Edit::Change(old, &merged)),
        Part::Status | Part::Finalizers => None,
    };
    // A status is what was seen, and no wish.
    let note = match part {
        Part::Desired => Some(caller.did(state, audit::change(old, &merged))),
        Part::Status | Part::Finalizers => caller.stands(),
    };
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

/// Finalizers and owners belong to controllers. A document may leave them out or repeat them, and
/// may bring finalizers of ours that stood there when it was read.
fn controllers_own(old: &AnyObject, wanted: &AnyObject) -> Result<(), Faults> {
    let (old, wanted) = (old.metadata(), wanted.metadata());
    let mut faults = Vec::new();
    let foreign = |held: &String| !held.starts_with(OURS) && !old.finalizers.contains(held);
    if wanted.finalizers.iter().any(foreign) {
        let message = format!(
            "belong to controllers, which take them away when they have cleaned up; leave them \
             out ({OURS}sprites and the like stay)"
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
