//! Service discovery: the backends of an upstream from DNS or from a file, while Weir runs.
//!
//! No request waits for discovery. This module never changes the members: the manager merges a list into the upstream.
//! `records` and `schedule` are pure: they turn answers into a list and compute the next wait. `dns` queries DNS
//! through `dns_query`, `file` polls a file, and `state` holds the list across reloads. This file has the task of one
//! upstream. If discovery fails, the last good list stays. No result ever empties a list.

pub mod dns;
mod dns_query;
pub mod file;
pub mod records;
pub mod schedule;
pub mod state;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::dns::DnsClient;
use self::file::BackendFile;
use self::state::DiscoveryState;
use crate::clock;
use crate::config::schema;
use crate::upstream::task::Changed;

/// The result of one discovery run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiscoveryResult {
    /// The complete list; `None`: the previous list stays.
    pub list: Option<Vec<schema::BackendSettings>>,
    /// The errors, one line each. A list may still be present.
    pub wrong: Vec<String>,
    /// How long the answer is valid.
    pub ttl: Option<Duration>,
}

/// The source of a discovered list.
pub enum DiscoverySource {
    /// DNS.
    Names(Box<DnsClient>),
    /// A file.
    File(Box<BackendFile>),
}

impl DiscoverySource {
    /// The source that `discover` of the upstream configures; `None` without `discover`. `folder`: the base of relative
    /// paths.
    pub fn of(upstream: &schema::UpstreamSettings, folder: &Path) -> Option<Self> {
        let settings = upstream.discover.as_ref()?;
        match &settings.file {
            Some(path) => Some(Self::File(Box::new(BackendFile::new(folder.join(path), upstream)))),
            None => DnsClient::of(settings).map(|names| Self::Names(Box::new(names))),
        }
    }

    /// Reads the source once.
    pub async fn discover(&mut self) -> DiscoveryResult {
        match self {
            Self::Names(names) => names.lookup().await,
            Self::File(file) => file.read().await,
        }
    }

    /// Waits until the next run is due: for DNS after `wait`, for a file when it must be read again.
    async fn next(&mut self, wait: Duration) {
        match self {
            Self::Names(_) => tokio::time::sleep(wait).await,
            Self::File(file) => file.changed().await,
        }
    }
}

/// Runs the discovery of one upstream until the task is aborted. `changed` is called after the list has changed. It is
/// also called after every run until the first result has been merged.
pub async fn run(
    mut source: DiscoverySource,
    settings: schema::Discover,
    state: Arc<DiscoveryState>,
    changed: Changed,
) {
    let mut failures = 0;
    loop {
        let result = source.discover().await;
        failures = if result.wrong.is_empty() { 0 } else { failures + 1 };
        let wait = schedule::wait(&settings, result.ttl, failures, fastrand::f64());
        if state.take(result, clock::unix_ms()) {
            changed();
        }
        source.next(wait).await;
    }
}
