//! The request half of one HTTP/2 exchange: the stream, and the body bytes that its window does not allow yet.
//!
//! The writer queues each piece. The response half of the session sends the queue in each of its polls.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use h2::{Reason, SendStream};
use parking_lot::Mutex;
use pingora_core::Result;
use pingora_core::protocols::http::custom::BodyWrite;

use crate::body_gate::BodyGate;
use crate::pool::body_queue::BodyQueue;

/// The request half. The body writer and the session share it.
#[derive(Debug)]
pub(super) struct Upload(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    stream: SendStream<Bytes>,
    queue: BodyQueue,
    /// END_STREAM was sent, or the stream was reset.
    over: bool,
    /// A part of the response was read that the exchange has not passed on yet.
    unseen: bool,
    /// The client has its whole response.
    answered: bool,
    /// The response half, which also sends the queue.
    session: Option<Waker>,
}

/// The result of `Upload::poll_send`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// The stream accepted bytes.
    pub(super) moved: bool,
    /// The window of the stream allows no more bytes now.
    pub(super) blocked: bool,
}

impl Upload {
    /// `whole`: the request has no body, so END_STREAM was sent.
    pub(super) fn new(stream: SendStream<Bytes>, whole: bool, gate: Option<Arc<BodyGate>>) -> Arc<Self> {
        let queue = BodyQueue::new(gate.filter(|_| !whole));
        let inner = Inner { stream, queue, over: whole, unseen: false, answered: false, session: None };
        Arc::new(Self(Mutex::new(inner)))
    }

    /// Sends as many bytes as the window allows.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Progress {
        let mut inner = self.0.lock();
        let progress = if inner.over { Progress::default() } else { inner.send(cx) };
        match &mut inner.session {
            Some(session) => session.clone_from(cx.waker()),
            None => inner.session = Some(cx.waker().clone()),
        }
        progress
    }

    /// Records that a part of the response was read, so that a writer that waits returns and the part is passed on.
    pub(super) fn set_unseen(&self) {
        let mut inner = self.0.lock();
        if !inner.over {
            inner.unseen = true;
            inner.queue.wake_writer();
        }
    }

    /// Whether the client has its whole response.
    pub(super) fn is_answered(&self) -> bool {
        self.0.lock().answered
    }

    /// Drops the rest of the body. The backend has answered, so it does not need it.
    pub(super) fn discard(&self) {
        self.0.lock().queue.discard();
    }

    /// Ends the exchange. If request or response are incomplete, the backend gets RST_STREAM with CANCEL.
    pub(super) fn close(&self, response_complete: bool) {
        let mut inner = self.0.lock();
        if !(inner.over && response_complete) {
            inner.over = true;
            inner.stream.send_reset(Reason::CANCEL);
        }
        inner.queue.discard();
    }
}

impl Inner {
    fn send(&mut self, cx: &mut Context<'_>) -> Progress {
        let mut progress = Progress::default();
        while let Some(front) = self.queue.front() {
            if self.stream.capacity() == 0 {
                self.stream.reserve_capacity(front.len());
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
            self.send_data(Bytes::new());
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

/// The writer of a request body. It never waits for the backend, except when the queue is full.
pub(super) struct UploadWriter(pub(super) Arc<Upload>);

#[async_trait]
impl BodyWrite for UploadWriter {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        {
            let mut inner = self.0.0.lock();
            inner.queue.push(std::mem::take(data));
            inner.wake_session();
        }
        std::future::poll_fn(|cx| {
            let mut inner = self.0.0.lock();
            let unseen = std::mem::take(&mut inner.unseen);
            inner.queue.poll_room(cx, unseen)
        })
        .await;
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        let mut inner = self.0.0.lock();
        inner.queue.end();
        inner.wake_session();
        Ok(())
    }

    /// The exchange with the client is over. The session must not wait for the end of the stream.
    async fn cleanup(&mut self) -> Result<()> {
        let mut inner = self.0.0.lock();
        inner.answered = true;
        inner.wake_session();
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}
