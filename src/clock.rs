//! The monotonic clock and the wall clock. Pure modules never use them: they take `now` as an
//! argument.
//!
//! Intervals use the monotonic clock, which cannot be set: ejections, budgets, penalties, slow start. Cookies and
//! human-readable output use the wall clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Start value of the monotonic clock. No time is 0, which stands for "none", and a time of 1 is long ago.
const START: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Current time of the monotonic clock, in milliseconds.
pub fn now_ms() -> u64 {
    ms_of(Instant::now())
}

/// A time of the monotonic clock, in milliseconds.
pub fn ms_of(moment: Instant) -> u64 {
    whole_ms(since_origin(moment) + START)
}

fn since_origin(moment: Instant) -> Duration {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // A time before the first call maps to the start value. The first call happens before the first request or backend
    // exists.
    moment.saturating_duration_since(*ORIGIN.get_or_init(Instant::now))
}

/// Current time of the monotonic clock, in nanoseconds.
pub fn now_ns() -> u64 {
    u64::try_from((since_origin(Instant::now()) + START).as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, from the wall clock.
pub fn unix_ms() -> u64 {
    whole_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Seconds since 1970, from the wall clock.
pub fn unix_secs() -> u64 {
    unix_ms() / 1000
}

/// Converts a time of the monotonic clock to milliseconds since 1970, by the present setting of the wall clock. 0 stays
/// 0.
pub fn to_unix_ms(at_ms: u64) -> u64 {
    if at_ms == 0 { 0 } else { unix_ms().saturating_sub(now_ms().saturating_sub(at_ms)) }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_is_not_the_wall_clock_and_is_never_zero() {
        let first = now_ms();
        assert!(
            (2_592_000_000..1_000_000_000_000).contains(&first),
            "{first}: milliseconds since the process began, not since 1970"
        );
        assert!(ms_of(Instant::now()) >= first);
    }

    #[test]
    fn a_monotonic_time_is_converted_by_the_present_wall_clock() {
        let shown = to_unix_ms(now_ms().saturating_sub(500));
        assert!((300..=800).contains(&(unix_ms() - shown)), "{shown}");
        assert_eq!(to_unix_ms(0), 0, "none");
    }
}
