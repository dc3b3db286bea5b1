//! Which route a request takes, and what a route does.
//!
//! Pure: no I/O, no clock, and no knowledge of upstreams beyond the handle it is given to hold.

pub mod action;
pub mod host;
pub mod listener_names;
mod longest_match;
mod matcher;
pub mod table;
