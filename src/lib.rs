//! Weir: an edge proxy and load balancer on Pingora.
//!
//! A module imports only modules below it. `docs/architecture.md` has the map, and `tests/it/rooms.rs` enforces it.

use std::sync::OnceLock;

pub mod acme;
pub mod admin;
pub mod allocator;
pub mod background;
pub mod cli;
pub mod config;
pub mod demo;
pub mod fault;
pub mod lifecycle;
pub mod listener;
pub mod message;
pub mod path;
pub mod proxy;
pub mod proxy_protocol;
pub mod reload;
pub mod resource_exhaustion;
pub mod route;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod turn;
pub mod upstream;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of this build, which the binary sets at start. Without it the commit is unknown.
///
/// If the library read it at compile time, each commit would compile the whole library again.
pub static COMMIT: OnceLock<&'static str> = OnceLock::new();
