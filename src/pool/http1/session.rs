//! The HTTP/1 client session: one exchange with a backend.
//!
//! The session sends the request itself. The request body is sent while the response is read (`shared_io`). It also
//! reads a response of fixed length itself: Pingora's own client session stores every response field twice and copies
//! the body once more (figures: docs/performance.md). For any other response, Pingora's session gets all received bytes
//! of the response and parses it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::{HeaderMap, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::http::custom::client::Session;
use pingora_core::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use pingora_core::protocols::http::v1::client::{HttpSession, http_req_header_to_wire};
use pingora_core::protocols::http::v1::common::is_upgrade_req;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_core::{Error, ErrorType, OkOrErr, OrErr, Result};
use tokio::io::AsyncWrite;

use crate::pool::checkout::{Checkout, PooledStream};
use crate::pool::http1::body_writer::{BodyWriter, EmptyBodyWriter, RequestFraming};
use crate::pool::http1::chunk_decoder::{ChunkDecoder, Decoded};
use crate::pool::http1::fast_path::{self, ParsedHead, ResponseFraming};
use crate::pool::http1::rewind_io::RewindIo;
use crate::pool::http1::shared_io::{Rest, SharedIo, SharedSocket};

/// Capacity for a response head and a small body after it.
const HEAD_BUFFER_BYTES: usize = 4096;
/// A longer head is left to Pingora's session.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum size of one body chunk that is passed on. Most bodies are smaller and need one chunk.
const MAX_PIECE_BYTES: usize = 128 * 1024;
/// Larger bodies are passed on chunk by chunk. Pingora copies chunks that are ready at the same time into one buffer.
const LARGE_BODY_BYTES: usize = 16 * 1024;
/// A chunk is passed on without a copy if it fills at least 1/4 of its buffer.
const MIN_FILL_RATIO: usize = 4;
/// Capacity for the next chunks of a response.
const CHUNK_BUFFER_BYTES: usize = 16 * 1024;
/// After the response, the rest of the request body is given up if the backend takes no byte for this long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// The state of the response.
enum State {
    Head,
    /// Bytes of the body that are not passed on yet.
    Body(usize),
    Chunks(Box<ChunkDecoder>),
    /// Pingora's session reads the response.
    Other(Box<HttpSession>),
}

/// Puts the response into the checkout and returns a header with the status only, because Pingora copies the header.
fn without_fields(checkout: &Checkout, response: Box<ResponseHeader>) -> Result<Box<ResponseHeader>> {
    let bare = ResponseHeader::build_no_case(response.status, Some(0))?;
    checkout.put_response(response);
    Ok(Box::new(bare))
}

/// Yields once, so that Pingora first writes the previous chunk to the client.
async fn pause() {
    let mut passed = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One exchange.
pub struct Http1Session {
    line: SharedIo,
    request: Option<Box<RequestHeader>>,
    /// Bytes that were read but not passed on.
    buf: BytesMut,
    state: State,
    response: Option<Box<ResponseHeader>>,
    /// Whether the backend keeps the connection open.
    keeps: bool,
    large: bool,
    /// Pingora knows that the response is complete.
    ended: bool,
    /// One side has ended the tunnel.
    tunnel_ended: bool,
    trailers: Option<Box<HeaderMap>>,
    /// The request has no body.
    bodiless: bool,
}

impl Http1Session {
    pub(in crate::pool) fn new(stream: PooledStream) -> Self {
        Self {
            line: SharedIo::new(stream),
            request: None,
            buf: BytesMut::new(),
            state: State::Head,
            response: None,
            keeps: false,
            large: false,
            ended: false,
            tunnel_ended: false,
            trailers: None,
            bodiless: false,
        }
    }

    /// Returns the connection to the pool if request and response are complete. Otherwise it is closed.
    pub(in crate::pool) async fn release(mut self) {
        if !matches!(self.state, State::Other(_)) || self.was_upgraded() {
            // `Drop` does it.
            return;
        }
        if let State::Other(mut session) = std::mem::replace(&mut self.state, State::Head) {
            session.respect_keepalive();
            // Pingora's session does not know of bytes that it has not read. They make the connection unusable.
            let stream = session.reuse().await.and_then(|stream| stream.into_any().downcast::<RewindIo>().ok());
            if stream.is_some_and(|replay| replay.is_spent()) && self.line.is_sent() {
                self.line.with(PooledStream::hand_back);
            }
        }
    }

    /// Reads until the head is complete or is left to Pingora.
    async fn head(&mut self) -> Result<ParsedHead> {
        loop {
            if !self.buf.is_empty() {
                let bodiless = self.request.as_ref().is_some_and(|request| request.method == http::Method::HEAD);
                match fast_path::head(&mut self.buf, bodiless) {
                    ParsedHead::Partial if self.buf.len() <= MAX_HEAD_BYTES => {}
                    ParsedHead::Partial => return Ok(ParsedHead::Other),
                    whole => return Ok(whole),
                }
            }
            self.buf.reserve(HEAD_BUFFER_BYTES);
            let come = std::future::poll_fn(|cx| self.line.poll_read(cx, &mut self.buf)).await;
            match come.or_err(ErrorType::ReadError, "while reading the response's header") {
                Ok(1..) => {}
                Ok(_) => {
                    let closed = Error::explain(ErrorType::ConnectionClosed, "before the response's header was whole");
                    return Err(self.line.failed(closed));
                }
                Err(error) => return Err(self.line.failed(error)),
            }
        }
    }

    /// Makes a Pingora session in the state after sending the request and before reading anything.
    async fn hand_over(&mut self) -> Result<Box<HttpSession>> {
        let replay = RewindIo::new(std::mem::take(&mut self.buf), self.line.share());
        let mut session = Box::new(HttpSession::new(Box::new(replay)));
        if let Some(request) = self.request.take() {
            session.write_request_header(request).await?;
        }
        Ok(session)
    }

    /// Records that a part of the response is handed to Pingora's loop.
    fn hand_on(&self) {
        if let Some(line) = self.line.shared() {
            line.checkout().hand_on();
        }
    }

    /// The next body bytes. `None` at the end, without waiting for the rest of the request.
    async fn body_piece(&mut self) -> Result<Option<Bytes>> {
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

    /// Waits until the rest of the request body was sent, or is given up.
    async fn finish_request(&mut self) {
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

    /// Returns the available body bytes, at most `MAX_PIECE_BYTES`. Pending only if none is available.
    fn poll_body(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<Result<Bytes>> {
        let want = left.min(MAX_PIECE_BYTES);
        if self.buf.len() < want {
            // One byte more than needed. A read that does not fill the buffer shows that the socket has no more for
            // now.
            self.buf.reserve(want + 1 - self.buf.len());
            let read = self.line.poll_read(cx, &mut self.buf);
            if self.buf.is_empty() {
                let read = ready!(read).or_err(ErrorType::ReadError, "while reading the response's body");
                let ended = |_| Error::explain(ErrorType::ConnectionClosed, "before the response's body was whole");
                return Poll::Ready(Err(self.line.failed(read.map_or_else(|error| error, ended))));
            }
        }
        let here = self.buf.len().min(left);
        if here * MIN_FILL_RATIO < self.buf.capacity() {
            // A few bytes are copied, so that they do not hold a large buffer while the client reads slowly.
            let few = Bytes::copy_from_slice(&self.buf[..here]);
            self.buf.advance(here);
            return Poll::Ready(Ok(few));
        }
        Poll::Ready(Ok(self.buf.split_to(here).freeze()))
    }
}

impl Drop for Http1Session {
    /// A complete exchange leaves a usable connection, also if it ended with an error of the client.
    fn drop(&mut self) {
        let complete = match &self.state {
            State::Body(left) => *left == 0,
            State::Chunks(decoder) => decoder.is_done(),
            State::Head | State::Other(_) => false,
        };
        if complete && self.keeps && self.buf.is_empty() && self.line.is_sent() {
            self.line.with(PooledStream::hand_back);
        }
    }
}

impl Http1Session {
    /// Returns the available data of a chunk, or `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let State::Chunks(decoder) = &mut self.state else { return Poll::Ready(Ok(None)) };
        loop {
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
            self.buf.reserve(CHUNK_BUFFER_BYTES);
            let read = ready!(self.line.poll_read(cx, &mut self.buf));
            let read = read.or_err(ErrorType::ReadError, "while reading the response's body");
            let closed = || Error::explain(ErrorType::ConnectionClosed, "before the response's body was whole");
            if let Err(error) = read.and_then(|read| if read == 0 { Err(closed()) } else { Ok(()) }) {
                return Poll::Ready(Err(self.line.failed(error)));
            }
        }
    }

    /// Whether all bytes of the response were handed on.
    fn is_complete(&mut self) -> bool {
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
}

/// The next bytes of a tunnel. The end of the client's bytes ends it too.
async fn tunnel_bytes(session: &mut HttpSession, line: &SharedSocket) -> Result<Option<Bytes>> {
    let mut read = std::pin::pin!(session.read_body_bytes());
    let read = std::future::poll_fn(|cx| {
        if let Poll::Ready(read) = read.as_mut().poll(cx) {
            return Poll::Ready(Some(read));
        }
        line.poll_ended(cx).map(|()| None)
    });
    read.await.unwrap_or(Ok(None))
}

/// Whether the body is sent in chunks.
fn is_chunked(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::TRANSFER_ENCODING)
        .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

#[async_trait]
impl Session for Http1Session {
    async fn write_request_header(&mut self, request: Box<RequestHeader>, end: bool) -> Result<()> {
        self.bodiless = end;
        let length = fast_path::length(&request.headers);
        let framed = end || length.is_some() || is_chunked(&request.headers);
        let end = end || length == Some(0);
        let wire = http_req_header_to_wire(&request).filter(|_| framed);
        let mut wire = wire.or_err(ErrorType::InvalidHTTPHeader, "a request that cannot be sent")?;
        self.line.write(&mut wire, end).await.or_err(ErrorType::WriteError, "while writing the request's header")?;
        self.request = Some(request);
        Ok(())
    }

    async fn write_request_body(&mut self, _data: Bytes, _end: bool) -> Result<()> {
        Error::e_explain(ErrorType::InternalError, "the body has a writer of its own")
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        Error::e_explain(ErrorType::InternalError, "the body has a writer of its own")
    }

    /// No-op: the checkout has the timeouts.
    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    /// No-op: the checkout has the timeouts.
    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    async fn read_response_header(&mut self) -> Result<()> {
        if let State::Head = self.state {
            match self.head().await? {
                ParsedHead::Plain(plain) => {
                    self.keeps = plain.keeps;
                    self.state = match plain.framing {
                        ResponseFraming::Length(length) => State::Body(length),
                        ResponseFraming::Chunked => State::Chunks(Box::default()),
                    };
                    self.large = matches!(plain.framing, ResponseFraming::Length(length) if length > LARGE_BODY_BYTES);
                    self.response = Some(self.line.with(|stream| without_fields(stream.checkout(), plain.response))?);
                    self.hand_on();
                    return Ok(());
                }
                _ => self.state = State::Other(self.hand_over().await?),
            }
        }
        if let State::Other(session) = &mut self.state {
            session.read_response().await.map_err(|error| self.line.failed(error))?;
            self.response = session.resp_header().cloned().map(Box::new);
            // It learns the framing of the body, and whether this is a tunnel.
            if !session.is_body_done() && session.was_upgraded() {
                self.line.share().reopen();
            }
            self.hand_on();
        }
        Ok(())
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            self.finish_request().await;
            return Ok(None);
        }
        if self.large {
            pause().await;
        }
        // The end comes with a piece, even if that is empty. So the filters see it.
        let piece = self.body_piece().await?.unwrap_or_default();
        if piece.is_empty() && self.trailers.is_some() && self.line.is_sent() {
            // The trailers end the response.
            return Ok(None);
        }
        if !piece.is_empty() || self.is_complete() {
            self.hand_on();
        }
        Ok(Some(piece))
    }

    fn response_finished(&self) -> bool {
        self.ended
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        let _ = std::future::poll_fn(|cx| self.line.with(|stream| Pin::new(stream).poll_shutdown(cx))).await;
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.response.as_deref()
    }

    fn was_upgraded(&self) -> bool {
        matches!(&self.state, State::Other(session) if session.was_upgraded())
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    /// Trailers of a chunked response. Pingora passes them to HTTP/2 clients only.
    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Ok(self.trailers.take().filter(|_| !self.ended).map(|trailers| *trailers))
    }

    fn fd(&self) -> UniqueIDType {
        self.line.id()
    }

    async fn check_response_end_or_error(&mut self, _headers: bool) -> Result<bool> {
        self.ended = self.is_complete();
        Ok(self.ended)
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        let request = self.request.as_ref()?;
        let framing = if self.line.is_sent() {
            RequestFraming::Length(0)
        } else {
            fast_path::length(&request.headers).map_or(RequestFraming::Chunked, RequestFraming::Length)
        };
        if self.bodiless && !is_upgrade_req(request) {
            return Some(Box::new(EmptyBodyWriter));
        }
        Some(Box::new(BodyWriter::new(self.line.share(), framing)))
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(stream::empty()))
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}
