//! Responses that the listener itself sends over HTTP/2: 100 (Continue), and the response to a request that the end of
//! the grace period ends.
//!
//! Pingora's HTTP/2 session cannot send them. So the connection's stream inserts them between its frames.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::{BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

/// The type of a HEADERS frame, and its flags (RFC 9113 section 6.2).
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A response that is sent as one HEADERS frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::listener) enum InsertedResponse {
    /// 100 (Continue).
    Continue,
    /// 503 without a body.
    Unavailable,
    /// UNAVAILABLE for a call of gRPC.
    GrpcUnavailable,
}

impl InsertedResponse {
    /// The header block. Names are from the static table or literal, and no value is indexed. So the dynamic tables do
    /// not change (RFC 7541 section 6.2.2).
    fn block(self) -> &'static [u8] {
        match self {
            Self::Continue => b"\x08\x03100",
            Self::Unavailable => b"\x08\x03503",
            Self::GrpcUnavailable => b"\x88\x0f\x10\x10application/grpc\x00\x0bgrpc-status\x0214",
        }
    }

    fn put(self, stream: u32, outbox: &mut BytesMut) {
        let block = self.block();
        let flags = if self == Self::Continue { END_HEADERS } else { END_HEADERS | END_STREAM };
        outbox.put_uint(block.len() as u64, 3);
        outbox.put_u8(HEADERS);
        outbox.put_u8(flags);
        outbox.put_u32(stream);
        outbox.put_slice(block);
    }
}

/// The streams that wait for a response of the listener.
#[derive(Debug, Default)]
pub(in crate::listener) struct InsertedResponses {
    any: AtomicBool,
    streams: Mutex<Vec<(u32, InsertedResponse)>>,
    connection: AtomicWaker,
}

impl InsertedResponses {
    /// Registers the task that writes the frames.
    pub(in crate::listener) fn register(&self, waker: &Waker) {
        self.connection.register(waker);
    }

    /// Requests the response for this stream.
    pub(in crate::listener) fn ask(&self, stream: u32, response: InsertedResponse) {
        self.streams().push((stream, response));
        self.any.store(true, Ordering::Release);
        self.connection.wake();
    }

    /// Cancels a 100 (Continue) that was not written yet. No interim response may follow the final one (RFC 9110 section
    /// 15.2).
    pub(in crate::listener) fn take_back_continue(&self, stream: u32) {
        self.streams().retain(|requested| *requested != (stream, InsertedResponse::Continue));
    }

    /// Whether all of them are written.
    pub(in crate::listener) fn is_empty(&self) -> bool {
        self.streams().is_empty()
    }

    /// Writes the requested frames. It must be called between two frames.
    pub(in crate::listener) fn put(&self, outbox: &mut BytesMut) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        self.any.store(false, Ordering::Release);
        self.streams().drain(..).for_each(|(stream, response)| response.put(stream, outbox));
    }

    fn streams(&self) -> MutexGuard<'_, Vec<(u32, InsertedResponse)>> {
        self.streams.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gets_one_interim_response_unless_the_final_one_has_begun() {
        let (continues, mut outbox) = (InsertedResponses::default(), BytesMut::new());
        for stream in [1, 3, 257] {
            continues.ask(stream, InsertedResponse::Continue);
        }
        continues.take_back_continue(3);
        continues.put(&mut outbox);
        assert_eq!(&outbox[..], b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03100\0\0\x05\x01\x04\0\0\x01\x01\x08\x03100");
        outbox.clear();
        continues.put(&mut outbox);
        assert!(outbox.is_empty() && continues.is_empty());
    }

    #[test]
    fn a_final_response_ends_the_stream_and_is_not_taken_back() {
        let (inserted, mut outbox) = (InsertedResponses::default(), BytesMut::new());
        inserted.ask(1, InsertedResponse::Unavailable);
        inserted.take_back_continue(1);
        inserted.put(&mut outbox);
        assert_eq!(&outbox[..], b"\0\0\x05\x01\x05\0\0\0\x01\x08\x03503");
        outbox.clear();
        inserted.ask(3, InsertedResponse::GrpcUnavailable);
        inserted.put(&mut outbox);
        let block = b"\x88\x0f\x10\x10application/grpc\0\x0bgrpc-status\x0214";
        assert_eq!(outbox[..9], [0, 0, block.len() as u8, 1, 5, 0, 0, 0, 3]);
        assert_eq!(&outbox[9..], block);
    }
}
