//! Round robin: equal turns in order, by one atomic add.
//!
//! It never considers weights: a configuration with weights must use `weighted_round_robin`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Slot, Tried};

/// The slot at the cursor, or the next after it that is not excluded. It walks the slots at most once.
pub fn pick(slots: &[Slot], cursor: &AtomicU64, tried: &Tried) -> Option<usize> {
    let count = slots.len();
    let turn = cursor.fetch_add(1, Ordering::Relaxed);
    let start = (turn % u64::try_from(count).ok().filter(|n| *n > 0)?) as usize;
    (start..count).chain(0..start).find(|index| !tried.excludes(&slots[*index]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::tests::balancer;
    use super::*;
    use crate::config::schema::Balance;

    #[test]
    fn turns_are_equal_and_in_order() {
        let balancer = balancer(Balance::RoundRobin, &[1, 1, 1]);
        let picks: Vec<_> = (0..7).map(|_| balancer.pick(&Tried::default(), 0, None).unwrap().index).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn the_turn_of_a_tried_backend_goes_to_the_next() {
        let balancer = balancer(Balance::RoundRobin, &[1, 1, 1]);
        let mut tried = Tried::default();
        tried.add(&balancer.slots()[0].state);
        let picks: Vec<_> = (0..4).map(|_| balancer.pick(&tried, 0, None).unwrap().index).collect();
        assert_eq!(picks, [1, 1, 2, 1]);
    }

    #[test]
    fn threads_share_the_turns() {
        let balancer = balancer(Balance::RoundRobin, &[1, 1, 1, 1]);
        let counts = [const { AtomicU64::new(0) }; 4];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let index = balancer.pick(&Tried::default(), 0, None).unwrap().index;
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1_000));
    }
}
