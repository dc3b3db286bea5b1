//! Ejection decisions across the backends of an upstream: the limit of simultaneous ejections, and the next trial.
//!
//! It never rebuilds members itself: it calls `changed`, and the manager rebuilds on the control runtime. All
//! generations of the upstream share it while the rules are equal. Traffic threads decide ejections here, so threads of
//! low priority must not hold a lock of this file.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::super::backend::Backend;
use super::ejection::Cause;
use super::watch::BackendWatch;
use crate::backend::BackendState;
use crate::backend::labels::{AdminState, Health};
use crate::upstream::task::Changed;

/// After a check of all backends without an ejection, checks pause for one millisecond per this number of backends.
const BACKENDS_PER_MS: u64 = 64;

/// The state that all generations of an upstream share while the rules are equal.
pub(super) struct WatchGroup {
    /// Earliest time at which a trial may be due; `u64::MAX`: none.
    due_ms: AtomicU64,
    scope: ArcSwap<JudgedSet>,
    /// Held for one decision, because an ejection counts the backends that are ejected.
    deciding: Mutex<()>,
    /// After a refused ejection: the time of the next check.
    look_again_ms: AtomicU64,
    changed: OnceLock<Changed>,
}

impl Default for WatchGroup {
    fn default() -> Self {
        Self {
            due_ms: AtomicU64::new(u64::MAX),
            scope: ArcSwap::default(),
            deciding: Mutex::default(),
            look_again_ms: AtomicU64::default(),
            changed: OnceLock::new(),
        }
    }
}

impl std::fmt::Debug for WatchGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("due_ms", &self.due_ms).finish_non_exhaustive()
    }
}

/// The backends that the current generation evaluates. An attempt may end long after its generation. Its result counts
/// only if the backend still has the same watch, and then with the settings of the current generation.
#[derive(Debug, Default)]
pub(super) struct JudgedSet {
    pub(super) judged: Vec<Judged>,
    /// Maximum share of ejected backends among those that take requests, 0 to 1.
    pub(super) max_ejected: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) watch: Arc<BackendWatch>,
    pub(super) backend: Arc<Backend>,
}

impl Judged {
    fn is(&self, watch: &Arc<BackendWatch>) -> bool {
        Arc::ptr_eq(&self.watch, watch)
    }

    fn is_ejected(&self) -> bool {
        self.watch.backend.is_ejected()
    }
}

/// Whether the backend takes requests when it is not ejected.
pub(super) fn takes_requests(backend: &Backend) -> bool {
    let backend_state: &BackendState = &backend.state;
    backend_state.admin_state() == AdminState::Ready
        && backend_state.runtime_weight().unwrap_or(backend.weight) > 0
        && backend_state.health() != Health::Down
        && backend.addr.is_known()
}

impl JudgedSet {
    /// Whether one more ejection is within the limit, both of all backends and of those that take requests. It is not
    /// if no other backend takes requests.
    fn has_room_for(&self, watch: &Arc<BackendWatch>) -> bool {
        let (mut out, mut others, mut out_of_others) = (0, 0, 0);
        for other in self.judged.iter().filter(|judged| !judged.is(watch)) {
            let (ejected, takes) = (other.is_ejected(), takes_requests(&other.backend));
            out += usize::from(ejected);
            others += usize::from(takes);
            out_of_others += usize::from(takes && ejected);
        }
        // With several backends one ejection is always allowed, or a small limit would turn the feature off.
        let most = |count: usize| ((self.max_ejected * count as f64).floor() as usize).max(1);
        others > 0 && out < most(self.judged.len()) && out_of_others < most(others + 1)
    }

    /// Whether another backend of the same tier answered below 500 since then. If none did, the requests may be the
    /// cause.
    fn another_answered(&self, watch: &Arc<BackendWatch>, since_ms: u64) -> bool {
        let Some(tier) = self.judged.iter().find(|judged| judged.is(watch)).map(|judged| judged.backend.tier) else {
            return false;
        };
        let others = self.judged.iter().filter(|judged| judged.backend.tier == tier && !judged.is(watch));
        others
            .filter(|judged| judged.watch.last_answer_ms() > since_ms)
            .any(|judged| !judged.is_ejected() && takes_requests(&judged.backend))
    }

    fn allows(&self, watch: &Arc<BackendWatch>, cause: Cause) -> bool {
        let confirmed = match cause {
            Cause::ServerErrors { since_ms, .. } => self.another_answered(watch, since_ms),
            Cause::Failed(_) | Cause::Ratio(..) | Cause::Trial => true,
        };
        confirmed && self.has_room_for(watch)
    }
}

impl WatchGroup {
    /// Sets the backends that are evaluated from now on. The state of those that stay is unchanged.
    pub(super) fn judge(&self, scope: JudgedSet) {
        let now: HashSet<_> = scope.judged.iter().map(|judged| Arc::as_ptr(&judged.watch)).collect();
        for judged in &scope.judged {
            judged.watch.set_judged(true);
        }
        let before = self.scope.swap(Arc::new(scope));
        let gone = before.judged.iter().filter(|judged| !now.contains(&Arc::as_ptr(&judged.watch)));
        gone.for_each(|judged| judged.watch.set_judged(false));
    }

    /// Sets the function that is called after each change. Only the first call has an effect.
    pub(super) fn on_change(&self, changed: &Changed) {
        let _ = self.changed.set(Arc::clone(changed));
    }

    /// Publishes the ejections to the backend states. A single backend is never ejected.
    pub(super) fn settle(&self, now_ms: u64) {
        let scope = self.scope.load_full();
        let may_be_ejected = scope.judged.len() > 1;
        scope.judged.iter().for_each(|judged| judged.watch.settle(may_be_ejected, now_ms));
        self.refresh_due();
    }

    /// Stops the evaluation: results of attempts in flight have no effect.
    pub(super) fn retire(&self, now_ms: u64) {
        let scope = self.scope.swap(Arc::default());
        scope.judged.iter().for_each(|judged| judged.watch.retire(now_ms));
        self.refresh_due();
    }

    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms.load(Ordering::Relaxed)
    }

    /// Defers the next trial, because no backend is available for the one that is due.
    pub(super) fn put_off(&self, until_ms: u64) {
        self.due_ms.fetch_max(until_ms, Ordering::SeqCst);
    }

    /// Computes the time of the next trial. It first stores the maximum, then the minimum of all backends. A concurrent
    /// ejection either lowers the value after the first step or is seen by the second.
    pub(super) fn refresh_due(&self) {
        self.due_ms.store(u64::MAX, Ordering::SeqCst);
        let due = self.scope.load().judged.iter().map(|judged| judged.watch.due_ms()).min();
        self.due_ms.fetch_min(due.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Ejects a backend for this cause, unless the limits forbid it.
    pub(super) fn eject(&self, watch: &Arc<BackendWatch>, cause: Cause, now_ms: u64) {
        if now_ms < self.look_again_ms.load(Ordering::Relaxed) {
            return;
        }
        let until_ms = {
            let _one_at_a_time = self.deciding.lock();
            let scope = self.scope.load();
            if !scope.allows(watch, cause) {
                let pause = scope.judged.len() as u64 / BACKENDS_PER_MS;
                self.look_again_ms.store(now_ms.saturating_add(pause), Ordering::Relaxed);
                return;
            }
            watch.eject(cause, now_ms)
        };
        if let Some(until_ms) = until_ms {
            self.due_ms.fetch_min(until_ms, Ordering::SeqCst);
            say(&watch.backend, Some(&cause.to_string()));
            self.rebuild();
        }
    }

    /// Handles the end of a trial. `serves`: the trial succeeded and the backend is still evaluated.
    pub(super) fn trial_ended(&self, watch: &BackendWatch, serves: bool) {
        if serves {
            say(&watch.backend, None);
            self.rebuild();
        }
        self.refresh_due();
    }

    fn rebuild(&self) {
        if let Some(changed) = self.changed.get() {
            changed();
        }
    }
}

fn say(backend_state: &BackendState, cause: Option<&str>) {
    let labels = backend_state.labels();
    let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
    match cause {
        Some(cause) => tracing::warn!(upstream, backend, address, cause, "backend is ejected"),
        None => tracing::info!(upstream, backend, address, "backend is back after its trial request"),
    }
}
