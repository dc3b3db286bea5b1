//! Computes the path on which routes are matched, for a URL passed to `weir explain`.

use std::borrow::Cow;

use http::Method;

use crate::config::schema::ListenerConfig;
use crate::path;

/// The URL with its unusual bytes percent-encoded, as in a request. The authority is not changed.
pub(super) fn encoded(url: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let from = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
    match path::encode_unusual(&url.as_bytes()[from..]) {
        Cow::Borrowed(_) => url.to_owned(),
        Cow::Owned(encoded) => format!("{}{}", &url[..from], String::from_utf8_lossy(&encoded)),
    }
}

/// Whether the URL means `OPTIONS *`: `*` itself, or a URL without path and query (RFC 9112 section 3.2.4).
pub(super) fn is_about_the_server(method: &Method, url: &str) -> bool {
    let is_bare = |url: &str| url.split_once("://").is_some_and(|(_, rest)| !rest.contains(['/', '?']));
    *method == Method::OPTIONS && (url == "*" || is_bare(url))
}

/// The path as normalized by the listeners on which the request may arrive.
///
/// # Errors
/// A listener rejects the path, or the listeners normalize it differently.
pub(super) fn matched<'l>(path: &str, listeners: impl Iterator<Item = &'l ListenerConfig>) -> Result<String, String> {
    let mut first: Option<(String, String)> = None;
    for listener in listeners {
        if listener.paths.rejects_encoded_slash() && path::has_encoded_slash(path) {
            return Err(format!("listener `{}` answers 400: an encoded slash in the path", listener.label()));
        }
        let read = path::normalise(path, listener.paths.rules()).into_owned();
        match &first {
            None => first = Some((listener.label(), read)),
            Some((_, same)) if *same == read => {}
            Some((other, differs)) => {
                let (label, hint) = (listener.label(), "say which is meant by `--listener NAME`");
                return Err(format!("listener `{other}` reads the path as `{differs}`, `{label}` as `{read}`; {hint}"));
            }
        }
    }
    Ok(first.map_or_else(|| path::normalise(path, path::Rules::default()).into_owned(), |(_, read)| read))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listener(name: &str, paths: &str) -> ListenerConfig {
        serde_yaml::from_str(&format!("name: {name}\naddress: '127.0.0.1:0'\npaths: {paths}\n")).unwrap()
    }

    #[test]
    fn urls_are_encoded_behind_the_authority() {
        assert_eq!(encoded("/é?\"#"), "/%C3%A9?%22#");
        assert_eq!(encoded("http://é/{a}"), "http://é/%7Ba%7D");
        assert_eq!(encoded("http://a?é"), "http://a?%C3%A9");
        assert_eq!(encoded("http://é"), "http://é");
    }

    #[test]
    fn options_without_a_path_is_options_asterisk() {
        let about = |url| is_about_the_server(&Method::OPTIONS, url);
        assert!(about("*") && about("http://a:80"));
        assert!(!about("/") && !about("http://a/") && !about("http://a?b"));
        assert!(!is_about_the_server(&Method::GET, "*"));
    }

    #[test]
    fn listeners_that_read_a_path_differently_are_named() {
        let all = [listener("keeps", "{}"), listener("decodes", "{ encoded_slash: decode }")];
        assert_eq!(matched("/%61/../b", all.iter()), Ok("/b".into()));
        let error = matched("/a%2fb", all.iter()).unwrap_err();
        assert!(error.contains("`keeps` reads the path as `/a%2Fb`, `decodes` as `/a/b`"), "{error}");
        let rejects = [listener("rejects", "{ encoded_slash: reject, merge_slashes: true }")];
        assert!(matched("/a%2fb", rejects.iter()).unwrap_err().contains("`rejects` answers 400"));
        assert_eq!(matched("//a", rejects.iter()), Ok("/a".into()));
    }
}
