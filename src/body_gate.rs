//! Flow control of one request body: the transport to the backend closes the gate, and the client's stream obeys it.
//!
//! It holds no bytes. It lets the transport stop a client without a wait inside the loop that also writes the response.

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const ENDED: u8 = 2;

/// Whether the rest of a request body is read from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// The next bytes are wanted.
    More,
    /// The exchange needs no more bytes. The reader sees the end of the stream.
    NoMore,
}

/// The gate between the reader of a request body and the transport that sends it.
#[derive(Debug, Default)]
pub struct BodyGate {
    state: AtomicU8,
    reader: AtomicWaker,
}

impl BodyGate {
    /// Stops the reader, because the backend takes no bytes.
    pub fn close(&self) {
        let _ = self.state.compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Lets the reader continue.
    pub fn open(&self) {
        if self.state.compare_exchange(CLOSED, OPEN, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.reader.wake();
        }
    }

    /// Ends the request body early. The response must have been written to the client.
    pub fn end(&self) {
        if self.state.swap(ENDED, Ordering::AcqRel) != ENDED {
            self.reader.wake();
        }
    }

    /// Opens the gate for the next request of the same client connection.
    pub fn reset(&self) {
        if self.state.load(Ordering::Acquire) != OPEN {
            self.state.store(OPEN, Ordering::Release);
        }
    }

    /// Whether the reader must wait.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Whether the request body was ended early.
    pub fn is_ended(&self) -> bool {
        self.state.load(Ordering::Acquire) == ENDED
    }

    /// Pending while the gate is closed. The reader is woken when the gate opens, and also when the body ends early,
    /// because it may wait for bytes of the client then.
    pub fn poll_demand(&self, cx: &mut Context<'_>) -> Poll<Demand> {
        self.reader.register(cx.waker());
        // The state is read after the registration, so that no change is missed.
        match self.state.load(Ordering::Acquire) {
            OPEN => Poll::Ready(Demand::More),
            ENDED => Poll::Ready(Demand::NoMore),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_closed_gate_stops_the_reader_and_an_ended_one_ends_its_stream() {
        let (gate, mut cx) = (BodyGate::default(), Context::from_waker(Waker::noop()));
        assert_eq!(gate.poll_demand(&mut cx), Poll::Ready(Demand::More));
        gate.close();
        assert!(gate.poll_demand(&mut cx).is_pending());
        gate.open();
        assert_eq!(gate.poll_demand(&mut cx), Poll::Ready(Demand::More));
        gate.end();
        gate.close();
        gate.open();
        assert_eq!(gate.poll_demand(&mut cx), Poll::Ready(Demand::NoMore), "an end is final");
        gate.reset();
        assert_eq!(gate.poll_demand(&mut cx), Poll::Ready(Demand::More));
    }

    #[tokio::test]
    async fn a_reader_that_waits_for_bytes_wakes_when_the_body_ends_early() {
        let gate = std::sync::Arc::new(BodyGate::default());
        let other = std::sync::Arc::clone(&gate);
        let no_bytes = move |cx: &mut Context<'_>| match other.poll_demand(cx) {
            Poll::Ready(Demand::NoMore) => Poll::Ready(()),
            _ => Poll::Pending,
        };
        let waits = tokio::spawn(std::future::poll_fn(no_bytes));
        tokio::task::yield_now().await;
        gate.end();
        assert!(waits.await.is_ok());
    }

    #[tokio::test]
    async fn the_reader_wakes_when_the_gate_opens() {
        let gate = std::sync::Arc::new(BodyGate::default());
        gate.close();
        let other = std::sync::Arc::clone(&gate);
        let waits = tokio::spawn(async move { std::future::poll_fn(|cx| other.poll_demand(cx)).await });
        tokio::task::yield_now().await;
        gate.open();
        assert_eq!(waits.await.ok(), Some(Demand::More));
    }
}
