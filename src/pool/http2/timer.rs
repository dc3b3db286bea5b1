//! The timer of an exchange that makes no progress.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// One timer for all waits of an exchange. It is reset only when it fires too early, so a restart costs nothing.
#[derive(Debug, Default)]
pub(super) struct ProgressTimer {
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl ProgressTimer {
    /// Begins the wait again.
    pub(super) fn restart(&mut self) {
        self.since = None;
    }

    /// Ready when the wait has lasted for `limit`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let until = *self.since.get_or_insert_with(Instant::now) + limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}
