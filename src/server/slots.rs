//! Slots for what strangers may keep waiting: so many at once in all, so many for one thing, so many
//! from one address. Whoever takes all that is theirs keeps nobody else out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// Whose connection a request came by. Of IPv6 the network of one household or one machine, since whoever
/// has one address there has all 2^64 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    /// Whoever has this address.
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let mut bytes = v6.octets();
                bytes[8..].fill(0);
                IpAddr::V6(bytes.into())
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// Whether it is within the same machine or house: there stands a reverse proxy, for all who come
    /// through it.
    fn is_near(self) -> bool {
        match self.0 {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
            // `::1`, without its last half, is `::`.
            IpAddr::V6(v6) => {
                v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
            }
        }
    }
}

/// How many may be taken at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In all.
    pub(super) all: usize,
    /// For one thing.
    pub(super) thing: usize,
    /// From one stranger.
    pub(super) peer: usize,
    /// From an address that is near, such as a reverse proxy's.
    pub(super) near: usize,
}

/// Slots, and who has them.
pub(super) struct Slots {
    bounds: Bounds,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    things: HashMap<String, usize>,
    peers: HashMap<Peer, usize>,
}

impl Slots {
    /// Slots that nobody has.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, taken: Mutex::default() }
    }

    /// Takes a slot until it is dropped; none where one of the bounds is reached. Requests without an
    /// address (such as a test's) share the other two.
    pub(super) fn take(&self, thing: &str, peer: Option<Peer>) -> Option<Slot<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_thing = taken.things.get(thing).copied().unwrap_or_default();
        let of_peer = peer.and_then(|peer| taken.peers.get(&peer).copied()).unwrap_or_default();
        let Bounds { all, thing: most_of_thing, peer: stranger, near } = self.bounds;
        let most_of_peer = if peer.is_some_and(Peer::is_near) { near } else { stranger };
        if taken.all >= all || of_thing >= most_of_thing || of_peer >= most_of_peer {
            return None;
        }
        taken.all += 1;
        taken.things.insert(thing.to_owned(), of_thing + 1);
        if let Some(peer) = peer {
            taken.peers.insert(peer, of_peer + 1);
        }
        Some(Slot { slots: self, thing: thing.to_owned(), peer })
    }
}

/// A slot that is taken.
pub(super) struct Slot<'s> {
    slots: &'s Slots,
    thing: String,
    peer: Option<Peer>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        let of_thing = taken.things.get(&self.thing).copied().unwrap_or_default();
        // What nobody has any more is forgotten, so that strangers' names do not pile up.
        match of_thing {
            0 | 1 => taken.things.remove(&self.thing),
            more => taken.things.insert(self.thing.clone(), more - 1),
        };
        let Some(peer) = self.peer else { return };
        match taken.peers.get(&peer).copied().unwrap_or_default() {
            0 | 1 => taken.peers.remove(&peer),
            more => taken.peers.insert(peer, more - 1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        Slots::new(Bounds { all: 5, thing: 3, peer: 2, near: 3 })
    }

    fn peer(n: u8) -> Option<Peer> {
        Some(Peer::of([192, 0, 2, n].into()))
    }

    #[test]
    fn whoever_has_a_network_has_one_address_and_a_proxy_has_more() {
        let peer = |address: &str| Peer::of(address.parse().unwrap());
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff::2"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        for (address, most) in [
            ("192.0.2.1", 2),
            ("2001:db8::1", 2),
            ("127.0.0.1", 3),
            ("10.0.0.1", 3),
            ("::1", 3),
            ("fdaa::1", 3),
        ] {
            let slots = slots();
            let things = ["a", "b", "c", "d"];
            let held: Vec<_> =
                things.iter().filter_map(|thing| slots.take(thing, Some(peer(address)))).collect();
            assert_eq!(held.len(), most, "{address}");
        }
    }

    #[test]
    fn whoever_takes_all_that_is_theirs_keeps_nobody_else_out() {
        let slots = slots();
        let mut held: Vec<Slot<'_>> =
            ["a", "b"].iter().filter_map(|thing| slots.take(thing, peer(1))).collect();
        assert_eq!(held.len(), 2);
        assert!(slots.take("c", peer(1)).is_none(), "one address has two");
        held.extend(slots.take("a", peer(2)));
        held.extend(slots.take("a", peer(3)));
        assert!(slots.take("a", peer(4)).is_none(), "one thing has three");
        held.extend(slots.take("b", peer(4)));
        assert_eq!(held.len(), 5);
        assert!(slots.take("c", peer(5)).is_none(), "there are five");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_leaves_no_trace() {
        let slots = slots();
        for n in 0..20 {
            let held = slots.take(&format!("thing {n}"), peer(n));
            assert!(held.is_some());
        }
        let taken = slots.taken.lock().unwrap();
        assert_eq!((taken.all, taken.things.len(), taken.peers.len()), (0, 0, 0));
    }
}
