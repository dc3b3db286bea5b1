//! A TCP proxy that delays the bytes of a server. Bytes of the client pass at once, so pipelined requests overlap.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;

use super::delayed;

/// The proxy, without a delay at first. It ends with the process.
pub struct DelayProxy {
    pub address: SocketAddr,
    milliseconds: Arc<AtomicU64>,
}

impl DelayProxy {
    pub fn before(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, milliseconds) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let delay = Arc::clone(&milliseconds);
        let accepting = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, server, Arc::clone(&delay)));
            }
        };
        std::thread::spawn(move || super::http2::run(accepting));
        Self { address, milliseconds }
    }

    /// The time by which bytes of the server arrive later from now on.
    pub fn delay(&self, time: Duration) {
        self.milliseconds.store(u64::try_from(time.as_millis()).unwrap(), Ordering::Release);
    }
}

async fn connection(client: TcpStream, server: SocketAddr, delay: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let ((mut from_client, to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    // The end of one direction ends both, as the end of a server does.
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = delayed_copy(from_server, to_client, &delay) => {}
    }
}

async fn delayed_copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: &AtomicU64) {
    let (send, mut receive) = unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::Acquire));
            let _ = send.send((due, piece[..count].to_vec()));
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = receive.recv().await {
            delayed(due.saturating_duration_since(Instant::now())).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
