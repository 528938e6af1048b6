//! Objects: create, write a part, patch the status, delete, and the revisions they take.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Draft, Left};
use crate::{
    resource::{AnyObject, Kind, Metadata, Object, apply, merge::merge_patch},
    store::{Change, ChangeKind, Error, Expect, Part, tables::ObjectKey},
};

impl Draft<'_, '_> {
    pub(super) fn create(&mut self, object: &AnyObject) -> Result<(), Error> {
        let mut object = object.clone();
        let kind = object.kind();
        let now = self.now;
        let metadata = object.metadata_mut();
        let key = (kind, metadata.name.clone());
        let uid_key = (kind, metadata.uid.clone());
        if self.tables.objects.get(&key).is_some() {
            return Err(Error::AlreadyExists { kind, name: key.1 });
        }
        if self.tables.names.get(&uid_key).is_some() {
            return Err(Error::AlreadyExists { kind, name: uid_key.1 });
        }
        metadata.generation = 1;
        metadata.creation_timestamp = Some(now);
        metadata.deletion_timestamp = None;
        metadata.resource_version.clear();
        if let Some(manager) = self.manager
            && metadata.managed_fields.is_empty()
        {
            apply::record(None, &mut object, manager, now);
        }
        self.put(&key, Some(object));
        self.left.push(Left::Object(key));
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        given: &AnyObject,
        part: Part,
        expect: &Expect,
    ) -> Result<(), Error> {
        let key = (given.kind(), given.metadata().name.clone());
        let mut object = self.object(&key)?.clone();
        let uid = &given.metadata().uid;
        self.check_uid(&key, Some(uid.as_str()).filter(|uid| !uid.is_empty()))?;
        if *expect == Expect::SameVersion {
            self.check_version(&key, &given.metadata().resource_version)?;
        }
        write_part(&mut object, given, part);
        if part == Part::Desired {
            self.account(&key, &mut object)?;
        }
        let metadata = object.metadata();
        let goes = metadata.is_deleting() && metadata.finalizers.is_empty();
        self.finish(key, if goes { None } else { Some(object) });
        Ok(())
    }

    /// Notes for the manager of this transaction what it changes of an object, where whoever wrote it
    /// left the account as it was.
    fn account(&self, key: &ObjectKey, object: &mut AnyObject) -> Result<(), Error> {
        let Some(manager) = self.manager else { return Ok(()) };
        let stands = self.object(key)?;
        if stands != object && stands.metadata().managed_fields == object.metadata().managed_fields
        {
            apply::record(Some(stands), object, manager, self.now);
        }
        Ok(())
    }

    pub(super) fn patch_status(
        &mut self,
        kind: Kind,
        uid: &str,
        patch: &Value,
        unless: Option<&str>,
    ) -> Result<(), Error> {
        let Some(name) = self.tables.names.get(&(kind, uid.to_owned())).cloned() else {
            return Ok(());
        };
        let key = (kind, name);
        let object = self.object(&key)?;
        let patched = match object {
            AnyObject::Agent(object) => patched(object, patch, unless).map(|o| o.map(Into::into)),
            AnyObject::Job(object) => patched(object, patch, unless).map(|o| o.map(Into::into)),
            AnyObject::Fleet(object) => patched(object, patch, unless).map(|o| o.map(Into::into)),
            AnyObject::Schedule(object) => {
                patched(object, patch, unless).map(|o| o.map(Into::into))
            }
            AnyObject::Source(object) => patched(object, patch, unless).map(|o| o.map(Into::into)),
            AnyObject::Override(object) => {
                patched(object, patch, unless).map(|o| o.map(Into::into))
            }
            AnyObject::Sprite(object) => patched(object, patch, unless).map(|o| o.map(Into::into)),
        };
        match patched {
            Ok(None) => Ok(()),
            Ok(Some(object)) => {
                self.put(&key, Some(object));
                Ok(())
            }
            Err(error) => Err(Error::BadPatch { kind, name: key.1, fault: error.to_string() }),
        }
    }

    pub(super) fn delete(
        &mut self,
        kind: Kind,
        name: &str,
        uid: Option<&str>,
        version: Option<&str>,
    ) -> Result<(), Error> {
        let key = (kind, name.to_owned());
        let mut object = self.object(&key)?.clone();
        self.check_uid(&key, uid)?;
        if let Some(version) = version {
            self.check_version(&key, version)?;
        }
        let metadata = object.metadata_mut();
        if metadata.finalizers.is_empty() {
            self.finish(key, None);
            return Ok(());
        }
        if !metadata.is_deleting() {
            metadata.deletion_timestamp = Some(self.now);
            metadata.generation += 1;
        }
        self.finish(key, Some(object));
        Ok(())
    }

    fn object(&self, key: &ObjectKey) -> Result<&AnyObject, Error> {
        let missing = || Error::NotFound { kind: key.0, name: key.1.clone() };
        self.tables.objects.get(key).ok_or_else(missing)
    }

    fn check_uid(&self, key: &ObjectKey, uid: Option<&str>) -> Result<(), Error> {
        match uid {
            Some(uid) if self.object(key)?.metadata().uid != uid => Err(conflict(key)),
            _ => Ok(()),
        }
    }

    /// An object's version is the one that it had before this transaction, so that a
    /// transaction can write several parts of what its author has read once.
    fn check_version(&self, key: &ObjectKey, version: &str) -> Result<(), Error> {
        let object = self.tables.objects.before(key).map_or_else(|| self.object(key), Ok)?;
        if object.metadata().resource_version == version { Ok(()) } else { Err(conflict(key)) }
    }

    fn finish(&mut self, key: ObjectKey, object: Option<AnyObject>) {
        let gone = object.is_none();
        self.put(&key, object);
        self.left.push(if gone { Left::Nothing } else { Left::Object(key) });
    }

    /// Writes an object and its name under its uid.
    fn put(&mut self, key: &ObjectKey, object: Option<AnyObject>) {
        let old_uid = self.tables.objects.get(key).map(|old| old.metadata().uid.clone());
        let new_uid = object.as_ref().map(|new| new.metadata().uid.clone());
        if old_uid != new_uid {
            if let Some(uid) = old_uid {
                if matches!(key.0, Kind::Agent | Kind::Sprite) {
                    self.tables.gone.set(uid.clone(), Some(self.now));
                }
                self.tables.names.set((key.0, uid), None);
            }
            if let Some(uid) = new_uid {
                self.tables.names.set((key.0, uid), Some(key.1.clone()));
            }
        }
        self.tables.objects.set(key.clone(), object);
        if !self.touched.contains(key) {
            self.touched.push(key.clone());
        }
    }

    /// Gives a revision to each object that is another one than before the transaction.
    pub(super) fn seal_objects(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in std::mem::take(&mut self.touched) {
            let before = self.tables.objects.before(&key).cloned();
            let after = self.tables.objects.get(&key).cloned();
            if before == after {
                self.tables.objects.unset(&key);
                continue;
            }
            match (before, after) {
                (Some(before), Some(after)) if before.metadata().uid == after.metadata().uid => {
                    let desired = touches_desired(&before, &after);
                    changes.push(self.change(ChangeKind::Modified, after, desired));
                }
                (before, after) => {
                    let gone = before.map(|object| self.change(ChangeKind::Deleted, object, true));
                    let new = after.map(|object| self.change(ChangeKind::Added, object, true));
                    changes.extend(gone.into_iter().chain(new));
                }
            }
        }
        changes
    }

    fn change(&mut self, kind: ChangeKind, mut object: AnyObject, desired: bool) -> Change {
        self.tables.revision += 1;
        let revision = self.tables.revision;
        object.metadata_mut().resource_version = revision.to_string();
        if kind != ChangeKind::Deleted {
            let key = (object.kind(), object.metadata().name.clone());
            self.tables.objects.set(key, Some(object.clone()));
        }
        Change { revision, kind, object, desired }
    }
}

fn conflict(key: &ObjectKey) -> Error {
    Error::Conflict { kind: key.0, name: key.1.clone() }
}

/// Whether two versions of an object differ in what controllers act on.
fn touches_desired(before: &AnyObject, after: &AnyObject) -> bool {
    fn of(metadata: &Metadata) -> impl PartialEq + '_ {
        (
            metadata.generation,
            metadata.deletion_timestamp,
            &metadata.finalizers,
            &metadata.labels,
            &metadata.annotations,
            &metadata.owner_references,
        )
    }
    of(before.metadata()) != of(after.metadata())
}

fn write_part(object: &mut AnyObject, given: &AnyObject, part: Part) {
    match (object, given) {
        (AnyObject::Agent(object), AnyObject::Agent(given)) => take(object, given, part),
        (AnyObject::Job(object), AnyObject::Job(given)) => take(object, given, part),
        (AnyObject::Fleet(object), AnyObject::Fleet(given)) => take(object, given, part),
        (AnyObject::Schedule(object), AnyObject::Schedule(given)) => take(object, given, part),
        (AnyObject::Source(object), AnyObject::Source(given)) => take(object, given, part),
        (AnyObject::Override(object), AnyObject::Override(given)) => take(object, given, part),
        (AnyObject::Sprite(object), AnyObject::Sprite(given)) => take(object, given, part),
        // The object was found under the given one's kind.
        _ => {}
    }
}

fn take<S: Clone + PartialEq, T: Clone>(
    object: &mut Object<S, T>,
    given: &Object<S, T>,
    part: Part,
) {
    match part {
        Part::Desired => {
            if object.spec != given.spec {
                object.spec = given.spec.clone();
                object.metadata.generation += 1;
            }
            object.metadata.labels.clone_from(&given.metadata.labels);
            object.metadata.annotations.clone_from(&given.metadata.annotations);
            object.metadata.managed_fields.clone_from(&given.metadata.managed_fields);
        }
        Part::Status => object.status = given.status.clone(),
        Part::Finalizers => {
            object.metadata.finalizers.clone_from(&given.metadata.finalizers);
            object.metadata.owner_references.clone_from(&given.metadata.owner_references);
        }
    }
}

/// The object with its status patched; `None` where what `unless` points at is there already.
fn patched<S: Clone, T: Clone + Serialize + DeserializeOwned>(
    object: &Object<S, T>,
    patch: &Value,
    unless: Option<&str>,
) -> Result<Option<Object<S, T>>, serde_json::Error> {
    let mut status = serde_json::to_value(&object.status)?;
    let stands = |pointer| status.pointer(pointer).is_some_and(|member| !member.is_null());
    if unless.is_some_and(stands) {
        return Ok(None);
    }
    merge_patch(&mut status, patch);
    let status = serde_json::from_value(status)?;
    Ok(Some(Object { metadata: object.metadata.clone(), spec: object.spec.clone(), status }))
}
