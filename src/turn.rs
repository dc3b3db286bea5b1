//! A turn of a thread: a task lets those that are ready go first, so that what several of them send leaves one after
//! another.
//!
//! A thread that sends after each request it has read wakes the receiver each time, which costs more than the sending
//! where that has gone to sleep in between. Of many sends in a row the first wakes it, and the others find it awake. It
//! never waits for what is not ready: where nothing else is, a turn is over at once.

use std::task::{Context, Poll};

/// Whether a turn is being let pass.
#[derive(Debug, Default)]
pub struct Turn {
    passing: bool,
}

impl Turn {
    /// Pending once, while tasks that are ready now have their turn; then ready, and as new.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.passing = !self.passing;
        if self.passing {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
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
                let mut turn = Turn::default();
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
        let (mut turn, began) = (Turn::default(), tokio::time::Instant::now());
        for _ in 0..3 {
            poll_fn(|cx| turn.poll_pass(cx)).await;
        }
        assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    }
}
