//! Connections for upgrade requests, with a workaround for a race in Pingora.
//!
//! Pingora 0.9.1 closes a tunnel at once if the backend answers quickly. Its backend task receives two events in random
//! order: the 101 response, and the end of the (empty) request body. If the second event comes after the first, Pingora
//! takes it for the end of the tunnel (`proxy_handle_upstream`, pingora-proxy, `proxy_h1.rs`). The body event is always
//! ready first. So this socket delays the first read after a write by one poll, and the body event is handled before
//! the 101. In all else it behaves like a plain socket.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Wraps a TCP socket.
pub(super) fn tcp(socket: TcpStream) -> Stream {
    Hesitant::stream(socket, true)
}

/// Wraps a Unix socket.
pub(super) fn unix(socket: UnixStream) -> Stream {
    Hesitant::stream(socket, false)
}

/// A socket whose first read after a write yields once.
#[derive(Debug)]
struct Hesitant<S> {
    socket: S,
    is_tcp: bool,
    has_written: bool,
}

impl<S> Hesitant<S>
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Sync + std::fmt::Debug + 'static,
{
    fn stream(socket: S, is_tcp: bool) -> Stream {
        VirtualSocketStream::new(Box::new(Self { socket, is_tcp, has_written: false })).into()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hesitant<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.has_written) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut this.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hesitant<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.has_written = true;
        Pin::new(&mut this.socket).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl<S> VirtualSocket for Hesitant<S>
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Sync + std::fmt::Debug,
{
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        if self.is_tcp { super::socket_options::set_option(&self.socket, option) } else { Ok(()) }
    }
}
