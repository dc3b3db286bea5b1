//! Picks: who of those that may be picked takes the next attempt. One file an algorithm.
//!
//! A pick is pure: it takes what it needs as arguments, reads and raises atomics, and neither locks, allocates,
//! does I/O nor reads a clock. It never judges who may be picked: that is `members`.

pub mod adapter;
pub mod least_connections;
pub mod preview;
pub mod round_robin;
pub mod weighted;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::schema::Balance;
use crate::telemetry::vitals::{InFlight, Vitals};

/// How many backends one request can have tried: `routes[].retry.attempts` is at most 16.
pub const MAX_TRIED: usize = 16;

/// The backends that a request has tried, by identity, so that it means the same after members were swapped.
#[derive(Debug, Default)]
pub struct Tried {
    cells: [Option<Arc<Vitals>>; MAX_TRIED],
    len: usize,
}

impl Tried {
    /// Adds one; beyond `MAX_TRIED` nothing is added, since no request has more attempts.
    pub fn add(&mut self, vitals: &Arc<Vitals>) {
        if self.len < MAX_TRIED && !self.contains(vitals) {
            self.cells[self.len] = Some(Arc::clone(vitals));
            self.len += 1;
        }
    }

    /// Whether it was tried.
    pub fn contains(&self, vitals: &Arc<Vitals>) -> bool {
        self.cells[..self.len].iter().flatten().any(|tried| Arc::ptr_eq(tried, vitals))
    }

    /// Whether it is passed over: tried, or as full as it may be.
    pub fn excludes(&self, vitals: &Arc<Vitals>) -> bool {
        vitals.is_full() || self.contains(vitals)
    }

    /// How many were tried.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One that may be picked, as the algorithms see it.
#[derive(Debug)]
pub struct Slot {
    /// Its live cells.
    pub vitals: Arc<Vitals>,
    /// Its effective weight, 1 to 256.
    pub weight: u16,
    /// The turn at which least_connections picked it last.
    turn: AtomicU64,
}

impl Slot {
    /// A weight of 0 counts as 1: whoever takes no requests has no slot.
    pub fn new(vitals: Arc<Vitals>, weight: u16) -> Self {
        Self { vitals, weight: weight.max(1), turn: AtomicU64::new(0) }
    }
}

/// Who was picked.
#[derive(Debug)]
pub struct Picked {
    /// Its place among the slots.
    pub index: usize,
    /// Counts the attempt until it is dropped.
    pub guard: InFlight,
    /// It had been tried, and no other was left.
    pub again: bool,
}

/// An algorithm with the slots it picks from.
#[derive(Debug)]
pub struct Balancer {
    kind: Balance,
    slots: Box<[Slot]>,
    sequence: Box<[u16]>,
    cursor: AtomicU64,
}

impl Balancer {
    /// For these slots; computes the sequence of `weighted_round_robin`.
    pub fn new(kind: Balance, slots: Vec<Slot>) -> Self {
        let sequence = match kind {
            Balance::WeightedRoundRobin => {
                weighted::sequence(&slots.iter().map(|slot| slot.weight).collect::<Vec<_>>())
            }
            Balance::RoundRobin | Balance::LeastConnections => Box::default(),
        };
        Self { kind, slots: slots.into(), sequence, cursor: AtomicU64::new(0) }
    }

    /// The algorithm.
    pub fn kind(&self) -> Balance {
        self.kind
    }

    /// Those it picks from.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Picks one and raises its count. One that was tried is picked only if all were, or are full; nothing only if
    /// there is no slot, or all are full.
    ///
    /// `_now_ms` is for algorithms whose scores age.
    pub fn pick(&self, tried: &Tried, _now_ms: u64) -> Option<Picked> {
        if self.slots.is_empty() {
            return None;
        }
        let again = !tried.is_empty() && self.slots.iter().all(|slot| tried.excludes(&slot.vitals));
        let none;
        let tried = if again {
            none = Tried::default();
            &none
        } else {
            tried
        };
        loop {
            let index = match self.kind {
                Balance::LeastConnections => {
                    let (index, guard) = least_connections::pick(&self.slots, &self.cursor, tried)?;
                    return Some(Picked { index, guard, again });
                }
                Balance::WeightedRoundRobin => weighted::pick(&self.slots, &self.sequence, &self.cursor, tried)?,
                Balance::RoundRobin => round_robin::pick(&self.slots, &self.cursor, tried)?,
            };
            // Another thread may have taken the last place meanwhile; the next look passes it over.
            if let Some(guard) = self.slots[index].vitals.admit() {
                return Some(Picked { index, guard, again });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests {
    use super::*;
    use crate::telemetry::vitals::Labels;

    /// Fresh cells for a test.
    pub(crate) fn vitals(name: &str) -> Arc<Vitals> {
        Arc::new(Vitals::new(Labels { upstream: "u".into(), backend: name.into(), address: name.into() }))
    }

    /// A balancer over fresh cells of these weights.
    pub(crate) fn balancer(kind: Balance, weights: &[u16]) -> Balancer {
        let slot = |(i, weight): (usize, &u16)| Slot::new(vitals(&i.to_string()), *weight);
        Balancer::new(kind, weights.iter().enumerate().map(slot).collect())
    }

    const ALL: [Balance; 3] = [Balance::RoundRobin, Balance::WeightedRoundRobin, Balance::LeastConnections];

    #[test]
    fn nothing_to_pick_from_is_no_pick() {
        for kind in ALL {
            assert!(balancer(kind, &[]).pick(&Tried::default(), 0).is_none());
        }
    }

    #[test]
    fn what_was_tried_comes_again_only_when_all_were() {
        for kind in ALL {
            let balancer = balancer(kind, &[1, 256, 3]);
            for _ in 0..50 {
                let mut tried = Tried::default();
                for n in 0..3 {
                    let picked = balancer.pick(&tried, 0).unwrap();
                    assert!(!picked.again, "{kind:?} after {n}");
                    assert!(!tried.contains(&balancer.slots()[picked.index].vitals));
                    tried.add(&balancer.slots()[picked.index].vitals);
                }
                assert!(balancer.pick(&tried, 0).unwrap().again);
            }
        }
    }

    #[test]
    fn every_guard_is_counted_and_given_back() {
        for kind in ALL {
            let balancer = balancer(kind, &[1, 2]);
            let guards: Vec<_> = (0..9).map(|_| balancer.pick(&Tried::default(), 0).unwrap().guard).collect();
            let sum = || balancer.slots().iter().map(|slot| slot.vitals.in_flight()).sum::<u32>();
            assert_eq!(sum(), 9);
            drop(guards);
            assert_eq!(sum(), 0);
        }
    }

    #[test]
    fn a_full_one_is_passed_over_and_its_limit_never_exceeded() {
        for kind in ALL {
            let balancer = balancer(kind, &[1, 9, 3]);
            balancer.slots().iter().for_each(|slot| slot.vitals.set_limit(50, None));
            let held = std::sync::Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mine: Vec<_> = (0..60).filter_map(|_| balancer.pick(&Tried::default(), 0)).collect();
                        held.lock().unwrap().extend(mine);
                    });
                }
            });
            let counts: Vec<_> = balancer.slots().iter().map(|slot| slot.vitals.in_flight()).collect();
            assert_eq!((counts, held.lock().unwrap().len()), (vec![50; 3], 150), "{kind:?}");
            assert!(balancer.pick(&Tried::default(), 0).is_none());
            drop(held.lock().unwrap().pop());
            assert!(balancer.pick(&Tried::default(), 0).is_some());
        }
    }

    #[test]
    fn a_pick_does_not_allocate() {
        for kind in ALL {
            let balancer = balancer(kind, &[1, 5, 3, 1]);
            let mut tried = Tried::default();
            tried.add(&balancer.slots()[1].vitals);
            drop(balancer.pick(&tried, 0));
            let before = crate::upstream::counting::allocations();
            for _ in 0..1_000 {
                drop(balancer.pick(&tried, 0));
                drop(balancer.pick(&Tried::default(), 0));
            }
            assert_eq!(crate::upstream::counting::allocations(), before, "{kind:?}");
        }
    }
}
