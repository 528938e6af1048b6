//! Changes of one document of a YAML text that leave every other byte where it was: comments, order,
//! quotes, indentation, other documents.
//!
//! The parser says where each value stands; a merge patch becomes a handful of cuts at those places
//! ([`cut`]), and what is put in is written as the text around it is ([`write`]). Then the result is
//! read again, and taken only if it says what was meant and nothing else: what this module cannot
//! change safely (a value that is an alias, an anchor that others use, a key in a notation that it
//! does not know) is refused, and the file stays as it is.

mod cut;
mod tree;
mod write;

use serde_json::Value;

use crate::resource::{Kind, merge::merge_patch, yaml};

use cut::{Cut, cuts};
use tree::{Node, documents};

/// Why a document was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is no YAML.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// No document declares the object.
    #[error("no document of the file declares {0}")]
    NotThere(String),
    /// A list declares it among others.
    #[error("{0} stands in a List, whose items are not changed; make it a document of its own")]
    InList(String),
    /// Several do.
    #[error("{0} stands in the file more than once; keep one of them")]
    Twice(String),
    /// An alias or an anchor is in the way.
    #[error("line {line}: `{path}` is {what}; write the value out, then try again")]
    Shared {
        /// The line.
        line: usize,
        /// The field.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// What would have come of it is not what was meant.
    #[error("the file is written in a way that cannot be changed safely; change it by hand")]
    Unsure,
}

/// The text with one object's spec patched.
///
/// # Errors
/// Why it is not changed.
pub fn patch(text: &str, kind: Kind, name: &str, patch: &Value) -> Result<String, Refused> {
    let values =
        |text: &str| yaml::values(text).map_err(|fault| Refused::Unreadable(fault.to_string()));
    let before = values(text)?;
    let whose = format!("{}/{name}", kind.singular());
    let mut declared = before.iter().enumerate().filter(|(_, value)| is(value, kind, name));
    let in_list = |value: &Value| {
        let items = value["items"].as_array();
        items.is_some_and(|items| items.iter().any(|item| is(item, kind, name)))
    };
    let Some((at, value)) = declared.next() else {
        let is_listed = before.iter().any(in_list);
        return Err(if is_listed { Refused::InList(whose) } else { Refused::NotThere(whose) });
    };
    if declared.next().is_some() {
        return Err(Refused::Twice(whose));
    }
    let mut wanted = value.clone();
    merge_patch(&mut wanted["spec"], patch);
    without_nulls(&mut wanted);
    if wanted == *value {
        return Ok(text.to_owned());
    }
    let trees = documents(text).map_err(Refused::Unreadable)?;
    let document = trees.iter().find(|tree| declares(tree, kind, name));
    let document = document.ok_or(Refused::NotThere(whose))?;
    let mut whole = serde_json::Map::new();
    whole.insert("spec".to_owned(), patch.clone());
    let found = cuts(text, document, value, &Value::Object(whole))?;
    let changed = apply(text, found);
    let after = values(&changed).map_err(|_| Refused::Unsure)?;
    let mut meant = before.clone();
    meant[at] = wanted;
    if after == meant { Ok(changed) } else { Err(Refused::Unsure) }
}

fn is(value: &Value, kind: Kind, name: &str) -> bool {
    value["kind"] == kind.name() && value["metadata"]["name"] == name
}

fn declares(tree: &Node, kind: Kind, name: &str) -> bool {
    let text = |node: Option<&Node>| node.and_then(|node| node.text.clone());
    let named = tree.get("metadata").and_then(|metadata| metadata.get("name"));
    text(tree.get("kind")).as_deref() == Some(kind.name()) && text(named).as_deref() == Some(name)
}

/// What is null counts as absent, here as everywhere.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Makes the cuts, from the end of the text to its beginning.
fn apply(text: &str, mut cuts: Vec<Cut>) -> String {
    // Those at one place stay in their order.
    cuts.sort_by_key(|cut| cut.range.start);
    let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut changed = text.to_owned();
    let mut removed = None;
    for Cut { mut range, text: new } in cuts.into_iter().rev() {
        let is_removal = new.is_empty() && !range.is_empty();
        // The last lines of a text without a break at its end go with the break in front of them,
        // which those before them would take as theirs: they go with the one in front as well.
        if let Some(next) = removed
            && is_removal
            && range.end > next
            && text.as_bytes().get(next) == Some(&b'\n')
            && text[..range.start].ends_with('\n')
        {
            range = range.start - 1..next;
        }
        removed = is_removal.then_some(range.start);
        if changed.get(range.clone()).is_none() {
            // It says not what was meant, and is refused for that.
            return changed;
        }
        changed.replace_range(range, &new.replace('\n', eol));
    }
    changed
}

#[cfg(test)]
mod tests;
