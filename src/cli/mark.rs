//! `label` and `annotate`: keys with values on objects, set one by one.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    args::{DryRun, MarkArgs},
    client::{AS_JSON, Client, member},
    create::Told,
    error::Error,
    out,
    select::select,
    target::full_name,
};
use crate::resource::Kind;

/// How often a write is tried again when somebody else wrote first.
const TRIES: u32 = 8;

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A label.
    Label,
    /// An annotation.
    Annotation,
}

impl Mark {
    fn member(self) -> &'static str {
        match self {
            Self::Label => "labels",
            Self::Annotation => "annotations",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Annotation => "annotation",
        }
    }

    /// What was done, in kubectl's words.
    fn done(self, what: Done) -> &'static str {
        match (self, what) {
            (Self::Label, Done::Set) => "labeled",
            (Self::Label, Done::Removed) => "unlabeled",
            (Self::Label, Done::Nothing) => "not labeled",
            (Self::Annotation, Done::Set | Done::Removed) => "annotated",
            (Self::Annotation, Done::Nothing) => "not annotated",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Set,
    Removed,
    Nothing,
}

/// A key with its new value, or with nothing to take it away.
type Change = (String, Option<String>);

/// Splits the words into those that name objects and what is to be changed.
fn split(words: &[String]) -> Result<(Vec<String>, Vec<Change>), Error> {
    let is_change = |word: &String| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let first = words.iter().skip(1).position(is_change).map_or(words.len(), |n| n + 1);
    let (names, rest) = words.split_at(first);
    let mut changes: Vec<Change> = Vec::new();
    for word in rest {
        let change = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => (key.to_owned(), Some(value.to_owned())),
            (None, Some(key)) if !key.is_empty() => (key.to_owned(), None),
            _ => {
                return Err(Error::Usage(format!(
                    "`{word}` changes nothing; write KEY=VALUE to set, or KEY- to take away"
                )));
            }
        };
        if changes.iter().any(|(key, _)| *key == change.0) {
            return Err(Error::Usage(format!("`{}` is said twice", change.0)));
        }
        changes.push(change);
    }
    Ok((names.to_vec(), changes))
}

/// Runs `label` or `annotate`.
///
/// # Errors
/// Words that do not fit together, or the server's refusal.
pub async fn mark(args: MarkArgs, mark: Mark) -> Result<u8, Error> {
    let (names, changes) = split(&args.what)?;
    if changes.is_empty() != args.list {
        let line = if args.list {
            "--list only shows; leave out what is to be changed"
        } else {
            "say what is to be changed: KEY=VALUE to set, KEY- to take away"
        };
        return Err(Error::Usage(line.to_owned()));
    }
    let client = Client::find(&args.server)?;
    let objects = select(&client, &names, args.selector.as_deref(), args.all).await?;
    let mut told = Told::default();
    for (kind, name) in objects {
        if args.list {
            let Some(object) = told.or(client.get(&member(kind, &name), &[], AS_JSON).await)?
            else {
                continue;
            };
            for (key, value) in object["metadata"][mark.member()].as_object().into_iter().flatten()
            {
                let value = value.as_str().unwrap_or_default();
                out::line(out::harmless(&format!("{key}={value}")))?;
            }
            continue;
        }
        let dry = args.dry.dry_run;
        let done = one(&client, kind, &name, mark, &changes, args.overwrite, dry).await;
        if let Some(done) = told.or(done)? {
            let word = mark.done(done);
            out::line(format!("{} {word}{}", full_name(kind, &name), dry.words()))?;
        }
    }
    told.end()
}

/// Marks one object. What was looked at is what is written on: somebody else's value is not
/// overwritten between the look and the write.
async fn one(
    client: &Client,
    kind: Kind,
    name: &str,
    mark: Mark,
    changes: &[Change],
    overwrite: bool,
    dry: DryRun,
) -> Result<Done, Error> {
    let path = member(kind, name);
    let mut tries = 0;
    loop {
        let object = client.get(&path, &[], AS_JSON).await?;
        let (patch, done) = plan(&object["metadata"][mark.member()], changes, overwrite).map_err(
            |(key, value)| Error::Api {
                code: 409,
                reason: "Conflict".to_owned(),
                message: format!(
                    "{} has the {} {key}={} already; --overwrite replaces it",
                    full_name(kind, name),
                    mark.word(),
                    out::harmless(&value)
                ),
            },
        )?;
        if done == Done::Nothing || dry == DryRun::Client {
            return Ok(done);
        }
        let body = json!({"metadata": {
            "resourceVersion": object["metadata"]["resourceVersion"], mark.member(): patch,
        }});
        match client.write(Method::PATCH, &path, dry.query(), &body).await {
            Ok(_) => return Ok(done),
            Err(Error::Api { code: 409, .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The merge patch of the marks, and what that does; or the key and value that stand in the way.
fn plan(
    now: &Value,
    changes: &[Change],
    overwrite: bool,
) -> Result<(Value, Done), (String, String)> {
    let mut patch = Map::new();
    let mut done = Done::Nothing;
    for (key, value) in changes {
        let there = now[key.as_str()].as_str();
        match (there, value) {
            (Some(there), Some(value)) if there == value => {}
            (Some(there), Some(_)) if !overwrite => return Err((key.clone(), there.to_owned())),
            (_, Some(value)) => {
                done = Done::Set;
                patch.insert(key.clone(), value.as_str().into());
            }
            (Some(_), None) => {
                if done == Done::Nothing {
                    done = Done::Removed;
                }
                patch.insert(key.clone(), Value::Null);
            }
            (None, None) => {}
        }
    }
    Ok((patch.into(), done))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_are_objects_until_the_first_change() {
        let (names, changes) = split(&words("agent a b- team=x old- k=v=w")).unwrap();
        assert_eq!(names, ["agent", "a"]);
        let change = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let all = [
            change("b", None),
            change("team", Some("x")),
            change("old", None),
            change("k", Some("v=w")),
        ];
        assert_eq!(changes, all);
        assert_eq!(split(&words("agent/a")).unwrap().1, []);
        for bad in ["agent/a =x", "agent/a a=b c", "agent/a a=b a-"] {
            assert_eq!(split(&words(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }

    #[test]
    fn a_value_that_is_there_is_replaced_only_when_that_is_meant() {
        let now = json!({"team": "x", "old": "1"});
        let set = |value: &str| vec![("team".to_owned(), Some(value.to_owned()))];
        assert_eq!(plan(&now, &set("x"), false), Ok((json!({}), Done::Nothing)));
        assert_eq!(plan(&now, &set("y"), false), Err(("team".to_owned(), "x".to_owned())));
        assert_eq!(plan(&now, &set("y"), true), Ok((json!({"team": "y"}), Done::Set)));
        let remove = |key: &str| vec![(key.to_owned(), None)];
        assert_eq!(plan(&now, &remove("old"), false), Ok((json!({"old": null}), Done::Removed)));
        assert_eq!(plan(&now, &remove("nil"), false), Ok((json!({}), Done::Nothing)));
    }
}
