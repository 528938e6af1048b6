//! The short names of fields: what people call a field whose full name is long, the same at the
//! command line and in chat.

use serde_json::Value;

use super::merge::merge_patch;

/// The place in a spec that a name means: `model`, `mode` and `branch` in short, else the names
/// from the outside in, with dots between. `spec` says which agent a model is of.
#[must_use]
pub fn place(name: &str, spec: &Value) -> Vec<String> {
    let name = name.strip_prefix("spec.").unwrap_or(name);
    let path: Vec<&str> = match name {
        "model" => {
            let agent = spec["agent"].as_object().and_then(|agent| agent.keys().next());
            vec!["agent", agent.map_or("claude", String::as_str), "model"]
        }
        "mode" => vec!["permissions", "mode"],
        "branch" => vec!["repo", "branch"],
        name => name.split('.').collect(),
    };
    path.into_iter().map(str::to_owned).collect()
}

/// Lets a patch of a spec take away the groups that it leaves empty: whoever takes the last
/// limit out of a budget wants none.
pub fn leave_no_empty_group(patch: &mut Value, spec: &Value) {
    let mut patched = spec.clone();
    merge_patch(&mut patched, patch);
    let Some(members) = patch.as_object_mut() else { return };
    for (name, member) in members {
        let is_empty = patched[name].as_object().is_some_and(serde_json::Map::is_empty);
        let was_full = spec[name].as_object().is_some_and(|old| !old.is_empty());
        if is_empty && was_full {
            *member = Value::Null;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_names_mean_the_fields_that_people_set_most() {
        let spec = json!({"agent": {"opencode": {}}});
        let place = |name: &str| place(name, &spec).join(".");
        assert_eq!(place("model"), "agent.opencode.model");
        assert_eq!(place("mode"), "permissions.mode");
        assert_eq!(place("branch"), "repo.branch");
        assert_eq!(place("spec.budget.usd"), "budget.usd");
        assert_eq!(place("idleTimeout"), "idleTimeout");
    }

    #[test]
    fn a_group_goes_with_its_last_field_and_an_agent_stays() {
        let spec = json!({"budget": {"turns": 3}, "agent": {"claude": {"model": "m"}}});
        let pruned = |mut patch: Value| {
            leave_no_empty_group(&mut patch, &spec);
            patch
        };
        assert_eq!(pruned(json!({"budget": {"turns": null}})), json!({"budget": null}));
        let swap = json!({"budget": {"turns": null, "usd": 5}});
        assert_eq!(pruned(swap.clone()), swap);
        let model = json!({"agent": {"claude": {"model": null}}});
        assert_eq!(pruned(model.clone()), model);
    }
}
