//! Mirroring: a copy of the request as its backend gets it, for another upstream.
//!
//! The copy is sent once the whole request has been passed to the backend of the client, in a task of its own. So it
//! never delays the request, and a request that is tried again has one copy.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Version, header};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::mirror_state::{MirrorState, RequestCopy};
use super::send::join_cookies;
use super::subrequest::{Subrequest, SubrequestError};
use crate::config::schema::Protocol;
use crate::message::header_case;
use crate::message::host::authority;
use crate::pool::connection_pool::ConnectionPool;
use crate::snapshot::mirror::Mirror;
use crate::telemetry::mirror_meters::{CopyInFlight, MirrorResult};

/// The field that marks a copy. Its value is the name of the route. That of a client is removed, unless it is a trusted
/// proxy (`message::forwarded`).
const MARK: &str = "X-Weir-Mirror";

/// The number of header fields to reserve for a copy.
const EXTRA_FIELDS: usize = 4;

/// Begins the copy with the header that the backend gets. A further attempt sends the body again from its start.
pub(super) fn header(session: &Session, request: &RequestHeader, ctx: &mut RequestCtx, pool: &Arc<ConnectionPool>) {
    match &mut ctx.mirror {
        MirrorState::Open => {}
        MirrorState::Collecting(copy) => return copy.body.clear(),
        MirrorState::Done => return,
    }
    let Some(mirror) = ctx.route.as_ref().and_then(|route| route.mirror.clone()) else { return };
    ctx.mirror = match begin(session, request, ctx, mirror) {
        Some(copy) => MirrorState::Collecting(copy),
        None => MirrorState::Done,
    };
    if ctx.sent_whole {
        complete(ctx, pool);
    }
}

/// Adds a part of the body. The last part completes the copy.
pub(super) fn body(piece: &Option<Bytes>, end: bool, ctx: &mut RequestCtx, pool: &Arc<ConnectionPool>) {
    let MirrorState::Collecting(copy) = &mut ctx.mirror else { return };
    if let Some(piece) = piece {
        if copy.body.len() + piece.len() > copy.mirror.max_body {
            if let MirrorState::Collecting(copy) = std::mem::take(&mut ctx.mirror) {
                copy.end(MirrorResult::TooLarge);
            }
            ctx.mirror = MirrorState::Done;
            return;
        }
        copy.body.extend_from_slice(piece);
    }
    if end {
        complete(ctx, pool);
    }
}

fn begin(
    session: &Session,
    request: &RequestHeader,
    ctx: &RequestCtx,
    mirror: Arc<Mirror>,
) -> Option<Box<RequestCopy>> {
    let route = ctx.route.as_ref()?;
    if ctx.is_upgrade || (mirror.share < 1.0 && fastrand::f64() >= mirror.share) {
        return None;
    }
    let length = request.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > mirror.max_body as u64) {
        route.meters.mirror().count(MirrorResult::TooLarge);
        return None;
    }
    let Some(guard) = CopyInFlight::start(route.meters.mirror(), mirror.max_in_flight) else {
        route.meters.mirror().count(MirrorResult::Dropped);
        return None;
    };
    let mut request = Box::new(request.clone());
    if request.headers.get(header::HOST).is_none()
        && let Some(host) = authority(session.req_header()).and_then(|host| HeaderValue::from_bytes(host).ok())
    {
        request.insert_header(header::HOST, host).ok()?;
    }
    Some(Box::new(RequestCopy::new(mirror, guard, request, ctx.snapshot.clone())))
}

fn complete(ctx: &mut RequestCtx, pool: &Arc<ConnectionPool>) {
    // A request that is still sent while its response passes has released its route.
    let Some(route) = ctx.route_meters().map(|meters| Arc::clone(meters.name())) else { return };
    let MirrorState::Collecting(copy) = std::mem::replace(&mut ctx.mirror, MirrorState::Done) else { return };
    let pool = Arc::clone(pool);
    tokio::spawn(async move { send(copy, &route, &pool).await });
}

/// Sends the copy and discards its response.
async fn send(mut copy: Box<RequestCopy>, route: &str, pool: &Arc<ConnectionPool>) {
    let body = std::mem::take(&mut copy.body).freeze();
    let result = match edit(&mut copy.request, &copy.mirror, route, body.len()) {
        Ok(()) => {
            let subrequest = Subrequest::copy(&copy.mirror.target, pool, copy.mirror.timeout, body);
            match subrequest.send(&copy.request).await {
                Ok(_) => MirrorResult::Ok,
                Err(SubrequestError::Timeout) => MirrorResult::Timeout,
                Err(SubrequestError::NoBackend | SubrequestError::Failed(_)) => MirrorResult::Failed,
            }
        }
        Err(_) => MirrorResult::Failed,
    };
    copy.end(result);
}

/// Turns the header for the client's backend into one for a backend of the mirror.
fn edit(request: &mut RequestHeader, mirror: &Mirror, route: &str, body: usize) -> pingora::Result<()> {
    let to_http1 = mirror.target.upstream.settings().protocol == Protocol::Http1;
    let has_body = body > 0 || request.headers.contains_key(header::CONTENT_LENGTH);
    header_case::edit_request(request, EXTRA_FIELDS, |headers| {
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::EXPECT] {
            headers.remove(name);
        }
        if to_http1 {
            // `te: trailers` is for HTTP/2. The field of HTTP/1 belongs to a connection.
            headers.remove(header::TE);
        }
    });
    if has_body {
        request.insert_header(header::CONTENT_LENGTH, body)?;
    }
    if to_http1 {
        request.set_version(Version::HTTP_11);
        join_cookies(request)?;
    }
    request.insert_header(MARK, route)
}
