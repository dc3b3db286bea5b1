//! What an upstream consists of right now: who may be picked, and the balancer over them.
//!
//! Immutable: when a verdict, a mark, an address or a weight changes, new members are built and swapped in. It judges
//! eligibility and nothing else; it never probes and never resolves.

use std::sync::Arc;

use super::backend::Backend;
use super::balance::preview::Preview;
use super::balance::{Balancer, Slot, Tried};
use crate::config::schema::Balance;
use crate::telemetry::vitals::{Health, InFlight, Mark};

/// What of an upstream's settings decides its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The algorithm.
    pub balance: Balance,
    /// With none up or unknown, try those that are down.
    pub fail_open: bool,
    /// Whether there is a health check: without one a backend counts as up whatever its cells say.
    pub checked: bool,
}

/// What an upstream consists of right now.
#[derive(Debug)]
pub struct Members {
    rules: Rules,
    eligible: Box<[Arc<Backend>]>,
    balancer: Balancer,
    failed_open: bool,
}

/// A backend that takes an attempt.
#[derive(Debug)]
pub struct Pick {
    /// Who.
    pub backend: Arc<Backend>,
    /// Counts the attempt until it is dropped.
    pub guard: InFlight,
    /// It is down, and tried because nothing is up (`weir_upstream_fail_open_total`).
    pub fail_open: bool,
    /// It had been tried, and no other was left.
    pub again: bool,
}

impl Members {
    /// Builds them from what the backends' cells say now.
    pub fn build(backends: &[Arc<Backend>], rules: Rules) -> Self {
        let (eligible, failed_open) = eligible(backends, rules);
        let slot = |b: &Arc<Backend>| Slot::new(Arc::clone(&b.vitals), b.weight_now(rules.balance));
        let slots = eligible.iter().map(slot).collect();
        Self { rules, balancer: Balancer::new(rules.balance, slots), eligible: eligible.into(), failed_open }
    }

    /// Those that may be picked.
    pub fn eligible(&self) -> &[Arc<Backend>] {
        &self.eligible
    }

    /// Whether they are tried for want of anything better.
    pub fn failed_open(&self) -> bool {
        self.failed_open
    }

    /// Whether `other` would pick from the same backends in the same way: then these can stay, turns and all.
    pub fn same_as(&self, other: &Self) -> bool {
        self.rules.balance == other.rules.balance
            && self.failed_open == other.failed_open
            && self.eligible.len() == other.eligible.len()
            && self.eligible.iter().zip(&other.eligible).all(|(mine, others)| mine.same_as(others))
            && self.weights().eq(other.weights())
    }

    /// As they count in these members; an operator changes them without another backend.
    fn weights(&self) -> impl Iterator<Item = u16> + '_ {
        self.balancer.slots().iter().map(|slot| slot.weight)
    }

    /// Who would be picked next, as places in `eligible`.
    pub fn preview(&self) -> Preview {
        self.balancer.preview()
    }

    /// Picks one; nothing if none is eligible. One that was tried only if no other is left.
    pub fn pick(&self, tried: &Tried, now_ms: u64) -> Option<Pick> {
        let picked = self.balancer.pick(tried, now_ms)?;
        let backend = Arc::clone(self.eligible.get(picked.index)?);
        Some(Pick { backend, guard: picked.guard, fail_open: self.failed_open, again: picked.again })
    }
}

/// Who may be picked, and whether that is failing open.
fn eligible(backends: &[Arc<Backend>], rules: Rules) -> (Vec<Arc<Backend>>, bool) {
    let takes = |backend: &&Arc<Backend>| {
        backend.weight_now(rules.balance) > 0 && backend.vitals.mark() == Mark::Ready && backend.resolved.is_known()
    };
    // One that is ejected is as good as down, whatever its probes say: it fails what it is sent.
    let health = |backend: &Backend| match backend.vitals.health() {
        _ if backend.vitals.is_ejected() => Health::Down,
        health if rules.checked => health,
        _ => Health::Up,
    };
    // One look at each verdict: they may change meanwhile.
    let able: Vec<_> = backends.iter().filter(takes).map(|backend| (backend, health(backend))).collect();
    let with = |wanted| able.iter().filter(move |(_, health)| *health == wanted).map(|(b, _)| Arc::clone(b)).collect();
    let up: Vec<_> = with(Health::Up);
    if !up.is_empty() {
        return (up, false);
    }
    let unknown: Vec<_> = with(Health::Unknown);
    if !unknown.is_empty() || !rules.fail_open {
        return (unknown, false);
    }
    let down: Vec<_> = with(Health::Down);
    let failed_open = !down.is_empty();
    (down, failed_open)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests {
    use super::super::backend::Resolved;
    use super::super::balance::tests::vitals;
    use super::*;

    /// A backend for a test.
    pub(crate) fn backend(name: &str, address: &str, weight: u16, health: Health) -> Arc<Backend> {
        let address = address.parse().unwrap();
        let vitals = vitals(name);
        vitals.set_health(health, "", 0);
        let resolved = Arc::new(Resolved::new(&address));
        Arc::new(Backend { name: name.into(), address, weight, vitals, resolved })
    }

    const RULES: Rules = Rules { balance: Balance::RoundRobin, fail_open: true, checked: true };

    fn names(members: &Members) -> String {
        members.eligible().iter().map(|backend| &*backend.name).collect()
    }

    #[test]
    fn the_table_of_eligibility() {
        use Health::{Down, Unknown, Up};
        // Healths of a, b, c; fail_open; who is eligible; whether that is failing open.
        let table = [
            ([Up, Up, Up], true, "abc", false),
            ([Up, Down, Unknown], true, "a", false),
            ([Unknown, Down, Unknown], true, "ac", false),
            ([Unknown, Down, Unknown], false, "ac", false),
            ([Down, Down, Down], true, "abc", true),
            ([Down, Down, Down], false, "", false),
        ];
        for (healths, fail_open, expected, failed_open) in table {
            let backends: Vec<_> =
                ["a", "b", "c"].iter().zip(healths).map(|(n, h)| backend(n, "127.0.0.1:1", 1, h)).collect();
            let members = Members::build(&backends, Rules { fail_open, ..RULES });
            assert_eq!((names(&members).as_str(), members.failed_open()), (expected, failed_open), "{healths:?}");
            let pick = members.pick(&Tried::default(), 0);
            assert_eq!(pick.as_ref().map(|pick| pick.fail_open), (!expected.is_empty()).then_some(failed_open));
        }
    }

    #[test]
    fn drained_disabled_weightless_and_unresolved_are_never_tried() {
        let backends = [
            backend("a", "127.0.0.1:1", 1, Health::Down),
            backend("b", "127.0.0.1:2", 1, Health::Up),
            backend("c", "127.0.0.1:3", 0, Health::Up),
            backend("d", "name.invalid:4", 1, Health::Up),
        ];
        assert_eq!(names(&Members::build(&backends, RULES)), "b");
        for mark in [Mark::Draining, Mark::Disabled] {
            backends[1].vitals.set_mark(mark, 0);
            let members = Members::build(&backends, RULES);
            assert_eq!((names(&members).as_str(), members.failed_open()), ("a", true));
            assert_eq!(names(&Members::build(&backends[1..], RULES)), "");
        }
        backends[3].resolved.set("127.0.0.1:4".parse().unwrap());
        assert_eq!(names(&Members::build(&backends, RULES)), "d");
    }

    #[test]
    fn without_a_check_a_backend_is_up() {
        let backends = [backend("a", "127.0.0.1:1", 1, Health::Down), backend("b", "127.0.0.1:1", 1, Health::Unknown)];
        let members = Members::build(&backends, Rules { checked: false, ..RULES });
        assert_eq!((names(&members).as_str(), members.failed_open()), ("ab", false));
    }

    #[test]
    fn the_same_is_known_as_the_same() {
        let backends = [backend("a", "127.0.0.1:1", 1, Health::Up), backend("b", "127.0.0.1:1", 1, Health::Up)];
        let before = Members::build(&backends, RULES);
        assert!(before.same_as(&Members::build(&backends, RULES)));
        assert!(!before.same_as(&Members::build(&backends[..1], RULES)));
        let other = Rules { balance: Balance::LeastConnections, ..RULES };
        assert!(!before.same_as(&Members::build(&backends, other)));
    }

    #[test]
    fn a_request_keeps_what_it_tried_over_a_swap() {
        let backends = [backend("a", "127.0.0.1:1", 1, Health::Up), backend("b", "127.0.0.1:1", 1, Health::Up)];
        let mut tried = Tried::default();
        let first = Members::build(&backends, RULES).pick(&tried, 0).unwrap();
        tried.add(&first.backend.vitals);
        let swapped: Vec<_> = backends.iter().rev().cloned().collect();
        for _ in 0..5 {
            let pick = Members::build(&swapped, RULES).pick(&tried, 0).unwrap();
            assert_eq!((&*pick.backend.name, pick.again), ("b", false));
        }
    }
}
