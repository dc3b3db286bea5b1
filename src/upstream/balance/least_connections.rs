//! Least connections: the fewest requests in flight per weight, by a scan of atomics that all threads share.
//!
//! The count is raised by compare-exchange on the value that the score used. So two threads cannot both pick the same
//! idle backend; the loser scans again. It is lock-free: a lost race means that another thread picked or an attempt
//! ended. A tie goes to the backend that was picked least recently, so tied backends get equal shares. A scan that
//! starts after the last pick is not fair. A backend that follows a busy one would also get the picks that the busy one
//! misses.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Slot, Tried};
use crate::backend::BackendState;
use crate::backend::InFlight;

/// The slot with the lowest `(in flight + penalty + 1) / weight` that is not excluded, with its count raised.
pub fn pick(slots: &[Slot], cursor: &AtomicU64, tried: &Tried, now_ms: u64) -> Option<(usize, InFlight)> {
    loop {
        let best = scan(slots, tried, now_ms)?;
        let slot = &slots[best.index];
        if let Some(guard) = slot.state.try_raise(best.seen) {
            // Starts at 1: 0 means never picked.
            slot.last_picked.store(cursor.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            return Some((best.index, guard));
        }
        std::hint::spin_loop();
    }
}

/// The slot that would be picked; raises no count.
pub(super) fn best(slots: &[Slot], tried: &Tried, now_ms: u64) -> Option<usize> {
    scan(slots, tried, now_ms).map(|best| best.index)
}

/// The score that is compared; the lowest wins.
pub(super) fn score(slot: &Slot, now_ms: u64) -> f64 {
    let score = ScoredSlot::of(0, slot, now_ms);
    score.load as f64 / score.weight as f64
}

/// A slot with the values that the scan read.
#[derive(Debug, Clone, Copy)]
struct ScoredSlot {
    index: usize,
    /// The count in flight that `load` was computed from.
    seen: u32,
    load: u64,
    weight: u64,
    last_picked: u64,
}

impl ScoredSlot {
    fn of(index: usize, slot: &Slot, now_ms: u64) -> Self {
        let (seen, load) = load(&slot.state, now_ms);
        Self { index, seen, load, weight: slot.weight.into(), last_picked: slot.last_picked.load(Ordering::Relaxed) }
    }

    /// Compares by cross multiplication: no division and no rounding. A load is below 2^33, a weight at most 2^16.
    fn beats(&self, other: &Self) -> bool {
        let (mine, others) = (self.load * other.weight, other.load * self.weight);
        mine < others || (mine == others && self.last_picked < other.last_picked)
    }
}

/// The count in flight, and the load: in flight plus failure penalty plus one request.
pub fn load(backend_state: &BackendState, now_ms: u64) -> (u32, u64) {
    let seen = backend_state.in_flight();
    (seen, u64::from(seen) + u64::from(backend_state.load().penalty(now_ms)) + 1)
}

fn scan(slots: &[Slot], tried: &Tried, now_ms: u64) -> Option<ScoredSlot> {
    let candidates = slots.iter().enumerate().filter(|(_, slot)| !tried.excludes(slot));
    candidates
        .map(|(index, slot)| ScoredSlot::of(index, slot, now_ms))
        .reduce(|best, next| if next.beats(&best) { next } else { best })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::Balancer;
    use super::super::tests::balancer;
    use super::*;
    use crate::config::schema::Balance;

    const NOW: u64 = 1_700_000_000_000;

    fn pick_from(balancer: &Balancer) -> (usize, InFlight) {
        let picked = balancer.pick(&Tried::default(), NOW, None).unwrap();
        (picked.index, picked.guard)
    }

    proptest! {
        #[test]
        fn the_pick_has_the_lowest_score(weights in proptest::collection::vec(1_u16..=256, 1..20),
                        events in proptest::collection::vec((0_u8..5, any::<usize>()), 1..300)) {
            let balancer = balancer(Balance::LeastConnections, &weights);
            let mut guards = Vec::new();
            for (what, which) in events {
                match what {
                    0 | 1 if !guards.is_empty() => drop(guards.swap_remove(which % guards.len())),
                    2 => balancer.slots()[which % weights.len()].state.load().fault(Duration::ZERO, NOW),
                    _ => {}
                }
                let carried = |s: &Slot| u64::from(s.state.in_flight() + s.state.load().penalty(NOW)) + 1;
                let before: Vec<u64> = balancer.slots().iter().map(carried).collect();
                let (index, guard) = pick_from(&balancer);
                for other in 0..weights.len() {
                    let mine = before[index] * u64::from(weights[other]);
                    prop_assert!(mine <= before[other] * u64::from(weights[index]), "{} beats {}", other, index);
                }
                guards.push(guard);
            }
            drop(guards);
            prop_assert!(balancer.slots().iter().all(|slot| slot.state.in_flight() == 0));
        }
    }

    #[test]
    fn ties_rotate() {
        let balancer = balancer(Balance::LeastConnections, &[1, 1, 1]);
        let picks: Vec<_> = (0..6).map(|_| pick_from(&balancer).0).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_backend_that_fails_immediately_gets_less_than_its_share() {
        // Three backends answer in 5 ms, one fails immediately: 64 concurrent requests for ten seconds.
        let balancer = balancer(Balance::LeastConnections, &[1; 4]);
        let (mut under_way, mut counts) = (std::collections::VecDeque::new(), [0_u32; 4]);
        for now in NOW..NOW + 10_000 {
            while under_way.front().is_some_and(|(end, _)| *end <= now) {
                drop(under_way.pop_front());
            }
            // Bounded, so that the test fails instead of looping for ever without a penalty.
            while under_way.len() < 64 && counts[0] < 100_000 {
                let picked = balancer.pick(&Tried::default(), now, None).unwrap();
                counts[picked.index] += 1;
                match picked.index {
                    0 => balancer.slots()[0].state.load().fault(Duration::ZERO, now),
                    _ => under_way.push_back((now + 5, picked.guard)),
                }
            }
        }
        assert!(counts[0] < counts.iter().sum::<u32>() / 1_000, "{counts:?}");
    }

    #[test]
    fn ties_of_a_subset_rotate_behind_a_busier_backend() {
        // C has the lowest score when idle, and ties with A and B with one request: each pair of picks is C, then a
        // tie.
        let balancer = balancer(Balance::LeastConnections, &[1, 1, 2]);
        let mut counts = [0; 3];
        for _ in 0..300 {
            let (first, guards) = pick_from(&balancer);
            assert_eq!(first, 2);
            let (second, _) = pick_from(&balancer);
            counts[second] += 1;
            drop(guards);
        }
        assert_eq!(counts, [150, 150, 0]);
        let _busy: Vec<_> = (0..5).map(|_| balancer.slots()[1].state.raise()).collect();
        let _also: Vec<_> = (0..1).map(|_| balancer.slots()[2].state.raise()).collect();
        let mut counts = [0; 3];
        for _ in 0..100 {
            counts[pick_from(&balancer).0] += 1;
        }
        assert_eq!(counts, [50, 0, 50]);
    }

    #[test]
    fn threads_do_not_herd() {
        let balancer = balancer(Balance::LeastConnections, &[1, 1, 1, 1]);
        let guards = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine: Vec<_> = (0..500).map(|_| pick_from(&balancer).1).collect();
                    guards.lock().unwrap().extend(mine);
                });
            }
        });
        // Nothing ended meanwhile. So counts differ only by the picks between a scan and its increment.
        let counts: Vec<_> = balancer.slots().iter().map(|slot| slot.state.in_flight()).collect();
        assert_eq!(counts.iter().sum::<u32>(), 2_000);
        assert!(counts.iter().all(|count| count.abs_diff(500) <= 4), "{counts:?}");
        drop(guards);
    }
}
