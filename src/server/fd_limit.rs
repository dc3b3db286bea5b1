//! The limits that the system sets us: as many descriptors as it allows, a word where that is few, and some that are not
//! for clients.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;

/// Below this many open files a busy edge runs out; every request takes two.
const MIN_DESCRIPTORS: u64 = 4_096;

/// How many of the descriptors are for backends, probes, files and the admin alone: an eighth, within these bounds.
const RESERVED_SHARE: (u64, u64) = (16, 8_192);

/// What a thread and the process take to start.
const STARTUP_DESCRIPTORS: (usize, usize) = (4, 8);

/// Raises the soft limit to the hard one. The first descriptor that no client gets.
///
/// # Errors
/// There are too few to start so many threads.
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
    // Those who start with too few panic, some of them in libraries.
    let _held = (0..STARTUP_DESCRIPTORS.0 * threads + STARTUP_DESCRIPTORS.1)
        .map(|_| File::open("/dev/null"))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(limit.map_or(RawFd::MAX, reserved))
}

/// The first descriptor of the reserve.
fn reserved(limit: u64) -> RawFd {
    let reserve = (limit / 8).clamp(RESERVED_SHARE.0, RESERVED_SHARE.1).min(limit / 4);
    RawFd::try_from(limit - reserve).unwrap_or(RawFd::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_an_eighth_within_bounds_and_never_most_of_it() {
        let reserves = [20_u64, 64, 1_024, 65_536, 1 << 20].map(|limit| limit - reserved(limit) as u64);
        assert_eq!(reserves, [5, 16, 128, 8_192, 8_192]);
        assert_eq!(reserved(u64::MAX), RawFd::MAX);
    }
}
