//! A future wrapper that polls a task again at once if it woke itself.
//!
//! In one request task, Pingora has a future that reads the response and a future that writes it to the client. The
//! first wakes the second. If the wake goes through the runtime's queue, other tasks run in between. By then a large
//! chunk may have left the CPU cache. The wrapper bounds the number of polls in a row, and returns to the runtime after
//! a `YieldOnce`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::flush_batch::YIELDED;
use crate::shared_waker::TaskSlot;

/// Maximum number of polls in a row. It suffices for a response head, one body chunk, and the writes of both.
const MAX_POLLS: usize = 4;

/// A task that is polled again at once if it woke itself, at most four times in a row.
pub struct InlineRepoll<F> {
    task: Pin<Box<F>>,
    /// `None` before the first poll.
    slot: Option<TaskSlot>,
}

impl<F: Future> InlineRepoll<F> {
    /// Wraps a task. Spawn the result in place of the task.
    pub fn new(task: F) -> Self {
        Self { task: Box::pin(task), slot: None }
    }
}

impl<F: Future> Future for InlineRepoll<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let current = this.slot.take().filter(|slot| slot.will_wake(cx.waker()));
        let slot = this.slot.insert(current.unwrap_or_else(|| TaskSlot::register(cx.waker())));
        let mut inner = Context::from_waker(slot.waker());
        for _ in 0..MAX_POLLS {
            YIELDED.set(false);
            slot.poll_started();
            if let Poll::Ready(output) = this.task.as_mut().poll(&mut inner) {
                return Poll::Ready(output);
            }
            if slot.poll_finished() {
                return Poll::Pending;
            }
            if YIELDED.get() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::YieldOnce;

    /// Records its name and wakes itself, `times` times.
    async fn recording(seen: Arc<Mutex<Vec<u8>>>, name: u8, times: usize) {
        let mut left = times;
        poll_fn(|cx| {
            seen.lock().unwrap().push(name);
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn a_task_that_woke_itself_is_polled_again_at_once_four_times_at_most() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = [(1, 2), (2, 5)]
            .map(|(name, times)| tokio::spawn(InlineRepoll::new(recording(Arc::clone(&seen), name, times))));
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [1, 1, 1, 2, 2, 2, 2, 2, 2]);
        seen.lock().unwrap().clear();
        let tasks = [(1, 5), (2, 1)]
            .map(|(name, times)| tokio::spawn(InlineRepoll::new(recording(Arc::clone(&seen), name, times))));
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [1, 1, 1, 1, 2, 2, 1, 1], "others run after four polls");
    }

    #[tokio::test]
    async fn a_task_that_yields_lets_others_run_first() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = [1, 2].map(|name| {
            let seen = Arc::clone(&seen);
            tokio::spawn(InlineRepoll::new(async move {
                seen.lock().unwrap().push(("reads", name));
                let mut flush = YieldOnce::default();
                poll_fn(|cx| flush.poll(cx)).await;
                seen.lock().unwrap().push(("sends", name));
            }))
        });
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [("reads", 1), ("reads", 2), ("sends", 1), ("sends", 2)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost_between_tasks_that_move_between_threads() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        const MESSAGES: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let sending = tokio::spawn(InlineRepoll::new(async move {
            for number in 0..MESSAGES {
                sender.send(number).await.unwrap();
            }
        }));
        let receiving = tokio::spawn(InlineRepoll::new(async move {
            let mut next = 0;
            while let Some(number) = receiver.recv().await {
                assert_eq!(number, next);
                next += 1;
            }
            next
        }));
        let both = async { (sending.await.unwrap(), receiving.await.unwrap()) };
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), both).await.unwrap().1, MESSAGES);
    }
    #[test]
    fn no_wake_is_lost_between_two_current_thread_runtimes() {
        const MESSAGES: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let (there, mut requests) = tokio::sync::mpsc::channel::<u32>(1);
        let (back, mut responses) = tokio::sync::mpsc::channel::<u32>(1);
        let run = |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    let task = tokio::spawn(InlineRepoll::new(task));
                    tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
                });
            })
        };
        let echo = run(Box::pin(async move {
            while let Some(number) = requests.recv().await {
                back.send(number).await.unwrap();
            }
        }));
        let client = run(Box::pin(async move {
            for number in 0..MESSAGES {
                there.send(number).await.unwrap();
                assert_eq!(responses.recv().await, Some(number));
            }
        }));
        client.join().unwrap();
        echo.join().unwrap();
    }
}
