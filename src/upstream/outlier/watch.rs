//! One backend under outlier detection, and one attempt at it.
//!
//! An attempt that goes well costs two loads and a store while no run of failures is under way. It holds its backend's
//! watch and nothing of a configuration: a stream of hours keeps no generation alive.

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
    /// A success has something to change: a run is under way, or a ratio counts all results.
    takes_successes: AtomicBool,
    counts_all: bool,
    /// When its trial is due.
    due_ms: AtomicU64,
    /// When it last answered below 500.
    last_answer_ms: AtomicU64,
}

#[derive(Debug)]
struct State {
    ejection: EjectionState,
    /// Whether it is judged by the current configuration. Attempts may outlive theirs.
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

    /// The current configuration judges it, or does not any longer.
    pub(super) fn set_judged(&self, judged: bool) {
        self.state().judged = judged;
    }

    /// The cells show what is judged: an ejection by other rules is over, and so is this one's if it may not be.
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

    /// Nothing judges it any longer.
    pub(super) fn retire(&self, now_ms: u64) {
        let mut state = self.state();
        state.judged = false;
        if self.backend.is_ejected() {
            self.backend.set_ejected(None, now_ms);
        }
    }

    /// Ejects it if it is judged and serves; until when.
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

    /// Takes the one trial if it is judged and the trial is due.
    pub(super) fn try_trial(&self, now_ms: u64) -> bool {
        let mut state = self.state();
        let taken = state.judged && state.ejection.try_trial(now_ms);
        self.note_due(&state.ejection);
        taken
    }

    /// The result of the trial; nothing: it had none. Whether it is judged and serves again.
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
        // After a response header has ended a run, the next success clears it: until then the run may go on.
        if report != Report::Success || state.ejection.is_clean() {
            let takes = self.counts_all || report != Report::Success;
            self.takes_successes.store(takes, Ordering::Relaxed);
        }
        cause
    }
}

/// One attempt under watch. Dropped without a result it says nothing about the backend.
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

    /// The response header came, `ok`: with a status below 500. A status of 500 or more, and any status of a trial, is the
    /// result: the body may take for ever.
    pub fn answered(&mut self, ok: bool, now_ms: u64) {
        if ok {
            self.ended_run = self.watch.answered(now_ms);
        }
        if self.trial || !ok {
            self.report(if ok { Report::Success } else { Report::ServerError }, now_ms);
        }
    }

    /// The attempt ended, well or by the backend's fault.
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
            // Due again at once.
            self.trial_ended(None, 0);
        }
    }
}
