//! Load signals of a backend: a failure penalty, a peak EWMA of latency, and the time since which it serves. Requests
//! in flight are in `in_flight`.
//!
//! This module makes no decisions: balancers pick, outlier detection ejects. Each signal is one atomic word. Callers
//! pass `now` of a monotonic clock. Reads change nothing, and there are no locks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Penalty of one fault or 5xx response, in requests in flight.
///
/// A backend that fails immediately has nothing in flight, so it would attract all traffic. `least_connections` picks
/// it when its penalty has decayed to the `n` requests that the others have in flight. So it gets about `n · ln 2 /
/// (FAULT_PENALTY · half-life)` requests a second; another backend gets `n / latency`. That is less than its share
/// while the others answer within `FAULT_PENALTY · half-life / ln 2` = 7.2 s, at any load. Among idle backends, one
/// fault keeps a backend out for 3.3 s.
pub const FAULT_PENALTY: u32 = 5;

/// Half-life of the penalty, in milliseconds.
pub const HALF_LIFE_MS: u64 = 1_000;

/// Time units per millisecond. Whole milliseconds are too coarse to add one fault to a penalty of seven thousand.
const FINE: u64 = 1_024;

/// Maximum penalty as a power of two: about a million requests, which decay in 21 s.
const HIGHEST: f64 = 20.0;

/// Load signals of a backend, other than its requests in flight.
#[derive(Debug, Default)]
pub struct LoadEstimate {
    /// Time at which the penalty has decayed to one request, in milliseconds / `FINE`; 0: no penalty. The penalty is
    /// `2^((at - now) / half-life)`, so one number holds both level and time.
    penalty: AtomicU64,
    /// High half: the mean in microseconds (f32). Low half: the low 32 bits of the time of the last change, in
    /// milliseconds. 0: no observation yet.
    latency: AtomicU64,
    /// Time constant of the mean in milliseconds; 0: no balancer reads the mean, so it is not maintained.
    decay_ms: AtomicU32,
    serving_since_ms: AtomicU64,
}

impl LoadEstimate {
    /// The current penalty, in requests in flight, rounded.
    pub fn penalty(&self, now_ms: u64) -> u32 {
        match self.penalty.load(Ordering::Relaxed) {
            0 => 0,
            at => (level(at, now_ms) + 0.5) as u32,
        }
    }

    /// Records a fault or a 5xx response that took this long. It raises the penalty, and the mean latency if `took` is
    /// longer. It never lowers the mean, because a fast failure does not show how fast the backend serves.
    pub fn fault(&self, took: Duration, now_ms: u64) {
        let raised = |at| {
            let level = if at == 0 { 0.0 } else { level(at, now_ms) };
            let log = (level + f64::from(FAULT_PENALTY)).log2().min(HIGHEST);
            Some(now_ms * FINE + (log * (HALF_LIFE_MS * FINE) as f64) as u64)
        };
        let _ = self.penalty.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised);
        self.change(now_ms, |mean, _| mean.map(|mean| mean.max(micros(took))));
    }

    /// Observes the time to a response header. Does nothing if no decay is set.
    pub fn observe(&self, took: Duration, now_ms: u64) {
        self.change(now_ms, |mean, factor| {
            let (took, decayed) = (micros(took), mean.unwrap_or(0.0) * factor);
            Some(if took > decayed { took } else { decayed + took * (1.0 - factor) })
        });
    }

    /// The peak EWMA of latency in microseconds, at least 1; `None` before the first observation. It decays without
    /// observations, so a backend that was slow once is tried again.
    pub fn latency(&self, now_ms: u64) -> Option<f32> {
        let (mean, factor) =
            unpack(self.latency.load(Ordering::Relaxed), now_ms, self.decay_ms.load(Ordering::Relaxed))?;
        Some((mean * factor).max(1.0))
    }

    /// Sets the time constant of the mean. Zero turns the mean off.
    pub fn set_decay(&self, decay: Duration) {
        self.decay_ms.store(u32::try_from(decay.as_millis()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Time in milliseconds since which the backend is up and can be picked; 0: it is not.
    pub fn serving_since_ms(&self) -> u64 {
        self.serving_since_ms.load(Ordering::Relaxed)
    }

    /// Sets whether the backend is up and can be picked. Only the first of several calls with `true` sets the time.
    pub fn set_serving(&self, serving: bool, now_ms: u64) {
        if !serving {
            self.serving_since_ms.store(0, Ordering::Relaxed);
        } else if self.serving_since_ms() == 0 {
            self.serving_since_ms.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    /// Updates the mean. `to` gets the last mean and the factor by which it has decayed since.
    fn change(&self, now_ms: u64, to: impl Fn(Option<f32>, f32) -> Option<f32>) {
        let decay = self.decay_ms.load(Ordering::Relaxed);
        if decay == 0 {
            return;
        }
        let changed = |packed| {
            let before = unpack(packed, now_ms, decay);
            to(before.map(|(mean, _)| mean), before.map_or(0.0, |(_, factor)| factor)).map(|mean| pack(mean, now_ms))
        };
        let _ = self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

/// `2^((at - now) / half-life)`. A level below one half is zero. A level above the maximum is zero too: only a clock
/// that was set back can produce it.
fn level(at: u64, now_ms: u64) -> f64 {
    let (now, half_life) = (now_ms * FINE, HALF_LIFE_MS * FINE);
    if at + half_life <= now {
        return 0.0;
    }
    let ahead = at as i64 - now as i64;
    let log = ahead as f64 / half_life as f64;
    if log > HIGHEST + 1.0 { 0.0 } else { log.exp2() }
}

fn micros(took: Duration) -> f32 {
    (took.as_secs_f32() * 1e6).max(1.0)
}

fn pack(mean: f32, now_ms: u64) -> u64 {
    u64::from(mean.to_bits()) << 32 | (now_ms & 0xFFFF_FFFF)
}

/// The mean and its decay factor, `e^(-age / decay)`. The age is valid up to about 24 days; then it reads as zero.
fn unpack(packed: u64, now_ms: u64, decay_ms: u32) -> Option<(f32, f32)> {
    if packed == 0 {
        return None;
    }
    // A negative age comes from the later clock of another thread; it counts as zero.
    let age = (now_ms as u32).wrapping_sub(packed as u32).cast_signed().max(0);
    Some((f32::from_bits((packed >> 32) as u32), (-(age as f32) / decay_ms.max(1) as f32).exp()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    proptest! {
        /// Compares with the plain sum of the decayed faults.
        #[test]
        fn a_penalty_is_the_sum_of_faults_that_halve(gaps in proptest::collection::vec(0_u64..3_000, 1..60),
                                                     wait in 0_u64..10_000) {
            let (load, mut now, mut at) = (LoadEstimate::default(), 1_700_000_000_000, Vec::new());
            for gap in gaps {
                now += gap;
                load.fault(Duration::ZERO, now);
                at.push(now);
            }
            now += wait;
            let decayed = |at: &u64| f64::from(FAULT_PENALTY) * (-((now - at) as f64) / HALF_LIFE_MS as f64).exp2();
            let sum: f64 = at.iter().map(decayed).sum();
            // The penalty is rounded to half a request.
            prop_assert!((f64::from(load.penalty(now)) - sum).abs() <= 0.51 + sum * 0.001, "{} {}", load.penalty(now), sum);
            prop_assert_eq!(load.penalty(now + 30_000), 0);
        }

        /// The mean is never above the highest observation and never below the last one.
        #[test]
        fn a_mean_lies_within_what_was_observed(took in proptest::collection::vec((1_u64..1_000_000, 0_u64..20_000), 1..60)) {
            let (load, mut now) = (LoadEstimate::default(), 1_700_000_000_000);
            load.set_decay(DECAY);
            for (micros, gap) in &took {
                now += gap;
                load.observe(Duration::from_micros(*micros), now);
                prop_assert!(f64::from(load.latency(now).unwrap_or_default()) >= *micros as f64 * 0.999);
            }
            let highest = took.iter().map(|(micros, _)| *micros).max().unwrap_or_default();
            prop_assert!(f64::from(load.latency(now).unwrap_or_default()) <= highest as f64 * 1.001);
        }
    }

    #[test]
    fn a_penalty_is_bounded_and_survives_clocks_that_are_set_back() {
        let load = LoadEstimate::default();
        assert_eq!(load.penalty(0), 0);
        for _ in 0..300_000 {
            load.fault(Duration::ZERO, 50_000_000);
        }
        assert!((1_000_000..=1_048_576).contains(&load.penalty(50_000_000)), "{}", load.penalty(50_000_000));
        assert_eq!(load.penalty(50_020_900), 1);
        assert_eq!((load.penalty(50_022_000), load.penalty(40_000_000)), (0, 0));
    }

    #[test]
    fn a_mean_jumps_up_and_comes_down_slowly() {
        let load = LoadEstimate::default();
        load.observe(Duration::from_millis(5), 0);
        assert_eq!(load.latency(0), None, "no balancer reads it");
        load.set_decay(DECAY);
        assert_eq!(load.latency(0), None);
        load.observe(Duration::from_millis(5), 1_000);
        load.observe(Duration::from_millis(50), 1_000);
        assert_eq!(load.latency(1_000), Some(50_000.0));
        let after = |ms: u64| load.latency(1_000 + ms).unwrap_or_default();
        assert!((after(10_000) - 50_000.0 / std::f32::consts::E).abs() < 1.0, "{}", after(10_000));
        load.observe(Duration::from_millis(5), 11_000);
        assert!((21_000.0..22_000.0).contains(&after(10_000)), "{}", after(10_000));
    }

    #[test]
    fn a_fast_failure_does_not_lower_the_latency() {
        let load = LoadEstimate::default();
        load.set_decay(DECAY);
        load.fault(Duration::from_micros(100), 0);
        assert_eq!(load.latency(0), None, "it has never answered");
        load.observe(Duration::from_millis(5), 1_000);
        load.fault(Duration::from_micros(100), 9_000);
        assert_eq!(load.latency(9_000), Some(5_000.0));
        load.fault(Duration::from_millis(80), 9_000);
        assert_eq!(load.latency(9_000), Some(80_000.0));
    }

    #[test]
    fn serving_time_is_that_of_the_first_call() {
        let load = LoadEstimate::default();
        load.set_serving(true, 5);
        load.set_serving(true, 9);
        assert_eq!(load.serving_since_ms(), 5);
        load.set_serving(false, 9);
        load.set_serving(true, 11);
        assert_eq!(load.serving_since_ms(), 11);
    }
}
