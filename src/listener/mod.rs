//! Listeners: sockets, accept loops, and a client's connection up to the start of a request.
//!
//! The module opens and closes connections and applies their limits and timeouts. It never reads a route or a backend:
//! the `HttpService` serves the requests.

mod accept;
mod address_check;
mod client_limits;
mod conn;
mod connection_permit;
mod http1;
mod http2;
mod inherited;
mod proxy_header;
mod service;
mod settings;
mod shutdown;
mod tls_accept;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

pub use address_check::{CheckedAddress, check_address, is_local};
pub use conn::{Abort, Conn, Exchange};
pub use inherited::{Handed, InheritedSocket, InheritedSockets};
pub use service::HttpService;
pub use settings::ListenerSettings;

use crate::config::listener_key::{ListenerKey, keyed};
use crate::config::schema;
use crate::config::values::Cidr;
use crate::config::{ListenerFilters, ValidatedConfig};
pub use crate::message::request_framing::BadHead;
use crate::telemetry::meters::ListenerMeters;
use crate::telemetry::registry::Metrics;
use crate::tls;
pub use crate::tls::WELL_KNOWN;
use accept::Acceptor;
use client_limits::ClientConnections;
use shutdown::{ShutdownPhase, ShutdownPhaseControl};
use workers::Workers;

/// The number of further attempts to bind an address that is in use, and the pause between them.
const BIND_RETRIES: (u32, Duration) = (10, Duration::from_millis(20));

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Bound {
    configured: SocketAddr,
    actual: SocketAddr,
    socket: std::net::TcpListener,
}

/// A bound socket that is registered with the reactor of a traffic thread. No later step can fail.
#[derive(Debug)]
pub struct Registered {
    configured: SocketAddr,
    actual: SocketAddr,
    /// The thread of its accept loop.
    worker: usize,
    socket: tokio::net::TcpListener,
}

/// An address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", advice(.source))]
pub struct BindError {
    /// The address in the configuration.
    pub address: SocketAddr,
    /// The cause.
    pub source: io::Error,
}

/// Advice for a bind error, to append to its message. Empty if there is none.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has it (`ss -ltnp` says which)",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        io::ErrorKind::StorageFull => "; the kernel watches no more sockets (fs.epoll.max_user_watches)",
        _ => "",
    }
}

/// The status of a running listener.
#[derive(Debug, Clone)]
pub struct ListenerStatus {
    /// The name or address from the configuration.
    pub name: Arc<str>,
    /// The bound address.
    pub address: SocketAddr,
    /// The number of open connections.
    pub connections: u64,
}

/// All running listeners. The key is the configured address and an index among equal addresses, because port 0 may
/// repeat.
#[derive(Debug)]
pub struct Listeners {
    reserved: RawFd,
    workers: Arc<Workers>,
    /// The number of sockets registered so far. Each socket goes to the next thread.
    started: AtomicUsize,
    metrics: Arc<Metrics>,
    open: TaskTracker,
    accepting: TaskTracker,
    tls: Arc<tls::CertStore>,
    running: Mutex<BTreeMap<ListenerKey, RunningListener>>,
    /// The process stops, and no listener starts any more. Changed under the lock of `running`.
    closed: AtomicBool,
    /// Removed listeners that still have connections. The end of the process closes these connections too.
    closing: Mutex<Vec<ShutdownPhaseControl>>,
}

#[derive(Debug)]
struct RunningListener {
    actual: SocketAddr,
    /// The accept loop owns the socket.
    socket: Weak<tokio::net::TcpListener>,
    settings: Arc<ArcSwap<ListenerSettings>>,
    meters: Arc<ListenerMeters>,
    phase: ShutdownPhaseControl,
}

/// The listeners of a configuration document.
#[derive(Debug, Clone, Copy)]
pub struct RequestedListener<'a> {
    /// The listeners.
    pub listeners: &'a [schema::ListenerConfig],
    /// The networks whose PROXY headers are trusted.
    pub trusted: &'a [Cidr],
    /// The client filters of the listeners.
    pub filters: &'a ListenerFilters,
}

impl<'a> From<(&'a schema::Document, &'a ListenerFilters)> for RequestedListener<'a> {
    fn from((document, filters): (&'a schema::Document, &'a ListenerFilters)) -> Self {
        Self { listeners: &document.listeners, trusted: &document.trusted_proxies, filters }
    }
}

impl Listeners {
    /// Creates an empty set. Connections are spread over these single-threaded runtimes. A client connection is refused
    /// if its descriptor number is `reserved` or higher.
    pub fn new(runtimes: Vec<Handle>, metrics: Arc<Metrics>, reserved: RawFd) -> Self {
        Self {
            reserved,
            tls: Arc::new(tls::CertStore::new(Arc::clone(&metrics))),
            workers: Arc::new(Workers::new(runtimes)),
            started: AtomicUsize::new(0),
            metrics,
            open: TaskTracker::new(),
            accepting: TaskTracker::new(),
            running: Mutex::default(),
            closed: AtomicBool::new(false),
            closing: Mutex::default(),
        }
    }

    /// Binds the configured listeners that do not run yet. Nothing accepts and nothing changes: a drop of the result
    /// undoes it.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub fn bind_new(&self, wanted: &[schema::ListenerConfig]) -> Result<Vec<Registered>, BindError> {
        let mut new = keyed(wanted);
        {
            // The lock is not held while `bind` retries an address in use. Other threads need it, for example to stop
            // the process.
            let running = self.lock();
            new.retain(|(key, _)| !running.contains_key(key));
        }
        self.register(new.into_iter().map(|((address, _), _)| bind(address)).collect::<Result<_, _>>()?)
    }

    /// Registers bound sockets with the threads that will accept from them. Each socket goes to the next thread.
    ///
    /// # Errors
    /// The first socket that cannot be registered. The usual reason is a limit of the kernel.
    pub fn register(&self, bound: Vec<Bound>) -> Result<Vec<Registered>, BindError> {
        bound.into_iter().map(|bound| self.register_one(bound)).collect()
    }

    fn register_one(&self, bound: Bound) -> Result<Registered, BindError> {
        let worker = self.started.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        let _on_runtime = self.workers.runtime(worker).enter();
        let socket = tokio::net::TcpListener::from_std(bound.socket)
            .map_err(|source| BindError { address: bound.configured, source })?;
        Ok(Registered { configured: bound.configured, actual: bound.actual, worker, socket })
    }

    /// Reads certificates and keys. Nothing changes: a drop of the result undoes it.
    ///
    /// # Errors
    /// The files cannot be used although `config` has checked them.
    pub fn prepare(&self, checked: &ValidatedConfig) -> Result<tls::Prepared, tls::StoreError> {
        self.tls.prepare(checked)
    }

    /// The certificates of all listeners.
    pub fn certificates(&self) -> &Arc<tls::CertStore> {
        &self.tls
    }

    /// Applies a configuration: starts the sockets of `bind_new`, gives running listeners their settings and closes
    /// removed listeners. `services` has one service for each runtime. It starts no listener after `close`.
    pub fn apply<F: HttpService>(
        &self,
        wanted: RequestedListener<'_>,
        prepared: tls::Prepared,
        new: Vec<Registered>,
        services: &Arc<[Arc<F>]>,
    ) {
        let mut running = self.lock();
        let (trusted, filters) = (wanted.trusted, wanted.filters);
        let wanted = keyed(wanted.listeners);
        let gone = running.extract_if(.., |key, _| !wanted.iter().any(|(wanted, _)| wanted == key));
        self.close_removed(gone.map(|(_, running)| running.phase).collect());
        let mut new = if self.are_closed() { Vec::new() } else { new }.into_iter();
        for ((key, listener), tls) in wanted.into_iter().zip(prepared.endpoints()) {
            let settings = ListenerSettings::new(key, listener, tls.clone(), self.tls.challenges(), trusted)
                .with_clients(filters.get(&key));
            if let Some(old) = running.get(&key) {
                old.settings.store(Arc::new(settings));
            } else if let Some(new) = new.next() {
                debug_assert_eq!(new.configured, key.0);
                running.insert(key, self.start(new, settings, services));
            }
        }
        self.tls.adopt(prepared);
    }

    /// Replaces the client filters of running listeners, whose other settings stay.
    pub fn renew_filters(&self, filters: &ListenerFilters) {
        for (key, running) in self.lock().iter() {
            let settings = (**running.settings.load()).clone();
            running.settings.store(Arc::new(settings.with_clients(filters.get(key))));
        }
    }

    /// The status of all running listeners.
    pub fn status(&self) -> Vec<ListenerStatus> {
        let running = self.lock();
        let status = |r: &RunningListener| ListenerStatus {
            name: Arc::clone(&r.settings.load().name),
            address: r.actual,
            connections: r.meters.open(),
        };
        running.values().map(status).collect()
    }

    /// Copies of the sockets that accept, with the name and the configured address of their listeners. They go on
    /// listening when this process has closed them.
    ///
    /// # Errors
    /// No descriptor is available.
    pub fn sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        let running = self.lock();
        let open = running.iter().filter_map(|(key, running)| Some((key, running, running.socket.upgrade()?)));
        let copy = |(key, running, socket): (&ListenerKey, &RunningListener, Arc<tokio::net::TcpListener>)| {
            let handed = Some(Handed { configured: key.0.to_string(), admin: false });
            let (name, fd) = (running.settings.load().name.to_string(), socket.as_fd().try_clone_to_owned()?);
            Ok(InheritedSocket { name, handed, fd })
        };
        open.map(copy).collect()
    }

    /// Closes all listeners. A connection without a request ends now, the others after their current response.
    pub fn close(&self) {
        self.close_to(ShutdownPhase::Leaving);
    }

    /// Closes all listeners. Another process has their sockets, so there is time: each connection ends after its next
    /// response. Call `close` later.
    pub fn hand_over(&self) {
        self.close_to(ShutdownPhase::Closing);
    }

    fn close_to(&self, to: ShutdownPhase) {
        let running = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        for running in running.values() {
            running.phase.advance(to);
        }
        drop(running);
        for phase in self.closing.lock().iter() {
            phase.advance(to);
        }
    }

    /// Ends the requests that are still under way, after `close`.
    pub fn abort(&self) {
        for running in self.lock().values() {
            running.phase.advance(ShutdownPhase::Aborting);
        }
        for phase in self.closing.lock().iter() {
            phase.advance(ShutdownPhase::Aborting);
        }
    }

    /// Whether `close` was called.
    pub fn are_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn close_removed(&self, gone: Vec<ShutdownPhaseControl>) {
        let mut closing = self.closing.lock();
        closing.retain(ShutdownPhaseControl::is_watched);
        for phase in gone {
            phase.advance(ShutdownPhase::Closing);
            closing.push(phase);
        }
    }

    /// Completes when no socket accepts and no connection is open. It includes the connections of removed listeners.
    pub async fn drained(&self) {
        for tracker in [&self.accepting, &self.open] {
            // A tracker that is not closed never reports that it is empty.
            tracker.close();
            tracker.wait().await;
        }
    }

    /// The number of open connections, including those of removed listeners.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn start<F: HttpService>(
        &self,
        new: Registered,
        settings: ListenerSettings,
        services: &Arc<[Arc<F>]>,
    ) -> RunningListener {
        let runtime = self.workers.runtime(new.worker);
        let meters = self.metrics.listener(&settings.name);
        let socket = Arc::new(new.socket);
        let running = RunningListener {
            actual: new.actual,
            socket: Arc::downgrade(&socket),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            meters: Arc::clone(&meters),
            phase: ShutdownPhaseControl::new(),
        };
        let acceptor = Acceptor {
            socket,
            local: new.actual,
            settings: Arc::clone(&running.settings),
            meters,
            services: Arc::clone(services),
            workers: Arc::clone(&self.workers),
            here: new.worker,
            phase: running.phase.watch(),
            open: self.open.clone(),
            client_connections: Arc::new(ClientConnections::default()),
            reserved: self.reserved,
        };
        self.accepting.spawn_on(acceptor.run(), runtime);
        running
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ListenerKey, RunningListener>> {
        self.running.lock()
    }
}

/// Binds all configured listeners before the traffic threads exist, except those that have an inherited socket.
///
/// # Errors
/// The first address that cannot be bound.
pub fn bind_all(wanted: &[schema::ListenerConfig], inherited: &mut InheritedSockets) -> Result<Vec<Bound>, BindError> {
    let taken = wanted.iter().zip(inherited.take(wanted));
    taken.map(|(listener, taken)| taken.map_or_else(|| bind(listener.address), Ok)).collect()
}

/// Binds one address. It retries an address in use, because a listener that a reload has removed closes its socket a
/// little later.
fn bind(address: SocketAddr) -> Result<Bound, BindError> {
    let mut tries = 0;
    loop {
        match try_bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_RETRIES.0 => {
                tries += 1;
                std::thread::sleep(BIND_RETRIES.1);
            }
            bound => return bound.map_err(|source| BindError { address, source }),
        }
    }
}

fn try_bind(address: SocketAddr) -> io::Result<Bound> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // The kernel limits it to net.core.somaxconn.
    socket.listen(65_535)?;
    let socket: std::net::TcpListener = socket.into();
    Ok(Bound { configured: address, actual: socket.local_addr()?, socket })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_bound_socket_that_cannot_be_registered_is_an_error_before_anything_changes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let metrics = Metrics::new("0", "test");
        let listeners = Listeners::new(vec![runtime.handle().clone()], metrics, RawFd::MAX);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let valid = || bind(address).unwrap();
        assert_eq!(listeners.register(vec![valid(), valid()]).unwrap().len(), 2);
        // epoll does not accept regular files.
        let file = tempfile::tempfile().unwrap();
        let invalid = Bound { configured: address, actual: address, socket: OwnedFd::from(file).into() };
        invalid.socket.set_nonblocking(true).unwrap();
        let error = listeners.register(vec![valid(), invalid]).unwrap_err();
        assert_eq!(error.address, address);
        assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:0: "), "{error}");
        assert!(listeners.status().is_empty());
    }
}
