//! What was found for an upstream, and how the looking goes: shared by all generations of the upstream that look in the
//! same place, so that a reload neither forgets addresses nor waits for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::DiscoveryResult;
use crate::config::schema::{BackendSettings, Discover};
use crate::config::values::Period;
use crate::telemetry::meters::UpstreamMeters;

/// Lines about one failed look that are logged; more are counted.
const LINES: usize = 20;

/// What was found for an upstream.
#[derive(Debug)]
pub struct DiscoveryState {
    upstream: Arc<str>,
    place: DiscoveryOrigin,
    list: ArcSwap<Vec<BackendSettings>>,
    state: Mutex<DiscoveryProgress>,
    looked: AtomicBool,
    settled: AtomicBool,
    meters: Arc<UpstreamMeters>,
}

/// Where it is looked for: while this is equal, what was found stays.
#[derive(Debug, Clone, PartialEq)]
struct DiscoveryOrigin {
    source: Discover,
    folder: PathBuf,
}

/// How the looking goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiscoveryProgress {
    /// When a look last brought a whole list, in milliseconds since 1970; 0: never.
    pub last_success_ms: u64,
    /// What was wrong with the last look; empty where nothing was.
    pub wrong: Vec<String>,
    /// Looks in a row that went wrong.
    pub failures: u64,
}

impl DiscoveryState {
    /// With what is known already: a file's list at the start.
    pub fn new(
        upstream: &Arc<str>,
        source: &Discover,
        folder: &Path,
        list: Vec<BackendSettings>,
        meters: Arc<UpstreamMeters>,
    ) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            place: DiscoveryOrigin::of(source, folder),
            looked: AtomicBool::new(!list.is_empty()),
            list: ArcSwap::from_pointee(list),
            state: Mutex::default(),
            settled: AtomicBool::new(false),
            meters,
        }
    }

    /// Whether it is what would be found there too.
    pub fn is_of(&self, source: &Discover, folder: &Path) -> bool {
        self.place == DiscoveryOrigin::of(source, folder)
    }

    /// What a file's path is relative to.
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// The list as it is now.
    pub fn list(&self) -> Arc<Vec<BackendSettings>> {
        self.list.load_full()
    }

    /// Where it is looked for, in the words of the configuration.
    pub fn source(&self) -> String {
        let Discover { dns, port, srv, file, .. } = &self.place.source;
        match (dns, srv, file) {
            (Some(name), ..) => format!("dns {name}:{}", port.unwrap_or_default()),
            (_, Some(name), _) => format!("srv {name}"),
            (.., Some(path)) => format!("file {}", path.display()),
            _ => String::new(),
        }
    }

    /// How the looking goes.
    pub fn state(&self) -> DiscoveryProgress {
        self.lock().clone()
    }

    /// Takes a look; whether there is something to do about it: another list, or the first look of all.
    pub fn take(&self, look: DiscoveryResult, unix_ms: u64) -> bool {
        let DiscoveryResult { list, wrong, .. } = look;
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
        let news = changed.is_some() || !self.was_looked_for();
        changed.into_iter().for_each(|list| self.list.store(Arc::new(list)));
        news
    }

    /// What the first look brought is in the upstream.
    pub fn set_looked_for(&self) {
        self.looked.store(true, Ordering::Release);
    }

    /// Whether it was looked for at least once.
    pub fn was_looked_for(&self) -> bool {
        self.looked.load(Ordering::Acquire)
    }

    /// Whether everything that was found first has had its verdict: what comes later holds up no readiness.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// It has.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// The first failure in a row is told, and whatever is wrong in another way than before, and the end of it.
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
    /// How often it is looked for does not say where.
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

    fn look(addresses: &[&str], wrong: &[&str]) -> DiscoveryResult {
        let list = addresses.iter().map(|a| serde_yaml::from_str(&format!("address: '{a}'")).unwrap()).collect();
        let list = Some(list).filter(|list: &Vec<_>| !list.is_empty());
        DiscoveryResult { list, wrong: wrong.iter().map(|line| (*line).to_owned()).collect(), ttl: None }
    }

    fn found() -> DiscoveryState {
        let meters = Arc::new(UpstreamMeters::new("u"));
        DiscoveryState::new(&"u".into(), &discover("{dns: api.internal, port: 80}"), Path::new(""), Vec::new(), meters)
    }

    #[test]
    fn the_last_good_list_stays_through_failures() {
        let found = found();
        assert!(!found.was_looked_for());
        assert!(found.take(look(&[], &["timed out"]), 5), "the first look is told, whatever it came to");
        assert!(!found.was_looked_for() && found.list().is_empty(), "not before it is brought in");
        found.set_looked_for();
        assert_eq!(
            found.state(),
            DiscoveryProgress { last_success_ms: 0, wrong: vec!["timed out".into()], failures: 1 }
        );
        assert!(found.take(look(&["10.0.0.1:80"], &[]), 6));
        assert!(!found.take(look(&[], &["refused"]), 7) && !found.take(look(&[], &["refused"]), 8));
        assert_eq!(found.list().len(), 1);
        assert_eq!(found.state(), DiscoveryProgress { last_success_ms: 6, wrong: vec!["refused".into()], failures: 2 });
        assert!(!found.take(look(&["10.0.0.1:80"], &[]), 9), "the same again");
        assert!(found.take(look(&["10.0.0.2:80"], &["one target is gone"]), 10), "a part is news as well");
        assert_eq!(found.state().last_success_ms, 9);
    }

    #[test]
    fn a_place_is_where_and_not_how_often() {
        let found = found();
        assert!(found.is_of(&discover("{dns: api.internal, port: 80, max_ttl: 5s}"), Path::new("")));
        assert!(!found.is_of(&discover("{dns: api.internal, port: 81}"), Path::new("")));
        assert!(!found.is_of(&discover("{dns: api.internal, port: 80, resolver: 10.0.0.1}"), Path::new("")));
        assert_eq!(found.source(), "dns api.internal:80");
    }
}
