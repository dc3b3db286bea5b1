//! Weir's HTTP/1.1 client session. Pingora's session parses the responses without a fixed length.

mod body_writer;
mod chunk_decoder;
pub(super) mod coalesce;
pub mod fast_path;
mod rewind_io;
pub(super) mod session;
mod shared_io;

#[cfg(test)]
mod fuzz_tests;

use std::io;

use pingora_core::Error;

/// Whether the peer closed the connection without a TLS `close_notify` (RFC 8446 section 6.1).
pub(crate) fn is_bare_end(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
}
