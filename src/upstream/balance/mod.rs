//! Load balancing: picks the backend of the next attempt among the eligible ones.
//!
//! A pick never decides which backends are eligible: `members` does. It gets its input as arguments and reads and
//! raises atomics. It takes no lock, does not allocate, does no I/O and reads no clock. There is one file per
//! algorithm.

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

/// Maximum number of backends that one request can try: `routes[].retry.attempts` is at most 16.
pub const MAX_TRIED: usize = 16;

/// The backends that a request has tried. They are compared by state pointer, so the set stays valid when the member
/// snapshot is replaced.
#[derive(Debug, Default)]
pub struct Tried {
    states: [Option<Arc<BackendState>>; MAX_TRIED],
    len: usize,
    /// If not 0: the current time, and backends that failed shortly before it are excluded. It is set for a request
    /// that cannot be retried.
    failures_before_ms: AtomicU64,
}

impl Tried {
    /// Adds a backend. Beyond `MAX_TRIED` it adds nothing, since no request has more attempts.
    pub fn add(&mut self, backend_state: &Arc<BackendState>) {
        if self.len < MAX_TRIED && !self.contains(backend_state) {
            self.states[self.len] = Some(Arc::clone(backend_state));
            self.len += 1;
        }
    }

    /// Whether the backend was tried.
    pub fn contains(&self, backend_state: &Arc<BackendState>) -> bool {
        self.states[..self.len].iter().flatten().any(|tried| Arc::ptr_eq(tried, backend_state))
    }

    /// Excludes backends whose last attempt failed shortly before `now_ms`, for a request that cannot be retried. The
    /// exclusion ends if no other backend of the tier can take the request.
    pub fn exclude_recent_failures(&mut self, now_ms: u64) {
        *self.failures_before_ms.get_mut() = now_ms;
    }

    /// Whether the slot is excluded: it cannot take the request, or it failed recently and the request cannot be
    /// retried.
    pub fn excludes(&self, slot: &Slot) -> bool {
        let failures_before_ms = self.failures_before_ms.load(Ordering::Relaxed);
        self.rules_out(slot) || failures_before_ms > 0 && slot.state.has_failed(failures_before_ms)
    }

    /// Whether the slot cannot take the request: ejected since the snapshot was built, tried, or at its limit.
    pub fn rules_out(&self, slot: &Slot) -> bool {
        slot.is_out() || slot.state.is_full() || self.contains(&slot.state)
    }

    /// Repeats a pick without the exclusion of recent failures, if that exclusion was on.
    fn with_recent_failures<T>(&self, pick: impl FnOnce() -> Option<T>) -> Option<T> {
        let failures_before_ms = self.failures_before_ms.swap(0, Ordering::Relaxed);
        let picked = if failures_before_ms > 0 { pick() } else { None };
        self.failures_before_ms.store(failures_before_ms, Ordering::Relaxed);
        picked
    }

    /// A hash of the set of tried backends, independent of their order; 0 for the empty set. Different sets can
    /// collide.
    pub fn kind(&self) -> u64 {
        let number = |cell: &Arc<BackendState>| mix(Arc::as_ptr(cell) as u64);
        self.states[..self.len].iter().flatten().fold(0, |sum, cell| sum.wrapping_add(number(cell)))
    }

    /// Number of tried backends.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no backend was tried.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// An eligible backend, as the algorithms see it.
#[derive(Debug)]
pub struct Slot {
    /// Its live state.
    pub state: Arc<BackendState>,
    /// Its effective weight relative to the other slots, at least 1. During a slow start weights are in twentieths.
    pub weight: u16,
    /// Sequence number of its last pick by `least_connections`; 0: never picked.
    last_picked: AtomicU64,
    /// Whether it may be picked while it is ejected, because no better backend exists.
    serves_ejected: bool,
}

impl Slot {
    /// A weight of 0 becomes 1: a backend that takes no requests has no slot.
    pub fn new(state: Arc<BackendState>, weight: u16) -> Self {
        Self { state, weight: weight.max(1), last_picked: AtomicU64::new(0), serves_ejected: false }
    }

    /// Sets whether it may be picked while it is ejected.
    pub fn serving_ejected(self, serves: bool) -> Self {
        Self { serves_ejected: serves, ..self }
    }

    /// Whether it was ejected after this snapshot was built. The rebuild follows later; this check needs no lock.
    pub fn is_out(&self) -> bool {
        self.state.is_ejected() && !self.serves_ejected
    }
}

/// The result of a pick.
#[derive(Debug)]
pub struct Picked {
    /// Index of the slot.
    pub index: usize,
    /// Counts the attempt until it is dropped.
    pub guard: InFlight,
    /// Whether the backend had been tried before.
    pub again: bool,
}

/// The settings of an upstream that select and configure the algorithm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Settings {
    /// The algorithm.
    pub balance: Balance,
    /// Load bound of `consistent_hash` as a multiple of the even load, 1 or more; `None`: no bound.
    pub load_factor: Option<f64>,
}

impl From<Balance> for Settings {
    fn from(balance: Balance) -> Self {
        Self { balance, load_factor: None }
    }
}

/// An algorithm and the slots it picks from.
#[derive(Debug)]
pub struct Balancer {
    slots: Box<[Slot]>,
    algorithm: Algorithm,
    cursor: AtomicU64,
}

/// An algorithm with the data that is computed when members change.
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
    /// Builds a balancer for these slots; computes sequences and tables.
    pub fn new(settings: Settings, slots: Vec<Slot>) -> Self {
        Self { algorithm: Algorithm::new(settings, &slots), slots: slots.into(), cursor: AtomicU64::new(0) }
    }

    /// The slots it picks from.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether every slot was tried, is full or is ejected. Then a pick can only return a backend that was tried.
    pub fn is_exhausted(&self, tried: &Tried) -> bool {
        self.slots.iter().all(|slot| tried.rules_out(slot))
    }

    /// The reason to log for a pick of this algorithm.
    pub fn why(&self, key: Option<u64>) -> PickReason {
        match &self.algorithm {
            Algorithm::RoundRobin | Algorithm::Weighted(_) | Algorithm::LeastConnections => PickReason::Next,
            Algorithm::ConsistentHash(_) if key.is_some() => PickReason::Key,
            Algorithm::P2c(_) | Algorithm::PeakEwma(_) | Algorithm::Random(_) | Algorithm::ConsistentHash(_) => {
                PickReason::Chance
            }
        }
    }

    /// Picks a slot and raises its count. A tried backend is picked only if all others were tried or are full. `None`
    /// only if there is no slot, or no slot can take the request.
    ///
    /// `now_ms`: for scores that decay. `key`: the hash key for `consistent_hash`, which picks at random without one.
    pub fn pick(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Picked> {
        self.pick_other(tried, now_ms, key).or_else(|| self.pick_again(tried, now_ms, key))
    }

    /// As `pick`, but never returns a backend that was tried.
    pub fn pick_other(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Picked> {
        let choose = || self.choose(tried, now_ms, key);
        let (index, guard) = choose().or_else(|| tried.with_recent_failures(choose))?;
        Some(Picked { index, guard, again: false })
    }

    /// Picks any slot that can take the request, tried or not. `None` if the request has tried no backend yet.
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
                Algorithm::P2c(alias) => Prng::of_thread(|rng| p2c::pick(slots, alias, rng, tried, now_ms)),
                Algorithm::PeakEwma(alias) => Prng::of_thread(|rng| peak_ewma::pick(slots, alias, rng, tried, now_ms)),
                Algorithm::Random(alias) => Prng::of_thread(|rng| alias::pick(slots, alias, rng, tried)),
            }?;
            // Another thread may have taken the last free slot meanwhile. The next iteration skips this backend.
            if let Some(guard) = slots.get(index)?.state.admit() {
                return Some((index, guard));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests;
