//! The transport to backends: connection pool, dialling, TLS and PROXY settings, and HTTP/1 sessions.
//!
//! It turns a backend address into a connection for one attempt. It never uses the name of an upstream, a route or a
//! metric.

pub mod addresses;
pub mod backend_addr;
pub mod checkout;
pub mod connection_pool;
pub mod connector;
pub mod dial;
pub mod http1;
pub mod idle_limit;
pub(crate) mod lookup;
pub mod peer;
pub mod resolver;
mod socket_options;
pub mod transport_settings;
mod upgrade;
