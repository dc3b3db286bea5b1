//! Accept loop of one listener: accepts connections, applies the connection limits and spawns one task per connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use weir_task::InlineRepoll;

use super::client_limits::{self, ClientConnections};
use super::conn::Conn;
use super::proxy_header::{self, ProxyHeader};
use super::shutdown::{ShutdownPhase, ShutdownPhaseWatch};
use super::workers::{WorkerSlot, Workers};
use super::{http1, tls_accept};
use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::conn::transport::Transport;
use crate::listener::connection_permit::ConnectionPermit;
use crate::listener::http1::head_reader::LAST_CALL_AT_EXIT;
use crate::listener::service::HttpService;
use crate::listener::settings::ListenerSettings;
use crate::resource_exhaustion::LimitedWarning;
use crate::telemetry::meters::{ConnectionResult, ListenerMeters, OpenConnection};

/// The minimum and maximum pause after a failed accept. Such an accept fails because the kernel has no descriptor or
/// memory.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

static NO_MORE: LimitedWarning = LimitedWarning::new();

/// The state of an accept loop.
pub(super) struct Acceptor<F> {
    pub(super) socket: Arc<TcpListener>,
    pub(super) local: SocketAddr,
    pub(super) settings: Arc<ArcSwap<ListenerSettings>>,
    pub(super) meters: Arc<ListenerMeters>,
    /// One service for each thread.
    pub(super) services: Arc<[Arc<F>]>,
    pub(super) workers: Arc<Workers>,
    /// The thread that this loop runs on.
    pub(super) here: usize,
    pub(super) phase: ShutdownPhaseWatch,
    /// Tracks the connections of the whole process.
    pub(super) open: TaskTracker,
    /// The connections per client of this listener. It survives changes of the settings.
    pub(super) client_connections: Arc<ClientConnections>,
    /// A client connection is refused if its descriptor has this number or a higher one.
    pub(super) reserved: RawFd,
}

impl<F: HttpService> Acceptor<F> {
    /// Accepts until the listener closes, then empties the kernel's accept queue. A connection that is in the queue is
    /// still served.
    pub(super) async fn run(mut self) {
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.phase.past(ShutdownPhase::Open) => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_PAUSE.0;
                    self.take(stream, peer);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = %self.settings.load().name, %error, "cannot accept; resting {pause:?}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
                }
            }
        }
        self.empty_queue().await;
    }

    async fn empty_queue(&self) {
        while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, self.socket.accept()).await {
            self.take(stream, peer);
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let settings = self.settings.load_full();
        // The kernel gives the lowest free descriptor number. So clients never use the last descriptors, which are
        // reserved for connections to backends.
        let is_last = stream.as_raw_fd() >= self.reserved;
        if is_last {
            NO_MORE.emit(
                "a connection was refused",
                "almost all descriptors are in use, and the rest is kept for backends",
            );
        }
        if is_last || settings.connections > 0 && self.meters.open() >= settings.connections as u64 {
            self.meters.count(ConnectionResult::RefusedLimit);
            if settings.tls.is_none() {
                refuse(&stream);
            }
            return;
        }
        if settings.proxied_by.as_ref().is_some_and(|by| !by.iter().any(|net| net.contains(peer.ip()))) {
            self.meters.count(ConnectionResult::ProxyError);
            tracing::debug!(listener = %settings.name, %peer, "a PROXY header is not believed from here");
            return;
        }
        // With a PROXY header, the client's address is not known yet.
        if settings.proxied_by.is_none() && is_refused(peer, &settings, &self.meters) {
            return;
        }
        self.meters.count(ConnectionResult::Accepted);
        let slot = self.workers.place(self.here);
        let accepted = NewConnection {
            ends: (peer, stream.local_addr().unwrap_or(self.local)),
            settings,
            guard: self.meters.opened(),
            meters: Arc::clone(&self.meters),
            service: Arc::clone(&self.services[slot.worker]),
            phase: self.phase.clone(),
            open: self.open.token(),
            client_connections: Arc::clone(&self.client_connections),
            place: slot,
        };
        self.hand_over(stream, accepted);
    }

    fn hand_over(&self, stream: TcpStream, accepted: NewConnection<F>) {
        if accepted.place.worker == self.here {
            tokio::spawn(InlineRepoll::new(accepted.serve(stream)));
            return;
        }
        // The stream is registered with this thread's reactor. It must be registered again with the reactor of the
        // thread that serves it.
        match stream.into_std() {
            Ok(stream) => drop(self.workers.runtime(accepted.place.worker).spawn(InlineRepoll::new(async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => accepted.serve(stream).await,
                    Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
                }
            }))),
            Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
        }
    }
}

/// An accepted connection that moves to its thread.
struct NewConnection<F> {
    ends: (SocketAddr, SocketAddr),
    settings: Arc<ListenerSettings>,
    meters: Arc<ListenerMeters>,
    service: Arc<F>,
    phase: ShutdownPhaseWatch,
    guard: OpenConnection,
    open: TaskTrackerToken,
    client_connections: Arc<ClientConnections>,
    place: WorkerSlot,
}

impl<F: HttpService> NewConnection<F> {
    async fn serve(self, mut stream: TcpStream) {
        let _place = self.place;
        let _ = stream.set_nodelay(true);
        let ends = ends(&mut stream, self.ends, &self.settings, &self.meters, &self.phase).await;
        let Some(ends) = ends else { return };
        if self.settings.proxied_by.is_some() && is_refused(ends.0, &self.settings, &self.meters) {
            return;
        }
        let Ok(client) = admit(&stream, ends.0, &self.settings, &self.client_connections, &self.meters) else { return };
        let permit = ConnectionPermit::new(self.open, self.guard, client);
        let (write, tls) = (self.settings.timeouts.write.limit(), self.settings.tls.clone());
        let name = Arc::clone(&self.settings.name);
        let conn = Conn::new(name, ends, self.settings, self.meters, self.phase.clone());
        match tls {
            Some(endpoint) => tls_accept::serve(stream, (conn, permit), &endpoint, &self.service, self.phase).await,
            None => {
                let io = DownstreamStream::new(Transport::Plain(stream), Arc::new(conn), permit, write);
                http1::serve(Box::new(io), &self.service, self.phase).await;
            }
        }
    }
}

/// Completes when a connection without a complete PROXY header must be closed, because the process ends.
async fn end_of_process(mut phase: ShutdownPhaseWatch) {
    phase.past(ShutdownPhase::Closing).await;
    tokio::time::sleep(LAST_CALL_AT_EXIT).await;
}

/// The addresses of the client's connection (peer, local). They come from the PROXY header if the listener requires
/// one, otherwise from the socket. `None` if the connection must be closed.
async fn ends(
    stream: &mut TcpStream,
    own: (SocketAddr, SocketAddr),
    settings: &ListenerSettings,
    meters: &ListenerMeters,
    phase: &ShutdownPhaseWatch,
) -> Option<(SocketAddr, SocketAddr)> {
    if settings.proxied_by.is_none() {
        return Some(own);
    }
    let header = tokio::select! {
        biased;
        header = tokio::time::timeout(settings.timeouts.header.get(), proxy_header::read(stream)) => header,
        () = end_of_process(phase.clone()) => return None,
    };
    let (listener, peer) = (&settings.name, own.0);
    match header {
        Ok(Ok(ProxyHeader::Ends(ends))) => return Some((ends.source, ends.destination)),
        Ok(Ok(ProxyHeader::Nothing)) => return Some(own),
        Ok(Ok(ProxyHeader::Left)) => {}
        Ok(Err(error)) => {
            tracing::debug!(%listener, %peer, %error, "no PROXY header");
            meters.count(ConnectionResult::ProxyError);
        }
        Err(_) => meters.count(ConnectionResult::Timeout),
    }
    None
}

/// Whether `allow` or `deny` refuses the client's address. Then the refusal is counted.
fn is_refused(client: SocketAddr, settings: &ListenerSettings, meters: &ListenerMeters) -> bool {
    let refused = settings.refuses(client.ip());
    if refused {
        meters.count(ConnectionResult::RefusedPolicy);
        tracing::debug!(listener = %settings.name, peer = %client, "refused by `allow` or `deny`");
    }
    refused
}

/// Counts the connection for its client's address, if the listener has a limit per client.
///
/// # Errors
/// The client has reached the limit. The connection was refused.
fn admit(
    stream: &TcpStream,
    peer: SocketAddr,
    settings: &ListenerSettings,
    clients: &Arc<ClientConnections>,
    meters: &ListenerMeters,
) -> Result<Option<client_limits::ClientConnectionGuard>, ()> {
    if settings.connections_per_ip == 0 {
        return Ok(None);
    }
    match clients.enter(peer.ip(), settings.connections_per_ip) {
        Some(entered) => Ok(Some(entered)),
        None => {
            meters.count(ConnectionResult::RefusedLimit);
            if settings.tls.is_none() {
                refuse(stream);
            }
            Err(())
        }
    }
}

/// Sends a 503 without waiting. A client that cannot receive it at once gets only the close.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let _ = socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write);
}

/// Whether the error concerns one connection only (accept(2)). Then the next accept needs no pause.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(libc::EPROTO | libc::ENETDOWN | libc::EHOSTUNREACH | libc::ENETUNREACH))
}
