//! Passive outlier detection: backends that fail their traffic are ejected for a while, whatever their probes say.
//!
//! `machine` judges one backend, `window` counts for it; here is what an upstream adds: how many may be out at once, who
//! gets the trial request, and the word to rebuild members. It does no I/O and reads no clock: `now` is an argument.

mod machine;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::backend::Backend;
use super::balance::Tried;
use super::health::prober::Changed;
use crate::config::schema::Outlier;
use crate::telemetry::vitals::{Health, InFlight, Mark, Vitals};
use machine::Machine;

/// How long a trial that is due but has no backend to go to is not looked for again.
const LOOK_AGAIN_MS: u64 = 500;

/// The detector of one generation of an upstream.
#[derive(Debug)]
pub struct Detector {
    rules: Outlier,
    /// By the address of a backend's cells, which the watch keeps alive.
    watches: HashMap<usize, Arc<Watch>>,
    /// How many may be ejected at once.
    most: usize,
    common: Arc<Common>,
}

/// What all generations of an upstream share while the rules are equal.
#[derive(Default)]
struct Common {
    /// When the next trial may be due.
    due_ms: AtomicU64,
    /// Whom the current generation judges. Ejecting counts those that are out: one at a time.
    scope: Mutex<Scope>,
    changed: OnceLock<Changed>,
}

impl Common {
    fn scope(&self) -> MutexGuard<'_, Scope> {
        self.scope.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom a generation judges, and how many of them may be ejected at once. An attempt may end long after its generation: what
/// it says counts only for a backend that is still judged by the same watch, and then as the current generation has it.
#[derive(Debug, Clone, Default)]
struct Scope {
    judged: Vec<Arc<Watch>>,
    most: usize,
}

impl Scope {
    fn has(&self, watch: &Arc<Watch>) -> bool {
        self.judged.iter().any(|judged| Arc::ptr_eq(judged, watch))
    }

    fn may_eject(&self, watch: &Arc<Watch>) -> bool {
        let out = self.judged.iter().filter(|judged| judged.vitals.is_ejected()).count();
        self.has(watch) && !watch.vitals.is_ejected() && out < self.most
    }
}

impl std::fmt::Debug for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Common").field("due_ms", &self.due_ms).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Watch {
    vitals: Arc<Vitals>,
    machine: Mutex<Machine>,
}

impl Watch {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Detector {
    /// For these backends; those that `previous` knows go on where they are if its rules are equal.
    pub fn new(rules: &Outlier, backends: &[Arc<Backend>], previous: Option<&Self>) -> Self {
        let previous = previous.filter(|previous| previous.goes_on_with(rules));
        let watch = |backend: &Arc<Backend>| {
            let known = previous.and_then(|previous| previous.watches.get(&key(&backend.vitals)));
            let fresh = || {
                let machine = Mutex::new(Machine::new(rules.clone()));
                Arc::new(Watch { vitals: Arc::clone(&backend.vitals), machine })
            };
            (key(&backend.vitals), known.map_or_else(fresh, Arc::clone))
        };
        let share = (rules.max_ejected.fraction() * backends.len() as f64).floor() as usize;
        // Of one there is nobody to take over; of several at least one may go, or the key would do nothing.
        let most = if backends.len() > 1 { share.max(1) } else { 0 };
        let new = Self {
            rules: rules.clone(),
            watches: backends.iter().map(watch).collect(),
            most,
            common: previous.map(|previous| Arc::clone(&previous.common)).unwrap_or_default(),
        };
        if previous.is_none() {
            *new.common.scope() = new.scope();
        }
        new
    }

    /// Whether a detector with these rules goes on where this one is.
    pub fn goes_on_with(&self, rules: &Outlier) -> bool {
        self.rules == *rules
    }

    fn scope(&self) -> Scope {
        Scope { judged: self.watches.values().map(Arc::clone).collect(), most: self.most }
    }

    /// These are the current ones now: the cells show what the machines say. `changed` is called after each change.
    pub fn activate(&self, changed: &Changed, now_ms: u64) {
        let _ = self.common.changed.set(Arc::clone(changed));
        let mut scope = self.common.scope();
        *scope = self.scope();
        for watch in self.watches.values() {
            let out = watch.machine().is_out();
            if watch.vitals.is_ejected() && !out {
                watch.vitals.set_ejected(None, now_ms);
            }
        }
        drop(scope);
        self.look_for_due();
    }

    /// It judges nobody any longer, whatever attempts under its watch come to: there are other rules, or none.
    pub fn retire(&self, now_ms: u64) {
        let scope = std::mem::take(&mut *self.common.scope());
        let ejected = scope.judged.iter().filter(|watch| watch.vitals.is_ejected());
        ejected.for_each(|watch| watch.vitals.set_ejected(None, now_ms));
        self.look_for_due();
    }

    /// Watches a usual attempt at a backend.
    pub fn watch(self: &Arc<Self>, vitals: &Arc<Vitals>) -> Option<Watching> {
        let watch = Arc::clone(self.watches.get(&key(vitals))?);
        Some(Watching { detector: Arc::clone(self), watch, trial: false, said: false })
    }

    /// The backend that is due for its trial, if this request may be it. One load where none is due.
    pub fn trial<'b>(
        self: &Arc<Self>,
        backends: &'b [Arc<Backend>],
        tried: &Tried,
        now_ms: u64,
    ) -> Option<(&'b Arc<Backend>, InFlight, Watching)> {
        if now_ms < self.common.due_ms.load(Ordering::Relaxed) {
            return None;
        }
        let scope = self.common.scope();
        let found = backends.iter().find_map(|backend| {
            let watch = self.watches.get(&key(&backend.vitals)).filter(|_| may_be_tried(backend, tried))?;
            let watch = Some(watch).filter(|watch| scope.has(watch))?;
            let mut machine = watch.machine();
            let guard = machine.due().filter(|due| *due <= now_ms).and_then(|_| backend.vitals.admit())?;
            machine.try_trial(now_ms).then_some((backend, watch, guard))
        });
        drop(scope);
        self.look_for_due();
        let Some((backend, watch, guard)) = found else {
            // Due, but drained, down, full or tried already: not to be looked for at every pick.
            self.common.due_ms.fetch_max(now_ms.saturating_add(LOOK_AGAIN_MS), Ordering::Relaxed);
            return None;
        };
        let watching = Watching { detector: Arc::clone(self), watch: Arc::clone(watch), trial: true, said: false };
        Some((backend, guard, watching))
    }

    fn look_for_due(&self) {
        let due = self.common.scope().judged.iter().filter_map(|watch| watch.machine().due()).min();
        self.common.due_ms.store(due.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn saw(&self, watch: &Arc<Watch>, ok: bool, now_ms: u64) {
        let Some(cause) = watch.machine().saw(ok, now_ms) else { return };
        {
            let scope = self.common.scope();
            if !scope.may_eject(watch) {
                return;
            }
            let until = watch.machine().eject(now_ms);
            watch.vitals.set_ejected(Some(&cause.to_string()), now_ms);
            self.common.due_ms.fetch_min(until, Ordering::Relaxed);
        }
        say(&watch.vitals, Some(&cause.to_string()));
        self.rebuild();
    }

    fn trial_ended(&self, watch: &Arc<Watch>, ok: Option<bool>, now_ms: u64) {
        let serves = watch.machine().trial_ended(ok, now_ms);
        let judged = {
            let scope = self.common.scope();
            let judged = scope.has(watch);
            if judged && serves {
                watch.vitals.set_ejected(None, now_ms);
            } else if judged && ok == Some(false) {
                watch.vitals.set_ejected(Some(&machine::Cause::Trial.to_string()), now_ms);
            }
            judged
        };
        if judged && serves {
            say(&watch.vitals, None);
            self.rebuild();
        }
        self.look_for_due();
    }

    fn rebuild(&self) {
        if let Some(changed) = self.common.changed.get() {
            changed();
        }
    }
}

fn say(vitals: &Vitals, cause: Option<&str>) {
    let labels = vitals.labels();
    let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
    match cause {
        Some(cause) => tracing::warn!(upstream, backend, address, cause, "backend is ejected"),
        None => tracing::info!(upstream, backend, address, "backend is back after its trial request"),
    }
}

fn may_be_tried(backend: &Backend, tried: &Tried) -> bool {
    let vitals = &backend.vitals;
    vitals.mark() == Mark::Ready
        && vitals.runtime_weight().unwrap_or(backend.weight) > 0
        && vitals.health() != Health::Down
        && backend.resolved.is_known()
        && !tried.contains(vitals)
}

fn key(vitals: &Arc<Vitals>) -> usize {
    Arc::as_ptr(vitals) as usize
}

/// One attempt under watch. Dropped without a word it says nothing about the backend.
#[derive(Debug)]
pub struct Watching {
    detector: Arc<Detector>,
    watch: Arc<Watch>,
    trial: bool,
    said: bool,
}

impl Watching {
    /// The response header came. A trial is decided by it: its body may take for ever.
    pub fn answered(&mut self, ok: bool, now_ms: u64) {
        if self.trial {
            self.ended(ok, now_ms);
        }
    }

    /// The attempt ended, well or by the backend's fault.
    pub fn ended(&mut self, ok: bool, now_ms: u64) {
        if std::mem::replace(&mut self.said, true) {
            return;
        }
        if self.trial {
            self.detector.trial_ended(&self.watch, Some(ok), now_ms);
        } else {
            self.detector.saw(&self.watch, ok, now_ms);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if self.trial && !self.said {
            // Due again at once.
            self.detector.trial_ended(&self.watch, None, 0);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
