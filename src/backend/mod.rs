//! Live state of each backend: requests in flight, health, ejection, admin state, weights, meters.
//!
//! This module decides nothing: `upstream` evaluates health and picks backends. One state per (upstream, address)
//! exists for the life of the process, so counters survive reloads.

pub mod error_cause;
pub mod failure_log;
mod in_flight;
pub mod labels;
pub mod last_check;
pub mod load_estimate;
pub mod meters;
pub mod recent_errors;
mod state;

pub use in_flight::{InFlight, OnFree};
pub use state::{BackendState, Labels};
