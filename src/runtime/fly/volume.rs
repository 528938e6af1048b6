//! The volume that keeps an owner's home and work beyond its machines.
//!
//! Volumes have neither tags nor unique names, and the answer to making one may be lost. So it is
//! looked for by the name that the owner's uid gives before one is made, and of several the one that
//! a machine has goes first, then the youngest: a copy that a person made elsewhere is to be used.
//! Others that were made within minutes of the one that is used come of a create whose answer was
//! lost, before any machine had them; they go. What is older or younger stays.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use jiff::SignedDuration;

use super::{api::Volume, book::LIST_LAG};

/// So many seconds apart two volumes were made by one create that was sent again. What was made at
/// another time is somebody's: a copy elsewhere, or a snapshot that was brought back.
const DOUBLES: i64 = 10 * 60;

/// Which volumes of a name there are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice<'a> {
    /// The one to use.
    pub(super) chosen: &'a Volume,
    /// Those that nothing was ever put on, where that is proven.
    pub(super) doubles: Vec<&'a Volume>,
}

/// Chooses among an app's volumes.
pub(super) fn choose<'a>(volumes: &'a [Volume], name: &str) -> Option<Choice<'a>> {
    let ours: Vec<&Volume> =
        volumes.iter().filter(|it| it.name == name && !it.is_leaving()).collect();
    let order =
        |it: &&&Volume| (it.attached_machine_id.is_none(), Reverse(it.created_at), it.id.clone());
    let chosen = *ours.iter().min_by_key(order)?;
    let used = chosen.attached_machine_id.is_some();
    let is_double = |it: &&Volume| {
        used && it.id != chosen.id
            && it.attached_machine_id.is_none()
            && it.created_at.zip(chosen.created_at).is_some_and(|(a, b)| {
                a.duration_since(b).abs() <= SignedDuration::from_secs(DOUBLES)
            })
    };
    Some(Choice { chosen, doubles: ours.into_iter().filter(is_double).collect() })
}

/// What we did that a list may not tell yet.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    made: HashMap<String, (Volume, Duration)>,
    open: HashMap<String, Duration>,
}

/// What is known of a name that a list does not have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shelved {
    /// We made it a moment ago.
    Made(Volume),
    /// A create was sent, and a list that was asked for later may tell what became of it.
    Open,
    /// Nothing: it may be made.
    Nothing,
}

impl Shelf {
    /// A volume was made.
    pub(super) fn made(&mut self, name: &str, volume: Volume, now: Duration) {
        self.open.remove(name);
        self.made.insert(name.to_owned(), (volume, now));
    }

    /// A create was sent whose answer was lost.
    pub(super) fn open(&mut self, name: &str, now: Duration) {
        self.open.insert(name.to_owned(), now);
    }

    /// A list has it: from now on lists tell of it.
    pub(super) fn is_listed(&mut self, name: &str) {
        self.made.remove(name);
    }

    /// It was destroyed.
    pub(super) fn forget(&mut self, name: &str) {
        self.made.remove(name);
        self.open.remove(name);
    }

    /// What is known of a name that a list does not have which was asked for then.
    pub(super) fn shelved(&mut self, name: &str, asked: Duration) -> Shelved {
        let lags = |at: Duration| asked < at + LIST_LAG;
        if let Some((volume, _)) = self.made.get(name).filter(|(_, at)| lags(*at)) {
            return Shelved::Made(volume.clone());
        }
        if self.open.get(name).is_some_and(|at| lags(*at)) {
            return Shelved::Open;
        }
        self.forget(name);
        Shelved::Nothing
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(id: &str, name: &str, machine: Option<&str>, state: &str, day: u8) -> Volume {
        let created = format!("2026-01-{day:02}T00:00:00Z");
        serde_json::from_value(json!({
            "id": id, "name": name, "state": state, "region": "iad", "created_at": created,
            "attached_machine_id": machine,
        }))
        .unwrap()
    }

    fn told(volumes: &[Volume]) -> Option<(String, Vec<String>)> {
        let choice = choose(volumes, "ours")?;
        let doubles = choice.doubles.iter().map(|it| it.id.clone()).collect();
        Some((choice.chosen.id.clone(), doubles))
    }

    #[test]
    fn the_one_that_a_machine_has_is_chosen_and_only_then_the_others_go() {
        let old = volume("a", "ours", None, "created", 1);
        let used = volume("b", "ours", Some("m"), "created", 2);
        let leaving = volume("c", "ours", Some("m"), "pending_destroy", 1);
        let other = volume("d", "theirs", Some("m"), "created", 1);
        let young = volume("e", "ours", None, "created", 3);
        assert_eq!(told(&[leaving.clone(), other.clone()]), None);
        let mut double = used.clone();
        (double.id, double.attached_machine_id) = ("f".into(), None);
        let all = [young.clone(), leaving, other, old.clone(), used, double];
        assert_eq!(told(&all), Some(("b".into(), vec!["f".into()])), "a person's copies stay");
        // Which one was used cannot be told: the youngest, and nothing goes.
        assert_eq!(told(&[young, old]), Some(("e".into(), vec![])));
    }

    #[test]
    fn what_a_list_may_not_tell_yet_is_not_made_again() {
        let mut shelf = Shelf::default();
        let at = Duration::from_secs;
        shelf.open("ours", at(1));
        assert_eq!(shelf.shelved("ours", at(15)), Shelved::Open);
        assert_eq!(shelf.shelved("ours", at(16)), Shelved::Nothing);
        let made = volume("a", "ours", None, "created", 1);
        shelf.open("ours", at(20));
        shelf.made("ours", made.clone(), at(21));
        shelf.made("other", made.clone(), at(21));
        shelf.is_listed("other");
        assert_eq!(shelf.shelved("other", at(22)), Shelved::Nothing, "the list has it");
        assert_eq!(shelf.shelved("ours", at(35)), Shelved::Made(made));
        assert_eq!(shelf.shelved("ours", at(36)), Shelved::Nothing);
    }
}
