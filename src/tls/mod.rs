//! TLS towards clients: certificates by name, what listeners ask of clients, resumption, the handshake.
//!
//! ```text
//! Store (one a process) ── endpoint of each listener ── Served (swapped whole) ── Table (name → certificate)
//!    ├ looks after files      └ terms, tickets               └ rustls' configuration
//!    └ is given what ACME servers issue; Challenges are what they ask
//! ```
//!
//! A handshake takes what is served at its moment and keeps it; new certificates are for handshakes to come. It never looks
//! at a request: what the rooms above need of a connection is in its `ConnectionInfo`.

mod acme_certs;
mod acme_challenges;
mod cert_reload;
mod cert_resolver;
mod cert_store;
mod certificate;
mod client_auth;
mod client_cert_headers;
mod connection_info;
mod counting_io;
mod crypto;
mod handshake;
mod resumption;
mod san;
mod server_config;
mod tls_alpn_01;

pub use acme_certs::{AcmeCerts, Issuer, Unusable};
pub use acme_challenges::{Challenges, PendingChallenge, WELL_KNOWN, remove_stale};
pub use cert_store::{CertStore, CertificateStatus, Prepared, StoreError};
pub use certificate::Certificate;
pub use connection_info::ConnectionInfo;
pub use counting_io::CountingIo;
pub use crypto::install;
pub use handshake::{HandshakeError, TlsSocket, handshake};
pub use server_config::TlsEndpoint;
