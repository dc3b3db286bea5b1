//! 100 (Continue) for HTTP/2: the streams whose clients get the interim response.
//!
//! Pingora's HTTP/2 session cannot send interim responses. So the connection's stream inserts them between its frames.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::{BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

/// A HEADERS frame with END_HEADERS and the block `:status: 100`. The name is from the static table, and the value is
/// not indexed. So the dynamic tables do not change (RFC 7541 section 6.2.2).
const FRAME: &[u8] = &[0, 0, 5, 1, 4];
const BLOCK: &[u8] = b"\x08\x03100";

/// The streams that wait for their 100 (Continue).
#[derive(Debug, Default)]
pub(in crate::listener) struct Continues {
    any: AtomicBool,
    streams: Mutex<Vec<u32>>,
    connection: AtomicWaker,
}

impl Continues {
    /// Registers the task that writes the frames.
    pub(in crate::listener) fn register(&self, waker: &Waker) {
        self.connection.register(waker);
    }

    /// Requests the frame for this stream.
    pub(in crate::listener) fn ask(&self, stream: u32) {
        self.streams().push(stream);
        self.any.store(true, Ordering::Release);
        self.connection.wake();
    }

    /// Cancels the request if the frame was not written yet. No interim response may follow the final one (RFC 9110
    /// section 15.2).
    pub(in crate::listener) fn take_back(&self, stream: u32) {
        self.streams().retain(|requested| *requested != stream);
    }

    /// Writes the requested frames. It must be called between two frames.
    pub(in crate::listener) fn put(&self, outbox: &mut BytesMut) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        self.any.store(false, Ordering::Release);
        for stream in self.streams().drain(..) {
            outbox.put_slice(FRAME);
            outbox.put_u32(stream);
            outbox.put_slice(BLOCK);
        }
    }

    fn streams(&self) -> MutexGuard<'_, Vec<u32>> {
        self.streams.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gets_one_interim_response_unless_the_final_one_has_begun() {
        let (continues, mut outbox) = (Continues::default(), BytesMut::new());
        for stream in [1, 3, 257] {
            continues.ask(stream);
        }
        continues.take_back(3);
        continues.put(&mut outbox);
        assert_eq!(&outbox[..], b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03100\0\0\x05\x01\x04\0\0\x01\x01\x08\x03100");
        outbox.clear();
        continues.put(&mut outbox);
        assert!(outbox.is_empty());
    }
}
