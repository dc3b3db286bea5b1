//! TLS towards clients: certificates by name, what listeners ask of clients, resumption, the handshake.
//!
//! ```text
//! Store (one a process) ── endpoint of each listener ── Served (swapped whole) ── Table (name → certificate)
//!    ├ looks after files      └ terms, tickets               └ rustls' configuration
//!    └ is given what ACME servers issue; Challenges are what they ask
//! ```
//!
//! A handshake takes what is served at its moment and keeps it; new certificates are for handshakes to come. It never looks
//! at a request: what the rooms above need of a connection is in its `Session`.

mod certificate;
mod challenges;
mod client;
mod endpoint;
mod handshake;
mod identity;
mod managed;
mod names;
pub mod private;
mod provider;
mod refresh;
mod session;
mod store;
mod table;
mod tickets;
mod validation;
mod wire;

pub use certificate::Certificate;
pub use challenges::{Challenges, Pending, WELL_KNOWN, sweep};
pub use endpoint::TlsEndpoint;
pub use handshake::{HandshakeError, Stream, handshake};
pub use managed::{Issuer, AcmeCerts, Unusable};
pub use provider::install;
pub use session::ConnectionInfo;
pub use store::{CertificateStatus, Prepared, CertStore, StoreError};
pub use wire::CountingIo;
