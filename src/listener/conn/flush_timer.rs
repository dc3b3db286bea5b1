//! Flush timer of collected response bytes: they leave after 20 ms even if no more bytes follow.
//!
//! It neither stores nor sends bytes: `DownstreamStream` does. The delay lets a header and a small body leave in one
//! packet.

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
const SOMETHING: u8 = 1;
const DUE: u8 = 2;

/// The state of the timer: no bytes wait, some bytes wait, or they are due.
#[derive(Debug, Default)]
pub(in crate::listener) struct FlushTimer(AtomicU8);

impl FlushTimer {
    /// Starts the delay if no bytes were waiting.
    pub(in crate::listener) fn some(&self) {
        if self.0.load(Ordering::Relaxed) == NOTHING {
            self.0.store(SOMETHING, Ordering::Relaxed);
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
        if self.0.load(Ordering::Relaxed) != SOMETHING {
            *timer = None;
            return;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(MAX_DELAY)));
        if timer.as_mut().poll(cx).is_ready() {
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
