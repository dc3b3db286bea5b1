//! The HTTP server of the admin API, with limits on connections, their age and the time for a request head.
//!
//! The limits ensure that no client can block the metrics scrape.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::caller::AuthLayer;
use super::control::Control;
use super::live::LivePage;
use super::login::PeerAddr;
use super::router::router;
use super::token::AdminToken;

/// Maximum number of concurrent connections. Further ones wait in the kernel's accept queue.
const MAX_CONNECTIONS: u32 = 128;

/// Maximum time from the accept, or from the last response, to the end of a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// Age after which a connection is closed when its response ends, and additional time before it is aborted.
const MAX_AGE: Duration = Duration::from_secs(600);
const CUT_AFTER: Duration = Duration::from_secs(60);

/// How long a connection without a request stays open at shutdown.
const LAST_CALL: Duration = Duration::from_millis(200);

/// Time for responses to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// Pause after a failed accept, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket to serve on.
#[derive(Debug)]
pub enum BoundSocket {
    /// A TCP socket.
    Tcp(std::net::TcpListener),
    /// A Unix socket. The mode of its path controls who may connect.
    Unix(std::os::unix::net::UnixListener),
}

/// The socket, registered with tokio.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection with the client's address.
type AcceptedConnection = (Box<dyn AdminStream>, PeerAddr);

trait AdminStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> AdminStream for S {}

impl BoundSocket {
    /// A copy of the descriptor. The socket listens until all copies are closed.
    ///
    /// # Errors
    /// No descriptor is available.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Self::Unix(socket) => socket.as_fd().try_clone_to_owned(),
        }
    }

    /// Registers the socket with the runtime. The address is `None` for a Unix socket.
    fn listen(self) -> io::Result<(Listener, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?;
                Ok((Listener::Tcp(TcpListener::from_std(socket)?), Some(address)))
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Ok((Listener::Unix(UnixListener::from_std(socket)?), None))
            }
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<AcceptedConnection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), PeerAddr(Some(peer.ip().to_canonical()))))
            }
            Self::Unix(listener) => Ok((Box::new(listener.accept().await?.0), PeerAddr(None))),
        }
    }
}

/// Serves the admin API on `socket` until `shutdown` completes. Needs a runtime with time and I/O.
pub async fn serve(
    socket: BoundSocket,
    control: Arc<dyn Control>,
    token: AdminToken,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (listener, address) = socket.listen()?;
    let loopback = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
    let guard = AuthLayer::new(token, loopback, address.map_or(0, |address| address.port()));
    let live = Arc::new(LivePage::new(Arc::clone(&control), guard.clone()));
    let sampling = tokio::spawn(Arc::clone(&live).sample());
    let app = router(control, live, guard);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let (stop, stopped) = watch::channel(());
    tokio::select! {
        () = shutdown => {}
        () = accept(&listener, &permits, &app, &stopped) => {}
    }
    sampling.abort();
    drop(listener);
    drop(stop);
    // All permits are available when all connections have ended.
    let _ = timeout(SHUTDOWN_GRACE, permits.acquire_many(MAX_CONNECTIONS)).await;
    Ok(())
}

async fn accept(listener: &Listener, permits: &Arc<Semaphore>, app: &axum::Router, stopped: &watch::Receiver<()>) {
    while let Ok(permit) = Arc::clone(permits).acquire_owned().await {
        match listener.accept().await {
            Ok(accepted) => {
                tokio::spawn(connection(accepted, permit, app.clone(), stopped.clone()));
            }
            Err(error) => {
                tracing::warn!("the admin listener cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    (stream, peer): AcceptedConnection,
    _permit: OwnedSemaphorePermit,
    app: axum::Router,
    mut stopped: watch::Receiver<()>,
) {
    let app = TowerToHyperService::new(app);
    let app = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        app.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 << 10);
    let served = http.serve_connection(TokioIo::new(stream), app);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // Connection errors are ignored; the client sees them itself.
        _ = served.as_mut() => return,
        // Completes when the sender is dropped.
        _ = stopped.changed() => {
            // A request may be on its way.
            if timeout(LAST_CALL, served.as_mut()).await.is_ok() {
                return;
            }
        }
        () = sleep(MAX_AGE) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(CUT_AFTER, served).await;
}
