//! A redirect: builds Location from configured text and parts of the request.
//!
//! The path of a request can never change the host. Location never contains a byte that a URI cannot contain.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::config::schema;
use crate::message::host::HostPort;

/// `routes[].redirect`, compiled.
#[derive(Debug, Clone)]
pub struct Redirect {
    status: StatusCode,
    pieces: Box<[Piece]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Scheme,
    Host,
    Hostname,
    Port,
    Path,
    Query,
}

/// The parts of the request that a Location may contain.
#[derive(Debug, Clone, Copy)]
pub struct Requested<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host and port of the request.
    pub host: Option<HostPort<'a>>,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
}

impl Redirect {
    /// Compiles the redirect.
    ///
    /// # Errors
    /// The status or a placeholder is not valid.
    pub fn compile(redirect: &schema::RedirectSettings) -> Result<Self, String> {
        let status = match redirect.status {
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(redirect.status).map_err(|error| error.to_string())?,
            status => return Err(format!("{status} is no redirect; write 301, 302, 303, 307 or 308")),
        };
        Ok(Self { status, pieces: pieces(&redirect.to)?.into() })
    }

    /// Redirects to the same address with https at this port. It replaces the scheme and the port.
    pub fn to_https(port: u16) -> Self {
        let host = [Piece::Text("https://".into()), Piece::Hostname];
        let port = (port != 443).then(|| Piece::Text(format!(":{port}").into()));
        let pieces = host.into_iter().chain(port).chain([Piece::Path, Piece::Query]).collect();
        Self { status: StatusCode::PERMANENT_REDIRECT, pieces }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The value of Location. `None` if it needs the host and the request has none, which makes the request malformed.
    pub fn location(&self, requested: &Requested<'_>) -> Option<HeaderValue> {
        let mut location = String::with_capacity(64 + requested.path.len() + requested.query.map_or(0, str::len));
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => location.push_str(text),
                Piece::Scheme => encode(requested.scheme, &mut location),
                Piece::Host => push_host(requested.host?, &mut location),
                Piece::Hostname => encode(requested.host?.host, &mut location),
                Piece::Port => location.push_str(&port(requested).to_string()),
                Piece::Path => push_path(requested.path, &mut location),
                Piece::Query => {
                    if let Some(query) = requested.query {
                        location.push('?');
                        encode(query, &mut location);
                    }
                }
            }
        }
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok()
    }

    /// The complete response. It has no body. `None` as for `location`.
    ///
    /// # Errors
    /// Pingora's, if the header cannot be built.
    pub fn response(&self, requested: &Requested<'_>) -> pingora::Result<Option<ResponseHeader>> {
        let Some(location) = self.location(requested) else { return Ok(None) };
        let mut header = ResponseHeader::build(self.status, Some(4))?;
        header.insert_header("Location", location)?;
        header.insert_header("Content-Length", HeaderValue::from_static("0"))?;
        Ok(Some(header))
    }
}

fn push_host(host: HostPort<'_>, location: &mut String) {
    encode(host.host, location);
    if let Some(port) = host.port {
        location.push_str(&format!(":{port}"));
    }
}

/// The request's port, otherwise the default port of its scheme (RFC 9110 section 4.2).
fn port(requested: &Requested<'_>) -> u16 {
    let of_scheme = if requested.scheme == "https" { 443 } else { 80 };
    requested.host.and_then(|host| host.port).unwrap_or(of_scheme)
}

/// Appends the path. At the start of a Location it must not become an authority, as in `//evil.example` (RFC 3986
/// section 4.2). After a host it must not extend the host name.
fn push_path(path: &str, location: &mut String) {
    let at_front = location.is_empty() || location == "/";
    let rest = if at_front { path.trim_start_matches(['/', '\\']) } else { path.strip_prefix('/').unwrap_or(path) };
    if !location.ends_with('/') || location.ends_with("://") {
        location.push('/');
    }
    encode(rest, location);
}

/// Percent-encodes the bytes that a URI cannot contain (RFC 3986 section 2). Existing percent-encoding is not changed.
pub(super) fn encode(text: &str, location: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            location.push(char::from(byte));
        } else {
            location.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
        }
    }
}

fn pieces(to: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = to;
    while let Some(open) = rest.find(['{', '}']) {
        let (text, tail) = rest.split_at(open);
        push_text(text, &mut pieces);
        let unpaired = || format!("`{to}`: a brace without its other one");
        let (name, tail) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')).ok_or_else(unpaired)?;
        pieces.push(match name {
            "scheme" => Piece::Scheme,
            "host" => Piece::Host,
            "hostname" => Piece::Hostname,
            "port" => Piece::Port,
            "path" => Piece::Path,
            "query" => Piece::Query,
            _ => {
                let known = "{scheme}, {host}, {hostname}, {port}, {path} and {query}";
                return Err(format!("`{{{name}}}` is none of {known}"));
            }
        });
        rest = tail;
    }
    push_text(rest, &mut pieces);
    if pieces.is_empty() { Err("a redirect needs somewhere to go".into()) } else { Ok(pieces) }
}

fn push_text(text: &str, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        let mut encoded = String::new();
        encode(text, &mut encoded);
        pieces.push(Piece::Text(encoded.into()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: HostPort<'static> = HostPort { host: "a.example", port: None };

    fn redirect(to: &str) -> Result<Redirect, String> {
        Redirect::compile(&schema::RedirectSettings { to: to.into(), status: 308 })
    }

    fn location(to: &str, path: &str, query: Option<&str>) -> String {
        let requested = Requested { scheme: "http", host: Some(HOST), path, query };
        redirect(to).unwrap().location(&requested).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn placeholders_are_replaced() {
        for (to, path, query, want) in [
            ("https://{host}{path}", "/x", Some("q"), "https://a.example/x"),
            ("https://{host}{path}{query}", "/x", Some("q"), "https://a.example/x?q"),
            ("https://{host}{path}{query}", "/x", None, "https://a.example/x"),
            ("{scheme}://b.example{query}", "/x", Some(""), "http://b.example?"),
            ("https://b.example/new", "/x", None, "https://b.example/new"),
            ("https://b.example/new/{path}", "/x", None, "https://b.example/new/x"),
            ("https://b.example{path}", "//x", None, "https://b.example//x"),
            ("https://b.example/new/{path}", "//x", None, "https://b.example/new//x"),
            ("/é b", "/x", None, "/%C3%A9%20b"),
            ("{path}", "/%41%zz", None, "/%41%zz"),
        ] {
            assert_eq!(location(to, path, query), want, "{to} {path}");
        }
    }

    #[test]
    fn host_includes_the_port_and_hostname_does_not() {
        let at = |to: &str, scheme, port| {
            let host = Some(HostPort { host: "[::1]", port });
            let location = redirect(to).unwrap().location(&Requested { scheme, host, path: "/x", query: None });
            location.unwrap().to_str().unwrap().to_owned()
        };
        for (to, scheme, port, want) in [
            ("{scheme}://{host}/y", "http", Some(8080), "http://[::1]:8080/y"),
            ("{scheme}://{host}/y", "http", None, "http://[::1]/y"),
            ("https://{hostname}{path}", "http", Some(8080), "https://[::1]/x"),
            ("{scheme}://{hostname}:{port}/", "http", Some(8080), "http://[::1]:8080/"),
            ("{scheme}://{hostname}:{port}/", "http", None, "http://[::1]:80/"),
            ("{scheme}://{hostname}:{port}/", "https", None, "https://[::1]:443/"),
        ] {
            assert_eq!(at(to, scheme, port), want, "{to}");
        }
        let requested =
            Requested { scheme: "http", host: Some(HostPort { host: "a", port: Some(81) }), path: "/", query: None };
        assert_eq!(Redirect::to_https(8443).location(&requested).unwrap(), "https://a:8443/");
    }

    #[test]
    fn a_request_path_cannot_change_the_host() {
        for (to, path, want) in [
            ("{path}", "//evil.example/x", "/evil.example/x"),
            ("{path}", "/\\evil.example", "/evil.example"),
            ("{path}", "///evil.example", "/evil.example"),
            ("/{path}", "//evil.example", "/evil.example"),
            ("https://b.example{path}", ".evil.example", "https://b.example/.evil.example"),
            ("https://b.example{path}", "@evil.example", "https://b.example/@evil.example"),
            ("https://b.example{path}", "*", "https://b.example/*"),
            ("{path}", "/a\r\nSet-Cookie: b", "/a%0D%0ASet-Cookie:%20b"),
        ] {
            assert_eq!(location(to, path, None), want, "{to} {path}");
        }
    }

    #[test]
    fn a_response_needs_the_host_only_for_its_placeholder() {
        let requested = Requested { scheme: "http", host: None, path: "/", query: None };
        assert!(redirect("https://{host}/").unwrap().response(&requested).unwrap().is_none());
        let header = redirect("/x").unwrap().response(&requested).unwrap().unwrap();
        assert_eq!((header.status.as_u16(), &header.headers["location"]), (308, &HeaderValue::from_static("/x")));
        assert_eq!(header.headers["content-length"], "0");
    }

    #[test]
    fn an_invalid_redirect_is_refused() {
        for to in ["", "{nope}", "a{", "a}b", "{path", "{{host}}"] {
            assert!(redirect(to).is_err(), "{to}");
        }
        assert!(Redirect::compile(&schema::RedirectSettings { to: "/".into(), status: 300 }).is_err());
    }

    proptest! {
        #[test]
        fn a_path_never_becomes_an_authority(path in ".{0,20}", query in prop::option::of(".{0,20}")) {
            let requested = Requested { scheme: "http", host: Some(HOST), path: &path, query: query.as_deref() };
            let location = redirect("{path}{query}").unwrap().location(&requested).unwrap();
            let text = location.to_str().unwrap();
            prop_assert!(text.starts_with('/') && !text.starts_with("//") && !text.contains('\\'), "{}", text);
        }
    }
}
