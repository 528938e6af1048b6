//! The gate to the store: what the server sets, and what may not change.

use serde_json::Value;

use super::{
    AnyObject, FINALIZER_SPRITES, Fault, Faults, Kind,
    check::join,
    validate::{MAX_NAME, validate},
};

/// The fields of a Job's spec that its attempts are made from.
const JOB_FIXED: [&str; 9] = [
    "task",
    "agent",
    "runtime",
    "repo",
    "instructions",
    "permissions",
    "env",
    "timeout",
    "idleTimeout",
];
/// The fields of a Sprite's spec that may change.
const SPRITE_FREE: [&str; 2] = ["running", "stop"];

/// Makes a new object ready for the store: gives it a name (from `generateName` and the
/// suffix, where it has none), the uid and the finalizer of its kind, takes away what only the
/// server may say (status, version, generation, times), and checks it.
///
/// # Errors
/// Every fault, with its path.
pub fn create(mut object: AnyObject, uid: String, suffix: &str) -> Result<AnyObject, Faults> {
    let kind = object.kind();
    let metadata = object.metadata_mut();
    if metadata.name.is_empty()
        && let Some(prefix) = metadata.generate_name.as_deref().filter(|prefix| !prefix.is_empty())
    {
        // As Kubernetes does: the prefix gives way to the suffix.
        let room = MAX_NAME.saturating_sub(suffix.len());
        let prefix: String = prefix.chars().take(room).collect();
        metadata.name = format!("{prefix}{suffix}");
    }
    metadata.uid = uid;
    metadata.resource_version.clear();
    metadata.generation = 0;
    metadata.creation_timestamp = None;
    metadata.deletion_timestamp = None;
    if kind != Kind::Sprite && !metadata.finalizers.iter().any(|held| held == FINALIZER_SPRITES) {
        metadata.finalizers.push(FINALIZER_SPRITES.to_owned());
    }
    match &mut object {
        AnyObject::Agent(agent) => agent.status = super::AgentStatus::default(),
        AnyObject::Job(job) => job.status = super::JobStatus::default(),
        AnyObject::Sprite(sprite) => {
            sprite.status = super::SpriteStatus::default();
            if sprite.metadata.controller().is_none() {
                let message =
                    "a Sprite is made by the server for its owner; declare a Job or an Agent";
                return Err(Fault::new("kind", message).into());
            }
        }
    }
    validate(&object)?;
    Ok(object)
}

/// Whether an object may become another: same name, kind and uid; a Job's attempts stay what
/// they were made from, and its cancellation is final; a Sprite changes only in `running`
/// and, once, in `stop`.
///
/// # Errors
/// Every fault, with its path.
pub fn update(old: &AnyObject, new: &AnyObject) -> Result<(), Faults> {
    let mut faults = Vec::new();
    if old.kind() != new.kind() {
        return Err(Fault::new("kind", format!("is {} and cannot change", old.kind())).into());
    }
    let (before, after) = (old.metadata(), new.metadata());
    if before.name != after.name {
        let message = format!("is `{}` and cannot change", before.name);
        faults.push(Fault::new("metadata.name", message));
    }
    if !after.uid.is_empty() && before.uid != after.uid {
        let message = format!("is `{}`; the one sent belongs to another object", before.uid);
        faults.push(Fault::new("metadata.uid", message));
    }
    match (old, new) {
        (AnyObject::Job(was), AnyObject::Job(is)) => {
            let why = "cannot change, because attempts are made from it; make a new Job";
            let fixed = |field: &str| JOB_FIXED.contains(&field);
            unchanged(old, new, fixed, why, &mut faults);
            if was.spec.cancel && !is.spec.cancel {
                let message = "is true and cannot become false; make a new Job, or retry this one";
                faults.push(Fault::new("spec.cancel", message));
            }
        }
        (AnyObject::Sprite(was), AnyObject::Sprite(is)) => {
            let why = "cannot change; only running and stop can";
            let fixed = |field: &str| !SPRITE_FREE.contains(&field);
            unchanged(old, new, fixed, why, &mut faults);
            if was.spec.stop.is_some() && was.spec.stop != is.spec.stop {
                faults.push(Fault::new("spec.stop", "is set and cannot change"));
            }
        }
        _ => {}
    }
    if let Err(more) = validate(new) {
        faults.extend(more.0);
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

/// Says of every fixed field of the spec that differs that it may not.
fn unchanged(
    old: &AnyObject,
    new: &AnyObject,
    fixed: impl Fn(&str) -> bool,
    why: &str,
    faults: &mut Vec<Fault>,
) {
    let (old, new) = (old.to_json(), new.to_json());
    let fields = |json: &Value| json["spec"].as_object().cloned().unwrap_or_default();
    let (old, new) = (fields(&old), fields(&new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        if fixed(name) && old.get(name) != new.get(name) {
            faults.push(Fault::new(join("spec", name), why));
        }
    }
}
