//! Changes of what Sources declare: offered in three ways, and made in the one that somebody presses.
//!
//! The change waits in the delivery that offers it, for an hour. Whoever presses a button needs the
//! right to command at that moment, and has to reach the object as it stands then, as by any other
//! command; the object is read again, the change is checked again on top of what it says then, and
//! what comes of it takes the place of the buttons in the same transaction. So a second press finds
//! nothing to decide.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Commands, Effect, Incoming, find::has, suffix};
use crate::{
    access::Reach,
    ambient::between,
    chat::{
        changes::Change,
        outbox::CHOICE_TIME,
        replies::{self, Asked},
    },
    resource::{
        AnyObject, Faults, Kind, Override, OverrideSpec, OverrideTarget, SourceFrom, Span, admit,
        decode,
        merge::merge_patch,
        overlay::{is_ownable, only_power_differs, patch_between},
        sign,
    },
    store::{Delivery, DeliveryState, Error, Op, Owned, Subject},
};

/// How long an override lives that a button makes.
const FOR_A_TIME: Span = Span::from_secs(60 * 60);
/// How long one lives at most that waits for its file.
const FOR_THE_FILE: Span = Span::from_secs(24 * 60 * 60);
/// The largest change that waits, as JSON, in bytes.
const MOST_PENDING: usize = 16 * 1024;

const OVERRIDE: &str = "Override for 1 h";
const WRITE: &str = "Write to the file";
const LET_GO: &str = "Let go";

/// A change that waits for a button.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Pending {
    /// A merge patch on the spec of what a Source declares.
    Change { kind: Kind, name: String, uid: String, patch: Value },
    /// The end of what a Source declares.
    Deletion { kind: Kind, name: String, uid: String },
    /// YAML that is to be applied, and what it would do when it was shown.
    Apply { text: String, plan: Vec<String> },
}

/// What lets an edit pass only while no Source declares the object.
pub(super) fn guards(old: &AnyObject, new: &AnyObject) -> Vec<Op> {
    if !is_ownable(old.kind()) || only_power_differs(old, new) {
        return Vec::new();
    }
    vec![Op::StillFree { kind: old.kind(), name: old.metadata().name.clone() }]
}

/// Who asks for something by a line, as commits name them: by what they are called, and by what they
/// are known.
pub(super) fn asker(line: &Incoming) -> String {
    format!("{} ({}:{})", line.author, line.conversation.platform, line.user)
}

fn full_name(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.singular())
}

impl Commands {
    /// What declares an object.
    pub(super) async fn declared(&self, object: &AnyObject) -> Result<Option<Owned>, Error> {
        let (kind, metadata) = (object.kind(), object.metadata());
        if !is_ownable(kind) {
            return Ok(None);
        }
        self.store.owned(kind, &metadata.name).await
    }

    /// Asks how a change of what a Source declares is to be made.
    pub(super) async fn offer_change(
        &self,
        row: &Owned,
        old: &AnyObject,
        new: &AnyObject,
        changes: &[Change],
    ) -> Result<Effect, Error> {
        let patch = patch_between(&old.to_json()["spec"], &new.to_json()["spec"]);
        let patch = patch.unwrap_or_else(|| Value::Object(Map::new()));
        let (kind, metadata) = (old.kind(), old.metadata());
        let name = full_name(kind, &metadata.name);
        let place = format!("{}:{}", row.file, row.line);
        let no_file = self.no_file(row).await?;
        let text = replies::owned_change(&name, &row.source, &place, changes, no_file);
        if patch.to_string().len() > MOST_PENDING {
            return Ok(Effect::text(text));
        }
        let mut labels = vec![OVERRIDE];
        labels.extend(no_file.is_none().then_some(WRITE));
        labels.push(LET_GO);
        let pending =
            Pending::Change { kind, name: metadata.name.clone(), uid: metadata.uid.clone(), patch };
        Ok(Self::offer(text, &labels, pending))
    }

    /// Asks whether what a Source declares is to be let go and deleted.
    pub(super) fn offer_deletion(row: &Owned, object: &AnyObject) -> Effect {
        let (kind, metadata) = (object.kind(), object.metadata());
        let place = format!("{}:{}", row.file, row.line);
        let text = replies::owned_deletion(&full_name(kind, &metadata.name), &row.source, &place);
        let pending =
            Pending::Deletion { kind, name: metadata.name.clone(), uid: metadata.uid.clone() };
        Self::offer(text, &["Let go and delete"], pending)
    }

    pub(super) fn offer(text: String, labels: &[&str], pending: Pending) -> Effect {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Effect { ops: Vec::new(), answer: Answer::Offer { text, labels, pending } }
    }

    /// Why a Source's file is not written to, where it is not.
    async fn no_file(&self, row: &Owned) -> Result<Option<&'static str>, Error> {
        let source = self.store.get_by_uid(Kind::Source, &row.source_uid).await?;
        Ok(match source.and_then(AnyObject::into_source).map(|source| source.spec.from) {
            None => Some("the source is gone"),
            Some(SourceFrom::Git(git)) if !git.push => {
                Some("the source does not push; set from.git.push, or change the repository")
            }
            Some(_) => None,
        })
    }

    /// A button of an offer was pressed.
    pub(super) async fn choose(
        &self,
        delivery: &str,
        n: usize,
        line: &Incoming,
        round: u32,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let private = |text: String| Ok(Effect::private(text));
        let delivery = self.store.delivery(delivery).await?;
        let Some(delivery) = delivery.filter(|delivery| reach.holds(&delivery.conversation)) else {
            return private(replies::no_such_offer());
        };
        let (text, labels, pending) = match &delivery.subject {
            Subject::Offer { text, labels, pending } => (text, labels, pending),
            Subject::Notice { .. } => return private(replies::chosen_before()),
            _ => return private(replies::no_such_offer()),
        };
        let label = n.checked_sub(1).and_then(|at| labels.get(at));
        let pending = serde_json::from_value::<Pending>(pending.clone()).ok();
        let (Some(label), Some(pending)) = (label, pending) else {
            return private(replies::no_such_offer());
        };
        if between(delivery.created, self.ambient.clock.now()) > CHOICE_TIME {
            return private(replies::no_such_offer());
        }
        let made = match pending {
            Pending::Apply { text, plan } => {
                return self.apply_pressed(&text, &plan, delivery, line, reach).await;
            }
            Pending::Change { kind, name, uid, patch } => {
                self.changed(label, kind, &name, &uid, patch, line, round, reach).await?
            }
            Pending::Deletion { kind, name, uid } => {
                self.let_go(kind, &name, &uid, None, reach).await?
            }
        };
        Ok(match made {
            Ok((ops, done)) => {
                let told = replies::chosen(text, &line.author, &done);
                Self::settled(delivery, told, ops)
            }
            Err(why) => Effect::private(why),
        })
    }

    /// The effect that puts a text in the place of an offer.
    pub(super) fn settled(delivery: Delivery, text: String, ops: Vec<Op>) -> Effect {
        let subject = Subject::Notice { text };
        let state = DeliveryState::Open;
        let answer = Answer::Standing(Box::new(Delivery { subject, state, ..delivery }));
        Effect { ops, answer }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one pending change, and the press")]
    async fn changed(
        &self,
        label: &str,
        kind: Kind,
        name: &str,
        uid: &str,
        patch: Value,
        line: &Incoming,
        round: u32,
        reach: &Reach,
    ) -> Result<Result<(Vec<Op>, String), String>, Error> {
        if label == LET_GO {
            return self.let_go(kind, name, uid, Some(&patch), reach).await;
        }
        let whose = full_name(kind, name);
        let (standing, row) = match self.declared_within(kind, name, uid, reach).await? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        if let Err(faults) = self.patched(&standing, &patch) {
            return Ok(Err(replies::faults(Asked::Set, &faults)));
        }
        let is_written = label == WRITE;
        let length = if is_written { FOR_THE_FILE } else { FOR_A_TIME };
        let Value::Object(patch) = patch else { return Ok(Err(replies::no_such_offer())) };
        let spec = OverrideSpec {
            target: OverrideTarget { kind, name: name.to_owned() },
            patch,
            expires_after: Some(length),
            write_to_file: is_written,
            reason: Some(format!("said by {}", line.author)),
        };
        let mut over = Override::new("", spec);
        over.metadata.generate_name = Some(format!("{name}-"));
        let mut over = over.into();
        sign(&mut over, None, &asker(line));
        let made = admit::create(over, self.ambient.ids.uid(), &suffix(&line.key, round));
        let over = match made {
            Ok(over) => over,
            Err(faults) => return Ok(Err(replies::faults(Asked::Set, &faults))),
        };
        let called = &over.metadata().name;
        let done = if is_written {
            replies::to_be_written(&whose, called, &row.file)
        } else {
            replies::overridden(&whose, called, &length.to_string())
        };
        Ok(Ok((vec![Op::Create(over)], done)))
    }

    /// What an offer is about, and the row that declares it; or why there is nothing to decide for
    /// whoever pressed. To somebody who does not reach the object, nothing is told of it.
    async fn declared_within(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        reach: &Reach,
    ) -> Result<Result<(AnyObject, Owned), String>, Error> {
        let standing = self.store.get(kind, name).await?;
        let standing = standing.filter(|standing| standing.metadata().uid == uid);
        let is_reached = match &standing {
            Some(standing) => has(reach, standing),
            None => *reach == Reach::Everywhere,
        };
        if !is_reached {
            return Ok(Err(replies::no_such_offer()));
        }
        let row = self.store.owned(kind, name).await?;
        Ok(standing.zip(row).ok_or_else(|| replies::moved_on(&full_name(kind, name))))
    }

    /// The operations that take an object out of its Source's hands, and change or delete it.
    async fn let_go(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        patch: Option<&Value>,
        reach: &Reach,
    ) -> Result<Result<(Vec<Op>, String), String>, Error> {
        let whose = full_name(kind, name);
        let (standing, row) = match self.declared_within(kind, name, uid, reach).await? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let done = replies::let_go(&whose, &row.source, patch.is_none());
        let object = match patch.map(|patch| self.patched(&standing, patch)) {
            None => standing,
            Some(Ok(object)) => object,
            Some(Err(faults)) => return Ok(Err(replies::faults(Asked::Set, &faults))),
        };
        let mut ops = row.let_go(object).to_vec();
        if patch.is_none() {
            ops.push(Op::Delete {
                kind,
                name: name.to_owned(),
                uid: Some(uid.to_owned()),
                resource_version: None,
            });
        }
        Ok(Ok((ops, done)))
    }

    /// An object with its spec patched, checked like any edit.
    fn patched(&self, standing: &AnyObject, patch: &Value) -> Result<AnyObject, Faults> {
        let before = standing.to_json();
        let mut json = before.clone();
        merge_patch(&mut json["spec"], patch);
        let spec = json["spec"].clone();
        let object = decode(json)?;
        admit::update(standing, &object)?;
        if matches!(standing.kind(), Kind::Agent | Kind::Job) {
            self.settings.defaults.check_move(&before["spec"], &spec)?;
        }
        Ok(object)
    }
}
