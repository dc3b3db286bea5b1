//! Max-Forwards of OPTIONS and TRACE (RFC 9110 section 7.6.2), and the response to `OPTIONS *`.
//!
//! `OPTIONS *` names no resource. It goes to a backend if a route accepts it: a route for any path, or one with
//! `path: "*"`. Otherwise Weir answers it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::cors;
use super::ctx::RequestCtx;
use super::reject::refuse;
use super::write_response::{close_if_leaving, hsts, write};
use crate::fault::Fault;
use crate::lifecycle::Lifecycle;
use crate::message::{error_response, request_id};

/// The number of header fields to reserve.
const EXTRA_FIELDS: usize = 6;

/// Whether Weir is the final recipient of the request, because Max-Forwards is 0.
pub(super) fn is_last(session: &Session, ctx: &RequestCtx) -> bool {
    counts(&ctx.method) && left(&session.req_header().headers) == Some(0)
}

/// Whether the request concerns the server as a whole, so that a redirect has no target (RFC 9110 section 9.3.7).
pub(super) fn is_about_the_server(session: &Session, ctx: &RequestCtx) -> bool {
    ctx.method == Method::OPTIONS && session.req_header().raw_path() == b"*"
}

/// Answers the request in place of a backend.
///
/// # Errors
/// The client's connection fails, or the method is TRACE. TRACE is refused, because its response would contain the
/// request's fields. They can hold secrets that scripts of the client must not see (RFC 9110 section 9.3.8).
pub(super) async fn answer(session: &mut Session, ctx: &mut RequestCtx, lifecycle: &Lifecycle) -> Result<bool> {
    if ctx.method == Method::TRACE {
        return Err(refuse(ctx, Fault::RefusedPolicy, Some(405), "TRACE ends here and is not reflected"));
    }
    let mut response = ResponseHeader::build(200, Some(EXTRA_FIELDS))?;
    response.insert_header(header::CONTENT_LENGTH, 0)?;
    response.insert_header(header::ALLOW, HeaderValue::from_static(error_response::ALLOWED))?;
    if let Some(id) = &ctx.request_id {
        response.insert_header(&request_id::NAME, id.value())?;
    }
    if let Some(hsts) = hsts(ctx) {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    cors::apply(session, &mut response, ctx)?;
    close_if_leaving(session, ctx, lifecycle);
    write(session, response, Bytes::new()).await?;
    Ok(true)
}

/// Decrements Max-Forwards for a request to a backend. A value that is not a number stays as it is.
pub(super) fn count(method: &Method, headers: &mut HeaderMap) {
    if counts(method)
        && let Some(left) = left(headers)
    {
        headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

fn counts(method: &Method) -> bool {
    *method == Method::OPTIONS || *method == Method::TRACE
}

/// The smallest value. A number that is too large counts as `u64::MAX`.
fn left(headers: &HeaderMap) -> Option<u64> {
    let number = |value: &HeaderValue| {
        let digits = value.as_bytes();
        let digits = Some(digits).filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))?;
        let sum = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        Some(digits.iter().fold(0, sum))
    };
    headers.get_all(header::MAX_FORWARDS).iter().filter_map(number).min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn counted(method: Method, values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::MAX_FORWARDS, value.parse().unwrap());
        }
        count(&method, &mut headers);
        headers.values().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn max_forwards_is_decremented() {
        assert_eq!(counted(Method::OPTIONS, &["10"]), ["9"]);
        assert_eq!(counted(Method::TRACE, &["7", "3"]), ["2"]);
        assert_eq!(counted(Method::TRACE, &["99999999999999999999999"]), ["18446744073709551614"]);
        assert_eq!(counted(Method::GET, &["10"]), ["10"]);
        for odd in ["", "-1", "1 2", "x"] {
            assert_eq!(counted(Method::OPTIONS, &[odd]), [odd]);
        }
    }
}
