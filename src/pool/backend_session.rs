//! The session of one exchange with a backend, over HTTP/1 or HTTP/2.
//!
//! Its methods return the future of the inner session. An `async fn` would allocate a second future for each call.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::Result;
use pingora_core::protocols::http::custom::client::Session;
use pingora_core::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, UniqueIDType};

use super::http1::session::Http1Session;
use super::http2::Http2Session;

/// The session of one exchange.
pub enum BackendSession {
    /// A connection of its own.
    Http1(Http1Session),
    /// A stream of a shared connection.
    Http2(Http2Session),
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

/// Calls the inner session.
macro_rules! delegate {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match $self {
            BackendSession::Http1(session) => session.$method($($argument),*),
            BackendSession::Http2(session) => session.$method($($argument),*),
        }
    };
}

/// The future of a method, as `async_trait` declares it.
type SessionFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Session for BackendSession {
    fn write_request_header<'a, 'b>(
        &'a mut self,
        request: Box<RequestHeader>,
        end: bool,
    ) -> SessionFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.write_request_header(request, end))
    }

    fn write_request_body<'a, 'b>(&'a mut self, data: Bytes, end: bool) -> SessionFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.write_request_body(data, end))
    }

    fn finish_request_body<'a, 'b>(&'a mut self) -> SessionFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.finish_request_body())
    }

    fn read_response_header<'a, 'b>(&'a mut self) -> SessionFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.read_response_header())
    }

    fn read_response_body<'a, 'b>(&'a mut self) -> SessionFuture<'b, Result<Option<Bytes>>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.read_response_body())
    }

    fn read_trailers<'a, 'b>(&'a mut self) -> SessionFuture<'b, Result<Option<HeaderMap>>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.read_trailers())
    }

    fn check_response_end_or_error<'a, 'b>(&'a mut self, headers: bool) -> SessionFuture<'b, Result<bool>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.check_response_end_or_error(headers))
    }

    fn finish_custom<'a, 'b>(&'a mut self) -> SessionFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.finish_custom())
    }

    fn drain_custom_messages<'a, 'b>(&'a mut self) -> SessionFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        delegate!(self.drain_custom_messages())
    }

    fn shutdown<'a, 'b, 'c>(&'a mut self, code: u32, ctx: &'b str) -> SessionFuture<'c, ()>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        delegate!(self.shutdown(code, ctx))
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        delegate!(self.set_read_timeout(timeout));
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        delegate!(self.set_write_timeout(timeout));
    }

    fn response_finished(&self) -> bool {
        delegate!(self.response_finished())
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        delegate!(self.response_header())
    }

    fn was_upgraded(&self) -> bool {
        delegate!(self.was_upgraded())
    }

    fn digest(&self) -> Option<&Digest> {
        delegate!(self.digest())
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        delegate!(self.digest_mut())
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        delegate!(self.server_addr())
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        delegate!(self.client_addr())
    }

    fn fd(&self) -> UniqueIDType {
        delegate!(self.fd())
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        delegate!(self.take_request_body_writer())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        delegate!(self.take_custom_message_reader())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        delegate!(self.take_custom_message_writer())
    }
}
