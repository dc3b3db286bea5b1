//! Content codings of responses (RFC 9110 section 8.4): negotiation, compression and decompression.
//!
//! It sees header fields and body bytes. It never sees a connection, a route or a backend.

mod accept_encoding;
pub mod body_coder;
mod bounded_output;
mod brotli_decoder;
mod decoder;
pub mod eligibility;
mod encoder;
pub mod header_fields;
