//! Raises the limit of open files at start and reserves descriptors that client connections never use.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;

/// Warning threshold. Each proxied request needs two descriptors.
const MIN_DESCRIPTORS: u64 = 4_096;

/// Bounds of the reserve for backends, health checks, files and the admin API. The reserve is an eighth of the limit.
const RESERVED_SHARE: (u64, u64) = (16, 8_192);

/// A file that can be opened many times.
const NULL: &str = "/dev/null";

/// Descriptors needed at start: per thread, and for the process.
const STARTUP_DESCRIPTORS: (usize, usize) = (4, 8);

/// Raises the soft limit to the hard limit. Returns the first descriptor number that is reserved.
///
/// # Errors
/// There are too few descriptors to start this number of threads.
pub(super) fn raise_open_files(threads: usize) -> io::Result<RawFd> {
    let limit = rlimit::increase_nofile_limit(u64::MAX);
    match &limit {
        Ok(limit) if *limit < MIN_DESCRIPTORS => {
            tracing::warn!(
                limit,
                "few open files allowed: a connection takes one, a backend's another. Raise LimitNOFILE or `ulimit -n`"
            );
        }
        Ok(limit) => tracing::debug!(limit, "open files allowed"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
    // Some libraries panic at start if descriptors run out. Opening them here first gives an error instead.
    let _opened = (0..STARTUP_DESCRIPTORS.0 * threads + STARTUP_DESCRIPTORS.1)
        .map(|_| File::open(NULL).map_err(name_the_file))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(limit.map_or(RawFd::MAX, reserved))
}

/// A bare chroot has no such file, and the error alone would not say which one is missing.
fn name_the_file(error: io::Error) -> io::Error {
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    if is_missing { io::Error::new(error.kind(), format!("{NULL}: {error}")) } else { error }
}

/// The first reserved descriptor number.
fn reserved(limit: u64) -> RawFd {
    let reserve = (limit / 8).clamp(RESERVED_SHARE.0, RESERVED_SHARE.1).min(limit / 4);
    RawFd::try_from(limit - reserve).unwrap_or(RawFd::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_an_eighth_within_bounds_and_at_most_a_quarter() {
        let reserves = [20_u64, 64, 1_024, 65_536, 1 << 20].map(|limit| limit - reserved(limit) as u64);
        assert_eq!(reserves, [5, 16, 128, 8_192, 8_192]);
        assert_eq!(reserved(u64::MAX), RawFd::MAX);
    }
}
