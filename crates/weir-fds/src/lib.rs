//! Passing of open descriptors from one process to the next.
//!
//! Listening sockets pass by the protocol of systemd's socket activation: `LISTEN_FDS`, `LISTEN_PID` and
//! `LISTEN_FDNAMES`, with numbers from 3 on (`sd_listen_fds(3)`). Further descriptors follow them; the variable
//! `WEIR_UPGRADE_FD` has their first and last number.
//!
//! - [`inherited`] takes the descriptors that this process was started with.
//! - [`spawn`] starts a process with descriptors.
//!
//! The crate never depends on what a descriptor is.

mod inherited;
mod spawn;

pub use inherited::{Inherited, NamedFd, inherited};
pub use spawn::{Passed, spawn};

/// The first number of a passed descriptor.
const FIRST: i32 = 3;

/// The variable with the numbers of the further descriptors: `FIRST-LAST`.
const UPGRADE_FD: &str = "WEIR_UPGRADE_FD";

/// The variables of the systemd protocol.
const LISTEN: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
