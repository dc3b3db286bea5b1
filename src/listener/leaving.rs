//! Whether the client of an HTTP/1 exchange has left, for those who keep it waiting while nobody reads its stream.
//!
//! It watches the socket beside the stream's own reader and takes no byte from it. A client that has closed its sending
//! side counts as gone, as it does everywhere else on the way of a request.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Returns when the other end of the socket has closed its side, or the connection broke.
///
/// # Errors
/// The socket cannot be watched.
pub(super) async fn left(socket: RawFd) -> io::Result<()> {
    let watched = duplicate(socket)?;
    loop {
        if watched.ready(Interest::READABLE).await?.is_read_closed() {
            return Ok(());
        }
        // Bytes that the stream's own reader will take: forgotten here, so that the next change wakes.
        let nothing: io::Result<()> = watched.try_io(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
        drop(nothing);
    }
}

/// A descriptor of its own: the stream's is registered with the reactor already.
fn duplicate(socket: RawFd) -> io::Result<TcpStream> {
    // SAFETY: only called while the exchange runs that owns the stream with this descriptor (see `Exchange::client_left`),
    // so it is open and stays so during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(socket) };
    TcpStream::from_std(borrowed.try_clone_to_owned()?.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn bytes_are_no_end_and_stay_where_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let socket = server.as_raw_fd();
        let waiting = tokio::spawn(left(socket));
        for _ in 0..3 {
            client.write_all(b"more").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!waiting.is_finished());
        }
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"moremoremore");
        tokio::time::timeout(Duration::from_secs(5), left(socket)).await.unwrap().unwrap();
    }
}
