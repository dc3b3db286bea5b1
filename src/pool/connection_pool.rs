//! Idle HTTP/1 connections of one traffic thread, by backend and settings. LIFO.
//!
//! It never opens a connection. It never returns a connection that the backend has closed or on which unexpected bytes
//! have arrived. Because of the LIFO order, surplus connections grow old and are closed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_util::either::Either;

use crate::pool::backend_addr::is_in_use;
use crate::pool::http2::Http2Pool;

/// Interval between two sweeps of the idle connections.
const IDLE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Connections with the same key are interchangeable: same backend addresses, same settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolKey {
    /// `BackendAddr::generation`.
    pub(super) backend: u64,
    /// `TransportSettings::group_key`.
    pub(super) settings: u64,
}

/// A TCP or Unix socket.
pub(super) type PlainSocket = Either<TcpStream, UnixStream>;

/// The byte stream to a backend. The second kind has TLS, or begins with a PROXY header.
pub(super) type BackendSocket = Either<PlainSocket, Stream>;

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct IdleConn {
    pub(super) socket: BackendSocket,
    /// The timer moves with the connection from request to request. Resetting it is cheaper than making a new one.
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    until: Instant,
}

/// The idle connections of one thread.
#[derive(Debug)]
pub struct ConnectionPool {
    /// Maximum number of idle connections.
    limit: usize,
    waiting: Mutex<Inner>,
    /// The connections of HTTP/2.
    pub(super) http2: Arc<Http2Pool>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: BTreeMap<PoolKey, VecDeque<IdleConn>>,
    count: usize,
    /// The key of the last eviction. The next eviction begins after it, so that evictions rotate over the backends.
    next_evicted: Option<PoolKey>,
    watched: bool,
}

impl ConnectionPool {
    /// An empty pool for at most `limit` connections.
    pub fn new(limit: usize) -> Self {
        Self { limit, waiting: Mutex::default(), http2: Http2Pool::new(limit) }
    }

    /// Removes a usable connection. The most recently used one is tried first.
    pub(super) fn take(&self, key: PoolKey, now: Instant) -> Option<IdleConn> {
        let mut waiting = self.lock();
        loop {
            let mut idle = waiting.pop(key)?;
            if idle.until > now && is_quiet(&mut idle.socket) {
                return Some(idle);
            }
        }
    }

    /// Adds a connection, which expires after `keep`.
    pub(super) fn put(
        self: &Arc<Self>,
        key: PoolKey,
        socket: BackendSocket,
        timer: Option<Pin<Box<Sleep>>>,
        keep: Duration,
    ) {
        let until = Instant::now() + keep;
        let mut waiting = self.lock();
        if waiting.count >= self.limit {
            waiting.make_room();
        }
        if self.limit > 0 {
            waiting.push(key, IdleConn { socket, timer, until });
        }
        if !std::mem::replace(&mut waiting.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.waiting.lock()
    }
}

/// Closes connections that are expired, closed by the backend or of an outdated generation. Ends when the pool is
/// empty.
async fn watch(pool: Weak<ConnectionPool>) {
    loop {
        tokio::time::sleep(IDLE_SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut waiting = pool.lock();
        waiting.drop_idle(Instant::now(), is_in_use);
        if waiting.count == 0 {
            waiting.watched = false;
            return;
        }
    }
}

impl Inner {
    fn push(&mut self, key: PoolKey, idle: IdleConn) {
        self.by_key.entry(key).or_default().push_back(idle);
        self.count += 1;
    }

    fn pop(&mut self, key: PoolKey) -> Option<IdleConn> {
        let idle = self.by_key.get_mut(&key)?.pop_back()?;
        self.count -= 1;
        Some(idle)
    }

    /// Evicts the oldest connection of the next key that has one.
    fn make_room(&mut self) {
        let after = self.next_evicted.and_then(|last| {
            let range = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            self.by_key.range(range).find(|(_, idle)| !idle.is_empty()).map(|(key, _)| *key)
        });
        let first = || self.by_key.iter().find(|(_, idle)| !idle.is_empty()).map(|(key, _)| *key);
        self.next_evicted = after.or_else(first);
        if let Some(oldest) = self.next_evicted.and_then(|key| self.by_key.get_mut(&key)?.pop_front()) {
            self.count -= 1;
            drop(oldest);
        }
    }

    fn drop_idle(&mut self, now: Instant, is_in_use: impl Fn(u64) -> bool) {
        self.by_key.retain(|key, _| is_in_use(key.backend));
        for idle in self.by_key.values_mut() {
            idle.retain_mut(|idle| idle.until > now && is_quiet(&mut idle.socket));
        }
        self.by_key.retain(|_, idle| !idle.is_empty());
        self.count = self.by_key.values().map(VecDeque::len).sum();
    }
}

/// Whether nothing has arrived, neither bytes nor the end of stream. It costs a system call only if tokio has seen
/// readiness.
///
/// TLS records without data, such as session tickets, are processed and do not count.
fn is_quiet(socket: &mut BackendSocket) -> bool {
    let mut byte = [0];
    let read = match socket {
        Either::Left(Either::Left(tcp)) => tcp.try_read(&mut byte),
        Either::Left(Either::Right(unix)) => unix.try_read(&mut byte),
        Either::Right(stream) => {
            let mut cx = Context::from_waker(Waker::noop());
            return Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending();
        }
    };
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(50);

    async fn pair() -> (BackendSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Either::Left(Either::Left(ours)), listener.accept().await.unwrap().0)
    }

    fn port(idle: &IdleConn) -> u16 {
        match &idle.socket {
            Either::Left(Either::Left(tcp)) => tcp.local_addr().unwrap().port(),
            _ => 0,
        }
    }

    const A: PoolKey = PoolKey { backend: 1, settings: 1 };
    const B: PoolKey = PoolKey { backend: 2, settings: 1 };

    #[tokio::test]
    async fn connections_are_reused_lifo_and_only_by_their_own_key() {
        let pool = Arc::new(ConnectionPool::new(8));
        let mut ports = Vec::new();
        let mut others = Vec::new();
        for _ in 0..2 {
            let (ours, theirs) = pair().await;
            ports.push(theirs.peer_addr().unwrap().port());
            pool.put(A, ours, None, LONG);
            others.push(theirs);
        }
        assert!(pool.take(B, Instant::now()).is_none());
        assert!(pool.take(PoolKey { settings: 2, ..A }, Instant::now()).is_none());
        assert_eq!(pool.take(A, Instant::now()).map(|idle| port(&idle)), Some(ports[1]));
        assert_eq!(pool.take(A, Instant::now()).map(|idle| port(&idle)), Some(ports[0]));
        assert!(pool.take(A, Instant::now()).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_the_backend_closed_or_wrote_to_is_not_reused() {
        for write in [false, true] {
            let pool = Arc::new(ConnectionPool::new(8));
            let (ours, mut theirs) = pair().await;
            if let Either::Left(Either::Left(tcp)) = &ours {
                let mut byte = [0];
                assert!(tcp.try_read(&mut byte).is_err());
            }
            pool.put(A, ours, None, LONG);
            if write {
                theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
            }
            drop(theirs);
            let until = Instant::now() + Duration::from_secs(10);
            while pool.lock().count > 0 {
                assert!(Instant::now() < until, "still kept");
                pool.lock().drop_idle(Instant::now(), |_| true);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(pool.take(A, Instant::now()).is_none());
        }
    }

    #[tokio::test]
    async fn old_connections_are_closed_and_evictions_alternate_between_backends() {
        let pool = Arc::new(ConnectionPool::new(3));
        let mut others = Vec::new();
        for key in [A, A, B, B, B] {
            let (ours, theirs) = pair().await;
            pool.put(key, ours, None, LONG);
            others.push(theirs);
        }
        let counts = |pool: &ConnectionPool| {
            let waiting = pool.lock();
            (waiting.count, [A, B].map(|key| waiting.by_key.get(&key).map_or(0, VecDeque::len)))
        };
        assert_eq!(counts(&pool), (3, [1, 2]));
        pool.lock().drop_idle(Instant::now(), |backend| backend == B.backend);
        assert_eq!(counts(&pool), (2, [0, 2]), "one is no backend any more");
        pool.lock().drop_idle(Instant::now() + LONG + LONG, |_| true);
        assert_eq!(counts(&pool), (0, [0, 0]));
    }
}
