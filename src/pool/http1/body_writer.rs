//! The writer of a request body. It never waits for the backend.

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::{Error, ErrorType, Result};

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::pool::http1::shared_io::SharedSocket;

/// A chunk up to this size is copied into one buffer with its framing.
const SMALL_CHUNK_BYTES: usize = 4096;

/// Between the data of a chunk and the next chunk.
const CHUNK_END: Bytes = Bytes::from_static(b"\r\n");
/// The last chunk, without trailers.
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// The writer of a request without a body.
pub(in crate::pool) struct EmptyBodyWriter;

#[async_trait]
impl BodyWrite for EmptyBodyWriter {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        data.clear();
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}

/// The framing of a request body (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum RequestFraming {
    /// So many bytes are still to come.
    Length(usize),
    Chunked,
    /// The bytes of a tunnel.
    Raw,
}

/// Writes the request body.
pub(in crate::pool) struct BodyWriter {
    line: Arc<SharedSocket>,
    framing: RequestFraming,
    finished: bool,
}

impl BodyWriter {
    pub(in crate::pool) fn new(line: Arc<SharedSocket>, framing: RequestFraming) -> Self {
        Self { line, framing, finished: false }
    }
}

#[async_trait]
impl BodyWrite for BodyWriter {
    /// A write error is recorded and not returned, because the backend may have answered before it. If no response
    /// arrives, the read path returns the recorded error.
    ///
    /// # Errors
    /// The client has its whole response, and the backend takes no more of the body.
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        let mut piece = std::mem::take(data);
        if let RequestFraming::Length(left) = &mut self.framing {
            piece.truncate(*left);
            *left -= piece.len();
        }
        if self.line.checkout().has_given_up() {
            return Error::e_explain(ErrorType::WriteError, "the backend takes no more of the request's body");
        }
        let line = &self.line;
        let is_chunk = self.framing == RequestFraming::Chunked && !piece.is_empty();
        poll_fn(|cx| {
            let piece = std::mem::take(&mut piece);
            match is_chunk {
                true => line.send_all(cx, chunk(piece)),
                false => line.send(cx, piece),
            }
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    /// Pingora's loop asks again and again if trailers end the body. The error makes it stop.
    ///
    /// # Errors
    /// The body is finished already.
    async fn finish(&mut self) -> Result<()> {
        let (line, framing) = (&self.line, self.framing);
        if std::mem::replace(&mut self.finished, true) {
            line.checkout().give_up();
            return Error::e_explain(ErrorType::WriteError, "the request's body is finished");
        }
        poll_fn(|cx| {
            if framing == RequestFraming::Chunked {
                line.send_all(cx, [LAST_CHUNK]);
            }
            line.end(!matches!(framing, RequestFraming::Length(1..)));
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {
        if self.framing != RequestFraming::Raw {
            (self.framing, self.finished) = (RequestFraming::Raw, false);
        }
    }
}

/// The pieces of a chunk (RFC 9112 section 7.1).
fn chunk(data: Bytes) -> impl Iterator<Item = Bytes> {
    let size = format!("{:x}\r\n", data.len());
    let pieces = if data.len() <= SMALL_CHUNK_BYTES {
        let mut whole = BytesMut::with_capacity(size.len() + data.len() + CHUNK_END.len());
        whole.put_slice(size.as_bytes());
        whole.put_slice(&data);
        whole.put_slice(&CHUNK_END);
        [whole.freeze(), Bytes::new(), Bytes::new()]
    } else {
        [size.into(), data, CHUNK_END]
    };
    pieces.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_its_size_in_hexadecimal_digits() {
        for size in [1, 15, 16, SMALL_CHUNK_BYTES, SMALL_CHUNK_BYTES + 1] {
            let data = vec![b'x'; size];
            let wire: Vec<u8> = chunk(data.clone().into()).flatten().collect();
            assert_eq!(wire, [format!("{size:x}\r\n").as_bytes(), &data, b"\r\n"].concat());
        }
    }
}
