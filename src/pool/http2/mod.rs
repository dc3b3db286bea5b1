//! Weir's HTTP/2 client: connections that many exchanges share, their pool on each traffic thread, and the session of
//! one exchange.
//!
//! A session never waits for the backend to accept the request body. So the response is passed on while the request
//! body is blocked.

mod connect;
mod connection;
mod errors;
mod pool;
mod read_before_fail;
mod request_head;
mod session;
mod timer;
mod upload;

pub(super) use connect::{Opened, open};
pub use errors::BEFORE_SENT;
pub(super) use pool::Http2Pool;
pub use session::Http2Session;
