//! The task that probes one backend for as long as its settings stay: first at once, then at a
//! moment of the interval that chance picks, then every interval with jitter.
//!
//! It writes verdicts into the backend's cells and says when members have to be rebuilt; it never picks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::machine::Machine;
use super::probe::{Probe, Wrong, next_wait};
use crate::config::schema::HealthCheck;
use crate::lack::{Lack, Warning};
use crate::telemetry::vitals::{Health, Vitals};
use crate::upstream::backend::{Backend, Resolved};
use crate::upstream::clock;
use crate::upstream::peer::Wire;

static CANNOT_ASK: Warning = Warning::new();

/// Called after a change that members depend on.
pub type Changed = Arc<dyn Fn() + Send + Sync>;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Owned(AbortHandle);

impl Owned {
    /// Starts a task on a runtime.
    pub fn spawn(handle: &Handle, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(handle.spawn(task).abort_handle())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a prober was started with: while that is equal it is left running.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// How backends are probed.
    pub check: HealthCheck,
    /// How they are spoken to.
    pub wire: Arc<Wire>,
}

/// Probes one backend until it is aborted.
pub struct Prober {
    probe: Probe,
    check: HealthCheck,
    vitals: Arc<Vitals>,
    resolved: Arc<Resolved>,
    machine: Machine,
    changed: Changed,
}

impl Prober {
    /// Goes on from the verdict in the backend's cells.
    pub fn new(spec: &Spec, backend: &Backend, probe: Probe, changed: Changed) -> Self {
        Self {
            probe,
            check: spec.check.clone(),
            vitals: Arc::clone(&backend.vitals),
            resolved: Arc::clone(&backend.resolved),
            machine: Machine::new(backend.vitals.health(), spec.check.rise, spec.check.fall),
            changed,
        }
    }

    /// Probes for ever.
    pub async fn run(mut self) {
        self.probe_once().await;
        // Anywhere in the first interval: backends that a configuration brought together are not asked together ever after.
        pause(self.check.interval.get().mul_f64(clock::random())).await;
        loop {
            self.probe_once().await;
            pause(next_wait(self.check.interval, self.check.jitter.fraction(), clock::random())).await;
        }
    }

    async fn probe_once(&mut self) {
        let started = Instant::now();
        let result = self.once().await;
        self.judge(result, started.elapsed());
    }

    /// A name that has not resolved yet gets as long as a probe to do so.
    async fn once(&self) -> Result<(), Wrong> {
        match tokio::time::timeout(self.check.timeout.get(), self.resolved.known()).await {
            Ok(address) => self.probe.ask_once(&address).await,
            Err(_) => Err("name does not resolve".to_owned().into()),
        }
    }

    fn judge(&mut self, result: Result<(), Wrong>, took: Duration) {
        if let Err(Wrong { reason, lack: Some(lack) }) = &result
            && self.says_nothing(*lack)
        {
            return CANNOT_ASK.tell("backends cannot be probed; the last verdicts stay", reason);
        }
        self.vitals.observe_check(result.is_ok(), took);
        let reason = result.err().map(|wrong| wrong.reason).unwrap_or_default();
        match self.machine.step(reason.is_empty()) {
            Some(verdict) => {
                self.vitals.set_health(verdict, &reason, clock::now_ms());
                self.say(verdict, &reason);
                (self.changed)();
            }
            // Still down, but for another reason now.
            None if self.machine.verdict() == Health::Down
                && !reason.is_empty()
                && **self.vitals.reason() != reason =>
            {
                self.vitals.set_health(Health::Down, &reason, clock::now_ms());
            }
            None => {}
        }
    }

    /// A backend that never was reached may be at an address that nothing here leads to, which no port would change.
    fn says_nothing(&self, lack: Lack) -> bool {
        lack != Lack::Ports || self.machine.verdict() != Health::Unknown
    }

    fn say(&self, verdict: Health, reason: &str) {
        let labels = self.vitals.labels();
        let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
        if verdict == Health::Down {
            tracing::warn!(upstream, backend, address, reason, "backend is down");
        } else {
            tracing::info!(upstream, backend, address, "backend is up");
        }
    }
}

/// An interval of nothing would spin.
async fn pause(interval: Duration) {
    tokio::time::sleep(interval.max(Duration::from_millis(1))).await;
}
