//! Steps over a document.

use serde_json::Value;

use super::{Node, Operand, Relation, Step, Steps, order, shown};

/// Writes what nodes make of a document, from the value at which a range stands.
pub(super) fn render(nodes: &[Node], root: &Value, here: &Value, text: &mut String) {
    for node in nodes {
        match node {
            Node::Text(plain) => text.push_str(plain),
            Node::Path(steps) => {
                let found: Vec<String> = find(steps, root, here).into_iter().map(shown).collect();
                text.push_str(&found.join(" "));
            }
            Node::Range(steps, body) => {
                for value in find(steps, root, here) {
                    render(body, root, value, text);
                }
            }
        }
    }
}

/// Everything that steps lead to, in the order of the document.
pub(super) fn find<'a>(steps: &Steps, root: &'a Value, here: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![if steps.from_root { root } else { here }];
    for step in &steps.steps {
        found = match step {
            // Of several, the first of all before the second of any.
            Step::Fields(names) => names
                .iter()
                .flat_map(|name| found.iter().filter_map(|value| member(value, name)))
                .collect(),
            Step::Places(places) => places
                .iter()
                .flat_map(|place| found.iter().filter_map(|value| element(value, *place)))
                .collect(),
            Step::Every => found.into_iter().flat_map(children).collect(),
            Step::Deep => found.into_iter().flat_map(deep).collect(),
            Step::Slice(from, to, step) => {
                found.into_iter().flat_map(|value| slice(value, *from, *to, *step)).collect()
            }
            Step::Filter(left, right) => found
                .into_iter()
                .flat_map(children)
                .filter(|child| holds(left, right.as_ref(), root, child))
                .collect(),
        };
    }
    found
}

/// A member by its name; a name with dots that is none of a member is a path.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let literal = || value.as_object()?.get(name);
    literal().or_else(|| {
        let (front, rest) = name.split_once('.')?;
        member(value.as_object()?.get(front)?, rest)
    })
}

fn element(value: &Value, place: i64) -> Option<&Value> {
    let list = value.as_array()?;
    list.get(at(place, list.len())?)
}

/// What a slice leaves of a list.
fn slice(value: &Value, from: Option<i64>, to: Option<i64>, step: Option<i64>) -> Vec<&Value> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let cut = |n: i64| edge(n, list.len());
    let (from, to) = (from.map_or(0, cut), to.map_or(list.len(), cut));
    let step = step.and_then(|step| usize::try_from(step).ok()).unwrap_or(1).max(1);
    list.iter().take(to).skip(from).step_by(step).collect()
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// The value and all that is in it, from the outside in.
fn deep(value: &Value) -> Vec<&Value> {
    std::iter::once(value).chain(children(value).into_iter().flat_map(deep)).collect()
}

/// The index of a place, from the end where it is negative.
fn at(place: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if place < 0 { place.checked_add(length)? } else { place }).ok()
}

/// The edge of a slice: within the list, whatever was written.
fn edge(place: i64, length: usize) -> usize {
    at(place, length).unwrap_or(0).min(length)
}

fn holds(left: &Operand, right: Option<&(Relation, Operand)>, root: &Value, child: &Value) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Path(steps) => find(steps, root, child).first().copied().cloned(),
        Operand::Literal(value) => Some(value.clone()),
    };
    let left = value(left);
    match right {
        // That it is there, and says no no.
        None => left.is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))),
        Some((relation, right)) => match (left, value(right)) {
            (Some(left), Some(right)) => relation.holds(order(&left, &right)),
            // What is not there differs from all else.
            (left, right) => *relation == Relation::Unequal && left != right,
        },
    }
}
