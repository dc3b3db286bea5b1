//! Forward authentication: asks an upstream whether the client's request may pass.
//!
//! The access step decides about faults and gRPC statuses. This module sends the authorization request, applies a
//! positive response to the client's request, and writes a refusal.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::Result;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::subrequest::{Subrequest, SubrequestError};
use super::wait_in_queue::gone;
use super::write_response::{hsts, write};
use crate::message::forward_auth::{self, AuthSubject, MAX_REFUSAL_BODY};
use crate::message::host::authority;
use crate::message::request_id;
use crate::path;
use crate::pool::connection_pool::ConnectionPool;
use crate::pool::subrequest::SubrequestResponse;
use crate::snapshot::forward_auth::ForwardAuth;

/// The decision about a request. It has no `Debug`, because its cookies are secrets.
pub enum AuthVerdict {
    /// It passes. The final response sets these cookies.
    Admitted(Vec<HeaderValue>),
    /// The client gets this response.
    Refused(SubrequestResponse),
    /// There was no answer, and requests pass meanwhile.
    Open(SubrequestError),
    /// There was no answer, and requests are refused meanwhile.
    Closed(SubrequestError),
    /// The client has left.
    ClientLeft,
}

/// Asks the authorization server. If the request passes, the listed fields of the response replace those of the client.
///
/// # Errors
/// The authorization request cannot be built.
pub async fn authorize(
    session: &mut Session,
    ctx: &RequestCtx,
    pool: &Arc<ConnectionPool>,
    forward: &ForwardAuth,
) -> Result<AuthVerdict> {
    let request = forward.fields.request(&subject(session, ctx)?.borrow(session))?;
    let timeout = ctx.time_left().map_or(forward.timeout, |left| left.min(forward.timeout));
    let subrequest = Subrequest::new(&forward.target, pool, timeout, MAX_REFUSAL_BODY);
    let answer = tokio::select! {
        biased;
        answer = subrequest.send(&request) => answer,
        () = gone(session, ctx) => return Ok(AuthVerdict::ClientLeft),
    };
    let client = session.req_header_mut();
    Ok(match answer {
        Ok(response) if forward_auth::is_positive(response.head.status) => {
            forward.fields.admit(client, &response.head)?;
            AuthVerdict::Admitted(forward_auth::cookies(&response.head))
        }
        Ok(response) => AuthVerdict::Refused(response),
        Err(error) if forward.passes_on_failure => {
            forward.fields.remove_copies(client);
            AuthVerdict::Open(error)
        }
        Err(error) => AuthVerdict::Closed(error),
    })
}

/// Writes a refusal of the authorization server to the client.
///
/// # Errors
/// The client has left.
pub async fn write_refusal(session: &mut Session, ctx: &RequestCtx, refusal: SubrequestResponse) -> Result<()> {
    let SubrequestResponse { mut head, body } = refusal;
    forward_auth::refusal(&mut head);
    if !is_bodiless(head.status.as_u16()) {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    if let Some(id) = &ctx.request_id {
        head.insert_header(&request_id::NAME, id.value())?;
    }
    if let Some(hsts) = hsts(ctx) {
        head.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    let body = if is_bodiless(head.status.as_u16()) { Bytes::new() } else { body };
    write(session, *head, body).await
}

/// Whether a response with this status has no body (RFC 9110 section 6.4.1).
fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}

/// The values of a `AuthSubject` that are not in the request itself.
struct AuthSubjectValues {
    client: HeaderValue,
    scheme: &'static str,
    host: HeaderValue,
    uri: HeaderValue,
}

impl AuthSubjectValues {
    fn borrow<'a>(&'a self, session: &'a Session) -> AuthSubject<'a> {
        let Self { client, scheme, host, uri } = self;
        AuthSubject { request: session.req_header(), client, scheme, host, uri }
    }
}

fn subject(session: &Session, ctx: &RequestCtx) -> Result<AuthSubjectValues> {
    use pingora::{ErrorType, OrErr};
    let request = session.req_header();
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).or_err(ErrorType::InvalidHTTPHeader, "not a field value");
    let client = ctx.client.map(|address| address.to_string()).unwrap_or_default();
    // The normal form that the route matched. Otherwise the authorization server would decide about another path.
    let mut uri = path::normalise(request.uri.path(), ctx.path_rules()).into_owned();
    if let Some(query) = request.uri.query() {
        uri.push('?');
        uri.push_str(query);
    }
    Ok(AuthSubjectValues {
        client: value(client.as_bytes())?,
        scheme: ctx.exchange.as_ref().map_or("http", |exchange| exchange.conn.scheme()),
        host: value(authority(request).unwrap_or_default())?,
        uri: value(uri.as_bytes())?,
    })
}
