//! The JSON types of `GET /api/v1/explain`, shared by the server and by `weir explain`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use serde_json::Value;

use super::api::BackendReply;

/// The explanation of how a request would be handled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The method after normalisation.
    pub method: String,
    /// The host after normalisation. Null if there is none.
    pub host: Option<String>,
    /// The path after normalisation.
    pub path: String,
    /// The listener that is assumed to accept the request. Null if the question names none and there are several.
    #[serde(default)]
    pub listener: Option<String>,
    /// The matching route. Null if none matches: the response is then 404, or the redirect in `action`.
    pub route: Option<String>,
    /// The action: `upstream`, `split`, `redirect` or `respond` of the route, `redirects` if its file has a redirect for the
    /// path, or `redirect_https` of the listener.
    pub action: Option<String>,
    /// The status of a `redirect` or `respond` route, or of `redirect_https`. Null if a backend answers.
    #[serde(default)]
    pub status: Option<u16>,
    /// The Location of a redirect.
    #[serde(default)]
    pub location: Option<String>,
    /// The decision of `cors` about the origin of the request, in words. Null without one.
    #[serde(default)]
    pub cors: Option<String>,
    /// The line of the file of `redirects`. Null if the file has no redirect for the path.
    #[serde(default)]
    pub redirect_line: Option<usize>,
    /// How a sticky split decides about the request. Null for other routes.
    #[serde(default)]
    pub split: Option<String>,
    /// Where copies of the request go. Null if the route has no mirror.
    #[serde(default)]
    pub mirror: Option<String>,
    /// The path and query that a backend receives. Null if the route does not rewrite them.
    #[serde(default)]
    pub rewritten: Option<String>,
    /// The listeners that redirect the request to https. Empty if the listener is known.
    #[serde(default)]
    pub redirecting_listeners: Vec<RedirectingListener>,
    /// The effective values of the keys that `defaults` can set, for the matching route. Without those that Weir itself
    /// would choose.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
    /// All routes in the order of the configuration.
    pub routes: Vec<ExplainedRoute>,
    /// The rate limits that apply to the request, in the order in which they are asked.
    #[serde(default)]
    pub limits: Vec<ExplainedLimit>,
    /// The access policies that apply to the request, in the order in which they are asked.
    #[serde(default)]
    pub access: Vec<ExplainedPolicy>,
    /// The upstreams that may get the request.
    pub upstreams: Vec<ExplainedUpstream>,
}

/// A listener with `redirect_https` on which no route takes the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RedirectingListener {
    /// Its name.
    pub name: String,
    /// The Location of its answer.
    pub location: String,
}

/// A rate limit, and its decision about the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedLimit {
    /// Its name.
    pub name: String,
    /// The key of the request. Null if the request has none.
    pub key: Option<String>,
    /// The tokens that are left in memory. Null without a rate.
    pub remaining: Option<u64>,
    /// The requests of this key in flight.
    pub in_flight: u32,
    /// Whether it would refuse the request now.
    pub limits: bool,
    /// The decision in words.
    pub verdict: String,
}

/// An access policy of the route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPolicy {
    /// Its name.
    pub name: String,
    /// Whether it must pass, or one of several.
    pub need: String,
    /// Its decision, in words.
    pub verdict: String,
}

/// A route, and why it matches or does not match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedRoute {
    /// Its name.
    pub name: String,
    /// Whether all its conditions hold.
    pub matches: bool,
    /// Why it was chosen or not.
    pub why: String,
}

/// An upstream that may get the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedUpstream {
    /// Its name.
    pub name: String,
    /// The share of requests that it gets, 0 to 1.
    pub share: f64,
    /// Its load balancing algorithm.
    pub balance: String,
    /// The part of a request that `consistent_hash` hashes, such as ``header `x-user` ``. Null for other algorithms.
    #[serde(default)]
    pub hash: Option<String>,
    /// Whether the request has this part. A request without it goes to a random backend.
    #[serde(default)]
    pub has_key: bool,
    /// Whether backends that are down are picked too, because too few are up.
    pub fail_open: bool,
    /// In the order of the configuration.
    pub backends: Vec<ExplainedBackend>,
}

/// A backend, and why it would be picked or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedBackend {
    /// Its state.
    #[serde(flatten)]
    pub status: BackendReply,
    /// Whether it may be picked.
    pub eligible: bool,
    /// Whether it would be picked now.
    pub next: bool,
    /// The value that the balancer compares; the lowest wins. Null if the balancer compares nothing.
    pub score: Option<f64>,
    /// The reason.
    pub why: String,
}

/// The request to explain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The method. GET by default.
    pub method: String,
    /// `http://host/path`, or a path.
    pub url: String,
    /// Header fields, `name: value`.
    pub headers: Vec<String>,
    /// The name of the listener that accepts the request.
    pub listener: Option<String>,
    /// The address of the client.
    pub client: Option<String>,
}
