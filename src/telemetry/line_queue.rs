//! A bounded queue of log lines with one writer thread, used by the access log and the process log.
//!
//! A caller never waits for the output: it copies its line under a lock that protects copies only. If the queue is
//! full, the line is dropped and counted. Output errors (`sink`) are logged and counted, never fatal.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::sink::Sink;
use crate::instruments::Counter;

/// Maximum number of queued lines.
pub const MAX_QUEUED_LINES: usize = 65_536;

/// Maximum number of queued bytes.
pub const MAX_QUEUED_BYTES: usize = 16 << 20;

/// Reserved capacity above both bounds for important lines. They are accepted even if other lines have filled the
/// queue.
const RESERVED_LINES: usize = 1024;
const RESERVED_BYTES: usize = 1 << 20;

/// Pause of the writer thread after each write, in which lines gather. It bounds the wake-ups under load. A line that
/// arrives when the writer is idle is written at once.
pub(super) const GATHER_INTERVAL: Duration = Duration::from_millis(2);

/// A buffer that grew beyond this size is shrunk after it was written.
const USUAL_BYTES: usize = 256 << 10;

/// The queue. Dropping it stops the writer thread after it has written the queued lines.
#[derive(Debug)]
pub(super) struct LineQueue {
    shared: Arc<SharedQueue>,
}

#[derive(Debug)]
struct SharedQueue {
    dropped: Arc<Counter>,
    queue: Mutex<QueuedLines>,
    wake: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct QueuedLines {
    lines: Vec<u8>,
    count: usize,
    switch: Option<Sink>,
    reopen: bool,
    closing: bool,
    closed: bool,
    idle: bool,
    /// Lines accepted since the start, and lines that were written or lost.
    accepted: u64,
    done: u64,
}

impl LineQueue {
    /// Starts a writer thread with this name. Lost lines are counted in `dropped`.
    pub(super) fn start(name: &str, sink: Sink, dropped: Arc<Counter>) -> io::Result<Self> {
        let shared =
            Arc::new(SharedQueue { dropped, queue: Mutex::default(), wake: Condvar::new(), written: Condvar::new() });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name(name.into()).spawn(move || writer.run(sink))?;
        Ok(Self { shared })
    }

    /// Queues a complete line. If the queue is full, it is dropped and counted.
    pub(super) fn push(&self, line: &[u8]) {
        self.push_below(line, MAX_QUEUED_LINES, MAX_QUEUED_BYTES);
    }

    /// As `push`, for a line that may use the reserved capacity.
    pub(super) fn push_important(&self, line: &[u8]) {
        self.push_below(line, MAX_QUEUED_LINES + RESERVED_LINES, MAX_QUEUED_BYTES + RESERVED_BYTES);
    }

    fn push_below(&self, line: &[u8], max_lines: usize, max_bytes: usize) {
        let mut queue = self.shared.lock();
        let full = queue.count >= max_lines || queue.lines.len() + line.len() > max_bytes;
        if full || queue.closing {
            drop(queue);
            return self.shared.dropped.bump();
        }
        queue.lines.extend_from_slice(line);
        queue.count += 1;
        queue.accepted += 1;
        let idle = std::mem::replace(&mut queue.idle, false);
        drop(queue);
        if idle {
            self.shared.wake.notify_one();
        }
    }

    /// Later lines go to `sink`. Lines that are already queued go to the previous sink.
    pub(super) fn switch(&self, sink: Sink) {
        self.shared.lock().switch = Some(sink);
        self.shared.wake.notify_one();
    }

    #[cfg(test)]
    pub(super) fn is_switched(&self) -> bool {
        self.shared.lock().switch.is_none()
    }

    /// Reopens the file by its path, after a log rotation. If that fails, the open file stays in use.
    pub(super) fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.wake.notify_one();
    }

    /// Waits until the lines queued so far are processed. Returns false if that takes longer than `wait`.
    pub(super) fn flush(&self, wait: Duration) -> bool {
        let queue = self.shared.lock();
        let accepted = queue.accepted;
        self.shared.wait(queue, wait, |queue| queue.done >= accepted)
    }

    /// Writes the queued lines and stops the writer thread. Blocks up to `wait`, and returns whether all lines were
    /// written in that time.
    pub(super) fn close(&self, wait: Duration) -> bool {
        let mut queue = self.shared.lock();
        queue.closing = true;
        self.shared.wake.notify_one();
        self.shared.wait(queue, wait, |queue| queue.closed)
    }
}

impl Drop for LineQueue {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }
}

/// Work that the writer thread takes from the queue.
struct Work {
    lines: Vec<u8>,
    count: usize,
    switch: Option<Sink>,
    reopen: bool,
    closing: bool,
}

impl SharedQueue {
    fn run(&self, mut sink: Sink) {
        let mut spare = Vec::new();
        loop {
            let mut work = self.next(spare);
            self.dropped.add(sink.write(&work.lines, work.count));
            self.lock().done += work.count as u64;
            self.written.notify_all();
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
            thread::sleep(GATHER_INTERVAL);
        }
        self.lock().closed = true;
        self.written.notify_all();
    }

    /// Waits for work and takes all of it. `spare` becomes the queue's buffer, so that two buffers alternate.
    fn next(&self, spare: Vec<u8>) -> Work {
        let mut queue = self.lock();
        while queue.count == 0 && queue.switch.is_none() && !queue.reopen && !queue.closing {
            queue.idle = true;
            self.wake.wait(&mut queue);
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

    fn wait(
        &self,
        mut queue: MutexGuard<'_, QueuedLines>,
        wait: Duration,
        done: impl Fn(&QueuedLines) -> bool,
    ) -> bool {
        let deadline = Instant::now() + wait;
        while !done(&queue) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.written.wait_for(&mut queue, left);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, QueuedLines> {
        self.queue.lock()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// Blocks in each write until the sender is dropped, then writes to the buffer.
    struct Stuck(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_important_line_arrives_after_a_flood_that_filled_the_queue() {
        let ((free, stuck), dropped, text) =
            (mpsc::channel(), Arc::new(Counter::new()), Arc::<Mutex<Vec<u8>>>::default());
        let sink = Sink::to(Box::new(Stuck(stuck, Arc::clone(&text))));
        let queue = LineQueue::start("test", sink, Arc::clone(&dropped)).unwrap();
        for _ in 0..2 * MAX_QUEUED_LINES + 1 {
            queue.push(b"flood\n");
        }
        assert!(dropped.get() >= 1);
        let before = dropped.get();
        queue.push_important(b"the last words\n");
        assert_eq!(dropped.get(), before);
        assert!(!queue.flush(Duration::from_millis(20)), "the output is blocked");
        drop(free);
        assert!(queue.flush(LONG));
        assert!(text.lock().ends_with(b"flood\nthe last words\n"));
    }

    #[test]
    fn important_lines_are_bounded_too() {
        let ((_free, stuck), dropped) = (mpsc::channel(), Arc::new(Counter::new()));
        let queue = LineQueue::start("test", Sink::to(Box::new(Stuck(stuck, Arc::default()))), Arc::clone(&dropped));
        let queue = queue.unwrap();
        for _ in 0..2 * (MAX_QUEUED_LINES + RESERVED_LINES) + 1 {
            queue.push_important(b"x\n");
        }
        assert!(dropped.get() >= 1);
    }
}
