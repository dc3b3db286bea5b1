//! Flush timer of collected response bytes: a header leaves after 20 ms even if no more bytes follow, and bytes of a body
//! as soon as the exchange waits.
//!
//! It neither stores nor sends bytes: `DownstreamStream` does. The delay lets a header and a small body leave in one
//! packet. A body has no delay, because a stream may send it in pieces.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// The maximum delay. People do not notice it, and two writes of one response are rarely further apart.
const MAX_DELAY: Duration = Duration::from_millis(20);

const NOTHING: u8 = 0;
/// A header, or an interim response.
const HEADER: u8 = 1;
/// Bytes of a body, perhaps after a header.
const BODY: u8 = 2;
const DUE: u8 = 3;

/// The state of the timer: no bytes wait, some bytes wait, or they are due.
#[derive(Debug, Default)]
pub(in crate::listener) struct FlushTimer(AtomicU8);

impl FlushTimer {
    /// A header waits. Starts the delay if no bytes were waiting.
    pub(in crate::listener) fn header(&self) {
        if self.0.load(Ordering::Relaxed) == NOTHING {
            self.0.store(HEADER, Ordering::Relaxed);
        }
    }

    /// Bytes of a body wait. They leave with the header before them.
    pub(in crate::listener) fn body(&self) {
        if self.0.load(Ordering::Relaxed) != DUE {
            self.0.store(BODY, Ordering::Relaxed);
        }
    }

    /// All bytes have left.
    pub(in crate::listener) fn none(&self) {
        self.0.store(NOTHING, Ordering::Relaxed);
    }

    /// Whether the bytes must leave now.
    pub(in crate::listener) fn is_due(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DUE
    }

    /// Polls the timer. The task of the exchange calls it last in each poll, after all code that writes. When the bytes
    /// are due, it wakes the task to send them.
    fn poll(&self, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) {
        let is_due = match self.0.load(Ordering::Relaxed) {
            HEADER => timer.get_or_insert_with(|| Box::pin(sleep(MAX_DELAY))).as_mut().poll(cx).is_ready(),
            state => {
                *timer = None;
                state == BODY
            }
        };
        if is_due {
            self.0.store(DUE, Ordering::Relaxed);
            cx.waker().wake_by_ref();
        }
    }

    /// Polls the timer as a part of the exchange's task. It never completes.
    pub(in crate::listener) async fn watch(&self) -> Infallible {
        let mut timer = None;
        std::future::poll_fn(|cx| {
            self.poll(&mut timer, cx);
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn polled(timer: &FlushTimer, sleep: &mut Option<Pin<Box<Sleep>>>) -> bool {
        timer.poll(sleep, &mut Context::from_waker(Waker::noop()));
        timer.is_due()
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_waits_for_its_body_and_leaves_after_the_delay() {
        let (timer, mut sleep) = (FlushTimer::default(), None);
        timer.header();
        assert!(!polled(&timer, &mut sleep));
        tokio::time::advance(MAX_DELAY / 2).await;
        assert!(!polled(&timer, &mut sleep));
        tokio::time::advance(MAX_DELAY).await;
        assert!(polled(&timer, &mut sleep));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_body_leave_once_the_exchange_waits() {
        for after_header in [false, true] {
            let (timer, mut sleep) = (FlushTimer::default(), None);
            if after_header {
                timer.header();
                assert!(!polled(&timer, &mut sleep));
            }
            timer.body();
            assert!(polled(&timer, &mut sleep));
            timer.none();
            assert!(!polled(&timer, &mut sleep), "they have left");
        }
    }
}
