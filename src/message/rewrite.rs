//! Rewrites the request target for backends: origin-form, with path prefixes removed and added by whole segments.
//!
//! A rewrite uses the normalised path that routes are matched with, and the backend receives the result. If the backend
//! received the client's own bytes, it could resolve the path differently, to a place outside of `add_prefix`.

use std::fmt::Write as _;

use http::Uri;
use pingora::http::RequestHeader;

use crate::config::schema;
use crate::path::{self, Rules};

/// `routes[].rewrite`, compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Without trailing slashes. Empty if no prefix is removed.
    strip: Box<str>,
    /// Without trailing slashes. Empty if no prefix is added.
    add: Box<str>,
}

impl Rewrite {
    /// Compiles the rewrite.
    ///
    /// # Errors
    /// A prefix is not valid in a path.
    pub fn compile(rewrite: &schema::RewriteSettings) -> Result<Self, String> {
        Ok(Self { strip: prefix(rewrite.strip_prefix.as_deref())?, add: prefix(rewrite.add_prefix.as_deref())? })
    }

    /// The path and query to send, for a normalised path. A path without the prefix is not shortened.
    pub fn target(&self, path: &str, query: Option<&str>) -> String {
        let rest = strip(path, &self.strip).unwrap_or(path);
        let mut target = String::with_capacity(self.add.len() + rest.len() + query.map_or(0, str::len) + 2);
        target.push_str(&self.add);
        target.push_str(rest);
        if target.is_empty() {
            target.push('/');
        }
        if let Some(query) = query {
            let _ = write!(target, "?{query}");
        }
        target
    }

    /// Rewrites a request. `rules` are the path rules of its listener. `OPTIONS *` has no path to rewrite.
    ///
    /// # Errors
    /// Pingora's or the http crate's, if the result is not a valid request target.
    pub fn apply(&self, request: &mut RequestHeader, rules: Rules) -> pingora::Result<()> {
        if request.uri.path() == "*" {
            return Ok(());
        }
        let target = self.target(&path::normalise(request.uri.path(), rules), request.uri.query());
        set_target(request, &target)
    }
}

/// Changes an absolute-form target (RFC 9112 section 3.2.2) to the origin-form that an origin server expects. Other
/// forms stay. An empty path becomes `/`, or `*` for OPTIONS (section 3.2.4).
///
/// The authority is not lost, because `message::request_framing` has checked that Host is the same.
///
/// # Errors
/// Pingora's, if the result is not a valid request target.
pub fn origin_form(request: &mut RequestHeader) -> pingora::Result<()> {
    let raw = request.raw_path();
    if matches!(raw.first(), None | Some(b'/' | b'*')) || request.method == http::Method::CONNECT {
        return Ok(());
    }
    let ends_at_authority =
        raw.windows(3).position(|w| w == b"://").is_some_and(|at| !raw[at + 3..].iter().any(|b| b"/?".contains(b)));
    if ends_at_authority && request.method == http::Method::OPTIONS {
        return request.set_raw_path(b"*");
    }
    let target = request.uri.path_and_query().map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned());
    request.set_raw_path(target.as_bytes())
}

/// Replaces the path and the query. A URI with an authority keeps it, because an HTTP/2 request may have its authority
/// only there.
///
/// # Errors
/// Pingora's or the http crate's, if this is not a valid request target.
pub fn set_target(request: &mut RequestHeader, target: &str) -> pingora::Result<()> {
    if request.uri.authority().is_none() {
        return request.set_raw_path(target.as_bytes());
    }
    let invalid = |cause| pingora::Error::because(pingora::ErrorType::InvalidHTTPHeader, "rewritten target", cause);
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().map_err(|error: http::uri::InvalidUri| invalid(error.to_string()))?);
    let uri = Uri::from_parts(parts).map_err(|error| invalid(error.to_string()))?;
    request.set_uri(uri);
    Ok(())
}

/// The path after the prefix: empty or with a leading slash. `None` if the prefix is not a sequence of whole segments
/// of the path.
fn strip<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn prefix(text: Option<&str>) -> Result<Box<str>, String> {
    let Some(text) = text else { return Ok(Box::default()) };
    let fits = |b: u8| !b.is_ascii() || b.is_ascii_graphic() && !b"#?".contains(&b);
    if !text.starts_with('/') || !text.bytes().all(fits) {
        return Err(format!("`{text}` is not a path prefix; write `/v2`, percent-encoded where needed"));
    }
    Ok(path::configured_prefix(text).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: Rules = Rules { decode_slash: false, merge_slashes: false };

    fn rewrite(strip: &str, add: &str) -> Rewrite {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Rewrite::compile(&schema::RewriteSettings { strip_prefix: some(strip), add_prefix: some(add) }).unwrap()
    }

    #[test]
    fn prefixes_match_by_whole_segments() {
        for (strip, add, from, to) in [
            ("/api", "", "/api/x", "/x"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/api/", "/"),
            ("/api", "", "/api?a=/b", "/?a=/b"),
            ("/api", "", "/apix", "/apix"),
            ("/api/", "/v2/", "/api/x", "/v2/x"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("/api", "/v2", "/other?", "/v2/other?"),
            ("", "/v2", "/", "/v2/"),
            ("/", "", "/x", "/x"),
            ("/a%2Fb", "", "/a%2Fb/|^", "/|^"),
            ("/a", "", "/a//b", "//b"),
            ("/%61%2fb", "", "/a%2Fb/x", "/x"),
            ("/a/./", "/b/../c", "/a/x", "/c/x"),
            ("", "/é", "/x", "/%C3%A9/x"),
        ] {
            let (path, query) = from.split_once('?').map_or((from, None), |(p, q)| (p, Some(q)));
            assert_eq!(rewrite(strip, add).target(path, query), to, "{strip} {add} {from}");
            let mut request = RequestHeader::build("GET", from.as_bytes(), None).unwrap();
            rewrite(strip, add).apply(&mut request, Rules::default()).unwrap();
            assert_eq!(request.raw_path(), to.as_bytes(), "{strip} {add} {from}");
        }
    }

    #[test]
    fn the_normalised_path_is_rewritten() {
        let (decode, merge) = (Rules { decode_slash: true, ..KEEP }, Rules { merge_slashes: true, ..KEEP });
        for (rules, strip, add, from, to) in [
            (KEEP, "", "/tenant-a", "/../tenant-b/secret", "/tenant-a/tenant-b/secret"),
            (KEEP, "", "/tenant-a", "/%2e%2e/secret?a=/../%2e", "/tenant-a/secret?a=/../%2e"),
            (KEEP, "", "/tenant-a", "/x/../../secret", "/tenant-a/secret"),
            (KEEP, "", "/tenant-a", "/%%32e%%32e/secret", "/tenant-a/%%32e%%32e/secret"),
            (KEEP, "/pub", "/v2", "/p%75b/x", "/v2/x"),
            (KEEP, "/pub", "/v2", "/./pub/x", "/v2/x"),
            (KEEP, "/pub", "/v2", "/y/../pub/x", "/v2/x"),
            (KEEP, "/pub", "/v2", "/pub/..%2fx", "/v2/..%2Fx"),
            (decode, "/pub", "/v2", "/pub/..%2fx", "/v2/x"),
            (merge, "/pub", "/v2", "//pub//x", "/v2/x"),
        ] {
            let mut request = RequestHeader::build("GET", from.as_bytes(), None).unwrap();
            rewrite(strip, add).apply(&mut request, rules).unwrap();
            assert_eq!(request.raw_path(), to.as_bytes(), "{strip} {add} {from}");
        }
    }

    proptest! {
        #[test]
        fn the_sent_path_is_normalised_and_below_the_added_prefix(
            target in "(/|\\.|%2e|%2E|%2F|%2f|%25|%61|;|a|b|\\|){0,14}(\\?[a./%]{0,5})?",
            strip in "(/(a|b|%61|\\.\\.|a%2fb)){0,3}/?",
            add in "(/(a|b|\\.|\\.\\.|%2e%2E)){0,3}/?",
            decode_slash: bool,
            merge_slashes: bool,
        ) {
            let (rules, target) = (Rules { decode_slash, merge_slashes }, format!("/{target}"));
            let absolute = |prefix: String| if prefix.is_empty() { None } else { Some(prefix) };
            let schema = schema::RewriteSettings { strip_prefix: absolute(strip), add_prefix: absolute(add) };
            let rewrite = Rewrite::compile(&schema).unwrap();
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            rewrite.apply(&mut request, rules).unwrap();
            let sent = std::str::from_utf8(request.raw_path()).unwrap();
            let (path, query) = sent.split_once('?').map_or((sent, None), |(path, query)| (path, Some(query)));
            let below = path.strip_prefix(&*rewrite.add).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            prop_assert!(path.starts_with('/') && below, "{} -> {}", target, sent);
            let (path_sent, query_sent) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
            prop_assert_eq!(query, query_sent);
            prop_assert_eq!(path::normalise(path, KEEP), path, "the backend has nothing left to resolve");
            prop_assert_eq!(path, rewrite.target(&path::normalise(path_sent, rules), None));
        }
    }

    #[test]
    fn keeps_the_authority_of_http2() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.set_uri("http://a.example:81/api/x?q".parse().unwrap());
        rewrite("/api", "/v2").apply(&mut request, Rules::default()).unwrap();
        assert_eq!(request.uri, "http://a.example:81/v2/x?q");
    }

    #[test]
    fn makes_origin_form() {
        for (method, from, to) in [
            ("GET", "http://a.example/x?y", "/x?y"),
            ("GET", "http://a.example", "/"),
            ("GET", "http://a.example?y", "/?y"),
            ("OPTIONS", "http://a.example", "*"),
            ("OPTIONS", "http://a.example/", "/"),
            ("OPTIONS", "*", "*"),
            ("GET", "/x", "/x"),
            ("CONNECT", "a.example:443", "a.example:443"),
        ] {
            let mut request = RequestHeader::build(method, from.as_bytes(), None).unwrap();
            origin_form(&mut request).unwrap();
            assert_eq!(request.raw_path(), to.as_bytes(), "{from}");
        }
    }

    #[test]
    fn options_asterisk_is_not_rewritten() {
        let mut request = RequestHeader::build("OPTIONS", b"*", None).unwrap();
        rewrite("", "/v2").apply(&mut request, Rules::default()).unwrap();
        assert_eq!(request.raw_path(), b"*");
    }

    #[test]
    fn an_invalid_prefix_is_refused() {
        for text in ["v2", "", "/a b", "/a?b", "/a#", "/a\u{7f}"] {
            let rewrite = schema::RewriteSettings { strip_prefix: None, add_prefix: Some(text.into()) };
            assert!(Rewrite::compile(&rewrite).is_err(), "{text}");
        }
    }
}
