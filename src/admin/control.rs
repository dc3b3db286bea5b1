//! The interface between the admin listener and the running process. `server` implements it.

use std::sync::Arc;

use axum::extract::State;

use crate::telemetry::Metrics;

use super::activity::Activity;
use super::api::{BackendReply, ReloadReply, StatusReply};
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
