//! The live cells of a backend: in flight, health, marks, weights, and the meters that go with them. One per
//! (upstream, address) for the life of the process, so that counts outlive configurations.
//!
//! It decides nothing: health is judged in `upstream`, picks are made in `upstream::balance`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::failure_log::FailureLog;
use crate::backend::load_estimate::LoadEstimate;
use crate::backend::meters::BackendMeters;
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;

use super::in_flight::OnFree;

use crate::backend::labels::{AdminState, BackendCondition, Health, Outcome, RetryReason};

/// What a backend is called in metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The backend's name.
    pub backend: Arc<str>,
    /// The address as configured.
    pub address: Arc<str>,
}

/// How long a failed attempt keeps requests away that cannot be sent twice.
const FAILED_FOR_MS: u64 = 4_000;

/// Weights end at 256.
const NO_WEIGHT: u32 = u32::MAX;

/// The live cells of a backend.
#[derive(Debug)]
pub struct BackendState {
    labels: ArcSwap<Labels>,
    pub(super) in_flight: CachePadded<AtomicU32>,
    load: CachePadded<LoadEstimate>,
    /// 0: none.
    pub(super) limit: AtomicU32,
    pub(super) on_free: ArcSwapOption<OnFree>,
    health: AtomicU8,
    mark: AtomicU8,
    member: AtomicBool,
    ejected: AtomicBool,
    ejected_why: ArcSwap<String>,
    /// When the last attempt failed, if none was answered below 500 since; 0: one was.
    failed_ms: AtomicU64,
    since_ms: AtomicU64,
    reason: ArcSwap<String>,
    configured_weight: AtomicU32,
    /// The bits of an f64.
    effective_weight: AtomicU64,
    /// What an operator set at run time; `NO_WEIGHT`: nothing.
    runtime_weight: AtomicU32,
    failure_log: FailureLog,
    meters: CachePadded<BackendMeters>,
}

impl BackendState {
    /// Fresh cells: nothing in flight, unknown, ready. Use `Metrics::vitals`, which keeps one per identity.
    pub fn new(labels: Labels) -> Self {
        Self {
            labels: ArcSwap::from_pointee(labels),
            in_flight: CachePadded::default(),
            load: CachePadded::default(),
            limit: AtomicU32::new(0),
            on_free: ArcSwapOption::empty(),
            health: AtomicU8::new(Health::Unknown as u8),
            mark: AtomicU8::new(AdminState::Ready as u8),
            member: AtomicBool::new(true),
            ejected: AtomicBool::new(false),
            ejected_why: ArcSwap::default(),
            failed_ms: AtomicU64::new(0),
            since_ms: AtomicU64::new(0),
            reason: ArcSwap::default(),
            configured_weight: AtomicU32::new(1),
            effective_weight: AtomicU64::new(1.0_f64.to_bits()),
            runtime_weight: AtomicU32::new(NO_WEIGHT),
            failure_log: FailureLog::default(),
            meters: CachePadded::new(BackendMeters::new()),
        }
    }

    /// What it is called now.
    pub fn labels(&self) -> Arc<Labels> {
        self.labels.load_full()
    }

    /// What balancers read of it beside the count in flight.
    pub fn load(&self) -> &LoadEstimate {
        &self.load
    }

    /// The limits of the log lines about its failures.
    pub fn failure_log(&self) -> &FailureLog {
        &self.failure_log
    }

    /// What probes say.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Sets what probes say, why, and when (milliseconds of the monotonic clock) if that changes the state.
    pub fn set_health(&self, health: Health, reason: &str, now_ms: u64) {
        let before = self.state();
        self.health.store(health as u8, Ordering::Relaxed);
        self.reason.store(Arc::new(reason.to_owned()));
        self.changed(before, now_ms);
    }

    /// What the operator wants.
    pub fn mark(&self) -> AdminState {
        match self.mark.load(Ordering::Relaxed) {
            1 => AdminState::Draining,
            2 => AdminState::Disabled,
            _ => AdminState::Ready,
        }
    }

    /// Sets what the operator wants.
    pub fn set_mark(&self, mark: AdminState, now_ms: u64) {
        let before = self.state();
        self.mark.store(mark as u8, Ordering::Relaxed);
        self.changed(before, now_ms);
    }

    /// Whether it belongs to its upstream as configured now. One that does not shows as draining, and its series
    /// are hidden once nothing is in flight.
    pub fn is_member(&self) -> bool {
        self.member.load(Ordering::Relaxed)
    }

    /// Sets whether it belongs to its upstream.
    pub fn set_member(&self, member: bool, now_ms: u64) {
        let before = self.state();
        self.member.store(member, Ordering::Relaxed);
        self.changed(before, now_ms);
    }

    /// Whether outlier detection has taken it out; it stays so until its trial request has gone well.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Sets whether outlier detection has taken it out, and why.
    pub fn set_ejected(&self, why: Option<&str>, now_ms: u64) {
        let before = self.state();
        self.ejected_why.store(Arc::new(why.unwrap_or_default().to_owned()));
        self.ejected.store(why.is_some(), Ordering::Relaxed);
        self.changed(before, now_ms);
    }

    /// An attempt failed after bytes of the request may have been sent: no complete response came.
    pub fn set_failed(&self, now_ms: u64) {
        self.failed_ms.store(now_ms, Ordering::Relaxed);
    }

    /// A response below 500 came.
    pub fn set_answered(&self) {
        if self.failed_ms.load(Ordering::Relaxed) != 0 {
            self.failed_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the last attempt failed, and not long ago.
    pub fn has_failed(&self, now_ms: u64) -> bool {
        let failed_ms = self.failed_ms.load(Ordering::Relaxed);
        failed_ms != 0 && now_ms.saturating_sub(failed_ms) < FAILED_FOR_MS
    }

    /// The one state that is shown.
    pub fn state(&self) -> BackendCondition {
        match (self.mark(), self.is_member(), self.health()) {
            (AdminState::Disabled, ..) => BackendCondition::Disabled,
            (AdminState::Draining, ..) | (_, false, _) => BackendCondition::Draining,
            _ if self.is_ejected() => BackendCondition::Ejected,
            (.., Health::Down) => BackendCondition::Down,
            (.., Health::Up) => BackendCondition::Up,
            (.., Health::Unknown) => BackendCondition::Unknown,
        }
    }

    /// What the last probe said; empty where there is nothing to say.
    pub fn reason(&self) -> Arc<String> {
        self.reason.load_full()
    }

    /// Why the state is what it is; empty where there is nothing to say.
    pub fn why(&self) -> String {
        match self.state() {
            BackendCondition::Disabled => "by operator".to_owned(),
            BackendCondition::Draining if self.mark() == AdminState::Draining => "by operator".to_owned(),
            BackendCondition::Draining => "no longer configured".to_owned(),
            BackendCondition::Ejected => self.ejected_why.load().to_string(),
            BackendCondition::Down | BackendCondition::Up | BackendCondition::Unknown => self.reason().to_string(),
        }
    }

    /// Since when the state is what it is, in milliseconds of the monotonic clock; 0: since the start.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    /// The weights as configured and as used now: a part of it while it grows.
    pub fn weights(&self) -> (u32, f64) {
        let effective = f64::from_bits(self.effective_weight.load(Ordering::Relaxed));
        (self.configured_weight.load(Ordering::Relaxed), effective)
    }

    /// Sets the weights as configured and as used now.
    pub fn set_weights(&self, configured: u32, effective: f64) {
        self.configured_weight.store(configured, Ordering::Relaxed);
        self.effective_weight.store(effective.to_bits(), Ordering::Relaxed);
    }

    /// The weight that an operator set at run time.
    pub fn runtime_weight(&self) -> Option<u16> {
        u16::try_from(self.runtime_weight.load(Ordering::Relaxed)).ok()
    }

    /// Sets the weight that counts instead of the configured one; nothing: the configured one again.
    pub fn set_runtime_weight(&self, weight: Option<u16>) {
        self.runtime_weight.store(weight.map_or(NO_WEIGHT, u32::from), Ordering::Relaxed);
    }

    /// Counts an attempt that ended.
    pub fn count_attempt(&self, outcome: Outcome) {
        self.meters.attempts[outcome as usize].bump();
    }

    /// Attempts that have ended, however.
    pub fn attempts(&self) -> u64 {
        self.meters.attempts.iter().map(crate::instruments::Counter::get).sum()
    }

    /// Counts an attempt that was followed by another.
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

    /// Observes the time it took to open a connection.
    pub fn observe_connect(&self, took: Duration) {
        self.meters.connect.observe(took);
    }

    /// Observes the time from the pick to the response header.
    pub fn observe_response(&self, took: Duration) {
        self.meters.response.observe(took);
    }

    /// Counts a probe and observes how long it took.
    pub fn observe_check(&self, pass: bool, took: Duration) {
        if pass { &self.meters.passed } else { &self.meters.failed }.bump();
        self.meters.check.observe(took);
    }

    /// What was counted, for the scrape.
    pub(crate) fn meters(&self) -> &BackendMeters {
        &self.meters
    }

    /// Gives it another name; its counts go on.
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
