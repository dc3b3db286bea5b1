//! The words of `GET /api/v1/explain`, and its question: written by the process, read by `weir explain`.

use serde::{Deserialize, Serialize};

use super::api::BackendReply;

/// What becomes of a request like this.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The method as it was looked for.
    pub method: String,
    /// The host as it was looked for; null: none.
    pub host: Option<String>,
    /// The path as it was looked for.
    pub path: String,
    /// The listener that the request is taken to come in on; null: none was named, and there are several.
    #[serde(default)]
    pub listener: Option<String>,
    /// The route that takes it; null: none does, it is answered 404, or redirected if `action` says so.
    pub route: Option<String>,
    /// What happens: `upstream`, `split`, `redirect` or `respond` by the route, or `redirect_https` by the listener.
    pub action: Option<String>,
    /// All routes in the file's order.
    pub routes: Vec<ExplainedRoute>,
    /// Where it may go.
    pub upstreams: Vec<ExplainedUpstream>,
}

/// A route and why it is or is not the one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedRoute {
    /// Its name.
    pub name: String,
    /// All its conditions hold.
    pub matches: bool,
    /// Why it is or is not the one.
    pub why: String,
}

/// An upstream that the request may go to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedUpstream {
    /// Its name.
    pub name: String,
    /// The share of requests that go to it, 0 to 1.
    pub share: f64,
    /// Its balancer.
    pub balance: String,
    /// Backends that are down are tried for want of anything better.
    pub fail_open: bool,
    /// In the order of the configuration.
    pub backends: Vec<ExplainedBackend>,
}

/// A backend and why it would or would not be picked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedBackend {
    /// How it is.
    #[serde(flatten)]
    pub status: BackendReply,
    /// It may be picked.
    pub eligible: bool,
    /// It would be picked now.
    pub next: bool,
    /// What the balancer compares, the lowest goes first; null where it compares nothing.
    pub score: Option<f64>,
    /// Why.
    pub why: String,
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The method; GET where none is said.
    pub method: String,
    /// `http://host/path`, or a path.
    pub url: String,
    /// Header fields, `name: value`.
    pub headers: Vec<String>,
    /// The name of the listener that the request comes in on.
    pub listener: Option<String>,
}
