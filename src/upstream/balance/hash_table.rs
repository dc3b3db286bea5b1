//! Weighted rendezvous hashing as a lookup table of 65,536 slots: built when members change, read in one step.
//!
//! It never considers load. Each backend makes numbered claims on table slots, `weight` claims per unit of time. The
//! address and the number of a claim determine its table slot. Each table slot belongs to the backend with the earliest
//! claim. So if a backend leaves, only its own slots change owner. A new backend takes its share from all others. If a
//! weight changes, only the gained or lost share moves.
//!
//! A hash ring has the same property (D. Karger and others, "Consistent hashing and random trees", STOC 1997). The
//! owner rule is highest random weight (D. Thaler and C. Ravishankar, IEEE/ACM ToN 6, 1998). The order of claims by
//! time follows O. Ertl, "ProbMinHash", IEEE TKDE 2020.
//!
//! A share deviates by about `1 / sqrt(65,536 · share)` of itself: 1 % among 10 backends, 4 % among 100, 12 % among
//! 1,000. The construction takes about a million claims for any number of backends.

use super::rng::{GOLDEN, mix};

/// The table has 2^16 slots and takes 128 KiB.
const TABLE_BITS: u32 = 16;
const TABLE_SLOTS: usize = 1 << TABLE_BITS;

/// Each round makes about two claims per table slot. A slot is unclaimed after 64 rounds with a probability of 10^-55.
const MAX_REHASHES: u32 = 64;

/// The owner of each table slot.
#[derive(Debug)]
pub struct HashTable(Box<[u16]>);

impl HashTable {
    /// Builds the table from (seed, weight) pairs. Pairs beyond the first 65,536 own nothing.
    pub fn new(claimants: &[(u64, u16)]) -> Self {
        let total: f64 = claimants.iter().map(|(_, weight)| f64::from(*weight)).sum();
        if total <= 0.0 {
            return Self(Box::default());
        }
        let mut race =
            Contender { owners: vec![0; TABLE_SLOTS], first: vec![f64::INFINITY; TABLE_SLOTS], open: TABLE_SLOTS };
        let mut next = vec![0; claimants.len()];
        for round in 1..=MAX_REHASHES {
            let until = f64::from(round) * 2.0 * TABLE_SLOTS as f64 / total;
            for ((owner, (seed, weight)), next) in (0_u16..=u16::MAX).zip(claimants).zip(&mut next) {
                race.stake(owner, *seed, f64::from(*weight), next, until);
            }
            if race.open == 0 {
                break;
            }
        }
        Self(race.owners.into())
    }

    /// The owner of the table slot of a key; `None` only if there is no owner at all.
    pub fn owner(&self, key: u64) -> Option<usize> {
        self.0.get((key >> (64 - TABLE_BITS)) as usize).map(|owner| usize::from(*owner))
    }
}

struct Contender {
    owners: Vec<u16>,
    /// Time of the earliest claim on each table slot.
    first: Vec<f64>,
    open: usize,
}

impl Contender {
    /// Makes the claims of one owner, from number `next` on, as long as their time is at most `until`.
    fn stake(&mut self, owner: u16, seed: u64, weight: f64, next: &mut u64, until: f64) {
        loop {
            let claim = mix(seed.wrapping_add(next.wrapping_mul(GOLDEN)));
            let within = f64::from(claim as u32) / 4_294_967_296.0;
            let time = (*next as f64 + within) / weight;
            if time > until {
                return;
            }
            *next += 1;
            let slot = (claim >> (64 - TABLE_BITS)) as usize;
            self.open -= usize::from(self.first[slot].is_infinite());
            if time < self.first[slot] {
                (self.first[slot], self.owners[slot]) = (time, owner);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::rng::hash;
    use super::*;

    fn claimants(weights: &[u16], salt: u64) -> Vec<(u64, u16)> {
        let seed = |n: usize| hash(format!("10.0.{salt}.{n}:80").as_bytes());
        weights.iter().enumerate().map(|(n, weight)| (seed(n), *weight)).collect()
    }

    /// Number of table slots whose owner, identified by its seed, has changed.
    fn moved(before: &[(u64, u16)], after: &[(u64, u16)], only: u64) -> usize {
        let (old, new) = (HashTable::new(before), HashTable::new(after));
        let mut count = 0;
        for (old, new) in old.0.iter().zip(&new.0) {
            let (old, new) = (before[usize::from(*old)].0, after[usize::from(*new)].0);
            assert!(old == new || old == only || new == only, "a slot moved between two unchanged backends");
            count += usize::from(old != new);
        }
        count
    }

    /// Asserts that the count is within six standard deviations, plus one, of a share of all table slots.
    fn assert_share(count: usize, share: f64) {
        let expected = TABLE_SLOTS as f64 * share;
        let deviation = (expected * (1.0 - share)).sqrt();
        assert!((count as f64 - expected).abs() <= 6.0 * deviation + 1.0, "{count} places for {expected}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn adding_or_removing_a_backend_moves_only_its_share(
            weights in proptest::collection::vec(1_u16..=256, 2..24), which in any::<usize>(), salt in 0_u64..250,
        ) {
            let with = claimants(&weights, salt);
            let mut without = with.clone();
            let (gone, weight) = without.remove(which % with.len());
            let share = f64::from(weight) / weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
            assert_share(moved(&with, &without, gone), share);
            assert_share(moved(&without, &with, gone), share);
        }

        #[test]
        fn a_weight_change_moves_only_the_difference(
            weights in proptest::collection::vec(1_u16..=256, 2..24), to in 1_u16..=256, salt in 0_u64..250,
        ) {
            let before = claimants(&weights, salt);
            let mut after = before.clone();
            after[0].1 = to;
            let sum: f64 = weights[1..].iter().map(|weight| f64::from(*weight)).sum();
            let share = |weight: u16| f64::from(weight) / (sum + f64::from(weight));
            assert_share(moved(&before, &after, before[0].0), (share(to) - share(weights[0])).abs());
        }
    }

    #[test]
    fn shares_follow_weights_in_any_order() {
        let mut all = claimants(&[1, 2, 5], 7);
        let count = |all: &[(u64, u16)]| {
            let table = HashTable::new(all);
            let owned = |n: usize| table.0.iter().filter(|owner| usize::from(**owner) == n).count();
            (0..3).map(|n| (all[n].1, owned(n))).collect::<std::collections::BTreeMap<_, _>>()
        };
        let counts = count(&all);
        assert!(counts.iter().all(|(weight, count)| {
            assert_share(*count, f64::from(*weight) / 8.0);
            true
        }));
        all.reverse();
        assert_eq!(count(&all), counts);
        assert!(HashTable::new(&[]).owner(0).is_none());
    }

    #[test]
    fn thousands_of_backends_own_slots() {
        let table = HashTable::new(&claimants(&[1; 5_000], 3));
        let owners: std::collections::HashSet<_> = table.0.iter().collect();
        assert!(owners.len() >= 4_990, "{}", owners.len());
    }
}
