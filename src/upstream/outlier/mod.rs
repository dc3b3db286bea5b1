//! Passive outlier detection: backends that fail their traffic are ejected for a while, whatever their probes say.
//!
//! `machine` judges one backend, `window` counts for it, `watch` is that backend and its attempts, `group` decides how many
//! may be out at once. Here is the detector of one generation of an upstream: it finds the watch of an attempt, and the
//! backend that is due for its trial. It does no I/O and reads no clock: `now` is an argument.

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

/// How long a trial that is due but has no backend to go to is not looked for again.
const RECHECK_INTERVAL_MS: u64 = 500;

/// The detector of one generation of an upstream.
#[derive(Debug)]
pub struct Detector {
    rules: Outlier,
    /// By the address of a backend's cells, which the watch keeps alive.
    watches: HashMap<usize, Judged, BuildHasherDefault<AddressHasher>>,
    group: Arc<WatchGroup>,
}

impl Detector {
    /// For these backends; those that `previous` knows go on where they are if its rules are equal.
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

    /// Whether a detector with these rules goes on where this one is.
    pub fn goes_on_with(&self, rules: &Outlier) -> bool {
        self.rules == *rules
    }

    fn scope(&self) -> JudgedSet {
        let max_ejected = self.rules.max_ejected.fraction();
        JudgedSet { judged: self.watches.values().map(Judged::clone).collect(), max_ejected }
    }

    /// These are the current ones now: the cells show what the machines say. `changed` is called after each change, on the
    /// thread that found it out: it must not take long.
    pub fn activate(&self, changed: &Changed, now_ms: u64) {
        self.group.on_change(changed);
        self.group.judge(self.scope());
        self.group.settle(now_ms);
    }

    /// It judges nothing any longer, whatever attempts under its watch come to: there are other rules, or none.
    pub fn retire(&self, now_ms: u64) {
        self.group.retire(now_ms);
    }

    /// Watches a usual attempt at a backend.
    pub fn watch(&self, backend_state: &Arc<BackendState>) -> Option<AttemptObserver> {
        let judged = self.watches.get(&key(backend_state))?;
        Some(AttemptObserver::new(Arc::clone(&judged.watch), false))
    }

    /// Whether a trial may be due. One load where none is.
    pub fn has_due(&self, now_ms: u64) -> bool {
        now_ms >= self.group.due_ms()
    }

    /// The backend that is due for its trial, if this request may be it.
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
            // Due, but drained, down, full or tried already: not to be looked for at every pick.
            self.group.put_off(now_ms.saturating_add(RECHECK_INTERVAL_MS));
            return None;
        };
        Some((backend, guard, AttemptObserver::new(Arc::clone(watch), true)))
    }
}

fn key(backend_state: &Arc<BackendState>) -> usize {
    Arc::as_ptr(backend_state) as usize
}

/// Spreads addresses, which no client chooses.
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
