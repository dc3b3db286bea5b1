//! Whether the client of an HTTP/1 request is still there, and the interim response that some wait for.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use crate::listener::conn::disconnect;
use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::conn::half_closed::{HalfClosed, HalfClosedStep};

/// How much of what follows a request is read before its turn. More waits in the kernel.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// RFC 9110 section 15.2.1. A client that did not ask for it ignores it.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl DownstreamStream {
    /// With the gate shut: nothing is handed on. Pingora watches for the client's leave, and to it that is the end of the
    /// stream.
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
                // Bytes of a later request are waiting. They hide the end of the stream behind them.
                let Some(stream) = &self.stream else { return Poll::Ready(Ok(())) };
                let end = self.end.get_or_insert_with(|| disconnect::closed(stream.as_fd()));
                ready!(end.poll(cx));
                self.end = None;
                return Poll::Ready(Ok(()));
            }
            // No buffer for what may never come: between two requests it would be held.
            ready!(self.stream.as_mut().map_or(Poll::Ready(Ok(())), |stream| stream.poll_readable(cx)))?;
            // The next request waits in the inbox.
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

    /// Sends an interim response, unless the final one has begun. What the system does not take at once leaves as
    /// what is held back does.
    pub(in crate::listener) fn send_continue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.conn.is_answering() || !self.outbox.is_empty() {
            return Ok(());
        }
        self.outbox.extend_from_slice(CONTINUE);
        match self.poll_outbox(cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => {
                self.conn.flush_timer.some();
                Ok(())
            }
        }
    }
}
