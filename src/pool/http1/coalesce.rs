//! A writer that coalesces the request head with the first body bytes, so that the backend gets both in one packet.
//!
//! It never waits for body bytes that have not arrived. One packet also means one wake-up at the backend instead of
//! two.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// Buffers the first write if body bytes are already available.
#[derive(Debug, Default)]
pub(in crate::pool) struct CoalescedWriter {
    body_is_here: bool,
    buffer: BytesMut,
    sent: bool,
}

impl CoalescedWriter {
    /// `body_is_here`: the first write is buffered until the second.
    pub(in crate::pool) fn new(body_is_here: bool) -> Self {
        Self { body_is_here, buffer: BytesMut::new(), sent: false }
    }

    /// Whether the socket has taken all buffered bytes, or at least one byte if nothing was buffered.
    pub(in crate::pool) fn has_sent(&self) -> bool {
        self.sent
    }

    /// Writes the buffered bytes and `data` with one vectored write. If it is the first write and body bytes are
    /// available, it buffers `data` instead. Returns how many bytes of `data` were taken.
    ///
    /// # Errors
    /// Those of the socket.
    pub(in crate::pool) fn poll_write<S: AsyncWrite>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.body_is_here) {
            self.buffer.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        while !self.buffer.is_empty() {
            let both = [IoSlice::new(&self.buffer), IoSlice::new(data)];
            let gone = ready!(stream.as_mut().poll_write_vectored(cx, &both))?;
            if gone == 0 {
                return Poll::Ready(Ok(0));
            }
            let buffered = gone.min(self.buffer.len());
            self.buffer.advance(buffered);
            self.sent = self.buffer.is_empty();
            if gone > buffered {
                return Poll::Ready(Ok(gone - buffered));
            }
        }
        let written = stream.poll_write(cx, data);
        self.sent |= matches!(written, Poll::Ready(Ok(1..)));
        written
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn buffered_bytes_are_written_first_for_any_socket_buffer_size() {
        for capacity in 1..20 {
            let (mut near, mut far) = tokio::io::duplex(capacity);
            let reading = tokio::spawn(async move {
                let mut all = String::new();
                far.read_to_string(&mut all).await.unwrap();
                all
            });
            let mut writer = CoalescedWriter::new(true);
            for mut data in [&b"header "[..], b"and ", b"body"] {
                while !data.is_empty() {
                    let gone = poll_fn(|cx| writer.poll_write(Pin::new(&mut near), cx, data)).await.unwrap();
                    assert_eq!(writer.has_sent(), !data.starts_with(b"header"), "the body has gone when it is taken");
                    data = &data[gone..];
                }
            }
            drop(near);
            assert_eq!(reading.await.unwrap(), "header and body", "{capacity}");
        }
    }
}
