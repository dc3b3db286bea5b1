//! The HTTP/2 connections of one traffic thread, by backend and settings.
//!
//! A connection is in the pool as long as new streams may be opened on it. When it leaves the pool, its streams end in
//! their own time, and then it closes.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::connection::{Http2Connection, Http2Stream};
use crate::pool::backend_addr::is_in_use;
use crate::pool::connection_pool::PoolKey;

/// Interval between two sweeps of the connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The connections of one thread.
#[derive(Debug)]
pub(in crate::pool) struct Http2Pool {
    /// Maximum number of connections without a stream.
    idle_limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: BTreeMap<PoolKey, Vec<Pooled>>,
    watched: bool,
}

#[derive(Debug)]
struct Pooled {
    connection: Http2Connection,
    /// Maximum idle time.
    keep: Duration,
}

impl Http2Pool {
    /// An empty pool that keeps at most `idle_limit` connections without a stream.
    pub(in crate::pool) fn new(idle_limit: usize) -> Arc<Self> {
        Arc::new(Self { idle_limit, inner: Mutex::default() })
    }

    /// A stream on the first connection that can take another one. So few connections are used, and the surplus ones
    /// become idle.
    pub(super) fn open_stream(&self, key: PoolKey, now: Instant) -> Option<Http2Stream> {
        let mut inner = self.lock();
        let connections = inner.by_key.get_mut(&key)?;
        connections.retain(|pooled| !pooled.connection.is_over(pooled.keep, now));
        connections.iter().find_map(|pooled| pooled.connection.open_stream())
    }

    /// Adds a connection, which leaves the pool after it was idle for `keep`.
    pub(super) fn put(self: &Arc<Self>, key: PoolKey, connection: Http2Connection, keep: Duration) {
        let mut inner = self.lock();
        inner.by_key.entry(key).or_default().push(Pooled { connection, keep });
        if !std::mem::replace(&mut inner.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

/// Removes connections that are over or whose backend was removed. Ends when the pool is empty.
async fn watch(pool: Weak<Http2Pool>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut inner = pool.lock();
        inner.sweep(Instant::now(), pool.idle_limit, is_in_use);
        if inner.by_key.is_empty() {
            inner.watched = false;
            return;
        }
    }
}

impl Inner {
    fn sweep(&mut self, now: Instant, idle_limit: usize, is_in_use: impl Fn(u64) -> bool) {
        self.by_key.retain(|key, _| is_in_use(key.backend));
        for connections in self.by_key.values_mut() {
            connections.retain(|pooled| !pooled.connection.is_over(pooled.keep, now));
        }
        let mut idle: Vec<_> = self.idle_times(now).collect();
        if idle.len() > idle_limit {
            // The shortest times first: the others are over the limit.
            idle.sort_unstable();
            let longest = if idle_limit == 0 { Duration::ZERO } else { idle[idle_limit - 1] };
            for connections in self.by_key.values_mut() {
                let stays = |idle: Option<Duration>| idle.is_none_or(|idle| idle_limit > 0 && idle <= longest);
                connections.retain(|pooled| stays(pooled.connection.idle_for(now)));
            }
        }
        self.by_key.retain(|_, connections| !connections.is_empty());
    }

    fn idle_times(&self, now: Instant) -> impl Iterator<Item = Duration> + '_ {
        self.by_key.values().flatten().filter_map(move |pooled| pooled.connection.idle_for(now))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(50);
    const A: PoolKey = PoolKey { backend: 1, settings: 1 };
    const B: PoolKey = PoolKey { backend: 2, settings: 1 };

    /// A connection to a server that allows so many streams.
    async fn connection(streams: u32) -> (Http2Connection, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let server = tokio::spawn(async move {
            let mut builder = h2::server::Builder::new();
            let mut server =
                builder.max_concurrent_streams(streams).handshake::<_, bytes::Bytes>(theirs).await.unwrap();
            while server.accept().await.is_some() {}
        });
        let connection = Http2Connection::handshake(ours, -1).await.unwrap();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        (connection, server)
    }

    #[tokio::test]
    async fn streams_share_a_connection_up_to_the_limit_of_the_backend() {
        let pool = Http2Pool::new(8);
        let (one, _server) = connection(2).await;
        pool.put(A, one, LONG);
        let now = Instant::now();
        assert!(pool.open_stream(B, now).is_none());
        let first = pool.open_stream(A, now);
        let second = pool.open_stream(A, now);
        assert!(first.is_some() && second.is_some() && pool.open_stream(A, now).is_none());
        drop(first);
        assert!(pool.open_stream(A, now).is_some());
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_or_was_idle_for_too_long_is_not_used() {
        let pool = Http2Pool::new(8);
        let (one, server) = connection(8).await;
        pool.put(A, one.clone(), LONG);
        assert!(pool.open_stream(A, Instant::now() + LONG * 2).is_none());
        pool.put(A, one, LONG);
        assert!(pool.open_stream(A, Instant::now()).is_some());
        server.abort();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(pool.open_stream(A, Instant::now()).is_none());
    }

    #[tokio::test]
    async fn a_sweep_removes_the_connections_of_removed_backends_and_the_longest_idle_ones() {
        let pool = Http2Pool::new(1);
        for key in [A, A, B] {
            let (one, server) = connection(8).await;
            std::mem::forget(server);
            pool.put(key, one, LONG);
        }
        let counts = |pool: &Http2Pool| [A, B].map(|key| pool.lock().by_key.get(&key).map_or(0, Vec::len));
        let busy = pool.open_stream(B, Instant::now());
        pool.lock().sweep(Instant::now(), 1, |_| true);
        assert_eq!(counts(&pool), [1, 1], "one may be idle, and one has a stream");
        pool.lock().sweep(Instant::now(), 1, |backend| backend == B.backend);
        assert_eq!(counts(&pool), [0, 1]);
        drop(busy);
        pool.lock().sweep(Instant::now() + LONG * 2, 1, |_| true);
        assert_eq!(counts(&pool), [0, 0]);
    }
}
