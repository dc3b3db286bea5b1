//! What the admin asks of the process, answered from the rooms that know.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::logs::BothLogs;
use crate::admin::control::Readiness;
use crate::admin::reply::{self, ReloadReply, Status};
use crate::admin::{Control, Token};
use crate::config;
use crate::life::Life;
use crate::listener::{ListenerStatus, Listeners};
use crate::proxy::Proxy;
use crate::reload::{LastReload, Reloaded, Reloader};
use crate::snapshot::Shared;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// The rooms, for those who steer the process.
pub(super) struct ControlRoom {
    pub(super) metrics: Arc<Metrics>,
    pub(super) life: Arc<Life>,
    pub(super) shared: Arc<Shared>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) reloader: Reloader<Proxy>,
    pub(super) logs: BothLogs,
    pub(super) token: Token,
}

impl Control for ControlRoom {
    fn status(&self) -> Status {
        let snapshot = self.shared.load();
        Status {
            pid: std::process::id(),
            version: crate::VERSION.to_owned(),
            generation: snapshot.generation,
            ready: self.ready().ready,
            draining: self.life.is_draining(),
            last_reload: self.reloader.last().map(last_reload),
            listeners: self.listeners.status().into_iter().map(listener).collect(),
            upstreams: snapshot.upstreams.values().map(upstream).collect(),
        }
    }

    fn config(&self) -> serde_json::Value {
        config::masked(&self.shared.load().document).unwrap_or_else(|error| {
            tracing::error!(%error, "the configuration in force could not be shown");
            serde_json::Value::Null
        })
    }

    fn reload(&self) -> ReloadReply {
        match self.reloader.reload() {
            Reloaded::Applied { generation, changes, fixed } => ReloadReply::Applied { generation, changes, fixed },
            Reloaded::Rejected { problems } => rejected(&problems),
        }
    }

    fn diff(&self, yaml: &str) -> ReloadReply {
        match self.reloader.diff(yaml) {
            Reloaded::Applied { generation, changes, fixed } => ReloadReply::Valid { generation, changes, fixed },
            Reloaded::Rejected { problems } => rejected(&problems),
        }
    }

    fn ready(&self) -> Readiness {
        let pending = || self.shared.load().upstreams.values().find(|upstream| upstream.verdict_pending()).cloned();
        let reason = if self.life.is_draining() {
            "draining".to_owned()
        } else if !self.life.is_bound() {
            "listeners are not bound yet".to_owned()
        } else if let Some(upstream) = pending() {
            format!("upstream {} waits for its first health checks", upstream.name())
        } else {
            String::new()
        };
        Readiness { ready: reason.is_empty(), reason }
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

fn rejected(problems: &[config::Problem]) -> ReloadReply {
    ReloadReply::Rejected { problems: problems.iter().map(problem).collect() }
}

fn problem(problem: &config::Problem) -> reply::Problem {
    reply::Problem {
        file: problem.file.display().to_string(),
        line: problem.line as u64,
        column: problem.column as u64,
        path: problem.path.clone(),
        what: problem.what.clone(),
        hint: problem.hint.clone(),
    }
}

fn last_reload(last: LastReload) -> reply::LastReload {
    let time = reply::rfc3339(millis(last.at)).unwrap_or_default();
    match last.result {
        Reloaded::Applied { changes, .. } => {
            reply::LastReload { result: "applied".into(), time, changes, problems: Vec::new() }
        }
        Reloaded::Rejected { problems } => {
            let problems = problems.iter().map(problem).collect();
            reply::LastReload { result: "rejected".into(), time, changes: Vec::new(), problems }
        }
    }
}

fn listener(status: ListenerStatus) -> reply::Listener {
    reply::Listener {
        name: status.name.to_string(),
        address: status.address.to_string(),
        bound: true,
        connections: status.connections,
    }
}

fn upstream(upstream: &Arc<Upstream>) -> reply::Upstream {
    let status = upstream.status();
    let balance = serde_json::to_value(status.balance).ok();
    let backends = status.backends.into_iter().map(|backend| reply::Backend {
        name: backend.name,
        address: backend.address,
        state: backend.state,
        reason: backend.reason.unwrap_or_default(),
        since: backend.since,
        in_flight: backend.in_flight,
        weight: backend.weight,
        effective_weight: backend.effective_weight,
    });
    reply::Upstream {
        name: status.name,
        balance: balance.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default(),
        backends: backends.collect(),
    }
}

fn millis(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
