//! Certificates that Weir has issued for itself (RFC 8555): when to order, the dialogue with the server, what is kept.
//!
//! ```text
//! Agent (one a process) ── Schedule (pure: who is due when) ── waits (pure: how long after a failure)
//!    ├ status (how things stand, for people)
//!    ├ unkept (what was issued and could not be written)
//!    ├ attempt (lock, order, file) ── order (the dialogue) ── http
//!    └ home (files, locks)        tls::Store is given what was issued, tls::Challenges what is asked
//! ```
//!
//! Each name has a certificate, a key and an order of its own: one that cannot be had takes no other with it, and a name
//! that comes or goes touches no other's. It runs on the control runtime and never on a request's way; what is served goes
//! on whatever happens here.

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
pub use storage::prove;
