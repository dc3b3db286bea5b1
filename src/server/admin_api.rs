//! Implements the `Control` trait of the admin API on the components of the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::api_values::{balance, list, shown};
use super::logs::BothLogs;
use super::maintenance::MaintenanceSwitch;
use super::rate_limit_status;
use super::split_status;
use super::upgrade::{UpgradeResult, Upgrades};
use crate::acme;
use crate::admin::activity::Activity;
use crate::admin::api::{self, ReloadReply, StatusReply};
use crate::admin::api_explain::{Explanation, Question};
use crate::admin::api_limits::LimitsReply;
use crate::admin::control::{ControlError, Readiness};
use crate::admin::{AdminToken, Control};
use crate::clock;
use crate::config;
use crate::lifecycle::Lifecycle;
use crate::listener::{ListenerStatus, Listeners};
use crate::proxy::Proxy;
use crate::reload::{LastReload, ReloadOutcome, Reloader};
use crate::snapshot::{CurrentSnapshot, Snapshot};
use crate::telemetry::Metrics;
use crate::tls::CertificateStatus;
use crate::upstream::Upstream;
use crate::upstream::admin_override::BackendOverride;
use crate::upstream::backend::Backend;
use crate::upstream::manager::UpstreamManager;
use crate::upstream::status::{DiscoveryStatus, status_of};

/// All components of the running process, for the admin API and the signal handlers.
pub(super) struct AdminApi {
    pub(super) acme: Arc<acme::AcmeManager>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) shared: Arc<CurrentSnapshot>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) manager: Arc<UpstreamManager>,
    pub(super) reloader: Reloader<Proxy>,
    pub(super) logs: BothLogs,
    pub(super) token: AdminToken,
    pub(super) upgrades: Upgrades,
    pub(super) maintenance: MaintenanceSwitch,
}

impl Control for AdminApi {
    fn status(&self) -> StatusReply {
        let snapshot = self.shared.load();
        StatusReply {
            pid: std::process::id(),
            version: crate::VERSION.to_owned(),
            generation: snapshot.generation,
            ready: self.ready().ready,
            draining: self.lifecycle.is_draining(),
            processes: self.processes(),
            last_reload: self.reloader.last().map(last_reload),
            listeners: self.listeners.status().into_iter().map(listener).collect(),
            certificates: self.listeners.certificates().status().into_iter().map(certificate).collect(),
            acme: self.acme.status().into_iter().map(ordered).collect(),
            maintenance: MaintenanceSwitch::all_on(&snapshot),
            upstreams: snapshot.upstreams.values().map(|each| upstream(each, &self.metrics)).collect(),
            splits: split_status::all(&snapshot),
        }
    }

    fn activity(&self) -> Activity {
        let reloads = self.reloader.recent().iter().cloned().map(last_reload).collect();
        Activity { reloads, ..super::activity::activity(&self.shared.load(), &self.metrics) }
    }

    fn limits(&self) -> LimitsReply {
        rate_limit_status::limits(&self.shared.load())
    }

    fn config(&self) -> serde_json::Value {
        config::masked(&self.shared.load().document).unwrap_or_else(|error| {
            tracing::error!(%error, "the configuration in force could not be shown");
            serde_json::Value::Null
        })
    }

    fn reload(&self) -> ReloadReply {
        match self.reloader.reload() {
            ReloadOutcome::Applied { generation, changes, fixed, warnings } => {
                ReloadReply::Applied { generation, changes, fixed, warnings: problems(&warnings) }
            }
            ReloadOutcome::Rejected { problems: all } => ReloadReply::Rejected { problems: problems(&all) },
        }
    }

    fn diff(&self, yaml: &str) -> ReloadReply {
        match self.reloader.diff(yaml) {
            ReloadOutcome::Applied { generation, changes, fixed, warnings } => {
                ReloadReply::Valid { generation, changes, fixed, warnings: problems(&warnings) }
            }
            ReloadOutcome::Rejected { problems: all } => ReloadReply::Rejected { problems: problems(&all) },
        }
    }

    fn upgrade(&self, timeout: Option<Duration>) -> oneshot::Receiver<UpgradeResult> {
        self.upgrades.ask(timeout)
    }

    fn backend(&self, upstream: &str, backend: &str) -> Result<api::BackendReply, ControlError> {
        self.find(upstream, backend).map(|(_, backend)| shown(status_of(&backend)))
    }

    fn set_override(
        &self,
        upstream: &str,
        backend: &str,
        wanted: BackendOverride,
    ) -> Result<api::BackendReply, ControlError> {
        let (upstream, backend) = self.find(upstream, backend)?;
        upstream.apply_override(&backend, wanted, clock::now_ms()).map_err(ControlError::Impossible)?;
        self.manager.rebuild(upstream.name());
        let status = status_of(&backend);
        let (name, state, weight) = (upstream.name(), status.state.label(), status.effective_weight);
        tracing::info!(upstream = &**name, backend = status.name, state, weight, "changed by operator");
        Ok(shown(status))
    }

    fn maintenance(&self, route: &str) -> Result<api::MaintenanceReply, ControlError> {
        self.maintenance.of(&self.shared.load(), route)
    }

    fn set_maintenance(&self, route: &str, on: bool) -> Result<api::MaintenanceReply, ControlError> {
        self.maintenance.set(&self.shared.load(), route, on)
    }

    fn split(&self, route: &str) -> Result<api::SplitReply, ControlError> {
        split_status::one(&self.shared.load(), route)
    }

    fn set_split(&self, route: &str, weights: Option<&BTreeMap<String, u16>>) -> Result<api::SplitReply, ControlError> {
        self.reloader.exclusively(|snapshot| split_status::change(snapshot, route, weights))
    }

    fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        super::explain::explain(&self.shared.load(), question).map_err(ControlError::Impossible)
    }

    fn ready(&self) -> Readiness {
        let reason = if self.lifecycle.is_draining() {
            "draining".to_owned()
        } else if !self.lifecycle.is_bound() {
            "listeners are not bound yet".to_owned()
        } else {
            pending_verdict(&self.shared.load()).unwrap_or_default()
        };
        Readiness { ready: reason.is_empty(), reason }
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

/// The first upstream whose backends are not all checked yet, as a reason for not being ready.
pub(super) fn pending_verdict(snapshot: &Snapshot) -> Option<String> {
    let upstream = snapshot.upstreams.values().find(|upstream| upstream.verdict_pending())?;
    let first = if upstream.look_pending() { "look for backends" } else { "health checks" };
    Some(format!("upstream {} waits for its first {first}", upstream.name()))
}

impl AdminApi {
    /// This process, the one that an upgrade is starting, and the old ones that still drain.
    fn processes(&self) -> Vec<api::ProcessReply> {
        let own = if self.lifecycle.is_draining() { "draining" } else { "serving" };
        let reply = |pid, state: &str, connections| api::ProcessReply {
            pid,
            version: crate::VERSION.to_owned(),
            state: state.to_owned(),
            connections,
            since: None,
        };
        let mut processes = vec![reply(std::process::id(), own, self.listeners.open() as u64)];
        if self.upgrades.is_running() {
            processes.push(reply(0, "starting", 0));
        }
        processes.extend(self.upgrades.old.all().iter().map(|old| api::ProcessReply {
            version: old.about.version.clone(),
            since: api::rfc3339(old.about.since_unix_ms),
            ..reply(old.about.pid, "draining", old.connections())
        }));
        processes
    }

    /// Looks up a backend in the current snapshot.
    fn find(&self, upstream: &str, backend: &str) -> Result<(Arc<Upstream>, Arc<Backend>), ControlError> {
        let snapshot = self.shared.load();
        let Some(found) = snapshot.upstreams.values().find(|each| &**each.name() == upstream) else {
            let there = snapshot.upstreams.keys().map(|name| name.as_str());
            return Err(ControlError::NotThere(format!("no upstream `{upstream}`; there is {}", list(there))));
        };
        let Some(member) = found.backend(backend) else {
            let there = list(found.backends().iter().map(|backend| &*backend.name));
            return Err(ControlError::NotThere(format!(
                "upstream `{upstream}` has no backend `{backend}`; there is {there}"
            )));
        };
        Ok((Arc::clone(found), member))
    }
}

fn problems(problems: &[config::Problem]) -> Vec<api::ProblemReply> {
    problems.iter().map(problem).collect()
}

fn problem(problem: &config::Problem) -> api::ProblemReply {
    api::ProblemReply {
        severity: problem.severity,
        file: problem.file.display().to_string(),
        line: problem.line as u64,
        column: problem.column as u64,
        path: problem.path.clone(),
        what: problem.what.clone(),
        hint: problem.hint.clone(),
    }
}

fn last_reload(last: LastReload) -> api::LastReloadReply {
    let time = api::rfc3339(millis(last.at)).unwrap_or_default();
    match last.result {
        ReloadOutcome::Applied { changes, .. } => {
            api::LastReloadReply { result: "applied".into(), time, changes, problems: Vec::new() }
        }
        ReloadOutcome::Rejected { problems: all } => {
            let problems = problems(&all);
            api::LastReloadReply { result: "rejected".into(), time, changes: Vec::new(), problems }
        }
    }
}

fn listener(status: ListenerStatus) -> api::ListenerReply {
    api::ListenerReply {
        name: status.name.to_string(),
        address: status.address.to_string(),
        bound: true,
        connections: status.connections,
    }
}

fn certificate(status: CertificateStatus) -> api::CertificateReply {
    let left = status.not_after - i64::try_from(millis(SystemTime::now()) / 1000).unwrap_or(i64::MAX);
    api::CertificateReply {
        name: status.name,
        names: status.names,
        not_after: api::rfc3339(u64::try_from(status.not_after).unwrap_or_default() * 1000).unwrap_or_default(),
        days_left: left.div_euclid(24 * 3600),
    }
}

fn ordered(status: acme::AcmeStatus) -> api::AcmeName {
    let next = |at| api::rfc3339(u64::try_from(at).unwrap_or_default() * 1000).unwrap_or_default();
    api::AcmeName {
        name: status.name,
        state: status.state.to_owned(),
        failures: status.failures,
        error: status.error,
        next_order: status.next.map(next),
    }
}

fn upstream(upstream: &Arc<Upstream>, metrics: &Metrics) -> api::UpstreamReply {
    let status = upstream.status();
    let meters = metrics.upstream(&status.name);
    api::UpstreamReply {
        name: status.name,
        refused_last_minute: meters.refusals().last_minute(clock::now_ms()),
        last_refusal: meters.refusals().last().and_then(|last| {
            let time = api::rfc3339(clock::to_unix_ms(last.at_ms))?;
            Some(api::LastError { time, cause: last.cause.into() })
        }),
        balance: balance(status.balance),
        discovery: status.discovery.map(discovery),
        backends: status.backends.into_iter().map(shown).collect(),
    }
}

fn discovery(status: DiscoveryStatus) -> api::DiscoveryReply {
    let DiscoveryStatus { source, last_success, error, failures } = status;
    api::DiscoveryReply { source, last_success, error, failures }
}

fn millis(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
