//! How much a Fleet may become: a document of a few kilobytes can ask for any amount of memory, because
//! a template is written once and read as often as there are members, and a parameter as often as it is
//! named. So what is made is counted before it is made.
//!
//! Counted are the bytes of texts, and [`PER_VALUE`] for each entry of a list or a map, because a value
//! takes memory however short it is.

use serde_json::Value;

use super::super::fault::Fault;

/// The most that all members of a Fleet may say together.
pub(super) const MOST_BYTES: usize = 16 * 1024 * 1024;
/// The most that one member may say.
pub(super) const MOST_OF_ONE: usize = 1024 * 1024;
/// What each entry of a list or a map counts, beside its text.
pub(super) const PER_VALUE: usize = 64;
/// What a number, a truth value or nothing counts.
const SCALAR: usize = 8;
/// The most faults that are told of a Fleet.
pub(super) const MOST_FAULTS: usize = 20;

/// That there is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What may still be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    /// Of all members that are still to come, this one among them.
    all: usize,
    /// Of this member.
    one: usize,
    /// Whether there was once no room: then nothing more is made, and it was told.
    full: bool,
    /// How many values and pieces of texts were looked at or made so far.
    pub(super) steps: usize,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { all: MOST_BYTES, one: MOST_OF_ONE, full: false, steps: 0 }
    }

    /// Begins with the next member.
    pub(super) fn next(&mut self) {
        self.one = MOST_OF_ONE;
    }

    /// Takes so much. The first time that there is not as much, that is to be told; after that there is
    /// room for nothing.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Full> {
        let left = self.all.checked_sub(bytes).zip(self.one.checked_sub(bytes));
        match left {
            Some((all, one)) if !self.full => {
                (self.all, self.one) = (all, one);
                Ok(())
            }
            _ => {
                self.full = true;
                Err(Full)
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// What there is to tell once it is full.
    pub(super) fn too_much() -> Fault {
        let message = format!(
            "says more than {} MiB for one member, or more than {} MiB for all of them together (each \
             entry of a list or a map counts {PER_VALUE} bytes beside its text); make it shorter, or \
             two fleets of it",
            MOST_OF_ONE / 1024 / 1024,
            MOST_BYTES / 1024 / 1024
        );
        Fault::new("spec.template", message)
    }
}

/// What a value counts.
pub(super) fn cost(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| PER_VALUE + cost(item)).sum(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| PER_VALUE + key.len() + cost(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => SCALAR,
    }
}

/// Faults, and no more of them than anybody reads.
#[derive(Debug, Default)]
pub(super) struct Told {
    faults: Vec<Fault>,
    more: bool,
}

impl Told {
    /// Tells a fault, where there is still room for one. What is not told is not even made.
    pub(super) fn push(&mut self, fault: impl FnOnce() -> Fault) {
        if self.is_full() {
            self.more = true;
        } else {
            self.faults.push(fault());
        }
    }

    pub(super) fn extend(&mut self, faults: impl IntoIterator<Item = Fault>) {
        for fault in faults {
            self.push(|| fault);
            if self.more {
                return;
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.faults.len() == MOST_FAULTS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Nobody looks any further.
    pub(super) fn stop(&mut self) {
        self.more = true;
    }

    /// All that was told, and whether that was all. `more` says so where nobody has looked.
    pub(super) fn end(mut self, more: bool) -> Vec<Fault> {
        if self.more || more {
            self.faults.push(Fault::new(
                "spec.template",
                "and maybe more; these are the first faults of its members",
            ));
        }
        self.faults
    }
}
