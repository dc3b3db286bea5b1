//! The access step: applies the policies of `routes[].auth` to a request, once, before a backend is picked.
//!
//! It never checks a credential itself: each kind of policy does that. It never counts a request against a limit.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::access_state::AccessState;
use super::credentials;
use super::ctx::RequestCtx;
use super::forward_auth::{self, AuthVerdict};
use super::grpc_call::GrpcCall;
use super::reject::refuse;
use super::subrequest::SubrequestError;
use super::wait_in_queue::gone;
use crate::auth::client_certificate::CertificateRule;
use crate::auth::jwt::{JwtFailure, JwtPolicy};
use crate::auth::{self, Identity};
use crate::clock;
use crate::fault::Fault;
use crate::message::identity_fields::remove_fields;
use crate::pool::connection_pool::ConnectionPool;
use crate::pool::subrequest::SubrequestResponse;
use crate::snapshot::access::{AccessPolicy, AccessPolicyKind, RouteAccess};
use crate::telemetry::access_meters::AccessResult;

/// The decision of one policy.
enum AccessVerdict {
    /// The request may pass.
    Passed(Option<Identity>),
    /// The policy cannot decide now, and requests pass meanwhile.
    Open,
    /// It may not.
    Refused(AccessRefusal),
    /// It may not, and the authorization server has the response.
    Answered(SubrequestResponse),
    /// The policy cannot decide now.
    Unavailable(&'static str),
    /// The client has left while the policy was deciding.
    ClientLeft,
}

/// A refusal by Weir itself.
struct AccessRefusal {
    /// The value of WWW-Authenticate.
    challenge: Option<HeaderValue>,
    /// The client is known, and other credentials of the same kind would not help: 403 instead of 401.
    is_forbidden: bool,
    why: &'static str,
}

/// Applies the policies of the matched route. Returns whether the request was answered.
///
/// # Errors
/// A policy refuses the request, or cannot decide.
pub(super) async fn apply(session: &mut Session, ctx: &mut RequestCtx, pool: &Arc<ConnectionPool>) -> Result<bool> {
    let Some(route) = ctx.route.as_ref().filter(|route| route.access.is_some()) else { return Ok(false) };
    let route = Arc::clone(route);
    let Some(access) = &route.access else { return Ok(false) };
    // Boxed. Otherwise the state of this future would be a part of every request's future.
    Box::pin(decide(session, ctx, pool, access)).await
}

async fn decide(
    session: &mut Session,
    ctx: &mut RequestCtx,
    pool: &Arc<ConnectionPool>,
    access: &RouteAccess,
) -> Result<bool> {
    let mut state = Box::<AccessState>::default();
    let mut passed = Vec::with_capacity(access.policies.len());
    let mut failures = Failures::default();
    if !access.passes(session.req_header()) {
        for policy in &access.policies {
            let verdict = ask(session, ctx, pool, policy, &mut state).await?;
            policy.meters.count(result_of(&verdict));
            match verdict {
                AccessVerdict::ClientLeft => {
                    return Err(refuse(ctx, Fault::ClientAbort, None, "the client left before access was decided"));
                }
                AccessVerdict::Passed(identity) => state.identity = state.identity.take().or(identity),
                AccessVerdict::Open => {}
                failed => {
                    failures.add(failed);
                    if access.any { continue } else { break }
                }
            }
            passed.push(policy);
            if access.any {
                failures = Failures::default();
                break;
            }
        }
    }
    remove_forged(session.req_header_mut(), access, &passed);
    credentials::remove(session.req_header_mut(), access)?;
    ctx.access = Some(state);
    failures.conclude(session, ctx).await
}

/// Removes the client's copies of fields that only a policy may set, for each policy that did not pass. A policy that
/// passed has replaced its own.
fn remove_forged(request: &mut RequestHeader, access: &RouteAccess, passed: &[&Arc<AccessPolicy>]) {
    let is_passed = |policy: &Arc<AccessPolicy>| passed.iter().any(|one| Arc::ptr_eq(one, policy));
    let set: Vec<HeaderName> = passed.iter().flat_map(|policy| policy.own_fields()).cloned().collect();
    for policy in access.policies.iter().filter(|policy| !is_passed(policy)) {
        remove_fields(request, policy.own_fields(), &set);
    }
}

/// Asks one policy.
async fn ask(
    session: &mut Session,
    ctx: &mut RequestCtx,
    pool: &Arc<ConnectionPool>,
    policy: &AccessPolicy,
    state: &mut AccessState,
) -> Result<AccessVerdict> {
    Ok(match &policy.kind {
        AccessPolicyKind::ApiKeys(keys) => {
            let request = session.req_header();
            by_credentials(keys.check(&request.headers, request.uri.query()), || keys.challenge())
        }
        AccessPolicyKind::Basic(basic) => {
            let verification = basic.verify(&session.req_header().headers, Instant::now());
            tokio::select! {
                biased;
                result = verification => by_credentials(result, || basic.challenge()),
                () = gone(session, ctx) => AccessVerdict::ClientLeft,
            }
        }
        AccessPolicyKind::ClientCertificate(rule) => certificate(ctx, rule),
        AccessPolicyKind::Forward(forward) => match forward_auth::authorize(session, ctx, pool, forward).await? {
            AuthVerdict::Admitted(cookies) => {
                state.cookies.extend(cookies);
                AccessVerdict::Passed(forward.fields.identity(session.req_header()).map(Identity::named))
            }
            AuthVerdict::Refused(response) => AccessVerdict::Answered(response),
            AuthVerdict::Open(error) => {
                warn(ctx, policy, &error);
                AccessVerdict::Open
            }
            AuthVerdict::Closed(error) => {
                warn(ctx, policy, &error);
                AccessVerdict::Unavailable("the authorization server does not answer")
            }
            AuthVerdict::ClientLeft => AccessVerdict::ClientLeft,
        },
        AccessPolicyKind::Jwt(jwt) => by_token(session, ctx, policy, jwt).await?,
    })
}

/// The decision by credentials of the request.
fn by_credentials(
    result: std::result::Result<Identity, auth::Refusal>,
    challenge: impl FnOnce() -> HeaderValue,
) -> AccessVerdict {
    let why = match result {
        Ok(identity) => return AccessVerdict::Passed(Some(identity)),
        Err(auth::Refusal::Busy) => return AccessVerdict::Unavailable("too many passwords wait to be verified"),
        Err(auth::Refusal::NoCredentials) => "no credentials",
        Err(auth::Refusal::Malformed) => "malformed credentials",
        Err(auth::Refusal::Wrong) => "wrong credentials",
    };
    AccessVerdict::Refused(AccessRefusal { challenge: Some(challenge()), is_forbidden: false, why })
}

/// The decision by a token. Its claims become fields of the request.
async fn by_token(
    session: &mut Session,
    ctx: &RequestCtx,
    policy: &AccessPolicy,
    jwt: &JwtPolicy,
) -> Result<AccessVerdict> {
    let request = session.req_header();
    let result = match jwt.token(&request.headers, request.uri.query()).map(<[u8]>::to_vec) {
        Ok(token) => tokio::select! {
            biased;
            result = jwt.authenticate(&token, clock::unix_secs()) => result,
            () = gone(session, ctx) => return Ok(AccessVerdict::ClientLeft),
        },
        Err(failure) => Err(failure),
    };
    let failure = match result {
        Ok(identity) => {
            let request = session.req_header_mut();
            remove_fields(request, jwt.fields.names(), &[]);
            for (name, value) in jwt.fields.of(&identity) {
                request.insert_header(name.clone(), value)?;
            }
            return Ok(AccessVerdict::Passed(Some(identity)));
        }
        Err(failure) => failure,
    };
    let (is_forbidden, why) = match &failure {
        JwtFailure::NoKeys(_) => return Ok(AccessVerdict::Unavailable("the keys of the issuer are not loaded")),
        JwtFailure::NoToken => (false, "no token"),
        JwtFailure::SeveralTokens => (false, "several tokens"),
        JwtFailure::Refused(refusal) => (refusal.is_forbidden(), "the token is refused"),
    };
    let challenge = jwt.challenge(&failure, policy.name.as_str()).and_then(|text| HeaderValue::try_from(text).ok());
    Ok(AccessVerdict::Refused(AccessRefusal { challenge, is_forbidden, why }))
}

fn certificate(ctx: &RequestCtx, rule: &CertificateRule) -> AccessVerdict {
    let tls = ctx.exchange.as_ref().and_then(|exchange| exchange.conn.tls.as_ref());
    match tls.and_then(|tls| tls.client_certificate()) {
        Some(certificate) if rule.admits(certificate) => {
            AccessVerdict::Passed(Some(Identity::named(&certificate.holder())))
        }
        Some(_) => AccessVerdict::Refused(AccessRefusal {
            challenge: None,
            is_forbidden: true,
            why: "the client's certificate is not one of the policy",
        }),
        None => AccessVerdict::Refused(AccessRefusal {
            challenge: None,
            is_forbidden: true,
            why: "the client has no certificate",
        }),
    }
}

/// Logs that an authorization server does not answer, at most once a minute for each policy.
fn warn(ctx: &RequestCtx, policy: &AccessPolicy, error: &SubrequestError) {
    if let Some(count) = policy.meters.count_undecided(clock::now_ms()) {
        let (request_id, route) = (ctx.request_id_text(), ctx.route_name());
        let policy = policy.name.as_str();
        tracing::warn!(policy, %error, count, request_id, route, "an authorization server does not answer");
    }
}

fn result_of(verdict: &AccessVerdict) -> AccessResult {
    match verdict {
        AccessVerdict::Passed(_) => AccessResult::Passed,
        AccessVerdict::Open => AccessResult::Open,
        AccessVerdict::Refused(_) | AccessVerdict::Answered(_) => AccessResult::Refused,
        AccessVerdict::Unavailable(_) => AccessResult::Unavailable,
        AccessVerdict::ClientLeft => AccessResult::ClientLeft,
    }
}

/// The policies that did not let the request pass.
#[derive(Default)]
struct Failures {
    unavailable: Option<&'static str>,
    answer: Option<SubrequestResponse>,
    challenges: Vec<HeaderValue>,
    /// A policy would accept other credentials.
    needs_credentials: bool,
    why: Option<&'static str>,
}

impl Failures {
    fn add(&mut self, verdict: AccessVerdict) {
        match verdict {
            AccessVerdict::Unavailable(why) => self.unavailable = Some(why),
            AccessVerdict::Answered(response) => drop(self.answer.get_or_insert(response)),
            AccessVerdict::Refused(AccessRefusal { challenge, is_forbidden, why }) => {
                self.challenges.extend(challenge);
                self.needs_credentials |= !is_forbidden;
                self.why = Some(why);
            }
            AccessVerdict::Passed(_) | AccessVerdict::Open | AccessVerdict::ClientLeft => {}
        }
    }

    /// Ends a request that no policy let pass. A policy that cannot decide might have let it pass, so the client may try
    /// again. The response of an authorization server, such as a redirect to a login, says more than a challenge.
    async fn conclude(self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        if let Some(why) = self.unavailable {
            return Err(refuse(ctx, Fault::AuthUnavailable, None, why));
        }
        if let Some(response) = self.answer {
            if ctx.grpc != GrpcCall::No {
                // gRPC clients read only `grpc-status`.
                let status = (response.head.status == StatusCode::FORBIDDEN).then_some(403);
                return Err(refuse(ctx, Fault::Unauthorized, status, "the authorization server refused the call"));
            }
            ctx.fault = Some(Fault::Unauthorized);
            ctx.status = Some(response.head.status.as_u16());
            forward_auth::write_refusal(session, ctx, response).await?;
            return Ok(true);
        }
        match self.why {
            Some(why) => Err(self.refused(ctx, why)),
            None => Ok(false),
        }
    }

    fn refused(self, ctx: &mut RequestCtx, why: &'static str) -> Box<Error> {
        let status = if self.needs_credentials { None } else { Some(403) };
        if let Some(access) = &mut ctx.access {
            access.challenges = self.challenges;
        }
        refuse(ctx, Fault::Unauthorized, status, why)
    }
}
