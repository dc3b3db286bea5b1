//! Outlier detection of one backend, and the observer of one attempt.
//!
//! An observer holds only the watch of its backend, no configuration. So a stream that lasts for hours keeps no
//! generation alive. A successful attempt costs two loads and a store while no run of failures is in progress.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::ejection::{Cause, EjectionState, EndedRun, Report};
use super::group::WatchGroup;
use crate::backend::BackendState;
use crate::config::schema::Outlier;

/// No trial is due.
const NEVER: u64 = u64::MAX;

/// One backend under outlier detection.
#[derive(Debug)]
pub(super) struct BackendWatch {
    pub(super) backend: Arc<BackendState>,
    group: Weak<WatchGroup>,
    state: Mutex<State>,
    /// Whether a success changes anything: a run is in progress, or a ratio needs all results.
    takes_successes: AtomicBool,
    counts_all: bool,
    /// Time at which its trial is due.
    due_ms: AtomicU64,
    /// Time of its last response below 500.
    last_answer_ms: AtomicU64,
}

#[derive(Debug)]
struct State {
    ejection: EjectionState,
    /// Whether the current configuration evaluates it. Attempts may end after their configuration.
    judged: bool,
}

impl BackendWatch {
    pub(super) fn new(
        backend_state: &Arc<BackendState>,
        rules: &Outlier,
        group: &Arc<WatchGroup>,
        judged: bool,
    ) -> Self {
        let counts_all = rules.error_ratio.fraction() > 0.0;
        Self {
            backend: Arc::clone(backend_state),
            group: Arc::downgrade(group),
            state: Mutex::new(State { ejection: EjectionState::new(rules.clone()), judged }),
            takes_successes: AtomicBool::new(counts_all),
            counts_all,
            due_ms: AtomicU64::new(NEVER),
            last_answer_ms: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms.load(Ordering::SeqCst)
    }

    pub(super) fn last_answer_ms(&self) -> u64 {
        self.last_answer_ms.load(Ordering::Relaxed)
    }

    /// Sets whether the current configuration evaluates it.
    pub(super) fn set_judged(&self, judged: bool) {
        self.state().judged = judged;
    }

    /// Publishes the ejection to the backend state. An ejection by other rules ends, and so does one that is not
    /// allowed.
    pub(super) fn settle(&self, may_be_ejected: bool, now_ms: u64) {
        let mut state = self.state();
        if !may_be_ejected {
            state.ejection.release(now_ms);
            self.note_due(&state.ejection);
        }
        if self.backend.is_ejected() && !state.ejection.is_out() {
            self.backend.set_ejected(None, now_ms);
        }
    }

    /// Stops the evaluation and ends an ejection.
    pub(super) fn retire(&self, now_ms: u64) {
        let mut state = self.state();
        state.judged = false;
        if self.backend.is_ejected() {
            self.backend.set_ejected(None, now_ms);
        }
    }

    /// Ejects the backend if it is evaluated and serves. Returns the end time.
    pub(super) fn eject(&self, cause: Cause, now_ms: u64) -> Option<u64> {
        let mut state = self.state();
        if !state.judged || state.ejection.is_out() {
            return None;
        }
        let until_ms = state.ejection.eject(now_ms);
        self.note_due(&state.ejection);
        self.backend.set_ejected(Some(&cause.to_string()), now_ms);
        Some(until_ms)
    }

    /// Starts the trial if the backend is evaluated and the trial is due.
    pub(super) fn try_trial(&self, now_ms: u64) -> bool {
        let mut state = self.state();
        let taken = state.judged && state.ejection.try_trial(now_ms);
        self.note_due(&state.ejection);
        taken
    }

    /// Ends the trial; `None`: without a result. Returns whether the backend is evaluated and serves again.
    fn trial_ended(&self, ok: Option<bool>, now_ms: u64) -> bool {
        let mut state = self.state();
        let serves = state.ejection.trial_ended(ok, now_ms);
        self.note_due(&state.ejection);
        if state.judged && serves {
            self.backend.set_ejected(None, now_ms);
        } else if state.judged && ok == Some(false) {
            self.backend.set_ejected(Some(&Cause::Trial.to_string()), now_ms);
        }
        state.judged && serves
    }

    fn note_due(&self, machine: &EjectionState) {
        self.backend.set_trial_due(machine.due());
        self.due_ms.store(machine.due().unwrap_or(NEVER), Ordering::SeqCst);
    }

    fn answered(&self, now_ms: u64) -> EndedRun {
        if self.last_answer_ms.load(Ordering::Relaxed) != now_ms {
            self.last_answer_ms.store(now_ms, Ordering::Relaxed);
        }
        if self.takes_successes.load(Ordering::Relaxed) {
            self.state().ejection.answered()
        } else {
            EndedRun::default()
        }
    }

    fn record(&self, report: Report, ended: EndedRun, now_ms: u64) -> Option<Cause> {
        if report == Report::Success && !self.takes_successes.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state();
        let cause = state.ejection.record(report, ended, now_ms);
        // The response header of a success ends a run, but its body may still fail. So the flag stays set until a
        // success completes.
        if report != Report::Success || state.ejection.is_clean() {
            let takes = self.counts_all || report != Report::Success;
            self.takes_successes.store(takes, Ordering::Relaxed);
        }
        cause
    }
}

/// Observer of one attempt. If it is dropped without a result, the attempt says nothing about the backend.
#[derive(Debug)]
pub struct AttemptObserver {
    watch: Arc<BackendWatch>,
    ended_run: EndedRun,
    trial: bool,
    reported: bool,
}

impl AttemptObserver {
    pub(super) fn new(watch: Arc<BackendWatch>, trial: bool) -> Self {
        Self { watch, ended_run: EndedRun::default(), trial, reported: false }
    }

    /// The response header arrived; `ok`: with a status below 500. A status of 500 or more is the final result, and so
    /// is any status of a trial, because a body may take for ever.
    pub fn answered(&mut self, ok: bool, now_ms: u64) {
        if ok {
            self.ended_run = self.watch.answered(now_ms);
        }
        if self.trial || !ok {
            self.report(if ok { Report::Success } else { Report::ServerError }, now_ms);
        }
    }

    /// The attempt ended, either successfully or with a failure of the backend.
    pub fn ended(&mut self, ok: bool, now_ms: u64) {
        self.report(if ok { Report::Success } else { Report::Failed }, now_ms);
    }

    fn report(&mut self, report: Report, now_ms: u64) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        if self.trial {
            self.trial_ended(Some(report == Report::Success), now_ms);
        } else if let Some(cause) = self.watch.record(report, self.ended_run, now_ms)
            && let Some(group) = self.watch.group.upgrade()
        {
            group.eject(&self.watch, cause, now_ms);
        }
    }

    fn trial_ended(&self, ok: Option<bool>, now_ms: u64) {
        let serves = self.watch.trial_ended(ok, now_ms);
        if let Some(group) = self.watch.group.upgrade() {
            group.trial_ended(&self.watch, serves);
        }
    }
}

impl Drop for AttemptObserver {
    fn drop(&mut self) {
        if self.trial && !self.reported {
            // The trial is due again immediately.
            self.trial_ended(None, 0);
        }
    }
}
