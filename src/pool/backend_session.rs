//! The session of one exchange with a backend, over HTTP/1 or HTTP/2: the custom session that Pingora calls.
//!
//! It reads and writes nothing itself. Timeouts and messages of custom protocols, for which Pingora asks too, have no
//! use here: the checkout has the timeouts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::http::custom::client::Session;
use pingora_core::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_core::{Error, ErrorType, Result};

use super::http1::session::Http1Session;
use super::http2::Http2Session;

/// The session of one exchange.
pub enum BackendSession {
    /// A connection of its own.
    Http1(Http1Session),
    /// A stream of a shared connection.
    Http2(Box<Http2Session>),
}

impl BackendSession {
    /// Ends the exchange. The connection may serve another one.
    pub(in crate::pool) async fn release(self) {
        match self {
            Self::Http1(session) => session.release().await,
            Self::Http2(session) => drop(session),
        }
    }
}

#[async_trait]
impl Session for BackendSession {
    async fn write_request_header(&mut self, request: Box<RequestHeader>, end: bool) -> Result<()> {
        match self {
            Self::Http1(session) => session.write_request_header(request, end).await,
            Self::Http2(session) => session.write_request_header(request, end),
        }
    }

    async fn write_request_body(&mut self, _data: Bytes, _end: bool) -> Result<()> {
        Error::e_explain(ErrorType::InternalError, "the body has a writer of its own")
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        Error::e_explain(ErrorType::InternalError, "the body has a writer of its own")
    }

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    async fn read_response_header(&mut self) -> Result<()> {
        match self {
            Self::Http1(session) => session.read_response_header().await,
            Self::Http2(session) => session.read_response_header().await,
        }
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Http1(session) => session.read_response_body().await,
            Self::Http2(session) => session.read_response_body().await,
        }
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Ok(match self {
            Self::Http1(session) => session.read_trailers(),
            Self::Http2(session) => session.read_trailers(),
        })
    }

    async fn check_response_end_or_error(&mut self, headers: bool) -> Result<bool> {
        match self {
            Self::Http1(session) => Ok(session.check_response_end(headers)),
            Self::Http2(session) => session.check_response_end(headers),
        }
    }

    fn response_finished(&self) -> bool {
        match self {
            Self::Http1(session) => session.response_finished(),
            Self::Http2(session) => session.response_finished(),
        }
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        match self {
            Self::Http1(session) => session.shutdown().await,
            Self::Http2(session) => session.shutdown(),
        }
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        match self {
            Self::Http1(session) => session.response_header(),
            Self::Http2(session) => session.response_header(),
        }
    }

    fn was_upgraded(&self) -> bool {
        matches!(self, Self::Http1(session) if session.was_upgraded())
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        match self {
            Self::Http1(session) => session.take_request_body_writer(),
            Self::Http2(session) => session.take_request_body_writer(),
        }
    }

    fn fd(&self) -> UniqueIDType {
        match self {
            Self::Http1(session) => session.fd(),
            Self::Http2(session) => session.fd(),
        }
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

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(stream::empty()))
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}
