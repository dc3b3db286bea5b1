//! Weir's HTTP/1.1 client session for exchanges with a fixed length. Pingora's session serves all others.

pub(super) mod coalesce;
pub mod fast_path;
mod rewind_io;
pub(super) mod session;
mod shared_io;
