//! Counters and histograms of one backend.
//!
//! This module formats nothing: `telemetry::families` reads the values at a scrape.

use super::error_cause::ErrorCause;
use super::labels::{BackendCondition, Outcome, RetryReason};
use crate::fault::Fault;
use crate::instruments::{CONNECT, Counter, Histogram, LATENCY, StatusCounters};

/// Status classes: the values of the `class` label.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters and histograms of a backend; part of its state.
#[derive(Debug)]
pub struct BackendMeters {
    pub(crate) attempts: [Counter; Outcome::ALL.len()],
    pub(crate) errors: [Counter; ErrorCause::ALL.len()],
    pub(crate) retries_by_fault: [Counter; Fault::ALL.len()],
    pub(crate) retries_by_status: StatusCounters,
    pub(crate) responses: [Counter; CLASSES.len()],
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
    pub(crate) passed: Counter,
    pub(crate) failed: Counter,
    pub(crate) became: [Counter; BackendCondition::ALL.len()],
    pub(crate) connect: Histogram,
    pub(crate) response: Histogram,
    pub(crate) check: Histogram,
}

impl BackendMeters {
    pub(crate) fn new() -> Self {
        Self {
            attempts: Default::default(),
            errors: Default::default(),
            retries_by_fault: Default::default(),
            retries_by_status: StatusCounters::default(),
            responses: Default::default(),
            sent: Counter::new(),
            received: Counter::new(),
            passed: Counter::new(),
            failed: Counter::new(),
            became: Default::default(),
            connect: Histogram::new(CONNECT),
            response: Histogram::new(LATENCY),
            check: Histogram::new(LATENCY),
        }
    }

    pub(crate) fn count_retry(&self, reason: RetryReason) {
        match reason {
            RetryReason::Fault(fault) => self.retries_by_fault[fault as usize].bump(),
            RetryReason::Status(status) => self.retries_by_status.bump(status),
        }
    }

    pub(crate) fn count_response(&self, status: u16) {
        // HTTP has no class above 5xx. Such a status is an error of the backend and counts as 5xx.
        let class = usize::from(status / 100).clamp(1, CLASSES.len());
        self.responses[class - 1].bump();
    }
}
