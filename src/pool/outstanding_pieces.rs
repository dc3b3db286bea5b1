//! Counts the pieces of a response that the client has not taken yet. It reads nothing.
//!
//! Pingora queues several pieces of a body between the session and the client, and copies them if it has more than one.
//! A session that waits for the end of each piece holds one, and none is copied. A piece counts until it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::task::AtomicWaker;

/// A small piece is copied unless it fills at least 1/4 of the buffer.
const MIN_FILL_RATIO: usize = 4;
/// Longer pieces are not copied.
const MAX_COPIED_BYTES: usize = 4096;

/// Takes the first bytes of the read buffer. A few are copied, so that they do not hold a large buffer while the client
/// reads slowly.
pub(super) fn split(buf: &mut BytesMut, count: usize) -> Bytes {
    if count < MAX_COPIED_BYTES && count * MIN_FILL_RATIO < buf.capacity() {
        let few = Bytes::copy_from_slice(&buf[..count]);
        buf.advance(count);
        return few;
    }
    buf.split_to(count).freeze()
}

/// The outstanding pieces of one response.
#[derive(Debug, Default)]
pub(super) struct OutstandingPieces(Arc<Outstanding>);

#[derive(Debug, Default)]
struct Outstanding {
    pieces: AtomicUsize,
    session: AtomicWaker,
}

impl OutstandingPieces {
    fn is_empty(&self) -> bool {
        self.0.pieces.load(Ordering::Acquire) == 0
    }

    /// Pending until the client has taken all pieces.
    pub(super) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_empty() {
            return Poll::Ready(());
        }
        self.0.session.register(cx.waker());
        // The count is read after the registration, so that no drop is missed.
        if self.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Counts the piece until it is dropped.
    pub(super) fn count(&self, bytes: Bytes) -> Bytes {
        self.0.pieces.fetch_add(1, Ordering::AcqRel);
        Bytes::from_owner(CountedPiece { bytes, outstanding: Arc::clone(&self.0) })
    }
}

struct CountedPiece {
    bytes: Bytes,
    outstanding: Arc<Outstanding>,
}

impl AsRef<[u8]> for CountedPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedPiece {
    fn drop(&mut self) {
        // The session reuses the buffer of the piece, so the buffer is released first.
        self.bytes = Bytes::new();
        if self.outstanding.pieces.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.outstanding.session.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![1; len])
    }

    #[tokio::test]
    async fn a_session_waits_until_the_client_has_taken_all_pieces() {
        let outstanding = OutstandingPieces::default();
        let (first, second) = (outstanding.count(piece(5000)), outstanding.count(piece(9000)));
        let mut waits = std::pin::pin!(std::future::poll_fn(|cx| outstanding.poll_empty(cx)));
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        let part = first.slice(..10);
        drop((first, second));
        assert!(futures_util::poll!(waits.as_mut()).is_pending(), "a part of a piece is still held");
        drop(part);
        waits.await;
    }
}
