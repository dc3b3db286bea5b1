//! What the admin listener may ask of the running process. The server room implements it; here is only the door.

use std::sync::Arc;

use axum::extract::State;

use crate::telemetry::Metrics;

use super::api::{BackendReply, ReloadReply, StatusReply};
use super::api_explain::{Explanation, Question};
use crate::upstream::admin_override::BackendOverride;

/// The running process, as axum hands it to a handler.
pub(super) type SharedControl = State<Arc<dyn Control>>;

/// The running process, as the admin listener sees it. No call may wait for a request's end.
pub trait Control: Send + Sync + 'static {
    /// How everything is.
    fn status(&self) -> StatusReply;

    /// The effective configuration, secrets masked.
    fn config(&self) -> serde_json::Value;

    /// Reads the configuration's file and puts it in force, or says why not. May block: it is called where that is
    /// allowed, with a runtime at hand.
    fn reload(&self) -> ReloadReply;

    /// What a reload would do if the file were this. May block.
    fn diff(&self, yaml: &str) -> ReloadReply;

    /// How one backend is.
    ///
    /// # Errors
    /// There is none of that name.
    fn backend(&self, upstream: &str, backend: &str) -> Result<BackendReply, ControlError>;

    /// Does what an operator wants of one backend; how it is then.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be honoured; then nothing has changed.
    fn set_override(
        &self,
        upstream: &str,
        backend: &str,
        wanted: BackendOverride,
    ) -> Result<BackendReply, ControlError>;

    /// What would become of a request, without changing a thing.
    ///
    /// # Errors
    /// What is wrong with the question.
    fn explain(&self, question: &Question) -> Result<Explanation, ControlError>;

    /// Whether the process should get traffic.
    fn ready(&self) -> Readiness;

    /// The registry.
    fn metrics(&self) -> Arc<Metrics>;
}

/// Whether the process should get traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It should.
    pub ready: bool,
    /// Why not; empty if it should.
    pub reason: String,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlError {
    /// Nothing of that name; says what there is.
    NotThere(String),
    /// It cannot be honoured.
    Impossible(String),
}
