//! Weighted round robin: a smooth sequence of turns, computed when members change; a pick is one atomic add.
//!
//! It uses no random numbers and never bursts. A turn is one entry of the sequence. Let `W` be the sum of the weights.
//! After `k` turns, a backend of weight `w` has had more than `k·w/W - 1` and fewer than `k·w/W + 1` turns. This is the
//! chairman assignment problem (R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980).
//!
//! The `j`-th turn of a backend must be at a position from `floor((j-1)·W/w)` up to, not including, `ceil(j·W/w)`.
//! Earliest deadline first meets all these windows, because together they need exactly one turn per position (C. L.
//! Liu, J. W. Layland 1973; S. K. Baruah and others 1996, P-fairness). All arithmetic is in integers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::alias::among_rest;
use super::rng::GOLDEN;
use super::{Slot, Tried};

/// Maximum length of a sequence: 65,536 turns.
pub const MAX_SEQUENCE: u64 = 65_536;

/// Maximum number of turns that a pick walks to skip excluded backends.
const MAX_WALK: usize = 64;

/// Length of the sequence for these weights: their sum over their greatest common divisor; 0 if all are 0.
pub fn sequence_len(weights: impl IntoIterator<Item = u16>) -> u64 {
    let (sum, divisor) = weights
        .into_iter()
        .fold((0, 0), |(sum, divisor), weight| (sum + u64::from(weight), gcd(divisor, weight.into())));
    sum.checked_div(divisor).unwrap_or(0)
}

/// The turns, as indexes into the weights. It is empty if all weights are 0, or if the sequence would exceed
/// `MAX_SEQUENCE`; then turns are equal. A configuration is checked against `MAX_SEQUENCE` beforehand.
pub fn sequence(weights: &[u16]) -> Box<[u16]> {
    let total = sequence_len(weights.iter().copied());
    if total == 0 || total > MAX_SEQUENCE {
        return Box::default();
    }
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
    let mut waiting: BinaryHeap<Reverse<SequenceStep>> = BinaryHeap::with_capacity(weights.len());
    let mut ready: BinaryHeap<Reverse<(u64, SequenceStep)>> = BinaryHeap::with_capacity(weights.len());
    for (weight, index) in weights.iter().zip(0_u16..) {
        if *weight > 0 {
            waiting.push(Reverse(SequenceStep { release: 0, index, number: 1, weight: u64::from(*weight) / divisor }));
        }
    }
    let mut turns = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
    for now in 0..total {
        while waiting.peek().is_some_and(|Reverse(turn)| turn.release <= now) {
            ready.extend(waiting.pop().map(|Reverse(turn)| Reverse((turn.deadline(total), turn))));
        }
        let Some(Reverse((_, turn))) = ready.pop() else { continue };
        turns.push(turn.index);
        waiting.push(Reverse(turn.next(total)));
    }
    turns.into()
}

/// One turn of one backend, ordered by its release time: the first position that its window allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SequenceStep {
    release: u64,
    index: u16,
    number: u64,
    weight: u64,
}

impl SequenceStep {
    fn deadline(self, total: u64) -> u64 {
        (self.number * total).div_ceil(self.weight)
    }

    fn next(self, total: u64) -> Self {
        Self { release: self.number * total / self.weight, number: self.number + 1, ..self }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The slot of the next turn. If it is excluded, the next in the sequence that is not. After `MAX_WALK` steps, one of
/// the remaining slots by weight.
pub fn pick(slots: &[Slot], sequence: &[u16], cursor: &AtomicU64, tried: &Tried) -> Option<usize> {
    let length = sequence.len();
    if length == 0 {
        return super::round_robin::pick(slots, cursor, tried);
    }
    let turn = cursor.fetch_add(1, Ordering::Relaxed);
    let start = (turn % length as u64) as usize;
    let walk = (start..length).chain(0..start).take(MAX_WALK).map(|at| usize::from(sequence[at]));
    let fits = |index: &usize| slots.get(*index).is_some_and(|slot| !tried.excludes(slot));
    // The multiplication by the golden ratio spreads consecutive turns evenly.
    let remaining = || among_rest(slots, turn.wrapping_mul(GOLDEN), |index| tried.excludes(&slots[index]));
    walk.into_iter().find(fits).or_else(remaining)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::balancer;
    use super::*;
    use crate::config::schema::Balance;

    fn assert_bound(weights: &[u16], turns: impl Iterator<Item = usize>) {
        let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
        let mut counts = vec![0_i64; weights.len()];
        for (k, index) in (1..).zip(turns) {
            counts[index] += 1;
            for (count, weight) in counts.iter().zip(weights) {
                let distance = (count * total - k * i64::from(*weight)).abs();
                assert!(distance < total, "{weights:?} after {k}: {counts:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_prefix_is_within_one_turn(weights in proptest::collection::vec(0_u16..=256, 1..24)) {
            let turns = sequence(&weights);
            prop_assert_eq!(turns.len() as u64, sequence_len(weights.iter().copied()));
            // Two cycles: the bound also holds across the boundary between them.
            assert_bound(&weights, turns.iter().chain(&turns).map(|index| usize::from(*index)));
        }

        #[test]
        fn small_weights_are_within_one_turn(weights in proptest::collection::vec(1_u16..=4, 1..200)) {
            assert_bound(&weights, sequence(&weights).iter().map(|index| usize::from(*index)));
        }
    }

    #[test]
    fn five_three_one_is_smooth() {
        let counts = sequence(&[5, 3, 1]).iter().fold([0; 3], |mut counts, index| {
            counts[usize::from(*index)] += 1;
            counts
        });
        assert_eq!(counts, [5, 3, 1]);
        assert_bound(&[5, 3, 1], sequence(&[5, 3, 1]).iter().map(|index| usize::from(*index)));
        assert_eq!(*sequence(&[2, 2]), [0, 1], "divided by the common divisor");
        assert!(sequence(&[0, 0]).is_empty() && sequence(&[]).is_empty());
    }

    #[test]
    fn beyond_the_longest_sequence_turns_are_equal() {
        let mut weights = vec![255; 256];
        weights.extend([253, 3]);
        assert_eq!(sequence_len(weights.iter().copied()), 65_536);
        assert_eq!(sequence(&weights).len(), 65_536);
        weights.push(1);
        assert!(sequence(&weights).is_empty());
        assert_eq!(balancer(Balance::WeightedRoundRobin, &weights).pick(&Tried::default(), 0, None).unwrap().index, 0);
    }

    #[test]
    fn picks_follow_the_sequence() {
        let weights = [5, 3, 1];
        let balancer = balancer(Balance::WeightedRoundRobin, &weights);
        assert_bound(&weights, (0..900).map(|_| balancer.pick(&Tried::default(), 0, None).unwrap().index));
    }

    #[test]
    fn beyond_the_walk_remaining_backends_share_by_weight() {
        let balancer = balancer(Balance::WeightedRoundRobin, &[256, 1, 3]);
        let mut tried = Tried::default();
        tried.add(&balancer.slots()[0].state);
        let mut counts = [0; 3];
        for _ in 0..40_000 {
            counts[balancer.pick(&tried, 0, None).unwrap().index] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((7_000..13_000).contains(&counts[1]), "{counts:?}");
    }
}
