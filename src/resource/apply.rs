//! Server-side apply: several writers, one object, and nobody's fields written over in silence.
//!
//! Each writer (a *manager*) has a set of fields. One that *applies* says of its fields all that
//! they shall be: what it left out since it applied last, and nobody else holds, goes. One that
//! *updates* takes what it changes. A field that another manager holds with another value is a
//! conflict, which names the field and the manager; `force` takes the field. The same value is
//! held together.
//!
//! What a field is, the schema of the kind says: objects and maps are held member by member, lists
//! that are declared as maps item by item, and all else whole: texts, numbers, other lists, and
//! unions, which have exactly one member and would have two if it were otherwise.
//!
//! Only what editors write is held: the spec, labels and annotations.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    API_VERSION, AnyObject, Faults, Kind, ManagedFields, Operation, decode,
    fields::{FieldSet, Path, member, shown},
    schema,
};

/// Who holds what was there before anybody applied.
pub const BEFORE: &str = "before-first-apply";
/// Who holds what those held who have not been heard of for long.
const ANCIENT: &str = "ancient-changes";
/// The most managers that update and are told apart.
const MOST_UPDATERS: usize = 10;
/// The form of our trees.
const FORM: &str = "FieldsV1";

/// Why a configuration is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Others hold fields of it with other values.
    #[error("{}", conflicts(.0))]
    Conflicts(Vec<Conflict>),
    /// What it would leave is no good object.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// A field that another manager holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The field, as people write it.
    pub field: String,
    /// Who holds it.
    pub manager: String,
    /// How they wrote it.
    pub operation: Operation,
    /// When they last did.
    pub time: Option<Timestamp>,
}

impl std::fmt::Display for Conflict {
    /// Who holds the field.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "conflict with \"{}\"", self.manager)?;
        if self.operation == Operation::Update {
            write!(f, " using {API_VERSION}")?;
            if let Some(time) = self.time {
                write!(f, " at {time}")?;
            }
        }
        Ok(())
    }
}

/// All conflicts in one text, in the words that kubectl's users know.
fn conflicts(all: &[Conflict]) -> String {
    match all {
        [one] => format!("Apply failed with 1 conflict: {one}: {}", one.field),
        several => {
            let lines: Vec<String> =
                several.iter().map(|conflict| format!("{conflict}: {}", conflict.field)).collect();
            format!("Apply failed with {} conflicts: {}", several.len(), lines.join("; "))
        }
    }
}

/// Applies a configuration to an object, for a manager: the object as it would be, with the
/// account of who holds what. With `force`, fields of others are taken.
///
/// # Errors
/// [`Error::Conflicts`] without `force`; [`Error::Faults`] where the outcome is no good object.
pub fn apply(
    live: &AnyObject,
    config: &Value,
    manager: &str,
    force: bool,
    now: Timestamp,
) -> Result<AnyObject, Error> {
    apply_filled(live, config, manager, force, now, |_| Ok(()))
}

/// As [`apply`]; `fill` fills in what is left once what nobody holds any more is gone. What it says is
/// nobody's wish, so nobody holds it.
///
/// # Errors
/// As [`apply`], and those of `fill`.
pub fn apply_filled(
    live: &AnyObject,
    config: &Value,
    manager: &str,
    force: bool,
    now: Timestamp,
    fill: impl FnOnce(&mut Value) -> Result<(), Faults>,
) -> Result<AnyObject, Error> {
    let kind = live.kind();
    let before = live.to_json();
    let mut held = read(&live.metadata().managed_fields);
    if held.is_empty() {
        // Nobody kept account, and what is there is still not nobody's.
        let set = fields(kind, &before).into_keys().collect();
        held.push(Held::new(BEFORE, Operation::Update, set, live.metadata().creation_timestamp));
    }
    let wanted = held_part(config);
    let set: FieldSet = fields(kind, &wanted).into_keys().collect();
    let own = held.iter().position(|it| it.is(manager, Operation::Apply));
    let own = own.map(|at| held.remove(at));

    let mut after = before.clone();
    merge(schema::of(kind), schema::of(kind), &mut after, &wanted);
    if let Some(own) = &own {
        let kept: BTreeSet<&[String]> = held
            .iter()
            .map(|other| &other.set)
            .chain([&set])
            .flat_map(FieldSet::with_parents)
            .collect();
        let dropped = Dropped {
            fields: own
                .set
                .0
                .iter()
                .map(Vec::as_slice)
                .filter(|path| !kept.contains(path))
                .collect(),
            hollow: own
                .set
                .with_parents()
                .into_iter()
                .filter(|path| !kept.contains(path))
                .collect(),
        };
        prune(schema::of(kind), schema::of(kind), &mut after, &mut Vec::new(), &dropped);
    }
    fill(&mut after)?;
    let mut object = decode(after)?;

    let is = object.to_json();
    let (was, is) = (fields(kind, &before), fields(kind, &is));
    let Difference { changed, gone } = Difference::between(&was, &is);
    // A field that is written as what holds anyway is not told from one that is not written.
    let touched: BTreeSet<Path> = changed
        .into_iter()
        .chain(gone.iter().filter(|path| set.0.contains(*path)).cloned())
        .collect();
    let mut conflicts = Vec::new();
    for other in &mut held {
        let theirs = other.set.0.intersection(&touched);
        conflicts.extend(theirs.map(|path| Conflict {
            field: shown(path),
            manager: other.manager.clone(),
            operation: other.operation,
            time: other.time,
        }));
        other.set.remove(&touched);
        other.set.remove(&gone);
    }
    if !conflicts.is_empty() && !force {
        return Err(Error::Conflicts(conflicts));
    }
    let time = own.filter(|own| own.set == set).map_or(Some(now), |own| own.time);
    held.push(Held::new(manager, Operation::Apply, set, time));
    object.metadata_mut().managed_fields = write(held);
    Ok(object)
}

/// The account of an object that is made of a configuration: all that it says, its manager holds.
#[must_use]
pub fn first(kind: Kind, config: &Value, manager: &str, now: Timestamp) -> Vec<ManagedFields> {
    let set = fields(kind, &held_part(config)).into_keys().collect();
    write(vec![Held::new(manager, Operation::Apply, set, Some(now))])
}

/// Keeps account of an update: the manager takes what it changes between two versions of an
/// object, or all of a new one. Whoever writes an account of their own (as kubectl does when it
/// moves from one way of applying to another) is believed; an account of one empty entry means
/// none.
pub fn record(old: Option<&AnyObject>, new: &mut AnyObject, manager: &str, now: Timestamp) {
    let kind = new.kind();
    let sent = &new.metadata().managed_fields;
    let known = old.map_or(&[][..], |old| &old.metadata().managed_fields);
    let reset = matches!(sent.as_slice(), [one] if *one == ManagedFields::default());
    let mut held = match read(sent) {
        _ if reset => Vec::new(),
        given if given.is_empty() => read(known),
        given => given,
    };
    let was = old.map(AnyObject::to_json);
    let was = was.as_ref().map(|was| fields(kind, was)).unwrap_or_default();
    let is = new.to_json();
    let is = fields(kind, &is);
    let Difference { changed, gone } = Difference::between(&was, &is);
    if !changed.is_empty() || !gone.is_empty() {
        let own = held.iter().position(|it| it.is(manager, Operation::Update));
        let mut own = own.map_or_else(
            || Held::new(manager, Operation::Update, FieldSet::default(), None),
            |at| held.remove(at),
        );
        for other in &mut held {
            other.set.remove(&changed);
            other.set.remove(&gone);
        }
        own.set.0.extend(changed);
        own.set.remove(&gone);
        own.time = Some(now);
        held.push(own);
    }
    new.metadata_mut().managed_fields = write(held);
}

/// What one manager holds.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    manager: String,
    operation: Operation,
    set: FieldSet,
    time: Option<Timestamp>,
    /// What we do not read, and keep: the part of the object that it is about.
    subresource: String,
}

impl Held {
    fn new(manager: &str, operation: Operation, set: FieldSet, time: Option<Timestamp>) -> Self {
        Self { manager: manager.to_owned(), operation, set, time, subresource: String::new() }
    }

    fn is(&self, manager: &str, operation: Operation) -> bool {
        self.manager == manager && self.operation == operation && self.subresource.is_empty()
    }
}

/// Reads an account; one with a tree that is none counts as none.
fn read(account: &[ManagedFields]) -> Vec<Held> {
    let entry = |entry: &ManagedFields| {
        let set = FieldSet::read(&entry.fields_v1)?;
        let (manager, operation) = (&entry.manager, entry.operation);
        let subresource = entry.subresource.clone();
        Some(Held { subresource, ..Held::new(manager, operation, set, entry.time) })
    };
    account.iter().map(entry).collect::<Option<Vec<Held>>>().unwrap_or_default()
}

/// Writes an account: those who apply first, then those who update, each in the order of time.
fn write(mut held: Vec<Held>) -> Vec<ManagedFields> {
    held.retain(|it| !it.set.is_empty());
    held.sort_by(|a, b| (a.operation, a.time, &a.manager).cmp(&(b.operation, b.time, &b.manager)));
    let updaters = held.iter().filter(|it| it.operation == Operation::Update).count();
    if updaters > MOST_UPDATERS {
        let first = held.len() - updaters;
        let old: Vec<Held> = held.drain(first..=first + updaters - MOST_UPDATERS).collect();
        let time = old.iter().filter_map(|it| it.time).max();
        let set = old.into_iter().flat_map(|it| it.set.0).collect();
        held.insert(first, Held::new(ANCIENT, Operation::Update, set, time));
    }
    let entry = |it: Held| ManagedFields {
        manager: it.manager,
        operation: it.operation,
        api_version: API_VERSION.to_owned(),
        time: it.time,
        fields_type: FORM.to_owned(),
        fields_v1: it.set.to_value(),
        subresource: it.subresource,
    };
    held.into_iter().map(entry).collect()
}

/// In which fields two versions differ.
struct Difference {
    /// Those that are new or have another value.
    changed: BTreeSet<Path>,
    /// Those that are no longer there.
    gone: BTreeSet<Path>,
}

impl Difference {
    fn between(was: &Fields<'_>, is: &Fields<'_>) -> Self {
        let changed = is.iter().filter(|(path, value)| was.get(*path) != Some(value));
        let gone = was.keys().filter(|path| !is.contains_key(*path));
        Self {
            changed: changed.map(|(path, _)| path.clone()).collect(),
            gone: gone.cloned().collect(),
        }
    }
}

/// The part of a document that is held: spec, labels and annotations, without nulls.
fn held_part(document: &Value) -> Value {
    let mut part = Map::new();
    let mut metadata = Map::new();
    for name in ["labels", "annotations"] {
        if let Some(value) = document["metadata"].get(name).filter(|value| !value.is_null()) {
            metadata.insert(name.to_owned(), without_nulls(value));
        }
    }
    part.insert("metadata".to_owned(), Value::Object(metadata));
    if let Some(spec) = document.get("spec").filter(|value| !value.is_null()) {
        part.insert("spec".to_owned(), without_nulls(spec));
    }
    Value::Object(part)
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Fields and what stands there; the item of a list that is a map stands for itself.
type Fields<'v> = BTreeMap<Path, &'v Value>;

/// The fields of a document that are held.
fn fields(kind: Kind, document: &Value) -> Fields<'_> {
    let root = schema::of(kind);
    let mut found = Fields::new();
    let metadata = &root["$defs"]["Metadata"]["properties"];
    for name in ["labels", "annotations"] {
        if let Some(value) = document["metadata"].get(name) {
            let mut path = vec![member("metadata"), member(name)];
            collect(root, &metadata[name], value, &mut path, &mut found);
        }
    }
    if let Some(spec) = document.get("spec") {
        collect(root, &root["properties"]["spec"], spec, &mut vec![member("spec")], &mut found);
    }
    // An empty spec is nothing that one could hold.
    found.remove(&vec![member("spec")]);
    found
}

/// How a value is held.
enum Shape<'s> {
    /// Whole.
    Whole,
    /// Member by member.
    Members(&'s Value),
    /// Item by item, by these members of the items.
    Items(&'s Value, Vec<&'s str>),
}

/// How a schema says that its values are held.
fn shape<'s>(root: &'s Value, schema: &'s Value) -> Shape<'s> {
    if let Some(name) = schema["$ref"].as_str() {
        return shape(root, &root["$defs"][name.trim_start_matches("#/$defs/")]);
    }
    match schema["type"].as_str() {
        Some("object")
            if schema["properties"].is_object() || schema["additionalProperties"].is_object() =>
        {
            Shape::Members(schema)
        }
        Some("array") if schema["x-kubernetes-list-type"] == "map" => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            Shape::Items(&schema["items"], keys.filter_map(Value::as_str).collect())
        }
        _ => Shape::Whole,
    }
}

/// The schema of a member.
fn of_member<'s>(schema: &'s Value, name: &str) -> &'s Value {
    schema["properties"].get(name).unwrap_or(&schema["additionalProperties"])
}

/// The step to an item, if it has all its keys.
fn item(keys: &[&str], item: &Value) -> Option<String> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    let mut map = Map::new();
    for key in keys {
        map.insert(key.to_owned(), item.get(key).filter(|value| value.is_string())?.clone());
    }
    Some(format!("k:{}", Value::Object(map)))
}

/// The steps to all items of a list; nothing, where an item lacks a key or is there twice.
fn items(keys: &[&str], list: &[Value]) -> Option<Vec<String>> {
    let steps = list.iter().map(|value| item(keys, value)).collect::<Option<Vec<_>>>()?;
    let apart: BTreeSet<&String> = steps.iter().collect();
    (apart.len() == steps.len()).then_some(steps)
}

fn collect<'v>(
    root: &Value,
    schema: &Value,
    value: &'v Value,
    path: &mut Path,
    into: &mut Fields<'v>,
) {
    const ITEM: &Value = &Value::Null;
    match (shape(root, schema), value) {
        (Shape::Members(schema), Value::Object(members)) if !members.is_empty() => {
            for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                path.push(member(name));
                collect(root, of_member(schema, name), value, path, into);
                path.pop();
            }
        }
        (Shape::Items(schema, keys), Value::Array(list)) if !list.is_empty() => {
            let Some(steps) = items(&keys, list) else {
                into.insert(path.clone(), value);
                return;
            };
            for (step, value) in steps.into_iter().zip(list) {
                path.push(step);
                into.insert(path.clone(), ITEM);
                collect(root, schema, value, path, into);
                path.pop();
            }
        }
        _ => {
            into.insert(path.clone(), value);
        }
    }
}

/// Merges a configuration into a document.
fn merge(root: &Value, schema: &Value, into: &mut Value, config: &Value) {
    match (shape(root, schema), config) {
        (Shape::Members(schema), Value::Object(members)) => {
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            let Value::Object(into) = into else { return };
            for (name, value) in members {
                let place = into.entry(name.as_str()).or_insert(Value::Null);
                merge(root, of_member(schema, name), place, value);
            }
        }
        (Shape::Items(schema, keys), Value::Array(list)) => {
            let there = into.as_array().map(|there| items(&keys, there));
            let (Some(Some(there)), Some(steps)) = (there, items(&keys, list)) else {
                into.clone_from(config);
                return;
            };
            let Value::Array(into) = into else { return };
            for (step, value) in steps.iter().zip(list) {
                match there.iter().position(|other| other == step) {
                    Some(at) => merge(root, schema, &mut into[at], value),
                    None => into.push(value.clone()),
                }
            }
        }
        _ => into.clone_from(config),
    }
}

/// What a manager no longer wants, and nobody else holds.
struct Dropped<'p> {
    /// These go, whatever is in them.
    fields: BTreeSet<&'p [String]>,
    /// These go if nothing is left in them.
    hollow: BTreeSet<&'p [String]>,
}

/// Takes dropped fields out of a document.
fn prune(root: &Value, schema: &Value, value: &mut Value, path: &mut Path, dropped: &Dropped<'_>) {
    let mut stays = |schema: &Value, step: String, value: &mut Value| {
        path.push(step);
        let mut stays = !dropped.fields.contains(path.as_slice());
        if stays {
            prune(root, schema, value, path, dropped);
            let empty = value.as_object().is_some_and(Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty);
            stays = !empty || path.len() < 2 || !dropped.hollow.contains(path.as_slice());
        }
        path.pop();
        stays
    };
    match (shape(root, schema), value) {
        (Shape::Members(schema), Value::Object(members)) => {
            members.retain(|name, value| stays(of_member(schema, name), member(name), value));
        }
        (Shape::Items(schema, keys), Value::Array(list)) => {
            list.retain_mut(|value| match item(&keys, value) {
                Some(step) => stays(schema, step, value),
                None => true,
            });
        }
        _ => {}
    }
}
