//! Rejects a request with a fault. Pingora then ends it through its error phase.

use pingora::{Error, ErrorType};

use super::ctx::RequestCtx;
use crate::fault::Fault;

/// Stores the fault and the status in the context. The error that it returns ends Pingora's phases.
pub(super) fn refuse(ctx: &mut RequestCtx, fault: Fault, status: Option<u16>, why: &'static str) -> Box<Error> {
    ctx.fault = Some(fault);
    ctx.status = status;
    Error::explain(ErrorType::HTTPStatus(status.unwrap_or(fault.status())), why)
}
