//! The bytes of a response that were read from the backend and that the client has not taken yet, with their limit.
//!
//! Pingora queues several pieces of a body between the session and the client. Without a limit of its own, a slow
//! reader would hold all of them. The window counts a piece until it is dropped, wherever it waits. It reads nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

/// The limit, in bytes.
pub(super) const MAX_BYTES: usize = 96 * 1024;
/// The session reads on when no more bytes than this are outstanding. So a piece is at least half of the limit.
const READ_BELOW: usize = MAX_BYTES / 2;
/// Smaller pieces are not counted. Pingora queues only a few.
const MIN_COUNTED_BYTES: usize = 4096;

/// The window of one response.
#[derive(Debug, Default)]
pub(super) struct ResponseWindow(Arc<Outstanding>);

#[derive(Debug, Default)]
struct Outstanding {
    bytes: AtomicUsize,
    session: AtomicWaker,
}

impl ResponseWindow {
    /// How many bytes may be read now.
    pub(super) fn room(&self) -> usize {
        MAX_BYTES.saturating_sub(self.0.bytes.load(Ordering::Acquire))
    }

    /// Pending until the client has taken enough of the earlier pieces.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.session.register(cx.waker());
        if self.room() >= MAX_BYTES - READ_BELOW { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Counts the piece until it is dropped.
    pub(super) fn count(&self, bytes: Bytes) -> Bytes {
        if bytes.len() < MIN_COUNTED_BYTES {
            return bytes;
        }
        self.0.bytes.fetch_add(bytes.len(), Ordering::AcqRel);
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
        self.outstanding.bytes.fetch_sub(self.bytes.len(), Ordering::AcqRel);
        self.outstanding.session.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![1; len])
    }

    #[tokio::test]
    async fn a_session_waits_until_the_client_has_taken_half_of_the_window() {
        let window = ResponseWindow::default();
        let (first, second) = (window.count(piece(READ_BELOW)), window.count(piece(READ_BELOW)));
        assert_eq!((window.room(), first.len()), (0, READ_BELOW));
        let mut waits = std::pin::pin!(std::future::poll_fn(|cx| window.poll_room(cx)));
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        let part = first.slice(..10);
        drop(first);
        assert!(futures_util::poll!(waits.as_mut()).is_pending(), "a part of the piece is still held");
        drop(part);
        waits.await;
        assert_eq!(window.room(), MAX_BYTES - second.len());
    }

    #[test]
    fn small_pieces_are_not_counted() {
        let window = ResponseWindow::default();
        let small = window.count(piece(MIN_COUNTED_BYTES - 1));
        assert_eq!((window.room(), small.len()), (MAX_BYTES, MIN_COUNTED_BYTES - 1));
    }
}
