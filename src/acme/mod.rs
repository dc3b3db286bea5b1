//! Automatic certificates by ACME (RFC 8555): schedule of orders, protocol client and storage.
//!
//! ```text
//! AcmeManager (one per process) ── Schedule (pure: which name is due) ── backoff (pure: wait after a failure)
//!    ├ status (state of each name, for the admin API)
//!    ├ pending_writes (issued, but not stored yet)
//!    ├ issuance (lock, order, file) ── client (ACME protocol) ── http
//!    └ storage (files, locks)       tls::CertStore gets issued certificates, tls::Challenges the challenges
//! ```
//!
//! Each name has its own certificate, key and order. So a failed order affects no other name, and neither does a name
//! that is added or removed. ACME runs on the control runtime, never in the path of a request. An error here never
//! removes a certificate that is served.

mod backoff;
mod client;
mod http;
mod issuance;
mod manager;
mod pending_writes;
mod schedule;
mod status;
mod storage;

pub use manager::AcmeManager;
pub use status::AcmeStatus;
pub use storage::{folder, prove};
