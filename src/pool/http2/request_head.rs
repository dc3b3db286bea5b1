//! Makes the HTTP/2 form of a request head: the pseudo-header fields instead of a request line and Host (RFC 9113
//! section 8.3.1).

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Version, header, request};
use pingora::http::RequestHeader;
use pingora_core::{ErrorType, OkOrErr, OrErr, Result};

/// Converts the head. `tls`: the connection to the backend uses TLS.
///
/// # Errors
/// The head has no authority, or its target is not valid in HTTP/2.
pub(super) fn convert(head: RequestHeader, tls: bool) -> Result<Request<()>> {
    let mut head: request::Parts = head.into();
    let host = head.headers.remove(header::HOST);
    let authority = match &host {
        Some(host) => Some(Authority::try_from(host.as_bytes()).or_err(ErrorType::InvalidHTTPHeader, "invalid Host")?),
        None => head.uri.authority().cloned(),
    };
    let authority = authority.filter(|authority| !authority.as_str().contains('@'));
    let mut target = http::uri::Parts::default();
    target.authority = Some(authority.or_err(ErrorType::InvalidHTTPHeader, "no authority for an HTTP/2 request")?);
    target.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    target.path_and_query = Some(path_and_query(&head.uri)?);
    head.uri = Uri::from_parts(target).or_err(ErrorType::InvalidHTTPHeader, "invalid target of an HTTP/2 request")?;
    head.version = Version::HTTP_2;
    head.extensions.clear();
    Ok(Request::from_parts(head, ()))
}

/// The path with the query. The absolute form may have a query without a path.
fn path_and_query(uri: &Uri) -> Result<PathAndQuery> {
    let root = PathAndQuery::from_static("/");
    match uri.path_and_query() {
        Some(both) if both.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{both}")).or_err(ErrorType::InvalidHTTPHeader, "invalid query")
        }
        both => Ok(both.cloned().unwrap_or(root)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn uri(target: &str, host: Option<&str>, tls: bool) -> String {
        let mut head = RequestHeader::build_no_case("GET", target.as_bytes(), None).unwrap();
        host.into_iter().for_each(|host| head.insert_header(header::HOST, host).unwrap());
        let request = convert(head, tls).unwrap();
        assert!(!request.headers().contains_key(header::HOST));
        request.uri().to_string()
    }

    #[test]
    fn host_becomes_the_authority_and_every_form_of_a_target_a_path() {
        assert_eq!(uri("/a?b=c", Some("x.test:81"), false), "http://x.test:81/a?b=c");
        assert_eq!(uri("/", Some("x.test"), true), "https://x.test/");
        assert_eq!(uri("http://old.test/a", Some("x.test"), false), "http://x.test/a");
        assert_eq!(uri("http://x.test?only=query", Some("x.test"), false), "http://x.test/?only=query");
        let from_http2 = Request::get("http://x.test/a").body(()).unwrap().into_parts().0;
        assert_eq!(convert(from_http2.into(), false).unwrap().uri(), "http://x.test/a");
    }

    #[test]
    fn a_request_without_an_authority_or_with_user_data_is_an_error() {
        let head = || RequestHeader::build_no_case("GET", b"/", None).unwrap();
        assert!(convert(head(), false).is_err());
        for host in ["user@x.test", "a b", ""] {
            let mut head = head();
            head.insert_header(header::HOST, host).unwrap();
            assert!(convert(head, false).is_err(), "{host}");
        }
    }
}
