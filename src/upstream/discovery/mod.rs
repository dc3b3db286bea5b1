//! Backends that are found while Weir runs: by name in DNS, or in a file.
//!
//! `answer` and `schedule` are pure: what an answer makes of the list, and when the next look is due. `names` asks DNS (by `asker`),
//! `file` looks at a file, `found` keeps the list over reloads, and here they are put together: the task of one
//! upstream. Whatever fails, the last good list stays, and no look ever empties a list. Nothing here touches
//! members: the registry brings what was found into the upstream. No request ever waits for a look.

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

/// What a look came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiscoveryResult {
    /// The whole list as it is now; nothing: the one before stays.
    pub list: Option<Vec<schema::BackendSettings>>,
    /// What went wrong, in whole or in part, a line each.
    pub wrong: Vec<String>,
    /// How long the answer may be relied on.
    pub ttl: Option<Duration>,
}

/// Where backends are looked for.
pub enum DiscoverySource {
    /// In DNS.
    Names(Box<DnsClient>),
    /// In a file.
    File(Box<BackendFile>),
}

impl DiscoverySource {
    /// As the upstream's `discover` says; nothing where it says nothing. `folder`: what a file's path is relative to.
    pub fn of(upstream: &schema::UpstreamSettings, folder: &Path) -> Option<Self> {
        let settings = upstream.discover.as_ref()?;
        match &settings.file {
            Some(path) => Some(Self::File(Box::new(BackendFile::new(folder.join(path), upstream)))),
            None => DnsClient::of(settings).map(|names| Self::Names(Box::new(names))),
        }
    }

    /// Looks once.
    pub async fn discover(&mut self) -> DiscoveryResult {
        match self {
            Self::Names(names) => names.lookup().await,
            Self::File(file) => file.read().await,
        }
    }

    /// Waits until the next look is due: for so long, or until the file is another.
    async fn next(&mut self, wait: Duration) {
        match self {
            Self::Names(_) => tokio::time::sleep(wait).await,
            Self::File(file) => file.changed().await,
        }
    }
}

/// Looks for the backends of one upstream for as long as it is configured so. `changed` is called after the list has
/// changed, and after the first look whatever it came to.
pub async fn run(
    mut source: DiscoverySource,
    settings: schema::Discover,
    found: Arc<DiscoveryState>,
    changed: Changed,
) {
    let mut failures = 0;
    loop {
        let look = source.discover().await;
        failures = if look.wrong.is_empty() { 0 } else { failures + 1 };
        let wait = schedule::wait(&settings, look.ttl, failures, fastrand::f64());
        if found.take(look, clock::unix_ms()) {
            changed();
        }
        source.next(wait).await;
    }
}
