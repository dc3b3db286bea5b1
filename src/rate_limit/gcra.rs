//! The generic cell rate algorithm (GCRA, ITU-T I.371), as a meter of tokens. Pure: the time is an argument.
//!
//! A bucket is one number, its theoretical arrival time (TAT): the time at which it has no debt any more. All
//! calculations are exact. A TAT counts in units of 1/N nanoseconds, where N is the number of tokens of the rate.

use std::time::Duration;

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    tokens: u128,
    period_ns: u128,
    burst: u128,
}

/// The state of a bucket. The default is a bucket without debt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(u128);

/// Why a bucket does not admit: the time after which it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded(pub Duration);

impl Gcra {
    /// `tokens` for each `period`, and `burst` at once. All are at least 1.
    pub fn new(tokens: u64, period: Duration, burst: u64) -> Self {
        let period_ns = period.as_nanos().max(1);
        Self { tokens: tokens.max(1).into(), period_ns, burst: burst.max(1).into() }
    }

    /// Takes `cost` tokens. Over any interval t, buckets admit at most burst + rate × t.
    ///
    /// # Errors
    /// There are not so many tokens. The bucket stays as it is.
    pub fn admit(&self, tat: Tat, now_ns: u64, cost: u64) -> Result<Tat, Exceeded> {
        let now = self.scaled(now_ns);
        let after = tat.0.max(now) + u128::from(cost) * self.period_ns;
        let excess = (after - now).saturating_sub(self.burst * self.period_ns);
        if excess == 0 { Ok(Tat(after)) } else { Err(Exceeded(self.duration(excess))) }
    }

    /// Adds tokens to the debt, whatever it is.
    pub fn debit(&self, tat: Tat, now_ns: u64, tokens: u64) -> Tat {
        Tat(tat.0.max(self.scaled(now_ns)) + u128::from(tokens) * self.period_ns)
    }

    /// Returns tokens that were taken when the bucket became `taken`. Tokens that time has replaced since then are not
    /// returned a second time.
    pub fn credit(&self, tat: Tat, taken: Tat, now_ns: u64, tokens: u64) -> Tat {
        let open = taken.0.saturating_sub(self.scaled(now_ns));
        Tat(tat.0.saturating_sub(open.min(u128::from(tokens) * self.period_ns)))
    }

    /// The debt in tokens, rounded up.
    pub fn debt(&self, tat: Tat, now_ns: u64) -> u64 {
        clamp(tat.0.saturating_sub(self.scaled(now_ns)).div_ceil(self.period_ns))
    }

    /// The tokens that can be taken now.
    pub fn remaining(&self, tat: Tat, now_ns: u64) -> u64 {
        clamp(self.burst).saturating_sub(self.debt(tat, now_ns))
    }

    /// How long it takes until the bucket has no debt.
    pub fn time_to_empty(&self, tat: Tat, now_ns: u64) -> Duration {
        self.duration(tat.0.saturating_sub(self.scaled(now_ns)))
    }

    /// The state of a new bucket that has taken `cost` tokens.
    pub fn first(&self, now_ns: u64, cost: u64) -> Tat {
        self.debit(Tat::default(), now_ns, cost)
    }

    /// The state of a bucket that has no debt after this time.
    pub fn empty_after(&self, now_ns: u64, wait: Duration) -> Tat {
        Tat(self.scaled(now_ns) + wait.as_nanos() * self.tokens)
    }

    fn scaled(&self, now_ns: u64) -> u128 {
        u128::from(now_ns) * self.tokens
    }

    fn duration(&self, scaled: u128) -> Duration {
        Duration::from_nanos(clamp(scaled.div_ceil(self.tokens)))
    }
}

fn clamp(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        #[test]
        fn every_interval_admits_at_most_burst_plus_rate_times_its_length(
            tokens in 1u64..1_000, period_ms in 1u64..10_000, burst in 1u64..50,
            requests in prop::collection::vec((0u64..2_000_000_000, 1u64..5), 1..200),
        ) {
            let gcra = Gcra::new(tokens, Duration::from_millis(period_ms), burst);
            let (mut tat, mut now, mut admitted) = (Tat::default(), 7 * SECOND, Vec::new());
            for (pause, cost) in requests {
                now += pause;
                if let Ok(after) = gcra.admit(tat, now, cost) {
                    tat = after;
                    admitted.push((now, cost));
                }
            }
            for from in 0..admitted.len() {
                let mut sum = 0u128;
                for (at, cost) in &admitted[from..] {
                    sum += u128::from(*cost);
                    let length = u128::from(at - admitted[from].0);
                    let period = u128::from(period_ms) * 1_000_000;
                    prop_assert!(sum * period <= u128::from(burst) * period + length * u128::from(tokens));
                }
            }
        }

        #[test]
        fn steady_excess_is_admitted_at_exactly_burst_plus_rate_times_the_time(
            tokens in 1u64..500, period_ms in 100u64..5_000, burst in 1u64..100, seconds in 1u64..20,
        ) {
            let gcra = Gcra::new(tokens, Duration::from_millis(period_ms), burst);
            let (mut tat, start, mut admitted) = (Tat::default(), 5 * SECOND, 0u128);
            let (mut now, end) = (start, start + seconds * SECOND);
            // A client that tries again as soon as it may is an infinite excess.
            loop {
                match gcra.admit(tat, now, 1) {
                    Ok(after) => (tat, admitted) = (after, admitted + 1),
                    Err(Exceeded(wait)) => now += u64::try_from(wait.as_nanos()).unwrap(),
                }
                if now > end { break; }
            }
            let period = u128::from(period_ms) * 1_000_000;
            let earned = u128::from(seconds * SECOND) * u128::from(tokens) / period;
            prop_assert_eq!(admitted, u128::from(burst) + earned);
        }

        #[test]
        fn credit_never_returns_more_than_was_taken(
            reserve in 1u64..1_000, actual in 0u64..1_000, later in 0u64..20 * SECOND, debt in 0u64..1_000,
        ) {
            prop_assume!(actual <= reserve);
            let gcra = Gcra::new(100, Duration::from_secs(1), 2_000);
            let before = gcra.first(SECOND, debt);
            let taken = gcra.admit(before, SECOND, reserve).unwrap();
            let settled = gcra.credit(taken, taken, SECOND + later, reserve - actual);
            let exact = gcra.debit(before, SECOND, actual);
            prop_assert!(gcra.debt(settled, SECOND + later) >= gcra.debt(exact, SECOND + later));
            prop_assert!(later > 0 || settled == exact);
        }
    }

    #[test]
    fn a_refusal_says_when_the_next_token_is_there() {
        let gcra = Gcra::new(3, Duration::from_secs(1), 2);
        let tat = gcra.first(SECOND, 2);
        let Err(Exceeded(wait)) = gcra.admit(tat, SECOND, 1) else { panic!("admitted") };
        assert_eq!(wait, Duration::from_nanos(333_333_334));
        assert!(gcra.admit(tat, SECOND + 333_333_333, 1).is_err());
        assert!(gcra.admit(tat, SECOND + 333_333_334, 1).is_ok());
        assert_eq!((gcra.debt(tat, SECOND), gcra.remaining(tat, SECOND)), (2, 0));
        assert_eq!(gcra.time_to_empty(tat, SECOND), Duration::from_nanos(666_666_667));
    }

    #[test]
    fn a_limit_of_one_in_a_year_and_one_of_a_billion_in_a_millisecond_are_exact() {
        let year = Duration::from_secs(365 * 24 * 3_600);
        let gcra = Gcra::new(1, year, 1);
        let tat = gcra.admit(Tat::default(), SECOND, 1).unwrap();
        assert_eq!(gcra.admit(tat, SECOND, 1), Err(Exceeded(year)));
        let gcra = Gcra::new(1_000_000_000, Duration::from_millis(1), 1_000_000_000);
        let tat = gcra.admit(Tat::default(), SECOND, 1_000_000_000).unwrap();
        assert!(gcra.admit(tat, SECOND, 1).is_err());
        assert!(gcra.admit(tat, SECOND + 1, 1_000).is_ok());
    }
}
