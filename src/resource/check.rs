//! Walks a document against the JSON Schema of its kind and finds every fault at once.
//!
//! Only the part of JSON Schema that `schemars` makes of our types is understood: objects
//! with known members, maps, lists, scalars, unions as objects with exactly one member, and
//! enums of words. Serde has the last word behind it, so what is missed here is still refused.

use std::collections::{HashMap, hash_map::Entry};

use serde_json::Value;

use super::{
    Fault, Span,
    fault::{hint, quoted},
    tree::{Node, Shape},
};

/// All faults of a node against a schema whose definitions stand in `root`.
pub(super) fn check(root: &Value, node: &Node) -> Vec<Fault> {
    let mut check = Check { root, faults: Vec::new() };
    check.node(root, node, "");
    check.faults
}

/// The path of a member.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key}]"),
    }
}

/// Every member that stands twice in its map.
pub(super) fn doubles(node: &Node, path: &str, faults: &mut Vec<Fault>) {
    let mut seen = HashMap::new();
    for member in node.members() {
        let path = join(path, &member.key);
        match seen.entry(member.key.as_str()) {
            Entry::Vacant(entry) => {
                entry.insert(member.place);
            }
            Entry::Occupied(entry) => {
                let line = entry.get().line().map(|line| format!(" in line {line}"));
                let message = format!("is there already{}; keep one", line.unwrap_or_default());
                faults.push(member.place.fault(&path, message));
            }
        }
        doubles(&member.node, &path, faults);
    }
    for (n, item) in node.items().iter().enumerate() {
        doubles(item, &format!("{path}[{n}]"), faults);
    }
}

struct Check<'a> {
    root: &'a Value,
    faults: Vec<Fault>,
}

impl<'a> Check<'a> {
    fn node(&mut self, schema: &'a Value, node: &Node, path: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/$defs/");
            if name == Span::NAME {
                return self.span(node, path);
            }
            let root = self.root;
            return self.node(&root["$defs"][name], node, path);
        }
        if let Some(branches) = schema["oneOf"].as_array() {
            if branches.iter().any(|branch| branch["required"].is_array()) {
                return self.union(branches, node, path);
            }
            let words: Vec<&str> = branches
                .iter()
                .flat_map(|branch| {
                    let list = branch["enum"].as_array().into_iter().flatten();
                    branch["const"].as_str().into_iter().chain(list.filter_map(Value::as_str))
                })
                .collect();
            return self.word(&words, node, path);
        }
        if let Some(words) = schema["enum"].as_array() {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            return self.word(&words, node, path);
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, node, path),
            Some("array") => self.list(schema, node, path),
            Some("string") => self.text(node, path),
            Some("boolean") => self.flag(node, path),
            Some("integer") => self.integer(schema, node, path),
            Some("number") => self.number(node, path),
            _ => {}
        }
    }

    fn push(&mut self, node: &Node, path: &str, message: impl Into<String>) {
        self.faults.push(node.fault(path, message));
    }

    fn expected(&mut self, what: &str, node: &Node, path: &str) {
        self.push(node, path, format!("expected {what}, found {}", node.describe()));
    }

    fn object(&mut self, schema: &'a Value, node: &Node, path: &str) {
        let Shape::Map(members) = &node.shape else {
            return self.expected("an object", node, path);
        };
        let known = schema["properties"].as_object();
        for member in members {
            let path = join(path, &member.key);
            match known.and_then(|known| known.get(&member.key)) {
                Some(_) if member.node.is_null() => {}
                Some(schema) => self.node(schema, &member.node, &path),
                None => match &schema["additionalProperties"] {
                    rest @ Value::Object(_) => self.node(rest, &member.node, &path),
                    Value::Bool(false) => {
                        let mut names: Vec<&str> = known
                            .into_iter()
                            .flat_map(|known| known.keys())
                            .map(String::as_str)
                            .collect();
                        names.sort_unstable();
                        let hint = hint(&member.key, &names, "the fields here are");
                        self.faults.push(member.place.fault(path, format!("unknown field{hint}")));
                    }
                    _ => {}
                },
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_none() {
                let mend = schema["properties"][name]["const"].as_str();
                let mend = mend.map(|value| format!("; write {value}")).unwrap_or_default();
                self.push(node, &join(path, name), format!("is missing{mend}"));
            }
        }
    }

    fn union(&mut self, branches: &'a [Value], node: &Node, path: &str) {
        let names: Vec<&str> =
            branches.iter().filter_map(|branch| branch["required"][0].as_str()).collect();
        let list = names.join(", ");
        let Shape::Map(members) = &node.shape else {
            if let Some(word) = node.text().filter(|word| names.contains(word)) {
                return self.push(
                    node,
                    path,
                    format!("expected an object with one member; write `{{{word}: {{}}}}`"),
                );
            }
            return self.push(
                node,
                path,
                format!("expected an object with exactly one of {list}, found {}", node.describe()),
            );
        };
        if members.is_empty() {
            return self.push(node, path, format!("name exactly one of {list}; there is none"));
        }
        let mut there = Vec::new();
        for member in members {
            let path = join(path, &member.key);
            let branch = branches
                .iter()
                .find(|branch| branch["required"][0].as_str() == Some(member.key.as_str()));
            let Some(branch) = branch else {
                let hint = hint(&member.key, &names, "name exactly one of");
                self.faults.push(member.place.fault(&path, format!("unknown member{hint}")));
                continue;
            };
            there.push(member.key.as_str());
            if member.node.is_null() {
                let message = format!("is empty; write `{}: {{}}`", member.key);
                self.push(&member.node, &path, message);
            } else {
                self.node(&branch["properties"][&member.key], &member.node, &path);
            }
        }
        there.dedup();
        if there.len() > 1 {
            let there = there.join(" and ");
            self.push(node, path, format!("name exactly one of {list}; there are {there}"));
        }
    }

    fn word(&mut self, words: &[&str], node: &Node, path: &str) {
        match node.text() {
            Some(word) if words.contains(&word) => {}
            Some(word) => {
                let hint = hint(word, words, "write one of");
                self.push(node, path, format!("{} is not known here{hint}", quoted(word)));
            }
            None => self.expected(&format!("one of {}", words.join(", ")), node, path),
        }
    }

    fn list(&mut self, schema: &'a Value, node: &Node, path: &str) {
        let Shape::List(items) = &node.shape else {
            return self.expected("a list", node, path);
        };
        for (n, item) in items.iter().enumerate() {
            self.node(&schema["items"], item, &format!("{path}[{n}]"));
        }
    }

    fn text(&mut self, node: &Node, path: &str) {
        match &node.shape {
            Shape::Text(_) => {}
            Shape::Number(number) => {
                let message = format!("expected text, found the number {number}; put it in quotes");
                self.push(node, path, message);
            }
            Shape::Bool(flag) => {
                let message = format!("expected text, found {flag}; put it in quotes");
                self.push(node, path, message);
            }
            _ => self.expected("text", node, path),
        }
    }

    fn span(&mut self, node: &Node, path: &str) {
        match node.text().map(str::parse::<Span>) {
            Some(Ok(_)) => {}
            Some(Err(error)) => self.push(node, path, error.to_string()),
            None => self.expected("a duration such as 90s, 10m or 1h30m", node, path),
        }
    }

    fn flag(&mut self, node: &Node, path: &str) {
        if !matches!(node.shape, Shape::Bool(_)) {
            self.expected("true or false", node, path);
        }
    }

    fn number(&mut self, node: &Node, path: &str) {
        if !matches!(node.shape, Shape::Number(_)) {
            self.expected("a number", node, path);
        }
    }

    fn integer(&mut self, schema: &Value, node: &Node, path: &str) {
        let (least, most) = match schema["format"].as_str() {
            Some("uint8") => (0, i128::from(u8::MAX)),
            Some("uint16") => (0, i128::from(u16::MAX)),
            Some("uint32") => (0, i128::from(u32::MAX)),
            Some("uint64") => (0, i128::from(u64::MAX)),
            Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        let number = match &node.shape {
            Shape::Number(number) => {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
            }
            _ => None,
        };
        if !number.is_some_and(|number| (least..=most).contains(&number)) {
            self.expected(&format!("a whole number from {least} to {most}"), node, path);
        }
    }
}
