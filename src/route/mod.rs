//! Routes: the route table, the conditions of a route and its action.
//!
//! It does no I/O, reads no clock, and knows upstreams only as an opaque handle.

pub mod action;
pub mod host;
pub mod listener_names;
mod longest_match;
mod matched_parts;
mod matcher;
pub mod table;
