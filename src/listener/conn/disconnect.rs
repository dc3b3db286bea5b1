//! How the other end of a socket leaves, seen beside the stream's own reader and without taking a byte from it.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// A wait for the other end. Not to be polled again once it is over.
pub(in crate::listener) struct Wait(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Wait {
    /// As a future of its own kind.
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

/// Ends when the other end has closed its sending side, or the connection broke.
pub(in crate::listener) fn closed(socket: BorrowedFd<'_>) -> Wait {
    wait(socket, Interest::READABLE)
}

/// Ends when the connection broke: the other end is not there any longer.
pub(in crate::listener) fn broken(socket: BorrowedFd<'_>) -> Wait {
    wait(socket, Interest::ERROR)
}

/// A socket that cannot be watched never ends the wait.
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
        // Bytes that the stream's own reader will take: forgotten here, so that the next change wakes.
        let nothing: io::Result<()> = watched.try_io(event, || Err(io::ErrorKind::WouldBlock.into()));
        drop(nothing);
    }
}

/// A descriptor of its own: the stream's is registered with the reactor already.
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

    /// Nothing ends the waiting for a moment.
    async fn still_waits(waiting: &mut tokio::task::JoinHandle<()>) {
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    }

    #[tokio::test]
    async fn bytes_are_no_end_and_stay_where_they_are() {
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
    async fn an_end_that_sends_nothing_more_is_there_until_it_answers_with_a_reset() {
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
