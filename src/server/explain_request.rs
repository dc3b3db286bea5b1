//! The request that a question of `weir explain` describes.

use std::net::IpAddr;

use http::uri::Uri;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;

use super::explain_path;
use crate::admin::api_explain::Question;
use crate::config::listener_key::{ListenerKey, keyed};
use crate::config::schema::ListenerConfig;
use crate::message::host as message_host;
use crate::route::host;
use crate::route::table::{MatchedParts, OnListener};

/// The parsed request of the question.
pub(super) struct ExplainedRequest {
    pub(super) listener: Option<OfListener>,
    pub(super) method: Method,
    pub(super) host: Option<String>,
    /// The normalised path.
    pub(super) path: String,
    /// `https` if the listener has TLS. If the listener is not known, the scheme of the URL.
    pub(super) scheme: &'static str,
    /// The request as the client sends it.
    pub(super) header: RequestHeader,
    pub(super) client: Option<IpAddr>,
}

/// The listener on which the request arrives.
pub(super) struct OfListener {
    pub(super) name: String,
    /// The port of `redirect_https`.
    pub(super) redirects_to: Option<u16>,
    /// Its socket.
    pub(super) key: ListenerKey,
    has_tls: bool,
}

impl ExplainedRequest {
    /// The parts that conditions of routes look at.
    pub(super) fn parts(&self) -> MatchedParts<'_> {
        MatchedParts { headers: &self.header.headers, query: self.header.uri.query(), client: self.client }
    }

    /// The listener, for the route table.
    pub(super) fn on(&self) -> OnListener<'_> {
        match &self.listener {
            Some(listener) => OnListener { name: Some(&listener.name), redirects: listener.redirects_to.is_some() },
            None => OnListener::default(),
        }
    }
}

/// The listener that the question names, or the only listener that exists.
fn listener(question: &Question, listeners: &[ListenerConfig]) -> Result<Option<OfListener>, String> {
    let found = match (&question.listener, listeners) {
        (Some(name), _) => {
            let known = || listeners.iter().map(|listener| format!("`{}`", listener.label())).collect::<Vec<_>>();
            let found = listeners.iter().find(|listener| listener.label() == *name);
            Some(found.ok_or_else(|| format!("there is no listener `{name}`; known are {}", known().join(", ")))?)
        }
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let key_of = |listener: &ListenerConfig| {
        keyed(listeners).into_iter().find(|(_, one)| std::ptr::eq(*one, listener)).map(|(key, _)| key)
    };
    let found = found.and_then(|listener| Some((listener, key_of(listener)?)));
    Ok(found.map(|(listener, key)| OfListener {
        key,
        name: listener.label(),
        redirects_to: listener.redirect_https.0,
        has_tls: listener.tls.is_some(),
    }))
}

/// Parses a question. The error says why it is invalid.
pub(super) fn parse(question: &Question, listeners: &[ListenerConfig]) -> Result<ExplainedRequest, String> {
    let listener = listener(question, listeners)?;
    let method = question.method.parse().map_err(|_| format!("`{}` is not a method", question.method))?;
    let wrong = || format!("`{}` is not a URL; write http://HOST/PATH or /PATH", question.url);
    let about_the_server = explain_path::is_about_the_server(&method, &question.url);
    let uri: Uri = explain_path::encoded(&question.url).parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        None if about_the_server => {}
        None if question.url.starts_with('/') => {}
        _ => return Err(wrong()),
    }
    let header = header(question, &uri, &method)?;
    let named = message_host::authority(&header);
    let host = named.and_then(host::normalise).map(Into::into);
    let path = match uri.path() {
        _ if about_the_server => "*",
        "" => "/",
        path => path,
    };
    let read_by = listeners.iter().filter(|one| listener.as_ref().is_none_or(|named| one.label() == named.name));
    let path = explain_path::matched(path, read_by)?;
    let with_tls = listener.as_ref().map_or(uri.scheme_str() == Some("https"), |listener| listener.has_tls);
    let client = question.client.as_ref().map(|client| client.parse()).transpose();
    let client = client.map_err(|_| "`client` is not an IP address".to_owned())?;
    let scheme = if with_tls { "https" } else { "http" };
    Ok(ExplainedRequest { listener, method, host, path, scheme, header, client })
}

/// The header of the request: the target in origin-form, Host from the URL, and the fields of the question.
fn header(question: &Question, uri: &Uri, method: &Method) -> Result<RequestHeader, String> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let made = RequestHeader::build(method.clone(), target.as_bytes(), Some(question.headers.len() + 1));
    let mut request = made.map_err(|error| error.to_string())?;
    for line in &question.headers {
        let parts = line.split_once(':').ok_or_else(|| format!("`{line}` is not a header; write NAME: VALUE"))?;
        let name: HeaderName = parts.0.trim().parse().map_err(|_| format!("`{}` is not a header name", parts.0))?;
        let value: HeaderValue =
            parts.1.trim().parse().map_err(|_| format!("`{}` cannot be a header's value", parts.1))?;
        request.append_header(name, value).map_err(|error| error.to_string())?;
    }
    if let Some(authority) = uri.authority() {
        request.insert_header(header::HOST, authority.as_str()).map_err(|error| error.to_string())?;
    }
    Ok(request)
}
