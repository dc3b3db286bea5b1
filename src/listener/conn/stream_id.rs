//! Finds the stream id of an HTTP/2 request. Pingora's session does not expose it, but an interim response needs it.
//!
//! Requests come out of h2 in the order of their header blocks, except those that h2 rejects. So the connection's bytes
//! are delayed at the end of a block until it is known whether the block has become a request. That costs some polls,
//! so it is done only after a block with `100-continue`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

const GOES_ON: u8 = 0;
/// Before the last byte of a block: first the requests of all earlier blocks come out.
const DRAINS: u8 = 1;
/// After the last byte of a block: its request comes out, or none.
const OPENS: u8 = 2;

/// The progress of a connection's reader and of its accept loop. Both run on one thread, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub(in crate::listener) struct StreamIdTracker {
    phase: AtomicU8,
    stream: AtomicU32,
    /// h2 has requested more bytes, so it has processed all earlier ones.
    settled: AtomicBool,
}

impl StreamIdTracker {
    /// The reader delays the end of a block.
    pub(in crate::listener) fn drain(&self) {
        self.phase.store(DRAINS, Ordering::Relaxed);
    }

    /// The reader has passed a complete block that opens this stream.
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

    /// A request has come out, or was rejected. Returns its stream id if that is known.
    pub(in crate::listener) fn came(&self) -> Option<u32> {
        if self.phase.load(Ordering::Relaxed) != OPENS || !self.settled.load(Ordering::Relaxed) {
            return None;
        }
        self.go_on();
        Some(self.stream.load(Ordering::Relaxed))
    }

    /// No request comes out now. Returns whether the reader was waiting, and lets it continue.
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
