//! What Fly holds of this installation, who wants it, and the removal of what nobody does.
//!
//! When something may go is decided in [`leaks`](super::leaks); whoever decides has read the store
//! after this look, so that nobody who is on the way in is taken for gone. What is ours is told by
//! the tags of a machine and by the name of a volume; before a machine is destroyed it is asked for
//! once more by its id, since lists lie behind. A stranger's is never touched.

use std::collections::{HashMap, HashSet};

use super::{
    api::{ApiError, Machine, Volume},
    leaks::Holding,
    names,
    runtime::FlyRuntime,
    seen::{Seen, choose},
    tags, volume,
};
use crate::{resource::leaks::Thing, runtime::Error};

/// Who is there in the store.
#[derive(Debug, Clone, Default)]
pub struct Living {
    /// The Sprites that were not let go yet, each with the id of its machine as far as it is known.
    pub sprites: HashMap<String, Option<String>>,
    /// The uids of those of whom something may be kept: Agents, Jobs, Sprites and their owners.
    pub owners: HashSet<String>,
}

/// What one look at Fly has found: all of it, since a list that fails is an error.
#[derive(Debug, Clone, Default)]
pub struct Haul {
    /// All of ours.
    pub held: Vec<Holding>,
    /// The store's revision behind the look; none where the store did not say it.
    pub revision: Option<u64>,
    seen: HashMap<String, Vec<Seen>>,
    volumes: Vec<Volume>,
}

impl Haul {
    /// What of it somebody wants: of each Sprite one machine, of each owner one volume, and those of
    /// which it cannot be told which is the one.
    #[must_use]
    pub fn wanted(&self, living: &Living, installation: &str) -> HashSet<Thing> {
        let machines = living.sprites.iter().filter_map(|(uid, known)| {
            choose(self.seen.get(uid)?, known.as_deref(), installation, uid)
        });
        let mut wanted: HashSet<Thing> =
            machines.map(|seen| Thing::Machine(seen.id.clone())).collect();
        for owner in &living.owners {
            let name = names::volume(installation, owner);
            let Some(choice) = volume::choose(&self.volumes, &name) else { continue };
            let is_double = |id: &str| choice.doubles.iter().any(|it| it.id == id);
            let of_owner = self.volumes.iter().filter(|it| it.name == name && !is_double(&it.id));
            wanted.extend(of_owner.map(|it| Thing::Volume(it.id.clone())));
        }
        wanted
    }
}

/// What of a machine is ours: nothing where it says that it is another installation's. Where its host
/// does not answer, its tags may be missing, and its name says it.
fn ours(machine: &Machine, installation: &str) -> Option<Seen> {
    match machine.tag(tags::INSTALLATION) {
        Some(tag) if tag == installation => Seen::of(machine, installation),
        None if !machine.is_certain() => Seen::of(machine, installation),
        _ => None,
    }
}

impl FlyRuntime {
    /// The id by which our things are known.
    #[must_use]
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// Looks at everything of ours that Fly holds.
    ///
    /// # Errors
    /// A list that was not answered, or not whole.
    pub async fn holdings(&self) -> Result<Haul, Error> {
        let tag = [(tags::INSTALLATION, self.installation.as_str())];
        let now = self.ambient.clock.now();
        // Little is kept of each: ten thousand may sleep.
        let keep = |machine: Machine| {
            let seen = Seen::of(&machine, &self.installation)?;
            let holding = ours(&machine, &self.installation)
                .map(|seen| Holding::machine(&machine, &seen.sprite, seen.revision, now));
            Some((holding, seen))
        };
        let asked = self.elapsed();
        let machines = self.api.list_of(&tag, keep).await.map_err(|error| self.meaning(error))?;
        self.take_over(machines.iter().map(|(_, seen)| seen.clone()).collect(), asked);
        self.listed.notify_one();
        let mut volumes = self.api.volumes().await.map_err(|error| self.meaning(error))?;
        let revision = (self.revision)().await;
        volumes.retain(|it| names::key_of_volume(&self.installation, &it.name).is_some());
        let mut haul = Haul { revision, ..Haul::default() };
        for (holding, seen) in machines {
            let Some(holding) = holding else { continue };
            haul.held.push(holding);
            haul.seen.entry(seen.sprite.clone()).or_default().push(seen);
        }
        let key = |it: &Volume| {
            let key = names::key_of_volume(&self.installation, &it.name);
            key.unwrap_or_default().to_owned()
        };
        haul.held.extend(volumes.iter().map(|it| Holding::volume(it, &key(it))));
        haul.volumes = volumes;
        Ok(haul)
    }

    /// Destroys what nobody wants. `keeper` is whose it says it is.
    ///
    /// # Errors
    /// Why it could not; that it is gone is none.
    pub async fn remove(&self, thing: &Thing, keeper: &str) -> Result<(), Error> {
        let removed = match thing {
            Thing::Machine(id) => self.remove_machine(id, keeper).await,
            Thing::Volume(id) => {
                tracing::warn!(volume = id, "a volume belongs to nobody here; it is destroyed");
                self.ambient.step("fly.sweep-volume", self.api.destroy_volume(id)).await
            }
        };
        removed.map_err(|error| self.meaning(error))
    }

    async fn remove_machine(&self, id: &str, keeper: &str) -> Result<(), ApiError> {
        let Some(machine) = self.api.get(id).await? else { return Ok(()) };
        let told = ours(&machine, &self.installation).filter(|seen| seen.sprite == keeper);
        let Some(seen) = told.filter(|seen| seen.certain) else {
            tracing::warn!(
                machine = id,
                "this machine is not what the list said; it is left alone"
            );
            return Ok(());
        };
        tracing::warn!(
            machine = id,
            name = seen.name,
            state = %seen.state,
            sprite = keeper,
            "a machine of ours belongs to nobody here; it is destroyed"
        );
        self.ambient.step("fly.sweep", self.api.destroy(id)).await?;
        self.poke.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOME: &str = "0198c0de-7000-7abc-8def-000000000001";

    fn machine(id: &str, name: &str, sprite: &str) -> Seen {
        Seen {
            id: id.into(),
            name: name.into(),
            sprite: sprite.into(),
            ..super::super::seen::tests::seen(super::super::api::MachineState::Started)
        }
    }

    fn volume(id: &str, owner: &str, machine: Option<&str>) -> Volume {
        let (name, created) = (names::volume(HOME, owner), "2026-01-01T00:00:00Z");
        serde_json::from_value(json!({"id": id, "name": name, "state": "created", "region": "iad",
            "attached_machine_id": machine, "created_at": created}))
        .unwrap()
    }

    fn wanted(haul: &Haul, sprites: &[(&str, Option<&str>)], owners: &[&str]) -> Vec<String> {
        let living = Living {
            sprites: sprites
                .iter()
                .map(|(uid, known)| ((*uid).to_owned(), known.map(str::to_owned)))
                .collect(),
            owners: owners.iter().map(|uid| (*uid).to_owned()).collect(),
        };
        let mut wanted: Vec<String> =
            haul.wanted(&living, HOME).iter().map(ToString::to_string).collect();
        wanted.sort();
        wanted
    }

    #[test]
    fn of_each_sprite_one_machine_is_wanted_and_of_one_that_is_gone_none() {
        let named = names::machine(HOME, "s");
        let mut haul = Haul::default();
        haul.seen.insert("s".into(), vec![machine("b", "by-hand", "s"), machine("a", &named, "s")]);
        haul.seen.insert("gone".into(), vec![machine("c", "x", "gone")]);
        assert_eq!(wanted(&haul, &[("s", None), ("other", None)], &[]), ["machine a"]);
        // The store knows better.
        assert_eq!(wanted(&haul, &[("s", Some("b"))], &[]), ["machine b"]);
        assert_eq!(wanted(&haul, &[], &["s", "gone"]), Vec::<String>::new());
    }

    #[test]
    fn of_an_owners_volumes_one_is_wanted_where_it_is_proven_which() {
        let volumes =
            vec![volume("v", "o", Some("m")), volume("w", "o", None), volume("x", "p", None)];
        let haul = Haul { volumes, ..Haul::default() };
        assert_eq!(wanted(&haul, &[], &["o"]), ["volume v"]);
        // One of another day is somebody's copy.
        let copy =
            Volume { created_at: "2026-02-01T00:00:00Z".parse().ok(), ..volume("w", "o", None) };
        let haul = Haul { volumes: vec![volume("v", "o", Some("m")), copy], ..Haul::default() };
        assert_eq!(wanted(&haul, &[], &["o"]), ["volume v", "volume w"]);
        let volumes = vec![volume("v", "o", None), volume("w", "o", None)];
        let haul = Haul { volumes, ..Haul::default() };
        assert_eq!(wanted(&haul, &[], &["o"]), ["volume v", "volume w"]);
        assert_eq!(wanted(&haul, &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn a_strangers_machine_is_never_ours() {
        let of = |tags: serde_json::Value, host: &str| {
            let name = names::machine(HOME, "s");
            let machine = json!({"id": "a", "name": name, "state": "started", "host_status": host,
                "config": {"metadata": tags}});
            ours(&serde_json::from_value(machine).unwrap(), HOME).map(|seen| seen.sprite)
        };
        assert_eq!(of(json!({"od_installation": HOME, "od_sprite": "s"}), "ok"), Some("s".into()));
        assert_eq!(of(json!({"od_installation": "another", "od_sprite": "s"}), "ok"), None);
        assert_eq!(of(json!({"od_installation": "another"}), "unreachable"), None);
        assert_eq!(of(json!({"od_sprite": "s"}), "ok"), None);
        assert_eq!(of(json!({}), "ok"), None);
        assert_eq!(of(json!({"od_installation": HOME}), "ok"), None);
        assert_eq!(of(json!({}), "unreachable"), Some("s".into()));
    }
}
