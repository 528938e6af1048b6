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
//! **All or nothing.** Every member is decoded and checked like a document that a person wrote. One
//! fault in one of them, and there are none.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    API_VERSION, AnyObject, FLEET_LABEL, Fault, Faults, FleetSpec, Kind,
    admit::JOB_FIXED,
    check::join,
    decode,
    fault::{hint, quoted},
    fleet::Generator,
    validate::MAX_NAME,
};

/// The most members that a Fleet may have.
pub const MOST_MEMBERS: usize = 1000;
/// The most faults that are told of members.
const MOST_FAULTS: usize = 20;
/// The most that all members of a Fleet may say together, in bytes of JSON, roughly: a template is
/// written once and read as often as there are members, and a parameter as often as it is named.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// The longest value of a parameter, in bytes of JSON.
const MOST_VALUE: usize = 16 * 1024;
/// The most parameters of a matrix.
const MOST_AXES: usize = 16;
/// Characters of a hash in a name, with the dash in front.
const TAIL: usize = 7;

/// What stands for the placeholders of one member.
pub type Params = BTreeMap<String, Value>;

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
    /// What it was made from.
    pub params: Params,
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
    let sets = parameters(&spec.generate, directories)?;
    let mut faults = Vec::new();
    let mut of_members: Vec<OfMembers> = Vec::new();
    for key in spec.template.metadata.labels.keys().chain(spec.template.metadata.annotations.keys())
    {
        if key.starts_with("opendispatch.dev/") {
            let path = join("spec.template.metadata", key);
            faults.push(Fault::new(path, "is set by the server; choose another key"));
        }
    }
    let said_once = json!(spec.template).to_string().len();
    let mut room = MOST_BYTES;
    let mut members: Vec<Member> = Vec::new();
    let mut names: BTreeMap<String, Params> = BTreeMap::new();
    for params in sets {
        let Some(left) = room.checked_sub(said_once) else {
            faults.push(too_much());
            break;
        };
        room = left;
        if faults.len() + of_members.len() > MOST_FAULTS {
            break;
        }
        match member(fleet, spec, &params, &mut room, fill) {
            Err(bad) => {
                for fault in bad {
                    match of_members.iter_mut().find(|it| it.fault == fault) {
                        Some(known) => known.more += 1,
                        None => of_members.push(OfMembers { fault, who: said(&params), more: 0 }),
                    }
                }
            }
            Ok(member) => {
                if let Some(other) = names.get(&member.name) {
                    let message = format!(
                        "makes `{}` of two members, {} and {}; name it by a parameter that tells \
                         them apart",
                        member.name,
                        said(other),
                        said(&params)
                    );
                    faults.push(Fault::new("spec.template.metadata.name", message));
                }
                names.insert(member.name.clone(), params);
                members.push(member);
            }
        }
    }
    faults.extend(of_members.into_iter().map(OfMembers::told));
    if faults.is_empty() { Ok(members) } else { Err(Faults(few(faults))) }
}

/// A fault that members have in common, as they have each line of the template.
struct OfMembers {
    fault: Fault,
    /// The first of them.
    who: String,
    /// How many others.
    more: usize,
}

impl OfMembers {
    fn told(self) -> Fault {
        let Self { fault, who, more } = self;
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Fault { message: format!("{} (member {who}{more})", fault.message), ..fault }
    }
}

fn too_much() -> Fault {
    let message = format!(
        "says more than {} MiB for all members together; make it shorter, or two fleets of it",
        MOST_BYTES / 1024 / 1024
    );
    Fault::new("spec.template", message)
}

/// The first faults, and that there are more; nobody looked for all of them.
fn few(faults: Vec<Fault>) -> Vec<Fault> {
    let more = faults.len() > MOST_FAULTS;
    let mut faults: Vec<Fault> = faults.into_iter().take(MOST_FAULTS).collect();
    if more {
        faults.push(Fault::new("spec.template", "and more faults of members"));
    }
    faults
}

/// A member's parameters for people, cut.
fn said(params: &Params) -> String {
    let text: Vec<String> =
        params.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect();
    quoted(&text.join(" "))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The sets of parameters that a generator names.
///
/// # Errors
/// What is wrong with the generator.
pub fn parameters(
    generate: &Generator,
    directories: Result<&[String], NoDirectories>,
) -> Result<Vec<Params>, Faults> {
    let mut faults = Vec::new();
    let mut keys = |names: &mut dyn Iterator<Item = (&String, String)>| {
        for (name, path) in names {
            if !is_parameter(name) {
                let message = format!(
                    "{} is no name of a parameter; use letters, digits, _ and -, with a letter first",
                    quoted(name)
                );
                faults.push(Fault::new(path, message));
            }
        }
    };
    let sets = match generate {
        Generator::List(entries) => {
            keys(&mut entries.iter().enumerate().flat_map(|(n, entry)| {
                entry
                    .keys()
                    .map(move |name| (name, join(&format!("spec.generate.list[{n}]"), name)))
            }));
            for (n, entry) in entries.iter().enumerate() {
                for (name, _) in entry.iter().filter(|(_, value)| is_long(value)) {
                    faults.push(too_long(&join(&format!("spec.generate.list[{n}]"), name)));
                }
            }
            entries.clone()
        }
        Generator::Matrix(axes) => {
            keys(&mut axes.keys().map(|name| (name, join("spec.generate.matrix", name))));
            for (name, values) in axes.iter().filter(|(_, values)| values.is_empty()) {
                let _ = values;
                let path = join("spec.generate.matrix", name);
                faults.push(Fault::new(path, "has no values, and so there are no members"));
            }
            if axes.is_empty() {
                faults.push(Fault::new("spec.generate.matrix", "names no parameters"));
            }
            if axes.len() > MOST_AXES {
                let message = format!("names {} parameters; the most is {MOST_AXES}", axes.len());
                faults.push(Fault::new("spec.generate.matrix", message));
            }
            let all =
                axes.iter().flat_map(|(name, values)| values.iter().map(move |it| (name, it)));
            for (name, _) in all.filter(|(_, value)| is_long(value)).take(MOST_FAULTS) {
                faults.push(too_long(&join("spec.generate.matrix", name)));
            }
            let size = axes.values().map(Vec::len).fold(1, usize::saturating_mul);
            // An axis without values makes no members, and those before it as many as they like.
            if size > MOST_MEMBERS || !faults.is_empty() { Vec::new() } else { combinations(axes) }
        }
        Generator::Replicas(count) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX).min(MOST_MEMBERS + 1);
            (1..=count).map(|n| Params::from([("index".to_owned(), json!(n))])).collect()
        }
        Generator::GitDirectories(_) => match directories {
            Err(NoDirectories) => {
                let message = "cannot be told: the source's directories are not known here";
                return Err(Fault::new("spec.generate.gitDirectories", message).into());
            }
            Ok(paths) => {
                let paths: BTreeSet<&String> = paths.iter().collect();
                let set = |path: &&String| {
                    let basename = path.rsplit('/').next().unwrap_or(path);
                    Params::from([
                        ("path".to_owned(), json!(path)),
                        ("basename".to_owned(), json!(basename)),
                    ])
                };
                paths.iter().map(set).collect()
            }
        },
    };
    let size = match generate {
        Generator::Matrix(axes) => axes.values().map(Vec::len).fold(1, usize::saturating_mul),
        Generator::Replicas(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        _ => sets.len(),
    };
    if size > MOST_MEMBERS {
        let message = format!("makes {size} members; the most is {MOST_MEMBERS}");
        faults.push(Fault::new("spec.generate", message));
    }
    if faults.is_empty() { Ok(sets) } else { Err(Faults(few(faults))) }
}

fn is_long(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > MOST_VALUE,
        Value::Array(_) | Value::Object(_) => value.to_string().len() > MOST_VALUE,
        _ => false,
    }
}

fn too_long(path: &str) -> Fault {
    let message = format!("is longer than {} KiB; put it into the template", MOST_VALUE / 1024);
    Fault::new(path, message)
}

/// Each combination of one value of every parameter; the last parameter's values change fastest.
fn combinations(axes: &BTreeMap<String, Vec<Value>>) -> Vec<Params> {
    let mut sets = vec![Params::new()];
    for (name, values) in axes {
        let with = |set: &Params, value: &Value| {
            let mut set = set.clone();
            set.insert(name.clone(), value.clone());
            set
        };
        sets =
            sets.iter().flat_map(|set| values.iter().map(move |value| with(set, value))).collect();
    }
    sets
}

fn is_parameter(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
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

/// One member, or all that is wrong with it.
fn member(
    fleet: &str,
    spec: &FleetSpec,
    params: &Params,
    room: &mut usize,
    fill: &mut Fill<'_>,
) -> Result<Member, Vec<Fault>> {
    let template = &spec.template;
    let kind = template.kind;
    let mut filling = Filling { params, faults: Vec::new(), room, full: false };
    let given = match &template.metadata.name {
        Some(name) => filling.text(name, "spec.template.metadata.name"),
        None => {
            let values = params.values().filter(|value| is_plain(value)).map(plain);
            std::iter::once(fleet.to_owned()).chain(values).collect::<Vec<_>>().join("-")
        }
    };
    let mut texts = |texts: &BTreeMap<String, String>, part: &str| -> BTreeMap<String, String> {
        let path = format!("spec.template.metadata.{part}");
        let one =
            |(key, text): (&String, &String)| (key.clone(), filling.text(text, &join(&path, key)));
        texts.iter().map(one).collect()
    };
    let mut labels = texts(&template.metadata.labels, "labels");
    let annotations = texts(&template.metadata.annotations, "annotations");
    let template_spec = Value::Object(template.spec.clone());
    let mut spec = filling.value(&template_spec, "spec.template.spec");
    let mut faults = filling.faults;
    if let Err(fault) = fill(&mut spec) {
        faults.push(of_member(fault));
    }
    if kind == Kind::Job && spec["cancel"] == Value::Bool(true) {
        let message = "would end the job before it begins; leave it out";
        faults.push(Fault::new("spec.template.spec.cancel", message));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    labels.insert(FLEET_LABEL.to_owned(), fleet.to_owned());
    let base = label(&given, if kind == Kind::Job { MAX_NAME - TAIL } else { MAX_NAME });
    if base.is_empty() {
        let message = format!("makes {}, of which no DNS label can be made", quoted(&given));
        return Err(vec![Fault::new("spec.template.metadata.name", message)]);
    }
    let document = |name: &str| {
        json!({
            "apiVersion": API_VERSION,
            "kind": kind.name(),
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": spec,
        })
    };
    let read = |name: &str| -> Result<AnyObject, Vec<Fault>> {
        decode(document(name)).map_err(|faults| faults.0.into_iter().map(of_member).collect())
    };
    let mut object = read(&base)?;
    if kind == Kind::Job {
        // As it was understood, not as it was written: a default that is written out is no change.
        let all = object.to_json();
        let fixed: Map<String, Value> =
            JOB_FIXED.iter().map(|name| ((*name).to_owned(), all["spec"][name].clone())).collect();
        object = read(&format!("{base}-{}", hash(&Value::Object(fixed), TAIL - 1)))?;
    }
    let all = object.to_json();
    let hash = hash(&json!([kind.name(), all["metadata"], all["spec"]]), 16);
    Ok(Member { name: object.metadata().name.clone(), object, hash, params: params.clone() })
}

/// A member's fault, as one of the template that it was made from.
fn of_member(fault: Fault) -> Fault {
    Fault { path: format!("spec.template.{}", fault.path), line: None, column: None, ..fault }
}

/// Whether a value can stand within a text.
fn is_plain(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

/// So many hexadecimal digits.
fn hash(value: &Value, digits: usize) -> String {
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

/// Fills placeholders in.
struct Filling<'a> {
    params: &'a Params,
    faults: Vec<Fault>,
    /// How many bytes the parameters of this member and of those behind it may still fill in.
    room: &'a mut usize,
    /// Whether that was said of this member.
    full: bool,
}

/// A piece of a text.
enum Piece<'t> {
    Text(&'t str),
    Placeholder(&'t str),
    /// `{{` that is followed by no `}}`.
    Open,
}

impl Filling<'_> {
    fn value(&mut self, value: &Value, path: &str) -> Value {
        match value {
            Value::String(text) => self.whole(text, path),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(n, item)| self.value(item, &format!("{path}[{n}]")))
                .collect(),
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, member)| (key.clone(), self.value(member, &join(path, key))))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    /// A text that may be one placeholder as a whole.
    fn whole(&mut self, text: &str, path: &str) -> Value {
        match pieces(text).as_slice() {
            [Piece::Placeholder(name)] => self.param(name, path).unwrap_or(Value::Null),
            _ => Value::String(self.text(text, path)),
        }
    }

    fn text(&mut self, text: &str, path: &str) -> String {
        let mut filled = String::new();
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Open => {
                    let message = "has `{{` without `}}` behind it; write \\{{ to mean the braces";
                    self.faults.push(Fault::new(path, message));
                }
                Piece::Placeholder(name) => match self.param(name, path) {
                    Some(value) if is_plain(&value) => filled.push_str(&plain(&value)),
                    Some(_) => {
                        let message = format!(
                            "`{{{{{name}}}}}` is a list, a map or nothing, which cannot stand within \
                             a text"
                        );
                        self.faults.push(Fault::new(path, message));
                    }
                    None => {}
                },
            }
        }
        filled
    }

    fn param(&mut self, name: &str, path: &str) -> Option<Value> {
        // Whoever has as many faults is told of no more.
        if self.faults.len() > MOST_FAULTS {
            return None;
        }
        if let Some(value) = self.params.get(name) {
            let length = value.as_str().map_or_else(|| value.to_string().len(), str::len);
            let Some(left) = self.room.checked_sub(length) else {
                // Said once, and by the loop for the members behind this one.
                if !std::mem::replace(&mut self.full, true) {
                    *self.room = 0;
                    self.faults.push(too_much());
                }
                return None;
            };
            *self.room = left;
            return Some(value.clone());
        }
        let message = if is_parameter(name) {
            let known: Vec<&str> = self.params.keys().map(String::as_str).collect();
            format!("`{{{{{name}}}}}` is no parameter{}", hint(name, &known, "the parameters are"))
        } else {
            format!(
                "{} between `{{{{` and `}}}}` is no parameter; write \\{{{{ to mean the braces",
                quoted(name)
            )
        };
        self.faults.push(Fault::new(path, message));
        None
    }
}

/// Takes a text apart. A backslash in front of `{{` goes, and the braces stay.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let (front, behind) = rest.split_at(at);
        if let Some(front) = front.strip_suffix('\\') {
            pieces.push(Piece::Text(front));
            let (braces, after) = behind.split_at(2);
            pieces.push(Piece::Text(braces));
            rest = after;
            continue;
        }
        if !front.is_empty() {
            pieces.push(Piece::Text(front));
        }
        match behind[2..].find("}}") {
            Some(end) => {
                pieces.push(Piece::Placeholder(behind[2..2 + end].trim()));
                rest = &behind[2 + end + 2..];
            }
            None => {
                pieces.push(Piece::Open);
                rest = "";
            }
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

#[cfg(test)]
mod tests;
