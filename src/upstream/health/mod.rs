//! Active health checks: a pure machine that judges, probes that ask, tasks that keep asking.
//!
//! Probes never share a connection with traffic, and run where the composition root says, apart from it.

mod grpc;
pub mod machine;
pub mod probe;
pub mod prober;
