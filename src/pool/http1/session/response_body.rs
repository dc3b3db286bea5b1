//! The body of the response, and the rest of the request body after it.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::{Error, ErrorType, OrErr, Result};

use crate::pool::http1::chunk_decoder::Decoded;
use crate::pool::http1::fast_path::ResponseFraming;
use crate::pool::http1::is_bare_end;
use crate::pool::http1::session::{Http1Session, State};
use crate::pool::http1::shared_io::{Rest, SharedSocket};
use crate::pool::outstanding_pieces::split;

/// The read buffer of a long body, in bytes. A slow reader holds one.
const BUFFER_BYTES: usize = 32 * 1024;
/// A body of up to this many bytes is read into a buffer of its length, so that one write can send it.
const MAX_WHOLE_BYTES: usize = 128 * 1024;
/// The read buffer of a body of unknown length, in bytes.
const CHUNK_BUFFER_BYTES: usize = 16 * 1024;
/// The least space for a read, in bytes.
const MIN_READ_BYTES: usize = 4096;
/// After the response, the rest of the request body is given up if the backend takes no byte for this long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

impl Http1Session {
    /// The next body bytes. `None` at the end, without waiting for the rest of the request.
    pub(super) async fn body_piece(&mut self) -> Result<Option<Bytes>> {
        let tunnel = self.was_upgraded();
        match &mut self.state {
            State::Head | State::Body(0) => Ok(None),
            State::Body(left) => {
                let left = *left;
                let piece = std::future::poll_fn(|cx| self.poll_body(cx, left)).await?;
                self.state = State::Body(left - piece.len());
                Ok(Some(piece))
            }
            State::Chunks(decoder) if decoder.is_done() => Ok(None),
            State::Chunks(_) => std::future::poll_fn(|cx| self.poll_chunk(cx)).await,
            State::Other(session) => {
                let line = self.line.share();
                let read = if tunnel { tunnel_bytes(session, &line).await } else { session.read_body_bytes().await };
                let piece = read.map_err(|error| self.line.failed(error))?;
                self.tunnel_ended |= tunnel && piece.is_none();
                // Pingora may return `None` between two chunks. Only the end of the body is `None` here.
                Ok(piece.or_else(|| (!session.is_body_done()).then(Bytes::new)))
            }
        }
    }

    /// Whether all bytes of the response were handed on.
    pub(super) fn is_complete(&mut self) -> bool {
        match &mut self.state {
            _ if self.tunnel_ended => true,
            State::Head => false,
            State::Body(left) => *left == 0,
            State::Chunks(decoder) => decoder.is_done(),
            State::Other(session) => {
                let informational = session.resp_header().is_some_and(|head| {
                    head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
                });
                !informational && session.is_body_done()
            }
        }
    }

    /// Waits until the client has taken the piece of a large body. Meanwhile the request body is sent.
    pub(super) async fn wait_for_client(&mut self) {
        let line = self.line.shared();
        std::future::poll_fn(|cx| {
            let taken = self.outstanding.poll_empty(cx);
            if let (Poll::Pending, Some(line)) = (taken, line) {
                let _ = line.poll_rest(cx);
            }
            taken
        })
        .await;
    }

    /// Chooses the read buffer for the body.
    pub(super) fn set_buffer(&mut self, framing: &ResponseFraming) {
        self.buffer_bytes = match framing {
            // A read that does not fill the buffer shows that the socket has no more for now.
            ResponseFraming::Length(length) if *length <= MAX_WHOLE_BYTES => length + 1,
            ResponseFraming::Length(_) => BUFFER_BYTES,
            ResponseFraming::Chunked => CHUNK_BUFFER_BYTES,
        };
    }

    /// Whether the body is read into a buffer of its length.
    pub(super) fn is_read_whole(&self) -> bool {
        matches!(self.state, State::Body(_)) && self.buffer_bytes != BUFFER_BYTES
    }

    /// Returns the available body bytes. Pending only if none is available.
    fn poll_body(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<Result<Bytes>> {
        if self.buf.len() < left.min(self.buffer_bytes) {
            self.reserve();
            let read = self.line.poll_read(cx, &mut self.buf);
            if self.buf.is_empty() {
                let read = self.none_read(read);
                let read = ready!(read).or_err(ErrorType::ReadError, "while reading the response's body");
                let ended = |_| Error::explain(ErrorType::ConnectionClosed, "before the response's body was whole");
                return Poll::Ready(Err(self.line.failed(read.map_or_else(|error| error, ended))));
            }
        }
        let here = self.buf.len().min(left);
        Poll::Ready(Ok(split(&mut self.buf, here)))
    }

    /// Makes space in the read buffer. It reuses the memory of a piece that the client has taken.
    fn reserve(&mut self) {
        let free = self.buffer_bytes.saturating_sub(self.buf.len());
        self.buf.reserve(free.max(MIN_READ_BYTES));
    }

    /// Frees the empty buffer while nothing arrives: a stream may be silent for hours.
    fn none_read<T>(&mut self, read: Poll<T>) -> Poll<T> {
        if read.is_pending() && self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
        read
    }

    /// Returns the available data of a chunk, or `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let State::Chunks(decoder) = &mut self.state else { return Poll::Ready(Ok(None)) };
            match decoder.decode(&mut self.buf) {
                Ok(Decoded::Need) => {}
                Ok(Decoded::Data(data)) => return Poll::Ready(Ok(Some(data))),
                Ok(Decoded::End(trailers)) => {
                    self.trailers = trailers;
                    return Poll::Ready(Ok(None));
                }
                Err(invalid) => {
                    let error = Error::explain(ErrorType::InvalidHTTPHeader, invalid);
                    return Poll::Ready(Err(self.line.failed(error)));
                }
            }
            self.reserve();
            let read = self.line.poll_read(cx, &mut self.buf);
            let read = ready!(self.none_read(read)).or_err(ErrorType::ReadError, "while reading the response's body");
            let closed = || Error::explain(ErrorType::ConnectionClosed, "before the response's body was whole");
            if let Err(error) = read.and_then(|read| if read == 0 { Err(closed()) } else { Ok(()) }) {
                return Poll::Ready(Err(self.line.failed(error)));
            }
        }
    }

    /// Waits until the rest of the request body was sent, or is given up.
    pub(super) async fn finish_request(&mut self) {
        let Some(line) = self.line.shared() else { return };
        let (mut stall, mut before) = (None, usize::MAX);
        let gives_up = std::future::poll_fn(|cx| match line.poll_rest(cx) {
            Rest::Complete => Poll::Ready(false),
            Rest::Broken => Poll::Ready(true),
            Rest::Expected => {
                stall = None;
                Poll::Pending
            }
            Rest::Blocked(bytes) => {
                if std::mem::replace(&mut before, bytes) != bytes {
                    stall = None;
                }
                let stall = stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(GIVE_UP_AFTER)));
                stall.as_mut().poll(cx).map(|()| true)
            }
        });
        if gives_up.await {
            line.discard();
            std::future::poll_fn(|cx| line.checkout().poll_answered(cx)).await;
            line.checkout().give_up();
        }
    }
}

/// The next bytes of a tunnel. The end of the client's bytes is passed on, and the backend may send more after it.
async fn tunnel_bytes(session: &mut HttpSession, line: &SharedSocket) -> Result<Option<Bytes>> {
    let mut read = std::pin::pin!(session.read_body_bytes());
    let read = std::future::poll_fn(|cx| {
        let read = read.as_mut().poll(cx);
        if read.is_pending() {
            line.poll_half_close(cx);
        }
        read
    });
    match read.await {
        // The upgraded protocol has its own end, so many backends close without a TLS close_notify.
        Err(error) if is_bare_end(&error) => Ok(None),
        read => read,
    }
}
