//! Counts the long pieces of a response that the client has not taken yet. It reads nothing.
//!
//! Pingora queues several pieces of a body between the session and the client, and copies them if it has more than one.
//! A session that waits for the end of each long piece holds one, and none is copied. A piece counts until it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::task::AtomicWaker;

/// Shorter pieces are not counted. They are copied unless they fill at least 1/4 of the buffer.
const LONG_PIECE_BYTES: usize = 4096;
const MIN_FILL_RATIO: usize = 4;

/// Takes the first bytes of the read buffer. A few are copied, so that they do not hold a large buffer while the client
/// reads slowly.
pub(super) fn split(buf: &mut BytesMut, count: usize) -> Bytes {
    if count < LONG_PIECE_BYTES && count * MIN_FILL_RATIO < buf.capacity() {
        let few = Bytes::copy_from_slice(&buf[..count]);
        buf.advance(count);
        return few;
    }
    buf.split_to(count).freeze()
}

/// The outstanding pieces of one response. It allocates nothing before the first long piece.
#[derive(Debug, Default)]
pub(super) struct OutstandingPieces(Option<Arc<Outstanding>>);

#[derive(Debug, Default)]
struct Outstanding {
    pieces: AtomicUsize,
    session: AtomicWaker,
}

impl Outstanding {
    fn is_empty(&self) -> bool {
        self.pieces.load(Ordering::Acquire) == 0
    }
}

impl OutstandingPieces {
    /// Pending until the client has taken all long pieces.
    pub(super) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(outstanding) = self.0.as_ref().filter(|outstanding| !outstanding.is_empty()) else {
            return Poll::Ready(());
        };
        outstanding.session.register(cx.waker());
        // The count is read after the registration, so that no drop is missed.
        if outstanding.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Counts a long piece until it is dropped.
    pub(super) fn count(&mut self, bytes: Bytes) -> Bytes {
        if bytes.len() < LONG_PIECE_BYTES {
            return bytes;
        }
        let outstanding = Arc::clone(self.0.get_or_insert_default());
        outstanding.pieces.fetch_add(1, Ordering::AcqRel);
        Bytes::from_owner(CountedPiece { bytes, outstanding })
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
        let mut outstanding = OutstandingPieces::default();
        let (first, second) = (outstanding.count(piece(5000)), outstanding.count(piece(9000)));
        let mut waits = std::pin::pin!(std::future::poll_fn(|cx| outstanding.poll_empty(cx)));
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        let part = first.slice(..10);
        drop((first, second));
        assert!(futures_util::poll!(waits.as_mut()).is_pending(), "a part of a piece is still held");
        drop(part);
        waits.await;
    }

    #[test]
    fn short_pieces_are_not_counted() {
        let mut outstanding = OutstandingPieces::default();
        let short = outstanding.count(piece(LONG_PIECE_BYTES - 1));
        assert!(outstanding.0.is_none() && short.len() == LONG_PIECE_BYTES - 1);
    }
}
