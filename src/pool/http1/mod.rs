//! Weir's HTTP/1.1 client session. Pingora's session parses the responses without a fixed length.

mod body_writer;
mod chunk_decoder;
pub(super) mod coalesce;
pub mod fast_path;
mod rewind_io;
pub(super) mod session;
mod shared_io;
