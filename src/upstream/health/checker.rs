//! Health checker: the task that probes one backend.
//!
//! It never picks. It writes the verdict to the state of the backend and triggers a rebuild of the members. The first
//! probe is immediate. The second comes after a random part of the interval, further ones after each interval with
//! jitter. The task runs until it is aborted, when the settings change. Between two probes it holds little more than a
//! timer, because there may be thousands of such tasks.

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

/// Probes start on a time grid of this step, or of a hundredth of their interval if that is smaller. With thousands of
/// backends, one wakeup of the thread then starts several probes, which disturbs other threads of the core less often.
const PROBE_GRID: Duration = Duration::from_millis(16);

/// The settings of a checker. While they are equal, a reload leaves the checker running.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckSettings {
    /// The health check.
    pub check: Arc<HealthCheck>,
    /// The transport settings of the probe connections.
    pub transport: Arc<TransportSettings>,
}

impl CheckSettings {
    /// The settings for the backends of an upstream; `None` without a health check.
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
    /// Creates a checker that continues from the current verdict of the backend. `since_ms`: the time at which the
    /// backend was activated, equal for all backends of one activation.
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

    /// Probes until the task is aborted.
    pub async fn run(mut self) {
        self.probe_once().await;
        // A random part of the first interval, so that backends of one configuration are not probed at the same time
        // later.
        self.pause(self.check.interval.get().mul_f64(fastrand::f64())).await;
        loop {
            self.probe_once().await;
            self.pause(next_wait(self.check.interval, self.check.jitter.fraction(), fastrand::f64())).await;
        }
    }

    async fn pause(&self, wait: Duration) {
        // An interval of zero would spin.
        let until = tokio::time::Instant::now() + wait.max(Duration::from_millis(1));
        tokio::time::sleep_until(on_grid(until, PROBE_GRID.min(self.check.interval.get() / 100))).await;
    }

    async fn probe_once(&mut self) {
        let started = Instant::now();
        // Boxed, because this future has about ten kilobytes: the task always exists, a probe runs rarely.
        let result = Box::pin(self.once()).await;
        self.judge(result, started.elapsed());
    }

    /// Runs one probe. A name that has not resolved yet gets the timeout of the probe to do so.
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
        let reason = result.err().map(|failure| failure.reason).unwrap_or_default();
        let failure = Some(&*reason).filter(|reason| !reason.is_empty());
        self.state.last_check().record(failure, took, clock::now_ms());
        let first = self.hysteresis.verdict() == Health::Unknown;
        match self.hysteresis.step(reason.is_empty()) {
            Some(verdict) => {
                if first && verdict == Health::Up {
                    // All backends of one activation begin their slow start at the same time. So an early probe or a
                    // fast answer gives no backend a lead.
                    self.state.load().set_serving(true, self.since_ms);
                }
                self.state.set_health(verdict, &reason, clock::now_ms());
                self.say(verdict, &reason);
                (self.changed)();
            }
            // Still down, but for another reason.
            None if self.hysteresis.verdict() == Health::Down
                && !reason.is_empty()
                && **self.state.reason() != reason =>
            {
                self.state.set_health(Health::Down, &reason, clock::now_ms());
            }
            None => {}
        }
    }

    /// Whether a failure says nothing about the backend. A lack of ports does count while the backend has no verdict.
    /// connect(2) reports the same error if no local address fits the backend's, and then free ports do not help.
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

/// The first point of a grid, shared by all checkers, that is not before `at`.
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

    fn checker(check: &str, health: Health, since_ms: u64) -> HealthChecker {
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
    async fn a_waiting_checker_task_is_small() {
        for check in ["http: {}", "tcp: {}", "grpc: {}"] {
            let size = size_of_val(&checker(check, Health::Up, 0).run());
            assert!(size <= 1536, "{check}: {size} bytes for each backend, probed or not");
        }
    }

    #[tokio::test]
    async fn a_backend_up_at_its_first_probe_serves_since_its_activation() {
        for (health, results, since) in
            [(Health::Unknown, "+", 7), (Health::Unknown, "-++", 0), (Health::Down, "++", 0)]
        {
            let mut checker = checker("{http: {}, rise: 2}", health, 7);
            for result in results.chars() {
                let result = if result == '+' { Ok(()) } else { Err("refused".to_owned().into()) };
                checker.judge(result, Duration::ZERO);
            }
            assert_eq!(checker.state.health(), Health::Up);
            assert_eq!(checker.state.load().serving_since_ms(), since, "{health:?} {results}");
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
