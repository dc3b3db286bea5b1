//! Picks: who of those that may be picked takes the next attempt. One file an algorithm.
//!
//! A pick is pure but for chance: it takes what it needs as arguments, reads and raises atomics, and neither locks,
//! allocates, does I/O nor reads a clock. It never judges who may be picked: that is `members`.

pub mod alias;
pub mod consistent_hash;
pub mod dry_run;
pub mod hash_table;
pub mod least_connections;
pub mod p2c;
pub mod peak_ewma;
pub mod rng;
pub mod round_robin;
pub mod weighted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::alias::AliasTable;
use self::consistent_hash::HashBalancer;
use self::rng::{Prng, mix};
use crate::backend::BackendState;
use crate::backend::InFlight;
use crate::backend::labels::PickReason;
use crate::config::schema::Balance;

/// How many backends one request can have tried: `routes[].retry.attempts` is at most 16.
pub const MAX_TRIED: usize = 16;

/// The backends that a request has tried, by identity, so that it means the same after members were swapped.
#[derive(Debug, Default)]
pub struct Tried {
    states: [Option<Arc<BackendState>>; MAX_TRIED],
    len: usize,
    /// When a pick may not fail, because the request cannot be sent twice; 0: it may.
    careful_ms: AtomicU64,
}

impl Tried {
    /// Adds one; beyond `MAX_TRIED` nothing is added, since no request has more attempts.
    pub fn add(&mut self, backend_state: &Arc<BackendState>) {
        if self.len < MAX_TRIED && !self.contains(backend_state) {
            self.states[self.len] = Some(Arc::clone(backend_state));
            self.len += 1;
        }
    }

    /// Whether it was tried.
    pub fn contains(&self, backend_state: &Arc<BackendState>) -> bool {
        self.states[..self.len].iter().flatten().any(|tried| Arc::ptr_eq(tried, backend_state))
    }

    /// From here on backends whose last attempt failed shortly before `now_ms` are passed over while others of the tier can
    /// take the request: it cannot be sent twice.
    pub fn be_careful(&mut self, now_ms: u64) {
        *self.careful_ms.get_mut() = now_ms;
    }

    /// Whether it is passed over: it cannot take the request, or its last attempt failed and the request cannot be sent twice.
    pub fn excludes(&self, slot: &Slot) -> bool {
        let careful_ms = self.careful_ms.load(Ordering::Relaxed);
        self.rules_out(slot) || careful_ms > 0 && slot.state.has_failed(careful_ms)
    }

    /// Whether it cannot take the request: ejected since the members were built, tried, or as full as it may be.
    pub fn rules_out(&self, slot: &Slot) -> bool {
        slot.is_out() || slot.state.is_full() || self.contains(&slot.state)
    }

    /// The same pick without care, if it was one with care.
    fn without_care<T>(&self, pick: impl FnOnce() -> Option<T>) -> Option<T> {
        let careful_ms = self.careful_ms.swap(0, Ordering::Relaxed);
        let picked = if careful_ms > 0 { pick() } else { None };
        self.careful_ms.store(careful_ms, Ordering::Relaxed);
        picked
    }

    /// The same number for the same backends, in whatever order they were tried; 0 for none. Others may share it by chance.
    pub fn kind(&self) -> u64 {
        let number = |cell: &Arc<BackendState>| mix(Arc::as_ptr(cell) as u64);
        self.states[..self.len].iter().flatten().fold(0, |sum, cell| sum.wrapping_add(number(cell)))
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
    pub state: Arc<BackendState>,
    /// Its effective weight beside the others', at least 1: with a ramp among them in twentieths.
    pub weight: u16,
    /// The turn at which least_connections picked it last.
    last_picked: AtomicU64,
    /// It may be picked while it is ejected: for want of anything better.
    serves_ejected: bool,
}

impl Slot {
    /// A weight of 0 counts as 1: whoever takes no requests has no slot.
    pub fn new(state: Arc<BackendState>, weight: u16) -> Self {
        Self { state, weight: weight.max(1), last_picked: AtomicU64::new(0), serves_ejected: false }
    }

    /// The same; `serves`: even while it is ejected.
    pub fn serving_ejected(self, serves: bool) -> Self {
        Self { serves_ejected: serves, ..self }
    }

    /// Whether it was ejected after the members were built, which follow a little later. No lock, no wait.
    pub fn is_out(&self) -> bool {
        self.state.is_ejected() && !self.serves_ejected
    }
}

/// Who was picked.
#[derive(Debug)]
pub struct Picked {
    /// Its place among the slots.
    pub index: usize,
    /// Counts the attempt until it is dropped.
    pub guard: InFlight,
    /// It had been tried before.
    pub again: bool,
}

/// What of an upstream's settings decides how backends are picked.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Settings {
    /// The algorithm.
    pub balance: Balance,
    /// How many times an even load a backend may carry under `consistent_hash`, 1 or more; none: no bound.
    pub load_factor: Option<f64>,
}

impl From<Balance> for Settings {
    fn from(balance: Balance) -> Self {
        Self { balance, load_factor: None }
    }
}

/// An algorithm with the slots it picks from.
#[derive(Debug)]
pub struct Balancer {
    slots: Box<[Slot]>,
    algorithm: Algorithm,
    cursor: AtomicU64,
}

/// An algorithm with what is computed when members change.
#[derive(Debug)]
enum Algorithm {
    RoundRobin,
    Weighted(Box<[u16]>),
    LeastConnections,
    P2c(AliasTable),
    PeakEwma(AliasTable),
    Random(AliasTable),
    ConsistentHash(HashBalancer),
}

impl Algorithm {
    fn new(settings: Settings, slots: &[Slot]) -> Self {
        let weights = || slots.iter().map(|slot| slot.weight);
        match settings.balance {
            Balance::RoundRobin => Self::RoundRobin,
            Balance::WeightedRoundRobin => Self::Weighted(weighted::sequence(&weights().collect::<Vec<_>>())),
            Balance::LeastConnections => Self::LeastConnections,
            Balance::P2c => Self::P2c(AliasTable::new(weights())),
            Balance::PeakEwma => Self::PeakEwma(AliasTable::new(weights())),
            Balance::Random => Self::Random(AliasTable::new(weights())),
            Balance::ConsistentHash => Self::ConsistentHash(HashBalancer::new(slots, settings.load_factor)),
        }
    }
}

impl Balancer {
    /// For these slots; computes sequences and tables.
    pub fn new(settings: Settings, slots: Vec<Slot>) -> Self {
        Self { algorithm: Algorithm::new(settings, &slots), slots: slots.into(), cursor: AtomicU64::new(0) }
    }

    /// Those it picks from.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether all were tried or are full, so that at best one that was tried can be picked again.
    pub fn is_exhausted(&self, tried: &Tried) -> bool {
        self.slots.iter().all(|slot| tried.rules_out(slot))
    }

    /// What decides among those that may be picked.
    pub fn why(&self, key: Option<u64>) -> PickReason {
        match &self.algorithm {
            Algorithm::RoundRobin | Algorithm::Weighted(_) | Algorithm::LeastConnections => PickReason::Next,
            Algorithm::ConsistentHash(_) if key.is_some() => PickReason::Key,
            Algorithm::P2c(_) | Algorithm::PeakEwma(_) | Algorithm::Random(_) | Algorithm::ConsistentHash(_) => {
                PickReason::Chance
            }
        }
    }

    /// Picks one and raises its count. One that was tried is picked only if all were, or are full; nothing only if
    /// there is no slot, or all are full.
    ///
    /// `now_ms`: for scores that age. `key`: what `consistent_hash` goes by; without one it picks by chance.
    pub fn pick(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Picked> {
        self.pick_other(tried, now_ms, key).or_else(|| self.pick_again(tried, now_ms, key))
    }

    /// The same without going back to one that was tried.
    pub fn pick_other(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Picked> {
        let choose = || self.choose(tried, now_ms, key);
        let (index, guard) = choose().or_else(|| tried.without_care(choose))?;
        Some(Picked { index, guard, again: false })
    }

    /// Picks one whether it was tried or not; nothing for a first try.
    pub fn pick_again(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Picked> {
        if tried.is_empty() {
            return None;
        }
        let (index, guard) = self.choose(&Tried::default(), now_ms, key)?;
        Some(Picked { again: tried.contains(&self.slots.get(index)?.state), index, guard })
    }

    fn choose(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<(usize, InFlight)> {
        let (slots, cursor) = (&*self.slots, &self.cursor);
        if slots.is_empty() {
            return None;
        }
        loop {
            let index = match &self.algorithm {
                Algorithm::LeastConnections => return least_connections::pick(slots, cursor, tried, now_ms),
                Algorithm::ConsistentHash(table) => {
                    let key = key.unwrap_or_else(|| Prng::of_thread(Prng::draw));
                    return consistent_hash::pick(slots, table, key, tried);
                }
                Algorithm::RoundRobin => round_robin::pick(slots, cursor, tried),
                Algorithm::Weighted(sequence) => weighted::pick(slots, sequence, cursor, tried),
                Algorithm::P2c(alias) => Prng::of_thread(|chance| p2c::pick(slots, alias, chance, tried, now_ms)),
                Algorithm::PeakEwma(alias) => {
                    Prng::of_thread(|chance| peak_ewma::pick(slots, alias, chance, tried, now_ms))
                }
                Algorithm::Random(alias) => Prng::of_thread(|chance| alias::pick(slots, alias, chance, tried)),
            }?;
            // Another thread may have taken the last place meanwhile; the next look passes it over.
            if let Some(guard) = slots.get(index)?.state.admit() {
                return Some((index, guard));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests;
