//! From a Fleet to its members: which there are, and what each of them is. Pure, and the same for the
//! same input, in whatever order entries and members of maps were written.
//!
//! **Parameters.** `{{name}}` in any text of the template stands for a parameter. A text that is one
//! placeholder as a whole becomes the parameter's value, with its type: `"{{count}}"` may be a number
//! or a list. Within a text only text, numbers and truth values can stand. `\{{` means the braces
//! themselves. What is no parameter is a fault, with the place in the template and the member.
//!
//! **Names.** A member's name depends on its own parameters alone, never on who else there is: so who
//! comes and goes renames nobody. What is no DNS label is made one; two members of one name are a
//! fault, and not told apart behind anybody's back. A Job bears a hash of what it is made from, because
//! what its attempts are made from cannot change: another hash is another Job.
//!
//! **Bounded.** What is made is counted before it is made ([`room`]), so that no document, however short,
//! takes more memory than a few times [`room::MOST_BYTES`]. Who tells faults tells twenty.
//!
//! **All or nothing.** Every member is decoded and checked like a document that a person wrote. One
//! fault in one of them, and there are none.

mod filling;
mod params;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    API_VERSION, AnyObject, FLEET_LABEL, Fault, Faults, FleetSpec, Kind,
    admit::JOB_FIXED,
    check::join,
    decode,
    fault::quoted,
    fleet::Generator,
    validate::{MAX_NAME, work_is_kept},
};
use filling::{Filling, Step};
use params::{Params, parameters};
use room::{MOST_FAULTS, Room, Told, cost};

/// The most members that a Fleet may have.
pub const MOST_MEMBERS: usize = 1000;
/// Characters of a hash in a name, with the dash in front.
const TAIL: usize = 7;
/// A directory that stands for those which are there once a Source was read.
const SAMPLE: &str = "services/sample";

/// That nobody can say which directories there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoDirectories;

/// A member as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The Agent or Job: its name, labels, annotations and spec. Nothing that the server sets is there.
    pub object: AnyObject,
    /// A hash of all that the template says of it.
    pub hash: String,
}

/// Fills a spec with what a person need not say, or says why it may not be.
pub type Fill<'a> = dyn FnMut(&mut Value) -> Result<(), Fault> + 'a;

/// The members of a Fleet, in the order in which its generator names them. `directories` are those
/// that its Source has, for a generator that asks for them.
///
/// # Errors
/// All that is wrong with it, with paths into the Fleet.
pub fn members(
    fleet: &str,
    spec: &FleetSpec,
    directories: Result<&[String], NoDirectories>,
    fill: &mut Fill<'_>,
) -> Result<Vec<Member>, Faults> {
    within(fleet, spec, directories, fill, &mut Room::new())
}

/// As [`members`], for whoever cannot know the directories of a Source: one that could be there stands
/// for all of them.
///
/// # Errors
/// As [`members`].
pub fn sample(fleet: &str, spec: &FleetSpec, fill: &mut Fill<'_>) -> Result<Vec<Member>, Faults> {
    let one = [SAMPLE.to_owned()];
    let known: Result<&[String], NoDirectories> = match &spec.generate {
        Generator::GitDirectories(_) => Ok(&one),
        _ => Err(NoDirectories),
    };
    members(fleet, spec, known, fill)
}

/// As [`members`], in a given room.
fn within(
    fleet: &str,
    spec: &FleetSpec,
    directories: Result<&[String], NoDirectories>,
    fill: &mut Fill<'_>,
    room: &mut Room,
) -> Result<Vec<Member>, Faults> {
    let sets = parameters(&spec.generate, directories)?;
    let mut told = Told::default();
    let mut of_members: Vec<OfMembers> = Vec::new();
    for key in spec.template.metadata.labels.keys().chain(spec.template.metadata.annotations.keys())
    {
        if key.starts_with("opendispatch.dev/") {
            told.push(|| {
                let path = join("spec.template.metadata", key);
                Fault::new(path, "is set by the server; choose another key")
            });
        }
    }
    let template = Value::Object(spec.template.spec.clone());
    let said_once = cost(&template) + cost(&json!(spec.template.metadata));
    let mut members: Vec<Member> = Vec::new();
    // Whose each name is, as the number of its parameters.
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut more = false;
    for (n, params) in sets.iter().enumerate() {
        if told.is_full() {
            more = true;
            break;
        }
        room.next();
        if room.take(said_once).is_err() {
            told.push(Room::too_much);
            break;
        }
        let mut member_told = Told::default();
        let made = Making { fleet, spec, template: &template, params }.member(
            room,
            &mut member_told,
            fill,
        );
        let Some(member) = made else {
            for fault in member_told.end(false) {
                match of_members.iter_mut().find(|it| it.fault == fault) {
                    Some(known) => known.others += 1,
                    None => of_members.push(OfMembers { fault, who: params.said(), others: 0 }),
                }
            }
            if of_members.len() >= MOST_FAULTS {
                more = n + 1 < sets.len();
                break;
            }
            if room.is_full() {
                break;
            }
            continue;
        };
        if let Some(other) = names.insert(member.name.clone(), n) {
            told.push(|| {
                let message = format!(
                    "makes `{}` of two members, {} and {}; name it by a parameter that tells them \
                     apart",
                    member.name,
                    sets[other].said(),
                    params.said()
                );
                Fault::new("spec.template.metadata.name", message)
            });
        }
        members.push(member);
    }
    told.extend(of_members.into_iter().map(OfMembers::told));
    if told.is_empty() { Ok(members) } else { Err(Faults(told.end(more))) }
}

/// A fault that members have in common, as they have each line of the template.
struct OfMembers {
    fault: Fault,
    /// The first of them.
    who: String,
    /// How many others.
    others: usize,
}

impl OfMembers {
    fn told(self) -> Fault {
        let Self { fault, who, others } = self;
        let others = if others == 0 { String::new() } else { format!(" and {others} more") };
        Fault { message: format!("{} (member {who}{others})", fault.message), ..fault }
    }
}

/// Why a text is no pattern of directories, if it is none.
#[must_use]
pub fn bad_pattern(pattern: &str) -> Option<&'static str> {
    if pattern.trim().is_empty() {
        return Some("is empty; write a pattern of paths such as services/*");
    }
    if pattern.starts_with('/') || pattern.ends_with('/') {
        return Some("begins or ends with a slash; paths are relative to the repository");
    }
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    pattern.split('/').any(odd).then_some("leads nowhere; leave out `.`, `..` and double slashes")
}

/// One member on its way.
struct Making<'a> {
    fleet: &'a str,
    spec: &'a FleetSpec,
    template: &'a Value,
    params: &'a Params<'a>,
}

/// What a member is made of.
struct Made {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    spec: Value,
}

impl<'a> Making<'a> {
    /// One member; none where something is wrong with it.
    fn member(&self, room: &mut Room, told: &mut Told, fill: &mut Fill<'_>) -> Option<Member> {
        let mut made = self.filled(room, told);
        if !told.is_empty() {
            return None;
        }
        if let Err(fault) = fill(&mut made.spec) {
            told.push(|| of_member(fault));
        }
        let kind = self.spec.template.kind;
        if kind == Kind::Job && made.spec["cancel"] == Value::Bool(true) {
            told.push(|| {
                let message = "would end the job before it begins; leave it out";
                Fault::new("spec.template.spec.cancel", message)
            });
        }
        let base = label(&made.name, if kind == Kind::Job { MAX_NAME - TAIL } else { MAX_NAME });
        if base.is_empty() {
            told.push(|| {
                let message =
                    format!("makes {}, of which no DNS label can be made", quoted(&made.name));
                Fault::new("spec.template.metadata.name", message)
            });
        }
        if !told.is_empty() {
            return None;
        }
        match read(kind, &base, made) {
            Ok(member) => Some(member),
            Err(Faults(faults)) => {
                told.extend(faults.into_iter().map(of_member));
                None
            }
        }
    }

    /// What the template says of it.
    fn filled(&self, room: &mut Room, told: &mut Told) -> Made {
        let template = &self.spec.template;
        let (part, path) = ("spec.template.metadata", Vec::new());
        let mut filling = Filling { params: self.params, told: Told::default(), room, part, path };
        let name = match &template.metadata.name {
            Some(name) => filling.at(Step::Key("name"), |it| it.text(name)),
            None => self.usual_name(&mut filling),
        };
        let mut texts = |texts: &'a BTreeMap<String, String>, part: &'static str| {
            filling.at(Step::Key(part), |filling| {
                let one = |(key, text): (&'a String, &'a String)| {
                    (key.clone(), filling.at(Step::Key(key), |it| it.text(text)))
                };
                texts.iter().map(one).collect::<BTreeMap<String, String>>()
            })
        };
        let mut labels = texts(&template.metadata.labels, "labels");
        labels.insert(FLEET_LABEL.to_owned(), self.fleet.to_owned());
        let annotations = texts(&template.metadata.annotations, "annotations");
        filling.part = "spec.template.spec";
        let spec = filling.value(self.template);
        *told = filling.told;
        Made { name, labels, annotations, spec }
    }

    /// The Fleet's name and the values that can stand in a name.
    fn usual_name(&self, filling: &mut Filling<'_>) -> String {
        let mut name = self.fleet.to_owned();
        for value in self.params.plain() {
            if filling.room.take(cost(value)).is_err() {
                filling.told.push(Room::too_much);
                break;
            }
            name.push('-');
            match value {
                Value::String(text) => name.push_str(text),
                other => name.push_str(&other.to_string()),
            }
        }
        name
    }
}

/// Reads a member as the document that it is.
fn read(kind: Kind, base: &str, made: Made) -> Result<Member, Faults> {
    let Made { labels, annotations, spec, .. } = made;
    let document = |name: &str| {
        json!({
            "apiVersion": API_VERSION,
            "kind": kind.name(),
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": spec,
        })
    };
    let mut object = decode(document(base))?;
    if kind == Kind::Job {
        // As it was understood, not as it was written: a default that is written out is no change.
        let all = object.to_json();
        let fixed: Map<String, Value> =
            JOB_FIXED.iter().map(|name| ((*name).to_owned(), all["spec"][name].clone())).collect();
        object = decode(document(&format!("{base}-{}", hash(&Value::Object(fixed), TAIL - 1))))?;
    }
    if let AnyObject::Agent(agent) = &object {
        work_is_kept(agent)?;
    }
    let all = object.to_json();
    let hash = hash(&json!([kind.name(), all["metadata"], all["spec"]]), 16);
    Ok(Member { name: object.metadata().name.clone(), object, hash })
}

/// A member's fault, as one of the template that it was made from.
fn of_member(fault: Fault) -> Fault {
    Fault { path: format!("spec.template.{}", fault.path), line: None, column: None, ..fault }
}

/// So many hexadecimal digits.
pub(super) fn hash(value: &Value, digits: usize) -> String {
    let bytes = Sha256::digest(value.to_string().as_bytes());
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text[..digits].to_owned()
}

/// A text as a DNS label; one that is too long is cut, and a hash of the whole stands behind it. Empty
/// where nothing of the text can be kept.
fn label(text: &str, most: usize) -> String {
    let mut label = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => label.push(c),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    let whole = label.trim_end_matches('-');
    if whole.len() <= most {
        return whole.to_owned();
    }
    let cut = whole[..most - TAIL].trim_end_matches('-');
    format!("{cut}-{}", hash(&Value::from(text), TAIL - 1))
}
