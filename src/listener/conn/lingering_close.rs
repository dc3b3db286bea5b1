//! Closing a connection whose client is still sending. Closing at once would make the kernel answer with a reset, and
//! the reset would take the response with it (RFC 9112 section 9.6). So: say we are done, read a little, then close.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::listener::conn::transport::Transport;
use crate::listener::connection_permit::ConnectionPermit;

/// How long the client may go on sending.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How many bytes are read and thrown away.
const MAX_DRAINED_BYTES: usize = 1024 * 1024;

/// Sends what is left to say and closes in the background. The connection counts as open until then, under every limit:
/// its socket is there, and the end of the process would be as abrupt.
pub(in crate::listener) fn close(
    stream: Transport,
    outbox: BytesMut,
    last_words: Option<Bytes>,
    permit: ConnectionPermit,
) {
    // Outside a runtime (the process is ending) there is nobody to wait: the drop closes it.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, say_and_wait(stream, outbox, last_words)).await;
        });
    }
}

async fn say_and_wait(mut stream: Transport, outbox: BytesMut, last_words: Option<Bytes>) -> std::io::Result<()> {
    stream.write_all(&outbox).await?;
    if let Some(words) = last_words {
        stream.write_all(&words).await?;
    }
    stream.shutdown().await?;
    let mut bin = [0; 4096];
    let mut thrown = 0;
    while thrown < MAX_DRAINED_BYTES {
        match stream.read(&mut bin).await? {
            0 => break,
            some => thrown += some,
        }
    }
    Ok(())
}
