//! The clocks of this module's tasks and of the phases of the proxy. Pure modules never come here: they take
//! `now` as an argument.
//!
//! Intervals use the monotonic clock, which cannot be set: ejections, budgets, penalties, slow start. The wall clock is for
//! cookies and for human-readable output.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock starts here: no moment is 0, which stands for none, and what began at 1 began long ago.
const START: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Milliseconds of the monotonic clock.
pub fn now_ms() -> u64 {
    ms_of(Instant::now())
}

/// A moment as milliseconds of the monotonic clock.
pub fn ms_of(moment: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // A moment before the first call is the start: so the first call is made as early as there is a request or a backend.
    let since = moment.saturating_duration_since(*ORIGIN.get_or_init(Instant::now));
    whole_ms(since + START)
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    whole_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// When a moment of the monotonic clock was, in milliseconds since 1970 by the wall clock as it is set now; 0 stays 0.
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
    fn the_clock_of_intervals_is_not_the_wall_clock_and_is_never_zero() {
        let first = now_ms();
        assert!(
            (2_592_000_000..1_000_000_000_000).contains(&first),
            "{first}: milliseconds since the process began, not since 1970"
        );
        assert!(ms_of(Instant::now()) >= first);
    }

    #[test]
    fn a_moment_is_shown_by_the_wall_clock_as_it_is_set_now() {
        let shown = to_unix_ms(now_ms().saturating_sub(500));
        assert!((300..=800).contains(&(unix_ms() - shown)), "{shown}");
        assert_eq!(to_unix_ms(0), 0, "none");
    }
}
