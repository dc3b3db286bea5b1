//! The live cells of a backend: in flight, health, marks, weights, and the meters that go with them. One per
//! (upstream, address) for the life of the process, so that counts outlive configurations.
//!
//! It decides nothing: health is judged in `upstream`, picks are made in `upstream::balance`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

use super::cells::Padded;
use super::meters::BackendMeters;

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

/// What probes say of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Health {
    /// Not probed yet.
    Unknown = 0,
    /// Serves, or is not probed at all.
    Up = 1,
    /// Fails its probes.
    Down = 2,
}

/// What an operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Mark {
    /// Nothing special.
    Ready = 0,
    /// No new requests; those under way finish.
    Draining = 1,
    /// No requests.
    Disabled = 2,
}

/// The one state that is shown of a backend, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// By an operator.
    Disabled,
    /// By an operator, or no longer a member.
    Draining,
    /// By outlier detection.
    Ejected,
    /// By its probes.
    Down,
    /// Serves.
    Up,
    /// Not probed yet.
    Unknown,
}

impl State {
    /// In the order of the contract.
    pub const ALL: [Self; 6] = [Self::Disabled, Self::Draining, Self::Ejected, Self::Down, Self::Up, Self::Unknown];

    /// The value of the `state` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Up => "up",
            Self::Unknown => "unknown",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// A whole response came, whatever its status.
    Ok,
    /// No connection.
    ConnectError,
    /// No TLS session.
    TlsError,
    /// A deadline passed.
    Timeout,
    /// The connection broke.
    Reset,
    /// What came was not HTTP.
    ProtocolError,
    /// The client left first.
    ClientAbort,
}

impl Outcome {
    /// In the order of the contract.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::ConnectError,
        Self::TlsError,
        Self::Timeout,
        Self::Reset,
        Self::ProtocolError,
        Self::ClientAbort,
    ];

    /// The value of the `outcome` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ConnectError => "connect_error",
            Self::TlsError => "tls_error",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::ProtocolError => "protocol_error",
            Self::ClientAbort => "client_abort",
        }
    }
}

/// Why an attempt was followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// It failed.
    Fault(Fault),
    /// It answered a status that the route retries.
    Status(u16),
}

impl fmt::Display for RetryReason {
    /// The value of the `reason` label and of the log field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => f.write_str(fault.label()),
            Self::Status(status) => status.fmt(f),
        }
    }
}

/// The live cells of a backend.
#[derive(Debug)]
pub struct Vitals {
    labels: ArcSwap<Labels>,
    in_flight: Padded<AtomicU32>,
    health: AtomicU8,
    mark: AtomicU8,
    member: AtomicBool,
    since_ms: AtomicU64,
    reason: ArcSwap<String>,
    configured_weight: AtomicU32,
    effective_weight: AtomicU32,
    meters: Padded<BackendMeters>,
}

impl Vitals {
    /// Fresh cells: nothing in flight, unknown, ready. Use `Metrics::vitals`, which keeps one per identity.
    pub fn new(labels: Labels) -> Self {
        Self {
            labels: ArcSwap::from_pointee(labels),
            in_flight: Padded::default(),
            health: AtomicU8::new(Health::Unknown as u8),
            mark: AtomicU8::new(Mark::Ready as u8),
            member: AtomicBool::new(true),
            since_ms: AtomicU64::new(0),
            reason: ArcSwap::default(),
            configured_weight: AtomicU32::new(1),
            effective_weight: AtomicU32::new(1),
            meters: Padded(BackendMeters::new()),
        }
    }

    /// What it is called now.
    pub fn labels(&self) -> Arc<Labels> {
        self.labels.load_full()
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Raises the count if it still is `seen`; the guard lowers it.
    pub fn try_raise(self: &Arc<Self>, seen: u32) -> Option<InFlight> {
        self.in_flight
            .compare_exchange(seen, seen.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
            .ok()
            .map(|_| InFlight(Arc::clone(self)))
    }

    /// Raises the count whatever it is; the guard lowers it.
    pub fn raise(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// What probes say.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Sets what probes say, why, and when (milliseconds since 1970) if that changes the state.
    pub fn set_health(&self, health: Health, reason: &str, now_ms: u64) {
        let before = self.state();
        self.health.store(health as u8, Ordering::Relaxed);
        self.reason.store(Arc::new(reason.to_owned()));
        self.changed(before, now_ms);
    }

    /// What the operator wants.
    pub fn mark(&self) -> Mark {
        match self.mark.load(Ordering::Relaxed) {
            1 => Mark::Draining,
            2 => Mark::Disabled,
            _ => Mark::Ready,
        }
    }

    /// Sets what the operator wants.
    pub fn set_mark(&self, mark: Mark, now_ms: u64) {
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

    /// The one state that is shown.
    pub fn state(&self) -> State {
        match (self.mark(), self.is_member(), self.health()) {
            (Mark::Disabled, ..) => State::Disabled,
            (Mark::Draining, ..) | (_, false, _) => State::Draining,
            (.., Health::Down) => State::Down,
            (.., Health::Up) => State::Up,
            (.., Health::Unknown) => State::Unknown,
        }
    }

    /// Why the state is what it is; empty where there is nothing to say.
    pub fn reason(&self) -> Arc<String> {
        self.reason.load_full()
    }

    /// Since when the state is what it is, in milliseconds since 1970; 0: since the start.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    /// The weights as configured and as used now.
    pub fn weights(&self) -> (u32, u32) {
        (self.configured_weight.load(Ordering::Relaxed), self.effective_weight.load(Ordering::Relaxed))
    }

    /// Sets the weights as configured and as used now.
    pub fn set_weights(&self, configured: u32, effective: u32) {
        self.configured_weight.store(configured, Ordering::Relaxed);
        self.effective_weight.store(effective, Ordering::Relaxed);
    }

    /// Counts an attempt that ended.
    pub fn count_attempt(&self, outcome: Outcome) {
        self.meters.attempts[outcome as usize].bump();
    }

    /// Attempts that have ended, however.
    pub fn attempts(&self) -> u64 {
        self.meters.attempts.iter().map(super::cells::Count::get).sum()
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
    pub(super) fn meters(&self) -> &BackendMeters {
        &self.meters
    }

    /// Gives it another name; its counts go on.
    pub(super) fn rename(&self, labels: Labels) {
        if **self.labels.load() != labels {
            self.labels.store(Arc::new(labels));
        }
    }

    fn changed(&self, before: State, now_ms: u64) {
        let now = self.state();
        if now != before {
            self.since_ms.store(now_ms, Ordering::Relaxed);
            self.meters.became[now as usize].bump();
        }
    }
}

/// One attempt under way; dropping it lowers the count.
#[derive(Debug)]
pub struct InFlight(Arc<Vitals>);

impl InFlight {
    /// The backend that it counts for.
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
