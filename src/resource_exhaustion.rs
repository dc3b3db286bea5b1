//! What this process or machine has too little of: descriptors, memory, ports. An error of that kind says nothing about the
//! other end of a connection, nor about a file. It judges errors and knows no room.

use std::fmt::Display;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhaustion {
    /// EMFILE, ENFILE.
    Descriptors,
    /// ENOMEM, ENOBUFS.
    Memory,
    /// EADDRNOTAVAIL of connect(2): no local port is left, or no local address leads there.
    Ports,
}

/// What this error says is lacking here; nothing if it is about something else.
pub fn of(error: &io::Error) -> Option<Exhaustion> {
    match error.raw_os_error()? {
        libc::EMFILE | libc::ENFILE => Some(Exhaustion::Descriptors),
        libc::ENOMEM | libc::ENOBUFS => Some(Exhaustion::Memory),
        libc::EADDRNOTAVAIL => Some(Exhaustion::Ports),
        _ => None,
    }
}

/// Whether a file that could not be read for this may be read later as it is: something is lacking here, or its file system
/// does not answer.
pub fn is_passing(error: &io::Error) -> bool {
    of(error).is_some() || error.kind() == io::ErrorKind::TimedOut
}

/// A warning that is told at most once in ten seconds.
#[derive(Debug, Default)]
pub struct LimitedWarning {
    /// When it may be told next, in milliseconds of the process.
    next: AtomicU64,
}

/// How long a warning is not repeated.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

static STARTED: OnceLock<Instant> = OnceLock::new();

impl LimitedWarning {
    /// One that was not told yet.
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0) }
    }

    /// Tells what could not be done and why, if that was not told a moment ago.
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

    /// The same where it may be something else that is lacking.
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
    fn what_is_lacking_here_is_told_from_what_the_other_end_says() {
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
    fn a_warning_is_told_once_in_a_while() {
        let warning = LimitedWarning::new();
        let told = [0, 1, 9, 10, 19, 20].map(|seconds| warning.is_due(Duration::from_secs(seconds)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
