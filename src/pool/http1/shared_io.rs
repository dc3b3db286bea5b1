//! The connection of one exchange, shared by the body writer of the request and the reader of the response.
//!
//! The reader also sends the request bytes that the writer has queued. So neither waits for the other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use pingora_core::protocols::UniqueIDType;
use pingora_core::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::pool::body_queue::BodyQueue;
use crate::pool::checkout::{Checkout, PooledStream};

/// How many pieces one write sends.
const SLICES: usize = 8;

/// The connection. It is shared only if the request has a body to write or Pingora's session reads the response.
#[derive(Debug)]
pub(in crate::pool) enum SharedIo {
    Own {
        stream: Box<PooledStream>,
        /// Whether the request was sent completely.
        sent: bool,
    },
    Shared(Arc<SharedSocket>),
}

/// The connection that the body writer and the response reader share.
#[derive(Debug)]
pub(in crate::pool) struct SharedSocket {
    checkout: Arc<Checkout>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stream: PooledStream,
    queue: BodyQueue,
    /// The TLS layer may hold bytes that were written.
    unflushed: bool,
    /// The end of the client's bytes in a tunnel was sent.
    shut: bool,
    /// The backend has taken no bytes for the write timeout.
    timed_out: bool,
    /// The write error. The backend may have answered before it.
    broken: Option<Box<Error>>,
}

impl SharedIo {
    pub(in crate::pool) fn new(stream: PooledStream) -> Self {
        Self::Own { stream: Box::new(stream), sent: false }
    }

    /// Makes the connection shared and returns a handle.
    pub(in crate::pool) fn share(&mut self) -> Arc<SharedSocket> {
        match self {
            Self::Own { stream, sent } => {
                let stream = stream.take();
                let checkout = Arc::clone(stream.checkout());
                let mut queue = BodyQueue::new(checkout.body_gate().cloned());
                if *sent {
                    queue.end();
                }
                let inner = Inner { stream, queue, unflushed: false, shut: false, timed_out: false, broken: None };
                let shared = Arc::new(SharedSocket { checkout, inner: Mutex::new(inner) });
                *self = Self::Shared(Arc::clone(&shared));
                shared
            }
            Self::Shared(shared) => Arc::clone(shared),
        }
    }

    /// The handle, if the connection is shared.
    pub(in crate::pool) fn shared(&self) -> Option<&Arc<SharedSocket>> {
        match self {
            Self::Own { .. } => None,
            Self::Shared(shared) => Some(shared),
        }
    }

    pub(in crate::pool) fn with<T>(&mut self, act: impl FnOnce(&mut PooledStream) -> T) -> T {
        match self {
            Self::Own { stream, .. } => act(stream),
            Self::Shared(shared) => act(&mut shared.inner.lock().stream),
        }
    }

    pub(in crate::pool) fn id(&self) -> UniqueIDType {
        match self {
            Self::Own { stream, .. } => stream.id(),
            Self::Shared(shared) => shared.id(),
        }
    }

    /// Whether the request was sent completely.
    pub(in crate::pool) fn is_sent(&self) -> bool {
        match self {
            Self::Own { sent, .. } => *sent,
            Self::Shared(shared) => shared.inner.lock().is_sent(),
        }
    }

    /// Writes the request head. `whole`: the request has no body.
    pub(in crate::pool) async fn write(&mut self, header: &mut impl Buf, whole: bool) -> io::Result<()> {
        let Self::Own { stream, sent } = self else { return Err(io::ErrorKind::AlreadyExists.into()) };
        while header.has_remaining() {
            let gone = std::future::poll_fn(|cx| Pin::new(&mut **stream).poll_write(cx, header.chunk())).await?;
            if gone == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            header.advance(gone);
        }
        std::future::poll_fn(|cx| Pin::new(&mut **stream).poll_flush(cx)).await?;
        *sent = whole;
        Ok(())
    }

    pub(in crate::pool) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Own { stream, .. } => poll_read_buf(Pin::new(&mut **stream), cx, buf),
            Self::Shared(shared) => shared.poll_with(cx, |cx, stream| poll_read_buf(Pin::new(stream), cx, buf)),
        }
    }

    /// Returns the write error if there was one, else `error`. The first error is the cause of the failure.
    pub(in crate::pool) fn failed(&self, error: Box<Error>) -> Box<Error> {
        match self {
            Self::Own { .. } => error,
            Self::Shared(shared) => shared.inner.lock().broken.take().unwrap_or(error),
        }
    }
}

impl SharedSocket {
    pub(in crate::pool) fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    pub(in crate::pool) fn id(&self) -> UniqueIDType {
        self.inner.lock().stream.id()
    }

    pub(in crate::pool) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner.lock().stream).poll_shutdown(cx)
    }

    pub(in crate::pool) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_with(cx, |cx, stream| Pin::new(stream).poll_read(cx, buf))
    }

    /// Sends queued bytes, then reads.
    fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Context<'_>, &mut PooledStream) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut inner = self.inner.lock();
        if inner.poll_send(cx).is_ready() && inner.timed_out {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.checkout.poll_aborted(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        read(cx, &mut inner.stream)
    }

    /// Sends as much of the body bytes as the connection takes now, and queues the rest.
    pub(in crate::pool) fn send(&self, cx: &mut Context<'_>, mut piece: Bytes) {
        let mut inner = self.inner.lock();
        if inner.queue.is_discarding() {
            return;
        }
        while inner.queue.is_empty() && !piece.is_empty() {
            match Pin::new(&mut inner.stream).poll_write(cx, &piece) {
                Poll::Ready(Ok(gone)) if gone > 0 => {
                    piece.advance(gone);
                    inner.unflushed = true;
                }
                Poll::Ready(Ok(_)) => return inner.breaks(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) => return inner.breaks(error),
                Poll::Pending => break,
            }
        }
        inner.queue.push(piece);
        // The reader continues what is not ready now.
        let _ = inner.poll_flush(cx);
    }

    /// Sends the pieces in the same way, in as few writes as possible.
    pub(in crate::pool) fn send_all(&self, cx: &mut Context<'_>, pieces: impl IntoIterator<Item = Bytes>) {
        let mut inner = self.inner.lock();
        pieces.into_iter().for_each(|piece| inner.queue.push(piece));
        let _ = inner.poll_send(cx);
    }

    /// Marks the end of the request body. `whole`: all announced bytes have arrived.
    pub(in crate::pool) fn end(&self, whole: bool) {
        let mut inner = self.inner.lock();
        if !whole {
            inner.queue.discard();
        }
        inner.queue.end();
    }

    /// More bytes follow, because the connection became a tunnel.
    pub(in crate::pool) fn reopen(&self) {
        self.inner.lock().queue.reopen();
    }

    /// Drops the rest of the request body.
    pub(in crate::pool) fn discard(&self) {
        self.inner.lock().queue.discard();
    }

    /// Passes on the end of the client's bytes once the client has ended the tunnel and all its bytes were sent. The
    /// backend may still send.
    pub(in crate::pool) fn poll_half_close(&self, cx: &mut Context<'_>) {
        let mut inner = self.inner.lock();
        inner.queue.set_sender(cx);
        if !inner.shut && inner.queue.is_ended() && inner.poll_send(cx).is_ready() {
            // The read path reports an error of the connection.
            inner.shut = Pin::new(&mut inner.stream).poll_shutdown(cx).is_ready();
        }
    }

    /// Sends queued bytes after the response.
    pub(in crate::pool) fn poll_rest(&self, cx: &mut Context<'_>) -> Rest {
        let mut inner = self.inner.lock();
        inner.queue.set_sender(cx);
        let sent = inner.poll_send(cx);
        if self.checkout.poll_aborted(cx).is_ready() {
            inner.queue.discard();
            return Rest::Complete;
        }
        match (inner.queue.is_discarding(), sent) {
            (true, _) if inner.queue.is_ended() => Rest::Complete,
            (true, _) => Rest::Broken,
            (false, Poll::Pending) => Rest::Blocked(inner.queue.bytes()),
            (false, Poll::Ready(_)) if inner.queue.is_ended() => Rest::Complete,
            (false, Poll::Ready(_)) => Rest::Expected,
        }
    }
}

/// The rest of a request body, after the response.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pool) enum Rest {
    /// Nothing follows.
    Complete,
    /// The client has more to send.
    Expected,
    /// So many bytes wait for the backend.
    Blocked(usize),
    /// The connection broke, and the client has more to send.
    Broken,
}

impl Inner {
    fn is_sent(&self) -> bool {
        self.queue.is_sent() && !self.unflushed && self.broken.is_none()
    }

    /// Sends queued bytes. Ready when none are left, or when the connection broke.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.queue.slices(&mut slices);
            match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])) {
                Ok(0) => self.breaks(io::ErrorKind::WriteZero.into()),
                Ok(gone) => {
                    self.queue.advance(gone);
                    self.unflushed = true;
                }
                Err(error) => self.breaks(error),
            }
        }
        self.poll_flush(cx)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unflushed && self.queue.is_empty() {
            let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
            self.unflushed = false;
            if let Err(error) = flushed {
                self.breaks(error);
            }
        }
        Poll::Ready(())
    }

    /// Records a write error. It is returned if no response arrives.
    fn breaks(&mut self, error: io::Error) {
        self.timed_out |= error.kind() == io::ErrorKind::TimedOut;
        let error = Error::because(ErrorType::WriteError, "while writing the request's body", error);
        self.broken.get_or_insert(error);
        self.unflushed = false;
        self.queue.discard();
    }
}
