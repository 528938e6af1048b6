//! The sets of parameters that a generator names: one for each member.
//!
//! A set borrows its values from the Fleet: a value of 16 KiB that a thousand members share is there
//! once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Value, json};

use super::{
    super::{Fault, Faults, check::join, fault::quoted, fleet::Generator, validate::MAX_NAME},
    MOST_MEMBERS, NoDirectories,
    filling::is_plain,
    room::Told,
};

/// The longest value of a parameter, in bytes of JSON.
pub(super) const MOST_VALUE: usize = 16 * 1024;
/// The most parameters of a matrix.
const MOST_AXES: usize = 16;

/// What stands for the placeholders of one member.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Params<'a>(BTreeMap<&'a str, Cow<'a, Value>>);

impl<'a> Params<'a> {
    fn borrowed(entry: &'a BTreeMap<String, Value>) -> Self {
        Self(entry.iter().map(|(key, value)| (key.as_str(), Cow::Borrowed(value))).collect())
    }

    fn made<const N: usize>(entries: [(&'static str, Value); N]) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key, Cow::Owned(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).map(|value| &**value)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &&'a str> {
        self.0.keys()
    }

    /// The values that can stand within a text, in the order of their names.
    pub(super) fn plain(&self) -> impl Iterator<Item = &Value> {
        self.0.values().map(|value| &**value).filter(|value| is_plain(value))
    }

    /// All of it for people, cut.
    pub(super) fn said(&self) -> String {
        const ENOUGH: usize = 100;
        let mut text = String::new();
        for (key, value) in &self.0 {
            if text.len() > ENOUGH {
                break;
            }
            let value = match &**value {
                Value::String(text) => text.chars().take(ENOUGH).collect(),
                other => other.to_string(),
            };
            let gap = if text.is_empty() { "" } else { " " };
            text.push_str(&format!("{gap}{key}={value}"));
        }
        quoted(&text)
    }
}

/// The sets of parameters that a generator names.
///
/// # Errors
/// What is wrong with the generator.
pub(super) fn parameters<'a>(
    generate: &'a Generator,
    directories: Result<&'a [String], NoDirectories>,
) -> Result<Vec<Params<'a>>, Faults> {
    let mut told = Told::default();
    let size = size(generate, directories);
    if size > MOST_MEMBERS {
        told.push(|| {
            let message = format!("makes {size} members; the most is {MOST_MEMBERS}");
            Fault::new("spec.generate", message)
        });
    }
    match generate {
        Generator::List(entries) => {
            for (n, entry) in entries.iter().enumerate() {
                check(entry.iter(), &mut told, |name| {
                    join(&format!("spec.generate.list[{n}]"), name)
                });
            }
        }
        Generator::Matrix(axes) => check_matrix(axes, &mut told),
        Generator::Replicas(_) => {}
        Generator::GitDirectories(_) => {
            if directories.is_err() {
                let message = "cannot be told: the source's directories are not known here";
                return Err(Fault::new("spec.generate.gitDirectories", message).into());
            }
        }
    }
    if !told.is_empty() {
        return Err(Faults(told.end(false)));
    }
    Ok(match (generate, directories) {
        (Generator::List(entries), _) => entries.iter().map(Params::borrowed).collect(),
        (Generator::Matrix(axes), _) => combinations(axes),
        (Generator::Replicas(_), _) => {
            (1..=size).map(|n| Params::made([("index", json!(n))])).collect()
        }
        (Generator::GitDirectories(_), Ok(paths)) => {
            let paths: BTreeSet<&String> = paths.iter().collect();
            let set = |path: &String| {
                let basename = path.rsplit('/').next().unwrap_or(path);
                Params::made([("path", json!(path)), ("basename", json!(basename))])
            };
            paths.into_iter().map(set).collect()
        }
        (Generator::GitDirectories(_), Err(NoDirectories)) => Vec::new(),
    })
}

/// How many members there would be.
fn size(generate: &Generator, directories: Result<&[String], NoDirectories>) -> usize {
    match generate {
        Generator::List(entries) => entries.len(),
        Generator::Matrix(axes) => axes.values().map(Vec::len).fold(1, usize::saturating_mul),
        Generator::Replicas(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        // Each counts once.
        Generator::GitDirectories(_) => {
            directories.map_or(0, |paths| paths.iter().collect::<BTreeSet<_>>().len())
        }
    }
}

/// Names that are none, and values that are too long.
fn check<'v>(
    entries: impl Iterator<Item = (&'v String, &'v Value)>,
    told: &mut Told,
    path: impl Fn(&str) -> String,
) {
    for (name, value) in entries {
        if !is_parameter(name) {
            told.push(|| no_name(&path(name), name));
        }
        if is_long(value) {
            told.push(|| too_long(&path(name)));
        }
    }
}

fn check_matrix(axes: &BTreeMap<String, Vec<Value>>, told: &mut Told) {
    let path = |name: &str| join("spec.generate.matrix", name);
    if axes.is_empty() {
        told.push(|| Fault::new("spec.generate.matrix", "names no parameters"));
    }
    if axes.len() > MOST_AXES {
        told.push(|| {
            let message = format!("names {} parameters; the most is {MOST_AXES}", axes.len());
            Fault::new("spec.generate.matrix", message)
        });
    }
    for (name, values) in axes {
        if !is_parameter(name) {
            told.push(|| no_name(&path(name), name));
        }
        if values.is_empty() {
            let message = "has no values, and so there are no members";
            told.push(|| Fault::new(path(name), message));
        }
        for _ in values.iter().filter(|value| is_long(value)) {
            told.push(|| too_long(&path(name)));
        }
    }
}

fn no_name(path: &str, name: &str) -> Fault {
    let message = format!(
        "{} is no name of a parameter; use letters, digits, _ and -, with a letter first",
        quoted(name)
    );
    Fault::new(path, message)
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

/// Each combination of one value of every parameter; the last parameter's values change fastest. The
/// caller has seen that there are not too many, and that no parameter is without values: then no step
/// on the way has more than the last.
fn combinations(axes: &BTreeMap<String, Vec<Value>>) -> Vec<Params<'_>> {
    let mut sets = vec![Params::default()];
    for (name, values) in axes {
        let mut longer = Vec::with_capacity(sets.len() * values.len());
        for set in sets {
            longer.extend(values.iter().map(|value| {
                let mut set = set.clone();
                set.0.insert(name.as_str(), Cow::Borrowed(value));
                set
            }));
        }
        sets = longer;
    }
    sets
}

pub(super) fn is_parameter(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}
