//! Counters of ACME orders, by which certificates are issued and renewed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::instruments::Counter;

/// The result of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderResult {
    /// A certificate was issued.
    Issued,
    /// The ACME server refused the order.
    Refused,
    /// The ACME server reported a rate limit.
    RateLimited,
    /// The ACME server could not be reached or gave no valid response.
    Unreachable,
    /// A local error, for example a file that cannot be written.
    Error,
}

impl OrderResult {
    /// In the order of the metrics output.
    pub const ALL: [Self; 5] = [Self::Issued, Self::Refused, Self::RateLimited, Self::Unreachable, Self::Error];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unreachable => "unreachable",
            Self::Error => "error",
        }
    }
}

/// The order counters of one certificate.
#[derive(Debug, Default)]
pub struct AcmeOrders {
    results: [Counter; OrderResult::ALL.len()],
    failures: AtomicU64,
}

impl AcmeOrders {
    /// Counts a finished order.
    pub fn count(&self, result: OrderResult) {
        self.results[result as usize].bump();
    }

    /// Number of orders with this result.
    pub fn total(&self, result: OrderResult) -> u64 {
        self.results[result as usize].get()
    }

    /// Sets the number of failed orders since the last success.
    pub fn set_failures(&self, failures: u64) {
        self.failures.store(failures, Ordering::Relaxed);
    }

    /// Number of failed orders since the last success.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
