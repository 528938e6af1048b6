//! `apply`: objects become as files say.
//!
//! What a file said last time is kept in an annotation of the object. So a member that was
//! taken out of the file is taken out of the object, and a member that somebody else set, such
//! as a cancellation from chat, stays. That is a three-way merge, and [`three_way`] is all of it.
//!
//! Everything is judged before anything is done: all files by this program, all objects by the
//! server, as a dry run. With `--prune` what a set held and the files do not goes last, and only
//! once all else was applied.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    applyset::{self, Member, left_over},
    args::{ApplyArgs, DryRun, FileArgs, SetOfObjects},
    client::{Client, collection, member},
    error::Error,
    files::{self, Document, Names},
    out,
    target::full_name,
    watch,
};
use crate::resource::{
    APPLYSET, AnyObject, DEFAULT_MAX_DELETIONS, Kind, LAST_APPLIED, overlay::is_note,
};

/// So many objects are pruned at most where nobody says how many, as of a Source.
const MOST_DELETIONS: u32 = DEFAULT_MAX_DELETIONS;
/// So many of those that are too many are named.
const NAMED: usize = 5;

/// Runs `apply`.
///
/// # Errors
/// Every fault of every document; then nothing was applied.
pub async fn apply(args: ApplyArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let set = set_name(&args.set)?;
    let documents = documents(&args.files, set).await?;
    let dry = args.dry.dry_run;
    let outcomes = judge(&client, &documents, set).await?;
    let wanted: Vec<&AnyObject> = documents.iter().map(|document| &document.object).collect();
    if let Some(set) = set {
        // Before anything is done; what is pruned is asked for again behind it.
        let most = args.max_deletions.unwrap_or(MOST_DELETIONS);
        within(&left_over(&client, set, &wanted).await?, most)?;
    }
    if dry != DryRun::None {
        for (document, outcome) in documents.iter().zip(outcomes) {
            tell(&document.object, outcome.verdict(), dry.words())?;
        }
    } else {
        for document in &documents {
            let outcome = apply_one(&client, document, set, DryRun::None).await?;
            tell(&document.object, outcome.verdict(), "")?;
        }
    }
    let Some(set) = set else { return Ok(0) };
    prune(&client, left_over(&client, set, &wanted).await?, dry).await
}

/// The documents of a set, or of files that are none.
///
/// # Errors
/// Every fault of every document; of a set, every place in which no object stands.
pub async fn documents(args: &FileArgs, set: Option<&str>) -> Result<Vec<Document>, Error> {
    match set {
        Some(_) => files::read_whole(args, Names::All).await,
        None => files::read(args, Names::All).await,
    }
}

/// Refuses to delete more than is allowed.
fn within(left_over: &[Member], most: u32) -> Result<(), Error> {
    let count = left_over.len();
    if u32::try_from(count).is_ok_and(|count| count <= most) {
        return Ok(());
    }
    let named = left_over.iter().take(NAMED).map(|it| full_name(it.kind, &it.name));
    let mut names: Vec<String> = named.collect();
    if count > NAMED {
        names.push(format!("and {} more", count - NAMED));
    }
    Err(Error::Faults(format!(
        "--prune would delete {count} objects, and the most is {most}: {}; nothing was applied; say \
         --max-deletions {count} if that is meant",
        names.join(", ")
    )))
}

/// The name of the set that is pruned, if one is.
///
/// # Errors
/// A name that is none.
pub fn set_name(args: &SetOfObjects) -> Result<Option<&str>, Error> {
    let set = args.applyset.as_deref().filter(|_| args.prune);
    set.map_or(Ok(()), applyset::check_name)?;
    if args.prune && set.is_none() {
        let line = "--prune needs the name of the set that the files are the whole of: \
                    --applyset NAME";
        return Err(Error::Usage(line.to_owned()));
    }
    Ok(set)
}

/// Asks the server what would become of every document, before anything is done.
///
/// # Errors
/// The faults of all of them.
pub async fn judge(
    client: &Client,
    documents: &[Document],
    set: Option<&str>,
) -> Result<Vec<Outcome>, Error> {
    let mut judged = Vec::new();
    for document in documents {
        judged.push((document, judge_one(client, document, set).await));
    }
    all_of(judged)
}

/// Asks the server what would become of one document.
///
/// # Errors
/// The server's refusal, or why it cannot be asked.
pub(super) async fn judge_one(
    client: &Client,
    document: &Document,
    set: Option<&str>,
) -> Result<Outcome, Error> {
    apply_one(client, document, set, DryRun::Server).await
}

/// What would become of all documents, or what is wrong with any of them.
///
/// # Errors
/// The faults of all of them; or why the server could not be asked about one.
pub(super) fn all_of(
    judged: Vec<(&Document, Result<Outcome, Error>)>,
) -> Result<Vec<Outcome>, Error> {
    let (mut faults, mut outcomes) = (Vec::new(), Vec::new());
    for (document, outcome) in judged {
        match outcome {
            Ok(outcome) => outcomes.push(outcome),
            Err(Error::Api { message, code, reason })
                if !matches!(code, 401 | 403) || reason == OWNED =>
            {
                let kind = document.object.kind().singular();
                let name = &document.object.metadata().name;
                faults.push(format!("{}: {kind}/{name}: {message}", document.file));
            }
            Err(error) => return Err(error),
        }
    }
    if faults.is_empty() { Ok(outcomes) } else { Err(Error::Faults(faults.join("\n"))) }
}

fn tell(object: &AnyObject, verdict: &str, how: &str) -> Result<(), Error> {
    out::line(format!("{} {verdict}{how}", full_name(object.kind(), &object.metadata().name)))
}

/// What applying made of an object, or would make.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What was there; nothing where it was created.
    pub before: Option<Value>,
    /// What is there now.
    pub after: Value,
}

impl Outcome {
    /// In a word what that did.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let Some(before) = &self.before else { return "created" };
        let same = |part: &str| before[part] == self.after[part];
        let same_meta = |part: &str| before["metadata"][part] == self.after["metadata"][part];
        let unchanged = same("spec") && same_meta("labels") && said(before) == said(&self.after);
        if unchanged { "unchanged" } else { "configured" }
    }
}

/// An object's annotations, save for the account of what was applied, which is nobody's wish.
fn said(object: &Value) -> Map<String, Value> {
    let annotations = object["metadata"]["annotations"].as_object();
    let mut annotations = annotations.cloned().unwrap_or_default();
    annotations.retain(|key, _| !is_note(key));
    annotations
}

/// The reason of a refusal that is of one object, and not of who asks.
const OWNED: &str = "Owned";

/// Applies one document.
async fn apply_one(
    client: &Client,
    document: &Document,
    set: Option<&str>,
    dry: DryRun,
) -> Result<Outcome, Error> {
    let kind = document.object.kind();
    let name = &document.object.metadata().name;
    let mut wanted = wanted(&document.json);
    let before = watch::object(client, kind, name).await?;
    if let Some(set) = set {
        let other = before.as_ref().and_then(|live| applyset::set_of(kind, live));
        if let Some(other) = other.filter(|other| *other != set) {
            return Err(Error::Api {
                code: 409,
                reason: "Conflict".to_owned(),
                message: format!(
                    "it is in the set {other} already; take it out of those files, or say: \
                     open-dispatch annotate {}/{name} {APPLYSET}-",
                    kind.singular()
                ),
            });
        }
        wanted["metadata"]["annotations"][APPLYSET] = applyset::mark(set, kind, name).into();
    }
    let Some(live) = before else {
        let body = created(kind, wanted);
        let after = client.write(Method::POST, &collection(kind), dry.query(), &body).await?;
        return Ok(Outcome { before: None, after });
    };
    let patch = patch(&live, &wanted);
    let after = client.write(Method::PATCH, &member(kind, name), dry.query(), &patch).await?;
    Ok(Outcome { before: Some(live), after })
}

/// Deletes what a set held and the files do not; another object of the same name stays.
async fn prune(client: &Client, members: Vec<Member>, dry: DryRun) -> Result<u8, Error> {
    let mut failed = false;
    for Member { kind, name, uid } in members {
        if dry == DryRun::None {
            let options = json!({"preconditions": {"uid": uid}});
            match client.write(Method::DELETE, &member(kind, &name), &[], &options).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => continue,
                Err(error @ Error::Api { .. }) => {
                    failed = true;
                    out::note(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        out::line(format!("{} pruned{}", full_name(kind, &name), dry.words()))?;
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// What the file says: name, labels, annotations and spec. The rest is not the file's to say.
pub(super) fn wanted(json: &Value) -> Value {
    let mut json = json.clone();
    let mut metadata = Map::new();
    for part in ["name", "labels", "annotations"] {
        if let Some(value) = json["metadata"].get_mut(part) {
            metadata.insert(part.to_owned(), value.take());
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
        annotations.remove(APPLYSET);
    }
    json!({"metadata": metadata, "spec": json["spec"].take()})
}

/// The object to create.
fn created(kind: Kind, wanted: Value) -> Value {
    let remembered = wanted.to_string();
    let mut body = wanted;
    body["apiVersion"] = crate::resource::API_VERSION.into();
    body["kind"] = kind.name().into();
    body["metadata"]["annotations"][LAST_APPLIED] = remembered.into();
    body
}

/// The patch that makes a live object as the file says.
fn patch(live: &Value, wanted: &Value) -> Value {
    let annotations = &live["metadata"]["annotations"];
    let last = annotations[LAST_APPLIED].as_str().unwrap_or_default();
    let mut last: Value = serde_json::from_str(last).unwrap_or_default();
    // Who applies without a set says nothing about sets.
    if let Some(last) = last.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        last.remove(APPLYSET);
    }
    let mut patch = three_way(&last, wanted);
    if !patch.is_object() {
        patch = json!({});
    }
    patch["metadata"]["annotations"][LAST_APPLIED] = wanted.to_string().into();
    patch
}

/// The merge patch that sets what is wanted, and takes away what was wanted last time and is
/// not any more.
fn three_way(last: &Value, wanted: &Value) -> Value {
    let Value::Object(wanted) = wanted else { return wanted.clone() };
    let mut patch = Map::new();
    for (key, value) in wanted {
        patch.insert(key.clone(), three_way(&last[key.as_str()], value));
    }
    for key in last.as_object().into_iter().flat_map(Map::keys) {
        if !wanted.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::merge::merge_patch;

    /// Small documents over few keys, so that they overlap.
    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3_u8).prop_map(Value::from),
            "[ab]{1,2}".prop_map(Value::from),
        ];
        let node = leaf.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-c]", node, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn an_object_that_only_the_file_writes_becomes_what_the_file_says(
            last in document(), wanted in document()
        ) {
            let mut live = last.clone();
            merge_patch(&mut live, &three_way(&last, &wanted));
            prop_assert_eq!(live, wanted);
        }

        #[test]
        fn applying_again_changes_nothing(live in document(), wanted in document()) {
            let mut once = live;
            merge_patch(&mut once, &three_way(&Value::Null, &wanted));
            let mut twice = once.clone();
            merge_patch(&mut twice, &three_way(&wanted, &wanted));
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn more_deletions_than_are_allowed_are_refused_with_their_names() {
        let member =
            |n: usize| Member { kind: Kind::Agent, name: format!("a{n}"), uid: n.to_string() };
        let members: Vec<Member> = (0..7).map(member).collect();
        assert!(within(&members, 7).is_ok() && within(&[], 0).is_ok());
        insta::assert_snapshot!(within(&members, 6).unwrap_err().line().unwrap_or_default());
    }

    #[test]
    fn what_somebody_else_set_stays() {
        let last = json!({"spec": {"task": "a", "timeout": "1m"}});
        let wanted = json!({"spec": {"task": "a"}});
        let mut live = json!({"spec": {"task": "a", "timeout": "1m", "cancel": true}});
        merge_patch(&mut live, &three_way(&last, &wanted));
        assert_eq!(live, json!({"spec": {"task": "a", "cancel": true}}));
    }
}
