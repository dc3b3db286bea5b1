//! Half-close detection: a client that has closed its sending side has either left or still waits for its response.
//!
//! Both look the same until bytes are sent: then the kernel of a client that has left replies with a reset. This module
//! decides when to probe and when to give up. It sends nothing: the stream does.

use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::listener::conn::disconnect::{self, Wait};

/// How long the response may take to begin before the client is probed. Most responses begin earlier.
const ASK_AFTER: Duration = Duration::from_millis(250);
/// No probe is possible in the middle of a response. If no response bytes are written for this long, the client counts
/// as gone.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::listener) enum HalfClosedStep {
    /// Send bytes that a waiting client ignores, to probe the client. At most once per request.
    Ask,
    /// The client has left.
    Left,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Asked,
    Answering,
}

/// The state of a half-closed connection, from the client's FIN on.
#[derive(Debug)]
pub(in crate::listener) struct HalfClosed {
    broken: Wait,
    timer: Pin<Box<Sleep>>,
    stage: Stage,
}

impl HalfClosed {
    pub(in crate::listener) fn new(socket: BorrowedFd<'_>) -> Self {
        Self { broken: disconnect::broken(socket), timer: Box::pin(sleep(ASK_AFTER)), stage: Stage::Waiting }
    }

    /// `answering`: the response has begun. `moved`: a part of it was written since the last call; it is reset to
    /// false. It must not be called again after `HalfClosedStep::Left`.
    pub(in crate::listener) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        answering: bool,
        moved: &mut bool,
    ) -> Poll<HalfClosedStep> {
        if self.broken.poll(cx).is_ready() {
            return Poll::Ready(HalfClosedStep::Left);
        }
        if answering && self.stage != Stage::Answering {
            self.stage = Stage::Answering;
            self.timer.as_mut().reset(Instant::now() + POLL_INTERVAL);
        } else if !answering && self.stage == Stage::Answering {
            // The next of several requests that arrived before the FIN.
            self.stage = Stage::Waiting;
            self.timer.as_mut().reset(Instant::now() + ASK_AFTER);
        }
        if self.stage == Stage::Asked {
            return Poll::Pending;
        }
        if std::mem::take(moved) && self.stage == Stage::Answering {
            self.timer.as_mut().reset(Instant::now() + POLL_INTERVAL);
        }
        ready!(self.timer.as_mut().poll(cx));
        if self.stage == Stage::Answering {
            return Poll::Ready(HalfClosedStep::Left);
        }
        self.stage = Stage::Asked;
        Poll::Ready(HalfClosedStep::Ask)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn waiting(broken: Wait) -> HalfClosed {
        HalfClosed { broken, timer: Box::pin(sleep(ASK_AFTER)), stage: Stage::Waiting }
    }

    async fn step(half_closed: &mut HalfClosed, answering: bool, moved: &mut bool) -> HalfClosedStep {
        std::future::poll_fn(|cx| half_closed.poll(cx, answering, moved)).await
    }

    async fn nothing_within(wait: Duration, half_closed: &mut HalfClosed, answering: bool, moved: &mut bool) -> bool {
        tokio::time::timeout(wait, step(half_closed, answering, moved)).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_is_probed_once_per_request_and_a_slow_response_has_no_limit() {
        let (mut half_closed, began) = (waiting(Wait::new(std::future::pending())), Instant::now());
        assert_eq!(step(&mut half_closed, false, &mut false).await, HalfClosedStep::Ask);
        assert_eq!(began.elapsed(), ASK_AFTER);
        assert!(nothing_within(Duration::from_secs(3600), &mut half_closed, false, &mut false).await);
        // The response begins, then the next request.
        assert!(nothing_within(POLL_INTERVAL / 2, &mut half_closed, true, &mut false).await);
        assert_eq!(step(&mut half_closed, false, &mut false).await, HalfClosedStep::Ask);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_with_progress_continues_and_a_stalled_one_is_given_up() {
        let mut half_closed = waiting(Wait::new(std::future::pending()));
        for _ in 0..10 {
            let mut moved = true;
            assert!(nothing_within(POLL_INTERVAL - ASK_AFTER, &mut half_closed, true, &mut moved).await);
            assert!(!moved);
        }
        assert_eq!(step(&mut half_closed, true, &mut false).await, HalfClosedStep::Left);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_means_that_the_client_has_left() {
        let mut half_closed = waiting(Wait::new(std::future::ready(())));
        assert_eq!(step(&mut half_closed, false, &mut false).await, HalfClosedStep::Left);
    }
}
