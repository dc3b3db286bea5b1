//! What is counted of the orders by which a certificate is issued and renewed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::instruments::Counter;

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderResult {
    /// With a certificate.
    Issued,
    /// The server said no.
    Refused,
    /// The server asks to be left alone.
    RateLimited,
    /// There was no talking to the server.
    Unreachable,
    /// Something on this machine, such as a file that cannot be written.
    Error,
}

impl OrderResult {
    /// In the order in which they are shown.
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

/// The orders of a certificate.
#[derive(Debug, Default)]
pub struct AcmeOrders {
    results: [Counter; OrderResult::ALL.len()],
    failures: AtomicU64,
}

impl AcmeOrders {
    /// Counts one that ended.
    pub fn count(&self, result: OrderResult) {
        self.results[result as usize].bump();
    }

    /// How many ended so.
    pub fn total(&self, result: OrderResult) -> u64 {
        self.results[result as usize].get()
    }

    /// Takes note of how many have failed since the last that went well.
    pub fn set_failures(&self, failures: u64) {
        self.failures.store(failures, Ordering::Relaxed);
    }

    /// How many have failed since the last that went well.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
