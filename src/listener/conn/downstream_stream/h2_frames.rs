//! The stream of an HTTP/2 connection: its bytes pass, but where a request is to be told its stream they wait, and interim
//! responses go between its frames.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::conn::header_blocks::{Blocks, ScanStep};

impl DownstreamStream {
    pub(in crate::listener) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.conn.opening.holds() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let mark = if self.inbox.is_empty() {
            ready!(self.stream()?.poll_read(cx, buf))?;
            let come = &buf.filled()[before..];
            self.ended |= come.is_empty();
            let (used, mark) = self.blocks.as_mut().map_or((come.len(), None), |blocks| blocks.feed(come));
            self.inbox.extend_from_slice(&come[used..]);
            buf.set_filled(before + used);
            mark
        } else {
            let come = &self.inbox[..self.inbox.len().min(buf.remaining())];
            let (used, mark) = self.blocks.as_mut().map_or((come.len(), None), |blocks| blocks.feed(come));
            buf.put_slice(&come[..used]);
            self.inbox.advance(used);
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
            mark
        };
        match mark {
            Some(ScanStep::Drain) => self.conn.opening.drain(),
            Some(ScanStep::Open(stream)) => self.conn.opening.open(stream),
            None => return Poll::Ready(Ok(())),
        }
        // With nothing to hand on it would look like the end of the stream.
        let waits = buf.filled().len() == before && self.conn.opening.holds();
        if waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Whoever flushes has written whole frames.
    pub(in crate::listener) fn put_interims(&mut self) {
        if !self.blocks.as_deref().is_none_or(Blocks::has_small_table) {
            self.conn.continues.put(&mut self.outbox);
        }
    }
}
