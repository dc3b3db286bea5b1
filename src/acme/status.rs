//! The ACME status of names for the admin API, and the metric label of a failed order.

use super::backoff::FailureKind;
use super::schedule::NameState;
use crate::telemetry::acme::OrderResult;

/// The ACME status of a name, for the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeStatus {
    /// The DNS name.
    pub name: String,
    /// `issued`; `pending` before the first certificate; `failing` if the last order failed.
    pub state: &'static str,
    /// Failed orders since the last success.
    pub failures: u32,
    /// The last error.
    pub error: Option<String>,
    /// When the next order is due, in Unix seconds. `None`: now.
    pub next: Option<i64>,
}

impl AcmeStatus {
    /// The status of a name. `None`: a new name, with the default state.
    pub(super) fn of(name: &str, name_state: Option<&NameState>) -> Self {
        let name_state = name_state.cloned().unwrap_or_default();
        let state = match (name_state.held, name_state.tries.failures) {
            (_, 1..) => "failing",
            (Some(_), 0) => "issued",
            (None, 0) => "pending",
        };
        let next = Some(name_state.due()).filter(|next| *next > 0);
        let (failures, error) = (name_state.tries.failures, name_state.tries.error);
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
