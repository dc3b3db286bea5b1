//! Reads of a request body: they wait while the gate is closed, and end after `timeouts.body`.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::sleep;

use crate::body_gate::Demand;
use crate::listener::conn::disconnect::{self, Wait};
use crate::listener::conn::downstream_stream::DownstreamStream;

/// The disconnect detection of a client that is not read now.
#[derive(Debug)]
pub(super) enum GateWatch {
    /// Waits for the end of the client's bytes, or a reset.
    End(Wait),
    /// The client has closed its sending side, and waits for its response. Waits for a reset.
    Reset(Wait),
}

impl DownstreamStream {
    /// Passes at most `most` bytes of the request body. An early end of the body is reported as the end of the stream.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        match self.conn.body_gate().poll_demand(cx) {
            Poll::Ready(Demand::More) => {}
            Poll::Ready(Demand::NoMore) => return Poll::Ready(Ok(())),
            Poll::Pending => {
                // The backend is slow, not the client.
                self.body_stall = None;
                return self.poll_left_at_gate(cx);
            }
        }
        if self.tunnel_end_passed {
            // The backend may still send. Pingora takes a second end for an abort, so only a reset is reported.
            return self.poll_reset(cx);
        }
        let read = self.poll_passing(cx, buf, most);
        self.tunnel_end_passed = self.ended && self.conn.is_tunnel() && self.inbox.is_empty();
        match self.conn.settings.timeouts.body.limit().filter(|_| read.is_pending() && !self.conn.is_tunnel()) {
            Some(limit) => {
                let stall = self.body_stall.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(stall.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client sends no more of its body")))
            }
            None => {
                self.body_stall = None;
                read
            }
        }
    }

    /// Ready when the client's connection broke after the client had ended its bytes.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &self.stream else { return Poll::Ready(Ok(())) };
        if !matches!(self.gate_watch, Some(GateWatch::Reset(_))) {
            self.gate_watch = Some(GateWatch::Reset(disconnect::broken(stream.as_fd())));
        }
        if let Some(GateWatch::Reset(reset)) = &mut self.gate_watch {
            ready!(reset.poll(cx));
        }
        self.gate_watch = None;
        self.broken = true;
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    /// Ready when the client has left. Its unread bytes stay in the kernel.
    fn poll_left_at_gate(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(stream) = &self.stream else { return Poll::Ready(Ok(())) };
            let socket = stream.as_fd();
            match self.gate_watch.get_or_insert_with(|| GateWatch::End(disconnect::closed(socket))) {
                GateWatch::End(end) => {
                    ready!(end.poll(cx));
                    // The rest of the body is known to be missing only if it has a length.
                    let here = (self.inbox.len() as u64).saturating_add(rustix::io::ioctl_fionread(socket)?);
                    let missing = self.boundary.allows() != u64::MAX && here < self.boundary.allows();
                    let next = disconnect::broken(socket);
                    self.gate_watch = Some(GateWatch::Reset(next));
                    if missing {
                        return Poll::Ready(Ok(()));
                    }
                }
                GateWatch::Reset(reset) => {
                    ready!(reset.poll(cx));
                    self.gate_watch = None;
                    self.broken = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
