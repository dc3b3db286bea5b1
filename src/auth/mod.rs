//! Access policies: they verify the credentials of a request and return its identity. Each kind of policy is a folder or a
//! file of its own.
//!
//! It never reads a file, never sees a connection, and never writes a response. `proxy::access` applies the policies.

pub mod api_keys;
pub mod basic;
pub mod client_certificate;
pub mod jwt;

mod bad_line;
mod identity;
mod refusal;

pub use bad_line::BadAuthLine;
pub use identity::Identity;
pub use refusal::Refusal;
