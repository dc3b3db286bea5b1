//! Active health checks: hysteresis, probes, and the tasks that run them.
//!
//! Probes never share a connection with traffic. The caller chooses their runtime, which is separate from traffic.

pub mod checker;
mod grpc;
pub mod hysteresis;
pub mod probe;
