//! The descriptors that this process was started with.

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::UPGRADE_FD;

/// A socket with its name.
#[derive(Debug)]
pub struct NamedFd {
    /// Its name in `LISTEN_FDNAMES`; `unknown` without the variable.
    pub name: String,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// The descriptors of this process that others have opened.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The sockets of `LISTEN_FDS`.
    pub sockets: Vec<NamedFd>,
    /// The descriptors of `WEIR_UPGRADE_FD`.
    pub others: Vec<OwnedFd>,
}

/// Takes the inherited descriptors. None of them passes to a further process. Call it first in `main`, before the
/// process opens a descriptor: the numbers must not be in use for anything else. Each later call returns nothing.
///
/// # Errors
/// The variables are malformed, or a descriptor that they name is not open.
pub fn inherited() -> io::Result<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Inherited::default());
    }
    // Checked as a whole before the first is owned.
    let sockets: Vec<(RawFd, String)> = if sd_notify::listen_fds()?.len() == 0 {
        // The names of another process would not fit.
        Vec::new()
    } else {
        sd_notify::listen_fds_with_names()?.collect()
    };
    let others = others()?;
    others.iter().try_for_each(|fd| close_on_exec(*fd))?;
    if others.iter().any(|fd| sockets.iter().any(|(socket, _)| socket == fd)) {
        return Err(invalid(format!("{UPGRADE_FD} and LISTEN_FDS name the same descriptor")));
    }
    let sockets = sockets.into_iter().map(|(fd, name)| NamedFd { name, fd: own(fd) });
    Ok(Inherited { sockets: sockets.collect(), others: others.into_iter().map(own).collect() })
}

/// The numbers in `WEIR_UPGRADE_FD`.
fn others() -> io::Result<Vec<RawFd>> {
    let Ok(range) = env::var(UPGRADE_FD) else { return Ok(Vec::new()) };
    parse(&range).map(|(first, last)| (first..=last).collect()).ok_or_else(|| invalid(format!("{UPGRADE_FD}={range}")))
}

fn parse(range: &str) -> Option<(RawFd, RawFd)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first <= last).then_some((first.into(), last.into()))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[allow(unsafe_code)]
fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: `fcntl` with F_SETFD accepts any number; a number that is not open is an error.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the parent process opened the descriptor for this process, `close_on_exec` has found it open, and
    // `inherited` runs once and before this process opens descriptors. So nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_number_or_two_in_order() {
        assert_eq!(parse("5"), Some((5, 5)));
        assert_eq!(parse("5-7"), Some((5, 7)));
        for wrong in ["", "-", "7-5", "-1", "5-", "a", "5-7-9", "70000"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
