//! The operations that the OpenAPI documents describe, told once for both versions.

use serde_json::{Map, Value, json};

use super::{
    beside,
    schemas::{full_name, gvk},
};
use crate::resource::{API_VERSION, Kind, merge::merge_patch};

/// The types of documents that are taken.
const DOCUMENTS: [&str; 2] = ["application/json", "application/yaml"];
/// The types of patches of an object that are taken.
const PATCHES: [&str; 3] =
    ["application/merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml"];
/// The types of answers that are objects, or lists of such.
pub(super) const ANSWERS: &[&str] = &["application/json", "application/yaml"];

/// A parameter of an address.
#[derive(Clone)]
pub(super) struct Param {
    pub(super) name: &'static str,
    /// `string`, `integer` or `boolean`.
    pub(super) sort: &'static str,
    pub(super) about: &'static str,
    /// The only values, where there are such.
    pub(super) only: &'static [&'static str],
}

/// A body.
pub(super) struct Body {
    pub(super) sorts: Vec<&'static str>,
    /// The full name of its schema.
    pub(super) schema: String,
    pub(super) required: bool,
}

/// An operation.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) about: String,
    /// What Kubernetes' clients look for: what is done, and to what; nothing where they know no such.
    pub(super) of: Option<Map<String, Value>>,
    pub(super) params: Vec<Param>,
    pub(super) body: Option<Body>,
    /// The types of the answers.
    pub(super) sorts: &'static [&'static str],
    /// Statuses and the full names of their schemas, of which a status may have several; `string` is
    /// a text, and a name in brackets a list. What else there is, is a `Status`.
    pub(super) answers: Vec<(&'static str, String)>,
}

/// A path and what can be done there.
pub(super) struct Path {
    pub(super) path: String,
    /// What stands in it in braces, and what that is.
    pub(super) names: Vec<(&'static str, &'static str)>,
    pub(super) operations: Vec<Operation>,
}

/// What Kubernetes' clients look for at an operation.
pub(super) fn extensions(action: &str, of: Value) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("x-kubernetes-action".to_owned(), action.into());
    map.insert("x-kubernetes-group-version-kind".to_owned(), of);
    map
}

/// The schema of an answer, by how a version refers to a schema.
pub(super) fn answered(schema: &str, reference: fn(&str) -> Value) -> Value {
    match schema.strip_prefix('[').and_then(|schema| schema.strip_suffix(']')) {
        Some(inner) => json!({"type": "array", "items": reference(inner)}),
        None if schema == "string" => json!({"type": "string"}),
        None => reference(schema),
    }
}

/// The address of something of a kind.
pub(super) fn at(kind: Kind, rest: &str) -> String {
    format!("/apis/{API_VERSION}/{}{rest}", kind.plural())
}

pub(super) const fn text(name: &'static str, about: &'static str) -> Param {
    Param { name, sort: "string", about, only: &[] }
}

pub(super) const fn word(
    name: &'static str,
    about: &'static str,
    only: &'static [&'static str],
) -> Param {
    Param { name, sort: "string", about, only }
}

pub(super) const fn number(name: &'static str, about: &'static str) -> Param {
    Param { name, sort: "integer", about, only: &[] }
}

pub(super) const fn flag(name: &'static str, about: &'static str) -> Param {
    Param { name, sort: "boolean", about, only: &[] }
}

pub(super) const PRETTY: Param = flag("pretty", "Lines and indents.");
const DRY_RUN: Param =
    word("dryRun", "All: everything is checked and nothing is written.", &["All"]);
pub(super) const LIMIT: Param = number("limit", "The most objects of a page.");
pub(super) const CONTINUE: Param = text("continue", "The token of the next page.");
const SELECT: [Param; 4] = [
    text("labelSelector", "Which labels the objects have."),
    text("fieldSelector", "Which fields the objects have, such as status.phase=Idle."),
    LIMIT,
    CONTINUE,
];
const LIST: [Param; 6] = [
    text("resourceVersion", "The revision that is wanted, or behind which a watch begins."),
    word("resourceVersionMatch", "How it is meant.", &["Exact", "NotOlderThan"]),
    flag("watch", "What happens from there, instead of a list."),
    flag("allowWatchBookmarks", "Whether a watch says now and then how far it is."),
    flag("sendInitialEvents", "Whether a watch begins with what is there."),
    number("timeoutSeconds", "How long a watch lives."),
];
pub(super) const WRITE: [Param; 4] = [
    DRY_RUN,
    word(
        "ifDeclared",
        "What a dry run does where a Source declares the object, so that the write would be refused; \
         Warn where nothing is said.",
        &["Warn", "Refuse"],
    ),
    text("fieldManager", "Who holds the fields that are written."),
    word(
        "fieldValidation",
        "What becomes of unknown fields; Strict where nothing is said.",
        &["Strict", "Warn", "Ignore"],
    ),
];
// `orphanDependents` is taken, too, but not beside `propagationPolicy`, which a document cannot say.
const DELETE: [Param; 3] = [
    DRY_RUN,
    number("gracePeriodSeconds", "Taken, and without meaning."),
    word(
        "propagationPolicy",
        "Background and Foreground have the same effect; Orphan is for Fleets and Schedules alone.",
        &["Background", "Foreground", "Orphan"],
    ),
];

/// All paths as they stand in a document: how a version says that a name is a text, and how it
/// describes an operation, are all in which the versions differ.
pub(super) fn items(text: &Value, described: impl Fn(&Operation) -> Value) -> Map<String, Value> {
    let item = |path: &Path| {
        let mut item = Map::new();
        let parameter = |(name, about): &(&str, &str)| {
            let mut parameter =
                json!({"name": name, "in": "path", "required": true, "description": about});
            merge_patch(&mut parameter, text);
            parameter
        };
        if !path.names.is_empty() {
            item.insert("parameters".to_owned(), path.names.iter().map(parameter).collect());
        }
        for operation in &path.operations {
            item.insert(operation.method.to_owned(), described(operation));
        }
        Value::Object(item)
    };
    all().into_iter().map(|path| (path.path.clone(), item(&path))).collect()
}

/// All paths.
pub(super) fn all() -> Vec<Path> {
    let of_kind = |kind| of_kind(kind).into_iter().chain(beside::paths(kind));
    Kind::ALL.into_iter().flat_map(of_kind).chain([beside::events()]).collect()
}

/// What stands in the address of an object.
pub(super) const NAME: (&str, &str) = ("name", "The object's name.");

fn of_kind(kind: Kind) -> [Path; 3] {
    let at = |rest: &str| at(kind, rest);
    let schema = |name: &str| full_name(name);
    let object = schema(kind.name());
    let list = schema(&format!("{kind}List"));
    let operation = |method, verb: &str, about: String, action| Operation {
        method,
        id: format!("{verb}{kind}"),
        about,
        of: Some(extensions(action, gvk(kind.name()))),
        params: vec![PRETTY],
        body: None,
        sorts: ANSWERS,
        answers: vec![("200", object.clone())],
    };
    let with = |operation: Operation, params: &[Param]| {
        let params = [operation.params, params.to_vec()].concat();
        Operation { params, ..operation }
    };
    let taking = |operation: Operation, sorts: &[&'static str], schema: &str, required| {
        let body = Body { sorts: sorts.to_vec(), schema: schema.to_owned(), required };
        Operation { body: Some(body), ..operation }
    };
    let created = || vec![("200", object.clone()), ("201", object.clone())];
    let plural = kind.plural();

    let mut of_all = vec![
        {
            let about = format!("Lists {plural}, or with `watch` tells what happens to them.");
            let it = with(operation("get", "list", about, "list"), &[&SELECT[..], &LIST].concat());
            Operation { answers: vec![("200", list.clone())], ..it }
        },
        {
            let about = format!("Deletes all {plural} that the selectors choose.");
            let params = [&SELECT[..], &DELETE].concat();
            let it =
                with(operation("delete", "deleteCollection", about, "deletecollection"), &params);
            let it = taking(it, &DOCUMENTS, &schema("DeleteOptions"), false);
            Operation { answers: vec![("200", list)], ..it }
        },
    ];
    if kind != Kind::Sprite {
        let it = with(
            operation("post", "create", format!("Makes one of the {plural}."), "post"),
            &WRITE,
        );
        let once = text("requestId", "A request with the same id gets what the first one got.");
        let it = taking(with(it, &[once]), &DOCUMENTS, &object, true);
        of_all.push(Operation { answers: created(), ..it });
    }
    let replace = |verb: &str, what: &str| {
        let it = operation("put", verb, format!("Replaces {what} of one of the {plural}."), "put");
        taking(with(it, &WRITE), &DOCUMENTS, &object, true)
    };
    let patch = |verb: &str, what: &str, sorts: &[&'static str]| {
        let it =
            operation("patch", verb, format!("Patches {what} of one of the {plural}."), "patch");
        let force = flag("force", "Whether an apply patch takes fields of others.");
        let it = taking(with(with(it, &WRITE), &[force]), sorts, &schema("Patch"), true);
        Operation { answers: created(), ..it }
    };
    let delete = {
        let about =
            format!("Deletes one of the {plural}: answers with it while something holds it.");
        let it = with(operation("delete", "delete", about, "delete"), &DELETE);
        let it = taking(it, &DOCUMENTS, &schema("DeleteOptions"), false);
        // With the object while something holds it; version 2 can tell of the first alone.
        let answers = vec![("200", schema("Status")), ("200", schema(kind.name()))];
        Operation { answers, ..it }
    };
    let read = |verb: &str| operation("get", verb, format!("Reads one of the {plural}."), "get");
    let desired = "spec, labels and annotations";
    [
        Path { path: at(""), names: Vec::new(), operations: of_all },
        Path {
            path: at("/{name}"),
            names: vec![NAME],
            operations: vec![
                read("read"),
                replace("replace", desired),
                patch("patch", desired, &PATCHES),
                delete,
            ],
        },
        Path {
            path: at("/{name}/status"),
            names: vec![NAME],
            operations: vec![
                Operation { id: format!("read{kind}Status"), ..read("read") },
                Operation {
                    id: format!("replace{kind}Status"),
                    ..replace("replace", "the status")
                },
                Operation {
                    id: format!("patch{kind}Status"),
                    ..patch("patch", "the status", &PATCHES[..2])
                },
            ],
        },
    ]
}

/// A parameter's schema, in the words of both versions.
pub(super) fn schema_of(param: &Param) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("type".to_owned(), param.sort.into());
    if param.sort == "integer" {
        map.insert("minimum".to_owned(), 0.into());
    }
    if !param.only.is_empty() {
        map.insert("enum".to_owned(), json!(param.only));
    }
    map
}
