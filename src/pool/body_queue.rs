//! The request body bytes that a backend has not taken yet.
//!
//! The writer of the request body never waits for the backend. It sends what the connection takes at once and queues
//! the rest. The response half of the session sends the queue, in each poll, before it reads. So the response is read
//! and passed on while the request body is blocked.
//!
//! The queue closes the gate of the client's stream above `CLOSE_ABOVE` bytes. The piece that was being read then is the
//! last one, so the queue is bounded. It does no I/O and reads no clock. Nothing is allocated before the first `push`.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Buf, Bytes};

use crate::body_gate::BodyGate;

/// The gate closes when more bytes are queued.
const CLOSE_ABOVE: usize = 64 * 1024;
/// The gate opens when fewer bytes are queued.
const OPEN_BELOW: usize = CLOSE_ABOVE / 2;

/// A queue of body pieces, in order.
#[derive(Debug, Default)]
pub(in crate::pool) struct BodyQueue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// No piece follows.
    ended: bool,
    /// The connection broke, or the rest is not wanted. Pieces are dropped.
    discards: bool,
    body_gate: Option<Arc<BodyGate>>,
    /// The task that sends the queue.
    sender: Option<Waker>,
}

impl BodyQueue {
    /// `gate`: stops the client. `None` if the client's stream has no gate.
    pub(in crate::pool) fn new(gate: Option<Arc<BodyGate>>) -> Self {
        let mut queue = Self::default();
        queue.body_gate = gate;
        queue
    }

    /// Adds a piece and wakes the sender.
    pub(in crate::pool) fn push(&mut self, piece: Bytes) {
        if self.discards || piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        self.pieces.push_back(piece);
        if let Some(gate) = self.body_gate.as_ref().filter(|_| self.bytes > CLOSE_ABOVE) {
            gate.close();
        }
        self.wake_sender();
    }

    /// Marks that no piece follows and wakes the sender.
    pub(in crate::pool) fn end(&mut self) {
        self.ended = true;
        self.wake_sender();
    }

    /// Fills `slices` with the next pieces and returns how many there are.
    pub(in crate::pool) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = self.pieces.iter().zip(slices.iter_mut());
        pairs.map(|(piece, slice)| *slice = IoSlice::new(piece)).count()
    }

    /// Marks that more pieces follow after all, because the connection became a tunnel.
    pub(in crate::pool) fn reopen(&mut self) {
        self.ended = false;
    }

    /// Removes `count` bytes, which were sent.
    pub(in crate::pool) fn advance(&mut self, count: usize) {
        let mut left = count;
        while let Some(front) = self.pieces.front_mut().filter(|_| left > 0) {
            let some = left.min(front.len());
            front.advance(some);
            left -= some;
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.removed(count - left);
    }

    /// Removes and returns up to `max` bytes of the front piece.
    #[allow(dead_code, reason = "sessions of HTTP/2 send as much as the window allows")]
    pub(in crate::pool) fn take(&mut self, max: usize) -> Option<Bytes> {
        let front = self.pieces.front_mut()?;
        let piece = front.split_to(front.len().min(max));
        if front.is_empty() {
            self.pieces.pop_front();
        }
        self.removed(piece.len());
        Some(piece)
    }

    fn removed(&mut self, count: usize) {
        self.bytes -= count;
        if self.bytes < OPEN_BELOW {
            self.body_gate.iter().for_each(|gate| gate.open());
        }
    }

    /// Drops all bytes, now and later. The client is not stopped any more.
    pub(in crate::pool) fn discard(&mut self) {
        self.discards = true;
        self.pieces = VecDeque::new();
        self.removed(self.bytes);
    }

    /// Whether all bytes are dropped.
    pub(in crate::pool) fn is_discarding(&self) -> bool {
        self.discards
    }

    /// Whether no bytes wait.
    pub(in crate::pool) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many bytes wait.
    pub(in crate::pool) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the end of the body is known.
    pub(in crate::pool) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether the whole body was sent.
    pub(in crate::pool) fn is_sent(&self) -> bool {
        self.ended && self.pieces.is_empty() && !self.discards
    }

    /// Registers the task that sends the queue.
    pub(in crate::pool) fn set_sender(&mut self, cx: &mut Context<'_>) {
        store(&mut self.sender, cx);
    }

    fn wake_sender(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }
}

impl Drop for BodyQueue {
    /// The next attempt has a queue of its own.
    fn drop(&mut self) {
        self.body_gate.iter().for_each(|gate| gate.open());
    }
}

fn store(slot: &mut Option<Waker>, cx: &mut Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn the_gate_closes_above_its_limit_and_opens_below_half_of_it() {
        let gate = Arc::new(BodyGate::default());
        let mut queue = BodyQueue::new(Some(Arc::clone(&gate)));
        queue.push(piece(CLOSE_ABOVE));
        assert!(!gate.is_closed());
        queue.push(piece(1));
        assert!(gate.is_closed());
        queue.advance(OPEN_BELOW + 1);
        assert!(gate.is_closed(), "half of the limit is left");
        queue.advance(1);
        assert!(!gate.is_closed());
    }

    #[test]
    fn a_discarding_queue_stops_no_client_and_is_never_sent() {
        let gate = Arc::new(BodyGate::default());
        let mut queue = BodyQueue::new(Some(Arc::clone(&gate)));
        queue.push(piece(2 * CLOSE_ABOVE));
        queue.discard();
        queue.push(piece(2 * CLOSE_ABOVE));
        queue.end();
        assert!(!gate.is_closed() && queue.is_empty() && !queue.is_sent());
    }

    #[test]
    fn a_dropped_queue_leaves_the_gate_open() {
        let gate = Arc::new(BodyGate::default());
        let mut queue = BodyQueue::new(Some(Arc::clone(&gate)));
        queue.push(piece(CLOSE_ABOVE + 1));
        drop(queue);
        assert!(!gate.is_closed());
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_in_which_they_came(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            steps in prop::collection::vec((any::<bool>(), 1_usize..40), 0..200),
        ) {
            let all = pieces.concat();
            let (mut queue, mut sent) = (BodyQueue::new(None), Vec::new());
            let mut pieces = pieces.into_iter();
            for (push, count) in steps {
                if push {
                    queue.push(pieces.next().unwrap_or_default().into());
                } else if count % 2 == 0 {
                    sent.extend_from_slice(&queue.take(count).unwrap_or_default());
                } else {
                    let mut slices = [IoSlice::new(&[]); 3];
                    let filled = queue.slices(&mut slices);
                    let bytes = slices[..filled].iter().flat_map(|slice| slice.iter().copied());
                    let bytes: Vec<u8> = bytes.take(count).collect();
                    queue.advance(bytes.len());
                    sent.extend(bytes);
                }
            }
            pieces.for_each(|piece| queue.push(piece.into()));
            queue.end();
            while let Some(piece) = queue.take(usize::MAX) {
                sent.extend_from_slice(&piece);
            }
            prop_assert!(queue.is_sent() && queue.bytes == 0);
            prop_assert_eq!(sent, all);
        }
    }
}
