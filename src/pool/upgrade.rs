//! Connections for requests that ask to switch protocols.
//!
//! Pingora 0.9.1 ends a tunnel at birth when the backend is quick: its task for the backend's side takes the 101 and the
//! note that the request's (empty) body has ended in random order, and takes the note for the end of the tunnel if it
//! comes second (`proxy_handle_upstream`, pingora-proxy, `proxy_h1.rs`). The note is always there first; so a socket that
//! hesitates once after a write lets it through. Nothing else differs from a plain socket.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection over TCP.
pub(super) fn tcp(socket: TcpStream) -> Stream {
    Hesitant::stream(socket, true)
}

/// A connection to a socket of Unix.
pub(super) fn unix(socket: UnixStream) -> Stream {
    Hesitant::stream(socket, false)
}

/// The first read after a write lets others of its task go first.
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
