//! Fleets: members that could be made, each of them.

use super::super::{FleetSpec, Kind, expand, fault::Fault, fleet::Generator, tree::Node};

/// Makes the members as the controller will, and says what is wrong with them. A document with other
/// faults is silent here: its schema has said so.
pub(super) fn rules(object: &Node, spec: &Node, faults: &mut Vec<Fault>) {
    let Ok(typed) = serde_json::from_value::<FleetSpec>(spec.to_value()) else { return };
    let name = object.at(&["metadata", "name"]).and_then(Node::text).unwrap_or("fleet");
    if !matches!(typed.template.kind, Kind::Agent | Kind::Job) {
        let message = format!("is {}; a fleet is of Agents or of Jobs", typed.template.kind);
        faults.push(place(object, &Fault::new("spec.template.kind", message)));
        return;
    }
    if typed.strategy.max_unavailable == Some(0) {
        let message = "is 0, and no change could ever roll out; write 1 or more";
        faults.push(place(object, &Fault::new("spec.strategy.maxUnavailable", message)));
    }
    if let Generator::GitDirectories(from) = &typed.generate
        && let Some(message) = expand::bad_pattern(&from.pattern)
    {
        let fault = Fault::new("spec.generate.gitDirectories.pattern", message);
        faults.push(place(object, &fault));
    }
    if let Err(bad) = expand::sample(name, &typed, &mut |spec| {
        // The server names an agent where the template names none; which one does not matter here.
        if spec.get("agent").is_none_or(serde_json::Value::is_null) {
            spec["agent"] = serde_json::json!({"claude": {}});
        }
        Ok(())
    }) {
        faults.extend(bad.0.iter().map(|fault| place(object, fault)));
    }
}

/// A fault with the line of what its path leads to, as far as that is there.
fn place(object: &Node, fault: &Fault) -> Fault {
    let mut node = object;
    for part in fault.path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let next = match part.parse::<usize>() {
            Ok(n) => node.items().get(n).or_else(|| node.get(part)),
            Err(_) => node.get(part),
        };
        let Some(next) = next else { break };
        node = next;
    }
    node.fault(&fault.path, &fault.message)
}
