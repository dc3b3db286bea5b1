//! The instruments of an access policy. They know nothing about identities.

use std::sync::Arc;

use crate::instruments::Counter;
use crate::instruments::throttle::Throttle;

/// The decision of a policy about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessResult {
    /// The request may pass.
    Passed,
    /// The request may not pass.
    Refused,
    /// The policy could not decide.
    Unavailable,
    /// The policy could not decide, and requests pass meanwhile.
    Open,
    /// The client left before the decision.
    ClientLeft,
}

impl AccessResult {
    /// In the order of the metrics output.
    pub const ALL: [Self; 5] = [Self::Passed, Self::Refused, Self::Unavailable, Self::Open, Self::ClientLeft];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Open => "open",
            Self::ClientLeft => "client_left",
        }
    }
}

/// The instruments of a policy.
#[derive(Debug)]
pub struct AccessMeters {
    name: Arc<str>,
    decisions: [Counter; AccessResult::ALL.len()],
    unanswered: Throttle,
}

impl AccessMeters {
    /// All counters are zero. Use `Metrics::access_policy` instead, which returns the same instruments for the same
    /// name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), decisions: Default::default(), unanswered: Throttle::new() }
    }

    /// The policy's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a decision.
    pub fn count(&self, result: AccessResult) {
        self.decisions[result as usize].bump();
    }

    /// Counts a request that the policy could not decide. Returns the number of such requests since the last log line if
    /// a line is due.
    pub fn count_undecided(&self, now_ms: u64) -> Option<u64> {
        self.unanswered.count(now_ms)
    }

    /// Number of decisions with this result.
    pub fn total(&self, result: AccessResult) -> u64 {
        self.decisions[result as usize].get()
    }
}
