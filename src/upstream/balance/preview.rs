//! Who would be picked next, and by which score, for operators' questions. It moves no cursor and raises no count:
//! what it says can be outrun by the next request.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Balancer, Tried, least_connections, round_robin, weighted};
use crate::config::schema::Balance;

/// What a balancer would do with the next request.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The slot that would be picked; nothing where there is none, or where chance decides.
    pub next: Option<usize>,
    /// Each slot's score, the lowest goes first; nothing where the algorithm has no scores.
    pub scores: Vec<Option<f64>>,
}

impl Balancer {
    /// What it would do with the next request if nothing changed before that.
    pub fn preview(&self) -> Preview {
        let (slots, tried) = (self.slots(), Tried::default());
        // A copy: the real one stays where it is.
        let cursor = AtomicU64::new(self.cursor.load(Ordering::Relaxed));
        let next = match self.kind {
            Balance::RoundRobin => round_robin::pick(slots, &cursor, &tried),
            Balance::WeightedRoundRobin => weighted::pick(slots, &self.sequence, &cursor, &tried),
            Balance::LeastConnections => least_connections::best(slots, &tried),
        };
        let score = |slot| (self.kind == Balance::LeastConnections).then(|| least_connections::score(slot));
        Preview { next, scores: slots.iter().map(score).collect() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::tests::balancer;
    use super::*;

    #[test]
    fn says_what_the_next_pick_is_and_leaves_no_trace() {
        for kind in [Balance::RoundRobin, Balance::WeightedRoundRobin, Balance::LeastConnections] {
            let balancer = balancer(kind, &[1, 3, 2]);
            let mut held = Vec::new();
            for _ in 0..40 {
                let said = balancer.preview();
                assert_eq!(balancer.preview(), said, "{kind:?}");
                let picked = balancer.pick(&Tried::default(), 0).unwrap();
                assert_eq!(said.next, Some(picked.index), "{kind:?}");
                held.push(picked);
            }
            drop(held);
            assert!(balancer.slots().iter().all(|slot| slot.vitals.in_flight() == 0));
        }
        assert_eq!(balancer(Balance::RoundRobin, &[]).preview(), Preview { next: None, scores: vec![] });
    }

    #[test]
    fn scores_are_load_over_weight() {
        let balancer = balancer(Balance::LeastConnections, &[1, 2]);
        let _busy = balancer.slots()[1].vitals.raise();
        assert_eq!(balancer.preview().scores, [Some(1.0), Some(1.0)]);
    }
}
