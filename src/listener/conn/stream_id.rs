//! Finds the stream id of an HTTP/2 request. Pingora's session does not expose it, but a response of the listener needs
//! it.
//!
//! h2 returns requests in the order of their header blocks, but omits those that it rejects. So the reader stops at the
//! end of a block until it is known whether h2 returns a request for it. That costs some polls, so it is done only
//! after the first block with `100-continue`.
//!
//! At the end of the grace period, the order suffices: it is known then whether h2 has omitted a request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use parking_lot::Mutex;

/// Maximum number of opened streams that h2 has not returned. More of them show that it has omitted some.
const MAX_OPENED: usize = 1024;

const GOES_ON: u8 = 0;
/// The reader is before the last byte of a block. It waits until h2 has returned the requests of all earlier blocks.
const DRAINS: u8 = 1;
/// The reader is after the last byte of a block. It waits until h2 has returned or rejected the request.
const OPENS: u8 = 2;

/// The progress of a connection's reader and of its accept loop. Both run on one thread, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub(in crate::listener) struct StreamIdTracker {
    phase: AtomicU8,
    stream: AtomicU32,
    /// h2 has requested more bytes, so it has processed all earlier ones.
    settled: AtomicBool,
    /// The streams of complete blocks, in order, without those that h2 has returned.
    opened: Mutex<VecDeque<u32>>,
    /// h2 has omitted requests, so the order says nothing any more.
    lost: AtomicBool,
}

impl StreamIdTracker {
    /// Records that the reader has passed the blocks that open these streams.
    pub(in crate::listener) fn opened(&self, streams: &mut Vec<u32>) {
        let mut opened = self.opened.lock();
        opened.extend(streams.drain(..));
        if opened.len() > MAX_OPENED {
            opened.clear();
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Records that h2 has returned a request. Returns the stream that is next in the order; 0 if there is none.
    pub(in crate::listener) fn next_in_order(&self) -> u32 {
        self.opened.lock().pop_front().unwrap_or(0)
    }

    /// Whether h2 has returned a request for each block, so that the order is right.
    pub(in crate::listener) fn is_in_order(&self) -> bool {
        !self.lost.load(Ordering::Relaxed) && self.opened.lock().is_empty()
    }

    /// Records that the reader waits before the end of a block.
    pub(in crate::listener) fn drain(&self) {
        self.phase.store(DRAINS, Ordering::Relaxed);
    }

    /// Records that the reader has passed a complete block that opens this stream.
    pub(in crate::listener) fn open(&self, stream: u32) {
        self.stream.store(stream, Ordering::Relaxed);
        self.phase.store(OPENS, Ordering::Relaxed);
    }

    /// Whether the reader must wait for the accept loop. It must be called when h2 reads more bytes.
    pub(in crate::listener) fn holds(&self) -> bool {
        let holds = self.phase.load(Ordering::Relaxed) != GOES_ON;
        if holds {
            self.settled.store(true, Ordering::Relaxed);
        }
        holds
    }

    /// Records that h2 has returned or rejected a request. Returns its stream id if that is known.
    pub(in crate::listener) fn came(&self) -> Option<u32> {
        if self.phase.load(Ordering::Relaxed) != OPENS || !self.settled.load(Ordering::Relaxed) {
            return None;
        }
        self.go_on();
        Some(self.stream.load(Ordering::Relaxed))
    }

    /// Records that h2 returns no request now. Returns whether the reader was waiting, and lets it continue.
    pub(in crate::listener) fn none_came(&self) -> bool {
        let waited = self.settled.load(Ordering::Relaxed);
        if waited {
            self.go_on();
        }
        waited
    }

    fn go_on(&self) {
        self.phase.store(GOES_ON, Ordering::Relaxed);
        self.settled.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_right_if_each_block_became_a_request() {
        let opening = StreamIdTracker::default();
        opening.opened(&mut vec![1, 3, 9]);
        assert_eq!([opening.next_in_order(), opening.next_in_order()], [1, 3]);
        assert!(!opening.is_in_order(), "h2 may have rejected one");
        assert_eq!([opening.next_in_order(), opening.next_in_order()], [9, 0]);
        assert!(opening.is_in_order());
        opening.opened(&mut (0..2_000).collect());
        assert!(opening.opened.lock().is_empty() && !opening.is_in_order(), "bounded");
    }

    #[test]
    fn a_request_gets_its_stream_id_only_when_no_other_request_is_possible() {
        let opening = StreamIdTracker::default();
        assert!(!opening.holds() && opening.came().is_none() && !opening.none_came());
        opening.drain();
        assert!(!opening.none_came(), "h2 has not read yet");
        assert!(opening.holds());
        assert_eq!(opening.came(), None, "a request of an earlier block");
        assert!(opening.none_came() && !opening.holds());
        opening.open(5);
        assert_eq!(opening.came(), None, "h2 has not read yet");
        assert!(opening.holds());
        assert_eq!(opening.came(), Some(5));
        assert_eq!(opening.came(), None, "once");
        opening.open(7);
        assert!(opening.holds() && opening.none_came(), "it was refused");
        assert_eq!(opening.came(), None);
    }
}
