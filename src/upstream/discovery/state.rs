//! Discovered backends of an upstream and the progress of discovery, kept across reloads.
//!
//! All generations of the upstream with the same source share them. So a reload neither loses addresses nor waits for
//! them. This module does no I/O.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::DiscoveryResult;
use crate::config::schema::{BackendSettings, Discover};
use crate::config::values::Period;
use crate::telemetry::meters::UpstreamMeters;

/// Maximum number of log lines for one failed run; the rest are only counted.
const LINES: usize = 20;

/// The discovered list of an upstream and its progress.
#[derive(Debug)]
pub struct DiscoveryState {
    upstream: Arc<str>,
    origin: DiscoveryOrigin,
    list: ArcSwap<Vec<BackendSettings>>,
    state: Mutex<DiscoveryProgress>,
    looked: AtomicBool,
    settled: AtomicBool,
    meters: Arc<UpstreamMeters>,
}

/// The source of the list. While it is equal, the list survives a reload.
#[derive(Debug, Clone, PartialEq)]
struct DiscoveryOrigin {
    source: Discover,
    folder: PathBuf,
}

/// Progress of discovery.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiscoveryProgress {
    /// Time of the last run without errors, in milliseconds since 1970; 0: never.
    pub last_success_ms: u64,
    /// Errors of the last run; empty if it succeeded.
    pub wrong: Vec<String>,
    /// Number of consecutive runs with errors.
    pub failures: u64,
}

impl DiscoveryState {
    /// Creates a state with a list that is already known, such as the list of a file at the start.
    pub fn new(
        upstream: &Arc<str>,
        source: &Discover,
        folder: &Path,
        list: Vec<BackendSettings>,
        meters: Arc<UpstreamMeters>,
    ) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            origin: DiscoveryOrigin::of(source, folder),
            looked: AtomicBool::new(!list.is_empty()),
            list: ArcSwap::from_pointee(list),
            state: Mutex::default(),
            settled: AtomicBool::new(false),
            meters,
        }
    }

    /// Whether it has this source.
    pub fn is_of(&self, source: &Discover, folder: &Path) -> bool {
        self.origin == DiscoveryOrigin::of(source, folder)
    }

    /// The base of a relative file path.
    pub fn folder(&self) -> &Path {
        &self.origin.folder
    }

    /// The current list.
    pub fn list(&self) -> Arc<Vec<BackendSettings>> {
        self.list.load_full()
    }

    /// The source as text, in the words of the configuration.
    pub fn source(&self) -> String {
        let Discover { dns, port, srv, file, .. } = &self.origin.source;
        match (dns, srv, file) {
            (Some(name), ..) => format!("dns {name}:{}", port.unwrap_or_default()),
            (_, Some(name), _) => format!("srv {name}"),
            (.., Some(path)) => format!("file {}", path.display()),
            _ => String::new(),
        }
    }

    /// The progress of discovery.
    pub fn state(&self) -> DiscoveryProgress {
        self.lock().clone()
    }

    /// Stores a result. Returns whether the upstream must be rebuilt: the list changed, or no result was merged before.
    pub fn take(&self, result: DiscoveryResult, unix_ms: u64) -> bool {
        let DiscoveryResult { list, wrong, .. } = result;
        let whole = wrong.is_empty();
        self.meters.count_discovery(whole, unix_ms);
        let before = {
            let mut state = self.lock();
            let next = DiscoveryProgress {
                last_success_ms: if whole { unix_ms } else { state.last_success_ms },
                failures: if whole { 0 } else { state.failures + 1 },
                wrong,
            };
            std::mem::replace(&mut *state, next)
        };
        self.say(&before);
        let changed = list.filter(|list| **self.list.load() != *list);
        let needs_rebuild = changed.is_some() || !self.was_looked_for();
        changed.into_iter().for_each(|list| self.list.store(Arc::new(list)));
        needs_rebuild
    }

    /// Records that the first result has been merged into the upstream.
    pub fn set_looked_for(&self) {
        self.looked.store(true, Ordering::Release);
    }

    /// Whether a first result has been merged, or a list was known from the start.
    pub fn was_looked_for(&self) -> bool {
        self.looked.load(Ordering::Acquire)
    }

    /// Whether all backends of the first result have a health verdict. Later backends do not delay readiness.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Records that all backends of the first result have a health verdict.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Logs the first failure in a row, each change of the errors, and the recovery.
    fn say(&self, before: &DiscoveryProgress) {
        let (upstream, source, now) = (&*self.upstream, self.source(), self.state());
        if now.wrong.is_empty() {
            if !before.wrong.is_empty() {
                let failures = before.failures;
                tracing::info!(upstream, source, failures, "discovery works again");
            }
            return;
        }
        if now.wrong == before.wrong {
            return;
        }
        let kept = self.list.load().len();
        for line in now.wrong.iter().take(LINES) {
            tracing::warn!(upstream, source, kept, "discovery fails; what was found before stays: {line}");
        }
        if now.wrong.len() > LINES {
            tracing::warn!(upstream, source, "and {} lines more", now.wrong.len() - LINES);
        }
    }

    fn lock(&self) -> MutexGuard<'_, DiscoveryProgress> {
        self.state.lock()
    }
}

impl DiscoveryOrigin {
    /// Sets the TTL limits to zero, because they do not identify the source.
    fn of(source: &Discover, folder: &Path) -> Self {
        let source = Discover { min_ttl: Period::ZERO, max_ttl: Period::ZERO, ..source.clone() };
        Self { source, folder: folder.to_owned() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn discover(yaml: &str) -> Discover {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn result(addresses: &[&str], wrong: &[&str]) -> DiscoveryResult {
        let list = addresses.iter().map(|a| serde_yaml::from_str(&format!("address: '{a}'")).unwrap()).collect();
        let list = Some(list).filter(|list: &Vec<_>| !list.is_empty());
        DiscoveryResult { list, wrong: wrong.iter().map(|line| (*line).to_owned()).collect(), ttl: None }
    }

    fn discovery_state() -> DiscoveryState {
        let meters = Arc::new(UpstreamMeters::new("u"));
        DiscoveryState::new(&"u".into(), &discover("{dns: api.internal, port: 80}"), Path::new(""), Vec::new(), meters)
    }

    #[test]
    fn the_last_good_list_stays_through_failures() {
        let discovery_state = discovery_state();
        assert!(!discovery_state.was_looked_for());
        assert!(
            discovery_state.take(result(&[], &["timed out"]), 5),
            "the first result triggers a rebuild even if it failed"
        );
        assert!(!discovery_state.was_looked_for() && discovery_state.list().is_empty(), "before the result is merged");
        discovery_state.set_looked_for();
        assert_eq!(
            discovery_state.state(),
            DiscoveryProgress { last_success_ms: 0, wrong: vec!["timed out".into()], failures: 1 }
        );
        assert!(discovery_state.take(result(&["10.0.0.1:80"], &[]), 6));
        assert!(
            !discovery_state.take(result(&[], &["refused"]), 7) && !discovery_state.take(result(&[], &["refused"]), 8)
        );
        assert_eq!(discovery_state.list().len(), 1);
        assert_eq!(
            discovery_state.state(),
            DiscoveryProgress { last_success_ms: 6, wrong: vec!["refused".into()], failures: 2 }
        );
        assert!(!discovery_state.take(result(&["10.0.0.1:80"], &[]), 9), "an equal list");
        assert!(
            discovery_state.take(result(&["10.0.0.2:80"], &["one target is gone"]), 10),
            "a partial list counts as a change"
        );
        assert_eq!(discovery_state.state().last_success_ms, 9);
    }

    #[test]
    fn ttl_limits_do_not_identify_a_source() {
        let discovery_state = discovery_state();
        assert!(discovery_state.is_of(&discover("{dns: api.internal, port: 80, max_ttl: 5s}"), Path::new("")));
        assert!(!discovery_state.is_of(&discover("{dns: api.internal, port: 81}"), Path::new("")));
        assert!(!discovery_state.is_of(&discover("{dns: api.internal, port: 80, resolver: 10.0.0.1}"), Path::new("")));
        assert_eq!(discovery_state.source(), "dns api.internal:80");
    }
}
