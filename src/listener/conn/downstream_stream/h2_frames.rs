//! Reads of an HTTP/2 connection: the bytes pass through the frame scanner.
//!
//! Bytes are delayed only while the stream id of a request is not known yet (`stream_id`). Interim responses are
//! inserted between frames on flush.

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
        let step = if self.inbox.is_empty() {
            ready!(self.stream()?.poll_read(cx, buf))?;
            let received = &buf.filled()[before..];
            self.ended |= received.is_empty();
            let (used, step) = self.blocks.as_mut().map_or((received.len(), None), |blocks| blocks.feed(received));
            self.inbox.extend_from_slice(&received[used..]);
            buf.set_filled(before + used);
            step
        } else {
            let received = &self.inbox[..self.inbox.len().min(buf.remaining())];
            let (used, step) = self.blocks.as_mut().map_or((received.len(), None), |blocks| blocks.feed(received));
            buf.put_slice(&received[..used]);
            self.inbox.advance(used);
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
            step
        };
        if let Some(blocks) = self.blocks.as_mut().filter(|blocks| !blocks.opened.is_empty()) {
            self.conn.opening.opened(&mut blocks.opened);
        }
        match step {
            Some(ScanStep::Drain) => self.conn.opening.drain(),
            Some(ScanStep::Open(stream)) => self.conn.opening.open(stream),
            None => return Poll::Ready(Ok(())),
        }
        // A read of zero bytes would look like the end of the stream.
        let waits = buf.filled().len() == before && self.conn.opening.holds();
        if waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Adds the requested responses of the listener to the outbox. It is called at a flush, when the outbox ends with a
    /// complete frame.
    pub(in crate::listener) fn put_inserted(&mut self) {
        if !self.blocks.as_deref().is_none_or(Blocks::has_small_table) {
            self.conn.inserted.put(&mut self.outbox);
        }
    }
}
