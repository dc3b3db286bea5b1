//! The connection of one traffic thread to a store: pipelined, and opened again in the background.
//!
//! It is a circuit breaker too. After failures in a row it is given up, and no request waits for the store until a new
//! connection has answered.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::watch;

use super::Store;
use super::bucket_script::{BucketCall, BucketReply};
use super::dial::DialError;
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
    store: Arc<Store>,
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
    /// Distinguishes this connection from the next one.
    number: u64,
}

/// The store gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

impl Link {
    pub(super) fn new(store: Arc<Store>) -> Arc<Self> {
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
        Arc::ptr_eq(&self.store, store)
    }

    /// Whether the store belongs to no configuration any more.
    fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.store) == 1
    }

    /// Calls the script. It waits no longer than the timeout of the store, and may be dropped at any time.
    pub(super) async fn call(self: &Arc<Self>, call: &BucketCall) -> Result<BucketReply, NoAnswer> {
        let Some(open) = self.open().await else {
            self.store.meters.count(StoreResult::Skipped, None);
            return Err(NoAnswer);
        };
        let started = Instant::now();
        match tokio::time::timeout(self.store.timeout(), ask(open.clone(), call)).await {
            Ok(Ok(reply)) => {
                self.store.meters.count(StoreResult::Ok, Some(started.elapsed()));
                self.worked(open.number);
                Ok(reply)
            }
            Ok(Err(error)) => {
                self.store.meters.count(StoreResult::Error, None);
                self.failed(open.number, &error.to_string());
                Err(NoAnswer)
            }
            Err(_) => {
                self.store.meters.count(StoreResult::Timeout, None);
                self.failed(open.number, "no answer in time");
                Err(NoAnswer)
            }
        }
    }

    /// The connection. The first request waits for it, but no longer than for an answer.
    async fn open(self: &Arc<Self>) -> Option<OpenLink> {
        if let LinkState::Up(open) = &*self.state.lock() {
            return Some(open.clone());
        }
        self.start();
        let mut tried = self.tried.subscribe();
        if !*tried.borrow() {
            let _ = tokio::time::timeout(self.store.timeout(), tried.changed()).await;
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
            tokio::spawn(keep_connecting(Arc::downgrade(self)));
        }
    }

    fn worked(&self, number: u64) {
        if let LinkState::Up(open) = &mut *self.state.lock()
            && open.number == number
        {
            open.failures = 0;
        }
    }

    fn failed(self: &Arc<Self>, number: u64, why: &str) {
        let mut state = self.state.lock();
        let LinkState::Up(open) = &mut *state else { return };
        if open.number != number {
            return;
        }
        open.failures += 1;
        if open.failures >= MAX_FAILURES {
            *state = LinkState::Down;
            drop(state);
            self.store.lost(why);
            tokio::spawn(keep_connecting(Arc::downgrade(self)));
        }
    }

    fn opened(&self, connection: MultiplexedConnection, digest: String) {
        let open = OpenLink { connection, digest: digest.into(), failures: 0, number: fastrand::u64(..) };
        *self.state.lock() = LinkState::Up(open);
        self.tried.send_replace(true);
        self.store.found();
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

/// Opens the connection. Tries again until it succeeds or the store is gone.
async fn keep_connecting(link: Weak<Link>) {
    while let Some(link) = link.upgrade() {
        match connect(&link.store).await {
            Ok((connection, digest)) => return link.opened(connection, digest),
            Err(error) => link.store.lost(&error.to_string()),
        }
        link.tried.send_replace(true);
        drop(link);
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// A connection that answers within the timeout of the store.
async fn connect(store: &Store) -> Result<(MultiplexedConnection, String), DialError> {
    let opening = tokio::time::timeout(CONNECT_TIMEOUT, store.dialer.connect());
    let (mut connection, digest) = opening.await.map_err(|_| DialError::Timeout)??;
    let ping = redis::cmd("PING");
    let answer = tokio::time::timeout(store.timeout(), connection.send_packed_command(&ping)).await;
    answer.map_err(|_| DialError::Timeout)??;
    Ok((connection, digest))
}
