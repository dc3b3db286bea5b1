//! Fields of forward authentication: the authorization request, and what its response changes in the client's request.
//!
//! The field names are those of Traefik and Caddy, which the authorization servers know. This module sends nothing.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::{cgi_name, hop_by_hop};

/// Maximum bytes of the body of a refusal that the client receives.
pub const MAX_REFUSAL_BODY: usize = 64 * 1024;

/// Fields of the client's request that the authorization request always has.
const CREDENTIALS: [HeaderName; 2] = [header::COOKIE, header::AUTHORIZATION];

/// Fields that describe the body of the response. The client receives a new body.
const BODY_FIELDS: [HeaderName; 2] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// The properties of the client's request that the authorization server decides about.
#[derive(Debug, Clone, Copy)]
pub struct AuthSubject<'a> {
    /// The client's request.
    pub request: &'a RequestHeader,
    /// The client's address as text.
    pub client: &'a HeaderValue,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host or `:authority` of the client's request.
    pub host: &'a HeaderValue,
    /// Path and query as the route matched them.
    pub uri: &'a HeaderValue,
}

/// The fields of one forward policy, compiled.
#[derive(Debug, Clone)]
pub struct ForwardAuthFields {
    path: Box<str>,
    request: Box<[HeaderName]>,
    response: Box<[HeaderName]>,
}

impl ForwardAuthFields {
    /// Compiles the settings. `path`: the path and query of the authorization request. `request`: fields that it copies
    /// from the client's request besides the cookies and Authorization. `response`: fields that the backend gets from
    /// the authorization response only.
    pub fn new(path: &str, request: &[HeaderName], response: &[HeaderName]) -> Self {
        Self { path: path.into(), request: request.into(), response: response.into() }
    }

    /// The authorization request. It has no body and no hop-by-hop field, so a WebSocket request becomes a plain GET.
    ///
    /// # Errors
    /// The path is not a valid request target.
    pub fn request(&self, subject: &AuthSubject<'_>) -> pingora::Result<RequestHeader> {
        let mut auth = RequestHeader::build(Method::GET, self.path.as_bytes(), None)?;
        let client = &subject.request.headers;
        for name in CREDENTIALS.iter().chain(&self.request).filter(|name| !is_of_message(name)) {
            if name == header::COOKIE {
                auth_cookies(&mut auth, client)?;
                continue;
            }
            for value in client.get_all(name) {
                auth.append_header(name.clone(), value.clone())?;
            }
        }
        auth.insert_header(header::HOST, subject.host.clone())?;
        auth.insert_header("X-Forwarded-Method", subject.request.method.as_str())?;
        auth.insert_header("X-Forwarded-Proto", subject.scheme)?;
        auth.insert_header("X-Forwarded-Host", subject.host.clone())?;
        auth.insert_header("X-Forwarded-Uri", subject.uri.clone())?;
        auth.insert_header("X-Forwarded-For", subject.client.clone())?;
        Ok(auth)
    }

    /// Applies a positive authorization response to the client's request. The client's copies of the listed fields go
    /// in each case, under every name that CGI maps to the same name.
    ///
    /// # Errors
    /// A field cannot be stored.
    pub fn admit(&self, request: &mut RequestHeader, response: &ResponseHeader) -> pingora::Result<()> {
        self.remove_copies(request);
        for name in &self.response {
            for value in response.headers.get_all(name) {
                request.append_header(name.clone(), value.clone())?;
            }
        }
        Ok(())
    }

    /// Removes the client's copies of the listed fields. It is also for a request that passes without a response.
    pub fn remove_copies(&self, request: &mut RequestHeader) {
        let listed = |name: &&HeaderName| self.response.iter().any(|own| cgi_name::same(name.as_str(), own.as_str()));
        while let Some(name) = request.headers.keys().find(listed).cloned() {
            request.remove_header(&name);
        }
    }
}

/// Whether an authorization response lets the request pass.
pub fn is_positive(status: StatusCode) -> bool {
    status.is_success()
}

/// The cookies that a positive authorization response sets. The final response of the client gets them.
pub fn cookies(response: &ResponseHeader) -> Vec<HeaderValue> {
    response.headers.get_all(header::SET_COOKIE).iter().cloned().collect()
}

/// Turns another authorization response into the one that the client receives: no hop-by-hop field, and no field that
/// frames the old body.
pub fn refusal(response: &mut ResponseHeader) {
    let status = response.status;
    header_edit(response, |headers| {
        hop_by_hop::response(headers, status, false);
        BODY_FIELDS.iter().for_each(|name| drop(headers.remove(name)));
    });
}

fn header_edit(response: &mut ResponseHeader, edit: impl FnOnce(&mut HeaderMap)) {
    super::header_case::edit_response(response, 0, edit);
}

/// Joins the cookies into one field. HTTP/2 clients may send several (RFC 9113 section 8.2.3).
fn auth_cookies(auth: &mut RequestHeader, client: &HeaderMap) -> pingora::Result<()> {
    let all: Vec<&[u8]> = client.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    match HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        Ok(joined) if !all.is_empty() => auth.insert_header(header::COOKIE, joined),
        _ => Ok(()),
    }
}

/// Whether a field belongs to the client's connection or to the framing of its message.
fn is_of_message(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn client(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("POST", b"/x?y=1", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn fields(request: &[&'static str], response: &[&'static str]) -> ForwardAuthFields {
        let names = |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>();
        ForwardAuthFields::new("/verify?a=b", &names(request), &names(response))
    }

    fn authorization(of: &ForwardAuthFields, request: &RequestHeader) -> RequestHeader {
        let value = HeaderValue::from_static;
        let (address, host, uri) = (value("192.0.2.1"), value("app.test"), value("/x?y=1"));
        let subject = AuthSubject { request, client: &address, scheme: "https", host: &host, uri: &uri };
        of.request(&subject).unwrap()
    }

    #[test]
    fn the_authorization_request_of_an_upgrade_is_a_plain_get_with_credentials_and_forwarded_fields() {
        let request = client(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("content-length", "5"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("authorization", "Bearer t"),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/public"),
            ("x-tenant", "t1"),
            ("x-other", "no"),
        ]);
        let auth = authorization(&fields(&["x-tenant", "upgrade", "content-length", "host"], &[]), &request);
        assert_eq!((&auth.method, auth.raw_path()), (&Method::GET, &b"/verify?a=b"[..]));
        let mut all: Vec<_> =
            auth.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort();
        let expected = [
            "authorization: Bearer t",
            "cookie: a=1; b=2",
            "host: app.test",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: app.test",
            "x-forwarded-method: POST",
            "x-forwarded-proto: https",
            "x-forwarded-uri: /x?y=1",
            "x-tenant: t1",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn listed_fields_come_from_the_authorization_response_only_also_under_names_of_cgi() {
        let of = fields(&[], &["remote-user", "remote-groups"]);
        let mut request =
            client(&[("remote-user", "root"), ("remote_user", "root"), ("Remote.Groups", "wheel"), ("x-keep", "1")]);
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.append_header("remote-user", "ann").unwrap();
        of.admit(&mut request, &response).unwrap();
        let mut all: Vec<_> =
            request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort();
        assert_eq!(all, ["remote-user: ann", "x-keep: 1"]);
    }

    #[test]
    fn a_refusal_loses_hop_by_hop_and_framing_fields_and_keeps_the_others() {
        let mut response = ResponseHeader::build(302, None).unwrap();
        for (name, value) in [
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("location", "https://id.test/"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ] {
            response.append_header(name, value).unwrap();
        }
        assert_eq!(cookies(&response), ["a=1", "b=2"]);
        refusal(&mut response);
        let names: Vec<_> = response.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["location", "set-cookie"]);
        assert_eq!(response.headers.get_all(header::SET_COOKIE).iter().count(), 2);
        assert!(is_positive(StatusCode::NO_CONTENT) && !is_positive(StatusCode::FOUND));
    }
}
