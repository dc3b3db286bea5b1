//! The byte stream of a client's connection, as Pingora sees it: it hands on one request at a time.
//!
//! A gate knows where the body of the request under way ends and holds back what follows, so a pipelined request
//! waits here, unparsed, until its turn. Writes are gathered, so a header and a small body leave in one packet, but not for
//! long (`flush_timer`), and a client that takes nothing for `timeouts.write` is cut. It never parses a header: that is `head_reader`'s.

mod disconnect_watch;
mod h2_frames;

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
use crate::listener::conn::half_closed::HalfClosed;
use crate::listener::conn::header_blocks::Blocks;
use crate::listener::conn::lingering_close;
use crate::listener::conn::request_boundary::RequestBoundary;
use crate::listener::conn::transport::Transport;
use crate::listener::conn::upgrade_option;
use crate::listener::connection_permit::ConnectionPermit;
use crate::message::request_framing::{BodyFraming, HeadFacts};

/// Writes are gathered up to this many bytes.
const COALESCE_BYTES: usize = 16 * 1024;

/// What is allocated for them at first.
const SMALL_READ_BYTES: usize = 1024;

/// A client's connection.
#[derive(Debug)]
pub(in crate::listener) struct DownstreamStream {
    /// Taken only by `Drop`.
    stream: Option<Transport>,
    permit: Option<ConnectionPermit>,
    pub(in crate::listener) conn: Arc<Conn>,
    pub(in crate::listener) inbox: BytesMut,
    pub(in crate::listener) boundary: RequestBoundary,
    outbox: BytesMut,
    flush: YieldOnce,
    write_limit: Option<Duration>,
    write_stall: Option<Pin<Box<Sleep>>>,
    /// What the kernel had taken when a flush last waited.
    taken: u64,
    /// The client sends nothing more.
    ended: bool,
    /// Nothing can be sent any more, or the client is gone.
    broken: bool,
    /// Some of the response was written since `half_closed` looked last.
    moved: bool,
    half_closed: Option<Box<HalfClosed>>,
    /// For the client's end, where what it has sent is not read.
    end: Option<Wait>,
    /// The client understands interim responses (HTTP/1.1).
    interim: bool,
    /// The client waits for 100 (Continue), and the request's body was not read yet.
    owes_continue: bool,
    http2: bool,
    /// Of HTTP/2 only.
    blocks: Option<Box<Blocks>>,
    /// The client was told that nothing follows.
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
            interim: false,
            owes_continue: false,
            http2: false,
            blocks: None,
            shut: false,
            socket: Arc::new(digest),
        }
    }

    /// The connection again that was left behind between two requests, if it was.
    pub(in crate::listener) fn reclaimed(conn: &Arc<Conn>) -> Option<Box<Self>> {
        let (stream, permit, inbox) = conn.reclaim.take()?;
        let mut io = Self::new(stream, Arc::clone(conn), permit, conn.settings.timeouts.write.limit());
        io.inbox = inbox;
        Some(Box::new(io))
    }

    /// Whether the request under way was read to its end, the response has left, and nothing speaks against another.
    fn is_between_requests(&self) -> bool {
        let usable = !self.http2 && !self.shut && !self.broken && !self.conn.is_tunnel();
        usable && self.boundary.allows() == 0 && self.outbox.is_empty()
    }

    /// A request begins, whose head comes next.
    pub(in crate::listener) fn begin(&mut self, facts: &HeadFacts) {
        self.boundary = RequestBoundary::body(facts.body);
        self.interim = facts.version == Version::HTTP_11;
        self.owes_continue = facts.expect_continue && facts.body != BodyFraming::None;
    }

    /// From here on this is an HTTP/2 connection: everything passes.
    pub(in crate::listener) fn become_http2(&mut self) {
        self.http2 = true;
        self.blocks = Some(Box::new(Blocks::new()));
        self.boundary = RequestBoundary::Open;
    }

    /// Reads what has come into the inbox; 0 at the end of the stream.
    pub(in crate::listener) async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// The first bytes of the inbox; what follows them waits behind the gate.
    pub(in crate::listener) fn take_head(&mut self, len: usize) -> BytesMut {
        if self.inbox.len() == len {
            // Splitting would make both halves share the buffer, at the cost of an allocation.
            return std::mem::take(&mut self.inbox);
        }
        self.inbox.split_to(len)
    }

    /// Reads what is there into the inbox, without waiting; 0 at the end of the stream.
    pub(in crate::listener) async fn fill_now(&mut self) -> Poll<io::Result<usize>> {
        std::future::poll_fn(|cx| Poll::Ready(self.poll_fill(cx))).await
    }

    /// Whether something has come that nobody has looked at, without waiting.
    pub(in crate::listener) fn has_come(&mut self) -> bool {
        if !self.inbox.is_empty() {
            return true;
        }
        let Some(stream) = &mut self.stream else { return false };
        matches!(stream.try_read(&mut self.inbox), Ok(n) if n > 0)
    }

    /// Waits until there is something to read, without holding a buffer.
    pub(in crate::listener) async fn readable(&mut self) -> io::Result<()> {
        match &mut self.stream {
            // As cheap as a read that finds nothing; `readable` keeps a list of those that wait.
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
            let mut held = BytesMut::from(&buf.filled()[end..]);
            held.unsplit(std::mem::take(&mut self.inbox));
            self.inbox = held;
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

    /// The stream has taken all and holds some of it back: the client's time runs on from the last byte that left.
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
            return this.poll_frames(cx, buf);
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
            most => this.poll_passing(cx, buf, usize::try_from(most).unwrap_or(usize::MAX)),
        }
    }
}

impl AsyncWrite for DownstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.conn.set_answering();
        this.moved = true;
        match this.http2 {
            true => this.conn.set_unsent(true),
            false => this.conn.flush_timer.some(),
        }
        // Taken with the first write, which has the head: a later one has bytes of a body.
        let takes_upgrade_option = this.conn.takes_upgrade_option();
        if this.outbox.len() + data.len() <= COALESCE_BYTES {
            if this.outbox.capacity() == 0 {
                // A header and a small body, without growing in between.
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
        if this.http2 {
            this.put_interims();
        }
        if !this.outbox.is_empty() {
            // On its way.
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
        let last_words = self.conn.take_last_words();
        // An HTTP/2 client has something to say of every response, if only how much more it would take.
        let unread = match self.http2 {
            true => self.shut && !self.conn.is_idle_at_end(),
            false => self.boundary.allows() > 0 || !self.inbox.is_empty(),
        } && !self.ended;
        // What came of a response that broke off: to hear nothing at all would look to a client as if its request had met a
        // connection that was just being closed, and many send such a request again.
        let unsaid = !self.http2 && !self.outbox.is_empty();
        match self.permit.take() {
            Some(permit) if last_words.is_some() || ((unread || unsaid) && !self.broken) => {
                lingering_close::close(stream, std::mem::take(&mut self.outbox), last_words, permit);
            }
            // Until the socket is closed.
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
    /// Says HTTP/2 once the preface has been seen; Pingora then takes the same way as after ALPN.
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
