//! Rejects a request with a fault: Pingora then ends it through its error phase.

use pingora::{Error, ErrorType};

use super::ctx::RequestCtx;
use crate::fault::Fault;

/// Refuses the request: the fault is remembered, the error ends Pingora's way through the phases.
pub(super) fn refuse(ctx: &mut RequestCtx, fault: Fault, status: Option<u16>, why: &'static str) -> Box<Error> {
    ctx.fault = Some(fault);
    ctx.status = status;
    Error::explain(ErrorType::HTTPStatus(status.unwrap_or(fault.status())), why)
}
