//! Finds the stream id of an HTTP/2 request. Pingora's session does not expose it, but an interim response needs it.
//!
//! h2 returns requests in the order of their header blocks, but omits those that it rejects. So the reader stops at the
//! end of a block until it is known whether h2 returns a request for it. That costs some polls, so it is done only
//! after the first block with `100-continue`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

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
}

impl StreamIdTracker {
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
