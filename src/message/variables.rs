//! The values of variables such as `{client}`, and the header fields that are made with them.
//!
//! A value that comes from a request never has a control character, so it cannot begin another field or line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::host::{self, HostPort};
use crate::config::{Template, TemplatePiece, Variable};

/// The values of one request.
#[derive(Debug, Clone, Copy)]
pub struct RequestValues<'a> {
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The id of the request.
    pub request_id: Option<&'a str>,
    /// The user that an access policy found.
    pub user: Option<&'a str>,
    /// The name of the route.
    pub route: Option<&'a str>,
    /// The host and port of the request.
    pub host: Option<HostPort<'a>>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The version of TLS.
    pub tls_version: Option<&'a str>,
    /// The name that the client sent in its TLS handshake.
    pub tls_sni: Option<&'a str>,
    /// When the request arrived.
    pub time: Option<SystemTime>,
    /// The status of the response.
    pub status: Option<u16>,
    /// The header fields of the client's request.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestValues<'a> {
    /// The values that the request itself has.
    pub fn of(request: &'a RequestHeader, scheme: &'a str) -> Self {
        Self {
            client: None,
            request_id: None,
            user: None,
            route: None,
            host: host::requested(request),
            scheme,
            path: request.uri.path(),
            query: request.uri.query(),
            tls_version: None,
            tls_sni: None,
            time: None,
            status: None,
            headers: &request.headers,
        }
    }

    /// The value of a variable, without control characters. `None` if it is absent.
    pub fn get(&self, variable: &Variable) -> Option<Cow<'a, [u8]>> {
        let text = |text: &'a str| without_controls(Cow::Borrowed(text.as_bytes()));
        let made = |text: String| Cow::Owned(text.into_bytes());
        Some(match variable {
            Variable::Client => made(self.client?.to_string()),
            Variable::RequestId => text(self.request_id?),
            Variable::User => text(self.user?),
            Variable::Route => text(self.route?),
            Variable::Host => made(authority(self.host?)),
            Variable::Hostname => text(self.host?.host),
            Variable::Port => made(self.port().to_string()),
            Variable::Scheme => text(self.scheme),
            Variable::Path => text(self.path),
            Variable::Query => made(self.query.map(|query| format!("?{query}")).unwrap_or_default()),
            Variable::TlsVersion => text(self.tls_version?),
            Variable::TlsSni => text(self.tls_sni?),
            Variable::Time => {
                let time = OffsetDateTime::from(self.time?);
                made(time.replace_millisecond(time.millisecond()).ok()?.format(&Rfc3339).ok()?)
            }
            Variable::Status => made(self.status?.to_string()),
            Variable::Header(name) => without_controls(self.field(name)?),
        })
    }

    /// The port of the request, otherwise the default port of its scheme (RFC 9110 section 4.2).
    pub fn port(&self) -> u16 {
        let of_scheme = if self.scheme == "https" { 443 } else { 80 };
        self.host.and_then(|host| host.port).unwrap_or(of_scheme)
    }

    /// The values of a field, joined as RFC 9110 section 5.3 allows. Cookie has its own separator (RFC 9113 section
    /// 8.2.3). A field without a value counts as absent.
    fn field(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        let mut values = self.headers.get_all(name).iter().map(HeaderValue::as_bytes).filter(|value| !value.is_empty());
        let first = values.next()?;
        let separator: &[u8] = if *name == header::COOKIE { b"; " } else { b", " };
        Some(values.fold(Cow::Borrowed(first), |joined, value| Cow::Owned([&joined, separator, value].concat())))
    }
}

/// The host with its port.
fn authority(host: HostPort<'_>) -> String {
    let mut text = host.host.to_owned();
    if let Some(port) = host.port {
        // Writing to a String cannot fail.
        let _ = write!(text, ":{port}");
    }
    text
}

fn without_controls(value: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if !value.iter().any(u8::is_ascii_control) {
        return value;
    }
    Cow::Owned(value.iter().copied().filter(|byte| !byte.is_ascii_control()).collect())
}

/// The value of a header field. `None` if a variable is absent or the whole value is empty: then there is no field.
pub fn field_value(template: &Template, values: &RequestValues<'_>) -> Option<HeaderValue> {
    let mut value = Vec::new();
    for piece in template.pieces() {
        match piece {
            TemplatePiece::Text(text) => value.extend_from_slice(text.as_bytes()),
            TemplatePiece::Variable(variable) => value.extend_from_slice(&values.get(variable)?),
        }
    }
    // Blanks around a value are not a part of it (RFC 9110 section 5.5).
    let value = value.trim_ascii();
    if value.is_empty() {
        return None;
    }
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::TemplateUse;

    fn request(fields: &[(&'static str, &[u8])]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/a/b?c=d", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, HeaderValue::from_bytes(value).unwrap()).unwrap();
        }
        request
    }

    fn expanded(text: &str, values: &RequestValues<'_>) -> Option<String> {
        let value = field_value(&Template::parse(text, TemplateUse::ErrorPage).unwrap(), values)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    #[test]
    fn each_variable_has_its_value() {
        let request = request(&[("host", b"a.example:8443"), ("x-a", b"1"), ("x-a", b"2"), ("cookie", b"a=1")]);
        let values = RequestValues {
            client: Some([192, 0, 2, 1].into()),
            request_id: Some("r-1"),
            user: Some("ada"),
            route: Some("api"),
            tls_version: Some("TLSv1.3"),
            tls_sni: Some("a.example"),
            time: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
            status: Some(503),
            ..RequestValues::of(&request, "https")
        };
        for (text, want) in [
            ("{client} {request_id} {user} {route}", "192.0.2.1 r-1 ada api"),
            ("{scheme}://{host}{path}{query}", "https://a.example:8443/a/b?c=d"),
            ("{hostname} {port} {status}", "a.example 8443 503"),
            ("{tls.version} {tls.sni} {time}", "TLSv1.3 a.example 1970-01-01T00:00:01Z"),
            ("{header.X-A}; {header.cookie}", "1, 2; a=1"),
            ("{\"a\":\"{route}\"}", "{\"a\":\"api\"}"),
        ] {
            assert_eq!(expanded(text, &values).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn a_field_whose_value_is_absent_is_omitted() {
        let mut request = request(&[("x-empty", b"")]);
        request.set_uri("/".parse().unwrap());
        let values = RequestValues::of(&request, "http");
        for text in ["{user}", "a {user}", "{header.x-none}", "{header.x-empty}", "{tls.sni}", "{host}", "{query}", " "]
        {
            assert_eq!(expanded(text, &values), None, "{text}");
        }
        assert_eq!(expanded("{path}{query} {port}", &values).as_deref(), Some("/ 80"));
    }

    #[test]
    fn a_value_of_a_request_is_not_parsed_again() {
        let request = request(&[("x-a", b"{client} {{host} {nope}")]);
        assert_eq!(expanded("{header.x-a}", &RequestValues::of(&request, "http")).unwrap(), "{client} {{host} {nope}");
    }

    proptest! {
        #[test]
        fn a_field_never_has_a_control_character(
            value in prop::collection::vec(any::<u8>(), 0..40),
            user in "\\PC{0,10}[\r\n\t\0]{0,3}\\PC{0,10}",
        ) {
            let fits: Vec<u8> = value.into_iter().filter(|b| *b == b'\t' || (*b >= 32 && *b != 127)).collect();
            let request = request(&[("x-a", &fits)]);
            let values = RequestValues { user: Some(&user), ..RequestValues::of(&request, "http") };
            let template = Template::parse("[{header.x-a}{user}{path}]", TemplateUse::Value).unwrap();
            if let Some(value) = field_value(&template, &values) {
                prop_assert!(!value.as_bytes().iter().any(u8::is_ascii_control));
            }
        }
    }
}
