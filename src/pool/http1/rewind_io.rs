//! A stream that returns already-read bytes first, for Pingora's client session when it takes over from the fast path.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::pool::http1::shared_io::SharedSocket;

/// Reads return the buffered bytes, then bytes of the socket. Writes are discarded, because the request is sent through
/// `SharedIo`.
#[derive(Debug)]
pub(in crate::pool) struct RewindIo {
    read: BytesMut,
    line: Arc<SharedSocket>,
}

impl RewindIo {
    pub(in crate::pool) fn new(read: BytesMut, line: Arc<SharedSocket>) -> Self {
        Self { read, line }
    }

    /// Whether all buffered bytes were returned.
    pub(in crate::pool) fn is_spent(&self) -> bool {
        self.read.is_empty()
    }
}

impl AsyncRead for RewindIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            return this.line.poll_read(cx, buf);
        }
        let some = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read[..some]);
        this.read.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RewindIo {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for RewindIo {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for RewindIo {
    fn id(&self) -> UniqueIDType {
        self.line.id()
    }
}

impl Ssl for RewindIo {}

impl GetTimingDigest for RewindIo {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for RewindIo {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for RewindIo {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for RewindIo {}
