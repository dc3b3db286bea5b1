//! Weir: an edge proxy and load balancer on Pingora.
//!
//! A module imports only modules below it. `tests/it/layering.rs` has the table and checks it:
//!
//! ```text
//! main
//! cli                  server, admin, demo, config, auth
//! server               acme, admin, reload, proxy, snapshot, listener, tls, route, message, cors, rate_limit, upstream, pool, telemetry, backend, background, fault, lifecycle, secure_file, config, path, clock
//! admin                upstream, telemetry, backend, instruments, background, severity
//! acme                 tls, telemetry, secure_file, config
//! demo
//! reload               snapshot, listener, upstream, telemetry, resource_exhaustion, config
//! proxy                snapshot, listener, route, message, content_coding, cors, rate_limit, auth, upstream, pool, telemetry, backend, fault, lifecycle, proxy_protocol, resource_exhaustion, config, path, clock
//! snapshot             route, message, cors, rate_limit, auth, upstream, pool, telemetry, config
//! listener             tls, message, telemetry, body_gate, fault, proxy_protocol, resource_exhaustion, config
//! tls                  telemetry, resource_exhaustion, config, secure_file, auth
//! route                message, config, path
//! message              fault, config, path
//! content_coding       config
//! cors                 config
//! rate_limit           pool, telemetry, config
//! upstream             pool, telemetry, backend, resource_exhaustion, clock, config
//! pool                 body_gate, proxy_protocol, resource_exhaustion, config
//! telemetry            backend, instruments, fault, config
//! backend              instruments, fault
//! instruments
//! proxy_protocol
//! body_gate
//! background
//! fault
//! resource_exhaustion
//! lifecycle
//! config               auth, path, severity
//! auth                 clock
//! secure_file
//! severity
//! clock
//! path
//! ```

use std::sync::OnceLock;

pub mod acme;
pub mod admin;
pub mod auth;
pub mod backend;
pub mod background;
pub mod body_gate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod content_coding;
pub mod cors;
pub mod demo;
pub mod fault;
pub mod instruments;
pub mod lifecycle;
pub mod listener;
pub mod message;
pub mod path;
pub mod pool;
pub mod proxy;
pub mod proxy_protocol;
pub mod rate_limit;
pub mod reload;
pub mod resource_exhaustion;
pub mod route;
pub mod secure_file;
pub mod server;
pub mod severity;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod upstream;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of this build. The binary sets it at start; otherwise the commit is unknown.
///
/// The library does not read it at compile time, because each commit would then recompile the whole library.
pub static COMMIT: OnceLock<&'static str> = OnceLock::new();
