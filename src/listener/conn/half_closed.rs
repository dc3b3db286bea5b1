//! A client that has closed its sending side. It may have left, or wait for its response on a connection that is closed
//! half, and both look the same until something is sent: then the system of a client that has left answers with a reset.
//!
//! It decides when to ask and when to give up; what is sent is the stream's.

use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::listener::conn::disconnect::{self, Wait};

/// How long the response has time to begin before the client is asked whether it is there: most need less.
const ASK_AFTER: Duration = Duration::from_millis(250);
/// Nothing can be asked in the middle of a response. A pause of this length counts as the client's leave.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::listener) enum HalfClosedStep {
    /// To send something that a client which is there ignores. Once.
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

/// From the client's last byte on.
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

    /// `answering`: the response has begun. `moved`: some of it was written since the last call; false afterwards. Not to be
    /// called again after `ReclaimedStream`.
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
            // The next of several requests that came before the end.
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
    async fn it_asks_once_a_request_and_then_waits_for_as_long_as_the_response_takes() {
        let (mut half_closed, began) = (waiting(Wait::new(std::future::pending())), Instant::now());
        assert_eq!(step(&mut half_closed, false, &mut false).await, HalfClosedStep::Ask);
        assert_eq!(began.elapsed(), ASK_AFTER);
        assert!(nothing_within(Duration::from_secs(3600), &mut half_closed, false, &mut false).await);
        // The response, and the next request.
        assert!(nothing_within(POLL_INTERVAL / 2, &mut half_closed, true, &mut false).await);
        assert_eq!(step(&mut half_closed, false, &mut false).await, HalfClosedStep::Ask);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_goes_on_has_no_end_and_one_that_stands_still_is_given_up() {
        let mut half_closed = waiting(Wait::new(std::future::pending()));
        for _ in 0..10 {
            let mut moved = true;
            assert!(nothing_within(POLL_INTERVAL - ASK_AFTER, &mut half_closed, true, &mut moved).await);
            assert!(!moved);
        }
        assert_eq!(step(&mut half_closed, true, &mut false).await, HalfClosedStep::Left);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_is_the_end_of_it() {
        let mut half_closed = waiting(Wait::new(std::future::ready(())));
        assert_eq!(step(&mut half_closed, false, &mut false).await, HalfClosedStep::Left);
    }
}
