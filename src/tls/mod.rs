//! TLS towards clients: certificates by SNI, client authentication, session resumption and the handshake.
//!
//! ```text
//! CertStore (one per process) ── TlsEndpoint (one per listener) ── ServerState (swapped as a whole) ── CertResolver
//!    ├ checks files for changes     └ TlsSettings, Resumption        └ rustls ServerConfig
//!    └ gets certificates from ACME servers; Challenges holds their pending challenges
//! ```
//!
//! A handshake uses the state at its start. New certificates apply to later handshakes only. This module never reads a
//! request: `ConnectionInfo` has the facts that other modules need of a connection.

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
