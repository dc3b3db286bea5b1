//! The keys that were fetched from issuers. They outlive the configurations that use them.
//!
//! A configuration holds [`FetchedKeys`]. The store finds them again by their location, so a reload keeps the keys and
//! their schedule. A task on the control runtime fetches them, whether or not requests come. It ends when no
//! configuration holds them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::fetch::{FETCH_TIMEOUT, FetchedSet, fetch};
use super::{FetchError, FetchSchedule, JwksLocation, KeySet, SkippedKey};
use crate::clock;

/// How long a request waits for the fetch that an unknown key id causes: a discovery document and a key set.
const MAX_WAIT: Duration = FETCH_TIMEOUT.saturating_mul(2);

/// The fetched keys of all locations that are in use.
#[derive(Debug, Default)]
pub struct KeyStore {
    by_location: Mutex<BTreeMap<JwksLocation, Weak<FetchedKeys>>>,
}

/// The keys of one location.
#[derive(Debug)]
pub struct FetchedKeys {
    location: JwksLocation,
    current: ArcSwapOption<KeySet>,
    progress: Mutex<FetchProgress>,
    /// The number of fetches that have ended.
    ended: watch::Sender<u64>,
    /// Wakes the task that fetches.
    wake: Arc<Notify>,
    has_task: AtomicBool,
}

#[derive(Debug)]
struct FetchProgress {
    schedule: FetchSchedule,
    loaded_at: Option<u64>,
    last_error: Option<String>,
    skipped: Vec<SkippedKey>,
}

/// The state of the keys of one location, for the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchStatus {
    /// The URL of the key set, or the issuer.
    pub location: String,
    /// The number of keys. 0: none were loaded yet.
    pub keys: usize,
    /// When they were loaded, in milliseconds of the monotonic clock.
    pub loaded_at: Option<u64>,
    /// Failed fetches since the last success.
    pub failures: u32,
    /// The error of the last fetch, if it failed.
    pub last_error: Option<String>,
}

impl KeyStore {
    /// The keys of a location: those in use, or new ones without keys. It does no I/O.
    pub fn keys(&self, location: &JwksLocation) -> Arc<FetchedKeys> {
        let mut by_location = self.by_location.lock();
        by_location.retain(|_, keys| keys.strong_count() > 0);
        if let Some(keys) = by_location.get(location).and_then(Weak::upgrade) {
            return keys;
        }
        let keys = Arc::new(FetchedKeys::new(location.clone()));
        by_location.insert(location.clone(), Arc::downgrade(&keys));
        keys
    }

    /// Starts the fetches of all locations that have none.
    pub fn start(&self, runtime: &Handle) {
        let idle = |keys: &Arc<FetchedKeys>| !keys.has_task.swap(true, Relaxed);
        for keys in self.in_use().into_iter().filter(idle) {
            runtime.spawn(keep_fresh(Arc::downgrade(&keys), Arc::clone(&keys.wake)));
        }
    }

    /// The state of all locations in use.
    pub fn status(&self) -> Vec<FetchStatus> {
        self.in_use().iter().map(|keys| keys.status()).collect()
    }

    fn in_use(&self) -> Vec<Arc<FetchedKeys>> {
        self.by_location.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl FetchedKeys {
    pub(super) fn new(location: JwksLocation) -> Self {
        // The first fetch is due, whatever the time is.
        let schedule = FetchSchedule::new(0);
        Self {
            location,
            current: ArcSwapOption::empty(),
            progress: Mutex::new(FetchProgress { schedule, loaded_at: None, last_error: None, skipped: Vec::new() }),
            ended: watch::Sender::new(0),
            wake: Arc::new(Notify::new()),
            has_task: AtomicBool::new(false),
        }
    }

    /// The last keys that were loaded. `None`: none were loaded yet.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Fetches the keys again because `seen` lacks the key of a token. Returns keys other than `seen`. Returns `None`
    /// if there are none, or if the last fetch for this reason was less than 30 s ago.
    pub async fn newer_than(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let newer = || self.current().filter(|keys| !Arc::ptr_eq(keys, seen));
        let mut ended = self.ended.subscribe();
        if let Some(keys) = newer() {
            return Some(keys);
        }
        if !self.progress.lock().schedule.unknown_key(clock::now_ms()) {
            return None;
        }
        self.wake.notify_one();
        let _ = tokio::time::timeout(MAX_WAIT, ended.changed()).await;
        newer()
    }

    /// When a client without keys may try again.
    pub fn retry_after(&self) -> Duration {
        self.progress.lock().schedule.retry_after(clock::now_ms())
    }

    /// The state of the keys.
    pub fn status(&self) -> FetchStatus {
        let progress = self.progress.lock();
        FetchStatus {
            location: self.location.source.as_str().to_owned(),
            keys: self.current.load().as_ref().map_or(0, |keys| keys.len()),
            loaded_at: progress.loaded_at,
            failures: progress.schedule.failures(),
            last_error: progress.last_error.clone(),
        }
    }

    /// Begins a fetch if it is due. Otherwise returns the time until then.
    pub(super) fn begin_or_wait(&self, now: u64) -> Option<Duration> {
        let mut progress = self.progress.lock();
        let wait = progress.schedule.wait(now);
        if wait.is_zero() {
            progress.schedule.begin();
        }
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// A fetch ended. Keys that were loaded stay if it failed.
    pub(super) fn finish(&self, result: Result<FetchedSet, FetchError>, now: u64) {
        match result {
            Ok(set) => self.publish(set, now),
            Err(error) => self.record_failure(&error, now),
        }
        self.ended.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn publish(&self, set: FetchedSet, now: u64) {
        let (from, keys) = (self.location.source.as_str(), set.parsed.keys.len());
        self.current.store(Some(Arc::new(set.parsed.keys)));
        let mut progress = self.progress.lock();
        if progress.loaded_at.is_none() || progress.schedule.failures() > 0 {
            tracing::info!(from, keys, "keys for tokens loaded");
        }
        if progress.skipped != set.parsed.skipped {
            for key in set.parsed.skipped.iter().filter(|key| key.broken) {
                tracing::warn!(from, index = key.index, "a key for tokens is left out: {}", key.reason);
            }
        }
        progress.schedule.succeeded(now, set.max_age, fastrand::f64());
        (progress.loaded_at, progress.last_error, progress.skipped) = (Some(now), None, set.parsed.skipped);
    }

    fn record_failure(&self, error: &FetchError, now: u64) {
        let mut progress = self.progress.lock();
        let message = error.to_string();
        if progress.last_error.as_ref() != Some(&message) {
            let from = self.location.source.as_str();
            match progress.loaded_at {
                Some(_) => {
                    tracing::warn!(from, "keys for tokens cannot be fetched; the last ones stay in use: {message}")
                }
                None => {
                    tracing::error!(from, "keys for tokens cannot be fetched; tokens are answered with 503: {message}")
                }
            }
        }
        progress.schedule.failed(now, fastrand::f64());
        progress.last_error = Some(message);
    }
}

impl Drop for FetchedKeys {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Fetches keys when they are due, until no configuration holds them.
async fn keep_fresh(keys: Weak<FetchedKeys>, wake: Arc<Notify>) {
    while let Some(held) = keys.upgrade() {
        if let Some(wait) = held.begin_or_wait(clock::now_ms()) {
            drop(held);
            let _ = tokio::time::timeout(wait, wake.notified()).await;
        } else {
            let result = fetch(&held.location).await;
            held.finish(result, clock::now_ms());
        }
    }
}
