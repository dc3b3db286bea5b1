//! HTTP message semantics: framing, hop-by-hop fields, forwarded fields, header edits, rewrites and error responses.
//! One file per topic.
//!
//! The functions work on headers and bytes with settings compiled beforehand. They do no I/O, read no clock (time is an
//! argument) and look up nothing by name. They never pick a backend or a route.

pub mod cgi_name;
pub mod chunked;
pub mod connection_options;
pub mod cookie;
pub mod error_response;
pub mod forward_auth;
pub mod forwarded;
pub mod grpc_timeout;
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
pub mod websocket;
