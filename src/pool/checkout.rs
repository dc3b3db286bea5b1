//! A connection to a plain HTTP/1 backend for one attempt: taken from those that are kept or opened, and kept again when
//! the response has come whole.
//!
//! Pingora's own pool starts a task for each connection that it takes back and asks the kernel for the other end's
//! address each time it gives one out; its timers are made anew for each read. This does neither (docs/performance.md has
//! the figures). It never decides that a connection may be used again: Pingora does, and hands it back (`release_stream`,
//! pingora-core, `connectors/mod.rs`) by a look for one byte, which is all that Pingora reads once the response is over.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora_core::Result;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TcpKeepalive, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::either::Either;

use crate::pool::addresses::{Addresses, Destination};
use crate::pool::connection_pool::{BackendSocket, ConnectionPool, IdleConn, PoolKey};
use crate::pool::dial;
use crate::pool::http1::coalesce::CoalescedWriter;

/// The terms of a lease: shared by the attempt and by the socket that Pingora gets.
#[derive(Debug)]
pub struct Checkout {
    pool: Arc<ConnectionPool>,
    key: PoolKey,
    /// How long it may wait for the next request; zero: nobody else may have it.
    keep: Duration,
    /// The same by the backend's word, in seconds.
    announced: AtomicU64,
    limits: IoTimeouts,
    reused: bool,
    /// Where to connect to, if that is a name; else Pingora has the address.
    addresses: Option<Arc<Addresses>>,
    /// The first bytes of the request's body are here, to go with its header.
    writer: bool,
    /// The request is of the plainest kind.
    plain: bool,
    /// The backend has got a whole header, and perhaps more.
    begun: AtomicBool,
    over: AtomicBool,
    /// The header of the response, between the session that has read it and the filter that hands it on.
    response: Mutex<Option<Box<ResponseHeader>>>,
}

/// How long the backend may take. `None`: for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct IoTimeouts {
    /// For its next bytes.
    pub(super) read: Option<Duration>,
    /// To take some.
    pub(super) write: Option<Duration>,
}

impl IoTimeouts {
    /// None longer than what is left, if that is bounded.
    pub(super) fn within(self, left: Option<Duration>) -> Self {
        let shorter = |limit: Option<Duration>| match (limit, left) {
            (Some(limit), Some(left)) => Some(limit.min(left)),
            (limit, left) => limit.or(left),
        };
        Self { read: shorter(self.read), write: shorter(self.write) }
    }
}

/// A lease whose terms may still change, and the connection that was kept for it.
#[derive(Debug)]
pub struct PendingCheckout {
    pub(super) checkout: Checkout,
    pub(super) idle: Option<IdleConn>,
}

impl PendingCheckout {
    /// A connection that is kept, if there is one that may be used; else one will be opened.
    pub(super) fn new(
        kept: &Arc<ConnectionPool>,
        key: PoolKey,
        keep: Duration,
        limits: IoTimeouts,
        fresh: bool,
        now: StdInstant,
    ) -> Self {
        let idle = if fresh { None } else { kept.take(key, now) };
        let checkout = Checkout {
            pool: Arc::clone(kept),
            key,
            keep: if fresh { Duration::ZERO } else { keep },
            announced: AtomicU64::new(u64::MAX),
            limits,
            reused: idle.is_some(),
            addresses: None,
            writer: false,
            plain: false,
            begun: AtomicBool::new(false),
            over: AtomicBool::new(false),
            response: Mutex::default(),
        };
        Self { checkout, idle }
    }

    /// The same, to a backend that is a name.
    pub(super) fn to(mut self, addresses: Option<Arc<Addresses>>) -> Self {
        self.checkout.addresses = addresses;
        self
    }

    /// The first bytes of the request's body are here already: its header goes with them.
    pub fn set_together(&mut self) {
        self.checkout.writer = true;
    }

    /// The request is of the plainest kind (`fast_path::is_request`).
    pub fn set_plain(&mut self) {
        self.checkout.plain = true;
    }
}

impl Checkout {
    /// Whether the connection has served a request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether the request is of the plainest kind.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether the backend may have begun to serve the request.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// The backend keeps the connection idle for so long.
    pub fn limit_idle(&self, limit: Duration) {
        self.announced.store(limit.as_secs(), Ordering::Release);
    }

    fn keep(&self) -> Duration {
        self.keep.min(Duration::from_secs(self.announced.load(Ordering::Acquire)))
    }

    /// The response has come to its end, and the request has gone whole.
    pub fn set_over(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// The header that the session has read, if Pingora was given none of its fields: it copies what it is given.
    pub fn take_response(&self) -> Option<Box<ResponseHeader>> {
        self.response.lock().take()
    }

    pub(super) fn put_response(&self, response: Box<ResponseHeader>) {
        *self.response.lock() = Some(response);
    }

    /// The socket for the attempt: the one that was kept, else a new one, opened within `within` and kept alive so.
    pub(super) async fn socket(
        self: Arc<Self>,
        idle: Option<IdleConn>,
        address: &PeerAddress,
        within: Option<Duration>,
        alive: Option<&TcpKeepalive>,
    ) -> Result<PooledStream> {
        let (socket, timer) = match idle {
            Some(idle) => (idle.socket, idle.timer),
            None => {
                let to = match &self.addresses {
                    Some(all) => Destination::Any(Arc::clone(all)),
                    None => Destination::One(address.clone()),
                };
                (dial::open(&to, within, alive).await?, None)
            }
        };
        let together = CoalescedWriter::new(self.writer);
        Ok(PooledStream {
            socket: Some(socket),
            checkout: self,
            body_is_here: together,
            timer,
            read_until: None,
            write_until: None,
        })
    }
}

/// The socket as Pingora sees it during one attempt.
#[derive(Debug)]
pub(super) struct PooledStream {
    /// Gone once it is handed back.
    socket: Option<BackendSocket>,
    checkout: Arc<Checkout>,
    body_is_here: CoalescedWriter,
    timer: Option<Pin<Box<Sleep>>>,
    /// While Pingora waits for bytes, or for the backend to take some: when it has waited long enough.
    read_until: Option<Instant>,
    write_until: Option<Instant>,
}

impl PooledStream {
    /// What there is of it, for another owner; this one is left without a socket.
    pub(super) fn take(&mut self) -> Self {
        Self {
            socket: self.socket.take(),
            checkout: Arc::clone(&self.checkout),
            body_is_here: std::mem::take(&mut self.body_is_here),
            timer: self.timer.take(),
            read_until: self.read_until,
            write_until: self.write_until,
        }
    }

    pub(super) fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    fn socket(&mut self) -> io::Result<Pin<&mut BackendSocket>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Pingora tests whether the connection is still good before it keeps it. It is told that it is not, and drops its
    /// side of it.
    pub(super) fn hand_back(&mut self) {
        if let Some(socket) = self.socket.take()
            && !self.checkout.keep().is_zero()
            && self.body_is_here.has_sent()
        {
            self.checkout.pool.put(self.checkout.key, socket, self.timer.take(), self.checkout.keep());
        }
    }

    /// Ready when the time has come. One timer serves all waits: it goes off at the earliest and is set again.
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
        if let (Poll::Pending, Some(limit)) = (&written, self.checkout.limits.write) {
            let until = *self.write_until.get_or_insert_with(|| Instant::now() + limit);
            return self.poll_until(cx, until).map(Err);
        }
        self.write_until = None;
        if let (Some(until), Some(limit)) = (&mut self.read_until, self.checkout.limits.read) {
            // A backend that takes the request's body is not silent.
            *until = Instant::now() + limit;
        }
        written
    }
}

impl AsyncRead for PooledStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 1 && this.checkout.over.load(Ordering::Acquire) {
            this.hand_back();
            return Poll::Ready(Ok(()));
        }
        match (this.socket()?.poll_read(cx, buf), this.checkout.limits.read) {
            (Poll::Pending, Some(limit)) => {
                let until = *this.read_until.get_or_insert_with(|| Instant::now() + limit);
                this.poll_until(cx, until).map(Err)
            }
            (read, _) => {
                this.read_until = None;
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
        self.get_mut().socket()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for PooledStream {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for PooledStream {
    fn id(&self) -> UniqueIDType {
        match &self.socket {
            Some(Either::Left(tcp)) => tcp.as_raw_fd(),
            Some(Either::Right(unix)) => unix.as_raw_fd(),
            None => -1,
        }
    }
}

impl Ssl for PooledStream {}

impl GetTimingDigest for PooledStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for PooledStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for PooledStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for PooledStream {}
