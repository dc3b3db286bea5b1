//! One HTTP/2 connection to a backend. A task of its own drives it, and many exchanges share it.
//!
//! It closes when nothing holds its `SendRequest` any more and its last exchange has ended.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use parking_lot::Mutex;
use pingora_core::{ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite};

use super::read_before_fail::ReadBeforeFail;
use super::timer::ProgressTimer;

/// Maximum number of concurrent streams on one connection. The backend's SETTINGS may allow fewer.
pub(super) const MAX_STREAMS: usize = 128;
/// The receive window of one stream. It bounds the bytes of a response that the client has not taken yet.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The receive window of a connection. Readers that stop on all streams must not fill it.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Bytes of a request body that h2 holds for one stream. The rest waits in the queue of the upload.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// The largest header list of a response.
const MAX_HEADER_LIST_BYTES: u32 = 256 * 1024;

/// Timers that a connection keeps for its next exchanges.
const MAX_KEPT_TIMERS: usize = 16;

/// A connection in the pool.
#[derive(Debug, Clone)]
pub(super) struct Http2Connection {
    sender: SendRequest<Bytes>,
    state: Arc<ConnectionState>,
}

/// The state of a connection, which its exchanges share.
#[derive(Debug)]
pub(super) struct ConnectionState {
    fd: RawFd,
    /// Streams in use.
    streams: AtomicUsize,
    /// No new stream is opened: the connection has ended, or its backend was silent.
    retired: AtomicBool,
    idle_since: Mutex<Instant>,
    /// The timers of ended exchanges. Resetting one is cheaper than making a new one.
    timers: Mutex<Vec<ProgressTimer>>,
}

impl Http2Connection {
    /// Sends the preface on a new stream and starts the task of the connection.
    pub(super) async fn handshake<T>(stream: T, fd: RawFd) -> Result<Self>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(MAX_STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(MAX_SEND_BUFFER_BYTES)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .handshake(ReadBeforeFail::new(stream))
            .await
            .or_err(ErrorType::HandshakeError, "during the HTTP/2 handshake")?;
        let state = Arc::new(ConnectionState {
            fd,
            streams: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            timers: Mutex::default(),
        });
        let task_state = Arc::clone(&state);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection to a backend ended");
            }
            task_state.retire();
        });
        Ok(Self { sender, state })
    }

    /// A stream, if this connection can take another one now.
    pub(super) fn open_stream(&self) -> Option<Http2Stream> {
        let limit = MAX_STREAMS.min(self.sender.current_max_send_streams());
        if self.state.is_retired() || self.state.streams.load(Ordering::Acquire) >= limit {
            return None;
        }
        let mut sender = self.sender.clone();
        // Ready at once, because the new handle has no stream that waits. An error means that the connection is going
        // away.
        if !matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(()))) {
            self.state.retire();
            return None;
        }
        self.state.streams.fetch_add(1, Ordering::AcqRel);
        Some(Http2Stream { sender: Some(sender), slot: StreamSlot(Arc::clone(&self.state)) })
    }

    /// Whether it must leave the pool: no new stream can be opened on it, or it was idle for longer than `keep`.
    pub(super) fn is_over(&self, keep: Duration, now: Instant) -> bool {
        self.state.is_retired() || self.state.idle_for(now).is_some_and(|idle| idle >= keep)
    }

    /// How long it has had no stream. `None` while it has one.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        self.state.idle_for(now)
    }
}

impl ConnectionState {
    /// Lets no exchange open another stream.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn idle_for(&self, now: Instant) -> Option<Duration> {
        let idle = self.streams.load(Ordering::Acquire) == 0;
        idle.then(|| now.saturating_duration_since(*self.idle_since.lock()))
    }
}

/// The right to open one stream.
#[derive(Debug)]
pub(super) struct Http2Stream {
    /// `None` after the request was sent.
    pub(super) sender: Option<SendRequest<Bytes>>,
    pub(super) slot: StreamSlot,
}

/// Counts a stream of a connection until it is dropped.
#[derive(Debug)]
pub(super) struct StreamSlot(Arc<ConnectionState>);

impl StreamSlot {
    pub(super) fn fd(&self) -> RawFd {
        self.0.fd
    }

    /// Lets no exchange open another stream on this connection.
    pub(super) fn retire(&self) {
        self.0.retire();
    }

    /// A timer for an exchange.
    pub(super) fn timer(&self) -> ProgressTimer {
        self.0.timers.lock().pop().unwrap_or_default()
    }

    /// Keeps the timer of an ended exchange for another one.
    pub(super) fn keep_timer(&self, mut timer: ProgressTimer) {
        let mut timers = self.0.timers.lock();
        if timers.len() < MAX_KEPT_TIMERS {
            timer.restart();
            timers.push(timer);
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.0.idle_since.lock() = Instant::now();
        }
    }
}
