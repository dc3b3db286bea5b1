//! The HTTP/2 client session: one exchange on a stream.
//!
//! Each poll of the response half first sends what the backend accepts of the request body, and then reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::UniqueIDType;
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::{Error, ErrorType, OkOrErr, Result};

use super::connection::Http2Stream;
use super::errors;
use super::request_head;
use super::timer::ProgressTimer;
use super::upload::{Upload, UploadState, UploadWriter};
use crate::pool::checkout::Checkout;
use crate::pool::outstanding_pieces::OutstandingPieces;

/// After this many bytes of a response, pieces are passed on one at a time. Most responses are shorter.
const SMALL_BODY_BYTES: usize = 16 * 1024;
/// After the response, the rest of the request body is given up if the backend takes no byte for this long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// One exchange.
pub struct Http2Session {
    stream: Http2Stream,
    checkout: Arc<Checkout>,
    tls: bool,
    /// The request method was HEAD.
    head_only: bool,
    upload: Option<Arc<Upload>>,
    /// The response header, until it has arrived.
    head: Option<ResponseFuture>,
    response: Option<Box<ResponseHeader>>,
    body: Option<RecvStream>,
    received: usize,
    /// The pieces of a long body that the client has not taken. They are passed on one at a time.
    outstanding: OutstandingPieces,
    /// The length of the outstanding piece. The stream's window opens again when the client has taken it.
    unreleased: usize,
    /// No byte of the response body has arrived.
    awaits_first_byte: bool,
    /// The length of the response body, if the header gives it.
    length: Option<usize>,
    trailers: Option<HeaderMap>,
    /// Pingora knows that the response is complete.
    ended: bool,
    timer: ProgressTimer,
}

impl Http2Session {
    pub(super) fn new(stream: Http2Stream, checkout: Arc<Checkout>, tls: bool) -> Self {
        let timer = stream.slot.timer();
        Self {
            stream,
            checkout,
            tls,
            head_only: false,
            upload: None,
            head: None,
            response: None,
            body: None,
            received: 0,
            outstanding: OutstandingPieces::default(),
            unreleased: 0,
            awaits_first_byte: true,
            length: None,
            trailers: None,
            ended: false,
            timer,
        }
    }

    /// Sends the request body, and fails if neither direction has made progress for too long. Always pending otherwise.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let Some(upload) = &self.upload else { return Poll::Pending };
        let progress = upload.poll_send(cx);
        if progress.moved {
            self.timer.restart();
        }
        if self.checkout.poll_aborted(cx).is_ready() {
            return Poll::Ready(Error::explain(ErrorType::ReadError, "the proxy has refused the request body"));
        }
        let limits = self.checkout.limits();
        let (limit, kind) = match (progress.blocked, limits.write) {
            (true, Some(write)) => (Some(write), ErrorType::WriteTimedout),
            _ if self.awaits_first_byte => (limits.first_byte, ErrorType::ReadTimedout),
            _ => (limits.read, ErrorType::ReadTimedout),
        };
        let Some(limit) = limit else { return Poll::Pending };
        self.timer.poll(cx, limit).map(|()| {
            if kind == ErrorType::ReadTimedout {
                // The connection may hang, so it gets no other request.
                self.stream.slot.retire();
            }
            Error::explain(kind, "no progress of the HTTP/2 stream")
        })
    }

    /// Reads an interim response or the final one.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let idle = self.poll_idle(cx);
        let Some(head) = &mut self.head else {
            return Poll::Ready(Error::e_explain(ErrorType::InternalError, "there is no other response header"));
        };
        loop {
            let parts = match head.poll_informational(cx) {
                // 101 has no meaning in HTTP/2.
                Poll::Ready(Some(Ok(interim))) if interim.status() == StatusCode::SWITCHING_PROTOCOLS => continue,
                Poll::Ready(Some(Ok(interim))) => interim.into_parts().0,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(errors::of_header(error))),
                Poll::Ready(None) => match Pin::new(&mut *head).poll(cx) {
                    Poll::Ready(Ok(response)) => {
                        let (parts, body) = response.into_parts();
                        self.body = Some(body);
                        parts
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(errors::of_header(error))),
                    Poll::Pending => return idle.map(Err),
                },
                Poll::Pending => return idle.map(Err),
            };
            self.length = self.length_of(&parts);
            self.response = Some(Box::new(ResponseHeader::from(parts)));
            return Poll::Ready(self.check_length());
        }
    }

    /// The length of the body that follows this header.
    fn length_of(&self, head: &http::response::Parts) -> Option<usize> {
        if self.head_only || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Some(0);
        }
        head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// h2 does not compare the length with a response that ends at its header.
    fn check_length(&self) -> Result<()> {
        let (Some(response), Some(body)) = (&self.response, &self.body) else { return Ok(()) };
        let bodiless = self.head_only || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let some = |length: &http::HeaderValue| length.as_bytes().iter().any(|digit| *digit != b'0');
        if body.is_end_stream() && !bodiless && response.headers.get(header::CONTENT_LENGTH).is_some_and(some) {
            return Error::e_explain(ErrorType::H2Error, "a content length, but no body");
        }
        Ok(())
    }

    /// Reads the next part of the body. `None` at its end, and when the client has its whole response.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let taken = self.outstanding.poll_empty(cx).is_ready();
        if !taken {
            // The client is slow, not the backend.
            self.timer.restart();
        }
        let idle = self.poll_idle(cx);
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
        if !taken {
            return idle.map(Err);
        }
        // An error means that the stream has ended.
        let _ = body.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
        match body.poll_data(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.received += bytes.len();
                self.awaits_first_byte &= bytes.is_empty();
                if self.received > SMALL_BODY_BYTES {
                    self.unreleased = bytes.len();
                    return Poll::Ready(Ok(Some(self.outstanding.count(bytes))));
                }
                let _ = body.flow_control().release_capacity(bytes.len());
                Poll::Ready(Ok(Some(bytes)))
            }
            // h2 forgets the end of the response if the connection breaks before the request body was sent.
            Poll::Ready(Some(Err(error))) if error.is_io() && self.length == Some(self.received) => {
                self.ended = true;
                Poll::Ready(Ok(Some(Bytes::new())))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(errors::of_body(error))),
            Poll::Ready(None) => self.poll_end(cx),
            Poll::Pending if self.is_answered() => Poll::Ready(Ok(None)),
            Poll::Pending => idle.map(Err),
        }
    }

    /// The end of the body: `None` before trailers, else an empty piece, which tells Pingora that the response is
    /// complete. So the rest of the request is sent or given up in each case.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
        match ready!(body.poll_trailers(cx)) {
            Ok(Some(trailers)) => {
                self.trailers = Some(trailers);
                return Poll::Ready(Ok(None));
            }
            Err(error) if !errors::is_no_error(&error) => return Poll::Ready(Err(errors::of_body(error))),
            _ => self.ended = true,
        }
        Poll::Ready(Ok(Some(Bytes::new())))
    }

    fn is_answered(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.is_answered())
    }

    /// Puts the final response into the checkout and keeps only its status, because Pingora copies what it gets.
    fn hand_over_fields(&mut self) -> Result<()> {
        if let Some(response) = self.response.take_if(|response| !response.status.is_informational()) {
            let mut bare = ResponseHeader::build_no_case(response.status, Some(0))?;
            bare.set_version(response.version);
            self.checkout.put_response(response);
            self.response = Some(Box::new(bare));
        }
        Ok(())
    }

    /// Waits until the rest of the request body was sent, or is given up because the backend takes no more of it.
    async fn finish_request(&mut self) {
        let Some(upload) = self.upload.clone() else { return };
        self.timer.restart();
        let gives_up = std::future::poll_fn(|cx| {
            let progress = upload.poll_send(cx);
            if progress.moved {
                self.timer.restart();
            }
            match upload.state() {
                _ if self.is_answered() || self.checkout.poll_aborted(cx).is_ready() => Poll::Ready(false),
                UploadState::Complete => Poll::Ready(false),
                UploadState::Broken => Poll::Ready(true),
                UploadState::Expected if !progress.blocked => {
                    self.timer.restart();
                    Poll::Pending
                }
                UploadState::Expected => self.timer.poll(cx, GIVE_UP_AFTER).map(|()| true),
            }
        });
        if gives_up.await {
            upload.discard();
            std::future::poll_fn(|cx| self.checkout.poll_answered(cx)).await;
            self.checkout.give_up();
        }
    }
}

impl Drop for Http2Session {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.close(self.response_finished());
        }
        self.stream.slot.keep_timer(std::mem::take(&mut self.timer));
    }
}

/// The methods of Pingora's session that `BackendSession` calls.
impl Http2Session {
    pub(in crate::pool) fn write_request_header(&mut self, request: Box<RequestHeader>, end: bool) -> Result<()> {
        self.head_only = request.method == Method::HEAD;
        let request = request_head::convert(*request, self.tls)?;
        let mut sender = self.stream.sender.take().or_err(ErrorType::InternalError, "the request was sent already")?;
        let (head, stream) = sender.send_request(request, end).map_err(errors::of_request)?;
        self.checkout.set_begun();
        // It may be the timer of an earlier exchange.
        self.timer.restart();
        self.head = Some(head);
        self.upload = Some(Upload::new(stream, end, Arc::clone(&self.checkout)));
        Ok(())
    }

    pub(in crate::pool) async fn read_response_header(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_header(cx)).await?;
        self.hand_over_fields()
    }

    pub(in crate::pool) async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            self.finish_request().await;
            return Ok(None);
        }
        if !self.awaits_first_byte {
            self.timer.restart();
        }
        std::future::poll_fn(|cx| self.poll_body(cx)).await
    }

    pub(in crate::pool) fn response_finished(&self) -> bool {
        self.body.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    pub(in crate::pool) fn shutdown(&mut self) {
        if let Some(upload) = &self.upload {
            upload.close(false);
        }
    }

    pub(in crate::pool) fn response_header(&self) -> Option<&ResponseHeader> {
        self.response.as_deref()
    }

    pub(in crate::pool) fn read_trailers(&mut self) -> Option<HeaderMap> {
        if let Some(upload) = &self.upload {
            // The backend has answered. Nothing sends the rest of the request after this.
            upload.discard();
        }
        self.trailers.take()
    }

    pub(in crate::pool) fn fd(&self) -> UniqueIDType {
        self.stream.slot.fd()
    }

    /// Whether the response has ended. h2 also reports an end for a stream that failed, so the next read is tried.
    pub(in crate::pool) fn check_response_end(&mut self, headers: bool) -> Result<bool> {
        if self.ended {
            return Ok(true);
        }
        let Some(body) = self.body.as_mut().filter(|body| body.is_end_stream()) else { return Ok(false) };
        match body.poll_data(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Err(error))) => Err(errors::of_body(error)),
            _ => {
                self.ended = true;
                if headers {
                    self.checkout.set_header_only();
                }
                Ok(true)
            }
        }
    }

    pub(in crate::pool) fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        let upload = self.upload.as_ref()?;
        Some(Box::new(UploadWriter(Arc::clone(upload))))
    }
}
