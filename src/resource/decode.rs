//! From a tree to a typed object, or to everything that is wrong with it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    API_VERSION, AnyObject, Fault, Faults, Kind, Metadata, Object, OverrideSpec, OverrideStatus,
    check,
    fault::{in_order, nearest, quoted},
    schema,
    tree::{Node, Plain, Shape},
    validate,
};

/// Reads an object from JSON and says everything that is wrong with it. Members that are null
/// count as absent. For YAML there is [`super::yaml::read`], which also tells line and column.
///
/// # Errors
/// Every fault, with its path.
pub fn decode(json: Value) -> Result<AnyObject, Faults> {
    tree(&Node::from(json)).map_err(|faults| Faults(in_order(faults)))
}

/// Looks in a JSON text for members that stand twice, of which a reader would drop one.
///
/// # Errors
/// Every such member. A text that is no JSON has none.
pub fn json_doubles(text: &[u8]) -> Result<(), Faults> {
    let mut faults = Vec::new();
    if let Ok(Plain(node)) = serde_json::from_slice(text) {
        check::doubles(&node, "", &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(in_order(faults))) }
}

/// As [`decode`], for a tree that knows its places.
pub(super) fn tree(node: &Node) -> Result<AnyObject, Vec<Fault>> {
    if !matches!(node.shape, Shape::Map(_)) {
        let found = node.describe();
        let message =
            format!("expected an object with apiVersion, kind, metadata and spec, found {found}");
        return Err(vec![node.fault("", message)]);
    }
    let mut faults = Vec::new();
    check::doubles(node, "", &mut faults);
    version(node, &mut faults);
    let Some(kind) = kind(node, &mut faults) else { return Err(faults) };
    let judged = faults.iter().any(|fault| fault.path == "kind");
    let found = check::check(schema::of(kind), node);
    faults.extend(found.into_iter().filter(|fault| !judged || fault.path != "kind"));
    validate::rules(kind, node, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    match kind {
        Kind::Agent => typed(node).map(|object| AnyObject::Agent(Box::new(object))),
        Kind::Job => typed(node).map(|object| AnyObject::Job(Box::new(object))),
        Kind::Fleet => typed(node).map(|object| AnyObject::Fleet(Box::new(object))),
        Kind::Schedule => typed(node).map(|object| AnyObject::Schedule(Box::new(object))),
        Kind::Source => typed(node).map(|object| AnyObject::Source(Box::new(object))),
        Kind::Override => typed(node).map(|mut object: Object<OverrideSpec, OverrideStatus>| {
            // Here alone a null says something: it takes a field away.
            if let Some(patch) = node.at(&["spec", "patch"]) {
                object.spec.patch = patch.to_patch();
            }
            AnyObject::Override(Box::new(object))
        }),
        Kind::Sprite => typed(node).map(|object| AnyObject::Sprite(Box::new(object))),
    }
}

fn version(node: &Node, faults: &mut Vec<Fault>) {
    match node.get("apiVersion").map(|version| (version, version.text())) {
        Some((_, Some(API_VERSION))) => {}
        Some((version, _)) => {
            let found = version.describe();
            let message = format!("expected {API_VERSION}, found {found}");
            faults.push(version.fault("apiVersion", message));
        }
        // The schema says that it is missing; without a kind it has no chance to.
        None if node.get("kind").is_none() => {
            faults.push(node.fault("apiVersion", format!("is missing; write {API_VERSION}")));
        }
        None => {}
    }
}

fn kind(node: &Node, faults: &mut Vec<Fault>) -> Option<Kind> {
    let names = Kind::ALL.map(Kind::name);
    let list = names.join(", ");
    let Some(kind) = node.get("kind") else {
        faults.push(node.fault("kind", format!("is missing; write one of {list}")));
        return None;
    };
    let message = match kind.text() {
        Some(word) => match word.parse() {
            Ok(kind) => return Some(kind),
            Err(_) => match nearest(word, names) {
                Some(name) => {
                    let message = format!("{} is no kind; did you mean `{name}`?", quoted(word));
                    faults.push(kind.fault("kind", message));
                    // The rest is judged as what was meant.
                    return name.parse().ok();
                }
                None => format!("{} is no kind; write one of {list}", quoted(word)),
            },
        },
        None => format!("expected one of {list}, found {}", kind.describe()),
    };
    faults.push(kind.fault("kind", message));
    None
}

/// Serde's last word.
fn typed<S, T>(node: &Node) -> Result<Object<S, T>, Vec<Fault>>
where
    S: DeserializeOwned,
    T: DeserializeOwned + Default,
{
    let mut faults = Vec::new();
    let metadata: Option<Metadata> = part(node, "metadata", &mut faults);
    let spec: Option<S> = part(node, "spec", &mut faults);
    let status: Option<T> = match node.get("status") {
        None => Some(T::default()),
        Some(_) => part(node, "status", &mut faults),
    };
    match (metadata, spec, status) {
        (Some(metadata), Some(spec), Some(status)) => Ok(Object { metadata, spec, status }),
        _ => Err(faults),
    }
}

fn part<T: DeserializeOwned>(node: &Node, name: &str, faults: &mut Vec<Fault>) -> Option<T> {
    let part = node.get(name).unwrap_or(node);
    match serde_path_to_error::deserialize(part.to_value()) {
        Ok(value) => Some(value),
        Err(error) => {
            let mut path = name.to_owned();
            let mut found = part;
            for segment in error.path() {
                use serde_path_to_error::Segment;
                let next = match segment {
                    Segment::Seq { index } => {
                        path = format!("{path}[{index}]");
                        found.items().get(*index)
                    }
                    Segment::Map { key } | Segment::Enum { variant: key } => {
                        path = check::join(&path, key);
                        found.get(key)
                    }
                    Segment::Unknown => None,
                };
                found = next.unwrap_or(found);
            }
            faults.push(found.fault(path, error.inner().to_string()));
            None
        }
    }
}
