//! Both ends of WebSockets: the handshake of a backend that is no library, and a client that talks until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::tls::{Accepted, read_head};
use super::{DEADLINE, delayed};

/// The Sec-WebSocket-Accept for the key in this request head.
pub fn accept_of(head: &str) -> String {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let key = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    derive_accept_key(key.map(|(_, key)| key).unwrap_or_default().as_bytes())
}

/// The response that opens the WebSocket of this request head.
pub fn switching(head: &str) -> String {
    let accept = accept_of(head);
    format!("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
}

/// Accepts a WebSocket. Returns whether there was one.
pub async fn accept(stream: &mut Accepted) -> bool {
    let Some(head) = read_head(stream).await else { return false };
    stream.write_all(switching(&head).as_bytes()).await.is_ok()
}

/// The next message.
pub async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Message {
    tokio::time::timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap()
}

/// Says its turn and waits for it to come back, until told to stop; then closes. `turns` counts those of all sockets.
pub async fn chat<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
    pace: Duration,
) {
    let mut turn = 0_u64;
    while !stop.load(Ordering::Acquire) {
        turn += 1;
        let message = Message::binary(turn.to_be_bytes().to_vec());
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(socket).await, message);
        turns.fetch_add(1, Ordering::Relaxed);
        delayed(pace).await;
    }
    socket.close(None).await.unwrap();
    assert!(next(socket).await.is_close());
}
