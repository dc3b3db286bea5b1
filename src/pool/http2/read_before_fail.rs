//! A stream whose write error is reported only after everything was read.
//!
//! A backend may send GOAWAY and close the connection at once. A write then fails while the GOAWAY is still unread. The
//! GOAWAY says which requests the backend did not process, so it must be read first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// After a write error, further bytes are dropped. The read side returns the error where the stream ends.
#[derive(Debug)]
pub(super) struct ReadBeforeFail<T> {
    stream: T,
    failed: Option<io::Error>,
    broken: bool,
}

impl<T> ReadBeforeFail<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream, failed: None, broken: false }
    }

    /// Keeps the error of a write and reports that `length` bytes were written.
    fn keep<V>(&mut self, written: io::Result<V>, length: V) -> io::Result<V> {
        if let Err(error) = written {
            (self.failed, self.broken) = (Some(error), true);
            return Ok(length);
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ReadBeforeFail<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        let ended = read.is_err() || buf.filled().len() == before;
        match this.failed.take_if(|_| ended) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(read),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ReadBeforeFail<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(data.len()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, data));
        Poll::Ready(this.keep(written, data.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = data.iter().map(|slice| slice.len()).sum();
        if this.broken {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, data));
        Poll::Ready(this.keep(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        Poll::Ready(this.keep(flushed, ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A connection that was reset after these bytes arrived.
    struct Reset(&'static [u8]);

    impl AsyncRead for Reset {
        fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Reset {
        fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _data: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_error_is_reported_after_the_bytes_that_arrived_before_it() {
        let mut stream = ReadBeforeFail::new(Reset(b"goaway"));
        stream.write_all(b"request").await.unwrap();
        stream.write_all(b"more").await.unwrap();
        stream.flush().await.unwrap();
        let mut read = [0; 6];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"goaway");
        let error = stream.read(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
