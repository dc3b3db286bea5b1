//! Flush batching by cooperative yield: a task lets the ready tasks run once before it writes to its client.
//!
//! A write right after each read costs more kernel time than many writes in a row. A yield never waits for tasks that
//! are not ready: a task that is alone continues at once. The number of tasks that yield at the same time is bounded,
//! because their data must fit into the CPU cache.

use std::cell::Cell;
use std::task::{Context, Poll};

/// Maximum number of yielding tasks per thread. Each uses about 30 KiB, and the private cache of a core has 1 or 2 MiB.
const MAX_YIELDING: usize = 48;

thread_local! {
    /// Number of tasks of this thread that yield now.
    static YIELDING: Cell<usize> = const { Cell::new(0) };
    /// Whether the task that is being polled has yielded in this poll.
    pub(crate) static YIELDED: Cell<bool> = const { Cell::new(false) };
}

/// Yields once before a flush.
#[derive(Debug, Default)]
pub struct YieldOnce {
    yielding: bool,
}

impl YieldOnce {
    /// The first poll is pending, so that the tasks that are ready now run first. The second poll is ready and resets
    /// the value. The first poll is ready at once if 48 tasks of the thread already yield.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielding {
            self.end();
            return Poll::Ready(());
        }
        if YIELDING.get() >= MAX_YIELDING {
            return Poll::Ready(());
        }
        YIELDING.set(YIELDING.get() + 1);
        self.yielding = true;
        YIELDED.set(true);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn end(&mut self) {
        self.yielding = false;
        YIELDING.set(YIELDING.get().saturating_sub(1));
    }
}

impl Drop for YieldOnce {
    fn drop(&mut self) {
        if self.yielding {
            self.end();
        }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn ready_tasks_read_before_the_first_one_sends() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = [1, 2, 3].map(|request| {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                seen.lock().unwrap().push(("reads", request));
                let mut flush = YieldOnce::default();
                poll_fn(|cx| flush.poll(cx)).await;
                seen.lock().unwrap().push(("sends", request));
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        let order = [("reads", 1), ("reads", 2), ("reads", 3), ("sends", 1), ("sends", 2), ("sends", 3)];
        assert_eq!(*seen.lock().unwrap(), order);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_alone_continues_at_once() {
        let (mut flush, began) = (YieldOnce::default(), tokio::time::Instant::now());
        for _ in 0..3 {
            poll_fn(|cx| flush.poll(cx)).await;
        }
        assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    }

    #[test]
    fn at_most_48_tasks_yield_at_once_and_a_dropped_one_frees_its_place() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut flushes: Vec<YieldOnce> = (0..=MAX_YIELDING).map(|_| YieldOnce::default()).collect();
        let first = flushes.iter_mut().map(|flush| flush.poll(cx).is_pending()).collect::<Vec<_>>();
        assert_eq!(first.iter().filter(|pending| **pending).count(), MAX_YIELDING);
        assert!(!first[MAX_YIELDING], "the last goes on at once");
        assert!(flushes[0].poll(cx).is_ready());
        assert!(flushes[MAX_YIELDING].poll(cx).is_pending(), "one has yielded");
        flushes.truncate(MAX_YIELDING);
        assert!(flushes[0].poll(cx).is_pending(), "one gave up");
        drop(flushes);
        assert_eq!(YIELDING.get(), 0);
    }
}
