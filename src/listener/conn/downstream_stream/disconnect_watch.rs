//! Disconnect detection of an HTTP/1 client during its request, and the interim 100 (Continue).

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use crate::listener::conn::disconnect;
use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::conn::half_closed::{HalfClosed, HalfClosedStep};

/// How many bytes after the current request are read ahead. The kernel buffers the rest.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// The interim response (RFC 9110 section 15.2.1). A client that does not expect it ignores it.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl DownstreamStream {
    /// Handles a read while no bytes may pass to Pingora. It is ready only when the client has left, and Pingora then
    /// sees the end of the stream. Pingora reads only to detect that.
    pub(in crate::listener) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.half_closed.is_none() {
            ready!(self.poll_end(cx))?;
        }
        self.poll_left(cx)
    }

    /// Ready when the client has closed its sending side.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended {
            if self.boundary.allows() > 0 || self.inbox.len() >= READ_AHEAD_BYTES {
                // Unread bytes may wait in the kernel. A read would return them before the end of the stream, so the
                // socket is watched.
                let Some(stream) = &self.stream else { return Poll::Ready(Ok(())) };
                let end = self.end.get_or_insert_with(|| disconnect::closed(stream.as_fd()));
                ready!(end.poll(cx));
                self.end = None;
                return Poll::Ready(Ok(()));
            }
            // No buffer is allocated before bytes arrive. Otherwise each connection would hold one between two
            // requests.
            ready!(self.stream.as_mut().map_or(Poll::Ready(Ok(())), |stream| stream.poll_readable(cx)))?;
            // The bytes of the next request stay in the inbox.
            ready!(self.poll_fill(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when a client that has closed its sending side has left.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.broken {
            let Some(stream) = &self.stream else { break };
            let half_closed = self.half_closed.get_or_insert_with(|| Box::new(HalfClosed::new(stream.as_fd())));
            match ready!(half_closed.poll(cx, self.conn.is_answering(), &mut self.moved)) {
                HalfClosedStep::Ask if self.interim => self.send_continue(cx)?,
                HalfClosedStep::Ask => {}
                HalfClosedStep::Left => self.broken = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends 100 (Continue), unless the final response has begun. Bytes that the kernel does not accept at once leave
    /// with the flush timer.
    pub(in crate::listener) fn send_continue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.conn.is_answering() || !self.outbox.is_empty() {
            return Ok(());
        }
        self.outbox.extend_from_slice(CONTINUE);
        match self.poll_outbox(cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => {
                self.conn.flush_timer.header();
                Ok(())
            }
        }
    }
}
