//! What an exchange has written and its stream holds back, so that a header and a small body leave in one packet: it leaves
//! soon even if the rest does not come. Only the clock decides; what is held, and how it is sent, is the stream's to know.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How long something is held back at most: people do not notice, and two packets of one response are rarely further apart.
const MAX_DELAY: Duration = Duration::from_millis(20);

const NOTHING: u8 = 0;
const SOMETHING: u8 = 1;
const DUE: u8 = 2;

/// Whether something is held back.
#[derive(Debug, Default)]
pub(in crate::listener) struct FlushTimer(AtomicU8);

impl FlushTimer {
    /// Something is held back, if it was not before.
    pub(in crate::listener) fn some(&self) {
        if self.0.load(Ordering::Relaxed) == NOTHING {
            self.0.store(SOMETHING, Ordering::Relaxed);
        }
    }

    /// All has left.
    pub(in crate::listener) fn none(&self) {
        self.0.store(NOTHING, Ordering::Relaxed);
    }

    /// Whether it should leave now.
    pub(in crate::listener) fn is_due(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DUE
    }

    /// To be polled by the exchange's own task after all that writes; once it is due, the task is woken to send it.
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

    /// The same as a part of the task that never ends.
    pub(in crate::listener) async fn watch(&self) -> Infallible {
        let mut timer = None;
        std::future::poll_fn(|cx| {
            self.poll(&mut timer, cx);
            Poll::Pending
        })
        .await
    }
}
