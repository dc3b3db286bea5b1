//! The connections of the admin listener: bounded in number, in age, and in the time that a header may take, so that
//! nobody who can reach it can starve the scrape.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::control::Control;
use super::guard::{Guard, Token};
use super::routes::router;

/// Connections served at once; others wait in the kernel's queue.
const MAX_CONNECTIONS: u32 = 128;

/// From the accept, or the last response, to the end of a header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection of this age is closed after its response, and cut this much later.
const MAX_AGE: Duration = Duration::from_secs(600);
const CUT_AFTER: Duration = Duration::from_secs(60);

/// How long a response may take to end at the shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// What an accept that fails for want of descriptors waits for.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin API on `listener` until `shutdown` ends. Needs a runtime with time and I/O.
pub async fn serve(
    listener: TcpListener,
    control: Arc<dyn Control>,
    token: Token,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let guard = Guard { token, loopback: listener.local_addr()?.ip().to_canonical().is_loopback() };
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = router(control, guard);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let (stop, stopped) = watch::channel(());
    tokio::select! {
        () = shutdown => {}
        () = accept(&listener, &places, &app, &stopped) => {}
    }
    drop(listener);
    drop(stop);
    // All places free: all connections are done.
    let _ = timeout(SHUTDOWN_GRACE, places.acquire_many(MAX_CONNECTIONS)).await;
    Ok(())
}

async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
    app: &axum::Router,
    stopped: &watch::Receiver<()>,
) {
    while let Ok(place) = Arc::clone(places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, place, app.clone(), stopped.clone()));
            }
            Err(error) => {
                tracing::warn!("the admin listener cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    app: axum::Router,
    mut stopped: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 << 10);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // What goes wrong on a connection is the client's to see.
        _ = served.as_mut() => return,
        // Ends when the sender is dropped.
        _ = stopped.changed() => {}
        () = sleep(MAX_AGE) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(CUT_AFTER, served).await;
}
