//! Access policies: who may use a route. Each kind of policy is a file of its own.
//!
//! It never sees a connection, and never writes a response. `proxy::access` applies the policies to a request.

pub mod client_certificate;
pub mod identity;

pub use identity::Identity;
