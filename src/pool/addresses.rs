//! The addresses of one host name, in the order in which a connection tries them (RFC 8305 section 4).
//!
//! It never opens a connection and never resolves a name. It remembers the address of the last successful connection.
//! So a dead address delays one connection, not every connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;

use crate::config::values::is_unicast;

/// All addresses of one host name.
#[derive(Debug)]
pub struct Addresses {
    /// Never empty. IPv4 and IPv6 alternate.
    all: Box<[SocketAddr]>,
    /// Index of the address that last accepted a connection.
    good: AtomicUsize,
}

impl Addresses {
    /// Takes the addresses in the system's order (RFC 6724). Returns `None` if none of them is a unicast address.
    pub fn new(answer: impl IntoIterator<Item = SocketAddr>) -> Option<Self> {
        let mut usable: Vec<SocketAddr> = Vec::new();
        for address in answer {
            if is_unicast(address.ip()) && !usable.contains(&address) {
                usable.push(address);
            }
        }
        let all = interleaved(usable);
        (!all.is_empty()).then(|| Self { all: all.into(), good: AtomicUsize::new(0) })
    }

    /// The address that last accepted a connection, then the others in order.
    pub fn in_order(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let good = self.good.load(Ordering::Relaxed).min(self.all.len() - 1);
        let others = self.all.iter().enumerate().filter(move |(at, _)| *at != good).map(|(_, address)| *address);
        std::iter::once(self.all[good]).chain(others)
    }

    /// Records that a connection to this address succeeded.
    pub fn set_good(&self, address: SocketAddr) {
        if let Some(at) = self.all.iter().position(|known| *known == address) {
            self.good.store(at, Ordering::Relaxed);
        }
    }

    /// Records that a connection attempt which began with `first` was cancelled before any address answered. The next
    /// attempts begin with the address after it. Otherwise the second address is never tried if the connect timeout is
    /// shorter than the delay between addresses.
    pub fn set_silent(&self, first: SocketAddr) {
        if let Some(at) = self.all.iter().position(|known| *known == first) {
            let next = (at + 1) % self.all.len();
            // If another connection has changed the index meanwhile, its result is better and stays.
            let _ = self.good.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether both contain the same addresses in any order. DNS servers rotate their answers.
    pub fn same_as(&self, other: &Self) -> bool {
        self.all.len() == other.all.len() && other.covers(self)
    }

    /// Whether `self` contains every address of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        other.all.iter().all(|address| self.all.contains(address))
    }

    /// The same addresses with another port.
    pub fn with_port(&self, port: u16) -> Self {
        let all = self.in_order().map(|address| SocketAddr::new(address.ip(), port)).collect();
        Self { all, good: AtomicUsize::new(0) }
    }
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        Self { all: [address].into(), good: AtomicUsize::new(0) }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.all.iter().enumerate() {
            write!(f, "{}{address}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// Alternates the address families, beginning with the family of the first address. The order within a family stays.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|one| one.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

/// The target of a connection.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A single address.
    One(PeerAddress),
    /// The addresses of a host name. One of them is used.
    Any(Arc<Addresses>),
}

impl Destination {
    /// The same destination with another port. A Unix socket path has no port and stays.
    pub fn with_port(&self, port: u16) -> Self {
        match self {
            Self::One(address) => {
                let mut address = address.clone();
                address.set_port(port);
                Self::One(address)
            }
            Self::Any(all) => Self::Any(Arc::new(all.with_port(port))),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            Self::Any(all) => all.fmt(f),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Option<Addresses> {
        Addresses::new(list.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn address_families_alternate_beginning_with_the_first() {
        let of = |list: &[&str]| addresses(list).unwrap().to_string();
        assert_eq!(of(&["[::1]:1", "[::2]:1", "1.0.0.1:1"]), "[::1]:1, 1.0.0.1:1, [::2]:1");
        assert_eq!(of(&["1.0.0.1:1", "1.0.0.2:1", "[::1]:1", "1.0.0.3:1"]), "1.0.0.1:1, [::1]:1, 1.0.0.2:1, 1.0.0.3:1");
        assert_eq!(of(&["1.0.0.1:1", "1.0.0.1:1"]), "1.0.0.1:1", "each once");
    }

    #[test]
    fn addresses_that_are_not_unicast_are_ignored() {
        assert_eq!(addresses(&["0.0.0.0:1", "10.0.0.1:1", "[ff02::1]:1"]).unwrap().to_string(), "10.0.0.1:1");
        assert!(addresses(&["0.0.0.0:1", "[::]:1"]).is_none() && addresses(&[]).is_none());
    }

    #[test]
    fn the_last_good_address_is_tried_first() {
        let all = addresses(&["[::1]:1", "1.0.0.1:1", "1.0.0.2:1"]).unwrap();
        let order = |all: &Addresses| all.in_order().map(|address| address.to_string()).collect::<Vec<_>>().join(" ");
        all.set_good("1.0.0.2:1".parse().unwrap());
        assert_eq!(order(&all), "1.0.0.2:1 [::1]:1 1.0.0.1:1");
        all.set_good("1.0.0.9:1".parse().unwrap());
        assert_eq!(order(&all), "1.0.0.2:1 [::1]:1 1.0.0.1:1", "not one of them");
        assert_eq!(order(&all.with_port(7)), "1.0.0.2:7 [::1]:7 1.0.0.1:7");
    }

    #[test]
    fn after_a_silent_address_the_next_is_tried_first_unless_another_answered() {
        let all = addresses(&["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1"]).unwrap();
        let address = |text: &str| text.parse().unwrap();
        for (silent, first) in [("1.0.0.1:1", "1.0.0.2:1"), ("1.0.0.1:1", "1.0.0.2:1"), ("1.0.0.2:1", "1.0.0.3:1")] {
            all.set_silent(address(silent));
            assert_eq!(all.in_order().next(), Some(address(first)));
        }
        all.set_silent(address("1.0.0.3:1"));
        assert_eq!(all.in_order().next(), Some(address("1.0.0.1:1")));
    }

    #[test]
    fn a_rotated_answer_is_no_change() {
        let [one, rotated, fewer] = [&["1.0.0.1:1", "1.0.0.2:1"][..], &["1.0.0.2:1", "1.0.0.1:1"], &["1.0.0.1:1"]]
            .map(|list| addresses(list).unwrap());
        assert!(one.same_as(&rotated) && !one.same_as(&fewer) && !fewer.same_as(&one));
        assert!(one.covers(&fewer) && !fewer.covers(&one));
    }
}
