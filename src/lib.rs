//! Weir: an edge proxy and load balancer on Pingora. The map of the rooms; a room imports only rooms below it.
//!
//! ```text
//! cli → server → admin → reload ┐
//!       server → proxy ─────────┴→ snapshot → listener
//!                                  snapshot → route → policy → upstream → telemetry → fault, life → config
//! ```

pub mod config;
pub mod fault;
pub mod life;
pub mod policy;
pub mod route;
pub mod telemetry;
