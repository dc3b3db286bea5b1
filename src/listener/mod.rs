//! Listeners: sockets, accept loops, and a client's connection up to the point where a request begins.
//!
//! It opens, bounds, times and closes connections. It never looks at a route or a backend: what it cannot serve it
//! hands to the `HttpService`.

mod accept;
mod client_limits;
mod conn;
mod connection_permit;
mod http1;
mod http2;
mod proxy_header;
mod service;
mod settings;
mod shutdown;
mod tls_accept;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

pub use conn::{Abort, Conn, Exchange};
pub use service::HttpService;
pub use settings::ListenerSettings;

use crate::config::ValidatedConfig;
use crate::config::listener_key::{ListenerKey, keyed};
use crate::config::schema;
use crate::config::values::Cidr;
pub use crate::message::request_framing::BadHead;
use crate::telemetry::meters::ListenerMeters;
use crate::telemetry::registry::Metrics;
use crate::tls;
pub use crate::tls::WELL_KNOWN;
use accept::Acceptor;
use client_limits::ClientConnections;
use shutdown::{ShutdownPhase, ShutdownPhaseControl};
use workers::Workers;

/// How often, and how far apart, an address in use is tried again.
const BIND_RETRIES: (u32, Duration) = (10, Duration::from_millis(20));

/// A socket that is bound but does not accept yet.
#[derive(Debug)]
pub struct Bound {
    configured: SocketAddr,
    actual: SocketAddr,
    socket: std::net::TcpListener,
}

/// A bound socket that a thread of traffic can accept from. Nothing that follows can fail.
#[derive(Debug)]
pub struct Registered {
    configured: SocketAddr,
    actual: SocketAddr,
    /// The thread of its accept loop.
    worker: usize,
    socket: tokio::net::TcpListener,
}

/// An address could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", advice(.source))]
pub struct BindError {
    /// The address as configured.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// What to do about an address that cannot be had.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has it (`ss -ltnp` says which)",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        io::ErrorKind::StorageFull => "; the kernel watches no more sockets (fs.epoll.max_user_watches)",
        _ => "",
    }
}

/// What is known of a running listener.
#[derive(Debug, Clone)]
pub struct ListenerStatus {
    /// What it is called.
    pub name: Arc<str>,
    /// The address as bound.
    pub address: SocketAddr,
    /// Connections open now.
    pub connections: u64,
}

/// All listeners that run, by their configured address and their place among equal ones (port 0 may repeat).
#[derive(Debug)]
pub struct Listeners {
    reserved: RawFd,
    workers: Arc<Workers>,
    /// Sockets registered so far: each on the next thread.
    started: AtomicUsize,
    metrics: Arc<Metrics>,
    open: TaskTracker,
    accepting: TaskTracker,
    tls: Arc<tls::CertStore>,
    running: Mutex<BTreeMap<ListenerKey, RunningListener>>,
    /// The process is stopping: no listener starts any more. Changed under the lock of `running`.
    closed: AtomicBool,
    /// Those that are gone, while they have connections: the end of the process is theirs too.
    closing: Mutex<Vec<ShutdownPhaseControl>>,
}

#[derive(Debug)]
struct RunningListener {
    actual: SocketAddr,
    settings: Arc<ArcSwap<ListenerSettings>>,
    meters: Arc<ListenerMeters>,
    phase: ShutdownPhaseControl,
}

/// What a document says of listeners.
#[derive(Debug, Clone, Copy)]
pub struct RequestedListener<'a> {
    /// The listeners.
    pub listeners: &'a [schema::ListenerConfig],
    /// Whose PROXY headers are believed.
    pub trusted: &'a [Cidr],
}

impl<'a> From<&'a schema::Document> for RequestedListener<'a> {
    fn from(document: &'a schema::Document) -> Self {
        Self { listeners: &document.listeners, trusted: &document.trusted_proxies }
    }
}

impl Listeners {
    /// None yet; connections will be spread over these single-threaded runtimes. `reserved`: descriptors from this number
    /// on are not for clients.
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

    /// Binds what is wanted and not there yet. Nothing accepts, nothing changes: dropping the result undoes it.
    ///
    /// # Errors
    /// The first address that cannot be had.
    pub fn bind_new(&self, wanted: &[schema::ListenerConfig]) -> Result<Vec<Registered>, BindError> {
        let mut new = keyed(wanted);
        {
            // Not held while an address in use is tried again: others wait for this lock, the end of the process too.
            let running = self.lock();
            new.retain(|(key, _)| !running.contains_key(key));
        }
        self.register(new.into_iter().map(|((address, _), _)| bind(address)).collect::<Result<_, _>>()?)
    }

    /// Registers bound sockets with the threads that are to accept from them, each with the next.
    ///
    /// # Errors
    /// The first one that cannot be registered; the kernel's bounds are the usual reason.
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

    /// Reads certificates and keys. Nothing changes: dropping the result undoes it.
    ///
    /// # Errors
    /// A gap in the checks of `config`.
    pub fn prepare(&self, checked: &ValidatedConfig) -> Result<tls::Prepared, tls::StoreError> {
        self.tls.prepare(checked)
    }

    /// The certificates of all listeners.
    pub fn certificates(&self) -> &Arc<tls::CertStore> {
        &self.tls
    }

    /// Makes the running listeners what is wanted: starts what `bind_new` bound, gives the others their settings,
    /// closes those that are gone. `fronts`: one for each runtime. Once all are closed it starts none.
    pub fn apply<F: HttpService>(
        &self,
        wanted: RequestedListener<'_>,
        prepared: tls::Prepared,
        new: Vec<Registered>,
        fronts: &Arc<[Arc<F>]>,
    ) {
        let mut running = self.lock();
        let trusted = wanted.trusted;
        let wanted = keyed(wanted.listeners);
        let gone = running.extract_if(.., |key, _| !wanted.iter().any(|(wanted, _)| wanted == key));
        self.let_go(gone.map(|(_, running)| running.phase).collect());
        let mut new = if self.are_closed() { Vec::new() } else { new }.into_iter();
        for ((key, listener), tls) in wanted.into_iter().zip(prepared.endpoints()) {
            let settings = ListenerSettings::new(key, listener, tls.clone(), self.tls.challenges(), trusted);
            if let Some(old) = running.get(&key) {
                old.settings.store(Arc::new(settings));
            } else if let Some(new) = new.next() {
                debug_assert_eq!(new.configured, key.0);
                running.insert(key, self.start(new, settings, fronts));
            }
        }
        self.tls.adopt(prepared);
    }

    /// What runs now.
    pub fn status(&self) -> Vec<ListenerStatus> {
        let running = self.lock();
        let status = |r: &RunningListener| ListenerStatus {
            name: Arc::clone(&r.settings.load().name),
            address: r.actual,
            connections: r.meters.open(),
        };
        running.values().map(status).collect()
    }

    /// Closes all of them; connections without a request end, the others when theirs is done.
    pub fn close(&self) {
        let running = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        for running in running.values() {
            running.phase.advance(ShutdownPhase::Leaving);
        }
        drop(running);
        for phase in self.closing.lock().iter() {
            phase.advance(ShutdownPhase::Leaving);
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

    fn let_go(&self, gone: Vec<ShutdownPhaseControl>) {
        let mut closing = self.closing.lock();
        closing.retain(ShutdownPhaseControl::is_watched);
        for phase in gone {
            phase.advance(ShutdownPhase::Closing);
            closing.push(phase);
        }
    }

    /// Returns once nothing accepts and no connection is open, those of listeners that are gone included.
    pub async fn drained(&self) {
        for tracker in [&self.accepting, &self.open] {
            // A tracker that is not closed never reports that it is empty.
            tracker.close();
            tracker.wait().await;
        }
    }

    /// How many connections are open, those of listeners that are gone included.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn start<F: HttpService>(
        &self,
        new: Registered,
        settings: ListenerSettings,
        fronts: &Arc<[Arc<F>]>,
    ) -> RunningListener {
        let runtime = self.workers.runtime(new.worker);
        let meters = self.metrics.listener(&settings.name);
        let running = RunningListener {
            actual: new.actual,
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            meters: Arc::clone(&meters),
            phase: ShutdownPhaseControl::new(),
        };
        let acceptor = Acceptor {
            socket: new.socket,
            local: new.actual,
            settings: Arc::clone(&running.settings),
            meters,
            fronts: Arc::clone(fronts),
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

/// Binds all that are wanted, before there is a thread to run them.
///
/// # Errors
/// The first address that cannot be had.
pub fn bind_all(wanted: &[schema::ListenerConfig]) -> Result<Vec<Bound>, BindError> {
    wanted.iter().map(|listener| bind(listener.address)).collect()
}

/// A listener that a reload removed closes its socket in its own time; one that comes back at once waits for it.
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
    // The kernel caps it at net.core.somaxconn.
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
        let sound = || bind(address).unwrap();
        assert_eq!(listeners.register(vec![sound(), sound()]).unwrap().len(), 2);
        // epoll takes no regular file.
        let file = tempfile::tempfile().unwrap();
        let unfit = Bound { configured: address, actual: address, socket: OwnedFd::from(file).into() };
        unfit.socket.set_nonblocking(true).unwrap();
        let error = listeners.register(vec![sound(), unfit]).unwrap_err();
        assert_eq!(error.address, address);
        assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:0: "), "{error}");
        assert!(listeners.status().is_empty());
    }
}
