//! The access log: a queue of entries (`line_queue`) whose writer thread writes to `access_log.path`.
//!
//! A request never waits for the output.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use super::access_rules::AccessRules;
use super::line_queue::LineQueue;
pub use super::line_queue::{MAX_QUEUED_BYTES, MAX_QUEUED_LINES};
use super::sink::Sink;
use crate::instruments::Counter;

/// The access log. Dropping the last handle stops the writer thread after it has written the queued lines.
#[derive(Debug)]
pub struct AccessLog {
    on: AtomicBool,
    rules: ArcSwap<AccessRules>,
    lines: LineQueue,
}

impl AccessLog {
    /// Starts the writer thread. Lost lines are counted in `dropped`.
    pub fn start(sink: Sink, dropped: Arc<Counter>) -> io::Result<Self> {
        let on = AtomicBool::new(sink.is_on());
        Ok(Self { on, rules: ArcSwap::default(), lines: LineQueue::start("access-log", sink, dropped)? })
    }

    /// Whether lines are written at all.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The current rules: which requests are logged, and how.
    pub(super) fn rules(&self) -> Guard<Arc<AccessRules>> {
        self.rules.load()
    }

    /// Later requests follow these rules.
    pub fn set_rules(&self, rules: AccessRules) {
        self.rules.store(Arc::new(rules));
    }

    /// Queues complete lines. If the queue is full, they are dropped and counted.
    pub(super) fn push(&self, line: &[u8]) {
        self.lines.push(line);
    }

    /// Later lines go to `sink`. Lines that are already queued go to the previous sink.
    pub fn switch(&self, sink: Sink) {
        self.on.store(sink.is_on(), Ordering::Relaxed);
        self.lines.switch(sink);
    }

    /// Reopens the file by its path, after a log rotation. If that fails, the open file stays in use.
    pub fn reopen(&self) {
        self.lines.reopen();
    }

    /// Writes the queued lines and stops the writer thread. Blocks up to `wait`, and returns whether all lines were
    /// written in that time.
    pub fn close(&self, wait: Duration) -> bool {
        self.on.store(false, Ordering::Relaxed);
        self.lines.close(wait)
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
