//! The cost of a response for the rate limits of its request: reads it, and settles what was reserved.
//!
//! The parts of a body are read as they come from the backend, before any other change of them. The record of the
//! request settles, so that every end of a request does: complete, cut, or aborted.

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use super::ctx::RequestCtx;
use super::met_limits::HeldLimit;
use crate::clock;
use crate::config::schema::LimitCost;
use crate::fault::Fault;
use crate::rate_limit::cost::{self, CostBody};
use crate::telemetry::limit_meters::CostResult;

/// Asks the backend for a body without a content coding, if the cost is in it.
pub(super) fn ask_for_identity(request: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
    match wants_body(ctx) {
        true => request.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        false => Ok(()),
    }
}

fn wants_body(ctx: &RequestCtx) -> bool {
    let in_body = |held: &HeldLimit| matches!(held.limit.settings().cost, LimitCost::ResponseJson(_));
    ctx.limits.as_ref().is_some_and(|limits| limits.held.iter().any(in_body))
}

/// Reads the cost in the header of the final response.
pub(super) fn header(response: &ResponseHeader, ctx: &mut RequestCtx) {
    let wants_body = wants_body(ctx);
    let Some(limits) = &mut ctx.limits else { return };
    let field = |name: &str| response.headers.get(name).map(HeaderValue::as_bytes);
    for held in &mut limits.held {
        if let LimitCost::ResponseHeader(name) = &held.limit.settings().cost {
            held.in_field = Some(field(name).map_or(Err(CostResult::Absent), cost::tokens_of_field));
        }
    }
    limits.body = wants_body.then(|| CostBody::new(field("content-type"), field("content-encoding"))).flatten();
}

/// Reads a part of the body.
pub(super) fn body(part: &Option<Bytes>, ctx: &mut RequestCtx) {
    if let (Some(limits), Some(part)) = (&mut ctx.limits, part)
        && let Some(body) = &mut limits.body
    {
        body.push(part);
    }
}

/// Charges each limit the cost of the response.
pub(super) fn settle(ctx: &mut RequestCtx, fault: Option<Fault>) {
    let was_sent = ctx.attempt.is_some() || !ctx.attempts.is_empty();
    let is_complete = fault.is_none();
    let Some(limits) = &mut ctx.limits else { return };
    for held in std::mem::take(&mut limits.held) {
        let reserved = held.admission.taken.as_ref().map_or(0, |taken| taken.number());
        let Some(taken) = held.admission.taken.clone().filter(|_| held.limit.has_response_cost()) else { continue };
        let used = match stated(&held, limits.body.as_mut()) {
            // No backend has worked for it.
            _ if !was_sent => 0,
            Ok(cost) if is_complete => {
                held.limit.meters().count_cost(CostResult::Stated);
                cost
            }
            Err(why) if is_complete => {
                held.limit.meters().count_cost(why);
                reserved
            }
            seen => {
                held.limit.meters().count_cost(CostResult::Aborted);
                seen.unwrap_or(0).max(reserved)
            }
        };
        held.limit.settle(taken, used, clock::now_ns());
    }
}

/// The cost that the response has stated so far.
fn stated(held: &HeldLimit, body: Option<&mut CostBody>) -> std::result::Result<u64, CostResult> {
    match &held.limit.settings().cost {
        LimitCost::Fixed(tokens) => Ok(*tokens),
        LimitCost::ResponseHeader(_) => held.in_field.unwrap_or(Err(CostResult::Absent)),
        LimitCost::ResponseJson(pointer) => {
            let value = body.and_then(|body| body.value(pointer)).ok_or(CostResult::Absent)?;
            cost::tokens(&value)
        }
    }
}
