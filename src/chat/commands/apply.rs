//! `/od-apply`, `/od-diff` and `/od-export`: objects as YAML, in and out.
//!
//! An apply is shown before it is done, and planned again when somebody presses Apply: where the plan
//! is another by then, that one is shown, and nothing happens. All of it commits in one transaction,
//! or none. It reaches everything, so whoever's role ends at a channel cannot apply.

use bytes::Bytes;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::{Answer, Commands, Effect, Incoming, offer::Pending, offer::asker, offer::guards};
use crate::{
    access::Reach,
    chat::{
        changes::changes,
        grammar::{Diff, Target},
        replies,
    },
    resource::{
        AnyObject, Document, Faults, Kind, admit, decode,
        overlay::{only_power_differs, power_fields, with_power_of},
        sign, yaml,
    },
    store::{Delivery, Error, Expect, Op, Part, Subject, files::MAX_FILE_BYTES},
};

/// The most YAML that a chat takes, in bytes.
const MOST_YAML: usize = 64 * 1024;
/// The most objects that are exported at once.
const MOST_EXPORTED: usize = 100;
/// The longest export that is shown in the conversation itself, in characters; past it it comes as a
/// file.
const LONGEST_SHOWN: usize = 1_500;
/// The kinds that a chat applies and exports: what people command there.
const KINDS: [Kind; 4] = [Kind::Agent, Kind::Job, Kind::Fleet, Kind::Schedule];

/// What an apply would do.
#[derive(Default)]
struct Plan {
    /// A line for each object.
    lines: Vec<String>,
    /// What would be committed.
    ops: Vec<Op>,
    /// Whether something is in the way.
    is_bad: bool,
}

impl Commands {
    pub(super) async fn apply(
        &self,
        text: &str,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let (text, plan) = match self.read_and_plan(text, line, reach).await? {
            Ok(found) => found,
            Err(told) => return Ok(Effect::private(told)),
        };
        if plan.is_bad {
            return Ok(Effect::text(replies::not_applicable(&plan.lines)));
        }
        if plan.ops.is_empty() {
            return Ok(Effect::text(replies::nothing_to_apply(&plan.lines)));
        }
        let shown = replies::plan(&plan.lines);
        Ok(Self::offer(shown, &["Apply"], Pending::Apply { text, plan: plan.lines }))
    }

    /// Somebody pressed Apply.
    pub(super) async fn apply_pressed(
        &self,
        text: &str,
        shown: &[String],
        delivery: Delivery,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        if *reach != Reach::Everywhere {
            return Ok(Effect::private(replies::reaches_no_further()));
        }
        let plan = match self.plan(text, line).await? {
            Ok(plan) => plan,
            Err(faults) => return Ok(Effect::private(replies::bad_yaml(&faults.to_string()))),
        };
        if plan.is_bad || plan.ops.is_empty() {
            let told = if plan.is_bad {
                replies::not_applicable(&plan.lines)
            } else {
                replies::nothing_to_apply(&plan.lines)
            };
            return Ok(Self::settled(delivery, told, Vec::new()));
        }
        if plan.lines != shown {
            // What was agreed to is not what would be done now.
            let mut delivery = delivery;
            let pending = Pending::Apply { text: text.to_owned(), plan: plan.lines.clone() };
            delivery.subject = Subject::Offer {
                text: format!("Things have changed meanwhile. {}", replies::plan(&plan.lines)),
                labels: vec!["Apply".to_owned()],
                pending: serde_json::to_value(pending).unwrap_or_default(),
            };
            let answer = Answer::Standing(Box::new(delivery));
            return Ok(Effect { ops: Vec::new(), answer });
        }
        let told = replies::chosen(&replies::drift(&plan.lines), &line.author, "applied");
        Ok(Self::settled(delivery, told, plan.ops))
    }

    pub(super) async fn diff(
        &self,
        diff: &Diff,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let text = match diff {
            Diff::One(target) => {
                let object = match self.find_object(target, reach).await? {
                    Ok(object) => object,
                    Err(answer) => return Ok(answer),
                };
                let name = called(&object);
                return Ok(Effect::text(match self.drift(&object).await? {
                    None => replies::not_declared(&name),
                    Some(lines) if lines.is_empty() => replies::no_drift(&name),
                    Some(lines) => replies::drift(&lines),
                }));
            }
            Diff::All if line.attachments.is_empty() => return self.diff_all(reach).await,
            Diff::All => "",
            Diff::Text(text) => text,
        };
        Ok(match self.read_and_plan(text, line, reach).await? {
            Err(told) => Effect::private(told),
            Ok((_, plan)) if plan.is_bad => Effect::text(replies::not_applicable(&plan.lines)),
            Ok((_, plan)) => Effect::text(replies::drift(&plan.lines)),
        })
    }

    async fn diff_all(&self, reach: &Reach) -> Result<Effect, Error> {
        if *reach != Reach::Everywhere {
            return Ok(Effect::private(replies::reaches_no_further()));
        }
        let mut lines = Vec::new();
        for kind in KINDS {
            for object in self.all(kind).await? {
                lines.extend(self.drift(&object).await?.into_iter().flatten());
            }
        }
        Ok(Effect::text(match lines.is_empty() {
            true => replies::no_drift("All that is declared"),
            false => replies::drift(&lines),
        }))
    }

    /// What differs between an object and its file, line by line; none where no file declares it.
    async fn drift(&self, object: &AnyObject) -> Result<Option<Vec<String>>, Error> {
        let Some(row) = self.declared(object).await? else { return Ok(None) };
        let spec = object.to_json()["spec"].take();
        let name = called(object);
        let lines = changes(&row.base.spec, &spec)
            .into_iter()
            // Whoever stops an agent does not drift from its file.
            .filter(|change| !power_fields(object.kind()).contains(&change.path.as_str()))
            .map(|change| format!("{name} ({}:{}) {change}", row.file, row.line));
        Ok(Some(lines.collect()))
    }

    pub(super) async fn export(
        &self,
        targets: &[Target],
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let mut objects = Vec::new();
        if targets.is_empty() {
            for kind in KINDS {
                let all = self.all(kind).await?;
                objects.extend(all.into_iter().filter(|object| super::find::has(reach, object)));
            }
            objects.retain(|object| object.metadata().controller().is_none());
            objects.truncate(MOST_EXPORTED);
        }
        for target in targets {
            match self.find_object(target, reach).await? {
                Ok(object) => objects.push(object),
                Err(answer) => return Ok(answer),
            }
        }
        if objects.is_empty() {
            return Ok(Effect::text("There is nothing to export".to_owned()));
        }
        let mut documents = Vec::new();
        for object in &objects {
            documents.push(yaml::declared(&self.lasting(object).await?));
        }
        let yaml = documents.join("---\n");
        if yaml.chars().count() > LONGEST_SHOWN
            && line.takes_files()
            && let Some(id) = self.kept(&yaml).await
        {
            let name = match objects.as_slice() {
                [one] => format!("{}.yaml", one.metadata().name),
                _ => "export.yaml".to_owned(),
            };
            let text = replies::exported(objects.len(), &name);
            let (now, place) = (self.ambient.clock.now(), line.conversation.clone());
            let file = Subject::File { id, name };
            let file = Delivery::open(self.ambient.ids.uid(), place, file, now);
            return Ok(Effect::told(vec![Op::Delivery(file)], text));
        }
        Ok(Effect::text(replies::fenced(&yaml)))
    }

    /// An object as it is meant to stay: one that a file declares as the file says it, without what is
    /// laid over it for a time.
    async fn lasting(&self, object: &AnyObject) -> Result<AnyObject, Error> {
        let Some(row) = self.declared(object).await? else { return Ok(object.clone()) };
        let mut json = object.to_json();
        json["spec"] = with_power_of(object.kind(), row.base.spec, &json["spec"]);
        // What a file says was read once already.
        Ok(decode(json).unwrap_or_else(|_| object.clone()))
    }

    /// Keeps a text as a file, where this server keeps files and has room for one.
    async fn kept(&self, text: &str) -> Option<String> {
        let files = self.files.as_ref()?;
        match files.put_bytes(Bytes::copy_from_slice(text.as_bytes()), MAX_FILE_BYTES).await {
            Ok(stored) => Some(stored.id),
            Err(error) => {
                tracing::warn!(%error, "an export is shown as text, because no file could be kept");
                None
            }
        }
    }

    /// The YAML of a line, and what applying it would do; or why it cannot be.
    async fn read_and_plan(
        &self,
        text: &str,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Result<(String, Plan), String>, Error> {
        if *reach != Reach::Everywhere {
            return Ok(Err(replies::reaches_no_further()));
        }
        let text = match self.text(text, line).await {
            Ok(text) => text,
            Err(told) => return Ok(Err(told)),
        };
        Ok(match self.plan(&text, line).await? {
            Ok(plan) => Ok((text, plan)),
            Err(faults) => Err(replies::bad_yaml(&faults.to_string())),
        })
    }

    /// What stands in the line, and in the files that came with it, as one text.
    async fn text(&self, text: &str, line: &Incoming) -> Result<String, String> {
        let mut whole = without_fence(text).to_owned();
        for file in &line.attachments {
            let too_much = || replies::too_much_yaml(MOST_YAML);
            if file.size > MOST_YAML as u64 {
                return Err(too_much());
            }
            let files = self.files.as_ref().ok_or_else(replies::no_yaml)?;
            let gone = |error: String| format!("{} cannot be read: {error}", file.name);
            let (open, _) = files.open_file(&file.id).await.map_err(|it| gone(it.to_string()))?;
            let mut read = String::new();
            let mut open = open.take(MOST_YAML as u64 + 1);
            open.read_to_string(&mut read).await.map_err(|it| gone(it.to_string()))?;
            if !whole.trim().is_empty() {
                whole.push_str("\n---\n");
            }
            whole.push_str(&read);
        }
        if whole.trim().is_empty() {
            return Err(replies::no_yaml());
        }
        if whole.len() > MOST_YAML {
            return Err(replies::too_much_yaml(MOST_YAML));
        }
        Ok(whole)
    }

    /// What applying a text would do as things stand.
    async fn plan(&self, text: &str, line: &Incoming) -> Result<Result<Plan, Faults>, Error> {
        let objects = match self.filled(text, line) {
            Ok(objects) => objects,
            Err(faults) => return Ok(Err(faults)),
        };
        let mut plan = Plan::default();
        let mut seen = std::collections::BTreeSet::new();
        for object in objects {
            let (kind, name) = (object.kind(), object.metadata().name.clone());
            let whose = called(&object);
            let bad = |plan: &mut Plan, why: &str| {
                plan.is_bad = true;
                plan.lines.push(format!("{whose} {why}"));
            };
            if !KINDS.contains(&kind) {
                bad(&mut plan, "cannot be applied from a chat; use open-dispatch apply");
            } else if name.is_empty() {
                bad(&mut plan, "has no name of its own; give it one");
            } else if !seen.insert((kind, name.clone())) {
                bad(&mut plan, "stands there twice; keep one of them");
            } else {
                match self.one(object, line).await? {
                    Ok((told, ops)) => {
                        plan.lines.push(format!("{whose} {told}"));
                        plan.ops.extend(ops);
                    }
                    Err(why) => bad(&mut plan, &why),
                }
            }
        }
        Ok(Ok(plan))
    }

    /// What applying one object would do, or what is in the way.
    async fn one(
        &self,
        object: AnyObject,
        line: &Incoming,
    ) -> Result<Result<(String, Vec<Op>), String>, Error> {
        let (kind, name) = (object.kind(), object.metadata().name.clone());
        let (mut object, old) = (object, self.store.get(kind, &name).await?);
        sign(&mut object, old.as_ref(), &asker(line));
        if let Some(row) = self.store.owned(kind, &name).await? {
            let is_same = old.as_ref().is_some_and(|old| {
                self.merged(old, &object).is_ok_and(|new| only_power_differs(old, &new))
            });
            if !is_same {
                return Ok(Err(format!(
                    "is declared by source {} ({}:{}); change it there, or say /od-set, which \
                     offers more",
                    row.source, row.file, row.line
                )));
            }
        }
        let Some(old) = old else {
            if let Err(faults) = self.settings.defaults.check_new(&object) {
                return Ok(Err(faults.to_string().replace('\n', "; ")));
            }
            return Ok(match admit::create(object, self.ambient.ids.uid(), "") {
                Ok(made) => {
                    let free = Op::StillFree { kind, name };
                    Ok(("created".to_owned(), vec![free, Op::Create(made)]))
                }
                Err(faults) => Err(faults.to_string().replace('\n', "; ")),
            });
        };
        if old.metadata().is_deleting() {
            return Ok(Err("is being deleted; wait until it is gone".to_owned()));
        }
        let new = match self.merged(&old, &object) {
            Err(faults) => return Ok(Err(faults.to_string().replace('\n', "; "))),
            Ok(new) => new,
        };
        if !only_power_differs(&old, &new)
            && let Some(fleet) = self.fleet_of(&old).await?
        {
            return Ok(Err(format!(
                "is a member of fleet/{fleet}, which would put it back; change its template, or \
                 suspend the fleet"
            )));
        }
        Ok(match new {
            new if new == old => Ok(("unchanged".to_owned(), Vec::new())),
            new => {
                let told = difference(&old, &new);
                let mut ops = guards(&old, &new);
                let (part, expect) = (Part::Desired, Expect::SameVersion);
                ops.push(Op::Write { object: new, part, expect });
                Ok((told, ops))
            }
        })
    }

    /// The objects of a text, with what a person need not say.
    fn filled(&self, text: &str, line: &Incoming) -> Result<Vec<AnyObject>, Faults> {
        let mut objects = Vec::new();
        let mut faults = Vec::new();
        for mut document in Document::read(text, None)? {
            let filled = document.fill(&self.settings.defaults, line.is_console());
            match (document.object(), filled) {
                (Ok(object), Ok(())) => objects.push(object),
                (Ok(_), Err(fault)) => faults.push(document.locate(fault)),
                // What could not be filled in is missing, and that is said as well as it can be.
                (Err(more), Err(fault)) => {
                    let others = more.0.into_iter().filter(|it| it.path != fault.path);
                    faults.extend(others);
                    faults.push(document.locate(fault));
                }
                (Err(more), Ok(())) => faults.extend(more.0),
            }
        }
        if faults.is_empty() { Ok(objects) } else { Err(Faults(faults)) }
    }

    /// What is there with what a document says, checked like any edit. Power fields that the
    /// document does not set stay.
    fn merged(&self, old: &AnyObject, wanted: &AnyObject) -> Result<AnyObject, Faults> {
        let before = old.to_json();
        let mut json = before.clone();
        json["spec"] = wanted.to_json()["spec"].take();
        for field in power_fields(old.kind()) {
            if json["spec"].get(field).is_none()
                && let Some(value) = before["spec"].get(field)
            {
                json["spec"][*field] = value.clone();
            }
        }
        let spec: Value = json["spec"].clone();
        let mut object = decode(json)?;
        let metadata = object.metadata_mut();
        metadata.labels.clone_from(&wanted.metadata().labels);
        metadata.annotations.clone_from(&wanted.metadata().annotations);
        admit::update(old, &object)?;
        let (kind, name) = (old.kind(), &old.metadata().name);
        self.settings.defaults.check_change(kind, name, &before["spec"], &spec)?;
        Ok(object)
    }
}

/// What a change of an object changes, in a few lines.
fn difference(old: &AnyObject, new: &AnyObject) -> String {
    let spec = |object: &AnyObject| object.to_json()["spec"].take();
    let mut told: Vec<String> =
        changes(&spec(old), &spec(new)).iter().map(ToString::to_string).collect();
    let (before, after) = (old.metadata(), new.metadata());
    if before.labels != after.labels {
        told.push("labels".to_owned());
    }
    if before.annotations != after.annotations {
        told.push("annotations".to_owned());
    }
    format!("changed\n    {}", told.join("\n    "))
}

/// `agent/NAME`.
fn called(object: &AnyObject) -> String {
    format!("{}/{}", object.kind().singular(), object.metadata().name)
}

/// A text without the lines of backticks around it.
fn without_fence(text: &str) -> &str {
    let text = text.trim_matches('\n');
    let Some(inner) = text.trim_start().strip_prefix("```") else { return text };
    // What stands behind the backticks is a language.
    let inner = match inner.split_once('\n') {
        Some((word, rest)) if !word.contains(':') => rest,
        _ => inner,
    };
    inner.trim_end().strip_suffix("```").unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_may_stand_between_backticks() {
        for text in ["a: 1\nb: 2\n", "```\na: 1\nb: 2\n```", "```yaml\na: 1\nb: 2\n```  "] {
            assert_eq!(without_fence(text).trim(), "a: 1\nb: 2", "{text:?}");
        }
        assert_eq!(without_fence("  a: 1"), "  a: 1");
    }
}
