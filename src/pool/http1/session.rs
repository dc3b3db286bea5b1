//! The HTTP/1 client session: one exchange with a backend.
//!
//! The session sends the request itself. The request body is sent while the response is read (`shared_io`). It also
//! reads a response of fixed length itself: Pingora's own client session stores every response field twice and copies
//! the body once more (figures: docs/performance.md). For any other response, Pingora's session gets all received bytes
//! of the response and parses it.

mod response_body;

use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::UniqueIDType;
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::protocols::http::v1::client::{HttpSession, http_req_header_to_wire};
use pingora_core::protocols::http::v1::common::is_upgrade_req;
use pingora_core::{Error, ErrorType, OkOrErr, OrErr, Result};
use tokio::io::AsyncWrite;

use crate::pool::checkout::{Checkout, PooledStream};
use crate::pool::http1::body_writer::{BodyWriter, EmptyBodyWriter, RequestFraming};
use crate::pool::http1::chunk_decoder::ChunkDecoder;
use crate::pool::http1::fast_path::{self, ParsedHead, ResponseFraming};
use crate::pool::http1::rewind_io::RewindIo;
use crate::pool::http1::shared_io::SharedIo;
use crate::pool::outstanding_pieces::OutstandingPieces;

/// Capacity for a response head and a small body after it.
const HEAD_BUFFER_BYTES: usize = 4096;
/// A longer head is left to Pingora's session.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The long pieces of a body are passed on one at a time after this many bytes. Most responses are shorter.
const LARGE_BODY_BYTES: usize = 16 * 1024;

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

/// Yields once, so that Pingora first takes what it has got. It copies a body that it gets together with the header or
/// the end of the response.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
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
    /// How many bytes of the body were handed to Pingora.
    received: usize,
    /// The pieces of a large body that the client has not taken.
    outstanding: OutstandingPieces,
    /// The size of the read buffer for the body.
    buffer_bytes: usize,
    /// Pingora knows that the response is complete.
    ended: bool,
    /// The backend has ended the tunnel.
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
            received: 0,
            outstanding: OutstandingPieces::default(),
            buffer_bytes: HEAD_BUFFER_BYTES,
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

/// Whether the body is sent in chunks.
fn is_chunked(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::TRANSFER_ENCODING)
        .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The methods of Pingora's session that `BackendSession` calls.
impl Http1Session {
    pub(in crate::pool) async fn write_request_header(&mut self, request: Box<RequestHeader>, end: bool) -> Result<()> {
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

    pub(in crate::pool) async fn read_response_header(&mut self) -> Result<()> {
        if let State::Head = self.state {
            match self.head().await? {
                ParsedHead::Plain(plain) => {
                    self.keeps = plain.keeps;
                    self.set_buffer(&plain.framing);
                    self.state = match plain.framing {
                        ResponseFraming::Length(length) => State::Body(length),
                        ResponseFraming::Chunked => State::Chunks(Box::default()),
                    };
                    self.response = Some(self.line.with(|stream| without_fields(stream.checkout(), plain.response))?);
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
                self.line.with(PooledStream::become_tunnel);
            }
        }
        Ok(())
    }

    pub(in crate::pool) async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        let is_next_to_header = self.received == 0 && matches!(self.state, State::Body(LARGE_BODY_BYTES..));
        if is_next_to_header || (self.ended && self.received > LARGE_BODY_BYTES) {
            yield_once().await;
        }
        if self.ended {
            self.finish_request().await;
            return Ok(None);
        }
        self.wait_for_client().await;
        // The end comes with a piece, even if that is empty. So the filters see it.
        let piece = self.body_piece().await?.unwrap_or_default();
        if piece.is_empty() && self.trailers.is_some() && self.line.is_sent() {
            // The trailers end the response.
            return Ok(None);
        }
        if self.received == 0 && !piece.is_empty() {
            self.line.with(PooledStream::begin_body);
        }
        self.received += piece.len();
        let is_large = self.received > LARGE_BODY_BYTES && !self.is_read_whole();
        Ok(Some(if is_large { self.outstanding.count(piece) } else { piece }))
    }

    pub(in crate::pool) fn response_finished(&self) -> bool {
        self.ended
    }

    pub(in crate::pool) async fn shutdown(&mut self) {
        let _ = std::future::poll_fn(|cx| self.line.with(|stream| Pin::new(stream).poll_shutdown(cx))).await;
    }

    pub(in crate::pool) fn response_header(&self) -> Option<&ResponseHeader> {
        self.response.as_deref()
    }

    pub(in crate::pool) fn was_upgraded(&self) -> bool {
        matches!(&self.state, State::Other(session) if session.was_upgraded())
    }

    /// Trailers of a chunked response. Pingora passes them to HTTP/2 clients only.
    pub(in crate::pool) fn read_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().filter(|_| !self.ended).map(|trailers| *trailers)
    }

    pub(in crate::pool) fn fd(&self) -> UniqueIDType {
        self.line.id()
    }

    pub(in crate::pool) fn check_response_end(&mut self, headers: bool) -> bool {
        self.ended = self.is_complete();
        if headers && self.ended {
            self.line.with(|stream| stream.checkout().set_header_only());
        }
        self.ended
    }

    pub(in crate::pool) fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
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
}
