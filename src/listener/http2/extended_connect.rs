//! WebSockets over HTTP/2 (RFC 8441): an extended CONNECT becomes the upgrade request that an HTTP/1 client would send.
//!
//! So the proxy applies the same routes and policies to both. The response 101 becomes 200 for the client. This module
//! writes nothing: the session does.

use h2::ext::Protocol;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora_core::{Error, ErrorType, Result};

use crate::message::websocket;

/// How far a stream has come on its way to a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tunnel {
    /// The client asks for none.
    No,
    /// The client has asked for a WebSocket.
    Requested,
    /// The backend has accepted. DATA frames carry the bytes of the WebSocket.
    Open,
}

/// Changes an extended CONNECT for a WebSocket to an upgrade request. An extended CONNECT for another protocol is left
/// as it is: the proxy refuses it.
pub(super) fn to_upgrade(request: &mut Parts) -> Tunnel {
    let is_websocket = |protocol: &Protocol| protocol.as_str().eq_ignore_ascii_case("websocket");
    if !request.extensions.get::<Protocol>().is_some_and(is_websocket) {
        return Tunnel::No;
    }
    request.extensions.remove::<Protocol>();
    request.method = Method::GET;
    let headers = &mut request.headers;
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    // Clients of HTTP/2 send no key (RFC 8441 section 5). It proves that the backend speaks the protocol.
    headers.insert(header::SEC_WEBSOCKET_KEY, websocket::new_key());
    Tunnel::Requested
}

impl Tunnel {
    /// Changes a response header for the client: the 101 that opens the tunnel becomes 200. Returns whether it is sent.
    ///
    /// # Errors
    /// The client would take the response for an open tunnel.
    pub(super) fn passes(&mut self, response: &mut ResponseHeader) -> Result<bool> {
        if *self != Self::Requested {
            // HTTP/2 has no upgrade (RFC 9113 section 8.6).
            return Ok(response.status != StatusCode::SWITCHING_PROTOCOLS);
        }
        response.remove_header(&header::SEC_WEBSOCKET_ACCEPT);
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            response.set_status(StatusCode::OK)?;
            *self = Self::Open;
        } else if response.status.is_success() {
            return Error::e_explain(ErrorType::InternalError, "a success without a tunnel");
        }
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(protocol: Option<&'static str>) -> Parts {
        let mut parts = Request::builder().method("CONNECT").uri("https://a/chat").body(()).unwrap().into_parts().0;
        if let Some(protocol) = protocol {
            parts.extensions.insert(Protocol::from_static(protocol));
        }
        parts
    }

    #[test]
    fn an_extended_connect_for_a_websocket_becomes_an_upgrade_request() {
        let mut request = parts(Some("websocket"));
        request.headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("of the client"));
        assert_eq!(to_upgrade(&mut request), Tunnel::Requested);
        assert_eq!((&request.method, request.uri.path()), (&Method::GET, "/chat"));
        assert_eq!(request.headers[header::UPGRADE], "websocket");
        assert_eq!(request.headers[header::CONNECTION], "Upgrade");
        assert_ne!(request.headers[header::SEC_WEBSOCKET_KEY], "of the client");
    }

    #[test]
    fn only_a_101_opens_the_tunnel_and_no_other_success_passes() {
        let passed = |tunnel: Tunnel, status: u16| {
            let (mut tunnel, mut response) = (tunnel, ResponseHeader::build(status, None).unwrap());
            response.insert_header(header::SEC_WEBSOCKET_ACCEPT, "x").unwrap();
            let passed = tunnel.passes(&mut response).ok();
            (passed, response.status.as_u16(), response.headers.len(), tunnel)
        };
        assert_eq!(passed(Tunnel::Requested, 101), (Some(true), 200, 0, Tunnel::Open));
        assert_eq!(passed(Tunnel::Requested, 403), (Some(true), 403, 0, Tunnel::Requested));
        assert_eq!(passed(Tunnel::Requested, 200).0, None);
        assert_eq!(passed(Tunnel::No, 101).0, Some(false));
        assert_eq!(passed(Tunnel::No, 200), (Some(true), 200, 1, Tunnel::No));
    }

    #[test]
    fn other_connects_stay_as_they_are() {
        for protocol in [None, Some("connect-udp")] {
            let mut request = parts(protocol);
            assert_eq!(to_upgrade(&mut request), Tunnel::No);
            assert_eq!((&request.method, request.headers.len()), (&Method::CONNECT, 0));
        }
    }
}
