//! Computes the time until the next DNS lookup.
//!
//! Pure: the random number is an argument.

use std::time::Duration;

use crate::config::schema::Discover;

/// Maximum jitter as a share of the wait, so that many processes do not query at the same time.
const JITTER_RATIO: f64 = 0.1;

/// Maximum wait after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// The wait: the TTL clamped to `min_ttl` and `max_ttl`. After failures it is 1 s, 2 s, 4 s, 8 s, then 10 s, but at
/// most the clamped TTL. Jitter is added. `random`: a random number from 0 to 1.
pub fn wait(settings: &Discover, ttl: Option<Duration>, failures: u32, random: f64) -> Duration {
    let (least, most) = (settings.min_ttl.get(), settings.max_ttl.get());
    let by_ttl = ttl.unwrap_or(most).clamp(least, most.max(least));
    let wait = if failures == 0 { by_ttl } else { backoff(failures).min(by_ttl).max(least.min(MAX_BACKOFF)) };
    wait.mul_f64(1.0 + JITTER_RATIO * random.clamp(0.0, 1.0))
}

fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(4)).min(MAX_BACKOFF)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(yaml: &str) -> Discover {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn secs(settings: &Discover, ttl: Option<u64>, failures: u32) -> f64 {
        wait(settings, ttl.map(Duration::from_secs), failures, 0.0).as_secs_f64()
    }

    #[test]
    fn the_ttl_counts_between_floor_and_ceiling() {
        let defaults = Discover::default();
        assert_eq!([0, 1, 30, 60, 3600].map(|ttl| secs(&defaults, Some(ttl), 0)), [1.0, 1.0, 30.0, 60.0, 60.0]);
        let narrow = settings("{min_ttl: 5s, max_ttl: 10s}");
        assert_eq!([0, 7, 30].map(|ttl| secs(&narrow, Some(ttl), 0)), [5.0, 7.0, 10.0]);
    }

    #[test]
    fn failures_are_retried_before_a_long_ttl_ends() {
        let defaults = Discover::default();
        let waits: Vec<_> = (1..8).map(|failures| secs(&defaults, None, failures)).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]);
        assert_eq!(secs(&defaults, Some(3), 7), 3.0, "a part of the answer came, and with it a TTL");
        assert_eq!(secs(&settings("{min_ttl: 5s}"), None, 1), 5.0, "min_ttl applies");
        assert_eq!(
            secs(&settings("{min_ttl: 1h, max_ttl: 2h}"), None, 1),
            10.0,
            "min_ttl is limited to 10 s after a failure"
        );
        assert_eq!(secs(&settings("{min_ttl: 200ms, max_ttl: 500ms}"), None, 5), 0.5, "max_ttl applies");
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_bounds(
            ttl in proptest::option::of(0u64..100_000), failures in 0u32.., random in -1.0f64..2.0,
            least in 100u64..90_000, more in 0u64..90_000,
        ) {
            let settings = settings(&format!("{{min_ttl: {least}ms, max_ttl: {}ms}}", least + more));
            let wait = wait(&settings, ttl.map(Duration::from_secs), failures, random);
            prop_assert!(wait >= Duration::from_millis(100));
            prop_assert!(wait <= settings.max_ttl.get().mul_f64(1.0 + JITTER_RATIO + 1e-9));
        }
    }
}
