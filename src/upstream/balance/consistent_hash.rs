//! Consistent hashing: the same key gets the same backend while it exists, by a lookup in `hash_table`.
//!
//! It never computes a key: the proxy decides which part of a request is hashed. With a load factor `c` no backend gets
//! more than `⌈c · weight / W · (in flight over all + 1)⌉` requests. `W` is the total weight. Further requests overflow
//! to other backends, in the same order for the same key. The counts of all backends are read only if the first backend
//! of the key is busy.
//!
//! The load bound is that of V. Mirrokni, M. Thorup, M. Zadimoghaddam, "Consistent hashing with bounded loads", SODA
//! 2018. A key that overflows jumps to a pseudorandom table slot, not to the next point of a ring (J. Chen, B. Coleman,
//! A. Shrivastava, "Revisiting consistent hashing with bounded loads", AAAI 2021).

use super::alias::among_rest;
use super::hash_table::HashTable;
use super::rng::{GOLDEN, hash, mix};
use super::{Slot, Tried};
use crate::backend::InFlight;

/// Maximum number of jumps before a lookup walks all remaining slots.
const MAX_JUMPS: usize = 32;

/// The hash table and the load bound.
#[derive(Debug)]
pub struct HashBalancer {
    table: HashTable,
    total_weight: u64,
    load_factor: Option<f64>,
}

impl HashBalancer {
    /// Builds the table for these slots. Without a load factor there is no load bound.
    pub fn new(slots: &[Slot], load_factor: Option<f64>) -> Self {
        let claimant = |slot: &Slot| (hash(slot.state.labels().address.as_bytes()), slot.weight);
        Self {
            table: HashTable::new(&slots.iter().map(claimant).collect::<Vec<_>>()),
            total_weight: slots.iter().map(|slot| u64::from(slot.weight)).sum(),
            load_factor,
        }
    }

    /// Whether a backend with `seen` requests in flight may take one more. `total` computes the sum on demand.
    fn is_below_bound(&self, slot: &Slot, seen: u32, total: &mut impl FnMut() -> u64) -> bool {
        let Some(factor) = self.load_factor.filter(|_| seen > 0) else { return true };
        let share = f64::from(slot.weight) / self.total_weight.max(1) as f64;
        f64::from(seen) < (factor * share * (total() + 1) as f64).ceil()
    }
}

/// Picks the backend of the key and raises its count. If that backend is excluded or over its bound, the key jumps to
/// another one.
pub fn pick(slots: &[Slot], table: &HashBalancer, key: u64, tried: &Tried) -> Option<(usize, InFlight)> {
    loop {
        let (index, seen) = find(slots, table, key, tried)?;
        let backend_state = &slots[index].state;
        // The count must still be the one that was checked, or the bound could be exceeded. `try_raise` ensures this.
        let guard = if table.load_factor.is_some() { backend_state.try_raise(seen) } else { backend_state.admit() };
        if let Some(guard) = guard {
            return Some((index, guard));
        }
        std::hint::spin_loop();
    }
}

/// The backend that `pick` would return. No count changes.
pub fn preview(slots: &[Slot], table: &HashBalancer, key: u64, tried: &Tried) -> Option<usize> {
    find(slots, table, key, tried).map(|(index, _)| index)
}

fn find(slots: &[Slot], table: &HashBalancer, key: u64, tried: &Tried) -> Option<(usize, u32)> {
    let mut summed = None;
    let mut total =
        || *summed.get_or_insert_with(|| slots.iter().map(|slot| u64::from(slot.state.in_flight())).sum::<u64>());
    let mut at = key;
    for _ in 0..MAX_JUMPS {
        let index = table.table.owner(at)?;
        let slot = slots.get(index)?;
        let seen = slot.state.in_flight();
        if !tried.excludes(slot) && table.is_below_bound(slot, seen, &mut total) {
            return Some((index, seen));
        }
        at = mix(at.wrapping_add(GOLDEN));
    }
    let total = total();
    let skip = |index: usize| tried.excludes(&slots[index]);
    let full = |index: usize| !table.is_below_bound(&slots[index], slots[index].state.in_flight(), &mut || total);
    // If every slot below its bound is excluded, the bound is ignored.
    let index = among_rest(slots, at, |index| skip(index) || full(index)).or_else(|| among_rest(slots, at, skip))?;
    Some((index, slots[index].state.in_flight()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::balancer;
    use super::super::{Balancer, Settings};
    use super::*;
    use crate::config::schema::Balance;

    fn bounded(weights: &[u16], factor: f64) -> Balancer {
        let slot = |(n, weight): (usize, &u16)| Slot::new(super::super::tests::backend_state(&n.to_string()), *weight);
        let settings = Settings { balance: Balance::ConsistentHash, load_factor: Some(factor) };
        Balancer::new(settings, weights.iter().enumerate().map(slot).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_load_exceeds_its_bound(weights in proptest::collection::vec(1_u16..=256, 1..12), factor in 1.0_f64..3.0,
                                         events in proptest::collection::vec((any::<bool>(), any::<usize>(), 0_u64..4), 1..200)) {
            let balancer = bounded(&weights, factor);
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let mut guards = Vec::new();
            for (ends, which, key) in events {
                if ends && !guards.is_empty() {
                    guards.swap_remove(which % guards.len());
                    continue;
                }
                let picked = balancer.pick(&Tried::default(), 0, Some(hash(&[key as u8]))).unwrap();
                guards.push(picked.guard);
                let bound = (factor * f64::from(weights[picked.index]) / sum * guards.len() as f64).ceil();
                let count = f64::from(balancer.slots()[picked.index].state.in_flight());
                prop_assert!(count <= bound, "{} over {} of {:?}", count, bound, weights);
            }
        }

        #[test]
        fn a_key_has_one_backend_and_one_overflow_order(key in any::<u64>(), weights in proptest::collection::vec(1_u16..=9, 1..9)) {
            let balancer = balancer(Balance::ConsistentHash, &weights);
            let order = || {
                let mut tried = Tried::default();
                let next = |_| {
                    let picked = balancer.pick(&tried, 0, Some(key)).unwrap();
                    tried.add(picked.guard.backend());
                    picked.index
                };
                (0..weights.len()).map(next).collect::<Vec<_>>()
            };
            let first = order();
            prop_assert_eq!(&first, &order());
            let different: std::collections::HashSet<_> = first.iter().collect();
            prop_assert_eq!(different.len(), weights.len());
        }
    }

    #[test]
    fn a_hot_key_uses_only_as_many_backends_as_it_needs() {
        let balancer = bounded(&[1; 10], 2.0);
        let guards: Vec<_> = (0..100).map(|_| balancer.pick(&Tried::default(), 0, Some(42)).unwrap()).collect();
        let mut counts: Vec<_> = balancer.slots().iter().map(|slot| slot.state.in_flight()).collect();
        counts.sort_unstable();
        assert_eq!(counts[9], 20);
        assert!(counts.iter().filter(|count| **count > 0).count() <= 10);
        drop(guards);
        let one = || balancer.pick(&Tried::default(), 0, Some(42)).unwrap().index;
        let first = one();
        assert_eq!(first, one());
    }

    #[test]
    fn without_a_key_picks_spread_by_weight() {
        let balancer = balancer(Balance::ConsistentHash, &[1, 3]);
        let picks: Vec<_> = (0..4_000).map(|_| balancer.pick(&Tried::default(), 0, None).unwrap().index).collect();
        let heavier = picks.iter().filter(|index| **index == 1).count();
        assert!((2_830..3_170).contains(&heavier), "{heavier}");
    }
}
