//! The limits that the system sets us: as many descriptors as it allows, and a word where that is few.

/// Below this many open files a busy edge runs out; every request takes two.
const FEW: u64 = 4_096;

/// Raises the soft limit to the hard one.
pub(super) fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < FEW => {
            tracing::warn!(
                limit,
                "few open files allowed: a connection takes one, a backend's another. Raise LimitNOFILE or `ulimit -n`"
            );
        }
        Ok(limit) => tracing::debug!(limit, "open files allowed"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}
