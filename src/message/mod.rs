//! What is done to a request before it is sent and to a response before it is passed on, one file a policy.
//!
//! Functions on headers and bytes that were compiled beforehand: no I/O, no clock (time is an argument), no look-up
//! by name. A policy never picks a backend and never decides which route a request takes.

pub mod cgi_name;
pub mod chunked;
pub mod connection_options;
pub mod cookie;
pub mod error_response;
pub mod forwarded;
pub mod header_case;
pub mod header_edits;
pub mod hop_by_hop;
pub mod host;
pub mod keep_alive;
pub mod request_framing;
pub mod request_id;
pub mod response_framing;
pub mod rewrite;
pub mod via;
