//! What was seen of machines, and how far it can be believed. Pure: time is handed in, as the clock's
//! `elapsed`.
//!
//! One list tells of all machines, some seconds late: it may lack what was made a moment ago, and
//! tell an old state. So what a list says of a Sprite counts only if it was asked for later than
//! [`LIST_LAG`] after our last write to that Sprite's machine; until then its machine is asked for by
//! id. What was asked for by id counts if it was asked for after the write.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{
    api::{ExitEvent, MachineState as State},
    seen::{Seen, choose},
};

/// For so long a list may not tell of a write (Fly gives no bound; several seconds were seen).
pub(super) const LIST_LAG: Duration = Duration::from_secs(15);
/// For so long what was lively is not looked at again.
const LIVELY_FOR: Duration = Duration::from_secs(1);

/// What is known of one Sprite's machines.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// Those that were told and are not destroyed. One, unless somebody made more by hand.
    seen: Vec<Seen>,
    /// The one of which Fly said that it is no more.
    destroyed: Option<String>,
    /// How its program ended, where Fly still told that.
    exit: Option<Box<ExitEvent>>,
    /// When it was asked for what stands here.
    asked: Duration,
    /// Whether it was asked for by id: a list tells what was true some seconds ago.
    by_id: bool,
    /// When it was asked for by id last; until long enough after, no list knows better.
    asked_by_id: Option<Duration>,
    /// When we wrote last.
    wrote: Option<Duration>,
    /// For which run we made or started its machine, and when.
    started: Option<(u32, Duration)>,
    /// In which state it was told last, and since when.
    stays: Option<(State, Duration)>,
    /// When a create was sent whose answer was lost.
    open: Option<Duration>,
    /// Which run a boot claimed, and when.
    claimed: Option<(u32, Duration)>,
}

/// What is known of a Sprite's machine now.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Look {
    /// It was seen, lately enough.
    Seen(Seen),
    /// This one is no more.
    Destroyed,
    /// A whole list, asked for long enough after our last write, has none.
    Missing,
    /// It must be asked for: this one, if any is known.
    Ask(Option<String>),
}

/// What was seen of all machines of an installation.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<String, Entry>,
    /// When the last whole list was asked for.
    listed: Option<Duration>,
    /// Whether anything was lively, and when that was found out; none where it may have changed.
    lively: Cell<Option<(Duration, bool)>>,
}

impl Book {
    /// What is known of the machine of `uid`, of which the store knows `known`, if that is no older
    /// than `age`.
    pub(super) fn look(
        &self,
        installation: &str,
        uid: &str,
        known: Option<&str>,
        now: Duration,
        age: Duration,
    ) -> Look {
        let fresh = |asked: Duration| now.saturating_sub(asked) <= age;
        let Some(entry) = self.entries.get(uid) else {
            return match (known, self.listed) {
                (None, Some(listed)) if fresh(listed) => Look::Missing,
                _ => Look::Ask(known.map(str::to_owned)),
            };
        };
        let chosen = choose(&entry.seen, known, installation, uid);
        let id = chosen.map(|seen| seen.id.clone()).or_else(|| known.map(str::to_owned));
        let written = entry.wrote.is_some_and(|wrote| wrote >= entry.asked);
        match chosen {
            Some(seen) if fresh(entry.asked) && !written => Look::Seen(seen.clone()),
            Some(_) => Look::Ask(id),
            None if id.is_none() || entry.destroyed == id => match &entry.destroyed {
                // It never lives again, however long ago that was said.
                Some(_) if !written => Look::Destroyed,
                None if fresh(entry.asked) && !written => Look::Missing,
                _ => Look::Ask(id),
            },
            // A list does not prove that it is gone.
            None => Look::Ask(id),
        }
    }

    /// The id of a machine that was seen.
    pub(super) fn id(&self, installation: &str, uid: &str, known: Option<&str>) -> Option<String> {
        let entry = self.entries.get(uid)?;
        choose(&entry.seen, known, installation, uid).map(|seen| seen.id.clone())
    }

    /// A machine was asked for by its id, or was made.
    pub(super) fn told(&mut self, seen: Seen, asked: Duration) {
        self.lively.take();
        let entry = self.entries.entry(seen.sprite.clone()).or_default();
        entry.stays_in(&seen.state, asked);
        entry.seen.retain(|it| it.id != seen.id);
        entry.seen.push(seen);
        entry.by_id = true;
        entry.asked_by_id = Some(asked);
        (entry.destroyed, entry.exit) = (None, None);
        entry.asked = asked;
    }

    /// What was told last already knows of our last write: it was the answer to it.
    pub(super) fn told_last(&mut self, uid: &str, now: Duration) {
        let entry = self.entries.entry(uid.to_owned()).or_default();
        entry.asked = entry.asked.max(now);
        if let Some(wrote) = &mut entry.wrote {
            *wrote = (*wrote).min(entry.asked.saturating_sub(Duration::from_nanos(1)));
        }
    }

    /// For how long, as far as this process saw, its machine has been in the state that it is in.
    pub(super) fn stays(&self, uid: &str, now: Duration) -> Duration {
        let since = self.entries.get(uid).and_then(|entry| entry.stays.as_ref());
        since.map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since))
    }

    /// The state in which its machine was told last.
    pub(super) fn state(&self, uid: &str) -> Option<State> {
        self.entries.get(uid)?.stays.as_ref().map(|(state, _)| state.clone())
    }

    /// When the last whole list was asked for.
    pub(super) fn listed_at(&self) -> Option<Duration> {
        self.listed
    }

    /// All machines that were seen of a Sprite.
    pub(super) fn ids(&self, uid: &str) -> Vec<String> {
        let entry = self.entries.get(uid);
        entry.into_iter().flat_map(|entry| &entry.seen).map(|seen| seen.id.clone()).collect()
    }

    /// Whether what is known of a Sprite's machine was asked for by its id.
    pub(super) fn is_by_id(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.by_id)
    }

    /// Whether Fly said that this machine is no more.
    pub(super) fn is_destroyed(&self, uid: &str, id: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.destroyed.as_deref() == Some(id))
    }

    /// How the machine ended that is no more, where that was told.
    pub(super) fn exit(&self, uid: &str) -> Option<ExitEvent> {
        self.entries.get(uid)?.exit.as_deref().cloned()
    }

    /// A machine was asked for by its id, and is no more. What was told of its end is kept: Fly
    /// forgets it soon.
    pub(super) fn gone(
        &mut self,
        uid: &str,
        id: &str,
        exit: Option<Box<ExitEvent>>,
        asked: Duration,
    ) {
        let entry = self.entries.entry(uid.to_owned()).or_default();
        let told = entry.seen.iter().find(|it| it.id == id).and_then(|it| it.exit.clone());
        if entry.destroyed.as_deref() != Some(id) {
            entry.exit = None;
        }
        entry.exit = exit.or(told).or(entry.exit.take());
        entry.seen.retain(|it| it.id != id);
        entry.destroyed = Some(id.to_owned());
        entry.asked = asked;
    }

    /// We are about to write to a Sprite's machine, or have.
    pub(super) fn wrote(&mut self, uid: &str, now: Duration) {
        self.lively.take();
        self.entries.entry(uid.to_owned()).or_default().wrote = Some(now);
    }

    /// We have made or started the machine of a run.
    pub(super) fn started(&mut self, uid: &str, run: u32, now: Duration) {
        let entry = self.entries.entry(uid.to_owned()).or_default();
        entry.started = Some((run, now));
        entry.open = None;
    }

    /// A create was sent, and nobody knows what became of it.
    pub(super) fn left_open(&mut self, uid: &str, now: Duration) {
        self.lively.take();
        self.entries.entry(uid.to_owned()).or_default().open = Some(now);
    }

    /// A boot has claimed a run. Only a hint: whether it has it stands in the store.
    pub(super) fn claimed(&mut self, uid: &str, run: u32, now: Duration) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.claimed = Some((run, now));
        }
    }

    /// Whether a boot has claimed this run since then.
    pub(super) fn is_claimed(&self, uid: &str, run: u32, since: Duration) -> bool {
        let claimed = self.entries.get(uid).and_then(|entry| entry.claimed);
        claimed.is_some_and(|(of, at)| of == run && at >= since)
    }

    /// How long ago this process made or started the machine of a run, if it did.
    pub(super) fn started_ago(&self, uid: &str, run: u32, now: Duration) -> Option<Duration> {
        let (of, at) = self.entries.get(uid)?.started?;
        (of == run).then(|| now.saturating_sub(at))
    }

    /// Whether a machine of the Sprite may be there that no list has told yet. Before the first list,
    /// whatever an earlier process made may be.
    pub(super) fn may_hide(&self, uid: &str) -> bool {
        let Some(listed) = self.listed else { return true };
        let Some(entry) = self.entries.get(uid) else { return false };
        entry.open.or(entry.wrote).is_some_and(|at| listed < at + LIST_LAG)
    }

    /// Whether nothing was ever done or seen here for the Sprite.
    pub(super) fn knows(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// Nothing of the Sprite is left.
    pub(super) fn forget(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    /// Takes over a whole list. Answers the Sprites of which something is to be looked at.
    pub(super) fn listed(&mut self, seen: Vec<Seen>, asked: Duration) -> BTreeSet<String> {
        self.lively.take();
        let mut by_sprite: HashMap<String, Vec<Seen>> = HashMap::new();
        for it in seen {
            by_sprite.entry(it.sprite.clone()).or_default().push(it);
        }
        let mut changed = BTreeSet::new();
        for (uid, entry) in &mut self.entries {
            let told = by_sprite.remove(uid).unwrap_or_default();
            if !entry.may_take(asked) {
                continue;
            }
            if marks(&told) != marks(&entry.seen) {
                changed.insert(uid.clone());
                entry.by_id = false;
            }
            if let [one] = told.as_slice() {
                entry.stays_in(&one.state, asked);
            }
            (entry.seen, entry.asked) = (told, asked);
        }
        for (uid, told) in by_sprite {
            changed.insert(uid.clone());
            self.entries.insert(uid, Entry { seen: told, asked, ..Entry::default() });
        }
        self.listed = Some(asked);
        // Of whom nothing is there and nothing was done, nothing is remembered.
        self.entries.retain(|uid, entry| {
            let idle = entry.seen.is_empty() && entry.started.is_none() && entry.open.is_none();
            !idle || entry.destroyed.is_some() || changed.contains(uid)
        });
        changed
    }

    /// Whether a machine of this Sprite was seen that runs or changes.
    pub(super) fn has_lively(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.seen.iter().any(Seen::is_lively))
    }

    /// Whether some machine runs or changes, or may.
    ///
    /// Everybody who looks asks this, and ten thousand may look one after the other: it is found out
    /// once, until something is told or done. By time alone, only what was lively comes to rest.
    pub(super) fn is_lively(&self, now: Duration) -> bool {
        if let Some((at, lively)) = self.lively.get()
            && (!lively || now < at + LIVELY_FOR)
        {
            return lively;
        }
        let lively = self.entries.values().any(|entry| {
            let recent = |at: Option<Duration>| at.is_some_and(|at| now < at + 4 * LIST_LAG);
            entry.seen.iter().any(Seen::is_lively) || recent(entry.wrote) || recent(entry.open)
        });
        self.lively.set(Some((now, lively)));
        lively
    }

    /// Whether a whole list was taken over.
    pub(super) fn is_listed(&self) -> bool {
        self.listed.is_some()
    }
}

impl Entry {
    fn stays_in(&mut self, state: &State, now: Duration) {
        if self.stays.as_ref().is_none_or(|(known, _)| known != state) {
            self.stays = Some((state.clone(), now));
        }
    }

    /// Whether what a list says that was asked for then goes before what is known.
    fn may_take(&self, asked: Duration) -> bool {
        let is_late = |known: Option<Duration>| known.is_none_or(|at| asked >= at + LIST_LAG);
        self.asked <= asked && is_late(self.wrote) && is_late(self.asked_by_id)
    }
}

fn marks(seen: &[Seen]) -> BTreeSet<String> {
    seen.iter().map(|it| format!("{:?}", it.mark())).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::seen::tests::seen, *};

    const AGE: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn look(book: &Book, known: Option<&str>, now: u64) -> Look {
        book.look("home", "uid", known, at(now), AGE)
    }

    fn ask(id: &str) -> Look {
        Look::Ask(Some(id.to_owned()))
    }

    #[test]
    fn a_list_says_what_there_is_until_it_is_old() {
        let mut book = Book::default();
        assert_eq!(look(&book, None, 0), Look::Ask(None), "nothing was listed yet");
        let machine = seen(State::Started);
        let changed = book.listed(vec![machine.clone()], at(0));
        assert_eq!(changed.into_iter().collect::<Vec<_>>(), ["uid"]);
        assert_eq!(look(&book, None, 15), Look::Seen(machine.clone()));
        assert_eq!(look(&book, None, 16), ask(&machine.id));
        assert_eq!(book.listed(vec![machine], at(16)), BTreeSet::new(), "nothing happened");
        let stopped = seen(State::Stopped);
        assert_eq!(book.listed(vec![stopped.clone()], at(20)).len(), 1);
        assert_eq!(look(&book, None, 21), Look::Seen(stopped));
    }

    #[test]
    fn a_list_that_lacks_a_machine_we_know_proves_nothing() {
        let mut book = Book::default();
        let machine = seen(State::Started);
        book.listed(vec![machine.clone()], at(0));
        assert_eq!(book.listed(Vec::new(), at(5)).len(), 1, "somebody looks");
        assert_eq!(look(&book, Some(&machine.id), 5), ask(&machine.id));
        assert_eq!(look(&book, None, 5), Look::Missing, "nobody knows of any");
        book.gone("uid", &machine.id, None, at(6));
        assert_eq!(look(&book, Some(&machine.id), 600), Look::Destroyed, "it never lives again");
        assert_eq!(look(&book, Some("another"), 6), ask("another"));
    }

    #[test]
    fn what_we_wrote_is_not_overtaken_by_a_list_that_lags() {
        let mut book = Book::default();
        book.listed(Vec::new(), at(0));
        book.wrote("uid", at(1));
        let machine = seen(State::Created);
        book.told(machine.clone(), at(2));
        book.started("uid", 1, at(2));
        assert_eq!(book.listed(Vec::new(), at(5)), BTreeSet::new());
        assert_eq!(look(&book, Some(&machine.id), 6), Look::Seen(machine.clone()));
        book.wrote("uid", at(7));
        assert_eq!(look(&book, Some(&machine.id), 7), ask(&machine.id), "our write changed it");
        assert_eq!(book.listed(Vec::new(), at(22)).len(), 1, "by now a list would know");
        assert_eq!(book.started_ago("uid", 1, at(12)), Some(at(10)));
        assert_eq!(book.started_ago("uid", 2, at(12)), None);
    }

    #[test]
    fn what_was_asked_for_by_id_is_not_overtaken_by_a_list_that_lags() {
        let mut book = Book::default();
        let stopped = seen(State::Stopped);
        book.told(stopped.clone(), at(10));
        assert_eq!(book.listed(vec![seen(State::Started)], at(12)), BTreeSet::new());
        assert_eq!(look(&book, None, 13), Look::Seen(stopped));
        assert_eq!(book.listed(vec![seen(State::Started)], at(25)).len(), 1, "by now it knows");
    }

    #[test]
    fn what_became_of_a_lost_create_is_open_until_a_late_list_has_told() {
        let mut book = Book::default();
        assert!(book.may_hide("uid"), "an earlier process may have made it");
        book.listed(Vec::new(), at(0));
        assert!(!book.may_hide("uid"));
        book.wrote("uid", at(1));
        book.left_open("uid", at(3));
        book.listed(Vec::new(), at(17));
        assert!(book.may_hide("uid"));
        book.listed(Vec::new(), at(18));
        assert!(!book.may_hide("uid"));
    }

    #[test]
    fn what_was_found_to_sleep_is_lively_again_once_anything_is_told_or_done() {
        let lists = |book: &mut Book, state, n| book.listed(vec![seen(state)], at(n));
        let mut book = Book::default();
        lists(&mut book, State::Stopped, 0);
        assert!(!book.is_lively(at(1)));
        lists(&mut book, State::Started, 2);
        assert!(book.is_lively(at(2)));
        lists(&mut book, State::Stopped, 3);
        assert!(!book.is_lively(at(3)));
        book.told(seen(State::Starting), at(4));
        assert!(book.is_lively(at(4)));
        book.told(seen(State::Stopped), at(5));
        assert!(!book.is_lively(at(5)));
        book.wrote("uid", at(6));
        assert!(book.is_lively(at(6)), "a write is followed for a while");
        assert!(!book.is_lively(at(67)), "and no longer");
        book.left_open("uid", at(68));
        assert!(book.is_lively(at(68)));
    }

    #[test]
    fn how_long_a_state_lasts_counts_from_when_it_was_first_told() {
        let mut book = Book::default();
        book.told(seen(State::Starting), at(10));
        book.told(seen(State::Starting), at(100));
        assert_eq!(book.stays("uid", at(110)), at(100));
        book.told(seen(State::Started), at(120));
        assert_eq!(book.stays("uid", at(130)), at(10));
        assert_eq!(book.stays("another", at(130)), at(0));
    }

    #[test]
    fn who_has_nothing_is_not_remembered() {
        let mut book = Book::default();
        book.listed(vec![seen(State::Stopped)], at(0));
        assert!(!book.is_lively(at(100)));
        book.listed(Vec::new(), at(60));
        book.listed(Vec::new(), at(120));
        assert!(!book.knows("uid"));
    }
}
