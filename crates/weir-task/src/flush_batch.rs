//! A turn of a thread: a task lets those that are ready go first, so that what several of them send to clients leaves one
//! after another.
//!
//! Sending right after each read costs more time in the kernel than many sends in a row (docs/performance.md has the
//! figures). It never waits for what is not ready: where nothing else is, a turn is over at once. And only so many wait
//! as the processor's cache has room for what they work on; the others go on.

use std::cell::Cell;
use std::task::{Context, Poll};

/// How many tasks of a thread wait at most. Each works on some 30 KiB, and a core's own cache has one or two MiB.
const MOST: usize = 48;

thread_local! {
    /// How many of this thread's wait now.
    static WAITING: Cell<usize> = const { Cell::new(0) };
    /// Whether the task that runs wants others to go first.
    pub(crate) static LEAVES: Cell<bool> = const { Cell::new(false) };
}

/// Whether a turn is being let pass.
#[derive(Debug, Default)]
pub struct YieldOnce {
    passing: bool,
}

impl YieldOnce {
    /// Pending once, while tasks that are ready now have their turn; then ready, and as new. Ready at once where many
    /// wait already.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.passing {
            self.end();
            return Poll::Ready(());
        }
        if WAITING.get() >= MOST {
            return Poll::Ready(());
        }
        WAITING.set(WAITING.get() + 1);
        self.passing = true;
        LEAVES.set(true);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn end(&mut self) {
        self.passing = false;
        WAITING.set(WAITING.get().saturating_sub(1));
    }
}

impl Drop for YieldOnce {
    fn drop(&mut self) {
        if self.passing {
            self.end();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn what_is_ready_is_read_before_the_first_sends() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = [1, 2, 3].map(|request| {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                seen.lock().unwrap().push(("reads", request));
                let mut turn = YieldOnce::default();
                poll_fn(|cx| turn.poll_pass(cx)).await;
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
    async fn a_task_that_is_alone_goes_on_at_once() {
        let (mut turn, began) = (YieldOnce::default(), tokio::time::Instant::now());
        for _ in 0..3 {
            poll_fn(|cx| turn.poll_pass(cx)).await;
        }
        assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    }

    #[test]
    fn no_more_wait_than_the_cache_has_room_for_and_who_gives_up_makes_room() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut turns: Vec<YieldOnce> = (0..=MOST).map(|_| YieldOnce::default()).collect();
        let first = turns.iter_mut().map(|turn| turn.poll_pass(cx).is_pending()).collect::<Vec<_>>();
        assert_eq!(first.iter().filter(|waits| **waits).count(), MOST);
        assert!(!first[MOST], "the last goes on at once");
        assert!(turns[0].poll_pass(cx).is_ready());
        assert!(turns[MOST].poll_pass(cx).is_pending(), "one has had its turn");
        turns.truncate(MOST);
        assert!(turns[0].poll_pass(cx).is_pending(), "one gave up");
        drop(turns);
        assert_eq!(WAITING.get(), 0);
    }
}
