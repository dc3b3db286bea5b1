//! The interface between the admin listener and the running process. `server` implements it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use tokio::sync::oneshot;

use crate::telemetry::Metrics;

use super::activity::Activity;
use super::api::{BackendReply, MaintenanceReply, ReloadReply, SplitReply, StatusReply, UpgradeReply};
use super::api_explain::{Explanation, Question};
use super::api_limits::LimitsReply;
use crate::upstream::admin_override::BackendOverride;

/// The interface as an axum state extractor.
pub(super) type SharedControl = State<Arc<dyn Control>>;

/// The running process, as the admin listener uses it. No method may wait until a request ends.
pub trait Control: Send + Sync + 'static {
    /// The status of the process.
    fn status(&self) -> StatusReply;

    /// The counters of routes and backends, the latest reloads and the latest failed requests.
    fn activity(&self) -> Activity;

    /// The rate limits, with the keys that have the largest debt.
    fn limits(&self) -> LimitsReply;

    /// The effective configuration, with secrets masked.
    fn config(&self) -> serde_json::Value;

    /// Reads the configuration file and activates it, or returns the problems. May block, so call it on a thread that
    /// may block and has a tokio runtime.
    fn reload(&self) -> ReloadReply;

    /// The result that a reload would have with this document. May block.
    fn diff(&self, yaml: &str) -> ReloadReply;

    /// Replaces the process by the program on disk. The result comes when the new process serves or has failed.
    fn upgrade(&self, timeout: Option<Duration>) -> oneshot::Receiver<Result<UpgradeReply, ControlError>>;

    /// The state of one backend.
    ///
    /// # Errors
    /// There is no such upstream or backend.
    fn backend(&self, upstream: &str, backend: &str) -> Result<BackendReply, ControlError>;

    /// Applies an operator override to one backend and returns its new state.
    ///
    /// # Errors
    /// There is no such backend, or the override is impossible. Nothing has changed then.
    fn set_override(
        &self,
        upstream: &str,
        backend: &str,
        wanted: BackendOverride,
    ) -> Result<BackendReply, ControlError>;

    /// The maintenance of a route.
    ///
    /// # Errors
    /// There is no such route.
    fn maintenance(&self, route: &str) -> Result<MaintenanceReply, ControlError>;

    /// Switches the maintenance of a route. May block.
    ///
    /// # Errors
    /// There is no such route, or the change cannot be stored. Nothing has changed then.
    fn set_maintenance(&self, route: &str, on: bool) -> Result<MaintenanceReply, ControlError>;

    /// The split of a route.
    ///
    /// # Errors
    /// There is no such route, or it has no split.
    fn split(&self, route: &str) -> Result<SplitReply, ControlError>;

    /// Sets weights of a route's split and returns the split. `None` restores the configured weights. May wait for a
    /// reload, so call it on a thread that may block.
    ///
    /// # Errors
    /// There is no such split, or the weights are impossible. Nothing has changed then.
    fn set_split(&self, route: &str, weights: Option<&BTreeMap<String, u16>>) -> Result<SplitReply, ControlError>;

    /// Explains how a request would be handled. Has no side effects.
    ///
    /// # Errors
    /// The question is invalid.
    fn explain(&self, question: &Question) -> Result<Explanation, ControlError>;

    /// Whether the process is ready for traffic.
    fn ready(&self) -> Readiness;

    /// The metrics registry.
    fn metrics(&self) -> Arc<Metrics>;
}

/// Whether the process is ready for traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// True if it is ready.
    pub ready: bool,
    /// Why it is not ready. Empty if it is.
    pub reason: String,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlError {
    /// There is nothing of this name. The text lists the existing names.
    NotThere(String),
    /// The change is impossible.
    Impossible(String),
}
