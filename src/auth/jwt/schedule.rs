//! When the keys of an issuer are fetched.
//!
//! Pure: the time and the random number are arguments. Times are milliseconds of the monotonic clock.

use std::time::Duration;

/// Shortest and longest time between two fetches that succeed, whatever Cache-Control says.
const REFRESH: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// The time without a Cache-Control.
const DEFAULT_REFRESH: Duration = Duration::from_secs(600);
/// First and longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Shortest time between two fetches for unknown key ids.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// Decides when the next fetch begins.
#[derive(Debug, Clone)]
pub struct FetchSchedule {
    /// The time of the next fetch.
    next: u64,
    in_flight: bool,
    /// Failures in a row.
    failures: u32,
    /// The last fetch for an unknown key id.
    last_for_unknown: Option<u64>,
}

impl FetchSchedule {
    /// The first fetch is due at once.
    pub fn new(now: u64) -> Self {
        Self { next: now, in_flight: false, failures: 0, last_for_unknown: None }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The time until the next fetch. Zero: it is due. It is never due while one is in flight.
    pub fn wait(&self, now: u64) -> Duration {
        match self.in_flight {
            true => REFRESH.1,
            false => Duration::from_millis(self.next.saturating_sub(now)),
        }
    }

    /// When a client that needs keys may try again: 1 s to 1 min.
    pub fn retry_after(&self, now: u64) -> Duration {
        match self.in_flight {
            true => BACKOFF.0,
            false => self.wait(now).clamp(BACKOFF.0, BACKOFF.1),
        }
    }

    /// A fetch begins.
    pub fn begin(&mut self) {
        self.in_flight = true;
    }

    /// The fetch succeeded. `max_age`: Cache-Control of the response. `random`: 0 to 1.
    pub fn succeeded(&mut self, now: u64, max_age: Option<Duration>, random: f64) {
        let wait = max_age.unwrap_or(DEFAULT_REFRESH).clamp(REFRESH.0, REFRESH.1);
        // Earlier by up to a tenth, so that many processes do not fetch at the same time.
        let wait = wait.mul_f64(1.0 - 0.1 * random.clamp(0.0, 1.0)).max(REFRESH.0);
        self.ended(now, wait);
        self.failures = 0;
    }

    /// The fetch failed. `random`: 0 to 1.
    pub fn failed(&mut self, now: u64, random: f64) {
        let full = (BACKOFF.0 * (1 << self.failures.min(6))).min(BACKOFF.1);
        self.ended(now, full.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0)));
        self.failures = self.failures.saturating_add(1);
    }

    fn ended(&mut self, now: u64, wait: Duration) {
        self.in_flight = false;
        self.next = now.saturating_add(millis(wait));
    }

    /// A token has a key id that no key has. Returns whether a fetch is in flight or begins now, so that waiting for it
    /// is worthwhile.
    pub fn unknown_key(&mut self, now: u64) -> bool {
        if self.in_flight || self.next <= now {
            return true;
        }
        let interval = millis(UNKNOWN_KEY_INTERVAL);
        if self.last_for_unknown.is_some_and(|last| now < last.saturating_add(interval)) {
            return false;
        }
        self.last_for_unknown = Some(now);
        self.next = now;
        true
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;

    /// Runs a virtual clock. `at` returns whether a fetch succeeds, `flood` the interval of unknown key ids. Returns the
    /// times of the fetches.
    fn fetches(until: u64, flood: Option<u64>, succeeds: impl Fn(u64) -> bool) -> Vec<u64> {
        let (mut schedule, mut times) = (FetchSchedule::new(0), Vec::new());
        for now in (0..until).step_by(100) {
            if flood.is_some_and(|interval| now % interval == 0) {
                schedule.unknown_key(now);
            }
            if schedule.wait(now).is_zero() {
                schedule.begin();
                times.push(now);
                match succeeds(now) {
                    true => schedule.succeeded(now, Some(Duration::from_secs(600)), 0.0),
                    false => schedule.failed(now, 1.0),
                }
            }
        }
        times
    }

    #[test]
    fn the_first_fetch_is_due_at_once() {
        let mut schedule = FetchSchedule::new(7);
        assert!(schedule.wait(7).is_zero());
        schedule.begin();
        assert!(!schedule.wait(7).is_zero(), "one at a time");
        assert_eq!(schedule.retry_after(7).as_secs(), 1);
    }

    #[test]
    fn max_age_counts_between_a_minute_and_a_day() {
        let wait = |max_age: Option<u64>| {
            let mut schedule = FetchSchedule::new(0);
            schedule.succeeded(5, max_age.map(Duration::from_secs), 0.0);
            schedule.wait(5).as_secs()
        };
        assert_eq!([0, 1, 60, 300, 86_400, u64::MAX].map(|age| wait(Some(age))), [60, 60, 60, 300, 86_400, 86_400]);
        assert_eq!(wait(None), 600);
    }

    #[test]
    fn failures_are_retried_with_a_backoff_of_at_most_a_minute() {
        let mut schedule = FetchSchedule::new(0);
        let waits = [(); 9].map(|()| {
            schedule.failed(0, 1.0);
            schedule.wait(0).as_secs()
        });
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.succeeded(0, None, 0.0);
        schedule.failed(0, 0.0);
        assert_eq!(schedule.wait(0), Duration::from_millis(500), "a success ends the backoff; the jitter is half");
    }

    #[test]
    fn an_unreachable_issuer_is_asked_about_once_a_minute() {
        let times = fetches(HOUR, None, |_| false);
        assert!((60..=70).contains(&times.len()), "{}", times.len());
    }

    #[test]
    fn keys_are_fetched_soon_after_an_outage_of_an_hour() {
        let times = fetches(2 * HOUR, None, |now| !(1..HOUR).contains(&now));
        let back = times.iter().find(|time| **time >= HOUR).unwrap();
        assert!(*back <= HOUR + MINUTE, "{back}");
    }

    #[test]
    fn a_flood_of_unknown_keys_causes_a_fetch_each_thirty_seconds() {
        for succeeds in [true, false] {
            let times = fetches(HOUR, Some(100), |_| succeeds);
            assert!(times.len() <= 190, "{}", times.len());
        }
        let times = fetches(HOUR, Some(100), |_| true);
        assert!(times[1..].windows(2).all(|pair| pair[1] - pair[0] >= 30_000), "{times:?}");
    }

    #[test]
    fn an_unknown_key_is_fetched_at_once_the_first_time() {
        let mut schedule = FetchSchedule::new(0);
        schedule.begin();
        assert!(schedule.unknown_key(0), "the fetch in flight may bring the key");
        schedule.succeeded(0, None, 0.0);
        assert!(schedule.unknown_key(1_000) && schedule.wait(1_000).is_zero());
        schedule.begin();
        schedule.succeeded(1_100, None, 0.0);
        assert!(!schedule.unknown_key(1_200) && !schedule.unknown_key(30_999));
        assert!(schedule.unknown_key(31_000) && schedule.wait(31_000).is_zero());
    }

    proptest! {
        #[test]
        fn fetches_are_bounded_and_never_stop(outcomes in proptest::collection::vec(any::<bool>(), 1..50), flood in 100..90_000u64) {
            let times = fetches(HOUR, Some(flood / 100 * 100), |now| outcomes[(now / 1_000) as usize % outcomes.len()]);
            prop_assert!(times.windows(2).all(|pair| (1..=11 * MINUTE).contains(&(pair[1] - pair[0]))));
            // Only a fetch for an unknown key id comes before the backoff ends.
            prop_assert!(times.windows(2).filter(|pair| pair[1] - pair[0] < 1_000).count() <= 121);
        }
    }
}
