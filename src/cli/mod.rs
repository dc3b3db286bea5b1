//! The subcommands, one file a family.

pub mod http;
pub mod remote;
mod table;
