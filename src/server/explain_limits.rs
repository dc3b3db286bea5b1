//! The rate limits in `weir explain`: which apply to a request, and what each would decide. Nothing is taken from them.

use std::net::IpAddr;

use pingora::http::RequestHeader;

use super::explain_request::ExplainedRequest;
use crate::admin::api_explain::ExplainedLimit;
use crate::clock;
use crate::proxy::{KeyOfRequest, LimitedRequest, with_key};
use crate::rate_limit::Limit;
use crate::snapshot::Route;

/// The limits of a route for this request.
pub(super) fn limits(route: &Route, request: &ExplainedRequest) -> Vec<ExplainedLimit> {
    let name = route.meters.name();
    route.rate_limits.iter().map(|limit| one(limit, &request.header, request.client, name)).collect()
}

fn one(limit: &Limit, request: &RequestHeader, client: Option<IpAddr>, route: &str) -> ExplainedLimit {
    let name = limit.name().to_string();
    with_key(limit, LimitedRequest { request, client, route, identity: None }, |key| match key {
        KeyOfRequest::Value(key) => {
            let preview = limit.preview(key, clock::now_ns());
            let (limits, verdict) = match (&preview.refusal, limit.settings().enforce) {
                _ if limit.is_shared() => (false, "its store decides".to_owned()),
                (Some(refusal), true) => (true, format!("429, retry after {} s", refusal.retry_after)),
                (Some(_), false) => (false, "would be limited, but `enforce` is false".to_owned()),
                (None, _) => (false, "allowed".to_owned()),
            };
            let (remaining, in_flight) = (preview.remaining, preview.in_flight);
            ExplainedLimit { name, key: Some(preview.key), remaining, in_flight, limits, verdict }
        }
        KeyOfRequest::Skip => without_key(name, false, "not limited: the request has no value for the key"),
        KeyOfRequest::Reject => {
            let enforce = limit.settings().enforce;
            let verdict = match enforce {
                true => "403: the request has no value for the key",
                false => "would be answered 403 without a value for the key, but `enforce` is false",
            };
            without_key(name, enforce, verdict)
        }
    })
}

fn without_key(name: String, limits: bool, verdict: &str) -> ExplainedLimit {
    ExplainedLimit { name, limits, verdict: verdict.to_owned(), ..ExplainedLimit::default() }
}
