//! The addresses of a name, in the order in which connections to it are tried (RFC 8305 section 4).
//!
//! It opens no connection and resolves nothing. It remembers which address was connected to last, so that an address that
//! is dead delays one connection and not each.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;

use crate::config::values::is_unicast;

/// All addresses of one name.
#[derive(Debug)]
pub struct Addresses {
    /// Never empty; the families take turns.
    all: Box<[SocketAddr]>,
    /// The index of the one that was connected to last.
    good: AtomicUsize,
}

impl Addresses {
    /// From an answer in the system's order (RFC 6724); nothing if no host can have any of them.
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

    /// The one that was connected to last, then the others in order.
    pub fn in_order(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let good = self.good.load(Ordering::Relaxed).min(self.all.len() - 1);
        let others = self.all.iter().enumerate().filter(move |(at, _)| *at != good).map(|(_, address)| *address);
        std::iter::once(self.all[good]).chain(others)
    }

    /// A connection to this one was made.
    pub fn set_good(&self, address: SocketAddr) {
        if let Some(at) = self.all.iter().position(|known| *known == address) {
            self.good.store(at, Ordering::Relaxed);
        }
    }

    /// A connection that was to begin with this one was given up before any address had answered: the next connections
    /// begin with the address after it, or a time limit shorter than the wait for the next address would never get there.
    pub fn set_silent(&self, first: SocketAddr) {
        if let Some(at) = self.all.iter().position(|known| *known == first) {
            let next = (at + 1) % self.all.len();
            // Not if another connection has found out better meanwhile.
            let _ = self.good.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether both are the same addresses, in whatever order: servers rotate their answers.
    pub fn same_as(&self, other: &Self) -> bool {
        self.all.len() == other.all.len() && other.covers(self)
    }

    /// Whether each of the other's addresses is one of these.
    pub fn covers(&self, other: &Self) -> bool {
        other.all.iter().all(|address| self.all.contains(address))
    }

    /// The same with another port.
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

/// The families alternate, beginning with that of the first address; within a family the order stays.
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

/// Where to connect to.
#[derive(Debug, Clone)]
pub enum Destination {
    /// This address.
    One(PeerAddress),
    /// One of these.
    Any(Arc<Addresses>),
}

impl Destination {
    /// The same with another port. A socket's path has none.
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
    fn families_take_turns_beginning_with_the_first() {
        let of = |list: &[&str]| addresses(list).unwrap().to_string();
        assert_eq!(of(&["[::1]:1", "[::2]:1", "1.0.0.1:1"]), "[::1]:1, 1.0.0.1:1, [::2]:1");
        assert_eq!(of(&["1.0.0.1:1", "1.0.0.2:1", "[::1]:1", "1.0.0.3:1"]), "1.0.0.1:1, [::1]:1, 1.0.0.2:1, 1.0.0.3:1");
        assert_eq!(of(&["1.0.0.1:1", "1.0.0.1:1"]), "1.0.0.1:1", "each once");
    }

    #[test]
    fn what_no_host_has_is_left_out() {
        assert_eq!(addresses(&["0.0.0.0:1", "10.0.0.1:1", "[ff02::1]:1"]).unwrap().to_string(), "10.0.0.1:1");
        assert!(addresses(&["0.0.0.0:1", "[::]:1"]).is_none() && addresses(&[]).is_none());
    }

    #[test]
    fn the_one_that_was_connected_to_is_tried_first() {
        let all = addresses(&["[::1]:1", "1.0.0.1:1", "1.0.0.2:1"]).unwrap();
        let order = |all: &Addresses| all.in_order().map(|address| address.to_string()).collect::<Vec<_>>().join(" ");
        all.set_good("1.0.0.2:1".parse().unwrap());
        assert_eq!(order(&all), "1.0.0.2:1 [::1]:1 1.0.0.1:1");
        all.set_good("1.0.0.9:1".parse().unwrap());
        assert_eq!(order(&all), "1.0.0.2:1 [::1]:1 1.0.0.1:1", "not one of them");
        assert_eq!(order(&all.with_port(7)), "1.0.0.2:7 [::1]:7 1.0.0.1:7");
    }

    #[test]
    fn after_one_that_was_silent_the_next_is_tried_first_unless_another_answered() {
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
