//! Passive outlier detection: ejects backends that fail their traffic for a limited time, independent of probes.
//!
//! It does no I/O and reads no clock: `now` is an argument. `ejection` evaluates one backend, `sliding_window` counts
//! its results, `watch` connects a backend with its attempts, and `group` limits the ejections. This file has the
//! detector of one generation: it finds the watch of an attempt, and the backend whose trial is due.

mod ejection;
mod group;
mod sliding_window;
mod watch;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::backend::Backend;
use super::balance::Tried;
use super::balance::rng::mix;
use crate::backend::BackendState;
use crate::backend::InFlight;
use crate::config::schema::Outlier;
use crate::upstream::task::Changed;
use group::{Judged, JudgedSet, WatchGroup, takes_requests};
use watch::BackendWatch;

pub use watch::AttemptObserver;

/// Time until the next search if a trial is due but no backend is available for it.
const RECHECK_INTERVAL_MS: u64 = 500;

/// The detector of one generation of an upstream.
#[derive(Debug)]
pub struct Detector {
    rules: Outlier,
    /// By the memory address of the backend state. Each watch keeps its state alive, so no other state gets that
    /// address.
    watches: HashMap<usize, Judged, BuildHasherDefault<AddressHasher>>,
    group: Arc<WatchGroup>,
}

impl Detector {
    /// Creates a detector for these backends. If the rules of `previous` are equal, its backends keep their state.
    pub fn new(rules: &Outlier, backends: &[Arc<Backend>], previous: Option<&Self>) -> Self {
        let previous = previous.filter(|previous| previous.goes_on_with(rules));
        let group = previous.map(|previous| Arc::clone(&previous.group)).unwrap_or_default();
        let judged = |backend: &Arc<Backend>| {
            let known = previous.and_then(|previous| previous.watches.get(&key(&backend.state)));
            let fresh = || Arc::new(BackendWatch::new(&backend.state, rules, &group, false));
            let watch = known.map_or_else(fresh, |known| Arc::clone(&known.watch));
            (key(&backend.state), Judged { watch, backend: Arc::clone(backend) })
        };
        let new = Self { rules: rules.clone(), watches: backends.iter().map(judged).collect(), group };
        if previous.is_none() {
            new.group.judge(new.scope());
        }
        new
    }

    /// Whether a detector with these rules would continue the state of this one.
    pub fn goes_on_with(&self, rules: &Outlier) -> bool {
        self.rules == *rules
    }

    fn scope(&self) -> JudgedSet {
        let max_ejected = self.rules.max_ejected.fraction();
        JudgedSet { judged: self.watches.values().map(Judged::clone).collect(), max_ejected }
    }

    /// Makes these backends current and publishes their ejections. `changed` is called after each change on the thread
    /// that detects it, so it must be fast.
    pub fn activate(&self, changed: &Changed, now_ms: u64) {
        self.group.on_change(changed);
        self.group.judge(self.scope());
        self.group.settle(now_ms);
    }

    /// Stops the evaluation, because the rules have changed or were removed. Results of attempts in flight have no
    /// effect.
    pub fn retire(&self, now_ms: u64) {
        self.group.retire(now_ms);
    }

    /// Observes an attempt that is not a trial.
    pub fn watch(&self, backend_state: &Arc<BackendState>) -> Option<AttemptObserver> {
        let judged = self.watches.get(&key(backend_state))?;
        Some(AttemptObserver::new(Arc::clone(&judged.watch), false))
    }

    /// Whether a trial may be due. A single atomic load.
    pub fn has_due(&self, now_ms: u64) -> bool {
        now_ms >= self.group.due_ms()
    }

    /// A backend whose trial is due, with this request as the trial.
    pub fn trial<'b>(
        &self,
        backends: &'b [Arc<Backend>],
        tried: &Tried,
        now_ms: u64,
    ) -> Option<(&'b Arc<Backend>, InFlight, AttemptObserver)> {
        if !self.has_due(now_ms) {
            return None;
        }
        let found = backends.iter().find_map(|backend| {
            let watch = &self.watches.get(&key(&backend.state))?.watch;
            if watch.due_ms() > now_ms || !takes_requests(backend) || tried.contains(&backend.state) {
                return None;
            }
            let guard = backend.state.admit()?;
            watch.try_trial(now_ms).then_some((backend, guard, watch))
        });
        self.group.refresh_due();
        let Some((backend, guard, watch)) = found else {
            // Due, but drained, down, full or tried. Deferred, so that not every pick searches for it.
            self.group.put_off(now_ms.saturating_add(RECHECK_INTERVAL_MS));
            return None;
        };
        Some((backend, guard, AttemptObserver::new(Arc::clone(watch), true)))
    }
}

fn key(backend_state: &Arc<BackendState>) -> usize {
    Arc::as_ptr(backend_state) as usize
}

/// Hasher for memory addresses. Clients cannot choose them, so it needs no protection against collisions.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = mix(address as u64);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
