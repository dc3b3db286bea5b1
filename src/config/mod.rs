//! Everything about the YAML: its types, reading it and the files it names, problems with their places, and what
//! differs between two documents. All configuration I/O is here; nothing here knows a request or a socket.
//!
//! ```text
//! text → locate (tree with places, ${…} replaced) → typed (document) → check, files → Checked
//! ```

pub mod listener_key;
pub mod pem;
pub mod schema;
pub mod values;
pub mod watch;

mod admin_address;
mod authority;
mod change;
mod check;
mod de;
mod diff;
mod disk;
mod effective;
mod env;
mod files;
mod json_schema;
mod keys;
mod labels;
mod list;
mod load;
mod locate;
mod pem_blocks;
mod problem;
mod renewed;
mod scalar;
mod state_dir;
mod tree;
mod typed;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod reference;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

pub use admin_address::admin_address;
pub use change::{Change, Diff, Subject};
pub use check::overlap;
pub use diff::{diff, diff_of_backends, fixed};
pub use disk::{Disk, FILE_TIMEOUT, must_be_regular, read_named};
pub use effective::masked;
pub use json_schema::json_schema;
pub use list::{backends_in, parse_backends};
pub use load::{Checked, load, parse, parse_in_place};
pub use problem::Problem;
