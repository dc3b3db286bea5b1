//! What an upstream looks like from outside: the data of the status page and of `/api/v1/status`.
//!
//! It reads cells and changes none.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Upstream;
use super::backend::Backend;
use super::discovery::state::DiscoveryState;
use crate::backend::labels::BackendCondition;
use crate::clock;
use crate::config::schema::Balance;

/// An upstream as `/api/v1/status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its algorithm.
    pub balance: Balance,
    /// How looking for backends goes, where it is looked for any.
    pub discovery: Option<DiscoveryStatus>,
    /// Its backends, in the document's order, and then those that were found.
    pub backends: Vec<BackendStatus>,
}

/// Discovery as `/api/v1/status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct DiscoveryStatus {
    /// Where it is looked: `dns NAME:PORT`, `srv NAME` or `file PATH`.
    pub source: String,
    /// When a look last went well (RFC 3339); null: never.
    pub last_success: Option<String>,
    /// What is wrong now; null: nothing.
    pub error: Option<String>,
    /// Looks in a row that went wrong.
    pub failures: u64,
}

/// A backend as `/api/v1/status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Its address as configured.
    pub address: String,
    /// The one state.
    pub state: BackendCondition,
    /// Why; null where there is nothing to say.
    pub reason: Option<String>,
    /// Since when (RFC 3339); null: since the start.
    pub since: Option<String>,
    /// Attempts under way.
    pub in_flight: u32,
    /// As configured.
    pub weight: u32,
    /// As used now: a part of it while it grows (`slow_start`).
    pub effective_weight: f64,
    /// Attempts of the last minute that failed or were answered with an error.
    pub errors_last_minute: u64,
    /// The latest error: when (RFC 3339), and its cause.
    pub last_error: Option<(String, String)>,
}

impl Upstream {
    /// What it looks like now.
    pub fn status(&self) -> UpstreamStatus {
        UpstreamStatus {
            name: self.name().to_string(),
            balance: self.settings().balance,
            discovery: self.discovered().map(|found| discovery_of(found)),
            backends: self.backends().iter().map(|backend| status_of(backend)).collect(),
        }
    }
}

fn discovery_of(found: &DiscoveryState) -> DiscoveryStatus {
    let state = found.state();
    DiscoveryStatus {
        source: found.source(),
        last_success: rfc3339(state.last_success_ms),
        error: Some(state.wrong.join("; ")).filter(|wrong| !wrong.is_empty()),
        failures: state.failures,
    }
}

/// A backend as it is now.
pub fn status_of(backend: &Backend) -> BackendStatus {
    let backend_state = &backend.state;
    let reason = match (backend_state.state(), backend.addr.lookup_error()) {
        (BackendCondition::Unresolved, Some(error)) => format!("{}: {error}", backend_state.why()),
        _ => backend_state.why(),
    };
    let last_error = backend_state.errors().last();
    let last_error = last_error.and_then(|error| Some((rfc3339(clock::to_unix_ms(error.at_ms))?, error.cause.into())));
    BackendStatus {
        name: backend.name.to_string(),
        address: backend.address.to_string(),
        state: backend_state.state(),
        reason: Some(reason).filter(|reason| !reason.is_empty()),
        since: rfc3339(clock::to_unix_ms(backend_state.since_ms())),
        in_flight: backend_state.in_flight(),
        weight: backend.weight.into(),
        effective_weight: backend_state.weights().1,
        errors_last_minute: backend_state.errors().last_minute(clock::now_ms()),
        last_error,
    }
}

fn rfc3339(ms: u64) -> Option<String> {
    let nanos = i128::from(ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().filter(|_| ms > 0)?;
    at.format(&Rfc3339).ok()
}
