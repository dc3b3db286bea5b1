//! Retry policy of a route: decides whether a failed attempt is followed by another.
//!
//! Pure. It does not know the retry budget.

use std::time::Duration;

use crate::config::schema;
use crate::config::values::RetryWhen;

/// `routes[].retry`, compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    attempts: u8,
    backoff: Duration,
    connect: bool,
    reset: bool,
    timeout: bool,
    statuses: Box<[u16]>,
}

impl Rule {
    /// Compiles the settings.
    pub fn new(retry: &schema::Retry) -> Self {
        let has = |when: RetryWhen| retry.when.contains(&when);
        let status = |when: &RetryWhen| if let RetryWhen::Status(status) = when { Some(*status) } else { None };
        Self {
            attempts: retry.attempts,
            backoff: retry.backoff.get(),
            connect: has(RetryWhen::Connect),
            reset: has(RetryWhen::Reset),
            timeout: has(RetryWhen::Timeout),
            statuses: retry.when.iter().filter_map(status).collect(),
        }
    }
}

/// Maximum wait before a retry.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

impl Rule {
    /// The wait before the next try, after `tries` tries. It is random, from zero up to `backoff`, which doubles with
    /// each try. So requests that failed together do not return together ("full jitter": M. Brooker, Exponential
    /// Backoff and Jitter, AWS 2015). `random`: a random number from 0 to 1.
    pub fn pause(&self, tries: u8, random: f64) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << tries.saturating_sub(1).min(16));
        doubled.min(MAX_BACKOFF).mul_f64(random.clamp(0.0, 1.0))
    }
}

/// The kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// No connection; nothing was sent.
    ToConnect,
    /// The connection was reset, or the response was not valid HTTP.
    Reset,
    /// A timeout of the backend expired.
    Timeout,
    /// The backend responded with this status.
    Status(u16),
}

/// The properties of a request that matter for a retry.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Number of tries so far, including the failed one.
    pub tries: u8,
    /// Whether the method is idempotent (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// Whether all body bytes read so far are still buffered.
    pub replayable: bool,
    /// Whether bytes of a response were already sent to the client.
    pub response_begun: bool,
    /// Whether its deadline has passed.
    pub too_late: bool,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No retry: the failure is final.
    GiveUp,
    /// Retry without use of the budget, because nothing was sent.
    Again,
    /// Retry if the budget has one left.
    AgainWithinBudget,
}

/// Decides about a retry. A request that was not sent may be repeated with any method. One that was sent may be
/// repeated only if its method is idempotent and its body can be replayed (RFC 9110 section 9.2.2).
pub fn decide(rule: &Rule, failed: Failed, request: Request) -> Verdict {
    if request.response_begun || request.too_late || request.tries >= rule.attempts {
        return Verdict::GiveUp;
    }
    let (wanted, sent) = match failed {
        Failed::ToConnect => (rule.connect, false),
        Failed::Reset => (rule.reset, true),
        Failed::Timeout => (rule.timeout, true),
        Failed::Status(status) => (rule.statuses.contains(&status), true),
    };
    match (wanted, sent) {
        (false, _) => Verdict::GiveUp,
        (true, false) if request.replayable => Verdict::Again,
        (true, true) if request.idempotent && request.replayable => Verdict::AgainWithinBudget,
        _ => Verdict::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(when: &[RetryWhen]) -> Rule {
        Rule::new(&schema::Retry { attempts: 3, when: when.to_vec(), ..Default::default() })
    }

    const FRESH: Request =
        Request { tries: 1, idempotent: true, replayable: true, response_begun: false, too_late: false };

    #[test]
    fn backoff_doubles_up_to_ten_seconds() {
        let backoff = crate::config::values::Period::from_secs(1);
        let rule = Rule::new(&schema::Retry { backoff, ..Default::default() });
        let pauses = [1, 2, 3, 4, 5, 16, 255].map(|tries| rule.pause(tries, 1.0).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!((rule.pause(3, 0.25).as_secs(), rule.pause(3, 0.0)), (1, Duration::ZERO));
        assert_eq!(Rule::new(&schema::Retry::default()).pause(5, 1.0), Duration::ZERO);
    }

    #[test]
    fn an_unsent_request_is_retried_for_any_method_without_budget() {
        let post = Request { idempotent: false, ..FRESH };
        assert_eq!(decide(&rule(&[RetryWhen::Connect]), Failed::ToConnect, post), Verdict::Again);
        assert_eq!(decide(&rule(&[RetryWhen::Reset]), Failed::ToConnect, post), Verdict::GiveUp);
    }

    #[test]
    fn a_sent_request_is_retried_only_if_idempotent_and_replayable() {
        let rule = rule(&[RetryWhen::Reset, RetryWhen::Timeout, RetryWhen::Status(503)]);
        for failed in [Failed::Reset, Failed::Timeout, Failed::Status(503)] {
            assert_eq!(decide(&rule, failed, FRESH), Verdict::AgainWithinBudget);
            assert_eq!(decide(&rule, failed, Request { idempotent: false, ..FRESH }), Verdict::GiveUp);
            assert_eq!(decide(&rule, failed, Request { replayable: false, ..FRESH }), Verdict::GiveUp);
        }
        assert_eq!(decide(&rule, Failed::Status(500), FRESH), Verdict::GiveUp);
    }

    #[test]
    fn no_retry_after_response_start_deadline_or_last_attempt() {
        let rule = rule(&[RetryWhen::Connect]);
        for request in [
            Request { response_begun: true, ..FRESH },
            Request { too_late: true, ..FRESH },
            Request { tries: 3, ..FRESH },
        ] {
            assert_eq!(decide(&rule, Failed::ToConnect, request), Verdict::GiveUp);
        }
        assert_eq!(decide(&rule, Failed::ToConnect, Request { tries: 2, ..FRESH }), Verdict::Again);
    }
}
