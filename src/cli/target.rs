//! `KIND NAME`, `KIND/NAME` and `KIND,KIND`: which objects a command means.

use super::error::Error;
use crate::resource::{GROUP, Kind};

/// What a command means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// All objects of these kinds.
    Kinds(Vec<Kind>),
    /// These objects.
    Objects(Vec<(Kind, String)>),
}

/// Reads the words behind a command.
///
/// # Errors
/// A word that names no kind, or words that do not fit together.
pub fn read(words: &[String]) -> Result<Targets, Error> {
    let [first, names @ ..] = words else {
        return Err(Error::Usage("name a kind, such as jobs".to_owned()));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| object(word))
            .collect::<Result<_, _>>()
            .map(Targets::Objects);
    }
    let kinds = match first.as_str() {
        "all" => Kind::ALL.to_vec(),
        list => list.split(',').map(kind).collect::<Result<_, _>>()?,
    };
    if names.is_empty() {
        return Ok(Targets::Kinds(kinds));
    }
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(Error::Usage(format!("`{name}` is no name")));
    }
    let pairs = kinds.iter().flat_map(|kind| names.iter().map(|name| (*kind, name.clone())));
    Ok(Targets::Objects(pairs.collect()))
}

/// Reads `KIND/NAME`.
///
/// # Errors
/// A word that is something else.
pub fn object(word: &str) -> Result<(Kind, String), Error> {
    match word.split_once('/') {
        Some((kind_word, name)) if is_name(name) => Ok((kind(kind_word)?, name.to_owned())),
        _ => Err(Error::Usage(format!(
            "`{word}` names no object; write KIND/NAME, such as job/nightly"
        ))),
    }
}

/// Whether a word can be a name at all; whether it is one, the server knows. Dots alone would
/// lead out of the collection.
fn is_name(word: &str) -> bool {
    !word.contains('/') && !word.trim_matches('.').is_empty()
}

/// Reads a kind, with or without the group behind it, as in `job.opendispatch.dev` or
/// `jobs.v1alpha1.opendispatch.dev`.
///
/// # Errors
/// A word that names none.
pub fn kind(word: &str) -> Result<Kind, Error> {
    let short = word.strip_suffix(GROUP).and_then(|rest| rest.strip_suffix('.')).unwrap_or(word);
    let short = short.strip_suffix(".v1alpha1").unwrap_or(short);
    Kind::find(short).ok_or_else(|| Error::NoSuchKind(word.to_owned()))
}

/// An object's name as it is printed: `job.opendispatch.dev/NAME`.
#[must_use]
pub fn full_name(kind: Kind, name: &str) -> String {
    format!("{}.{GROUP}/{name}", kind.singular())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Targets, Error> {
        read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn kinds_go_by_any_of_their_names() {
        for word in ["jobs", "job", "Job", "jobs.opendispatch.dev", "job.opendispatch.dev"] {
            assert_eq!(of(word).unwrap(), Targets::Kinds(vec![Kind::Job]), "{word}");
        }
        assert_eq!(of("ag,sp").unwrap(), Targets::Kinds(vec![Kind::Agent, Kind::Sprite]));
        assert_eq!(of("all").unwrap(), Targets::Kinds(Kind::ALL.to_vec()));
    }

    #[test]
    fn objects_go_by_kind_and_names_or_by_slashes() {
        let job = |name: &str| (Kind::Job, name.to_owned());
        assert_eq!(of("job a b").unwrap(), Targets::Objects(vec![job("a"), job("b")]));
        let both = vec![job("a"), (Kind::Agent, "b".to_owned())];
        assert_eq!(of("job/a agent/b").unwrap(), Targets::Objects(both));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for (words, line) in [
            (
                "pods",
                "there is no kind `pods`; the kinds are agents, jobs, fleets, schedules, sources, overrides, sprites",
            ),
            (
                "pod/x",
                "there is no kind `pod`; the kinds are agents, jobs, fleets, schedules, sources, overrides, sprites",
            ),
            ("job/", "`job/` names no object; write KIND/NAME, such as job/nightly"),
            ("job/a b", "`b` names no object; write KIND/NAME, such as job/nightly"),
            ("job/..", "`job/..` names no object; write KIND/NAME, such as job/nightly"),
            ("job ..", "`..` is no name"),
            ("job/a/b", "`job/a/b` names no object; write KIND/NAME, such as job/nightly"),
        ] {
            assert_eq!(of(words).unwrap_err().to_string(), line);
        }
    }
}
