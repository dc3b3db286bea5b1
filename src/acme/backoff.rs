//! The backoff after failed orders, and the renewal time of certificates.
//!
//! Pure functions: they never read a clock or a random source.

/// Why an order failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The ACME server could not be reached. A quick retry costs nothing.
    Unreachable,
    /// The ACME server refused the order. Servers limit the number of failures.
    Refused,
    /// The ACME server reported a rate limit, with Retry-After in seconds if it sent it.
    Limited(Option<i64>),
    /// A local error, for example a file that cannot be written.
    Local,
}

/// The validity period of a certificate, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Shortest and longest wait if the server is unreachable, in seconds.
const UNREACHABLE: (i64, i64) = (2, 10 * MINUTE);
/// Shortest and longest wait after a refused order, in seconds. Let's Encrypt allows five failures per hour for an
/// account and name.
const REFUSED: (i64, i64) = (MINUTE, 6 * HOUR);
/// Longest wait while a name has no valid certificate, in seconds.
const BARE: i64 = HOUR;
/// Default interval of renewal information requests, in seconds.
const ASK: i64 = 6 * HOUR;
/// Upper bound of a server's Retry-After, in seconds.
const LIMITED: i64 = 7 * DAY;

impl Term {
    /// The renewal time: after two thirds of the validity. The last third leaves time for failures.
    pub(super) fn renewal(self) -> i64 {
        self.not_before.saturating_add(self.not_after.saturating_sub(self.not_before) / 3 * 2)
    }

    /// Seconds until the certificate expires.
    pub(super) fn left(self, now: i64) -> i64 {
        self.not_after.saturating_sub(now)
    }
}

/// A random time in the server's suggested renewal window (RFC 9773 section 4.2). `chance`: 0 to 1.
pub(super) fn within((start, end): (i64, i64), chance: f64) -> i64 {
    start.saturating_add((end.saturating_sub(start).max(0) as f64 * chance.clamp(0.0, 1.0)) as i64)
}

/// Seconds until the next renewal information request. `wait`: Retry-After of the last response (RFC 9773 section 4.3).
pub(super) fn until_asked(wait: Option<i64>) -> i64 {
    wait.unwrap_or(ASK).clamp(MINUTE, DAY)
}

/// Seconds to wait after a failed order.
///
/// `failures`: number of failures in a row, at least 1. `left`: seconds until the certificate expires. `chance`: 0 to
/// 1, a random number that spreads the retries of many names.
pub(super) fn after(trouble: FailureKind, failures: u32, left: i64, chance: f64) -> i64 {
    let (shortest, longest) = match trouble {
        FailureKind::Unreachable => UNREACHABLE,
        FailureKind::Refused | FailureKind::Limited(_) | FailureKind::Local => REFUSED,
    };
    // Retries are more frequent as the expiry comes nearer.
    let longest = if left > 0 { longest.min((left / 8).max(shortest)) } else { longest.min(BARE) };
    let doublings = failures.saturating_sub(1).min(20);
    let full = shortest.saturating_mul(1 << doublings).min(longest);
    let spread = |from: i64, over: f64| from + (over * chance.clamp(0.0, 1.0)) as i64;
    let own = spread(full - full / 2, (full / 2) as f64);
    match trouble {
        // At least the wait that the server requested, and up to 10 % more at random.
        FailureKind::Limited(Some(asked)) => {
            let asked = asked.clamp(0, LIMITED);
            own.max(spread(asked, asked as f64 / 10.0))
        }
        _ => own,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_certificate_of_ninety_days_is_renewed_after_sixty() {
        let term = Term { not_before: 1_000, not_after: 1_000 + 90 * DAY };
        assert_eq!((term.renewal(), term.left(1_000 + 89 * DAY)), (1_000 + 60 * DAY, DAY));
    }

    #[test]
    fn waits_double_up_to_a_maximum() {
        let waits = |trouble, left| (1..=12).map(|n| after(trouble, n, left, 1.0)).collect::<Vec<_>>();
        assert_eq!(waits(FailureKind::Unreachable, 30 * DAY), [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        let minutes = |waits: Vec<i64>| waits.into_iter().map(|wait| wait / MINUTE).collect::<Vec<_>>();
        assert_eq!(minutes(waits(FailureKind::Refused, 30 * DAY)), [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
        assert_eq!(minutes(waits(FailureKind::Refused, 0)), [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]);
        assert_eq!(minutes(waits(FailureKind::Refused, 16 * HOUR))[11], 120, "more often towards the end");
    }

    #[test]
    fn a_retry_after_of_the_server_is_respected() {
        assert_eq!(after(FailureKind::Limited(Some(3 * HOUR)), 1, DAY, 0.0), 3 * HOUR);
        assert_eq!(after(FailureKind::Limited(Some(i64::MAX)), 1, DAY, 0.0), LIMITED, "and not forever");
        assert_eq!(after(FailureKind::Limited(None), 1, DAY, 1.0), MINUTE);
    }

    #[test]
    fn a_drawn_renewal_time_is_within_the_window() {
        assert_eq!([0.0, 0.5, 1.0].map(|chance| within((100, 200), chance)), [100, 150, 200]);
        assert_eq!(within((200, 100), 0.7), 200, "whatever servers say");
        assert_eq!([None, Some(0), Some(7200), Some(i64::MAX)].map(until_asked), [6 * HOUR, MINUTE, 7200, DAY]);
    }

    proptest! {
        #[test]
        fn waits_stay_within_bounds(
            kind in 0..4u8, failures in 0..u32::MAX, left in any::<i64>(), chance in 0.0..=1.0f64, asked in any::<i64>(),
        ) {
            let trouble = [FailureKind::Unreachable, FailureKind::Refused, FailureKind::Limited(Some(asked)), FailureKind::Local];
            let trouble = trouble[usize::from(kind)];
            let wait = after(trouble, failures, left, chance);
            prop_assert!((1..=LIMITED + LIMITED / 10).contains(&wait));
            if let FailureKind::Limited(_) = trouble {
                prop_assert!(wait >= asked.clamp(0, LIMITED));
            } else {
                prop_assert!(wait <= 6 * HOUR);
                prop_assert!(wait <= after(trouble, failures.saturating_add(1), left, 1.0));
            }
        }
    }
}
