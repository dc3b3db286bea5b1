//! Power of two choices by latency: draws two backends by weight and picks the one with the lower expected latency.
//!
//! A backend without a measured latency has cost 0 while it is idle, so it is picked as soon as it is drawn. The cost
//! of any other backend is its peak EWMA latency times its load, over its weight. The mean is in the state of the
//! backend (`backend::load_estimate`). Twitter's Finagle (`p2c/PeakEwma`) and Linkerd use the same balancer.

use super::alias::AliasTable;
use super::least_connections::load;
use super::rng::Prng;
use super::{Slot, Tried, p2c};

/// Assumed latency, in microseconds, of a backend that has requests in flight and has not answered yet. One second is
/// more than most known latencies, so a new backend gets a second request only after it answered the first.
const UNKNOWN: f32 = 1e6;

/// Of two slots that are not excluded, the one with the lower `latency · (in flight + penalty + 1) / weight`.
pub fn pick(slots: &[Slot], alias: &AliasTable, rng: &mut Prng, tried: &Tried, now_ms: u64) -> Option<usize> {
    let (first, second) = p2c::two(slots, alias, rng, tried)?;
    let better = cost(&slots[second], now_ms) < cost(&slots[first], now_ms);
    Some(if better { second } else { first })
}

/// The cost that is compared; the lower wins.
pub(super) fn cost(slot: &Slot, now_ms: u64) -> f32 {
    let load = load(&slot.state, now_ms).1;
    let latency = match slot.state.load().latency(now_ms) {
        Some(latency) => latency,
        None if load == 1 => 0.0,
        None => UNKNOWN,
    };
    latency * load as f32 / f32::from(slot.weight)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::super::tests::balancer;
    use super::*;
    use crate::config::schema::Balance;

    const NOW: u64 = 1_700_000_000_000;

    fn with_latencies(weights: &[u16], millis: &[u64]) -> super::super::Balancer {
        let balancer = balancer(Balance::PeakEwma, weights);
        for (slot, millis) in balancer.slots().iter().zip(millis) {
            slot.state.load().set_decay(Duration::from_secs(10));
            if *millis > 0 {
                slot.state.load().observe(Duration::from_millis(*millis), NOW);
            }
        }
        balancer
    }

    /// Simulates 64 concurrent requests: the share of picks of each backend, where each has a fixed response time.
    fn closed_loop(balancer: &super::super::Balancer, millis: &[u64]) -> Vec<f64> {
        let mut under_way = std::collections::BinaryHeap::new();
        let (mut guards, mut counts, mut now) = (std::collections::HashMap::new(), vec![0.0; millis.len()], NOW);
        for n in 0_u64..20_000 {
            if n >= 64 {
                let std::cmp::Reverse((end, _, index, started)) = under_way.pop().unwrap();
                now = end;
                let slot: &Slot = &balancer.slots()[index];
                slot.state.load().observe(Duration::from_millis(end - started), end);
                guards.remove(&(started, index)).map(|mut all: Vec<_>| {
                    drop(all.pop());
                    guards.insert((started, index), all)
                });
            }
            let picked = balancer.pick(&Tried::default(), now, None).unwrap();
            counts[picked.index] += 1.0;
            guards.entry((now, picked.index)).or_insert_with(Vec::new).push(picked.guard);
            under_way.push(std::cmp::Reverse((now + millis[picked.index], n, picked.index, now)));
        }
        counts.iter().map(|count| count / 20_000.0).collect()
    }

    #[test]
    fn a_backend_ten_times_slower_gets_less_than_a_twentieth() {
        let millis = [5, 5, 5, 50];
        let shares = closed_loop(&with_latencies(&[1; 4], &[0; 4]), &millis);
        assert!(shares[3] < 0.05, "{shares:?}");
        assert!(shares[..3].iter().all(|share| (0.3..0.37).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_new_backend_gets_one_request_until_it_has_answered() {
        let balancer = with_latencies(&[1, 1], &[5, 0]);
        let pick = || balancer.pick(&Tried::default(), NOW, None).unwrap();
        let first = pick();
        assert_eq!(first.index, 1);
        let more: Vec<_> = (0..20).map(|_| pick()).collect();
        assert!(more.iter().all(|picked| picked.index == 0));
        balancer.slots()[1].state.load().observe(Duration::from_millis(5), NOW);
        assert_eq!(pick().index, 1);
    }

    #[test]
    fn a_backend_that_only_fails_is_not_preferred() {
        let balancer = with_latencies(&[1, 1], &[5, 0]);
        balancer.slots()[1].state.load().fault(Duration::from_micros(100), NOW);
        assert!((0..20).all(|_| balancer.pick(&Tried::default(), NOW, None).unwrap().index == 0));
    }

    #[test]
    fn weights_count() {
        let balancer = with_latencies(&[1, 3], &[5, 5]);
        let picks: Vec<_> = (0..400).map(|_| balancer.pick(&Tried::default(), NOW, None).unwrap()).collect();
        let heavier = picks.iter().filter(|picked| picked.index == 1).count();
        assert!((295..=305).contains(&heavier), "{heavier}");
    }
}
