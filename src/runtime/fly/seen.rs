//! What is kept of a machine that was seen: little, since ten thousand may sleep.

use jiff::Timestamp;

use super::{
    api::{ExitEvent, Machine, MachineState as State},
    names, tags,
};
use crate::resource::FlyMachine;

/// A machine of ours, as it was told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Its id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
    /// What it does.
    pub(super) state: State,
    /// Where it is.
    pub(super) region: String,
    /// Whether its host answers, so that the state can be believed.
    pub(super) certain: bool,
    /// When it was made.
    pub(super) created: Option<Timestamp>,
    /// The Sprite that it says it is of.
    pub(super) sprite: String,
    /// The store's revision when it was made.
    pub(super) revision: Option<u64>,
    /// Whether it has a volume, and so can be nowhere else.
    pub(super) pinned: bool,
    /// How its program ended last, where that was told.
    pub(super) exit: Option<Box<ExitEvent>>,
}

impl Seen {
    /// What of a machine is kept; nothing of one that says of no Sprite that it is its own. Where its
    /// host does not answer, its tags may be missing, and its name says it.
    pub(super) fn of(machine: &Machine, installation: &str) -> Option<Self> {
        let tagged = machine.tag(tags::SPRITE);
        let named = names::sprite(installation, &machine.name).filter(|_| !machine.is_certain());
        let sprite = tagged.or(named)?.to_owned();
        Some(Self::read(machine, sprite))
    }

    /// The same of a machine whose id is said to be a Sprite's; nothing of one that says that it is
    /// another's, nor of one that has neither our tags nor the Sprite's name: its id may come from a
    /// machine's own word.
    pub(super) fn known(machine: &Machine, installation: &str, uid: &str) -> Option<Self> {
        match Self::of(machine, installation) {
            Some(seen) => (seen.sprite == uid).then_some(seen),
            None => (machine.name == names::machine(installation, uid))
                .then(|| Self::read(machine, uid.to_owned())),
        }
    }

    fn read(machine: &Machine, sprite: String) -> Self {
        let configs = [&machine.config, &machine.incomplete_config];
        Self {
            id: machine.id.clone(),
            name: machine.name.clone(),
            state: machine.state.clone(),
            region: machine.region.clone(),
            certain: machine.is_certain(),
            created: machine.created_at,
            sprite,
            revision: machine.tag(tags::REVISION).and_then(|revision| revision.parse().ok()),
            pinned: configs.into_iter().flatten().any(|config| !config.mounts.is_empty()),
            exit: last_exit(machine).map(Box::new),
        }
    }

    /// As the Sprite's status has it.
    pub(super) fn status(&self, app: &str) -> FlyMachine {
        FlyMachine {
            app: app.to_owned(),
            machine_id: self.id.clone(),
            region: self.region.clone(),
            state: self.state.to_string(),
        }
    }

    /// Whether it runs or changes.
    pub(super) fn is_lively(&self) -> bool {
        !matches!(self.state, State::Stopped | State::Suspended | State::Failed | State::Destroyed)
    }

    /// What tells people and the engine that something happened to it.
    pub(super) fn mark(&self) -> (&str, &State, bool) {
        (&self.id, &self.state, self.certain)
    }
}

/// The exit of the machine's last life, where one was told: nothing of a life before that.
fn last_exit(machine: &Machine) -> Option<ExitEvent> {
    let events = machine.events.iter().take_while(|event| event.kind != "start");
    events.filter_map(|event| event.exit.clone()).next()
}

/// Which of the machines that say they are of one Sprite is taken for it: the one that the store
/// knows; else the one with its name; else the oldest. Others were made by hand.
pub(super) fn choose<'a>(
    seen: &'a [Seen],
    known: Option<&str>,
    installation: &str,
    uid: &str,
) -> Option<&'a Seen> {
    let name = names::machine(installation, uid);
    let by_id = seen.iter().find(|it| known == Some(it.id.as_str()));
    by_id
        .or_else(|| seen.iter().find(|it| it.name == name))
        .or_else(|| seen.iter().min_by_key(|it| (it.created, it.id.clone())))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine of the Sprite `uid`.
    pub(in super::super) fn seen(state: State) -> Seen {
        Seen {
            id: "148e21ea7d4ed8".into(),
            name: names::machine("home", "uid"),
            state,
            region: "iad".into(),
            certain: true,
            created: Some(Timestamp::UNIX_EPOCH),
            sprite: "uid".into(),
            revision: Some(7),
            pinned: false,
            exit: None,
        }
    }

    #[test]
    fn of_several_the_known_one_counts_then_the_named_one_then_the_oldest() {
        let named = seen(State::Started);
        let old = Seen { id: "a".into(), name: "by-hand".into(), ..named.clone() };
        let young = Seen { id: "b".into(), created: Some(Timestamp::MAX), ..old.clone() };
        let all = [young.clone(), old.clone(), named.clone()];
        let chosen =
            |all: &[Seen], known| choose(all, known, "home", "uid").map(|it| it.id.clone());
        assert_eq!(chosen(&all, Some("b")), Some("b".into()));
        assert_eq!(chosen(&all, Some("another")), Some(named.id));
        assert_eq!(chosen(&all[..2], None), Some("a".into()));
        assert_eq!(chosen(&[], None), None);
    }
}
