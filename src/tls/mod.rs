//! TLS towards clients: certificates by name, what listeners ask of clients, resumption, the handshake.
//!
//! ```text
//! Store (one a process) ── endpoint of each listener ── Served (swapped whole) ── Table (name → certificate)
//!    └ looks after files      └ terms, tickets               └ rustls' configuration
//! ```
//!
//! A handshake takes what is served at its moment and keeps it; new certificates are for handshakes to come. It never looks
//! at a request: what the rooms above need of a connection is in its `Session`.

mod certificate;
mod client;
mod endpoint;
mod handshake;
mod identity;
mod names;
mod provider;
mod refresh;
mod session;
mod store;
mod table;
mod tickets;
mod wire;

pub use certificate::Certificate;
pub use endpoint::Endpoint;
pub use handshake::{Failed, Stream, handshake};
pub use provider::install;
pub use session::Session;
pub use store::{CertificateStatus, Prepared, Store, StoreError};
pub use wire::Wire;
