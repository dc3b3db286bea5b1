//! The runtime state that passes to the new process: changes by the operator, retry budgets, debts of rate limits.
//!
//! A new section is a new field with a default. `VERSION` changes only if an old field gets another meaning.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::labels::AdminState;
use crate::clock;
use crate::rate_limit::{HashSecret, LimitDebts};
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::upstream::admin_override::BackendOverride;
use crate::upstream::backend::Backend;
use crate::upstream::manager::UpstreamManager;

/// The version of the form.
const VERSION: u64 = 1;

/// The runtime state of a process.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct RuntimeState {
    version: u64,
    overrides: Vec<Override>,
    budgets: Vec<Budget>,
    /// The debts contain hashes with this secret.
    hash_secret: Option<HashSecret>,
    limits: Vec<LimitDebts>,
}

/// The changes of an operator to one backend.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Override {
    upstream: String,
    backend: String,
    state: Option<AdminState>,
    weight: Option<u16>,
}

/// The retry budget of an upstream: requests and retries of each second, from the present one back.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Budget {
    upstream: String,
    seconds: Vec<[u64; 2]>,
}

/// The state of this process.
pub(super) fn capture(snapshot: &Snapshot) -> serde_json::Value {
    let upstreams = || snapshot.upstreams.values();
    let state = RuntimeState {
        version: VERSION,
        overrides: upstreams().flat_map(overrides).collect(),
        budgets: upstreams().filter_map(|upstream| budget(upstream)).collect(),
        hash_secret: Some(HashSecret::of_process()),
        limits: snapshot.rate_limits.iter().filter_map(|limit| limit.debts(clock::now_ns())).collect(),
    };
    serde_json::to_value(state).unwrap_or_default()
}

/// Adopts the state of the old process. A section that does not fit the configuration is logged and dropped.
pub(super) fn adopt(state: serde_json::Value, snapshot: &Snapshot, manager: &UpstreamManager) {
    let version = state["version"].clone();
    if version != VERSION {
        tracing::warn!(%version, "the runtime state of the old process has an unknown version: it is dropped");
        return;
    }
    let state: RuntimeState = match serde_json::from_value(state) {
        Ok(state) => state,
        Err(error) => {
            tracing::warn!(%error, "the runtime state of the old process cannot be read: it is dropped");
            return;
        }
    };
    // A weight may be refused until another weight is there.
    let refused = |wanted: &&Override| adopt_override(wanted, snapshot, manager).is_err();
    let refused: Vec<_> = state.overrides.iter().filter(refused).collect();
    for wanted in refused {
        if let Err(error) = adopt_override(wanted, snapshot, manager) {
            let backend = format!("{}/{}", wanted.upstream, wanted.backend);
            tracing::warn!(backend, error, "a change by the operator is dropped");
        }
    }
    for budget in &state.budgets {
        if let Some(upstream) = find(snapshot, &budget.upstream) {
            upstream.budget().add_counts(&budget.seconds, clock::now_ms());
        }
    }
    adopt_debts(state.hash_secret, state.limits, snapshot);
}

fn overrides(upstream: &Arc<Upstream>) -> Vec<Override> {
    let of = |backend: &Arc<Backend>| {
        let state = Some(backend.state.admin_state()).filter(|state| *state != AdminState::Ready);
        let weight = backend.state.runtime_weight();
        let (upstream, backend) = (upstream.name().to_string(), backend.name.to_string());
        (state.is_some() || weight.is_some()).then_some(Override { upstream, backend, state, weight })
    };
    upstream.backends().iter().filter_map(of).collect()
}

fn budget(upstream: &Upstream) -> Option<Budget> {
    let seconds = upstream.budget().counts(clock::now_ms());
    let is_used = seconds.iter().flatten().any(|count| *count > 0);
    is_used.then(|| Budget { upstream: upstream.name().to_string(), seconds })
}

fn adopt_override(wanted: &Override, snapshot: &Snapshot, manager: &UpstreamManager) -> Result<(), String> {
    let upstream = find(snapshot, &wanted.upstream).ok_or("there is no such upstream any more")?;
    let backend = upstream.backend(&wanted.backend).ok_or("there is no such backend any more")?;
    let now = clock::now_ms();
    // Apart from the weight: a refused weight must not bring a drained backend back.
    let marked = upstream.apply_override(&backend, BackendOverride { mark: wanted.state, weight: None }, now);
    let weighted = wanted.weight.map_or(Ok(()), |weight| {
        upstream.apply_override(&backend, BackendOverride { mark: None, weight: Some(Some(weight)) }, now)
    });
    manager.rebuild(upstream.name());
    marked.and(weighted)
}

fn adopt_debts(secret: Option<HashSecret>, limits: Vec<LimitDebts>, snapshot: &Snapshot) {
    if !secret.is_some_and(HashSecret::adopt) {
        if !limits.is_empty() {
            tracing::warn!("the debts of rate limits are dropped: the secret of their hashes is not usable");
        }
        return;
    }
    for debts in limits {
        let name = debts.limit.clone();
        let limit = snapshot.rate_limits.iter().find(|limit| limit.name().as_str() == name);
        if !limit.is_some_and(|limit| limit.adopt_debts(debts, clock::now_ns())) {
            tracing::warn!(limit = name, "the debts of a rate limit are dropped: it has changed or is gone");
        }
    }
}

fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Arc<Upstream>> {
    snapshot.upstreams.values().find(|upstream| &**upstream.name() == name)
}
