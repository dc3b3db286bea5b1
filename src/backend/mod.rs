//! The live state of each backend: requests in flight, health, ejection, admin state, weights, meters.
//!
//! One state per (upstream, address) exists for the life of the process, so a reload keeps every count. This module
//! decides nothing: `upstream` judges health and picks backends.

pub mod failure_log;
mod in_flight;
pub mod labels;
pub mod load_estimate;
pub mod meters;
mod state;

pub use in_flight::{InFlight, OnFree};
pub use state::{BackendState, Labels};
