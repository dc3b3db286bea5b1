//! A redirect: builds Location from configured text and parts of the request.
//!
//! The path of a request can never change the host. Location never contains a byte that a URI cannot contain.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::config::schema;
use crate::config::{Template, TemplatePiece, TemplateUse, Variable};
use crate::message::host::HostPort;
use crate::message::variables::RequestValues;

/// `routes[].redirect`, compiled.
#[derive(Debug, Clone)]
pub struct Redirect {
    status: StatusCode,
    /// Its texts are percent-encoded.
    to: Template,
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
        Ok(Self { status, to: template(&redirect.to)? })
    }

    /// Redirects to the same address with https at this port. It replaces the scheme and the port.
    pub fn to_https(port: u16) -> Self {
        let text = |text: String| TemplatePiece::Text(text.into());
        let host = [text("https://".to_owned()), TemplatePiece::Variable(Variable::Hostname)];
        let port = (port != 443).then(|| text(format!(":{port}")));
        let target = [Variable::Path, Variable::Query].map(TemplatePiece::Variable);
        let to = Template::of(host.into_iter().chain(port).chain(target).collect());
        Self { status: StatusCode::PERMANENT_REDIRECT, to }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The value of Location. `None` if it needs the host and the request has none, which makes the request malformed.
    /// Other values that are absent leave nothing.
    pub fn location(&self, values: &RequestValues<'_>) -> Option<HeaderValue> {
        let mut location = String::with_capacity(64 + values.path.len() + values.query.map_or(0, str::len));
        for piece in self.to.pieces() {
            match piece {
                TemplatePiece::Text(text) => location.push_str(text),
                TemplatePiece::Variable(Variable::Host) => push_host(values.host?, &mut location),
                TemplatePiece::Variable(Variable::Hostname) => encode(values.host?.host.as_bytes(), &mut location),
                TemplatePiece::Variable(Variable::Path) => push_path(values.path, &mut location),
                TemplatePiece::Variable(Variable::Query) => {
                    if let Some(query) = values.query {
                        location.push('?');
                        encode(query.as_bytes(), &mut location);
                    }
                }
                TemplatePiece::Variable(variable) => {
                    encode_component(&values.get(variable).unwrap_or_default(), &mut location);
                }
            }
        }
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok()
    }

    /// The complete response. It has no body. `None` as for `location`.
    ///
    /// # Errors
    /// Pingora's, if the header cannot be built.
    pub fn response(&self, values: &RequestValues<'_>) -> pingora::Result<Option<ResponseHeader>> {
        let Some(location) = self.location(values) else { return Ok(None) };
        let mut header = ResponseHeader::build(self.status, Some(4))?;
        header.insert_header("Location", location)?;
        header.insert_header("Content-Length", HeaderValue::from_static("0"))?;
        Ok(Some(header))
    }
}

fn push_host(host: HostPort<'_>, location: &mut String) {
    encode(host.host.as_bytes(), location);
    if let Some(port) = host.port {
        location.push_str(&format!(":{port}"));
    }
}

/// Appends the path. At the start of a Location it must not become an authority, as in `//evil.example` (RFC 3986
/// section 4.2). After a host it must not extend the host name.
fn push_path(path: &str, location: &mut String) {
    let at_front = location.is_empty() || location == "/";
    let rest = if at_front { path.trim_start_matches(['/', '\\']) } else { path.strip_prefix('/').unwrap_or(path) };
    if !location.ends_with('/') || location.ends_with("://") {
        location.push('/');
    }
    encode(rest.as_bytes(), location);
}

/// Percent-encodes the bytes that a URI cannot contain (RFC 3986 section 2). Existing percent-encoding is not changed.
pub(super) fn encode(text: &[u8], location: &mut String) {
    percent_encode(text, location, |byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
}

/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3). So the value of a header field cannot begin an
/// authority, a path, a query or a fragment.
fn encode_component(text: &[u8], location: &mut String) {
    percent_encode(text, location, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
}

fn percent_encode(text: &[u8], location: &mut String, is_plain: impl Fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if is_plain(byte) {
            location.push(char::from(byte));
        } else {
            location.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
        }
    }
}

fn template(to: &str) -> Result<Template, String> {
    if to.is_empty() {
        return Err("a redirect needs somewhere to go".into());
    }
    let parsed = Template::parse(to, TemplateUse::Value).map_err(|unknown| unknown.to_string())?;
    let encoded = parsed.pieces().iter().map(|piece| match piece {
        TemplatePiece::Text(text) => {
            let mut encoded = String::new();
            encode(text.as_bytes(), &mut encoded);
            TemplatePiece::Text(encoded.into())
        }
        variable => variable.clone(),
    });
    Ok(Template::of(encoded.collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use pingora::http::RequestHeader;
    use proptest::prelude::*;

    use super::*;

    const HOST: HostPort<'static> = HostPort { host: "a.example", port: None };

    fn redirect(to: &str) -> Result<Redirect, String> {
        Redirect::compile(&schema::RedirectSettings { to: to.into(), status: 308 })
    }

    fn empty() -> RequestHeader {
        RequestHeader::build("GET", b"/", None).unwrap()
    }

    fn location(to: &str, path: &str, query: Option<&str>) -> String {
        let request = empty();
        let values = RequestValues { host: Some(HOST), path, query, ..RequestValues::of(&request, "http") };
        redirect(to).unwrap().location(&values).unwrap().to_str().unwrap().to_owned()
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
            let (request, host) = (empty(), Some(HostPort { host: "[::1]", port }));
            let values = RequestValues { host, path: "/x", ..RequestValues::of(&request, scheme) };
            redirect(to).unwrap().location(&values).unwrap().to_str().unwrap().to_owned()
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
        let request = empty();
        let host = Some(HostPort { host: "a", port: Some(81) });
        let values = RequestValues { host, ..RequestValues::of(&request, "http") };
        assert_eq!(Redirect::to_https(8443).location(&values).unwrap(), "https://a:8443/");
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
        let request = empty();
        let requested = RequestValues::of(&request, "http");
        assert!(redirect("https://{host}/").unwrap().response(&requested).unwrap().is_none());
        let header = redirect("/x").unwrap().response(&requested).unwrap().unwrap();
        assert_eq!((header.status.as_u16(), &header.headers["location"]), (308, &HeaderValue::from_static("/x")));
        assert_eq!(header.headers["content-length"], "0");
    }

    #[test]
    fn an_invalid_redirect_is_refused() {
        for to in ["", "{nope}", "/{path}{Host}", "{{a}{b}"] {
            assert!(redirect(to).is_err(), "{to}");
        }
        assert!(Redirect::compile(&schema::RedirectSettings { to: "/".into(), status: 300 }).is_err());
    }

    #[test]
    fn the_value_of_a_header_field_stays_one_component() {
        let mut request = empty();
        for (value, want) in [
            ("de", "https://b.example/de?from=de"),
            ("/../@evil#?&", "https://b.example/%2F..%2F%40evil%23%3F%26?from=%2F..%2F%40evil%23%3F%26"),
            ("", "https://b.example/?from="),
        ] {
            request.insert_header("x-lang", value).unwrap();
            let to = redirect("https://b.example/{header.x-lang}?from={header.x-lang}").unwrap();
            assert_eq!(to.location(&RequestValues::of(&request, "http")).unwrap(), want);
        }
    }

    #[test]
    fn literal_braces_are_percent_encoded() {
        assert_eq!(location("/a}b{c{{path}", "/", None), "/a%7Db%7Bc%7Bpath%7D");
    }

    proptest! {
        #[test]
        fn a_path_never_becomes_an_authority(path in ".{0,20}", query in prop::option::of(".{0,20}")) {
            let text = location("{path}{query}", &path, query.as_deref());
            prop_assert!(text.starts_with('/') && !text.starts_with("//") && !text.contains('\\'), "{}", text);
        }
    }
}
