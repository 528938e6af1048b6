//! What a Source may write: pure, one fault for each thing that it may not.
//!
//! A policy looks through what is made to what is made of that: a Schedule's Jobs count as if they
//! stood in the file themselves, a Fleet's members as they will be with their parameters filled in,
//! and an Override as the object with its patch laid over it. Where nobody can say what a parameter
//! will be (directories that are still to come, a number of replicas that may be scaled), it may not
//! fill in what the policy restricts.
//!
//! **Nothing unasked.** A policy that restricts `permissionModes` and leaves `bypass` out means that
//! agents ask. Other fields do the same as `bypass` by another name: a rule that allows something
//! unasked, a program in the agent's place, a variable that makes the agent start one. So under such
//! a policy they are refused too, save for what it lists.
//!
//! **No power of its own making.** Sources and Overrides are written only by a Source whose policy
//! names these kinds. An Override may only be of what the same Source declares; a Source may be no
//! wider than the one that declares it, and reads only where that one says. Which fields give power,
//! and which list is about which, stands in a table of `docs/sources.md`; a test holds it against the
//! schemas, so that a field nobody has judged is found when it is made.

mod made;
mod over;
mod words;
mod worker;

use std::path::Path;

use serde_json::Value;

use self::words::{Word, Words, allows};
pub use self::{
    made::noted,
    over::overrides,
    words::{USUAL_KINDS, matches},
};
use super::set::Rules;
use crate::resource::{AnyObject, Fault, Kind, resolve::below_home};

/// How a parameter of a Fleet begins.
const PARAMETER: &str = "{{";

/// What of an object a Source's policy does not allow, each with its path.
#[must_use]
pub fn faults(object: &AnyObject, rules: Rules<'_>) -> Vec<Fault> {
    let mut judge = Judge::new(rules);
    judge.kind(object.kind(), "kind");
    judge.object(object);
    judge.faults
}

/// A member of something, with its path. Nothing where it does not stand there.
type Found<'v> = Option<(&'v Value, String)>;

/// Goes through an object and collects what may not be.
struct Judge<'a> {
    rules: Rules<'a>,
    words: Words<'a>,
    /// Whether parameters stand for what nobody can say.
    is_template: bool,
    faults: Vec<Fault>,
}

impl<'a> Judge<'a> {
    fn new(rules: Rules<'a>) -> Self {
        let words = Words::of(rules.policy);
        Self { rules, words, is_template: false, faults: Vec::new() }
    }

    fn say(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(path, message));
    }

    fn kind(&mut self, kind: Kind, path: &str) {
        let allowed = self.words.kinds();
        if !allowed.contains(&kind) {
            let names: Vec<&str> = allowed.iter().map(|kind| kind.name()).collect();
            let message = format!("{kind} may not be written by this source; {}", list(&names));
            self.say(path, message);
        }
    }

    /// A member on the way to something that is restricted: neither it nor what it is part of may be
    /// a parameter.
    fn within<'v>(&mut self, value: &'v Value, path: &str, keys: &[&str]) -> Found<'v> {
        let (mut value, mut path) = (value, path.to_owned());
        for key in keys {
            if self.is_parameter(value, &path) {
                return None;
            }
            value = value.get(key)?;
            path = format!("{path}.{key}");
        }
        (!value.is_null() && !self.is_parameter(value, &path)).then_some((value, path))
    }

    /// The entries of a list on the way to something that is restricted.
    fn entries<'v>(
        &mut self,
        value: &'v Value,
        path: &str,
        keys: &[&str],
    ) -> Vec<(&'v Value, String)> {
        let Some((items, path)) = self.within(value, path, keys) else { return Vec::new() };
        let items = items.as_array().into_iter().flatten().enumerate();
        items
            .map(|(n, item)| (item, format!("{path}[{n}]")))
            .filter(|(item, path)| !self.is_parameter(item, path))
            .collect()
    }

    /// Whether a parameter stands where something restricted is; then that is said.
    fn is_parameter(&mut self, value: &Value, path: &str) -> bool {
        let is_one = |text: &str| text.contains(PARAMETER);
        let in_key = value.as_object().is_some_and(|map| map.keys().any(|key| is_one(key)));
        let found = self.is_template && (in_key || value.as_str().is_some_and(is_one));
        if found {
            let message = "holds a parameter, and the source's policy restricts what stands here; \
                           write it out";
            self.say(path, message);
        }
        found
    }

    /// A member whose text has to be in a list, where it stands there.
    fn member(&mut self, word: Word, value: &Value, path: &str, keys: &[&str]) {
        if self.words.list(word).is_some()
            && let Some((value, path)) = self.within(value, path, keys)
        {
            // Whatever is no text is not allowed either.
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.one(word, &path, &text);
        }
    }

    /// A text that has to be in a list.
    fn one(&mut self, word: Word, path: &str, text: &str) {
        let Some(allowed) = self.words.list(word) else { return };
        if !allows(allowed, text) {
            self.refuse(word, path, text);
        }
    }

    /// A place in a file system that has to be in a list: as it is written, with `~` for the home.
    fn place(&mut self, word: Word, path: &str, text: &str) {
        let Some(allowed) = self.words.list(word) else { return };
        let home = &self.rules.defaults.home;
        let whole = |text: &str| below_home(Path::new(text), home).display().to_string();
        let allowed: Vec<String> = allowed.iter().map(|pattern| whole(pattern)).collect();
        if text.split('/').any(|part| part == "..") {
            self.say(
                path,
                format!("`{text}` leads up, and the policy cannot judge where; leave out .."),
            );
        } else if !allows(&allowed, &whole(text)) {
            self.refuse(word, path, text);
        }
    }

    fn refuse(&mut self, word: Word, path: &str, text: &str) {
        let names: Vec<&str> =
            self.words.list(word).unwrap_or_default().iter().map(String::as_str).collect();
        let mend = if names.is_empty() && self.words.follows(word) {
            format!(" (spec.policy.{})", word.name())
        } else {
            String::new()
        };
        let thing = word.thing();
        let message =
            format!("the {thing} `{text}` is not allowed to this source; {}{mend}", list(&names));
        self.say(path, message);
    }
}

fn list(allowed: &[&str]) -> String {
    if allowed.is_empty() {
        "its policy allows none".to_owned()
    } else {
        format!("its policy allows {}", allowed.join(", "))
    }
}

#[cfg(test)]
mod fields;
#[cfg(test)]
mod tests;
