//! The rate limits of a request: finds the value of each key, asks the limits in their order, and holds what they gave
//! until the request ends.
//!
//! They apply once for each request, before any backend is picked. Attempts do not count.

use std::net::IpAddr;
use std::sync::Arc;

use pingora::http::RequestHeader;
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::met_limits::HeldLimit;
use super::reject::refuse;
use super::wait_in_queue::gone;
use crate::auth::Identity;
use crate::clock;
use crate::config::schema::{LimitKey, MissingKey, StoreFailure};
use crate::fault::Fault;
use crate::message::cookie;
use crate::message::host::authority;
use crate::rate_limit::key::network;
use crate::rate_limit::{Admission, KeyValue, Limit, LimitRefusal, NoAnswer};
use crate::route::host;
use crate::telemetry::limit_meters::LimitResult;

/// When a limit is asked: before or after the access policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitStage {
    /// The key does not depend on the identity. So guesses of credentials are limited.
    BeforeAccess,
    /// The key is the identity, or a claim of it.
    AfterAccess,
}

/// Asks the limits of the matched route that belong to this stage.
///
/// # Errors
/// A limit refuses the request. Then the others have given back what they took.
pub(super) async fn apply(session: &mut Session, ctx: &mut RequestCtx, stage: LimitStage) -> Result<()> {
    let Some(route) = ctx.route.as_ref().filter(|route| !route.rate_limits.is_empty()) else { return Ok(()) };
    let route = Arc::clone(route);
    for limit in route.rate_limits.iter().filter(|limit| stage_of(limit) == stage) {
        let name = route.meters.name();
        let decided = match limit.is_shared() {
            false => in_memory(session, ctx, limit, name),
            // Boxed. Otherwise the state of this future would be a part of every request's future.
            true => Box::pin(by_store(session, ctx, limit, name)).await,
        };
        conclude(ctx, limit, decided).inspect_err(|_| give_back(ctx))?;
    }
    Ok(())
}

fn stage_of(limit: &Limit) -> LimitStage {
    match limit.settings().key {
        LimitKey::Identity | LimitKey::Claim(_) => LimitStage::AfterAccess,
        _ => LimitStage::BeforeAccess,
    }
}

/// The decision of a limit about a request.
enum Decision {
    /// It does not apply.
    Skipped,
    Admitted(Admission),
    Limited(LimitRefusal),
    /// The request has no value for the key, and needs one.
    NoKey,
    /// The store does not answer, and the rate is not limited.
    Open(Admission),
    /// The store does not answer, and the request is refused.
    Closed,
    /// The client has left while the store was asked.
    ClientLeft,
}

impl Decision {
    fn of(decided: Result<Admission, LimitRefusal>) -> Self {
        match decided {
            Ok(admission) => Self::Admitted(admission),
            Err(refusal) => Self::Limited(refusal),
        }
    }
}

fn limited<'a>(session: &'a Session, ctx: &'a RequestCtx, route: &'a str) -> LimitedRequest<'a> {
    let identity = ctx.access.as_ref().and_then(|access| access.identity.as_ref());
    LimitedRequest { request: session.req_header(), client: ctx.client, route, identity }
}

fn in_memory(session: &Session, ctx: &RequestCtx, limit: &Limit, route: &str) -> Decision {
    with_key(limit, limited(session, ctx, route), |key| match key {
        KeyOfRequest::Value(key) => Decision::of(limit.admit(key, clock::now_ns())),
        KeyOfRequest::Skip => Decision::Skipped,
        KeyOfRequest::Reject => Decision::NoKey,
    })
}

/// Asks the store. The wait ends with the timeout of the store, or when the client leaves.
async fn by_store(session: &mut Session, ctx: &RequestCtx, limit: &Limit, route: &str) -> Decision {
    let prepared = with_key(limit, limited(session, ctx, route), |key| match key {
        KeyOfRequest::Value(key) => Ok(limit.prepare(key)),
        KeyOfRequest::Skip => Err(Decision::Skipped),
        KeyOfRequest::Reject => Err(Decision::NoKey),
    });
    let (guard, bucket) = match prepared {
        Ok(Ok(Some(prepared))) => prepared,
        Ok(Ok(None)) => return in_memory(session, ctx, limit, route),
        Ok(Err(refusal)) => return Decision::Limited(refusal),
        Err(decided) => return decided,
    };
    let answer = tokio::select! {
        biased;
        answer = limit.ask(bucket, clock::now_ns()) => answer,
        () = gone(session, ctx) => return Decision::ClientLeft,
    };
    match (answer, limit.on_failure()) {
        (Ok(answer), _) => Decision::of(answer.map(|taken| Admission { guard, taken: Some(taken) })),
        (Err(NoAnswer), StoreFailure::Open) => Decision::Open(Admission { guard, taken: None }),
        (Err(NoAnswer), StoreFailure::Closed) => Decision::Closed,
        (Err(NoAnswer), StoreFailure::Local) => {
            limit.meters().count(LimitResult::Local);
            // It takes a place of its own.
            drop(guard);
            in_memory(session, ctx, limit, route)
        }
    }
}

/// Applies a decision to the request.
fn conclude(ctx: &mut RequestCtx, limit: &Arc<Limit>, decided: Decision) -> Result<()> {
    match decided {
        Decision::Skipped => {}
        Decision::Admitted(admission) => {
            limit.meters().count(LimitResult::Allowed);
            hold(ctx, limit, admission);
        }
        Decision::Open(admission) => {
            limit.meters().count(LimitResult::Open);
            hold(ctx, limit, admission);
        }
        Decision::ClientLeft => {
            return Err(refuse(ctx, Fault::ClientAbort, None, "the client left before a limit was decided"));
        }
        Decision::Limited(_) | Decision::NoKey | Decision::Closed if !limit.settings().enforce => {
            note(ctx, limit, LimitResult::WouldLimit);
        }
        Decision::NoKey => {
            note(ctx, limit, LimitResult::Limited);
            return Err(refuse(ctx, Fault::RefusedPolicy, None, "no value for the key of a rate limit"));
        }
        Decision::Closed => {
            note(ctx, limit, LimitResult::Closed);
            return Err(refuse(ctx, Fault::StoreUnavailable, None, "the store of a rate limit does not answer"));
        }
        Decision::Limited(refusal) => return Err(refuse_limited(ctx, limit, refusal)),
    }
    Ok(())
}

fn refuse_limited(ctx: &mut RequestCtx, limit: &Arc<Limit>, refusal: LimitRefusal) -> Box<Error> {
    note(ctx, limit, LimitResult::Limited);
    ctx.limits.get_or_insert_default().refusal = Some(refusal);
    refuse(ctx, Fault::RateLimited, None, "a rate limit")
}

/// Counts a refusal and keeps it for the access log.
fn note(ctx: &mut RequestCtx, limit: &Arc<Limit>, result: LimitResult) {
    limit.meters().count(result);
    ctx.limits.get_or_insert_default().noted.push((Arc::clone(limit), result));
}

/// Keeps what a limit gave, if something of it must be given back or settled.
fn hold(ctx: &mut RequestCtx, limit: &Arc<Limit>, admission: Admission) {
    let is_only = ctx.route.as_ref().is_some_and(|route| route.rate_limits.len() == 1);
    if admission.guard.is_some() || !is_only || limit.has_response_cost() {
        let held = HeldLimit { limit: Arc::clone(limit), admission, in_field: None };
        ctx.limits.get_or_insert_default().held.push(held);
    }
}

/// Gives back the tokens and the places of a request that is refused after all.
fn give_back(ctx: &mut RequestCtx) {
    let Some(limits) = &mut ctx.limits else { return };
    for held in std::mem::take(&mut limits.held) {
        if let Some(taken) = held.admission.taken {
            held.limit.settle(taken, 0, clock::now_ns());
        }
    }
}

/// The value of a limit's key in a request.
#[derive(Debug)]
pub enum KeyOfRequest<'a> {
    /// The limit counts by it.
    Value(KeyValue<'a>),
    /// The limit does not apply.
    Skip,
    /// The request is refused.
    Reject,
}

/// The parts of a request that a limit can count by.
#[derive(Debug, Clone, Copy)]
pub struct LimitedRequest<'a> {
    /// The request.
    pub request: &'a RequestHeader,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The name of the route.
    pub route: &'a str,
    /// The verified sender.
    pub identity: Option<&'a Identity>,
}

/// Calls `then` with the value of the limit's key.
pub fn with_key<T>(limit: &Limit, from: LimitedRequest<'_>, then: impl FnOnce(KeyOfRequest<'_>) -> T) -> T {
    let LimitedRequest { request, client, route, identity } = from;
    let settings = limit.settings();
    let address = client.map(|client| KeyValue::Address(network(client, settings.ipv6_prefix)));
    let (host, claim);
    let value = match &settings.key {
        LimitKey::Client => address,
        LimitKey::Header(name) => {
            let value = request.headers.get(name.as_str()).map(|value| value.as_bytes());
            value.filter(|value| !value.is_empty()).map(KeyValue::Secret)
        }
        LimitKey::Cookie(name) => {
            let value = cookie::values(&request.headers, name.as_bytes()).next();
            value.filter(|value| !value.is_empty()).map(KeyValue::Secret)
        }
        LimitKey::Host => {
            host = authority(request).and_then(host::normalise);
            host.as_deref().map(KeyValue::Host)
        }
        LimitKey::Route => Some(KeyValue::Route(route)),
        LimitKey::Identity => identity.map(|identity| KeyValue::Identity(&identity.name)),
        LimitKey::Claim(name) => {
            claim = identity.and_then(|identity| identity.claim(name));
            claim.as_deref().map(KeyValue::Identity)
        }
    };
    match (value, settings.missing) {
        (Some(value), _) => then(KeyOfRequest::Value(value)),
        (None, MissingKey::Client) => then(address.map_or(KeyOfRequest::Skip, KeyOfRequest::Value)),
        (None, MissingKey::Skip) => then(KeyOfRequest::Skip),
        (None, MissingKey::Reject) => then(KeyOfRequest::Reject),
    }
}
