//! Dry run of a balancer for `explain`: the next pick and the scores.
//!
//! It moves no cursor and raises no count. The answer can be outdated by the next request.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Algorithm, Balancer, Slot, Tried, consistent_hash, least_connections, p2c, peak_ewma, round_robin, weighted,
};

/// The predicted pick and the scores of a balancer.
#[derive(Debug, Clone, PartialEq)]
pub struct DryRun {
    /// The slot that would be picked; `None` if there is none, or if a random number decides.
    pub next: Option<usize>,
    /// The score of each slot, lowest first; `None` if the algorithm has no scores.
    pub scores: Vec<Option<f64>>,
}

impl Balancer {
    /// The pick and the scores for the next request if nothing changes before it. `key`: as for a pick.
    pub fn preview(&self, now_ms: u64, key: Option<u64>) -> DryRun {
        let (slots, tried) = (self.slots(), Tried::default());
        // A copy, so that the real cursor does not move.
        let cursor = AtomicU64::new(self.cursor.load(Ordering::Relaxed));
        let next = match &self.algorithm {
            Algorithm::RoundRobin => round_robin::pick(slots, &cursor, &tried),
            Algorithm::Weighted(sequence) => weighted::pick(slots, sequence, &cursor, &tried),
            Algorithm::LeastConnections => least_connections::best(slots, &tried, now_ms),
            Algorithm::ConsistentHash(table) => match key {
                Some(key) => consistent_hash::preview(slots, table, key, &tried),
                None => only(slots),
            },
            Algorithm::P2c(_) | Algorithm::PeakEwma(_) | Algorithm::Random(_) => only(slots),
        };
        DryRun { next, scores: slots.iter().map(|slot| self.score(slot, now_ms)).collect() }
    }

    fn score(&self, slot: &Slot, now_ms: u64) -> Option<f64> {
        match &self.algorithm {
            Algorithm::LeastConnections => Some(least_connections::score(slot, now_ms)),
            Algorithm::P2c(_) => Some(p2c::score(slot, now_ms)),
            Algorithm::PeakEwma(_) => Some(peak_ewma::cost(slot, now_ms).into()),
            Algorithm::RoundRobin | Algorithm::Weighted(_) | Algorithm::Random(_) | Algorithm::ConsistentHash(_) => {
                None
            }
        }
    }
}

/// The only slot that is not full, if there is exactly one. Then no random number or key decides.
fn only(slots: &[Slot]) -> Option<usize> {
    let mut remaining = (0..slots.len()).filter(|index| !slots[*index].state.is_full());
    remaining.next().filter(|_| remaining.next().is_none())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::tests::balancer;
    use super::*;
    use crate::config::schema::Balance;

    #[test]
    fn a_dry_run_predicts_the_next_pick_and_changes_nothing() {
        for kind in [Balance::RoundRobin, Balance::WeightedRoundRobin, Balance::LeastConnections] {
            let balancer = balancer(kind, &[1, 3, 2]);
            let mut picks = Vec::new();
            for _ in 0..40 {
                let dry_run = balancer.preview(0, None);
                assert_eq!(balancer.preview(0, None), dry_run, "{kind:?}");
                let picked = balancer.pick(&Tried::default(), 0, None).unwrap();
                assert_eq!(dry_run.next, Some(picked.index), "{kind:?}");
                picks.push(picked);
            }
            drop(picks);
            assert!(balancer.slots().iter().all(|slot| slot.state.in_flight() == 0));
        }
        assert_eq!(balancer(Balance::RoundRobin, &[]).preview(0, None), DryRun { next: None, scores: vec![] });
    }

    #[test]
    fn scores_are_load_over_weight() {
        let balancer = balancer(Balance::LeastConnections, &[1, 2]);
        let _busy = balancer.slots()[1].state.raise();
        assert_eq!(balancer.preview(0, None).scores, [Some(1.0), Some(1.0)]);
        // A fault counts as five more requests.
        balancer.slots()[0].state.load().fault(std::time::Duration::ZERO, 1_000);
        assert_eq!(balancer.preview(1_000, None), DryRun { next: Some(1), scores: vec![Some(6.0), Some(1.0)] });
    }

    #[test]
    fn the_key_of_a_request_predicts_its_backend() {
        let balancer = balancer(Balance::ConsistentHash, &[1, 3, 2]);
        for key in (0..64).map(|n: u64| super::super::rng::mix(n)) {
            let predicted = balancer.preview(0, Some(key)).next;
            assert_eq!(balancer.pick(&Tried::default(), 0, Some(key)).map(|picked| picked.index), predicted);
        }
    }

    #[test]
    fn a_random_choice_is_predicted_only_if_one_backend_is_left() {
        for (kind, scores) in [
            (Balance::P2c, [Some(1.0), Some(0.0)]),
            (Balance::Random, [None, None]),
            (Balance::ConsistentHash, [None, None]),
        ] {
            let balancer = balancer(kind, &[1, 2]);
            let _busy = balancer.slots()[0].state.raise();
            assert_eq!(balancer.preview(0, None), DryRun { next: None, scores: scores.into() }, "{kind:?}");
            balancer.slots()[0].state.set_limit(1, None);
            assert_eq!(balancer.preview(0, None).next, Some(1), "{kind:?}");
        }
    }
}
