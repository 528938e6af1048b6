//! Which of a Source's repositories count as they say now, and which stand as they were. Pure.
//!
//! A Source of one directory or one repository counts whole or not at all. Of several repositories
//! each is written by others, so none may stop another: one that cannot be read, that says what is no
//! desired state or what its policy forbids, or that contradicts what stands there or another
//! repository, stands as it was, with the reason. *As it was* is what the inventory says of it: its
//! objects are held as they were applied last, and nothing of them is deleted. One of which nothing was
//! ever applied has none, and is left out.
//!
//! **Two that declare the same.** The one that the inventory names keeps the object, also where it
//! stands as it was itself, since nobody knows then whether it has given the object up. Of two that are
//! new to it the first by name has it. What the inventory decides is decided before that, and a fault
//! of the first one gives the object to the second: so a repository is never held up by one that does
//! not count, and the order in which repositories are named makes no difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    plan::{Plan, Refusal, World, plan},
    set::{Declared, Key, Rejected, Set, called, twice},
    stand::shown,
};
use crate::{
    resource::{Fault, Faults},
    store::Owned,
};

/// What one place says that a Source reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The repository, where it is one of several: its files lie behind its name.
    pub repo: Option<String>,
    /// What it says, or why that does not count.
    pub meaning: Arc<Result<Set, Rejected>>,
}

/// Why nothing can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The files are not good.
    Rejected(Rejected),
    /// They cannot be applied.
    Refused(Refusal),
}

/// What is to be done with a reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What is to be written, or why nothing is.
    pub plan: Result<Plan, Stop>,
    /// The revision that this makes.
    pub revision: String,
    /// How many objects are declared, those included that stay as they were.
    pub objects: usize,
    /// The repositories that stand as they were, by name, each with what is wrong.
    pub troubles: BTreeMap<String, Faults>,
}

/// Decides what of a reading counts, and plans that. The world is to hold the rows and the objects of
/// all that any part declares or the Source owns; what it says of what is kept is not asked.
/// `revision` names what counts, once it is known which repositories do not; `uid` draws ids.
pub fn decide(
    world: World<'_>,
    parts: &[Part],
    revision: &dyn Fn(&BTreeSet<&str>) -> String,
    uid: &mut dyn FnMut() -> String,
) -> Decision {
    let field = Field::new(world, parts);
    let mut blamed = BTreeMap::new();
    for part in parts {
        match (&part.repo, &*part.meaning) {
            (Some(repo), Err(rejected)) => drop(blamed.insert(&**repo, rejected.faults.clone())),
            (None, Err(rejected)) => {
                return Decision {
                    plan: Err(Stop::Rejected(rejected.clone())),
                    revision: revision(&BTreeSet::new()),
                    objects: 0,
                    troubles: BTreeMap::new(),
                };
            }
            (_, Ok(_)) => {}
        }
    }
    // Each turn finds one more that does not count, or ends.
    loop {
        let chosen = field.choose(&blamed);
        let out: BTreeSet<&str> = chosen.troubles.keys().copied().collect();
        let revision = revision(&out);
        let planned = plan(World { kept: &chosen.kept, ..world }, &chosen.set, &revision, uid);
        if let Err(Refusal::Conflict(faults) | Refusal::Denied(faults)) = &planned {
            let more = field.blame(faults, &blamed);
            if !more.is_empty() {
                blamed.extend(more);
                continue;
            }
        }
        let objects = chosen.set.objects.len() + chosen.kept.len();
        let troubles = chosen.troubles.into_iter().map(|(name, why)| (name.to_owned(), why));
        let troubles = troubles.collect();
        return Decision { plan: planned.map_err(Stop::Refused), revision, objects, troubles };
    }
}

/// The lines that tell which repositories stand as they were.
#[must_use]
pub fn lines(troubles: &BTreeMap<String, Faults>) -> Vec<String> {
    troubles.iter().map(|(name, why)| format!("{name}: {}", shown(why))).collect()
}

/// What a decision is made from.
struct Field<'a> {
    parts: &'a [Part],
    /// Each repository's place among the parts.
    repos: BTreeMap<&'a str, usize>,
    /// The Source's own rows that are not on their way out, and the repository of each.
    rows: BTreeMap<&'a Key, (&'a Owned, Option<&'a str>)>,
    /// What several parts declare, or another one than the inventory says.
    contested: Vec<Contested<'a>>,
}

struct Contested<'a> {
    key: &'a Key,
    /// Who declares it, in the order of names.
    by: Vec<&'a str>,
    /// Whose it is by the inventory, of the repositories that the Source still has.
    holder: Option<&'a str>,
}

/// What counts.
struct Chosen<'a> {
    set: Set,
    kept: BTreeSet<Key>,
    troubles: BTreeMap<&'a str, Faults>,
}

impl<'a> Field<'a> {
    fn new(world: World<'a>, parts: &'a [Part]) -> Self {
        let named = |(n, part): (usize, &'a Part)| Some((part.repo.as_deref()?, n));
        let repos: BTreeMap<&str, usize> = parts.iter().enumerate().filter_map(named).collect();
        let uid = &world.source.metadata.uid;
        let own = |row: &Owned| row.source_uid == *uid && !row.leaving;
        let rows: BTreeMap<&Key, _> = world.rows.iter().filter(|(_, row)| own(row)).collect();
        let rows: BTreeMap<&Key, _> =
            rows.into_iter().map(|(key, row)| (key, (row, repo_of(&repos, &row.file)))).collect();
        let mut by: BTreeMap<&Key, Vec<&str>> = BTreeMap::new();
        for (repo, n) in &repos {
            let set = parts[*n].meaning.as_ref().as_ref().ok();
            for key in set.into_iter().flat_map(|set| set.objects.keys()) {
                by.entry(key).or_default().push(*repo);
            }
        }
        let contested = by.into_iter().filter_map(|(key, by)| {
            let holder = rows.get(key).and_then(|(_, repo)| *repo);
            let is_other = holder.is_some_and(|holder| by.iter().any(|repo| *repo != holder));
            (by.len() > 1 || is_other).then_some(Contested { key, by, holder })
        });
        let contested = contested.collect();
        Self { parts, repos, rows, contested }
    }

    fn declared(&self, repo: &str, key: &Key) -> Option<&'a Declared> {
        let part = &self.parts[*self.repos.get(repo)?];
        part.meaning.as_ref().as_ref().ok()?.objects.get(key).map(|declared| &**declared)
    }

    /// What counts where these repositories do not.
    fn choose(&self, blamed: &BTreeMap<&'a str, Faults>) -> Chosen<'a> {
        let mut fixed = blamed.clone();
        let troubles = 'again: loop {
            let (mut troubles, mut ties) = (fixed.clone(), 0);
            loop {
                let held = self.against_rows(&troubles);
                if !held.is_empty() {
                    add(&mut fixed, held.clone());
                    if ties > 0 {
                        // Whoever lost to one of these may count after all.
                        continue 'again;
                    }
                    add(&mut troubles, held);
                    continue;
                }
                let Some(lost) = self.tie(&troubles) else { break 'again troubles };
                add(&mut troubles, vec![lost]);
                ties += 1;
            }
        };
        let mut set = Set::default();
        for part in self.parts {
            let is_out = part.repo.as_deref().is_some_and(|repo| troubles.contains_key(repo));
            if let Ok(of_it) = &*part.meaning
                && !is_out
            {
                set.objects.extend(of_it.objects.clone());
            }
        }
        let is_kept = |repo: &Option<&str>| repo.is_some_and(|repo| troubles.contains_key(repo));
        let kept = self.rows.iter().filter(|(_, (_, repo))| is_kept(repo));
        let kept = kept.map(|(key, _)| Key::clone(key)).collect();
        Chosen { set, kept, troubles }
    }

    /// Repositories that declare what is another's by the inventory, which still has it or stands as
    /// it was.
    fn against_rows(&self, out: &BTreeMap<&'a str, Faults>) -> Vec<(&'a str, Fault)> {
        let mut found = Vec::new();
        for contested in &self.contested {
            let Some(holder) = contested.holder else { continue };
            let stands = out.contains_key(holder);
            if !stands && !contested.by.contains(&holder) {
                continue;
            }
            let others = contested.by.iter().filter(|repo| **repo != holder);
            for repo in others.filter(|repo| !out.contains_key(**repo)) {
                let Some(declared) = self.declared(repo, contested.key) else { continue };
                let held = match self.declared(holder, contested.key).filter(|_| !stands) {
                    Some(first) => twice(contested.key, first),
                    None => self.kept_already(contested.key),
                };
                found.push((*repo, fault(declared, held)));
            }
        }
        found
    }

    fn kept_already(&self, key: &Key) -> String {
        let place = self.rows.get(key).map(|(row, _)| format!("{}:{}", row.file, row.line));
        format!(
            "{} is of {} already, whose repository stands as it was; keep one of the two, or mend \
             that repository",
            called(key),
            place.unwrap_or_default()
        )
    }

    /// The first repository by name that declares what one before it does.
    fn tie(&self, out: &BTreeMap<&'a str, Faults>) -> Option<(&'a str, Fault)> {
        // A holder that counts and still says it has put the others out before; one that gave it up has
        // no say.
        let gave_up = |it: &&Contested<'_>| it.holder.is_none_or(|holder| !it.by.contains(&holder));
        let free = self.contested.iter().filter(gave_up);
        let pairs = free.filter_map(|contested| {
            let mut by = contested.by.iter().filter(|repo| !out.contains_key(**repo));
            Some((*by.next()?, *by.next()?, contested.key))
        });
        let (first, second, key) = pairs.min_by_key(|(_, second, _)| *second)?;
        let declared = self.declared(second, key)?;
        Some((second, fault(declared, twice(key, self.declared(first, key)?))))
    }

    /// The repositories that faults of a plan lie in, but for those that do not count anyway.
    fn blame(
        &self,
        Faults(faults): &Faults,
        blamed: &BTreeMap<&'a str, Faults>,
    ) -> BTreeMap<&'a str, Faults> {
        let mut more: BTreeMap<&str, Faults> = BTreeMap::new();
        for fault in faults {
            let repo = fault.file.as_deref().and_then(|file| repo_of(&self.repos, file));
            if let Some(repo) = repo.filter(|repo| !blamed.contains_key(*repo)) {
                more.entry(repo).or_insert_with(|| Faults(Vec::new())).0.push(fault.clone());
            }
        }
        more
    }
}

fn add<'a>(troubles: &mut BTreeMap<&'a str, Faults>, more: Vec<(&'a str, Fault)>) {
    for (repo, fault) in more {
        troubles.entry(repo).or_insert_with(|| Faults(Vec::new())).0.push(fault);
    }
}

fn fault(declared: &Declared, message: String) -> Fault {
    let (file, line, column) = (Some(declared.file.clone()), Some(declared.line), Some(1));
    Fault { file, line, column, ..Fault::new("metadata.name", message) }
}

/// Which of these repositories a file lies in. No name lies within another.
fn repo_of<'a>(repos: &BTreeMap<&'a str, usize>, file: &str) -> Option<&'a str> {
    let found = |(at, _)| repos.get_key_value(&file[..at]).map(|(name, _)| *name);
    file.match_indices('/').find_map(found)
}
