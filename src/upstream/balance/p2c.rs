//! Power of two choices: draws two backends by weight and picks the one with fewer requests in flight per weight.
//!
//! (M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12, 2001.) Constant time for
//! any number of backends. Ties go to the first draw, so idle backends are picked in proportion to their weights.

use super::alias::AliasTable;
use super::least_connections::load;
use super::rng::Prng;
use super::{Slot, Tried};

/// Of two slots that are not excluded, the one with the lower `(in flight + penalty) / weight`.
pub fn pick(slots: &[Slot], alias: &AliasTable, rng: &mut Prng, tried: &Tried, now_ms: u64) -> Option<usize> {
    let (first, second) = two(slots, alias, rng, tried)?;
    let carried = |index: usize| carried(&slots[index], now_ms);
    let (mine, others) =
        (carried(first) * u64::from(slots[second].weight), carried(second) * u64::from(slots[first].weight));
    Some(if others < mine { second } else { first })
}

/// Requests in flight plus penalty. The new request is not added: with it, the heavier of two idle backends would
/// always win, and picks would not follow the weights.
fn carried(slot: &Slot, now_ms: u64) -> u64 {
    load(&slot.state, now_ms).1 - 1
}

/// The score that is compared; the lower wins.
pub(super) fn score(slot: &Slot, now_ms: u64) -> f64 {
    carried(slot, now_ms) as f64 / f64::from(slot.weight)
}

/// Two different slots that are not excluded, drawn by weight; the same one twice if there is no other.
pub fn two(slots: &[Slot], alias: &AliasTable, rng: &mut Prng, tried: &Tried) -> Option<(usize, usize)> {
    let tried = |index: usize| tried.excludes(&slots[index]);
    let first = alias.sample(slots, rng, tried)?;
    let second = alias.sample(slots, rng, |index| index == first || tried(index));
    Some((first, second.unwrap_or(first)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::alias::tests::assert_proportional;
    use super::super::tests::balancer;
    use super::*;
    use crate::config::schema::Balance;

    proptest! {
        #[test]
        fn idle_backends_are_picked_in_proportion(weights in proptest::collection::vec(1_u16..=256, 1..12), seed in any::<u64>()) {
            let (balancer, alias) = (balancer(Balance::P2c, &weights), AliasTable::new(weights.iter().copied()));
            let (mut rng, mut counts) = (Prng::new(seed), vec![0; weights.len()]);
            for _ in 0..5_000 {
                counts[pick(balancer.slots(), &alias, &mut rng, &Tried::default(), 0).unwrap()] += 1;
            }
            assert_proportional(&counts, &weights);
        }

        /// The slot with a higher load per weight than every other is never picked.
        #[test]
        fn the_worst_is_never_picked(loads in proptest::collection::vec((1_u16..=8, 0_u32..20, any::<bool>()), 2..9), seed in any::<u64>()) {
            let weights: Vec<_> = loads.iter().map(|(weight, ..)| *weight).collect();
            let (balancer, alias) = (balancer(Balance::P2c, &weights), AliasTable::new(weights.iter().copied()));
            let mut guards = Vec::new();
            for (slot, (_, count, faulty)) in balancer.slots().iter().zip(&loads) {
                guards.extend((0..*count).map(|_| slot.state.raise()));
                if *faulty {
                    slot.state.load().fault(Duration::ZERO, 1_000);
                }
            }
            let carried: Vec<f64> = loads.iter().map(|(w, n, faulty)| f64::from(n + if *faulty { 5 } else { 0 }) / f64::from(*w)).collect();
            let mut rng = Prng::new(seed);
            for _ in 0..50 {
                let index = pick(balancer.slots(), &alias, &mut rng, &Tried::default(), 1_000).unwrap();
                let better_than_none = (0..carried.len()).all(|other| other == index || carried[other] < carried[index]);
                prop_assert!(!better_than_none, "{} of {:?}", index, carried);
            }
        }
    }

    #[test]
    fn load_stays_close_together() {
        let (balancer, alias) = (balancer(Balance::P2c, &[1; 100]), AliasTable::new([1; 100].into_iter()));
        let mut rng = Prng::new(3);
        let guards: Vec<_> = (0..10_000)
            .map(|_| {
                balancer.slots()[pick(balancer.slots(), &alias, &mut rng, &Tried::default(), 0).unwrap()].state.raise()
            })
            .collect();
        let counts: Vec<_> = balancer.slots().iter().map(|slot| slot.state.in_flight()).collect();
        // Theory: the maximum exceeds the mean of 100 by log2(ln 100) + O(1); a single random choice exceeds it by 25
        // and more.
        assert!(counts.iter().max() <= Some(&106), "{counts:?}");
        drop(guards);
    }
}
