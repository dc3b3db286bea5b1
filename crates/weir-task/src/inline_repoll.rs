//! A task that goes on at once where it woke itself.
//!
//! Pingora passes a response from the half of a request that reads it to the half that writes it, and the one wakes the
//! other. By way of the thread's queue others come in between, and a large piece has left the processor's cache before it
//! is sent. It never keeps the thread from others for long, and lets them go first where a `Turn` was passed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::flush_batch::LEAVES;
use crate::local_waker::TaskSlot;

/// How often a task goes on before others have their turn: a response's header, a piece of its body, and their sending.
const ROUNDS: usize = 4;

/// A task.
pub struct InlineRepoll<F> {
    task: Pin<Box<F>>,
    /// None before it runs.
    bell: Option<TaskSlot>,
}

impl<F: Future> InlineRepoll<F> {
    /// For the runtime to poll in place of this, and to drop where it polled it: elsewhere its bell stays hung until the
    /// thread of that ends.
    pub fn new(task: F) -> Self {
        Self { task: Box::pin(task), bell: None }
    }
}

impl<F: Future> Future for InlineRepoll<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        match this.bell.as_ref().map(|bell| bell.is_for(cx.waker())) {
            Some(Some(true)) => {}
            // It has moved on to another thread, where it goes as others do.
            Some(None) => return this.task.as_mut().poll(cx),
            _ => this.bell = TaskSlot::register(cx.waker()),
        }
        let Some(bell) = &this.bell else { return this.task.as_mut().poll(cx) };
        let mut inner = Context::from_waker(bell.waker());
        for _ in 0..ROUNDS {
            LEAVES.set(false);
            bell.runs();
            if let Poll::Ready(output) = this.task.as_mut().poll(&mut inner) {
                return Poll::Ready(output);
            }
            if bell.rests() {
                return Poll::Pending;
            }
            if LEAVES.get() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::YieldOnce;

    /// Notes itself and wakes itself so many times.
    async fn noting(seen: Arc<Mutex<Vec<u8>>>, name: u8, times: usize) {
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
    async fn a_task_that_woke_itself_goes_on_but_not_for_ever() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = [(1, 2), (2, 5)]
            .map(|(name, times)| tokio::spawn(InlineRepoll::new(noting(Arc::clone(&seen), name, times))));
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [1, 1, 1, 2, 2, 2, 2, 2, 2]);
        seen.lock().unwrap().clear();
        let tasks = [(1, 5), (2, 1)]
            .map(|(name, times)| tokio::spawn(InlineRepoll::new(noting(Arc::clone(&seen), name, times))));
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [1, 1, 1, 1, 2, 2, 1, 1], "others go first after some rounds");
    }

    #[tokio::test]
    async fn a_turn_lets_others_go_first_all_the_same() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = [1, 2].map(|name| {
            let seen = Arc::clone(&seen);
            tokio::spawn(InlineRepoll::new(async move {
                seen.lock().unwrap().push(("reads", name));
                let mut turn = YieldOnce::default();
                poll_fn(|cx| turn.poll_pass(cx)).await;
                seen.lock().unwrap().push(("sends", name));
            }))
        });
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [("reads", 1), ("reads", 2), ("sends", 1), ("sends", 2)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_call_is_lost_whoever_wakes_it_and_when() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let sending = tokio::spawn(InlineRepoll::new(async move {
            for number in 0..20_000_u32 {
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
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), both).await.unwrap().1, 20_000);
    }
}
