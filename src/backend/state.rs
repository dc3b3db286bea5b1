//! Live state of a backend: in flight, health, ejection, admin state, weights and meters.
//!
//! It decides nothing: `upstream` evaluates health, `upstream::balance` picks. There is one state per (upstream,
//! address) for the life of the process, so counters survive reloads.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::error_cause::ErrorCause;
use crate::backend::failure_log::FailureLog;
use crate::backend::last_check::LastCheck;
use crate::backend::load_estimate::LoadEstimate;
use crate::backend::meters::BackendMeters;
use crate::backend::recent_errors::RecentErrors;
use crate::instruments::LatencyCounts;
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;

use super::in_flight::OnFree;

use crate::backend::labels::{AdminState, BackendCondition, Health, Outcome, RetryReason};

/// Labels of a backend in metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// Name of the backend.
    pub backend: Arc<str>,
    /// Address as configured.
    pub address: Arc<str>,
}

/// Time after a failed attempt in which the backend is avoided for requests that cannot be retried.
const FAILED_FOR_MS: u64 = 4_000;

/// Marks an unset runtime weight. Real weights are at most 256.
const NO_WEIGHT: u32 = u32::MAX;

/// Live state of a backend.
#[derive(Debug)]
pub struct BackendState {
    labels: ArcSwap<Labels>,
    pub(super) in_flight: CachePadded<AtomicU32>,
    load: CachePadded<LoadEstimate>,
    /// 0: no limit.
    pub(super) limit: AtomicU32,
    pub(super) on_free: ArcSwapOption<OnFree>,
    health: AtomicU8,
    /// A health check judges it.
    checked: AtomicBool,
    /// It has an address to connect to.
    resolved: AtomicBool,
    admin_state: AtomicU8,
    member: AtomicBool,
    ejected: AtomicBool,
    ejected_why: ArcSwap<String>,
    /// Time from which the trial of an ejection is allowed; 0: no ejection, or the trial is in progress.
    trial_due_ms: AtomicU64,
    last_check: LastCheck,
    /// Time of the last failed attempt; 0: none, or a response below 500 arrived since.
    failed_ms: AtomicU64,
    since_ms: AtomicU64,
    reason: ArcSwap<String>,
    configured_weight: AtomicU32,
    /// The bits of an f64.
    effective_weight: AtomicU64,
    /// Weight set by an operator at run time; `NO_WEIGHT`: none.
    runtime_weight: AtomicU32,
    errors: RecentErrors,
    failure_log: FailureLog,
    meters: CachePadded<BackendMeters>,
}

impl BackendState {
    /// A new state: nothing in flight, health unknown, ready. Production code gets its states from the metrics
    /// registry, which holds one per upstream and address.
    pub fn new(labels: Labels) -> Self {
        Self {
            labels: ArcSwap::from_pointee(labels),
            in_flight: CachePadded::default(),
            load: CachePadded::default(),
            limit: AtomicU32::new(0),
            on_free: ArcSwapOption::empty(),
            health: AtomicU8::new(Health::Unknown as u8),
            checked: AtomicBool::new(true),
            resolved: AtomicBool::new(true),
            admin_state: AtomicU8::new(AdminState::Ready as u8),
            member: AtomicBool::new(true),
            ejected: AtomicBool::new(false),
            ejected_why: ArcSwap::default(),
            trial_due_ms: AtomicU64::new(0),
            last_check: LastCheck::default(),
            failed_ms: AtomicU64::new(0),
            since_ms: AtomicU64::new(0),
            reason: ArcSwap::default(),
            configured_weight: AtomicU32::new(1),
            effective_weight: AtomicU64::new(1.0_f64.to_bits()),
            runtime_weight: AtomicU32::new(NO_WEIGHT),
            errors: RecentErrors::default(),
            failure_log: FailureLog::default(),
            meters: CachePadded::new(BackendMeters::new()),
        }
    }

    /// The current labels.
    pub fn labels(&self) -> Arc<Labels> {
        self.labels.load_full()
    }

    /// The load signals other than the requests in flight.
    pub fn load(&self) -> &LoadEstimate {
        &self.load
    }

    /// The limits of the log lines about its failures.
    pub fn failure_log(&self) -> &FailureLog {
        &self.failure_log
    }

    /// The verdict of the health check.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Sets the verdict of the health check and its reason. `now_ms` (monotonic clock) is stored if the condition
    /// changes.
    pub fn set_health(&self, health: Health, reason: &str, now_ms: u64) {
        let before = self.state();
        self.health.store(health as u8, Ordering::Relaxed);
        self.reason.store(Arc::new(reason.to_owned()));
        self.changed(before, now_ms);
    }

    /// Sets whether a health check judges it. Without one it is shown as unchecked where it would be up.
    pub fn set_checked(&self, checked: bool, now_ms: u64) {
        let before = self.state();
        self.checked.store(checked, Ordering::Relaxed);
        self.changed(before, now_ms);
    }

    /// Sets whether it has an address to connect to.
    pub fn set_resolved(&self, resolved: bool, now_ms: u64) {
        if self.resolved.load(Ordering::Relaxed) != resolved {
            let before = self.state();
            self.resolved.store(resolved, Ordering::Relaxed);
            self.changed(before, now_ms);
        }
    }

    /// Whether it counts as up: its checks pass, or it has none, and it has an address.
    pub fn is_up(&self) -> bool {
        self.health() == Health::Up && self.resolved.load(Ordering::Relaxed)
    }

    /// The admin state.
    pub fn admin_state(&self) -> AdminState {
        match self.admin_state.load(Ordering::Relaxed) {
            1 => AdminState::Draining,
            2 => AdminState::Disabled,
            _ => AdminState::Ready,
        }
    }

    /// Sets the admin state. `now_ms` is stored if the condition changes.
    pub fn set_admin_state(&self, mark: AdminState, now_ms: u64) {
        let before = self.state();
        self.admin_state.store(mark as u8, Ordering::Relaxed);
        self.changed(before, now_ms);
    }

    /// Whether the current configuration of its upstream contains it. A backend that was removed shows as draining. Its
    /// series are hidden once nothing is in flight.
    pub fn is_member(&self) -> bool {
        self.member.load(Ordering::Relaxed)
    }

    /// Sets whether its upstream contains it.
    pub fn set_member(&self, member: bool, now_ms: u64) {
        let before = self.state();
        self.member.store(member, Ordering::Relaxed);
        self.changed(before, now_ms);
    }

    /// Whether outlier detection has ejected it. This stays true until its trial request succeeds.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Sets or clears (`None`) the ejection and its reason.
    pub fn set_ejected(&self, why: Option<&str>, now_ms: u64) {
        let before = self.state();
        self.ejected_why.store(Arc::new(why.unwrap_or_default().to_owned()));
        self.ejected.store(why.is_some(), Ordering::Relaxed);
        self.changed(before, now_ms);
    }

    /// Time from which the trial of its ejection is allowed. `None`: it is not ejected, or the trial is in progress.
    pub fn trial_due_ms(&self) -> Option<u64> {
        Some(self.trial_due_ms.load(Ordering::Relaxed)).filter(|due| *due != 0)
    }

    /// Sets the time of the trial.
    pub fn set_trial_due(&self, due_ms: Option<u64>) {
        self.trial_due_ms.store(due_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// The last health check.
    pub fn last_check(&self) -> &LastCheck {
        &self.last_check
    }

    /// Records an attempt that failed after bytes of the request may have been sent: no complete response arrived.
    pub fn set_failed(&self, now_ms: u64) {
        self.failed_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Records a response below 500.
    pub fn set_answered(&self) {
        if self.failed_ms.load(Ordering::Relaxed) != 0 {
            self.failed_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the last attempt failed, less than four seconds ago.
    pub fn has_failed(&self, now_ms: u64) -> bool {
        let failed_ms = self.failed_ms.load(Ordering::Relaxed);
        failed_ms != 0 && now_ms.saturating_sub(failed_ms) < FAILED_FOR_MS
    }

    /// The single condition that is shown.
    pub fn state(&self) -> BackendCondition {
        match (self.admin_state(), self.is_member(), self.health()) {
            (AdminState::Disabled, ..) => BackendCondition::Disabled,
            (AdminState::Draining, ..) | (_, false, _) => BackendCondition::Draining,
            _ if !self.resolved.load(Ordering::Relaxed) => BackendCondition::Unresolved,
            _ if self.is_ejected() => BackendCondition::Ejected,
            (.., Health::Down) => BackendCondition::Down,
            (.., Health::Up) if !self.checked.load(Ordering::Relaxed) => BackendCondition::Unchecked,
            (.., Health::Up) => BackendCondition::Up,
            (.., Health::Unknown) => BackendCondition::Unknown,
        }
    }

    /// Reason of the last health verdict; may be empty.
    pub fn reason(&self) -> Arc<String> {
        self.reason.load_full()
    }

    /// Reason of the condition; may be empty.
    pub fn why(&self) -> String {
        match self.state() {
            BackendCondition::Disabled => "by operator".to_owned(),
            BackendCondition::Draining if self.admin_state() == AdminState::Draining => "by operator".to_owned(),
            BackendCondition::Draining => "no longer configured".to_owned(),
            BackendCondition::Ejected => self.ejected_why.load().to_string(),
            BackendCondition::Unresolved => "name does not resolve".to_owned(),
            BackendCondition::Unchecked => String::new(),
            BackendCondition::Down | BackendCondition::Up | BackendCondition::Unknown => self.reason().to_string(),
        }
    }

    /// Time of the last change of the condition, in milliseconds of the monotonic clock; 0: no change since the start.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    /// The configured weight and the effective weight. During slow start the effective weight is a fraction of the
    /// configured one.
    pub fn weights(&self) -> (u32, f64) {
        let effective = f64::from_bits(self.effective_weight.load(Ordering::Relaxed));
        (self.configured_weight.load(Ordering::Relaxed), effective)
    }

    /// Sets the configured and the effective weight.
    pub fn set_weights(&self, configured: u32, effective: f64) {
        self.configured_weight.store(configured, Ordering::Relaxed);
        self.effective_weight.store(effective.to_bits(), Ordering::Relaxed);
    }

    /// The weight set by an operator at run time.
    pub fn runtime_weight(&self) -> Option<u16> {
        u16::try_from(self.runtime_weight.load(Ordering::Relaxed)).ok()
    }

    /// Sets the runtime weight, which replaces the configured one. `None` restores the configured one.
    pub fn set_runtime_weight(&self, weight: Option<u16>) {
        self.runtime_weight.store(weight.map_or(NO_WEIGHT, u32::from), Ordering::Relaxed);
    }

    /// Counts an attempt that ended.
    pub fn count_attempt(&self, outcome: Outcome) {
        self.meters.attempts[outcome as usize].bump();
    }

    /// Number of attempts that ended, of all outcomes.
    pub fn attempts(&self) -> u64 {
        self.meters.attempts.iter().map(crate::instruments::Counter::get).sum()
    }

    /// Number of errors so far: failed attempts and responses that count as errors.
    pub fn error_count(&self) -> u64 {
        self.meters.errors.iter().map(crate::instruments::Counter::get).sum()
    }

    /// Number of attempts so far that were followed by a retry.
    pub fn retry_count(&self) -> u64 {
        let by_fault: u64 = self.meters.retries_by_fault.iter().map(crate::instruments::Counter::get).sum();
        by_fault + self.meters.retries_by_status.seen().map(|(_, n)| n).sum::<u64>()
    }

    /// The number of response times in each bucket of `instruments::LATENCY`.
    pub fn response_times(&self) -> LatencyCounts {
        self.meters.response.counts()
    }

    /// Its recent errors.
    pub fn errors(&self) -> &RecentErrors {
        &self.errors
    }

    /// Counts an error of the backend by its cause, and keeps the words for it as the latest error.
    pub fn count_error(&self, cause: ErrorCause, words: Cow<'static, str>, now_ms: u64) {
        self.meters.errors[cause as usize].bump();
        self.errors.record(words, now_ms);
    }

    /// Counts an attempt that was followed by a retry.
    pub fn count_retry(&self, reason: RetryReason) {
        self.meters.count_retry(reason);
    }

    /// Counts a response by its status.
    pub fn count_response(&self, status: u16) {
        self.meters.count_response(status);
    }

    /// Counts body bytes sent to and received from the backend.
    pub fn count_bytes(&self, sent: u64, received: u64) {
        self.meters.sent.add(sent);
        self.meters.received.add(received);
    }

    /// Observes the time to open a connection.
    pub fn observe_connect(&self, took: Duration) {
        self.meters.connect.observe(took);
    }

    /// Observes the time from the pick to the response header.
    pub fn observe_response(&self, took: Duration) {
        self.meters.response.observe(took);
    }

    /// Counts a probe and observes its duration.
    pub fn observe_check(&self, pass: bool, took: Duration) {
        if pass { &self.meters.passed } else { &self.meters.failed }.bump();
        self.meters.check.observe(took);
    }

    /// The meters, for the scrape.
    pub(crate) fn meters(&self) -> &BackendMeters {
        &self.meters
    }

    /// Changes the labels; the counters continue.
    pub(crate) fn rename(&self, labels: Labels) {
        if **self.labels.load() != labels {
            self.labels.store(Arc::new(labels));
        }
    }

    fn changed(&self, before: BackendCondition, now_ms: u64) {
        let now = self.state();
        if now != before {
            self.since_ms.store(now_ms, Ordering::Relaxed);
            self.meters.became[now as usize].bump();
        }
    }
}
