//! The access policies in `weir explain`. No policy is asked: that would need credentials, and send requests.

use http::header;

use super::explain_request::ExplainedRequest;
use crate::admin::api_explain::ExplainedPolicy;
use crate::snapshot::Route;
use crate::snapshot::access::{AccessPolicy, AccessPolicyKind, RouteAccess};

/// The policies of a route for this request, in the order in which they are applied.
pub(super) fn policies(route: &Route, request: &ExplainedRequest) -> Vec<ExplainedPolicy> {
    let Some(access) = &route.access else { return Vec::new() };
    access.policies.iter().map(|policy| one(access, policy, request)).collect()
}

fn one(access: &RouteAccess, policy: &AccessPolicy, request: &ExplainedRequest) -> ExplainedPolicy {
    let verdict = match &policy.kind {
        _ if access.passes(&request.header) => "passes: a preflight request needs no policy".to_owned(),
        AccessPolicyKind::ApiKeys(keys) => match keys.check(&request.header.headers, request.header.uri.query()) {
            Ok(identity) => format!("passes: the key of `{}`", identity.name),
            Err(refusal) => format!("{refusal}: 401"),
        },
        AccessPolicyKind::Basic(_) if request.header.headers.contains_key(header::AUTHORIZATION) => {
            "verifies the password".to_owned()
        }
        AccessPolicyKind::Basic(_) => "no credentials: 401".to_owned(),
        AccessPolicyKind::Jwt(jwt) => match jwt.source.token(&request.header.headers, request.header.uri.query()) {
            Ok(_) => "verifies the token".to_owned(),
            Err(error) => format!("{error}: 401"),
        },
        AccessPolicyKind::ClientCertificate(_) => "needs a client certificate, otherwise 403".to_owned(),
        AccessPolicyKind::Forward(forward) => {
            format!("asks the upstream `{}`, and sends its refusal to the client", forward.target.upstream.name())
        }
    };
    let need = if access.any { "one of them must pass" } else { "must pass" };
    ExplainedPolicy { name: policy.name.to_string(), need: need.to_owned(), verdict }
}
