//! JSON Patch, RFC 6902, within bounds.
//!
//! A short patch can make a large document: it copies a part, then what it copied, and so on, or
//! hangs one into the other until no stack holds it. So copies are counted, and depth is measured.
//! And a short patch can make much work: each of many operations moves or measures all of a long list.
//! So what an operation moves and measures is counted, too, before it is done.

use json_patch::{Patch, PatchOperation, patch};
use serde_json::Value;

/// The most operations of a patch, as in Kubernetes.
const MOST_OPERATIONS: usize = 10_000;
/// The most bytes that the copies of a patch may amount to.
const MOST_COPIED: usize = 3 * 1024 * 1024;
/// The most values that the operations of a patch may move and measure together: ten thousand
/// operations in the middle of a list of a thousand, or twenty in one of a million.
const MOST_STEPS: usize = 20_000_000;
/// The deepest document that a patch may leave. The deepest place of our types is a quarter.
const DEEPEST: usize = 64;

/// Why a patch could not be applied; the document is then as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no patch.
    #[error(
        "the body is no JSON Patch, a list such as [{{\"op\": \"replace\", \"path\": \
         \"/spec/suspend\", \"value\": true}}]: {0}"
    )]
    NoPatch(String),
    /// It has too many operations.
    #[error("the patch has {0} operations (limit {MOST_OPERATIONS}); send it in parts")]
    TooMany(usize),
    /// Its copies amount to too much.
    #[error("the patch copies more than {MOST_COPIED} bytes; write the values out")]
    TooLarge,
    /// Its operations move or measure too much.
    #[error(
        "the patch moves more than {MOST_STEPS} values; send it in parts, or replace the list that it \
         changes so often as a whole"
    )]
    TooMuch,
    /// What it makes is nested too deep.
    #[error("the patch nests values deeper than {DEEPEST} levels; write them flatter")]
    TooDeep,
    /// An operation does not fit the document, or what it tests is not so.
    #[error("operation {n} of the patch ({what}) cannot be done: {why}")]
    DoesNotFit {
        /// Which operation, from 0.
        n: usize,
        /// The operation and its path.
        what: String,
        /// Why.
        why: String,
    },
}

/// Applies a patch to a document: all of it, or nothing.
///
/// # Errors
/// The first thing that is wrong.
pub fn json_patch(target: &mut Value, document: Value) -> Result<(), Error> {
    let Patch(operations) =
        serde_json::from_value(document).map_err(|error| Error::NoPatch(error.to_string()))?;
    if operations.len() > MOST_OPERATIONS {
        return Err(Error::TooMany(operations.len()));
    }
    let mut result = target.clone();
    let (mut copied, mut steps) = (0_usize, 0_usize);
    for (n, operation) in operations.iter().enumerate() {
        if let PatchOperation::Copy(copy) = operation {
            let size = result.pointer(copy.from.as_str()).map_or(0, size);
            copied = copied.saturating_add(size);
            if copied > MOST_COPIED {
                return Err(Error::TooLarge);
            }
        }
        let work = Work::of(operation, &result);
        steps = steps.saturating_add(work.steps);
        if steps > MOST_STEPS {
            return Err(Error::TooMuch);
        }
        if work.depth > DEEPEST {
            return Err(Error::TooDeep);
        }
        patch(&mut result, std::slice::from_ref(operation)).map_err(|error| Error::DoesNotFit {
            n,
            what: called(operation),
            why: error.kind.to_string(),
        })?;
    }
    *target = result;
    Ok(())
}

/// What an operation would do to a document.
struct Work {
    /// How many values it moves or measures, about.
    steps: usize,
    /// How deep the document is afterwards where it puts something; 0 where it puts nothing.
    depth: usize,
}

impl Work {
    fn of(operation: &PatchOperation, document: &Value) -> Self {
        let path = operation.path().as_str();
        let at = |from: &str| document.pointer(from).unwrap_or(&Value::Null);
        let (put, moved) = match operation {
            PatchOperation::Add(add) => (Some(&add.value), shifted(document, path)),
            PatchOperation::Replace(replace) => (Some(&replace.value), 0),
            PatchOperation::Copy(copy) => (Some(at(copy.from.as_str())), shifted(document, path)),
            PatchOperation::Move(moves) => {
                let from = moves.from.as_str();
                (Some(at(from)), shifted(document, path) + shifted(document, from))
            }
            PatchOperation::Remove(_) => (None, shifted(document, path)),
            // It compares no more than it brings.
            PatchOperation::Test(_) => (None, 0),
        };
        let mut steps = moved + 1;
        let above = path.matches('/').count();
        let depth = put.map_or(0, |value| above + depth(value, 0, &mut steps));
        Self { steps, depth }
    }
}

/// How many items make room for one that comes or goes at a path: those of the list that it is in,
/// unless it comes at the end.
fn shifted(document: &Value, path: &str) -> usize {
    match path.rsplit_once('/') {
        None | Some((_, "-")) => 0,
        Some((list, _)) => document.pointer(list).and_then(Value::as_array).map_or(0, Vec::len),
    }
}

fn called(operation: &PatchOperation) -> String {
    let word = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    };
    let path: String = operation.path().as_str().chars().take(200).collect();
    format!("{word} {path}")
}

/// About how many bytes a value takes; counting ends where it is too much.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| 1 + size(item)).sum::<usize>() + 2,
        Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() + 4 + size(value)).sum::<usize>() + 2
        }
    }
}

/// How deep a value is nested, and a step for each value in it. Everything that stands in the document
/// is at most [`DEEPEST`] deep, and so is everything that a parser lets through at most 128.
fn depth(value: &Value, above: usize, steps: &mut usize) -> usize {
    *steps += 1;
    let children: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => return above,
    };
    children.map(|child| depth(child, above + 1, steps)).max().unwrap_or(above + 1)
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};
    use serde_json::json;

    use super::*;

    fn patched(mut target: Value, patch: Value) -> Result<Value, Error> {
        json_patch(&mut target, patch).map(|()| target)
    }

    #[test]
    fn the_operations_of_the_rfc_do_what_they_say() {
        let target = json!({"a": {"b": [1, 2]}, "c/d": 1});
        for (patch, result) in [
            (
                json!([{"op": "add", "path": "/a/b/-", "value": 3}]),
                json!({"a": {"b": [1, 2, 3]}, "c/d": 1}),
            ),
            (json!([{"op": "remove", "path": "/c~1d"}]), json!({"a": {"b": [1, 2]}})),
            (json!([{"op": "replace", "path": "/a", "value": 1}]), json!({"a": 1, "c/d": 1})),
            (json!([{"op": "move", "from": "/a/b", "path": "/a"}]), json!({"a": [1, 2], "c/d": 1})),
            (
                json!([{"op": "copy", "from": "/a/b/0", "path": "/e"}]),
                json!({"a": {"b": [1, 2]}, "c/d": 1, "e": 1}),
            ),
            (json!([{"op": "test", "path": "/a/b/1", "value": 2}]), target.clone()),
        ] {
            assert_eq!(patched(target.clone(), patch.clone()), Ok(result), "{patch}");
        }
    }

    #[test]
    fn a_patch_that_fails_anywhere_changes_nothing_and_says_where() {
        let mut target = json!({"a": 1});
        let patch = json!([
            {"op": "replace", "path": "/a", "value": 2},
            {"op": "test", "path": "/a", "value": 3},
        ]);
        let error = json_patch(&mut target, patch).unwrap_err();
        assert!(
            matches!(&error, Error::DoesNotFit { n: 1, what, .. } if what == "test /a"),
            "{error}"
        );
        assert_eq!(target, json!({"a": 1}));
    }

    #[test]
    fn a_patch_grows_no_document_without_bound() {
        let mut operations = vec![json!({"op": "add", "path": "/a", "value": "x".repeat(1000)})];
        operations.extend((0..64).map(|_| json!({"op": "copy", "from": "", "path": "/a"})));
        assert_eq!(patched(json!({}), operations.into()), Err(Error::TooDeep));
        let mut wide = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(1000)]})];
        wide.extend((0..64).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})));
        let outcome = patched(json!({}), wide.into());
        assert!(matches!(outcome, Err(Error::TooDeep | Error::TooLarge)), "{outcome:?}");
        let flat = (0..4000).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/{n}")}));
        let outcome = patched(json!({"a": "x".repeat(1000)}), flat.collect::<Vec<_>>().into());
        assert_eq!(outcome, Err(Error::TooLarge));
        let many = vec![json!({"op": "test", "path": "/a", "value": 1}); MOST_OPERATIONS + 1];
        assert_eq!(patched(json!({"a": 1}), many.into()), Err(Error::TooMany(MOST_OPERATIONS + 1)));
    }

    #[test]
    fn a_patch_does_no_more_work_than_it_may() {
        let long = json!({"a": vec![Value::Null; 100_000], "b": []});
        let many = |operation: Value| Value::from(vec![operation; MOST_OPERATIONS]);
        // At the end of a list nothing moves, however long it is.
        let end = many(json!({"op": "add", "path": "/a/-", "value": 1}));
        let grown = patched(long.clone(), end).unwrap();
        assert_eq!(grown["a"].as_array().map(Vec::len), Some(110_000));
        for operation in [
            json!({"op": "add", "path": "/a/0", "value": 1}),
            json!({"op": "remove", "path": "/a/0"}),
            json!({"op": "move", "from": "/a/0", "path": "/a/1"}),
            json!({"op": "move", "from": "/a", "path": "/a"}),
        ] {
            let outcome = patched(long.clone(), many(operation.clone()));
            assert_eq!(outcome, Err(Error::TooMuch), "{operation}");
        }
        let few = json!({"op": "add", "path": "/a/0", "value": 1});
        assert!(patched(long, Value::from(vec![few; 150])).is_ok());
    }

    #[test]
    fn what_is_no_patch_is_told_with_what_is_one() {
        for document in [json!({}), json!(null), json!([{"op": "paint"}]), json!([{"op": "add"}])] {
            assert!(matches!(patched(json!({}), document), Err(Error::NoPatch(_))));
        }
    }

    proptest! {
        #[test]
        fn a_patch_never_panics_and_keeps_to_the_depth(
            steps in collection::vec((0..6_usize, "(/[ab]){0,3}(/[0-9-])?", "(/[ab]){0,3}"), 0..40),
        ) {
            let word = ["add", "remove", "replace", "move", "copy", "test"];
            let patch: Vec<Value> = steps
                .into_iter()
                .map(|(op, path, from)| {
                    json!({"op": word[op], "path": path, "from": from, "value": {"a": [1]}})
                })
                .collect();
            let mut target = json!({"a": {"b": [1, 2]}, "b": {}});
            let _ = json_patch(&mut target, patch.into());
            prop_assert!(depth(&target, 0, &mut 0) <= DEEPEST);
        }
    }
}
