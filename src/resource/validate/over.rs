//! What an Override can be: of an object that a Source may own, with a patch that says something,
//! for a time.

use super::{bad_label, quoted, texted};
use crate::resource::{
    Fault, Kind, MAX_OVERRIDE_TIME, Span,
    overlay::{is_ownable, power_fields},
    tree::{Node, Shape},
};

pub(super) fn rules(spec: &Node, faults: &mut Vec<Fault>) {
    let kind = target(spec, faults);
    patch(spec, kind, faults);
    let Some((node, text)) = texted(spec.get("expiresAfter")) else { return };
    let message = match text.parse::<Span>() {
        Ok(span) if span == Span::from_secs(0) => {
            "is no time at all; leave it out for 1h, or delete the Override".to_owned()
        }
        Ok(span) if span.as_duration() > MAX_OVERRIDE_TIME.as_duration() => {
            format!(
                "is longer than {MAX_OVERRIDE_TIME}; what is to hold longer belongs into the file"
            )
        }
        _ => return,
    };
    faults.push(node.fault("spec.expiresAfter", message));
}

fn target(spec: &Node, faults: &mut Vec<Fault>) -> Option<Kind> {
    if let Some((node, name)) = texted(spec.at(&["target", "name"]))
        && let Some(message) = bad_label(name)
    {
        faults.push(node.fault("spec.target.name", message));
    }
    let (node, word) = texted(spec.at(&["target", "kind"]))?;
    let kind = word.parse::<Kind>().ok()?;
    if !is_ownable(kind) {
        let message = format!(
            "{} cannot be overridden; the kinds are Agent, Job, Fleet and Schedule",
            quoted(word)
        );
        faults.push(node.fault("spec.target.kind", message));
    }
    Some(kind)
}

fn patch(spec: &Node, kind: Option<Kind>, faults: &mut Vec<Fault>) {
    // Members that are null take a field away here, and are there.
    let Some(patch) = spec.members().iter().rev().find(|member| member.key == "patch") else {
        return;
    };
    let Shape::Map(members) = &patch.node.shape else { return };
    if members.is_empty() {
        let message = "changes nothing; name the fields of the spec that are to differ";
        faults.push(patch.node.fault("spec.patch", message));
    }
    for member in members {
        if kind.is_some_and(|kind| power_fields(kind).contains(&member.key.as_str())) {
            let path = format!("spec.patch.{}", member.key);
            let message = "needs no Override; set it on the object, whoever owns that";
            faults.push(member.node.fault(path, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::{AnyObject, yaml};

    fn read(spec: &str) -> Result<AnyObject, String> {
        let text = format!(
            "apiVersion: opendispatch.dev/v1alpha1\nkind: Override\nmetadata: {{name: a}}\nspec:\n{spec}"
        );
        yaml::read(&text, None).map(|mut all| all.remove(0)).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_patch_keeps_the_nulls_that_take_fields_away() {
        let text = "  target: {kind: Agent, name: bot}\n  patch: {budget: null, env: [{name: A, value: b}]}\n";
        let over = read(text).unwrap();
        let again = yaml::read(&yaml::write(&over), None).unwrap().remove(0);
        assert_eq!(again, over);
        let over = over.into_override().unwrap();
        assert_eq!(over.spec.patch.get("budget"), Some(&serde_json::Value::Null));
    }

    #[test]
    fn what_cannot_be_an_override_is_said() {
        let told: Vec<String> = [
            "  target: {kind: Agent, name: bot}\n  patch: {}\n",
            "  target: {kind: Agent, name: bot}\n  patch: {suspend: true}\n",
            "  target: {kind: Sprite, name: bot}\n  patch: {running: true}\n",
            "  target: {kind: Agent, name: Bot}\n  patch: {budget: null}\n  expiresAfter: 0s\n",
            "  target: {kind: Agent, name: bot}\n  patch: {budget: null}\n  expiresAfter: 9000h\n",
            "  target: {kind: Agent, name: bot}\n",
        ]
        .iter()
        .map(|spec| read(spec).unwrap_err())
        .collect();
        insta::assert_snapshot!(told.join("\n-----\n"));
    }
}
