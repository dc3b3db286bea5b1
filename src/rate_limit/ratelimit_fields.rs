//! The values of the RateLimit-Policy and RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11).

use std::time::Duration;

use crate::config::values::LimitRate;

/// The value of RateLimit-Policy for a rate: the quota, and its window in whole seconds. A name of a limit needs no
/// escapes in a string of structured fields.
pub fn policy(name: &str, rate: LimitRate) -> String {
    let (window, period) = (whole_seconds(rate.period()), rate.period().as_nanos().max(1));
    let quota = u128::from(rate.tokens()) * u128::from(window) * 1_000_000_000 / period;
    format!("\"{name}\";q={quota};w={window}")
}

/// The value of RateLimit-Policy for a limit of requests in flight.
pub fn concurrency_policy(name: &str, most: u32) -> String {
    format!("\"{name}\";q={most};qu=\"concurrent-requests\"")
}

/// The value of RateLimit: what remains, and after how many seconds there is more.
pub fn state(name: &str, remaining: u64, more_after: Duration) -> String {
    format!("\"{name}\";r={remaining};t={}", whole_seconds(more_after))
}

/// Whole seconds, rounded up, at least 1: a client must not come back too early.
pub fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_states_the_quota_of_whole_seconds() {
        for (rate, want) in [
            ("100/1m", r#""api";q=100;w=60"#),
            ("5/1s", r#""api";q=5;w=1"#),
            ("5/100ms", r#""api";q=50;w=1"#),
            ("3/1500ms", r#""api";q=4;w=2"#),
            ("1/8760h", r#""api";q=1;w=31536000"#),
        ] {
            assert_eq!(policy("api", rate.parse().unwrap()), want);
        }
        assert_eq!(concurrency_policy("api", 3), r#""api";q=3;qu="concurrent-requests""#);
        assert_eq!(state("api", 0, Duration::from_millis(1_001)), r#""api";r=0;t=2"#);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
