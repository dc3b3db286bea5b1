//! Slow start: the effective part of the weight of a backend that came up later than its peers.
//!
//! Pure. The part starts at a tenth and grows linearly, in steps of a twentieth. It is relative to the peer that has
//! been up longest, which always has its full weight. So if all come up together, as at the start of the proxy, none is
//! reduced.

/// Factor of a full weight; factors are in parts of this.
pub const FULL_FACTOR: u16 = 20;

/// Initial part of the weight.
const START_SHARE: f64 = 0.1;

/// Number of rebuilds over a whole `slow_start` while a weight grows.
pub const STEP_COUNT: u32 = 20;

/// The factor of each backend, 1 to `FULL_FACTOR`. `since_ms`: when each backend came up; 0 means `now_ms`.
pub fn factors(since_ms: &[u64], now_ms: u64, slow_start_ms: u64) -> Box<[u16]> {
    let grown = |since: &u64| {
        // A clock that was set back must not make a backend older.
        let age = if *since == 0 { 0 } else { now_ms.saturating_sub(*since) };
        (START_SHARE + (1.0 - START_SHARE) * age as f64 / slow_start_ms.max(1) as f64).min(1.0)
    };
    let eldest = since_ms.iter().map(grown).fold(START_SHARE, f64::max);
    // The subtraction of a hundredth of a step removes rounding errors of the millisecond arithmetic.
    let part = |since: &u64| (grown(since) / eldest * f64::from(FULL_FACTOR) - 0.01).ceil().max(1.0) as u16;
    since_ms.iter().map(|since| if slow_start_ms == 0 { FULL_FACTOR } else { part(since).min(FULL_FACTOR) }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_later_backend_grows_linearly_from_a_tenth() {
        let at = |age: u64| factors(&[1_000, 100_000], 100_000 + age, 30_000);
        let seen: Vec<_> = [0, 1_000, 3_000, 7_500, 15_000, 29_000, 30_000].into_iter().map(|age| at(age)[1]).collect();
        assert_eq!(seen, [2, 3, 4, 7, 11, 20, 20]);
        assert!((0..40_000).all(|age| at(age)[0] == FULL_FACTOR));
    }

    #[test]
    fn backends_that_start_together_have_full_weight() {
        assert_eq!(*factors(&[100_000; 3], 100_000, 30_000), [FULL_FACTOR; 3]);
        assert_eq!(*factors(&[0; 3], 100_000, 30_000), [FULL_FACTOR; 3]);
        // Five seconds apart, soon after the start: the factor is the ratio of their own progress.
        assert_eq!(*factors(&[100_000, 105_000], 110_000, 30_000), [FULL_FACTOR, 13]);
        assert_eq!(*factors(&[1, 100_000], 100_000, 0), [FULL_FACTOR; 2]);
    }

    proptest! {
        #[test]
        fn factors_never_decrease_and_the_oldest_is_full(since in proptest::collection::vec(1_u64..100_000, 1..9), wait in 0_u64..60_000) {
            let now = 100_000;
            let (first, later) = (factors(&since, now, 30_000), factors(&since, now + wait, 30_000));
            let eldest = since.iter().zip(&first).min().map(|(_, part)| *part);
            prop_assert_eq!(eldest, Some(FULL_FACTOR));
            prop_assert!(first.iter().zip(&later).all(|(before, after)| after >= before && (1..=FULL_FACTOR).contains(before)));
            prop_assert!(factors(&since, now + 30_000, 30_000).iter().all(|part| *part == FULL_FACTOR));
        }
    }
}
