//! The gate to the store: what the server sets, and what may not change.

use serde_json::Value;

use super::{
    AnyObject, FINALIZER_OWNED, FINALIZER_SPRITES, Fault, Faults, Kind, Metadata,
    check::join,
    validate::{MAX_NAME, validate, work_is_kept},
};

/// The fields of a Job's spec that its attempts are made from.
pub(super) const JOB_FIXED: [&str; 9] = [
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
/// server may say (status, version, generation, times), and checks it. A Sprite is none of
/// these: controllers alone make it, and commit it themselves.
///
/// # Errors
/// Every fault, with its path.
pub fn create(mut object: AnyObject, uid: String, suffix: &str) -> Result<AnyObject, Faults> {
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
    let finalizer = finalizer(object.kind());
    controllers_own(object.metadata(), finalizer)?;
    let metadata = object.metadata_mut();
    metadata.finalizers = vec![finalizer.to_owned()];
    match &mut object {
        AnyObject::Agent(agent) => agent.status = super::AgentStatus::default(),
        AnyObject::Job(job) => job.status = super::JobStatus::default(),
        AnyObject::Fleet(fleet) => fleet.status = super::FleetStatus::default(),
        AnyObject::Schedule(schedule) => schedule.status = super::ScheduleStatus::default(),
        AnyObject::Source(source) => source.status = super::SourceStatus::default(),
        AnyObject::Override(over) => over.status = super::OverrideStatus::default(),
        // One that the loop did not make would be an owner's second, or nobody's.
        AnyObject::Sprite(_) => {
            let message = "a Sprite is made by the server for its owner; declare a Job or an Agent";
            return Err(Fault::new("kind", message).into());
        }
    }
    validate(&object)?;
    if let AnyObject::Agent(agent) = &object {
        work_is_kept(agent)?;
    }
    Ok(object)
}

/// What holds a new object until its controller has cleaned up behind it.
fn finalizer(kind: Kind) -> &'static str {
    match kind {
        Kind::Agent | Kind::Job | Kind::Sprite => FINALIZER_SPRITES,
        Kind::Fleet | Kind::Schedule | Kind::Source | Kind::Override => FINALIZER_OWNED,
    }
}

/// Nobody would ever take away a finalizer that is no controller's, and the object could not go.
fn controllers_own(metadata: &Metadata, ours: &str) -> Result<(), Faults> {
    let mut faults = Vec::new();
    if metadata.finalizers.iter().any(|held| held != ours) {
        let message = format!("belong to controllers; leave them out ({ours} is set)");
        faults.push(Fault::new("metadata.finalizers", message));
    }
    if !metadata.owner_references.is_empty() {
        let message = "belong to controllers; leave them out";
        faults.push(Fault::new("metadata.ownerReferences", message));
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
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
        (AnyObject::Agent(was), AnyObject::Agent(is)) => {
            let is_same = was.spec.env == is.spec.env && was.spec.runtime == is.spec.runtime;
            if !is_same && let Err(lost) = work_is_kept(is) {
                faults.extend(lost.0);
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
        (AnyObject::Override(_), AnyObject::Override(_)) => {
            let why = "cannot change; only expiresAfter and reason can, and another Override may \
                       be laid over this one";
            let fixed = |field: &str| !matches!(field, "expiresAfter" | "reason");
            unchanged(old, new, fixed, why, &mut faults);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::resource::{API_VERSION, decode, merge::merge_patch};

    fn job(change: Value) -> AnyObject {
        let mut json = json!({
            "apiVersion": API_VERSION,
            "kind": "Job",
            "metadata": {"name": "a"},
            "spec": {"task": "t", "agent": {"claude": {}}},
        });
        merge_patch(&mut json, &change);
        decode(json).unwrap()
    }

    #[test]
    fn an_agent_whose_work_is_lost_is_refused_and_one_of_before_that_rule_can_be_stopped() {
        let agent = |change: Value| {
            let mut json = json!({
                "apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": "a"},
                "spec": {
                    "agent": {"claude": {}}, "runtime": {"fly": {}},
                    "env": [{"name": "WORKDIR", "value": "/data/../workspace"}],
                },
            });
            merge_patch(&mut json, &change);
            decode(json).unwrap()
        };
        let old = agent(json!({}));
        let faults = create(old.clone(), "u".to_owned(), "").unwrap_err();
        assert_eq!(faults.0[0].path, "spec.env[0].value");
        assert_eq!(update(&old, &agent(json!({"spec": {"suspend": true}}))), Ok(()));
        let more = agent(json!({"spec": {"runtime": {"fly": {"region": "iad"}}}}));
        assert!(update(&old, &more).is_err(), "its machine is made anew");
        let fleeting = agent(json!({"spec": {"runtime": {"fly": {"persistent": false}}}}));
        assert_eq!(update(&old, &fleeting), Ok(()));
        assert!(create(fleeting, "u".to_owned(), "").is_ok());
    }

    fn sprite(change: Value) -> AnyObject {
        sprite_of(change).unwrap()
    }

    fn sprite_of(change: Value) -> Result<AnyObject, Faults> {
        let mut json = json!({
            "apiVersion": API_VERSION,
            "kind": "Sprite",
            "metadata": {
                "name": "a",
                "uid": "u",
                "ownerReferences": [{
                    "apiVersion": API_VERSION, "kind": "Job", "name": "j", "uid": "v", "controller": true,
                }],
            },
            "spec": {
                "agent": {"command": {}}, "runtime": {"local": {}},
                "permissions": {"mode": "bypass"}, "attempt": 1, "running": true,
            },
        });
        merge_patch(&mut json, &change);
        decode(json)
    }

    #[test]
    fn what_only_the_server_may_say_is_taken_away() {
        let sent = job(json!({
            "metadata": {
                "uid": "mine", "resourceVersion": "7", "generation": 9,
                "creationTimestamp": "2000-01-01T00:00:00Z", "deletionTimestamp": "2000-01-01T00:00:00Z",
                "labels": {"team": "payments"},
            },
            "status": {"phase": "Succeeded", "exitCode": 0},
        }));
        let made = create(sent, "uid-1".to_owned(), "xxxxx").unwrap();
        let expected = job(json!({
            "metadata": {
                "uid": "uid-1", "labels": {"team": "payments"}, "finalizers": [FINALIZER_SPRITES],
            },
        }));
        assert_eq!(made, expected);
    }

    #[test]
    fn a_name_is_made_where_there_is_none() {
        let named = |metadata: Value| {
            create(job(json!({"metadata": metadata})), "u".to_owned(), "bcdfg")
                .map(|made| made.metadata().name.clone())
        };
        assert_eq!(named(json!({"name": null, "generateName": "run-"})).unwrap(), "run-bcdfg");
        assert_eq!(named(json!({"name": "b", "generateName": "run-"})).unwrap(), "b");
        let long = named(json!({"name": null, "generateName": "x".repeat(80)})).unwrap();
        assert_eq!(long, format!("{}bcdfg", "x".repeat(58)));
    }

    #[test]
    fn the_finalizer_is_held_once() {
        let held = json!({"metadata": {"finalizers": [FINALIZER_SPRITES]}});
        let made = create(job(held), "u".to_owned(), "").unwrap();
        assert_eq!(made.metadata().finalizers, [FINALIZER_SPRITES]);
    }

    #[test]
    fn a_sprite_is_made_by_nobody_but_the_loop() {
        let held = json!({"metadata": {"finalizers": [crate::resource::FINALIZER_RUNTIME]}});
        for change in [json!({}), held, json!({"metadata": {"ownerReferences": null}})] {
            assert!(create(sprite(change), "u".to_owned(), "").is_err());
        }
        insta::assert_snapshot!(
            create(sprite(json!({"metadata": {"ownerReferences": null}})), "u".to_owned(), "")
                .unwrap_err()
        );
    }

    #[test]
    fn what_nobody_would_take_away_is_not_taken() {
        let owner = json!({"apiVersion": API_VERSION, "kind": "Job", "name": "j", "uid": "v"});
        let sent = job(json!({"metadata": {
            "finalizers": [FINALIZER_SPRITES, "example.com/hold"], "ownerReferences": [owner],
        }}));
        insta::assert_snapshot!(create(sent, "u".to_owned(), "").unwrap_err());
    }

    #[test]
    fn an_object_that_chat_built_is_checked_like_any_other() {
        let mut object = job(json!({}));
        object.metadata_mut().name = "Not a label".to_owned();
        if let AnyObject::Job(job) = &mut object {
            job.spec.task = String::new();
        }
        insta::assert_snapshot!(create(object, "u".to_owned(), "").unwrap_err());
    }

    #[test]
    fn what_attempts_are_made_from_cannot_change() {
        let old = job(json!({"metadata": {"uid": "u"}, "spec": {"cancel": true}}));
        let new = job(json!({
            "metadata": {"name": "b", "uid": "v"},
            "spec": {
                "task": "another", "agent": {"claude": {"model": "opus"}}, "timeout": "1h",
                "runtime": {"local": {"workdir": "/tmp"}}, "retries": 3, "cancel": false,
                "repo": {"github": "a/b"},
            },
        }));
        insta::assert_snapshot!(update(&old, &new).unwrap_err());
    }

    #[test]
    fn what_the_loop_reads_anew_can_change() {
        let old = job(json!({"metadata": {"uid": "u"}}));
        let new = job(json!({
            "metadata": {"uid": "u", "labels": {"a": "b"}},
            "spec": {
                "cancel": true, "retries": 2, "deadline": "1h", "ttlAfterFinished": "1h",
                "report": {"to": [{"console": {"channel": "main"}}]},
            },
        }));
        assert_eq!(update(&old, &new), Ok(()));
        let without_uid = job(json!({"spec": {"cancel": true}}));
        assert_eq!(update(&old, &without_uid), Ok(()));
    }

    #[test]
    fn a_sprite_changes_only_in_running_and_once_in_stop() {
        let old = sprite(json!({}));
        let asleep = sprite(json!({"spec": {"running": false}}));
        assert_eq!(update(&old, &asleep), Ok(()));
        let stopped = sprite(json!({"spec": {"stop": "Cancelled"}}));
        assert_eq!(update(&old, &stopped), Ok(()));
        let other = sprite(json!({"spec": {"stop": "TimedOut", "attempt": 2, "task": "t"}}));
        insta::assert_snapshot!(update(&stopped, &other).unwrap_err());
    }

    #[test]
    fn a_kind_cannot_change() {
        insta::assert_snapshot!(update(&job(json!({})), &sprite(json!({}))).unwrap_err());
    }

    proptest! {
        #[test]
        fn every_generated_name_is_a_dns_label(prefix in "[a-z0-9][a-z0-9-]{0,80}") {
            let sent = job(json!({"metadata": {"name": null, "generateName": prefix}}));
            let made = create(sent, "u".to_owned(), "bcdfg").unwrap();
            prop_assert_eq!(crate::resource::validate::bad_label(&made.metadata().name), None);
        }

        #[test]
        fn a_cancelled_job_stays_cancelled(before: bool, after: bool) {
            let (old, new) = (job(json!({"spec": {"cancel": before}})), job(json!({"spec": {"cancel": after}})));
            prop_assert_eq!(update(&old, &new).is_ok(), !before || after);
        }
    }
}
