//! Whose turn it is to ask a host, so that one which answers slowly, or not at all, holds up only the
//! Sources that are read from it. A Source that finds no lane free is looked at a little later, and keeps
//! no worker waiting.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many Sources are asked for at once, in all and from one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) all: usize,
    pub(super) host: usize,
}

/// The lanes to all hosts.
#[derive(Debug)]
pub(super) struct Lanes {
    bounds: Bounds,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    hosts: HashMap<String, usize>,
}

/// A lane to each host of one Source. They are free again when this goes, however that comes about.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    hosts: Vec<String>,
}

impl Lanes {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, taken: Mutex::default() }
    }

    /// A lane to each of these hosts, or none. Whoever asks no host needs none.
    pub(super) fn enter(&self, hosts: Vec<String>) -> Option<Lane<'_>> {
        let mut taken = self.taken();
        let of_host = |host: &String| taken.hosts.get(host).copied().unwrap_or_default();
        let is_full = |host: &String| of_host(host) >= self.bounds.host;
        if !hosts.is_empty() && (taken.all >= self.bounds.all || hosts.iter().any(is_full)) {
            return None;
        }
        taken.all += usize::from(!hosts.is_empty());
        for host in &hosts {
            *taken.hosts.entry(host.clone()).or_default() += 1;
        }
        Some(Lane { lanes: self, hosts })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut taken = self.lanes.taken();
        taken.all -= usize::from(!self.hosts.is_empty());
        for host in &self.hosts {
            if let Some(count) = taken.hosts.get_mut(host) {
                *count -= 1;
            }
        }
        taken.hosts.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_host_that_does_not_answer_holds_up_its_own_sources_alone() {
        let lanes = Lanes::new(Bounds { all: 5, host: 2 });
        let enter = |names: &[&str]| lanes.enter(hosts(names));
        let (first, _second) = (enter(&["slow"]).unwrap(), enter(&["slow"]).unwrap());
        assert!(enter(&["slow"]).is_none());
        assert!(enter(&["good", "slow"]).is_none(), "it would have to ask both");
        let _good = (enter(&["good"]).unwrap(), enter(&["good", "other"]).unwrap());
        drop(first);
        let third = enter(&["slow"]).unwrap();
        assert_eq!(lanes.taken().all, 4);
        let _last = enter(&["last"]).unwrap();
        assert!(enter(&["more"]).is_none(), "some workers are for those that ask nobody");
        assert!(enter(&[]).is_some());
        drop(third);
        assert!(enter(&["more"]).is_some());
        assert!(!lanes.taken().hosts.contains_key("more"), "what nobody asks is forgotten");
    }
}
