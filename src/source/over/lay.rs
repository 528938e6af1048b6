//! An object with its Overrides laid over it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    resource::{
        ADOPT, AnyObject, Defaults, Faults, GROUP, RELEASED_FROM, admit, decode,
        merge::merge_patch,
        overlay::{self, ACCOUNT_ANNOTATIONS},
    },
    store::{Base, LiveOverride},
};

/// What an object is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Laid {
    /// The object: what the file says, with what could be laid over it.
    pub object: AnyObject,
    /// The Overrides that are part of it, in order.
    pub kept: Vec<LiveOverride>,
    /// Those that do not fit, with the reason.
    pub refused: Vec<(LiveOverride, Faults)>,
}

/// Lays live Overrides over what a file says, one by one; one whose result would not be taken from
/// an editor either is left out. Those that have ended by `now` are neither kept nor refused.
///
/// `standing` is the object as it is in the store (its power fields stay, and so does what only the
/// server writes), or a new one that was made of the base.
///
/// # Errors
/// What is wrong with the base itself.
pub fn lay(
    standing: &AnyObject,
    base: &Base,
    overrides: &[LiveOverride],
    defaults: &Defaults,
    now: Timestamp,
) -> Result<Laid, Faults> {
    let kind = standing.kind();
    let before = standing.to_json();
    let bare = overlay::with_power_of(kind, base.spec.clone(), &before["spec"]);
    let mut spec = bare.clone();
    let mut object = with_spec(standing, &before, &spec, base)?;
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for over in overrides.iter().filter(|over| over.expires > now) {
        let mut next = spec.clone();
        merge_patch(&mut next, &over.patch);
        let next = overlay::with_power_of(kind, next, &spec);
        match taken(standing, &before, &bare, &next, base, defaults) {
            Ok(laid) => {
                (spec, object) = (next, laid);
                kept.push(over.clone());
            }
            Err(faults) => refused.push((over.clone(), faults)),
        }
    }
    Ok(Laid { object, kept, refused })
}

/// The object with a spec, where an editor might write it.
fn taken(
    standing: &AnyObject,
    before: &Value,
    bare: &Value,
    spec: &Value,
    base: &Base,
    defaults: &Defaults,
) -> Result<AnyObject, Faults> {
    let object = with_spec(standing, before, spec, base)?;
    admit::update(standing, &object)?;
    defaults.check_change(standing.kind(), &standing.metadata().name, bare, spec)?;
    Ok(object)
}

fn with_spec(
    standing: &AnyObject,
    before: &Value,
    spec: &Value,
    base: &Base,
) -> Result<AnyObject, Faults> {
    let mut json = before.clone();
    json["spec"] = spec.clone();
    let mut object = decode(json)?;
    let annotations = annotations(base, standing);
    let metadata = object.metadata_mut();
    metadata.labels.clone_from(&base.labels);
    metadata.annotations = annotations;
    Ok(object)
}

/// The annotations of an object: those of its file, what this server and its people have noted at the
/// object itself, such as requests, and the accounts of programs that apply files. Who may take it is
/// nothing to keep once it is taken.
#[must_use]
pub fn annotations(base: &Base, standing: &AnyObject) -> BTreeMap<String, String> {
    let is_note = |key: &str| {
        let ours = key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
        (ours && key != ADOPT && key != RELEASED_FROM) || ACCOUNT_ANNOTATIONS.contains(&key)
    };
    let standing = &standing.metadata().annotations;
    let mut all: BTreeMap<String, String> = standing.clone();
    all.retain(|key, _| is_note(key));
    all.extend(base.annotations.clone());
    all
}
