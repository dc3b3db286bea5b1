//! WebSockets over HTTP/2 (RFC 8441) for clients: an extended CONNECT, and its stream as a socket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{tls, wait_until};

/// Connects, under TLS or by prior knowledge, and waits until the server offers extended CONNECT.
pub async fn connect(address: SocketAddr, tls: bool) -> SendRequest<Bytes> {
    let stream = tls::open(address, tls.then_some("h2")).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let sender = sender.ready().await.unwrap();
    wait_until("extended CONNECT is offered", || sender.is_extended_connect_protocol_enabled()).await;
    sender
}

/// An extended CONNECT for a WebSocket.
pub fn request(path: &str) -> Request<()> {
    let request = Request::connect(format!("https://example.org{path}")).header("sec-websocket-version", "13");
    request.extension(Protocol::from_static("websocket")).body(()).unwrap()
}

/// The response, and the stream as a socket.
///
/// # Errors
/// The server resets the stream.
pub async fn open(
    sender: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> Result<(Response<()>, Http2Socket), h2::Error> {
    let (response, send) = sender.send_request(request, false)?;
    let (head, receive) = response.await?.into_parts();
    Ok((Response::from_parts(head, ()), Http2Socket { send, receive, rest: Bytes::new() }))
}

/// The stream of a request as a socket.
pub struct Http2Socket {
    pub send: SendStream<Bytes>,
    pub receive: RecvStream,
    rest: Bytes,
}

impl AsyncRead for Http2Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            let Some(piece) = ready!(self.receive.poll_data(cx)) else { return Poll::Ready(Ok(())) };
            self.rest = piece.map_err(io::Error::other)?;
            let size = self.rest.len();
            self.receive.flow_control().release_capacity(size).map_err(io::Error::other)?;
        }
        let some = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..some]);
        self.rest.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(data.len());
        if self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(room) => drop(room.map_err(io::Error::other)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let some = data.len().min(self.send.capacity());
        self.send.send_data(Bytes::copy_from_slice(&data[..some]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(some))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
