//! How names and orders stand, for people and for metrics.

use super::backoff::FailureKind;
use super::schedule::NameState;
use crate::telemetry::acme::OrderResult;

/// How a name stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeStatus {
    /// The name.
    pub name: String,
    /// `issued`, `pending` while there is none yet, `failing` where the last order failed.
    pub state: &'static str,
    /// Orders that have failed since the last that went well.
    pub failures: u32,
    /// What went wrong the last time.
    pub error: Option<String>,
    /// When the next order is due, in seconds since 1970; nothing: now.
    pub next: Option<i64>,
}

impl AcmeStatus {
    /// Of a name; nothing is known yet of one that is new.
    pub(super) fn of(name: &str, standing: Option<&NameState>) -> Self {
        let standing = standing.cloned().unwrap_or_default();
        let state = match (standing.held, standing.tries.failures) {
            (_, 1..) => "failing",
            (Some(_), 0) => "issued",
            (None, 0) => "pending",
        };
        let next = Some(standing.due()).filter(|next| *next > 0);
        let (failures, error) = (standing.tries.failures, standing.tries.error);
        Self { name: name.to_owned(), state, failures, error, next }
    }
}

impl From<&FailureKind> for OrderResult {
    fn from(trouble: &FailureKind) -> Self {
        match trouble {
            FailureKind::Unreachable => Self::Unreachable,
            FailureKind::Refused => Self::Refused,
            FailureKind::Limited(_) => Self::RateLimited,
            FailureKind::Local => Self::Error,
        }
    }
}
