//! The access log: a bounded queue of lines, and the one thread that writes them.
//!
//! A request never waits for it: it copies its line under a lock that is held for copies only, and a line that finds
//! the queue full is dropped and counted. The writer's own troubles (`sink`) are logged and counted, never fatal.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::cells::Count;
use super::sink::Sink;

/// How many lines may wait for the writer.
pub const MAX_QUEUED_LINES: usize = 65_536;

/// How many bytes of lines may wait for the writer.
pub const MAX_QUEUED_BYTES: usize = 16 << 20;

/// How long lines gather before the next write. It bounds the writer's wake-ups under load; a line that comes after
/// a pause is written at once.
const GATHER: Duration = Duration::from_millis(2);

/// A queue that grew beyond this gives the memory back once it is written.
const USUAL_BYTES: usize = 256 << 10;

/// The access log. Dropping the last handle ends the writer once it has written what is queued.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    on: AtomicBool,
    dropped: Arc<Count>,
    queue: Mutex<Queue>,
    wake: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    count: usize,
    switch: Option<Sink>,
    reopen: bool,
    closing: bool,
    closed: bool,
    idle: bool,
}

impl AccessLog {
    /// Starts the writer. Lines that are lost are counted in `dropped`.
    pub fn start(sink: Sink, dropped: Arc<Count>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            on: AtomicBool::new(sink.is_on()),
            dropped,
            queue: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run(sink))?;
        Ok(Self { shared })
    }

    /// Whether lines are written at all.
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Ordering::Relaxed)
    }

    /// Queues whole lines, or drops and counts them.
    pub(super) fn push(&self, line: &[u8]) {
        let mut queue = self.shared.lock();
        let full = queue.count >= MAX_QUEUED_LINES || queue.lines.len() + line.len() > MAX_QUEUED_BYTES;
        if full || queue.closing {
            drop(queue);
            return self.shared.dropped.bump();
        }
        queue.lines.extend_from_slice(line);
        queue.count += 1;
        let idle = std::mem::replace(&mut queue.idle, false);
        drop(queue);
        if idle {
            self.shared.wake.notify_one();
        }
    }

    /// From here on lines go to `sink`; what is queued still goes where it went.
    pub fn switch(&self, sink: Sink) {
        self.shared.on.store(sink.is_on(), Ordering::Relaxed);
        self.shared.lock().switch = Some(sink);
        self.shared.wake.notify_one();
    }

    /// Opens the file anew, by name: after a rotation. If that fails the old one goes on.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.wake.notify_one();
    }

    /// Writes what is queued and ends. Returns whether all of it was written within `wait`; it blocks that long.
    pub fn close(&self, wait: Duration) -> bool {
        self.shared.on.store(false, Ordering::Relaxed);
        let deadline = Instant::now() + wait;
        let mut queue = self.shared.lock();
        queue.closing = true;
        self.shared.wake.notify_one();
        while !queue.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.written.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }
}

/// What the writer has to do next.
struct Work {
    lines: Vec<u8>,
    count: usize,
    switch: Option<Sink>,
    reopen: bool,
    closing: bool,
}

impl Shared {
    fn run(&self, mut sink: Sink) {
        let mut spare = Vec::new();
        loop {
            let mut work = self.next(spare);
            self.dropped.add(sink.write(&work.lines, work.count));
            if let Some(next) = work.switch {
                sink = next;
            }
            if work.reopen {
                sink.reopen();
            }
            if work.closing {
                break;
            }
            work.lines.clear();
            work.lines.shrink_to(USUAL_BYTES);
            spare = work.lines;
            thread::sleep(GATHER);
        }
        self.lock().closed = true;
        self.written.notify_all();
    }

    /// Waits for work and takes all of it; `spare` becomes the queue's buffer, so that two buffers take turns.
    fn next(&self, spare: Vec<u8>) -> Work {
        let mut queue = self.lock();
        while queue.count == 0 && queue.switch.is_none() && !queue.reopen && !queue.closing {
            queue.idle = true;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        Work {
            lines: std::mem::replace(&mut queue.lines, spare),
            count: std::mem::take(&mut queue.count),
            switch: queue.switch.take(),
            reopen: std::mem::take(&mut queue.reopen),
            closing: queue.closing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code under this lock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
