//! Recent errors of a backend or an upstream: how many in the last minute, and the latest one with its cause.
//!
//! Only an attempt that failed writes here. An attempt that went well takes no lock.

use std::borrow::Cow;

use parking_lot::Mutex;

/// The length of one bucket, in milliseconds.
const BUCKET_MS: u64 = 5_000;

/// The buckets cover one minute.
const BUCKETS: usize = 12;

/// Errors of a backend, or requests that an upstream could not serve.
#[derive(Debug, Default)]
pub struct RecentErrors(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The number of the period and the errors in it. A bucket is reused after a minute.
    buckets: [(u64, u32); BUCKETS],
    last: Option<RecentError>,
}

/// The latest error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentError {
    /// When, in milliseconds of the monotonic clock.
    pub at_ms: u64,
    /// The cause in a few words, such as `refused`.
    pub cause: Cow<'static, str>,
}

impl RecentErrors {
    /// Counts an error.
    pub fn record(&self, cause: Cow<'static, str>, now_ms: u64) {
        let period = now_ms / BUCKET_MS;
        let mut inner = self.0.lock();
        let bucket = &mut inner.buckets[(period % BUCKETS as u64) as usize];
        if bucket.0 != period {
            *bucket = (period, 0);
        }
        bucket.1 = bucket.1.saturating_add(1);
        inner.last = Some(RecentError { at_ms: now_ms, cause });
    }

    /// Errors of the last minute, exact to five seconds.
    pub fn last_minute(&self, now_ms: u64) -> u64 {
        let period = now_ms / BUCKET_MS;
        let recent = |bucket: &&(u64, u32)| bucket.0 <= period && period - bucket.0 < BUCKETS as u64;
        self.0.lock().buckets.iter().filter(recent).map(|bucket| u64::from(bucket.1)).sum()
    }

    /// The latest error, however old.
    pub fn last(&self) -> Option<RecentError> {
        self.0.lock().last.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_error_counts_for_a_minute_and_the_latest_stays() {
        let errors = RecentErrors::default();
        assert_eq!((errors.last_minute(0), errors.last()), (0, None));
        errors.record("one".into(), 100_000);
        errors.record("two".into(), 130_000);
        assert_eq!(errors.last_minute(130_000), 2);
        assert_eq!(errors.last_minute(154_999), 2);
        assert_eq!(errors.last_minute(160_000), 1);
        assert_eq!(errors.last_minute(190_000), 0);
        assert_eq!(errors.last().unwrap(), RecentError { at_ms: 130_000, cause: "two".into() });
        errors.record("three".into(), 190_000);
        assert_eq!(errors.last_minute(190_000), 1, "the bucket of one minute ago was reused");
    }
}
