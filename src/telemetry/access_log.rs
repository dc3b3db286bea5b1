//! The access log: a queue of lines (`line_queue`) to where `access_log.path` says.
//!
//! A request never waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::line_queue::LineQueue;
pub use super::line_queue::{MAX_QUEUED_BYTES, MAX_QUEUED_LINES};
use super::sink::Sink;
use crate::instruments::Counter;

/// The access log. Dropping the last handle ends the writer once it has written what is queued.
#[derive(Debug)]
pub struct AccessLog {
    on: AtomicBool,
    lines: LineQueue,
}

impl AccessLog {
    /// Starts the writer. Lines that are lost are counted in `dropped`.
    pub fn start(sink: Sink, dropped: Arc<Counter>) -> io::Result<Self> {
        let on = AtomicBool::new(sink.is_on());
        Ok(Self { on, lines: LineQueue::start("access-log", sink, dropped)? })
    }

    /// Whether lines are written at all.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Queues whole lines, or drops and counts them.
    pub(super) fn push(&self, line: &[u8]) {
        self.lines.push(line);
    }

    /// From here on lines go to `sink`; what is queued still goes where it went.
    pub fn switch(&self, sink: Sink) {
        self.on.store(sink.is_on(), Ordering::Relaxed);
        self.lines.switch(sink);
    }

    /// Opens the file anew, by name: after a rotation. If that fails the old one goes on.
    pub fn reopen(&self) {
        self.lines.reopen();
    }

    /// Writes what is queued and ends. Returns whether all of it was written within `wait`; it blocks that long.
    pub fn close(&self, wait: Duration) -> bool {
        self.on.store(false, Ordering::Relaxed);
        self.lines.close(wait)
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
