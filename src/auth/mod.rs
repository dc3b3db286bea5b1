//! Access policies: they verify the credentials of a request and return its identity. Never reads a file, and never
//! sees a connection.

pub mod api_keys;
pub mod basic;

mod bad_line;
mod identity;
mod refusal;

pub use bad_line::BadAuthLine;
pub use identity::Identity;
pub use refusal::Refusal;
