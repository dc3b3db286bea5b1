//! The server session of one HTTP/2 request. Pingora sees it as a custom downstream session.
//!
//! It differs from Pingora's own HTTP/2 session in three ways. Interim responses reach the client. The client may send
//! more of the body only when the proxy asks for the next piece, so a slow backend slows the client down. A body that
//! does not arrive in time is an error. It also carries the tunnel of an extended CONNECT.
//!
//! It never checks a request: `proxy::request_filter` does.

mod request_body;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderName};
use http::response::Parts;
use http::{Request, Response};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::time::{Instant, timeout};

use crate::body_gate::BodyGate;
use crate::listener::http2::extended_connect::{self, Tunnel};
use crate::listener::http2::responder::Responder;
use crate::listener::http2::send_half::{capacity, poll_reset};
use crate::message::hop_by_hop;

/// How much of a request body is kept for a retry. Pingora's sessions use the same limit.
const RETRY_BUFFER_BYTES: usize = 64 * 1024;

/// Fields that HTTP/2 does not have (RFC 9113 section 8.2.2).
const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type MessageReader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// One request and its response.
pub(super) struct Http2ServerSession {
    request: RequestHeader,
    tunnel: Tunnel,
    body: RecvStream,
    body_gate: Arc<BodyGate>,
    /// Bytes of the last piece of the body. The client gets their flow-control window back with the next read.
    unreleased: usize,
    /// The body has been read to its end.
    body_ended: bool,
    /// The client waits for 100 (Continue), and the body has not been read yet.
    owes_continue: bool,
    responder: Arc<Responder>,
    sender: Option<SendStream<Bytes>>,
    /// The status of the response, once its header was written.
    written: Option<ResponseHeader>,
    /// END_STREAM was sent.
    ended: bool,
    body_read: usize,
    body_sent: usize,
    retry_buffer: Option<FixedBuffer>,
    digest: Arc<Digest>,
    read_timeout: Option<Duration>,
    /// When the next bytes of the body are too late. A part of the response cancels a read, but not this deadline.
    read_until: Option<Instant>,
    write_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
}

impl Http2ServerSession {
    /// `body_gate`: stops the reads of the body.
    pub(super) fn new(
        request: Request<RecvStream>,
        responder: Arc<Responder>,
        digest: Arc<Digest>,
        body_gate: Arc<BodyGate>,
    ) -> Self {
        let (mut parts, body) = request.into_parts();
        let tunnel = extended_connect::to_upgrade(&mut parts);
        let request = RequestHeader::from(parts);
        let expects_continue = tunnel == Tunnel::No && hop_by_hop::expects_continue(&request.headers);
        let owes_continue = expects_continue && !body.is_end_stream();
        Self {
            request,
            tunnel,
            body,
            body_gate,
            unreleased: 0,
            body_ended: false,
            owes_continue,
            responder,
            sender: None,
            written: None,
            ended: false,
            body_read: 0,
            body_sent: 0,
            retry_buffer: None,
            digest,
            read_timeout: None,
            read_until: None,
            write_timeout: None,
            drain_timeout: None,
        }
    }

    fn is_done(&self) -> bool {
        match self.tunnel {
            Tunnel::No => {}
            // Bytes that the client sends before the response wait.
            Tunnel::Requested => return true,
            // The end has to be read, because the backend has to see it.
            Tunnel::Open => return self.body_ended,
        }
        self.body_ended || self.body_gate.is_ended() || self.has_no_body() || self.body.is_end_stream()
    }

    fn has_no_body(&self) -> bool {
        let announces_none = || self.request.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        // A retry asks again. h2 does not report the end here if trailers ended the body.
        let is_tunnel = self.tunnel != Tunnel::No;
        is_tunnel || self.body_read == 0 && (self.body_ended || self.body.is_end_stream() || announces_none())
    }

    /// Completes when the client has reset the stream or closed the connection.
    async fn reset(&mut self) -> Result<Reason> {
        poll_fn(|cx| poll_reset(&mut self.sender, &self.responder, cx)).await
    }

    fn write_header(&mut self, mut response: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.ended || self.written.is_some() {
            return Ok(());
        }
        for name in &CONNECTION_FIELDS {
            response.remove_header(name);
        }
        // The status that the proxy sees and records.
        let status = response.status;
        if !self.tunnel.passes(&mut response)? {
            return Ok(());
        }
        if response.status.is_informational() {
            return self.responder.send_interim(status, Parts::from(*response).headers);
        }
        response.insert_header(header::DATE, get_cached_date())?;
        let head = Response::from_parts(Parts::from(*response), ());
        let sender = self.responder.send(head, end)?;
        self.written = Some(ResponseHeader::build_no_case(status, Some(0))?);
        self.sender = Some(sender);
        self.ended = end;
        Ok(())
    }

    fn sender(&mut self) -> Result<&mut SendStream<Bytes>> {
        let missing = || Error::explain(ErrorType::H2Error, "a body before its header");
        self.sender.as_mut().ok_or_else(missing)
    }

    async fn write_piece(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let (limit, size) = (self.write_timeout, data.len());
        let sender = self.sender()?;
        while !data.is_empty() {
            let some = data.len().min(capacity(sender, data.len(), limit).await?);
            let piece = data.split_to(some);
            let last = end && data.is_empty();
            sender.send_data(piece, last).or_err(ErrorType::WriteError, "while writing the body")?;
        }
        if end && size == 0 {
            sender.send_data(data, true).or_err(ErrorType::WriteError, "while writing the body")?;
        }
        self.body_sent += size;
        self.ended = end;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if !self.ended
            && let Some(sender) = &mut self.sender
        {
            sender.send_data(Bytes::new(), true).or_err(ErrorType::WriteError, "while ending the body")?;
            self.ended = true;
        }
        Ok(())
    }

    fn end_with(&mut self, trailers: HeaderMap) -> Result<()> {
        if !self.ended {
            self.sender()?.send_trailers(trailers).or_err(ErrorType::WriteError, "while writing the trailers")?;
            self.ended = true;
        }
        Ok(())
    }

    /// Writes what the proxy has gathered. Returns whether the response is complete.
    async fn write_task(&mut self, task: HttpTask) -> Result<bool> {
        match task {
            HttpTask::Header(header, end) => self.write_header(header, end).map(|()| end),
            HttpTask::Body(Some(data), end) | HttpTask::UpgradedBody(Some(data), end) if !data.is_empty() => {
                self.write_piece(data, end).await.map(|()| end)
            }
            HttpTask::Body(_, end) | HttpTask::UpgradedBody(_, end) => Ok(end),
            HttpTask::Trailer(Some(trailers)) => self.end_with(*trailers).map(|()| true),
            HttpTask::Trailer(None) | HttpTask::Done => Ok(true),
            HttpTask::Failed(error) => Err(error),
        }
    }
}

#[async_trait]
impl Session for Http2ServerSession {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.send_continue()?;
        self.read_piece().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        match self.drain_timeout {
            Some(limit) => match timeout(limit, self.drain()).await {
                Ok(drained) => drained,
                Err(_) => Error::e_explain(ErrorType::ReadTimedout, "while draining the request body"),
            },
            None => self.drain().await,
        }
    }

    async fn write_response_header(&mut self, response: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_header(response, end)
    }

    async fn write_response_header_ref(&mut self, response: &ResponseHeader, end: bool) -> Result<()> {
        self.write_header(Box::new(response.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write_piece(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.end_with(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut complete = false;
        for task in tasks {
            if let HttpTask::Failed(error) = task {
                // It is the backend's error. Pingora must not count it as the client's.
                return Err(error);
            }
            complete |= self.write_task(task).await.map_err(|error| error.into_down())?;
        }
        if complete {
            self.end().map_err(|error| error.into_down())?;
        }
        Ok(complete)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    fn request_summary(&self) -> String {
        let target = self.request.uri.path_and_query().map_or("", |target| target.as_str());
        format!("{} {target}, Host: {}", self.request.method, self.request.uri.host().unwrap_or_default())
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_ref()
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        if !self.ended {
            // CANCEL stands for a TCP reset (RFC 8441 section 5).
            let of_tunnel = self.tunnel == Tunnel::Open;
            self.responder.reset(if of_tunnel { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.is_done()
    }

    /// Ends the response. A response without a header is left alone: the stream is reset when the session is dropped.
    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    fn is_upgrade_req(&self) -> bool {
        self.tunnel != Tunnel::No
    }

    fn was_upgraded(&self) -> bool {
        self.tunnel == Tunnel::Open
    }

    fn is_body_empty(&mut self) -> bool {
        self.has_no_body()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        // Pingora must see the end of a body once, also if the exchange ends it early.
        let ends_early = self.body_gate.is_ended() && !self.body_ended;
        if !no_body_expected && (ends_early || !self.is_done()) {
            return self.read_body_bytes().await;
        }
        let reason = self.reset().await?;
        Error::e_explain(ErrorType::H2Error, format!("the client closed the stream: {reason}"))
    }

    fn body_bytes_sent(&self) -> usize {
        self.body_sent
    }

    fn body_bytes_read(&self) -> usize {
        self.body_read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        http_req_header_to_wire(&self.request).map(|head| head.freeze()).unwrap_or_default()
    }

    fn enable_retry_buffering(&mut self) {
        self.retry_buffer.get_or_insert_with(|| FixedBuffer::new(RETRY_BUFFER_BYTES));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.retry_buffer.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.retry_buffer.as_ref().filter(|buffer| !buffer.is_truncated())?.get_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        Some(Box::new(stream::empty()))
    }

    fn restore_custom_message_reader(&mut self, _reader: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
