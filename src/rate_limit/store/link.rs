//! The connection of one traffic thread to a store: pipelined, and opened again in the background.
//!
//! It is a circuit breaker too. After failures in a row it is given up, and no request waits for the store until a new
//! connection has answered. A connection that the server closes is replaced at once, before a request needs it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{oneshot, watch};

use super::Store;
use super::bucket_script::{BucketCall, BucketReply};
use super::dial::{DialError, Dialed, Driver};
use crate::telemetry::limit_meters::StoreResult;

/// Failures in a row after which the connection is given up.
const MAX_FAILURES: u32 = 3;

/// Maximum time to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause between two attempts to open a connection. Together with the timeout, the store is used again within 2 s after
/// it answers.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Time between two checks whether the store is still configured.
const ABANDONED_CHECK: Duration = Duration::from_secs(5);

/// The connection of one thread to one store.
pub(super) struct Link {
    /// Each thread has a link, and none of them keeps the store.
    store: Weak<Store>,
    state: Mutex<LinkState>,
    /// Changes when the first attempt to connect ends.
    tried: watch::Sender<bool>,
}

enum LinkState {
    /// No request has needed it.
    Unused,
    /// A task opens the connection.
    Down,
    Up(OpenLink),
}

#[derive(Clone)]
struct OpenLink {
    connection: MultiplexedConnection,
    digest: Arc<str>,
    failures: u32,
    /// Ends the connection when the last one of its users drops it.
    _end: Arc<oneshot::Sender<()>>,
    /// Distinguishes this connection from the next one.
    number: u64,
}

/// The store gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

impl Link {
    pub(super) fn new(store: &Arc<Store>) -> Arc<Self> {
        let store = Arc::downgrade(store);
        Arc::new(Self { store, state: Mutex::new(LinkState::Unused), tried: watch::Sender::new(false) })
    }

    /// Calls `forget` once the store belongs to no configuration any more. It must drop the last reference, which closes
    /// the connection.
    pub(super) fn when_abandoned(self: &Arc<Self>, forget: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let link = Arc::clone(self);
        tokio::spawn(async move {
            while !link.is_abandoned() {
                tokio::time::sleep(ABANDONED_CHECK).await;
            }
            forget(&link);
        });
    }

    pub(super) fn is_of(&self, store: &Arc<Store>) -> bool {
        std::ptr::eq(self.store.as_ptr(), Arc::as_ptr(store))
    }

    /// Whether the store belongs to no configuration any more.
    fn is_abandoned(&self) -> bool {
        self.store.strong_count() == 0
    }

    /// Calls the script. It waits no longer than the timeout of the store, and may be dropped at any time.
    pub(super) async fn call(self: &Arc<Self>, call: &BucketCall) -> Result<BucketReply, NoAnswer> {
        let Some(store) = self.store.upgrade() else { return Err(NoAnswer) };
        let Some(open) = self.open(store.timeout()).await else {
            store.meters.count(StoreResult::Skipped, None);
            return Err(NoAnswer);
        };
        let started = Instant::now();
        match tokio::time::timeout(store.timeout(), ask(open.clone(), call)).await {
            Ok(Ok(reply)) => {
                store.meters.count(StoreResult::Ok, Some(started.elapsed()));
                store.found();
                self.worked(open.number);
                Ok(reply)
            }
            Ok(Err(error)) => {
                store.meters.count(StoreResult::Error, None);
                self.failed(&store, open.number, &error.to_string());
                Err(NoAnswer)
            }
            Err(_) => {
                store.meters.count(StoreResult::Timeout, None);
                self.failed(&store, open.number, "no answer in time");
                Err(NoAnswer)
            }
        }
    }

    /// The connection. The first request waits for it, but no longer than for an answer.
    async fn open(self: &Arc<Self>, timeout: Duration) -> Option<OpenLink> {
        if let LinkState::Up(open) = &*self.state.lock() {
            return Some(open.clone());
        }
        self.start();
        let mut tried = self.tried.subscribe();
        if !*tried.borrow() {
            let _ = tokio::time::timeout(timeout, tried.changed()).await;
        }
        match &*self.state.lock() {
            LinkState::Up(open) => Some(open.clone()),
            LinkState::Unused | LinkState::Down => None,
        }
    }

    fn start(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if matches!(*state, LinkState::Unused) {
            *state = LinkState::Down;
            tokio::spawn(keep_connected(Arc::downgrade(self), Duration::ZERO));
        }
    }

    fn worked(&self, number: u64) {
        if let LinkState::Up(open) = &mut *self.state.lock()
            && open.number == number
        {
            open.failures = 0;
        }
    }

    fn failed(self: &Arc<Self>, store: &Store, number: u64, why: &str) {
        let mut state = self.state.lock();
        let LinkState::Up(open) = &mut *state else { return };
        if open.number != number {
            return;
        }
        open.failures += 1;
        if open.failures >= MAX_FAILURES {
            *state = LinkState::Down;
            drop(state);
            store.lost(why);
            // A server that connects and fails again must not be asked without a pause.
            tokio::spawn(keep_connected(Arc::downgrade(self), RETRY_PAUSE));
        }
    }

    /// Takes a new connection. The receiver ends when it has no user any more.
    fn opened(&self, connection: MultiplexedConnection, digest: String) -> (u64, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let number = fastrand::u64(..);
        let open = OpenLink { connection, digest: digest.into(), failures: 0, _end: Arc::new(end), number };
        *self.state.lock() = LinkState::Up(open);
        self.tried.send_replace(true);
        (number, ended)
    }

    /// The server has closed a connection. Returns whether it was the one in use.
    fn closed(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        let was_used = matches!(&*state, LinkState::Up(open) if open.number == number);
        if was_used {
            *state = LinkState::Down;
        }
        was_used
    }
}

async fn ask(mut open: OpenLink, call: &BucketCall) -> RedisResult<BucketReply> {
    let send = async |connection: &mut MultiplexedConnection, command: Cmd| -> RedisResult<Value> {
        // A reply of an error is a value here.
        connection.send_packed_command(&command).await?.extract_error()
    };
    let first = send(&mut open.connection, call.by_digest(&open.digest)).await;
    let value = match first {
        // The scripts of the server were flushed, or the server was replaced.
        Err(error) if error.code() == Some("NOSCRIPT") => send(&mut open.connection, call.by_text()).await?,
        other => other?,
    };
    BucketReply::of(value).ok_or_else(|| (redis::ErrorKind::UnexpectedReturnType, "not a reply of the script").into())
}

/// Opens the connection after `pause`, and again when the server has closed it. Ends when the link gives the connection
/// up, or when the store is gone.
async fn keep_connected(weak: Weak<Link>, mut pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(link) = weak.upgrade() else { return };
        let Some(store) = link.store.upgrade() else { return };
        pause = RETRY_PAUSE;
        match connect(&store).await {
            Ok(Dialed { connection, digest, driver }) => {
                let (number, ended) = link.opened(connection, digest);
                drop((link, store));
                let opened = Instant::now();
                if !server_closes(driver, ended).await || !weak.upgrade().is_some_and(|link| link.closed(number)) {
                    return;
                }
                pause = RETRY_PAUSE.saturating_sub(opened.elapsed());
            }
            Err(error) => {
                store.lost(&error.to_string());
                link.tried.send_replace(true);
            }
        }
    }
}

/// Waits for the end of a connection. Returns whether the server has closed it.
async fn server_closes(mut driver: Driver, ended: oneshot::Receiver<()>) -> bool {
    tokio::select! {
        () = driver.closed() => true,
        _ = ended => false,
    }
}

/// A connection that answers within the timeout of the store.
async fn connect(store: &Store) -> Result<Dialed, DialError> {
    let opening = tokio::time::timeout(CONNECT_TIMEOUT, store.dialer.connect());
    let mut dialed = opening.await.map_err(|_| DialError::Timeout)??;
    let ping = redis::cmd("PING");
    let answer = tokio::time::timeout(store.timeout(), dialed.connection.send_packed_command(&ping)).await;
    answer.map_err(|_| DialError::Timeout)??;
    Ok(dialed)
}
