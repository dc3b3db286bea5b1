//! Detection of local resource exhaustion in I/O errors: descriptors, memory, ports. Such an error says nothing about
//! the peer or the file.

use std::fmt::Display;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The exhausted resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhaustion {
    /// EMFILE, ENFILE.
    Descriptors,
    /// ENOMEM, ENOBUFS.
    Memory,
    /// EADDRNOTAVAIL of connect(2): no local port is free, or no local address fits the destination.
    Ports,
}

/// The exhausted resource; `None` if the error has another cause.
pub fn of(error: &io::Error) -> Option<Exhaustion> {
    match error.raw_os_error()? {
        libc::EMFILE | libc::ENFILE => Some(Exhaustion::Descriptors),
        libc::ENOMEM | libc::ENOBUFS => Some(Exhaustion::Memory),
        libc::EADDRNOTAVAIL => Some(Exhaustion::Ports),
        _ => None,
    }
}

/// Whether a failed read of a file may succeed later without a change: a resource is exhausted, or the file system does
/// not respond.
pub fn is_passing(error: &io::Error) -> bool {
    of(error).is_some() || error.kind() == io::ErrorKind::TimedOut
}

/// A warning that is logged at most once in ten seconds.
#[derive(Debug, Default)]
pub struct LimitedWarning {
    /// The next time at which it may be logged, in milliseconds since the first call.
    next: AtomicU64,
}

/// Minimum time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

static STARTED: OnceLock<Instant> = OnceLock::new();

impl LimitedWarning {
    /// A warning that was not logged yet.
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0) }
    }

    /// Logs a failure that is caused by resource exhaustion, unless the warning was logged less than ten seconds ago.
    pub fn emit(&self, what: &str, why: impl Display) {
        if self.is_due(STARTED.get_or_init(Instant::now).elapsed()) {
            tracing::warn!("{what}: weir itself lacks something ({why})");
        }
    }

    /// The same for a request: its id, its route and its upstream.
    pub fn emit_for(&self, of: (&str, Option<&str>, Option<&str>), what: &str, why: impl Display) {
        if self.is_due(STARTED.get_or_init(Instant::now).elapsed()) {
            let (request_id, route, upstream) = of;
            tracing::warn!(request_id, route, upstream, "{what}: weir itself lacks something ({why})");
        }
    }

    /// Logs a failure that may have another cause, with the same limit.
    pub fn say(&self, what: &str, why: impl Display) {
        if self.is_due(STARTED.get_or_init(Instant::now).elapsed()) {
            tracing::warn!("{what}: {why}");
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = |next: u64| (millis(now) >= next).then(|| millis(now + WARNING_INTERVAL));
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_exhaustion_is_distinguished_from_errors_of_the_peer() {
        let exhaustion = |number| of(&io::Error::from_raw_os_error(number));
        assert_eq!(
            (exhaustion(libc::EMFILE), exhaustion(libc::ENFILE)),
            (Some(Exhaustion::Descriptors), Some(Exhaustion::Descriptors))
        );
        assert_eq!(
            (exhaustion(libc::ENOBUFS), exhaustion(libc::EADDRNOTAVAIL)),
            (Some(Exhaustion::Memory), Some(Exhaustion::Ports))
        );
        assert_eq!((exhaustion(libc::ECONNREFUSED), exhaustion(libc::EACCES)), (None, None));
        assert_eq!(of(&io::ErrorKind::AddrNotAvailable.into()), None, "not the system's word");
    }

    #[test]
    fn a_warning_is_logged_at_most_once_in_ten_seconds() {
        let warning = LimitedWarning::new();
        let logged = [0, 1, 9, 10, 19, 20].map(|seconds| warning.is_due(Duration::from_secs(seconds)));
        assert_eq!(logged, [true, false, false, true, false, true]);
    }
}
