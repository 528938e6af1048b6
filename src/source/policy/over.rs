//! What Overrides that a Source declares may do: only to what it declares itself, and only what it
//! might have written there.
//!
//! There is one of an object at most. Two would have to be judged together, in an order that is known
//! only when they stand.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    super::set::{Declared, Key, Rules, called},
    Judge,
};
use crate::resource::{API_VERSION, AnyObject, Fault, Override, decode, merge::merge_patch};

/// What of a Source's Overrides its policy does not allow, each with its file and line. What would come
/// of one is judged where its object is one that is `judged_here`: those whose files say everything when
/// they are read, the others when it is known what they are filled in with.
#[must_use]
pub fn overrides(
    objects: &BTreeMap<Key, Arc<Declared>>,
    rules: Rules<'_>,
    judged_here: impl Fn(&Declared) -> bool,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut first: BTreeMap<Key, &Declared> = BTreeMap::new();
    for declared in objects.values() {
        let AnyObject::Override(over) = &declared.object else { continue };
        let target = (over.spec.target.kind, over.spec.target.name.clone());
        let mut say = |fault: Fault| faults.push(declared.locate(fault));
        if let Some(first) = first.get(&target) {
            let message = format!(
                "{} has an override in {}:{} already; make one patch of the two",
                called(&target),
                first.file,
                first.line
            );
            say(Fault::new("spec.target", message));
            continue;
        }
        match objects.get(&target) {
            None => {
                let message = format!(
                    "{} is not declared by this source, and it may override nothing else",
                    called(&target)
                );
                say(Fault::new("spec.target", message));
            }
            Some(of) if judged_here(of) => judged(over, of, rules).into_iter().for_each(say),
            Some(_) => {}
        }
        first.insert(target, declared);
    }
    faults
}

/// What a patch adds to what the policy has to say of its object.
fn judged(over: &Override, of: &Declared, rules: Rules<'_>) -> Vec<Fault> {
    let object = &of.object;
    let mut spec = of.base.spec.clone();
    merge_patch(&mut spec, &Value::Object(over.spec.patch.clone()));
    let laid = decode(json!({
        "apiVersion": API_VERSION,
        "kind": object.kind().name(),
        "metadata": {"name": object.metadata().name},
        "spec": spec,
    }));
    let laid = match laid {
        Ok(laid) => laid,
        Err(faults) => return faults.0.into_iter().map(below).collect(),
    };
    let of_object = |object: &AnyObject| {
        let mut judge = Judge::new(rules);
        judge.object(object);
        judge.faults
    };
    let before = of_object(object);
    of_object(&laid).into_iter().filter(|fault| !before.contains(fault)).map(below).collect()
}

/// A fault of what is laid, as one of the patch.
fn below(fault: Fault) -> Fault {
    let rest = fault.path.strip_prefix("spec").unwrap_or(&fault.path);
    Fault { path: format!("spec.patch{rest}"), line: None, column: None, file: None, ..fault }
}
