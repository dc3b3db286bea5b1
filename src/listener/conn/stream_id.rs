//! Finds the stream id of an HTTP/2 request. The library does not expose it, but an interim response needs it.
//!
//! Requests come out of the library in the order in which their header blocks went in, except those that it refuses. So the
//! connection's bytes are held back at the end of a block until it is known whether a request came of it. That costs some
//! polls, and is done only on connections where some block had `100-continue` in it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

const GOES_ON: u8 = 0;
/// Before the last byte of a block: the requests of all blocks before it come out first.
const DRAINS: u8 = 1;
/// Behind the last byte of a block: its request comes out, or none does.
const OPENS: u8 = 2;

/// How far the reader of a connection and its accept loop are. Both run on one thread.
#[derive(Debug, Default)]
pub(in crate::listener) struct StreamIdTracker {
    phase: AtomicU8,
    stream: AtomicU32,
    /// The library has asked for more, and so has judged all that it was given.
    settled: AtomicBool,
}

impl StreamIdTracker {
    /// The reader holds back the end of a block.
    pub(in crate::listener) fn drain(&self) {
        self.phase.store(DRAINS, Ordering::Relaxed);
    }

    /// The reader has handed on a whole block, which opens this stream.
    pub(in crate::listener) fn open(&self, stream: u32) {
        self.stream.store(stream, Ordering::Relaxed);
        self.phase.store(OPENS, Ordering::Relaxed);
    }

    /// Whether the reader has to wait for the accept loop; to be asked when the library wants more.
    pub(in crate::listener) fn holds(&self) -> bool {
        let holds = self.phase.load(Ordering::Relaxed) != GOES_ON;
        if holds {
            self.settled.store(true, Ordering::Relaxed);
        }
        holds
    }

    /// A request has come out, or was refused on its way out: its stream, where that is known.
    pub(in crate::listener) fn came(&self) -> Option<u32> {
        if self.phase.load(Ordering::Relaxed) != OPENS || !self.settled.load(Ordering::Relaxed) {
            return None;
        }
        self.go_on();
        Some(self.stream.load(Ordering::Relaxed))
    }

    /// No request comes out for now: whether the reader was waiting, which goes on then.
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
    fn a_request_is_told_its_stream_only_when_no_other_could_have_come() {
        let opening = StreamIdTracker::default();
        assert!(!opening.holds() && opening.came().is_none() && !opening.none_came());
        opening.drain();
        assert!(!opening.none_came(), "the library has not looked yet");
        assert!(opening.holds());
        assert_eq!(opening.came(), None, "one of those before");
        assert!(opening.none_came() && !opening.holds());
        opening.open(5);
        assert_eq!(opening.came(), None, "the library has not looked yet");
        assert!(opening.holds());
        assert_eq!(opening.came(), Some(5));
        assert_eq!(opening.came(), None, "once");
        opening.open(7);
        assert!(opening.holds() && opening.none_came(), "it was refused");
        assert_eq!(opening.came(), None);
    }
}
