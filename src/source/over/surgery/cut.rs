//! Which bytes of a text a patch replaces, and by what.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{
    Refused,
    tree::{Node, Style},
    write::{Manner, as_before, block, flow, list_item, spaces},
};
use crate::resource::merge::merge_patch;

/// Bytes, and what takes their place.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// The cuts by which a document comes to say what it says with a patch merged in.
pub(super) fn cuts(
    text: &str,
    document: &Node,
    value: &Value,
    patch: &Value,
) -> Result<Vec<Cut>, Refused> {
    let mut surgeon = Surgeon { text, manner: manner(document), cuts: Vec::new() };
    let nothing = Map::new();
    let (patch, value) = (patch.as_object().unwrap_or(&nothing), value.as_object());
    surgeon.map(document, value.unwrap_or(&nothing), patch, "")?;
    Ok(surgeon.cuts)
}

/// How far in a document's maps and lists stand.
fn manner(document: &Node) -> Manner {
    fn look(node: &Node, step: &mut Option<usize>, list: &mut Option<usize>) {
        for (key, value) in node.members() {
            let further = value.column.saturating_sub(key.column);
            if value.style == Style::Block && value.line > key.line {
                if !value.items().is_empty() {
                    list.get_or_insert(further);
                } else if further > 0 {
                    step.get_or_insert(further);
                }
            }
            look(value, step, list);
        }
        for item in node.items() {
            look(item, step, list);
        }
    }
    let (mut step, mut list) = (None, None);
    look(document, &mut step, &mut list);
    Manner { step: step.unwrap_or(2), list: list.unwrap_or(0) }
}

struct Surgeon<'a> {
    text: &'a str,
    manner: Manner,
    cuts: Vec<Cut>,
}

impl Surgeon<'_> {
    fn cut(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.cuts.push(Cut { range, text: text.into() });
    }

    fn map(
        &mut self,
        node: &Node,
        value: &Map<String, Value>,
        patch: &Map<String, Value>,
        path: &str,
    ) -> Result<(), Refused> {
        let mut fresh = Vec::new();
        for (name, change) in patch {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let old = value.get(name).unwrap_or(&Value::Null);
            let mut new = old.clone();
            merge_patch(&mut new, change);
            if change.is_null() {
                new = Value::Null;
            }
            if new == *old {
                continue;
            }
            let Some((key, inner)) = node.member(name) else {
                if !new.is_null() {
                    fresh.push((name, new));
                }
                continue;
            };
            self.is_its_own(inner, &path)?;
            match (old, &new, change) {
                (Value::Object(old), Value::Object(new), Value::Object(change))
                    if !old.is_empty() && !new.is_empty() =>
                {
                    if inner.is_marked {
                        return Err(shared(inner, &path));
                    }
                    self.map(inner, old, change, &path)?;
                }
                (_, Value::Null, _) => {
                    self.whole(inner, &path)?;
                    self.remove(node, key, inner);
                }
                (Value::Array(old), Value::Array(new), _) if self.splices(inner, old, new) => {
                    self.whole(inner, &path)?;
                    self.splice(inner, old, new);
                }
                _ => {
                    self.whole(inner, &path)?;
                    self.replace(node, key, inner, &new);
                }
            }
        }
        for (name, new) in fresh {
            self.insert(node, name, &new);
        }
        Ok(())
    }

    fn is_its_own(&self, node: &Node, path: &str) -> Result<(), Refused> {
        if node.style == Style::Alias { Err(shared(node, path)) } else { Ok(()) }
    }

    /// Whether all of a value may go: nothing in it is used elsewhere, or comes from there.
    fn whole(&self, node: &Node, path: &str) -> Result<(), Refused> {
        node.shared().map_or(Ok(()), |found| Err(shared(found, path)))
    }

    /// The end of the line in which a byte stands, without the line break.
    fn line_end(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let end = rest.find('\n').map_or(self.text.len(), |n| at + n);
        if self.text[..end].ends_with('\r') && end > at { end - 1 } else { end }
    }

    /// The beginning of the line in which a byte stands.
    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |n| n + 1)
    }

    /// The lines from one byte to another, with the break behind them, or where there is none with
    /// that in front.
    fn lines(&self, from: usize, to: usize) -> Range<usize> {
        let (start, end) = (self.line_start(from), self.line_end(to));
        match self.text[end..].find('\n') {
            Some(n) => start..end + n + 1,
            None => start.saturating_sub(1)..end,
        }
    }

    fn remove(&mut self, map: &Node, key: &Node, value: &Node) {
        if map.style == Style::Block {
            let range = self.lines(key.range.start, value.range.end.max(key.range.end));
            return self.cut(range, "");
        }
        let members = map.members();
        let at = members.iter().position(|(it, _)| it.range == key.range).unwrap_or_default();
        let range = if at > 0 {
            members[at - 1].1.range.end..value.range.end
        } else {
            key.range.start..members.get(1).map_or(value.range.end, |(next, _)| next.range.start)
        };
        self.cut(range, "");
    }

    fn insert(&mut self, map: &Node, name: &str, new: &Value) {
        let name = flow(&Value::String(name.to_owned()));
        if map.style == Style::Block {
            let last = map
                .members()
                .last()
                .map_or(map.range.end, |(key, value)| key.range.end.max(value.range.end));
            let end = self.line_end(last);
            let entry =
                format!("\n{}{name}:{}", spaces(map.column), block(new, map.column, self.manner));
            return self.cut(end..end, entry);
        }
        let entry = format!("{name}: {}", flow(new));
        match map.members().last() {
            Some((_, last)) => self.cut(last.range.end..last.range.end, format!(", {entry}")),
            None => self.cut(map.range.clone(), format!("{{{entry}}}")),
        }
    }

    fn replace(&mut self, map: &Node, key: &Node, old: &Node, new: &Value) {
        let is_scalar = !matches!(old.style, Style::Block | Style::Lines | Style::Flow);
        let is_full = match new {
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => false,
        };
        let is_short = !(is_full || has_lines(new));
        let is_there = old.range.start < old.range.end && old.range.start >= key.range.end;
        let colon = self.text[key.range.end..].find(':').map_or(0, |n| n + 1) + key.range.end;
        // What stands behind the colon on its line is a comment, or the header of a text.
        let head = self.line_end(colon).min(old.range.start.max(colon));
        let head = match old.style {
            Style::Lines => colon,
            _ => self.text[colon..head].trim_end().len() + colon,
        };
        let end = if is_there { old.range.end } else { head };
        let behind = &self.text[end..self.line_end(end)];
        let has_comment = head > colon || behind.contains('#');
        let one_line = map.style == Style::Flow
            || old.style == Style::Flow
            || is_short
            || (has_comment && (is_scalar || has_lines(new)));
        let short = || {
            let as_before = new.as_str().and_then(|text| as_before(text, old.style));
            as_before.unwrap_or_else(|| match (map.style, new) {
                (Style::Block, Value::String(_)) if is_short => {
                    block(new, 0, self.manner).trim_start().to_owned()
                }
                _ => flow(new),
            })
        };
        if one_line && is_there && (is_scalar || old.style == Style::Flow) {
            let short = short();
            return self.cut(old.range.clone(), short);
        }
        if one_line {
            let short = format!(" {}", short());
            self.cut(colon..colon, short);
            return self.cut(head..end.max(head), "");
        }
        self.cut(head..end.max(head), block(new, key.column, self.manner));
    }

    /// Whether a list can be changed item by item: some stay, at the front or at the end.
    fn splices(&self, node: &Node, old: &[Value], new: &[Value]) -> bool {
        let (front, back) = common(old, new);
        let one_by_one = node.items().windows(2).all(|two| two[0].line < two[1].line);
        node.style == Style::Block
            && node.items().len() == old.len()
            && one_by_one
            && front + back > 0
    }

    fn splice(&mut self, node: &Node, old: &[Value], new: &[Value]) {
        let (front, back) = common(old, new);
        let items = node.items();
        for item in &items[front..items.len() - back] {
            let range = self.lines(item.range.start, item.range.end);
            self.cut(range, "");
        }
        // The dash of the first item stands where the list does.
        let column = node.column;
        let fresh = new[front..new.len() - back].iter();
        let fresh: Vec<String> = fresh.map(|item| list_item(item, column, self.manner)).collect();
        if fresh.is_empty() {
            return;
        }
        if front > 0 {
            let end = self.line_end(items[front - 1].range.end);
            self.cut(end..end, format!("\n{}", fresh.join("\n")));
        } else {
            let start = self.line_start(items[items.len() - back].range.start);
            self.cut(start..start, format!("{}\n", fresh.join("\n")));
        }
    }
}

/// Whether there is a text of several lines in a value.
fn has_lines(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\n'),
        Value::Array(items) => items.iter().any(has_lines),
        Value::Object(members) => members.values().any(has_lines),
        _ => false,
    }
}

/// How many items two lists have in common at the front, and of the rest at the end.
fn common(old: &[Value], new: &[Value]) -> (usize, usize) {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[front..], &new[front..]);
    let back = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    (front, back)
}

fn shared(node: &Node, path: &str) -> Refused {
    let what = if node.style == Style::Alias {
        "an alias of what stands elsewhere"
    } else {
        "marked with an anchor or a tag"
    };
    Refused::Shared { line: node.line, path: path.to_owned(), what }
}
