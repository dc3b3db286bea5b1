//! The downstream byte stream, as Pingora reads and writes it: it passes one request at a time.
//!
//! It never parses a header: `head_reader` does. A `RequestBoundary` knows the end of the current request body. Bytes
//! after it, such as a pipelined request, stay in the inbox (the read buffer).
//!
//! Writes are collected, so a header and a small body leave in one packet, but not for long (`flush_timer`). If a
//! client accepts no bytes for `timeouts.write`, its connection is closed.

mod body_reader;
mod disconnect_watch;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use http::Version;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};
use weir_task::YieldOnce;

use crate::listener::conn::Conn;
use crate::listener::conn::disconnect::Wait;
use crate::listener::conn::downstream_stream::body_reader::GateWatch;
use crate::listener::conn::half_closed::HalfClosed;
use crate::listener::conn::lingering_close;
use crate::listener::conn::request_boundary::RequestBoundary;
use crate::listener::conn::transport::Transport;
use crate::listener::conn::upgrade_option;
use crate::listener::connection_permit::ConnectionPermit;
use crate::message::request_framing::{BodyFraming, HeadFacts};

/// The limit of the outbox (the write buffer), in bytes. Smaller writes are collected up to this size.
const COALESCE_BYTES: usize = 16 * 1024;

/// The initial capacity of the outbox, in bytes.
const SMALL_READ_BYTES: usize = 1024;

/// The stream of one client connection.
#[derive(Debug)]
pub(in crate::listener) struct DownstreamStream {
    /// `None` only during `Drop`.
    stream: Option<Transport>,
    permit: Option<ConnectionPermit>,
    pub(in crate::listener) conn: Arc<Conn>,
    pub(in crate::listener) inbox: BytesMut,
    pub(in crate::listener) boundary: RequestBoundary,
    outbox: BytesMut,
    flush: YieldOnce,
    write_limit: Option<Duration>,
    write_stall: Option<Pin<Box<Sleep>>>,
    /// The number of bytes the kernel had accepted when a flush last waited.
    taken: u64,
    /// The client has closed its sending side.
    ended: bool,
    /// Writes have failed, or the client is gone.
    broken: bool,
    /// A part of the response was written since the last poll of `half_closed`.
    moved: bool,
    half_closed: Option<Box<HalfClosed>>,
    /// Waits for the client's FIN while received bytes are left unread in the kernel.
    end: Option<Wait>,
    /// Pingora has seen the end of the client's bytes in a tunnel.
    tunnel_end_passed: bool,
    /// Waits for a disconnect while the gate of the request body is closed.
    gate_watch: Option<GateWatch>,
    /// The end of `timeouts.body`, while a part of the request body is awaited.
    body_stall: Option<Pin<Box<Sleep>>>,
    /// The client understands interim responses (HTTP/1.1).
    interim: bool,
    /// The client expects 100 (Continue), and the request body has not been read yet.
    owes_continue: bool,
    http2: bool,
    /// The sending side was shut down.
    shut: bool,
    socket: Arc<SocketDigest>,
}

impl DownstreamStream {
    pub(in crate::listener) fn new(
        stream: Transport,
        conn: Arc<Conn>,
        permit: ConnectionPermit,
        write_limit: Option<Duration>,
    ) -> Self {
        use std::os::fd::AsRawFd;
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let _ = digest.peer_addr.set(Some(conn.peer.into()));
        let _ = digest.local_addr.set(Some(conn.local.into()));
        Self {
            stream: Some(stream),
            permit: Some(permit),
            conn,
            inbox: BytesMut::new(),
            boundary: RequestBoundary::body(BodyFraming::None),
            outbox: BytesMut::new(),
            flush: YieldOnce::default(),
            write_limit,
            write_stall: None,
            taken: 0,
            ended: false,
            broken: false,
            moved: false,
            half_closed: None,
            end: None,
            tunnel_end_passed: false,
            gate_watch: None,
            body_stall: None,
            interim: false,
            owes_continue: false,
            http2: false,
            shut: false,
            socket: Arc::new(digest),
        }
    }

    /// Takes the connection back that Pingora dropped between two requests, if there is one.
    pub(in crate::listener) fn reclaimed(conn: &Arc<Conn>) -> Option<Box<Self>> {
        let (stream, permit, inbox) = conn.reclaim.take()?;
        let mut io = Self::new(stream, Arc::clone(conn), permit, conn.settings.timeouts.write.limit());
        io.inbox = inbox;
        Some(Box::new(io))
    }

    /// Whether the request was read to its end, the response was sent, and the connection can serve another request.
    fn is_between_requests(&self) -> bool {
        let usable = !self.http2 && !self.shut && !self.broken && !self.conn.is_tunnel();
        usable && self.boundary.allows() == 0 && self.outbox.is_empty()
    }

    /// Begins a request. The next bytes of the inbox are its head.
    pub(in crate::listener) fn begin(&mut self, facts: &HeadFacts) {
        self.boundary = RequestBoundary::body(facts.body);
        self.interim = facts.version == Version::HTTP_11;
        self.owes_continue = facts.expect_continue && facts.body != BodyFraming::None;
        self.conn.body_gate().reset();
    }

    /// Switches to HTTP/2. From now on all bytes pass to Pingora.
    pub(in crate::listener) fn become_http2(&mut self) {
        self.http2 = true;
        self.boundary = RequestBoundary::Open;
    }

    /// Reads available bytes into the inbox. It waits for them, and returns 0 at the end of the stream.
    pub(in crate::listener) async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Takes the first bytes of the inbox. The bytes after them stay in the inbox.
    pub(in crate::listener) fn take_head(&mut self, len: usize) -> BytesMut {
        if self.inbox.len() == len {
            // A split would make both parts share the buffer, which costs an allocation.
            return std::mem::take(&mut self.inbox);
        }
        self.inbox.split_to(len)
    }

    /// Reads available bytes into the inbox without waiting. Returns 0 at the end of the stream.
    pub(in crate::listener) async fn fill_now(&mut self) -> Poll<io::Result<usize>> {
        std::future::poll_fn(|cx| Poll::Ready(self.poll_fill(cx))).await
    }

    /// Whether there are bytes that were not parsed yet. It does not wait.
    pub(in crate::listener) fn has_come(&mut self) -> bool {
        if !self.inbox.is_empty() {
            return true;
        }
        let Some(stream) = &mut self.stream else { return false };
        matches!(stream.try_read(&mut self.inbox), Ok(n) if n > 0)
    }

    /// Waits until the stream is readable, without a buffer.
    pub(in crate::listener) async fn readable(&mut self) -> io::Result<()> {
        match &mut self.stream {
            // As cheap as a read that finds no bytes. `TcpStream::readable` would keep a list of waiters.
            Some(stream) => std::future::poll_fn(|cx| stream.poll_readable(cx)).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Transport>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.reserve(4096);
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Poll::Ready(read) = tokio_util::io::poll_read_buf(Pin::new(stream), cx, &mut self.inbox) else {
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
            return Poll::Pending;
        };
        let read = read?;
        self.ended |= read == 0;
        Poll::Ready(Ok(read))
    }

    fn poll_passing(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.inbox.is_empty() {
            let read = ready!(self.poll_direct(cx, buf, most))?;
            self.ended |= read == 0;
        } else {
            let some = self.inbox.len().min(most).min(buf.remaining());
            buf.put_slice(&self.inbox[..some]);
            self.inbox.advance(some);
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
        }
        let excess = match self.boundary.passed(&buf.filled()[before..]) {
            Ok(excess) => excess,
            Err(malformed) => {
                buf.set_filled(before);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, malformed)));
            }
        };
        if excess > 0 {
            let end = buf.filled().len() - excess;
            let mut rest = BytesMut::from(&buf.filled()[end..]);
            rest.unsplit(std::mem::take(&mut self.inbox));
            self.inbox = rest;
            buf.set_filled(end);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        if most >= buf.remaining() {
            ready!(self.stream()?.poll_read(cx, buf))?;
            return Poll::Ready(Ok(buf.filled().len() - before));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(self.stream()?.poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(read))
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(limit) = self.write_limit else { return Poll::Pending };
        let stall = self.write_stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(stall.as_mut().poll(cx));
        self.broken = true;
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes"))
    }

    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let outbox = std::mem::take(&mut self.outbox);
            let written = self.stream()?.poll_write(cx, &outbox);
            self.outbox = outbox;
            match self.progress(cx, written) {
                Poll::Ready(Ok(some)) => self.outbox.advance(some),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.conn.flush_timer.none();
        Poll::Ready(Ok(()))
    }

    /// Polls the write timeout while the TLS layer still buffers accepted writes. The timeout restarts with each byte
    /// that the kernel accepts.
    fn poll_unflushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let taken = self.stream.as_ref().map_or(0, Transport::taken);
        if taken != self.taken {
            (self.taken, self.write_stall) = (taken, None);
        }
        self.poll_stall(cx).map(Err)
    }

    fn progress(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(result) => {
                self.write_stall = None;
                self.broken |= result.is_err();
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_stall(cx).map(Err),
        }
    }
}

impl AsyncRead for DownstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conn.is_tunnel() {
            this.boundary = RequestBoundary::Open;
        }
        if this.conn.flush_timer.is_due()
            && let Poll::Ready(sent) = this.poll_outbox(cx)
        {
            sent?;
        }
        if this.http2 {
            return this.poll_passing(cx, buf, usize::MAX);
        }
        if this.conn.is_watched() {
            return this.poll_held(cx);
        }
        match this.boundary.allows() {
            0 => this.poll_held(cx),
            _ if std::mem::take(&mut this.owes_continue) && this.inbox.is_empty() => {
                this.send_continue(cx)?;
                Pin::new(this).poll_read(cx, buf)
            }
            most => this.poll_body(cx, buf, usize::try_from(most).unwrap_or(usize::MAX)),
        }
    }
}

impl AsyncWrite for DownstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.http2 {
            true => this.conn.set_unsent(true),
            // The first write is the header.
            false if this.conn.is_answering() => this.conn.flush_timer.body(),
            false => this.conn.flush_timer.header(),
        }
        this.conn.set_answering();
        this.moved = true;
        // The first write takes the option, because it contains the response head.
        let takes_upgrade_option = this.conn.takes_upgrade_option();
        if this.outbox.len() + data.len() <= COALESCE_BYTES {
            if this.outbox.capacity() == 0 {
                // Enough for a header and a small body without a reallocation.
                this.outbox.reserve(data.len().max(SMALL_READ_BYTES));
            }
            let added = if takes_upgrade_option { upgrade_option::added(data) } else { None };
            this.outbox.extend_from_slice(added.as_deref().unwrap_or(data));
            return Poll::Ready(Ok(data.len()));
        }
        if this.outbox.is_empty() {
            this.conn.flush_timer.none();
            let written = this.stream()?.poll_write(cx, data);
            return this.progress(cx, written);
        }
        let outbox = std::mem::take(&mut this.outbox);
        let both = [io::IoSlice::new(&outbox), io::IoSlice::new(data)];
        let written = this.stream()?.poll_write_vectored(cx, &both);
        this.outbox = outbox;
        let some = ready!(this.progress(cx, written))?;
        let gathered = some.min(this.outbox.len());
        this.outbox.advance(gathered);
        if this.outbox.is_empty() {
            this.conn.flush_timer.none();
        }
        if some > gathered { Poll::Ready(Ok(some - gathered)) } else { Pin::new(this).poll_write(cx, data) }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.outbox.is_empty() {
            // The flush sends the bytes, so the timer is not needed.
            this.conn.flush_timer.none();
            ready!(this.flush.poll(cx));
        }
        ready!(this.poll_outbox(cx))?;
        if this.outbox.capacity() > 0 {
            this.outbox = BytesMut::new();
        }
        match this.stream()?.poll_flush(cx) {
            Poll::Pending => this.poll_unflushed(cx),
            flushed => {
                if this.http2 {
                    this.conn.set_unsent(false);
                }
                flushed
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outbox(cx))?;
        this.shut = true;
        this.stream()?.poll_shutdown(cx)
    }
}

impl Drop for DownstreamStream {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        if self.conn.reclaim.is_asked()
            && self.is_between_requests()
            && let Some(permit) = self.permit.take()
        {
            return self.conn.reclaim.leave((stream, permit, std::mem::take(&mut self.inbox)));
        }
        let abort_response = self.conn.take_abort_response();
        // An HTTP/2 client sends frames in reply to every response, such as WINDOW_UPDATE. So unread bytes are assumed.
        let unread = match self.http2 {
            true => self.shut && !self.conn.is_idle_at_end(),
            false => self.boundary.allows() > 0 || !self.inbox.is_empty(),
        } && !self.ended;
        // The collected bytes of an aborted response are still sent. Without them the client would see a connection
        // that closed just when its request arrived, and many clients send such a request again.
        let unsent = !self.http2 && !self.outbox.is_empty();
        match self.permit.take() {
            Some(permit) if abort_response.is_some() || ((unread || unsent) && !self.broken) => {
                lingering_close::close(stream, std::mem::take(&mut self.outbox), abort_response, permit);
            }
            // The permit lives until the socket is closed.
            _permit => stream.part(),
        }
    }
}

#[async_trait]
impl Shutdown for DownstreamStream {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for DownstreamStream {
    fn id(&self) -> pingora_core::protocols::UniqueIDType {
        use std::os::fd::AsRawFd;
        self.stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Ssl for DownstreamStream {
    /// Returns HTTP/2 after the preface was seen. Pingora then proceeds as after ALPN.
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for DownstreamStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for DownstreamStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for DownstreamStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

impl Peek for DownstreamStream {}
