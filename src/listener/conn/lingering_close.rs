//! Lingering close of a connection whose client may still send.
//!
//! An immediate close would make the kernel send a reset, and the client could lose the response (RFC 9112 section
//! 9.6). So the sending side is shut down, some bytes are read, then the socket is closed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::listener::conn::transport::Transport;
use crate::listener::connection_permit::ConnectionPermit;

/// How long the lingering close lasts at most.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How many bytes are read and discarded at most.
const MAX_DRAINED_BYTES: usize = 1024 * 1024;

/// Sends the remaining bytes and closes in the background. Until then the connection counts as open under every limit,
/// because its socket still exists. The process also waits for it before it ends. Otherwise the kernel would reset the
/// connection.
pub(in crate::listener) fn close(
    stream: Transport,
    outbox: BytesMut,
    abort_response: Option<Bytes>,
    permit: ConnectionPermit,
) {
    // At the end of the process there is no runtime, so no task can wait. The drop then closes the socket.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, send_and_drain(stream, outbox, abort_response)).await;
        });
    }
}

async fn send_and_drain(mut stream: Transport, outbox: BytesMut, abort_response: Option<Bytes>) -> std::io::Result<()> {
    stream.write_all(&outbox).await?;
    if let Some(response) = abort_response {
        stream.write_all(&response).await?;
    }
    stream.shutdown().await?;
    let mut discarded = [0; 4096];
    let mut drained = 0;
    while drained < MAX_DRAINED_BYTES {
        match stream.read(&mut discarded).await? {
            0 => break,
            some => drained += some,
        }
    }
    Ok(())
}
