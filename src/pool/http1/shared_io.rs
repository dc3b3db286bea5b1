//! The socket of one exchange, shared by the body writer of the request and the reader of the response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::protocols::{UniqueID, UniqueIDType};
use pingora_core::{Error, ErrorType, Result};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use crate::pool::checkout::PooledStream;

/// The socket. It is shared only if the request has a body to write or Pingora's session takes over.
#[derive(Debug)]
pub(in crate::pool) enum SharedIo {
    Own {
        stream: Box<PooledStream>,
        /// Whether the request was sent completely.
        sent: bool,
    },
    Shared(Arc<SharedSocket>),
}

/// The socket that the body writer and the response reader share.
#[derive(Debug)]
pub(in crate::pool) struct SharedSocket {
    stream: Mutex<PooledStream>,
    sent: AtomicBool,
    /// The write error. The backend may have answered before it.
    broken: Mutex<Option<Box<Error>>>,
}

impl SharedIo {
    pub(in crate::pool) fn new(stream: PooledStream) -> Self {
        Self::Own { stream: Box::new(stream), sent: false }
    }

    /// Makes the socket shared and returns a handle.
    pub(in crate::pool) fn share(&mut self) -> Arc<SharedSocket> {
        match self {
            Self::Own { stream, sent } => {
                let (stream, sent) = (Mutex::new(stream.take()), AtomicBool::new(*sent));
                let shared = Arc::new(SharedSocket { stream, sent, broken: Mutex::default() });
                *self = Self::Shared(Arc::clone(&shared));
                shared
            }
            Self::Shared(shared) => Arc::clone(shared),
        }
    }

    pub(in crate::pool) fn with<T>(&mut self, act: impl FnOnce(&mut PooledStream) -> T) -> T {
        match self {
            Self::Own { stream, .. } => act(stream),
            Self::Shared(shared) => act(&mut shared.lock()),
        }
    }

    pub(in crate::pool) fn id(&self) -> UniqueIDType {
        match self {
            Self::Own { stream, .. } => stream.id(),
            Self::Shared(shared) => shared.lock().id(),
        }
    }

    /// Whether the request was sent completely.
    pub(in crate::pool) fn is_sent(&self) -> bool {
        match self {
            Self::Own { sent, .. } => *sent,
            Self::Shared(shared) => shared.sent.load(Ordering::Acquire),
        }
    }

    /// Writes the request head. `whole`: the request has no body.
    pub(in crate::pool) async fn write(&mut self, header: &mut impl Buf, whole: bool) -> io::Result<()> {
        write(header, |cx, data| self.with(|stream| Pin::new(stream).poll_write(cx, data))).await?;
        match self {
            Self::Own { sent, .. } => *sent = whole,
            Self::Shared(shared) => shared.sent.store(whole, Ordering::Release),
        }
        Ok(())
    }

    pub(in crate::pool) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        self.with(|stream| poll_read_buf(Pin::new(stream), cx, buf))
    }

    /// Returns the write error if there was one, else `error`. The first error is the cause of the failure.
    pub(in crate::pool) fn failed(&self, error: Box<Error>) -> Box<Error> {
        match self {
            Self::Own { .. } => error,
            Self::Shared(shared) => shared.broken.lock().take().unwrap_or(error),
        }
    }
}

impl SharedSocket {
    pub(in crate::pool) fn lock(&self) -> MutexGuard<'_, PooledStream> {
        self.stream.lock()
    }

    async fn write(&self, data: &mut impl Buf) -> io::Result<()> {
        write(data, |cx, data| Pin::new(&mut *self.lock()).poll_write(cx, data)).await
    }

    fn broke(&self, error: Box<Error>) {
        self.broken.lock().get_or_insert(error);
    }
}

async fn write(
    data: &mut impl Buf,
    mut poll: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
) -> io::Result<()> {
    while data.has_remaining() {
        let gone = std::future::poll_fn(|cx| poll(cx, data.chunk())).await?;
        if gone == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data.advance(gone);
    }
    Ok(())
}

/// The body writer of a request without a body.
pub(in crate::pool) struct EmptyBodyWriter;

#[async_trait]
impl BodyWrite for EmptyBodyWriter {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        data.clear();
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}

/// Writes the request body.
pub(in crate::pool) struct BodyWriter {
    line: Arc<SharedSocket>,
    left: usize,
}

impl BodyWriter {
    /// `left`: length of the body in bytes.
    pub(in crate::pool) fn new(line: Arc<SharedSocket>, left: usize) -> Self {
        Self { line, left }
    }
}

#[async_trait]
impl BodyWrite for BodyWriter {
    /// A write error is recorded and not returned, because the backend may have answered before it. If no response
    /// arrives, the read path returns the recorded error.
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        let mut piece = data.split_to(data.len().min(self.left));
        data.clear();
        let size = piece.len();
        match self.line.write(&mut piece).await {
            Ok(()) => self.left -= size,
            Err(error) => {
                self.line.broke(Error::because(ErrorType::WriteError, "while writing the request's body", error));
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.line.sent.store(self.left == 0, Ordering::Release);
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}
