//! Documents of a text before they are objects: with their places, so that whatever is found out
//! about them later can still be told with line and column.

use serde_json::Value;

use super::{
    AnyObject, Fault, Faults, Kind, decode,
    fault::in_order,
    tree::{Member, Node, Place, Shape},
    yaml,
};

/// One document of a text.
#[derive(Debug, Clone)]
pub struct Document {
    node: Node,
    file: Option<String>,
}

impl Document {
    /// All documents of a text, YAML or JSON; those without content are skipped, and a `List` counts
    /// as the documents in it. `file` names the text in faults.
    ///
    /// # Errors
    /// Where the text is no YAML, the first place that is not; or a `List` without items.
    pub fn read(text: &str, file: Option<&str>) -> Result<Vec<Self>, Faults> {
        let mut found = Vec::new();
        let mut faults = Vec::new();
        match yaml::documents(text) {
            Ok(nodes) => {
                for node in nodes.into_iter().filter(|node| !node.is_null()) {
                    open(node, &mut found, &mut faults);
                }
            }
            Err(fault) => faults.push(fault),
        }
        let file = file.map(str::to_owned);
        if faults.is_empty() {
            return Ok(found.into_iter().map(|node| Self { node, file: file.clone() }).collect());
        }
        for fault in &mut faults {
            fault.file.clone_from(&file);
        }
        Err(Faults(in_order(faults)))
    }

    /// The line on which it begins, counted from 1; 0 where it is not known.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.node.place.line().unwrap_or_default()
    }

    /// The kind that it says it is, if there is such a kind.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.node.get("kind").and_then(Node::text).and_then(|word| word.parse().ok())
    }

    /// What stands behind a chain of keys, as plain JSON.
    #[must_use]
    pub fn get(&self, keys: &[&str]) -> Option<Value> {
        self.node.at(keys).map(Node::to_value)
    }

    /// Adds what a value has beyond what stands behind a chain of keys. What stands there stays; what
    /// is added has the place of what it is added to.
    pub fn add(&mut self, keys: &[&str], value: &Value) {
        let mut node = &mut self.node;
        for key in keys {
            let Shape::Map(members) = &mut node.shape else { return };
            let Some(next) = members.iter_mut().rfind(|member| member.key == **key) else { return };
            node = &mut next.node;
        }
        graft(node, value);
    }

    /// The object that it declares.
    ///
    /// # Errors
    /// Everything that is wrong with it, with file, line and column.
    pub fn object(&self) -> Result<AnyObject, Faults> {
        decode::tree(&self.node).map_err(|mut faults| {
            for fault in &mut faults {
                fault.file.clone_from(&self.file);
            }
            Faults(in_order(faults))
        })
    }

    /// A fault with the place of what its path names, or of what is nearest above it.
    #[must_use]
    pub fn locate(&self, fault: Fault) -> Fault {
        let mut node = &self.node;
        for part in fault.path.split(['.', '[']) {
            let next = match part.strip_suffix(']') {
                Some(n) => n.parse().ok().and_then(|n: usize| node.items().get(n)),
                None => node.get(part),
            };
            let Some(next) = next else { break };
            node = next;
        }
        let placed = node.fault(fault.path, fault.message);
        Fault { file: self.file.clone(), ..placed }
    }
}

/// Opens a list into what is in it.
fn open(node: Node, found: &mut Vec<Node>, faults: &mut Vec<Fault>) {
    let is_list = node.get("kind").and_then(Node::text).is_some_and(|kind| {
        kind.strip_suffix("List")
            .is_some_and(|of| of.is_empty() || Kind::ALL.iter().any(|kind| kind.name() == of))
    });
    if !is_list {
        found.push(node);
        return;
    }
    let Shape::Map(members) = &node.shape else { return };
    match members.iter().rfind(|member| member.key == "items").map(|member| &member.node.shape) {
        Some(Shape::List(items)) => {
            for item in items {
                open(item.clone(), found, faults);
            }
        }
        _ => faults.push(node.fault("items", "is missing; a List holds its objects as items")),
    }
}

fn graft(node: &mut Node, value: &Value) {
    let place = node.place;
    let (Shape::Map(members), Value::Object(map)) = (&mut node.shape, value) else { return };
    for (key, value) in map {
        match members.iter_mut().rfind(|member| member.key == *key) {
            Some(member) if member.node.is_null() => member.node = placed(value, place),
            Some(member) => graft(&mut member.node, value),
            None => {
                members.push(Member { place, key: key.clone(), node: placed(value, place) });
            }
        }
    }
}

/// A value as a tree, all of which stands at one place.
fn placed(value: &Value, place: Place) -> Node {
    fn put(node: &mut Node, place: Place) {
        node.place = place;
        match &mut node.shape {
            Shape::List(items) => items.iter_mut().for_each(|item| put(item, place)),
            Shape::Map(members) => {
                for member in members {
                    member.place = place;
                    put(&mut member.node, place);
                }
            }
            _ => {}
        }
    }
    let mut node = Node::from(value.clone());
    put(&mut node, place);
    node
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_counts_as_what_is_in_it() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- kind: Agent\n- kind: Job\n---\n---\nkind: Fleet\n";
        let kinds: Vec<_> = Document::read(text, None).unwrap();
        let kinds: Vec<_> = kinds.iter().map(|it| (it.kind(), it.line())).collect();
        assert_eq!(kinds, [(Some(Kind::Agent), 4), (Some(Kind::Job), 5), (Some(Kind::Fleet), 8)]);
        let faults = Document::read("kind: AgentList\n", Some("a.yaml")).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "a.yaml:1:1: items: is missing; a List holds its objects as items"
        );
    }

    #[test]
    fn what_is_added_leaves_what_stands_there_and_has_its_place() {
        let text = "kind: Agent\nspec:\n  repo:\n  agent:\n    claude: {}\n";
        let mut document = Document::read(text, None).unwrap().remove(0);
        document.add(
            &["spec"],
            &json!({"repo": {"github": "a/b"}, "agent": {"claude": {"model": "m"}}}),
        );
        let spec = document.get(&["spec"]).unwrap();
        assert_eq!(spec, json!({"repo": {"github": "a/b"}, "agent": {"claude": {"model": "m"}}}));
        let fault = document.locate(Fault::new("spec.agent.claude.model", "is bad"));
        assert_eq!((fault.line, fault.column), (Some(5), Some(13)), "{fault}");
        let fault = document.locate(Fault::new("spec.env[3].name", "is bad"));
        assert_eq!(fault.line, Some(3), "{fault}");
    }
}
