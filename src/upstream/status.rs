//! Status of an upstream: the data of the status page and of `/api/v1/status`.
//!
//! It only reads state.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Upstream;
use super::backend::Backend;
use super::discovery::state::DiscoveryState;
use crate::backend::labels::BackendCondition;
use crate::clock;
use crate::config::schema::Balance;

/// An upstream in `/api/v1/status`.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its algorithm.
    pub balance: Balance,
    /// Its discovery; null if it uses none.
    pub discovery: Option<DiscoveryStatus>,
    /// Its backends: first the configured ones in configuration order, then the discovered ones.
    pub backends: Vec<BackendStatus>,
}

/// Discovery in `/api/v1/status`.
#[derive(Debug, Clone, Serialize)]
pub struct DiscoveryStatus {
    /// The source: `dns NAME:PORT`, `srv NAME` or `file PATH`.
    pub source: String,
    /// Time of the last run without errors (RFC 3339); null: never.
    pub last_success: Option<String>,
    /// The current errors; null: none.
    pub error: Option<String>,
    /// Number of consecutive runs with errors.
    pub failures: u64,
}

/// A backend in `/api/v1/status`.
#[derive(Debug, Clone, Serialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Its address as configured.
    pub address: String,
    /// Its condition.
    pub state: BackendCondition,
    /// The reason of the condition; null if there is none.
    pub reason: Option<String>,
    /// Time of the last change of the condition (RFC 3339); null: no change since the start.
    pub since: Option<String>,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The configured weight.
    pub weight: u32,
    /// The effective weight, which is lower during `slow_start`.
    pub effective_weight: f64,
    /// Attempts of the last minute that failed or were answered with an error.
    pub errors_last_minute: u64,
    /// The latest error: when (RFC 3339), and its cause.
    pub last_error: Option<(String, String)>,
}

impl Upstream {
    /// The current status.
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

/// The current status of a backend.
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
