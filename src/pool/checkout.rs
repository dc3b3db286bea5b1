//! A checkout of a connection for one attempt: an HTTP/1 connection, which returns to its pool when the exchange is
//! complete, or a stream of an HTTP/2 connection.
//!
//! Pingora's own pool spawns a task for each connection that it takes back. It also asks the kernel for the peer
//! address at each checkout, and makes a new timer for each read. This module does none of these (figures:
//! docs/performance.md). It never decides that a connection is reusable: the session does.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora_core::Result;
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::either::Either;

use crate::body_gate::BodyGate;
use crate::pool::addresses::Addresses;
use crate::pool::connection_pool::{BackendSocket, ConnectionPool, IdleConn, PoolKey};
use crate::pool::dial;
use crate::pool::http1::coalesce::CoalescedWriter;

/// The settings and state of one checkout. The attempt and the stream that Pingora gets share it.
#[derive(Debug)]
pub struct Checkout {
    pool: Arc<ConnectionPool>,
    key: PoolKey,
    /// Maximum idle time in the pool. Zero: the connection is not reused.
    keep: Duration,
    /// Maximum idle time that the backend announces, in seconds. `u64::MAX` if it announces none.
    announced: AtomicU64,
    limits: IoTimeouts,
    /// The backend uses HTTP/2.
    http2: bool,
    reused: bool,
    /// The addresses of a host name. `None`: Pingora's peer has the only address.
    addresses: Option<Arc<Addresses>>,
    /// The first bytes of the request body are already available, so they are sent together with the request head.
    writer: bool,
    /// Stops the client while the backend takes no bytes. `None` if the client's stream has no gate.
    body_gate: Option<Arc<BodyGate>>,
    /// The backend has received at least a complete request head.
    begun: AtomicBool,
    /// The proxy has passed on the whole response.
    answered: AtomicBool,
    /// The response ends with its header.
    header_only: AtomicBool,
    session: AtomicWaker,
    /// The rest of the request body was given up after the response.
    gave_up: AtomicBool,
    /// The proxy has refused the request body.
    aborted: AtomicBool,
    /// The response head, from the time the session has read it until the filter passes it on.
    response: Mutex<Option<Box<ResponseHeader>>>,
}

/// Read and write timeouts. `None`: unlimited.
#[derive(Debug, Clone, Copy)]
pub(super) struct IoTimeouts {
    /// Maximum time from the end of the request to the first byte of the response body.
    pub(super) first_byte: Option<Duration>,
    /// Maximum wait for the next bytes of the backend after that.
    pub(super) read: Option<Duration>,
    /// Maximum wait until the backend accepts bytes.
    pub(super) write: Option<Duration>,
    /// Replaces all of them in a tunnel.
    pub(super) tunnel: Option<Duration>,
}

/// How far the response has come. The read timeout depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadPhase {
    /// No byte of the response body has arrived.
    FirstByte,
    Body,
    Tunnel,
}

impl IoTimeouts {
    /// Limits the timeouts to `left`, if there is a limit. A tunnel has no deadline.
    pub(super) fn within(self, left: Option<Duration>) -> Self {
        let shorter = |limit: Option<Duration>| match (limit, left) {
            (Some(limit), Some(left)) => Some(limit.min(left)),
            (limit, left) => limit.or(left),
        };
        Self {
            first_byte: shorter(self.first_byte),
            read: shorter(self.read),
            write: shorter(self.write),
            tunnel: self.tunnel,
        }
    }
}

/// A checkout that can still be changed, with the pooled connection, if there was one.
#[derive(Debug)]
pub struct PendingCheckout {
    pub(super) checkout: Checkout,
    pub(super) idle: Option<IdleConn>,
}

impl PendingCheckout {
    /// Takes a usable pooled connection if there is one. Otherwise a connection is opened later. `fresh`: a new
    /// connection, which is not pooled afterwards.
    pub(super) fn new(
        pool: &Arc<ConnectionPool>,
        key: PoolKey,
        keep: Duration,
        limits: IoTimeouts,
        fresh: bool,
        now: StdInstant,
    ) -> Self {
        let idle = if fresh { None } else { pool.take(key, now) };
        let checkout = Checkout {
            pool: Arc::clone(pool),
            key,
            keep: if fresh { Duration::ZERO } else { keep },
            announced: AtomicU64::new(u64::MAX),
            limits,
            http2: false,
            reused: idle.is_some(),
            addresses: None,
            writer: false,
            body_gate: None,
            begun: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            header_only: AtomicBool::new(false),
            session: AtomicWaker::new(),
            gave_up: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            response: Mutex::default(),
        };
        Self { checkout, idle }
    }

    /// Makes it a checkout of an HTTP/2 stream.
    pub(super) fn over_http2(mut self, http2: bool) -> Self {
        self.checkout.http2 = http2;
        self
    }

    /// Sets the addresses if the backend is a host name.
    pub(super) fn to(mut self, addresses: Option<Arc<Addresses>>) -> Self {
        self.checkout.addresses = addresses;
        self
    }

    /// Marks that the first bytes of the request body are already available. The head is sent with them.
    pub fn set_together(&mut self) {
        self.checkout.writer = true;
    }

    /// Sets the gate of the client's stream.
    pub fn set_gate(&mut self, gate: &Arc<BodyGate>) {
        self.checkout.body_gate = Some(Arc::clone(gate));
    }
}

impl Checkout {
    /// Whether the connection is a reused one.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether the backend may have begun to serve the request.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Records the idle timeout that the backend announces. Fractions of a second are dropped.
    pub fn limit_idle(&self, limit: Duration) {
        self.announced.store(limit.as_secs(), Ordering::Release);
    }

    /// Marks that the request was sent.
    pub(super) fn set_begun(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    pub(super) fn limits(&self) -> IoTimeouts {
        self.limits
    }

    pub(super) fn key(&self) -> PoolKey {
        self.key
    }

    pub(super) fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    /// Maximum idle time of the connection. Zero: it serves no other request.
    pub(super) fn keep(&self) -> Duration {
        self.keep.min(Duration::from_secs(self.announced.load(Ordering::Acquire)))
    }

    pub(super) fn addresses(&self) -> Option<&Arc<Addresses>> {
        self.addresses.as_ref()
    }

    pub(super) fn body_gate(&self) -> Option<&Arc<BodyGate>> {
        self.body_gate.as_ref()
    }

    /// Marks that the proxy passes on the end of the response now.
    pub fn set_answered(&self) {
        if !self.answered.swap(true, Ordering::AcqRel) {
            self.session.wake();
        }
    }

    /// Marks that the response ends with its header. The session must call it before the proxy gets that header.
    pub(super) fn set_header_only(&self) {
        self.header_only.store(true, Ordering::Release);
    }

    /// Whether the response ends with its header.
    pub fn is_header_only(&self) -> bool {
        self.header_only.load(Ordering::Acquire)
    }

    /// Ready when the proxy has passed on the end of the response.
    pub(super) fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.register(cx.waker());
        if self.answered.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends the exchange, because the proxy has refused the request body. Pingora's loop would wait for the response.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.session.wake();
    }

    /// Ready when the proxy has refused the request body.
    pub(super) fn poll_aborted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.register(cx.waker());
        if self.aborted.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends the request body for Pingora's loop, which then returns an error.
    pub(super) fn give_up(&self) {
        self.gave_up.store(true, Ordering::Release);
        self.body_gate.iter().for_each(|gate| gate.end());
    }

    /// Whether the request body was ended, although Pingora's loop expects more of it. The backend takes no more of it,
    /// or it ends with trailers.
    pub fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Acquire)
    }

    /// The response head that the session has read. Pingora gets only its status, because Pingora copies what it gets.
    pub fn take_response(&self) -> Option<Box<ResponseHeader>> {
        self.response.lock().take()
    }

    pub(super) fn put_response(&self, response: Box<ResponseHeader>) {
        *self.response.lock() = Some(response);
    }

    /// The stream for the attempt: the pooled connection if there is one, else a new one to `peer`.
    pub(super) async fn socket(self: Arc<Self>, idle: Option<IdleConn>, peer: &HttpPeer) -> Result<PooledStream> {
        let (socket, timer) = match idle {
            Some(idle) => (idle.socket, idle.timer),
            None => (dial::connect(peer, self.addresses(), ALPN::H1).await?, None),
        };
        Ok(self.stream(socket, timer))
    }

    /// The stream for the attempt, over a connection that is open.
    pub(super) fn stream(self: Arc<Self>, socket: BackendSocket, timer: Option<Pin<Box<Sleep>>>) -> PooledStream {
        let writer = CoalescedWriter::new(self.writer);
        PooledStream {
            socket: Some(socket),
            checkout: self,
            body_is_here: writer,
            timer,
            phase: ReadPhase::FirstByte,
            read_until: None,
            write_until: None,
        }
    }
}

/// The stream that Pingora uses during one attempt.
#[derive(Debug)]
pub(super) struct PooledStream {
    /// `None` after the socket was returned to the pool.
    socket: Option<BackendSocket>,
    checkout: Arc<Checkout>,
    body_is_here: CoalescedWriter,
    timer: Option<Pin<Box<Sleep>>>,
    phase: ReadPhase,
    /// The read deadline. It is set by the first read that waits, and it ends with that read. The deadline of the first
    /// byte of the body ends with that byte.
    read_until: Option<Instant>,
    /// The write deadline, set while a write is pending.
    write_until: Option<Instant>,
}

impl PooledStream {
    /// Moves the socket and its state to another owner. `self` has no socket afterwards.
    pub(super) fn take(&mut self) -> Self {
        Self {
            socket: self.socket.take(),
            checkout: Arc::clone(&self.checkout),
            body_is_here: std::mem::take(&mut self.body_is_here),
            timer: self.timer.take(),
            phase: self.phase,
            read_until: self.read_until,
            write_until: self.write_until,
        }
    }

    pub(super) fn checkout(&self) -> &Arc<Checkout> {
        &self.checkout
    }

    /// The first byte of the response body has arrived.
    pub(super) fn begin_body(&mut self) {
        if self.phase == ReadPhase::FirstByte {
            (self.phase, self.read_until) = (ReadPhase::Body, None);
        }
    }

    /// The connection has switched protocols.
    pub(super) fn become_tunnel(&mut self) {
        (self.phase, self.read_until, self.write_until) = (ReadPhase::Tunnel, None, None);
    }

    fn read_limit(&self) -> Option<Duration> {
        let limits = &self.checkout.limits;
        match self.phase {
            ReadPhase::FirstByte => limits.first_byte,
            ReadPhase::Body => limits.read,
            ReadPhase::Tunnel => limits.tunnel,
        }
    }

    fn write_limit(&self) -> Option<Duration> {
        let limits = &self.checkout.limits;
        if self.phase == ReadPhase::Tunnel { limits.tunnel } else { limits.write }
    }

    pub(super) fn id(&self) -> RawFd {
        match &self.socket {
            Some(Either::Left(Either::Left(tcp))) => tcp.as_raw_fd(),
            Some(Either::Left(Either::Right(unix))) => unix.as_raw_fd(),
            Some(Either::Right(stream)) => stream.id(),
            None => -1,
        }
    }

    fn socket(&mut self) -> io::Result<Pin<&mut BackendSocket>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Returns the socket to the pool.
    pub(super) fn hand_back(&mut self) {
        if let Some(socket) = self.socket.take()
            && !self.checkout.keep().is_zero()
            && self.body_is_here.has_sent()
        {
            self.checkout.pool.put(self.checkout.key, socket, self.timer.take(), self.checkout.keep());
        }
    }

    /// Ready when `until` has passed. One timer serves both deadlines: it fires at the earlier one and is then reset.
    fn poll_until(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<io::Error> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(until);
        }
    }

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let (Poll::Pending, Some(limit)) = (&written, self.write_limit()) {
            let until = *self.write_until.get_or_insert_with(|| Instant::now() + limit);
            return self.poll_until(cx, until).map(Err);
        }
        if written.is_pending() {
            return written;
        }
        self.write_until = None;
        if let (Some(_), Some(limit)) = (self.read_until, self.read_limit()) {
            // The backend accepts request bytes, so it is not idle. The read deadline starts again.
            self.read_until = Some(Instant::now() + limit);
        }
        written
    }
}

impl AsyncRead for PooledStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match (this.socket()?.poll_read(cx, buf), this.read_limit()) {
            (Poll::Pending, Some(limit)) => {
                let until = *this.read_until.get_or_insert_with(|| Instant::now() + limit);
                this.poll_until(cx, until).map(Err)
            }
            (read, _) => {
                if this.phase != ReadPhase::FirstByte {
                    this.read_until = None;
                }
                read
            }
        }
    }
}

impl AsyncWrite for PooledStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let socket = this.socket.as_mut().map(Pin::new).ok_or(io::ErrorKind::NotConnected)?;
        let written = this.body_is_here.poll_write(socket, cx, data);
        if this.body_is_here.has_sent() {
            this.checkout.begun.store(true, Ordering::Release);
        }
        this.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.body_is_here.has_sent() {
            let first = data.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return self.poll_write(cx, first);
        }
        let this = self.get_mut();
        let written = this.socket()?.poll_write_vectored(cx, data);
        this.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = this.socket()?.poll_flush(cx);
        this.poll_written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_shutdown(cx)
    }
}
