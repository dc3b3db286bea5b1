//! The socket of one exchange, as its two sides share it: the request's body that is on its way, and the response.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::{Error, ErrorType, Result};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::lease::Leased;

/// The socket, as the request's body and the response share it.
#[derive(Debug)]
pub(super) struct Line {
    leased: Mutex<Leased>,
    sent_whole: AtomicBool,
    /// Why the backend takes no more. It may have answered all the same.
    broken: Mutex<Option<Box<Error>>>,
}

impl Line {
    pub(super) fn new(leased: Leased) -> Self {
        Self { leased: Mutex::new(leased), sent_whole: AtomicBool::new(false), broken: Mutex::new(None) }
    }

    /// Whether the request has gone whole.
    pub(super) fn is_sent(&self) -> bool {
        self.sent_whole.load(Ordering::Acquire)
    }

    pub(super) fn set_sent(&self, whole: bool) {
        self.sent_whole.store(whole, Ordering::Release);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Leased> {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn write(&self, data: &mut impl Buf) -> io::Result<()> {
        while data.has_remaining() {
            let gone = std::future::poll_fn(|cx| Pin::new(&mut *self.lock()).poll_write(cx, data.chunk())).await?;
            if gone == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            data.advance(gone);
        }
        Ok(())
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(&mut *self.lock()), cx, buf)
    }

    fn broke(&self, error: Box<Error>) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// The first that went wrong is what the attempt failed by.
    pub(super) fn failed(&self, error: Box<Error>) -> Box<Error> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error)
    }
}

/// For a request without a body.
pub(super) struct NoBody;

#[async_trait]
impl BodyWrite for NoBody {
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

/// The body of a request on its way.
pub(super) struct Body {
    line: Arc<Line>,
    left: usize,
}

impl Body {
    /// Of so many bytes.
    pub(super) fn new(line: Arc<Line>, left: usize) -> Self {
        Self { line, left }
    }
}

#[async_trait]
impl BodyWrite for Body {
    /// A backend that takes no more may have answered: what it says goes on, and if it says nothing, that is the error.
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
        self.line.set_sent(self.left == 0);
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}
