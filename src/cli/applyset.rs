//! Sets of objects: what files were the whole of, so that what left the files can be pruned.
//!
//! That an object is in a set stands in an annotation of its own, which `apply` writes together
//! with the object, so that no crash leaves a member that is in no set. The annotation names the
//! set and the object. A label would do neither: people choose labels, and whoever copies an object
//! under another name would copy it into a set that then deletes it.

use serde_json::Value;

use super::{
    client::{AS_JSON, Client, collection},
    error::Error,
};
use crate::resource::{APPLYSET, AnyObject, Kind};

/// An object that a set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Which one of that name.
    pub uid: String,
}

/// Whether a set may be called so.
///
/// # Errors
/// What a name must be.
pub fn check_name(name: &str) -> Result<(), Error> {
    let good = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--applyset is `{name}`; write lower-case letters, digits and dashes between them, such as \
         main"
    )))
}

/// The annotation's text on an object.
#[must_use]
pub fn mark(set: &str, kind: Kind, name: &str) -> String {
    format!("{set} {}/{name}", kind.singular())
}

/// The set that a live object is in; none where its mark is another object's.
#[must_use]
pub fn set_of(kind: Kind, object: &Value) -> Option<&str> {
    let (set, of) = object["metadata"]["annotations"][APPLYSET].as_str()?.split_once(' ')?;
    let name = object["metadata"]["name"].as_str()?;
    let (singular, named) = of.split_once('/')?;
    (singular == kind.singular() && named == name).then_some(set)
}

/// What a set holds and the files do not, by kind and name. What goes already is left out.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn left_over(
    client: &Client,
    set: &str,
    wanted: &[&AnyObject],
) -> Result<Vec<Member>, Error> {
    let mut members = Vec::new();
    for kind in Kind::ALL {
        let list = client.get(&collection(kind), &[], AS_JSON).await?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        members.extend(
            items
                .iter()
                .filter(|item| set_of(kind, item) == Some(set))
                .filter(|item| !item["metadata"]["deletionTimestamp"].is_string())
                .filter_map(|item| {
                    let text = |member: &str| item["metadata"][member].as_str().map(str::to_owned);
                    Some(Member { kind, name: text("name")?, uid: text("uid")? })
                })
                .filter(|member| {
                    let is = |object: &&&AnyObject| {
                        object.kind() == member.kind && object.metadata().name == member.name
                    };
                    wanted.iter().find(is).is_none()
                }),
        );
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copy_under_another_name_is_in_no_set() {
        let object = |name: &str| {
            let mark = mark("main", Kind::Agent, "a");
            json!({"metadata": {"name": name, "annotations": {APPLYSET: mark}}})
        };
        assert_eq!(set_of(Kind::Agent, &object("a")), Some("main"));
        assert_eq!(set_of(Kind::Agent, &object("copy")), None);
        assert_eq!(set_of(Kind::Job, &object("a")), None, "the mark is an agent's");
        assert_eq!(set_of(Kind::Agent, &json!({"metadata": {"name": "a"}})), None);
    }

    #[test]
    fn a_set_has_a_plain_name() {
        for good in ["main", "a-1"] {
            check_name(good).unwrap();
        }
        for bad in ["", "Main", "a b", "a/b", "-a", "a-", &"a".repeat(64)] {
            assert_eq!(check_name(bad).unwrap_err().code(), 2, "{bad}");
        }
    }
}
