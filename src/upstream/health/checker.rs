//! The task that probes one backend for as long as its settings stay: first at once, then at a
//! moment of the interval that chance picks, then every interval with jitter.
//!
//! It writes verdicts into the backend's cells and says when members have to be rebuilt; it never picks. Between two probes it
//! holds a timer and little else: there may be thousands of it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::hysteresis::Hysteresis;
use super::probe::{Probe, ProbeError, next_wait};
use crate::backend::BackendState;
use crate::backend::labels::Health;
use crate::clock;
use crate::config::schema::HealthCheck;
use crate::pool::backend_addr::BackendAddr;
use crate::pool::transport_settings::TransportSettings;
use crate::resource_exhaustion::{Exhaustion, LimitedWarning};
use crate::upstream::Upstream;
use crate::upstream::backend::Backend;
use crate::upstream::task::Changed;

static CANNOT_ASK: LimitedWarning = LimitedWarning::new();

/// Probes begin on a grid of this, or of a hundredth of their interval where that is finer: with thousands of backends the thread
/// wakes once for several of them, and disturbs whom it shares a core with less often.
const PROBE_GRID: Duration = Duration::from_millis(16);

/// What a prober was started with: while that is equal it is left running.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckSettings {
    /// How backends are probed.
    pub check: Arc<HealthCheck>,
    /// How they are spoken to.
    pub transport: Arc<TransportSettings>,
}

impl CheckSettings {
    /// Of an upstream that has its backends probed: one for all of them.
    pub fn of(upstream: &Upstream) -> Option<Self> {
        let check = upstream.settings().health_check.clone()?;
        Some(Self { check: Arc::new(check), transport: Arc::clone(upstream.transport()) })
    }
}

/// Probes one backend until it is aborted.
pub struct HealthChecker {
    probe: Probe,
    check: Arc<HealthCheck>,
    state: Arc<BackendState>,
    addr: Arc<BackendAddr>,
    hysteresis: Hysteresis,
    since_ms: u64,
    changed: Changed,
}

impl HealthChecker {
    /// Goes on from the verdict in the backend's cells. `since_ms`: when it was brought in, the same for all that came with it.
    pub fn new(spec: &CheckSettings, backend: &Backend, probe: Probe, since_ms: u64, changed: Changed) -> Self {
        Self {
            probe,
            check: Arc::clone(&spec.check),
            state: Arc::clone(&backend.state),
            addr: Arc::clone(&backend.addr),
            hysteresis: Hysteresis::new(backend.state.health(), spec.check.rise, spec.check.fall),
            since_ms,
            changed,
        }
    }

    /// Probes for ever.
    pub async fn run(mut self) {
        self.probe_once().await;
        // Anywhere in the first interval: backends that a configuration brought together are not asked together ever after.
        self.pause(self.check.interval.get().mul_f64(fastrand::f64())).await;
        loop {
            self.probe_once().await;
            self.pause(next_wait(self.check.interval, self.check.jitter.fraction(), fastrand::f64())).await;
        }
    }

    async fn pause(&self, wait: Duration) {
        // An interval of nothing would spin.
        let until = tokio::time::Instant::now() + wait.max(Duration::from_millis(1));
        tokio::time::sleep_until(on_grid(until, PROBE_GRID.min(self.check.interval.get() / 100))).await;
    }

    async fn probe_once(&mut self) {
        let started = Instant::now();
        // In a box of its own, as it is some ten kilobytes large: the task is there all the time, a probe seldom.
        let result = Box::pin(self.once()).await;
        self.judge(result, started.elapsed());
    }

    /// A name that has not resolved yet gets as long as a probe to do so.
    async fn once(&self) -> Result<(), ProbeError> {
        match tokio::time::timeout(self.check.timeout.get(), self.addr.known()).await {
            Ok(address) => self.probe.ask_once(&address).await,
            Err(_) => Err("name does not resolve".to_owned().into()),
        }
    }

    fn judge(&mut self, result: Result<(), ProbeError>, took: Duration) {
        if let Err(ProbeError { reason, exhaustion: Some(exhaustion) }) = &result
            && self.says_nothing(*exhaustion)
        {
            return CANNOT_ASK.emit("backends cannot be probed; the last verdicts stay", reason);
        }
        self.state.observe_check(result.is_ok(), took);
        let reason = result.err().map(|wrong| wrong.reason).unwrap_or_default();
        let first = self.hysteresis.verdict() == Health::Unknown;
        match self.hysteresis.step(reason.is_empty()) {
            Some(verdict) => {
                if first && verdict == Health::Up {
                    // That it was asked before others, or answered sooner, is no lead over them.
                    self.state.load().set_serving(true, self.since_ms);
                }
                self.state.set_health(verdict, &reason, clock::now_ms());
                self.say(verdict, &reason);
                (self.changed)();
            }
            // Still down, but for another reason now.
            None if self.hysteresis.verdict() == Health::Down
                && !reason.is_empty()
                && **self.state.reason() != reason =>
            {
                self.state.set_health(Health::Down, &reason, clock::now_ms());
            }
            None => {}
        }
    }

    /// A backend that never was reached may be at an address that nothing here leads to, which no port would change.
    fn says_nothing(&self, exhaustion: Exhaustion) -> bool {
        exhaustion != Exhaustion::Ports || self.hysteresis.verdict() != Health::Unknown
    }

    fn say(&self, verdict: Health, reason: &str) {
        let labels = self.state.labels();
        let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
        if verdict == Health::Down {
            tracing::warn!(upstream, backend, address, reason, "backend is down");
        } else {
            tracing::info!(upstream, backend, address, "backend is up");
        }
    }
}

/// The first moment of a grid, the same for all, that is not before this one.
fn on_grid(at: tokio::time::Instant, grid: Duration) -> tokio::time::Instant {
    static ORIGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
    let since = at.saturating_duration_since(*ORIGIN.get_or_init(tokio::time::Instant::now));
    let beyond = since.as_nanos().checked_rem(grid.as_nanos()).filter(|beyond| *beyond > 0);
    let short = beyond.map_or(0, |beyond| grid.as_nanos() - beyond);
    at + Duration::from_nanos(u64::try_from(short).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio::time::Instant as Moment;

    use super::super::super::members::tests::backend;
    use super::*;
    use crate::config::schema;

    fn prober(check: &str, health: Health, since_ms: u64) -> HealthChecker {
        let check: Arc<HealthCheck> = Arc::new(serde_yaml::from_str(check).unwrap());
        let settings: schema::UpstreamSettings = serde_yaml::from_str("{}").unwrap();
        let spec = CheckSettings {
            check: Arc::clone(&check),
            transport: Arc::new(TransportSettings::new(&settings, &|_| None)),
        };
        let connector = Arc::new(pingora_core::connectors::http::Connector::new(None));
        let probe = Probe::new(check, Arc::clone(&spec.transport), "127.0.0.1:1", connector);
        HealthChecker::new(&spec, &backend("a", "127.0.0.1:1", 1, health), probe, since_ms, Arc::new(|| {}))
    }

    #[tokio::test]
    async fn a_task_that_waits_is_small() {
        for check in ["http: {}", "tcp: {}", "grpc: {}"] {
            let size = size_of_val(&prober(check, Health::Up, 0).run());
            assert!(size <= 1536, "{check}: {size} bytes for each backend, probed or not");
        }
    }

    #[tokio::test]
    async fn one_that_is_up_at_first_sight_has_been_since_it_was_brought_in_and_others_from_their_verdict_on() {
        for (health, results, since) in
            [(Health::Unknown, "+", 7), (Health::Unknown, "-++", 0), (Health::Down, "++", 0)]
        {
            let mut prober = prober("{http: {}, rise: 2}", health, 7);
            for result in results.chars() {
                let result = if result == '+' { Ok(()) } else { Err("refused".to_owned().into()) };
                prober.judge(result, Duration::ZERO);
            }
            assert_eq!(prober.state.health(), Health::Up);
            assert_eq!(prober.state.load().serving_since_ms(), since, "{health:?} {results}");
        }
    }

    #[tokio::test]
    async fn a_probe_begins_on_the_grid_and_never_early() {
        on_grid(Moment::now(), PROBE_GRID);
        let now = Moment::now();
        let moments: Vec<_> = (0..100).map(|n| on_grid(now + Duration::from_micros(n * 160), PROBE_GRID)).collect();
        let (first, last) = (moments[0], moments[99]);
        assert!(first >= now && first < now + PROBE_GRID);
        assert!(moments.iter().all(|at| *at == first || *at == last) && last <= first + PROBE_GRID);
        assert_eq!(on_grid(first, PROBE_GRID), first);
        let fine = now + Duration::from_nanos(1);
        assert_eq!(on_grid(fine, Duration::ZERO), fine, "no grid");
    }
}
