//! Active health checks: a pure machine that judges, probes that ask, tasks that keep asking.
//!
//! Probes never share a connection with traffic, and run where the composition root says, apart from it.

pub mod checker;
mod grpc;
pub mod hysteresis;
pub mod probe;
