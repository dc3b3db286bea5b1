//! Disconnect detection: waits until the peer of a socket has left. It works beside the stream's own reader and never
//! takes a byte from the stream.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// A wait for the peer's disconnect. It must not be polled again after it is ready.
pub(in crate::listener) struct Wait(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Wait {
    /// Boxes a future as a wait.
    pub(in crate::listener) fn new(wait: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        Self(Box::pin(wait))
    }

    pub(in crate::listener) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

/// Ready when the peer has closed its sending side (FIN), or the connection broke.
pub(in crate::listener) fn closed(socket: BorrowedFd<'_>) -> Wait {
    wait(socket, Interest::READABLE)
}

/// Ready when the connection broke, for example by a reset.
pub(in crate::listener) fn broken(socket: BorrowedFd<'_>) -> Wait {
    wait(socket, Interest::ERROR)
}

/// Waits for an event on the socket. If the socket cannot be watched, the wait never ends.
fn wait(socket: BorrowedFd<'_>, event: Interest) -> Wait {
    let watched = duplicate(socket);
    Wait::new(async move {
        let ended = match watched {
            Ok(watched) => until(&watched, event).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's socket cannot be watched");
            std::future::pending::<()>().await;
        }
    })
}

async fn until(watched: &TcpStream, event: Interest) -> io::Result<()> {
    loop {
        let ready = watched.ready(event).await?;
        if ready.is_error() || ready.is_read_closed() {
            return Ok(());
        }
        // The stream's own reader takes these bytes. The readiness is cleared here, so that only the next change wakes
        // the task.
        let nothing: io::Result<()> = watched.try_io(event, || Err(io::ErrorKind::WouldBlock.into()));
        drop(nothing);
    }
}

/// Duplicates the descriptor, because the stream's own is already registered with the reactor.
fn duplicate(socket: BorrowedFd<'_>) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.try_clone_to_owned()?.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn over(mut wait: Wait) {
        std::future::poll_fn(|cx| wait.poll(cx)).await;
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    async fn soon(wait: impl Future) {
        assert!(tokio::time::timeout(Duration::from_secs(5), wait).await.is_ok());
    }

    /// Asserts that the wait does not end within 20 ms.
    async fn still_waits(waiting: &mut tokio::task::JoinHandle<()>) {
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    }

    #[tokio::test]
    async fn received_bytes_do_not_end_the_wait_and_are_not_consumed() {
        let (mut client, mut server) = pair().await;
        let mut waiting = tokio::spawn(over(closed(server.as_fd())));
        for _ in 0..3 {
            client.write_all(b"more").await.unwrap();
            still_waits(&mut waiting).await;
        }
        drop(client);
        soon(waiting).await;
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"moremoremore");
        soon(over(closed(server.as_fd()))).await;
    }

    #[tokio::test]
    async fn a_half_closed_peer_counts_as_present_until_it_sends_a_reset() {
        let (mut client, mut server) = pair().await;
        let mut waiting = tokio::spawn(over(broken(server.as_fd())));
        client.shutdown().await.unwrap();
        soon(over(closed(server.as_fd()))).await;
        server.write_all(b"still there?").await.unwrap();
        client.read_exact(&mut [0; 12]).await.unwrap();
        still_waits(&mut waiting).await;
        drop(client);
        still_waits(&mut waiting).await;
        server.write_all(b"still there?").await.unwrap();
        soon(waiting).await;
    }
}
