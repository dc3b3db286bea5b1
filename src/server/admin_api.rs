//! Implements the `Control` trait of the admin API on the components of the process.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::api_values::{balance, shown};
use super::logs::BothLogs;
use super::rate_limit_status;
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
use crate::snapshot::CurrentSnapshot;
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
            last_reload: self.reloader.last().map(last_reload),
            listeners: self.listeners.status().into_iter().map(listener).collect(),
            certificates: self.listeners.certificates().status().into_iter().map(certificate).collect(),
            acme: self.acme.status().into_iter().map(ordered).collect(),
            upstreams: snapshot.upstreams.values().map(|each| upstream(each, &self.metrics)).collect(),
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

    fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        super::explain::explain(&self.shared.load(), question).map_err(ControlError::Impossible)
    }

    fn ready(&self) -> Readiness {
        let pending = || self.shared.load().upstreams.values().find(|upstream| upstream.verdict_pending()).cloned();
        let reason = if self.lifecycle.is_draining() {
            "draining".to_owned()
        } else if !self.lifecycle.is_bound() {
            "listeners are not bound yet".to_owned()
        } else if let Some(upstream) = pending() {
            let first = if upstream.look_pending() { "look for backends" } else { "health checks" };
            format!("upstream {} waits for its first {first}", upstream.name())
        } else {
            String::new()
        };
        Readiness { ready: reason.is_empty(), reason }
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

impl AdminApi {
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

/// Formats names for an error message, at most 20 of them.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
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
