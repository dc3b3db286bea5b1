//! Removes credentials that Weir has checked: from the request, so that backends do not get them, and from the log line.

use std::borrow::Cow;

use http::header;
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr, Result};

use super::ctx::RequestCtx;
use crate::auth::api_keys::{KeyLocation, without_parameter};
use crate::auth::jwt::TokenSource;
use crate::message::{cookie, rewrite};
use crate::snapshot::access::{AccessPolicy, AccessPolicyKind, RouteAccess};

/// Removes keys from the path in the access log. It is done for every request of the route, refused ones included.
pub(super) fn hide_from_log(ctx: &mut RequestCtx) {
    let Some(access) = ctx.route.as_ref().and_then(|route| route.access.as_ref()) else { return };
    let Some(line) = &mut ctx.line else { return };
    for name in access.policies.iter().filter_map(|policy| parameter(policy)) {
        if let Cow::Owned(path) = without_parameter(&line.path, name) {
            line.path = path;
        }
    }
}

/// Removes the credentials of the policies from the request, except those that the backend shall get.
///
/// # Errors
/// The rest of the request target cannot be stored.
pub(super) fn remove(request: &mut RequestHeader, access: &RouteAccess) -> Result<()> {
    for policy in access.policies.iter().filter(|policy| !policy.forwards_credentials || is_token_in_query(policy)) {
        match &policy.kind {
            AccessPolicyKind::Basic(_) => drop(request.remove_header(&header::AUTHORIZATION)),
            AccessPolicyKind::ApiKeys(keys) => match keys.location() {
                KeyLocation::Header(name) => drop(request.remove_header(name)),
                KeyLocation::Query(name) => remove_parameter(request, name)?,
            },
            AccessPolicyKind::Jwt(jwt) => match &jwt.source {
                TokenSource::Authorization => drop(request.remove_header(&header::AUTHORIZATION)),
                TokenSource::Header(name) => drop(request.remove_header(name)),
                TokenSource::Cookie(name) => cookie::remove(request, name.as_bytes())?,
                TokenSource::Query(name) => remove_parameter(request, name)?,
            },
            AccessPolicyKind::ClientCertificate(_) | AccessPolicyKind::Forward(_) => {}
        }
    }
    Ok(())
}

/// A token in the query is always removed.
fn is_token_in_query(policy: &AccessPolicy) -> bool {
    matches!(&policy.kind, AccessPolicyKind::Jwt(jwt) if matches!(jwt.source, TokenSource::Query(_)))
}

fn remove_parameter(request: &mut RequestHeader, name: &str) -> Result<()> {
    let Cow::Owned(target) = without_parameter(request.raw_path(), name) else { return Ok(()) };
    let target = std::str::from_utf8(&target).or_err(ErrorType::InvalidHTTPHeader, "a target that is not UTF-8")?;
    rewrite::set_target(request, target)
}

/// The query parameter with a secret.
fn parameter(policy: &AccessPolicy) -> Option<&str> {
    match &policy.kind {
        AccessPolicyKind::ApiKeys(keys) => match keys.location() {
            KeyLocation::Query(name) => Some(name),
            KeyLocation::Header(_) => None,
        },
        AccessPolicyKind::Jwt(jwt) => match &jwt.source {
            TokenSource::Query(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}
