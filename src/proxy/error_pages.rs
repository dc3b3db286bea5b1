//! The error pages of the operator: which page a response gets, and responses of backends that a page replaces.

use http::{HeaderName, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

use super::cors;
use super::ctx::RequestCtx;
use super::replaced_response::ReplacedResponse;
use super::response_cost;
use super::variables;
use super::write_response::{asks_grpc, close_if_leaving, hsts, keep, write};
use crate::backend::labels::Outcome;
use crate::fault::Fault;
use crate::lifecycle::Lifecycle;
use crate::message::error_page::ErrorPage;
use crate::message::error_response::ErrorResponse;
use crate::message::variables::RequestValues;

/// The fields of a replaced response that its status needs or that are meant for the client.
const KEPT: [HeaderName; 4] = [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ALLOW, header::SET_COOKIE];

/// The message of a page that replaces a backend's response, where the operator has no page in the client's format.
const MESSAGE: &str = "The server answered with an error.";

/// The page for a response of Weir with this status. Requests without a route get the pages of `defaults`.
pub(super) fn page(ctx: &RequestCtx, status: u16) -> Option<&ErrorPage> {
    let pages = match (&ctx.route, &ctx.snapshot) {
        (Some(route), _) => route.errors.as_ref(),
        (None, snapshot) => snapshot.as_ref().and_then(|snapshot| snapshot.errors.as_ref()),
    };
    pages?.find(status)
}

/// The page, and the values of its variables.
pub(super) fn page_with_values<'a>(
    session: &'a Session,
    ctx: &'a RequestCtx,
    status: u16,
) -> Option<(&'a ErrorPage, RequestValues<'a>)> {
    let page = page(ctx, status)?;
    Some((page, RequestValues { status: Some(status), ..variables::values(session.req_header(), ctx) }))
}

/// Ends the exchange with the backend if a page replaces its response. `answer` then writes the page.
///
/// # Errors
/// A page replaces the response.
pub(super) fn replace(session: &Session, response: &ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let status = response.status.as_u16();
    if status < 400 || !page(ctx, status).is_some_and(ErrorPage::replaces) || asks_grpc(session) {
        return Ok(());
    }
    response_cost::header(response, ctx);
    let fields = response.headers.iter().filter(|(name, _)| KEPT.contains(name));
    let fields = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    ctx.replaced = Some(Box::new(ReplacedResponse { status, fields }));
    ctx.end_attempt(Outcome::Ok, None);
    let mut error = Error::explain(ErrorType::HTTPStatus(status), "an error page replaces the response");
    error.as_up();
    error.set_retry(false);
    Err(error)
}

/// Writes the page in place of the backend's response. `None` if no page replaces it.
pub(super) async fn answer(session: &mut Session, ctx: &mut RequestCtx, lifecycle: &Lifecycle) -> Option<FailToProxy> {
    let status = ctx.replaced.as_ref()?.status;
    close_if_leaving(session, ctx, lifecycle);
    if session.is_upgrade_req() {
        // The next bytes of the client may belong to the other protocol.
        session.set_keepalive(None);
    }
    let written = match response(session, ctx, status) {
        Ok((response, body)) => write(session, response, body).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => keep(session, ctx),
        Err(error) => {
            tracing::debug!(request_id = ctx.request_id_text(), %error, "the client did not take the error page");
            session.set_keepalive(None);
        }
    }
    Some(FailToProxy { error_code: status, can_reuse_downstream: true })
}

fn response(session: &Session, ctx: &RequestCtx, status: u16) -> Result<(ResponseHeader, bytes::Bytes)> {
    let accept = session.req_header().headers.get(header::ACCEPT).map(|accept| accept.as_bytes());
    let reply = ErrorResponse {
        fault: Fault::Internal,
        label: Some("backend_error"),
        status,
        message: Some(MESSAGE),
        request_id: ctx.request_id_text(),
        accept,
        retry_after: None,
        grpc: false,
        page: page_with_values(session, ctx, status),
    };
    let (mut response, body) = reply.build()?;
    for (name, value) in ctx.replaced.iter().flat_map(|replaced| &replaced.fields) {
        match *name {
            header::SET_COOKIE | header::WWW_AUTHENTICATE => drop(response.append_header(name, value)?),
            _ => response.insert_header(name, value)?,
        }
    }
    if let Some(hsts) = hsts(ctx) {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    if let Some(route) = &ctx.route {
        route.response_headers.response(&mut response, || variables::values(session.req_header(), ctx))?;
    }
    cors::apply(session, &mut response, ctx)?;
    Ok((response, body))
}
