//! The redirects of a file, compiled.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::redirect::encode;
use crate::config::schema::RedirectList;
use crate::config::{REDIRECT_STATUSES, RedirectTable};

/// `routes[].redirects`, compiled.
#[derive(Debug, Clone)]
pub struct CompiledRedirects {
    table: RedirectTable,
    status: u16,
}

impl CompiledRedirects {
    /// Compiles the redirects. `file` returns the content of the file.
    ///
    /// # Errors
    /// The file was not read, or the status is not that of a redirect.
    pub fn compile(list: &RedirectList, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Self, String> {
        let bytes = file(&list.file).ok_or_else(|| format!("{} was not read", list.file.display()))?;
        if !REDIRECT_STATUSES.contains(&list.status) {
            return Err(format!("{} is no redirect; write 301, 302, 303, 307 or 308", list.status));
        }
        Ok(Self { table: RedirectTable::read(&bytes), status: list.status })
    }

    /// The line, status and Location for a normalised path. `None` if the file has no redirect for it. If the target has
    /// no query, it gets that of the request.
    pub fn find(&self, path: &str, query: Option<&str>) -> Option<(usize, StatusCode, HeaderValue)> {
        let (found, rest) = self.table.find(path)?;
        let status = StatusCode::from_u16(found.status.unwrap_or(self.status)).ok()?;
        let query = query.filter(|_| !found.to.contains('?'));
        let (front, fragment) = found.to.find('#').map_or((&*found.to, ""), |at| found.to.split_at(at));
        let mut location =
            String::with_capacity(found.to.len() + rest.len() + query.map_or(0, |query| query.len() + 1));
        location.push_str(front);
        if found.appends_rest {
            encode(rest.as_bytes(), &mut location);
        }
        if let Some(query) = query {
            location.push('?');
            encode(query.as_bytes(), &mut location);
        }
        location.push_str(fragment);
        Some((found.line, status, HeaderValue::from_maybe_shared(Bytes::from(location)).ok()?))
    }

    /// The complete response for a path. It has no body. `None` as for `find`.
    ///
    /// # Errors
    /// Pingora's, if the header cannot be built.
    pub fn response(&self, path: &str, query: Option<&str>) -> pingora::Result<Option<ResponseHeader>> {
        let Some((_, status, location)) = self.find(path, query) else { return Ok(None) };
        let mut header = ResponseHeader::build(status, Some(4))?;
        header.insert_header("Location", location)?;
        header.insert_header("Content-Length", HeaderValue::from_static("0"))?;
        Ok(Some(header))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compile(text: &str) -> CompiledRedirects {
        let list = serde_yaml::from_str("{ file: r.txt }").unwrap();
        CompiledRedirects::compile(&list, &|_| Some(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_location_has_the_rest_of_the_path_and_the_query_of_the_request() {
        let redirects = compile("/a /b\n/c /d?e=1 301\n/f/* https://g.example/h/* 302\n/i /j#top\n/k/* /\n");
        let at = |path: &str, query: Option<&str>| {
            let (_, status, location) = redirects.find(path, query).unwrap();
            (status.as_u16(), location.to_str().unwrap().to_owned())
        };
        for (path, query, status, location) in [
            ("/a", None, 308, "/b"),
            ("/a", Some("x=1"), 308, "/b?x=1"),
            ("/c", Some("x=1"), 301, "/d?e=1"),
            ("/f/x/y", Some("z"), 302, "https://g.example/h/x/y?z"),
            ("/f", None, 302, "https://g.example/h/"),
            ("/f/\r\nSet-Cookie: a", None, 302, "https://g.example/h/%0D%0ASet-Cookie:%20a"),
            ("/i", Some("x"), 308, "/j?x#top"),
            ("/k/x", None, 308, "/"),
        ] {
            assert_eq!(at(path, query), (status, location.to_owned()), "{path}");
        }
        assert!(redirects.find("/b", None).is_none());
        let header = redirects.response("/a", None).unwrap().unwrap();
        assert_eq!(
            (&header.headers["location"], &header.headers["content-length"]),
            (&"/b".parse().unwrap(), &"0".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn the_rest_of_a_path_never_becomes_a_host(path in "/a[ -~]{0,12}", query in prop::option::of("[ -~]{0,9}")) {
            let redirects = compile("/a/* /*\n");
            if let Some((_, _, location)) = redirects.find(&path, query.as_deref()) {
                let text = location.to_str().unwrap();
                prop_assert!(text.starts_with('/') && !text.starts_with("//") && !text.contains('\\'), "{}", text);
            }
        }
    }
}
