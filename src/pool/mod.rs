//! The transport to backends: connection pools, dialling, TLS and PROXY settings, and sessions.
//!
//! It turns a backend address into a connection for one attempt. It never uses the name of an upstream, a route or a
//! metric.

pub mod addresses;
pub mod backend_addr;
pub mod backend_session;
mod body_queue;
pub mod checkout;
pub mod connection_pool;
pub mod connector;
pub mod dial;
pub mod http1;
pub mod http2;
pub(crate) mod lookup;
mod outstanding_pieces;
pub mod peer;
pub mod resolver;
mod socket_options;
pub mod subrequest;
pub mod transport_settings;
