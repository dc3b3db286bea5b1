//! The request half of one HTTP/2 exchange: the stream, and the body bytes that its window does not allow yet.
//!
//! The writer queues each piece. The response half of the session sends the queue in each of its polls.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use h2::{Reason, SendStream};
use parking_lot::Mutex;
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::{Error, ErrorType, Result};

use crate::pool::body_queue::BodyQueue;
use crate::pool::checkout::Checkout;

/// The request half. The body writer and the session share it.
#[derive(Debug)]
pub(super) struct Upload {
    checkout: Arc<Checkout>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stream: SendStream<Bytes>,
    queue: BodyQueue,
    /// END_STREAM was sent, or the stream was reset.
    over: bool,
    /// The client has its whole response.
    answered: bool,
    /// The response half, which also sends the queue.
    session: Option<Waker>,
}

/// The state of the request body after the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadState {
    /// It was sent completely.
    Complete,
    /// The stream takes no more of it.
    Broken,
    /// A part is still to be sent.
    Expected,
}

/// The result of `Upload::poll_send`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SendProgress {
    /// The stream accepted bytes.
    pub(super) moved: bool,
    /// The window of the stream allows no more bytes now.
    pub(super) blocked: bool,
}

impl Upload {
    /// `whole`: the request has no body, so END_STREAM was sent.
    pub(super) fn new(stream: SendStream<Bytes>, whole: bool, checkout: Arc<Checkout>) -> Arc<Self> {
        let gate = checkout.body_gate().filter(|_| !whole);
        let queue = BodyQueue::new(gate.cloned());
        let inner = Mutex::new(Inner { stream, queue, over: whole, answered: false, session: None });
        Arc::new(Self { checkout, inner })
    }

    /// Sends as many bytes as the window allows.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> SendProgress {
        let mut inner = self.inner.lock();
        let progress = if inner.over { SendProgress::default() } else { inner.send(cx) };
        match &mut inner.session {
            Some(session) => session.clone_from(cx.waker()),
            None => inner.session = Some(cx.waker().clone()),
        }
        progress
    }

    /// Marks that the request body is complete. Whether that is new.
    fn end(&self) -> bool {
        let mut inner = self.inner.lock();
        let is_new = !inner.queue.is_ended();
        inner.queue.end();
        inner.wake_session();
        is_new
    }

    /// The state of the request body.
    pub(super) fn state(&self) -> UploadState {
        let inner = self.inner.lock();
        match (inner.over, inner.queue.is_discarding()) {
            (_, true) => UploadState::Broken,
            (true, false) => UploadState::Complete,
            (false, false) => UploadState::Expected,
        }
    }

    /// Whether the client has its whole response.
    pub(super) fn is_answered(&self) -> bool {
        self.inner.lock().answered
    }

    /// Drops the rest of the body. The backend has answered, so it does not need it.
    pub(super) fn discard(&self) {
        self.inner.lock().queue.discard();
    }

    /// Ends the exchange. If request or response are incomplete, the backend gets RST_STREAM with CANCEL.
    pub(super) fn close(&self, response_complete: bool) {
        let mut inner = self.inner.lock();
        if !(inner.over && response_complete) {
            inner.over = true;
            inner.stream.send_reset(Reason::CANCEL);
        }
        inner.queue.discard();
    }
}

impl Inner {
    fn send(&mut self, cx: &mut Context<'_>) -> SendProgress {
        let mut progress = SendProgress::default();
        while !self.queue.is_empty() {
            if self.stream.capacity() == 0 {
                self.stream.reserve_capacity(self.queue.bytes());
                if self.stream.capacity() == 0 {
                    match self.stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => continue,
                        Poll::Ready(_) => {
                            // The stream was reset. The response half gets the error.
                            self.queue.discard();
                            self.over = true;
                        }
                        Poll::Pending => progress.blocked = true,
                    }
                    return progress;
                }
            }
            let Some(piece) = self.queue.take(self.stream.capacity()) else { break };
            progress.moved = true;
            self.send_data(piece);
        }
        if self.queue.is_sent() && !self.over {
            progress.moved = true;
            self.send_data(Bytes::new());
        }
        if !self.over && self.stream.poll_reset(cx).is_ready() {
            // The backend takes no more of the body, such as after an early response (RFC 9113 section 8.1).
            self.queue.discard();
            self.over = true;
        }
        progress
    }

    fn send_data(&mut self, piece: Bytes) {
        let end = self.queue.is_sent();
        if self.stream.send_data(piece, end).is_err() {
            self.queue.discard();
            self.over = true;
        }
        self.over |= end;
    }

    fn wake_session(&mut self) {
        if let Some(session) = self.session.take() {
            session.wake();
        }
    }
}

/// The writer of a request body. It never waits for the backend: the gate stops the client.
pub(super) struct UploadWriter(pub(super) Arc<Upload>);

#[async_trait]
impl BodyWrite for UploadWriter {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        if self.0.checkout.has_given_up() {
            return Error::e_explain(ErrorType::WriteError, "the backend takes no more of the request's body");
        }
        let mut inner = self.0.inner.lock();
        inner.queue.push(std::mem::take(data));
        inner.wake_session();
        Ok(())
    }

    /// Pingora's loop asks again and again if trailers end the body. The error makes it stop.
    ///
    /// # Errors
    /// The body is finished already.
    async fn finish(&mut self) -> Result<()> {
        if self.0.end() {
            return Ok(());
        }
        self.0.checkout.give_up();
        Error::e_explain(ErrorType::WriteError, "the request's body is finished")
    }

    /// The exchange with the client is over. The session must not wait for the end of the stream.
    async fn cleanup(&mut self) -> Result<()> {
        let mut inner = self.0.inner.lock();
        inner.answered = true;
        inner.wake_session();
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}
