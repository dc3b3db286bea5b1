//! The hash key of a request for `consistent_hash`. The same value gives the same number in every process.
//!
//! It decodes nothing, and allocates only to convert a host to lower case. It does not choose the backend: the balancer
//! does.

use std::net::IpAddr;

use pingora::http::RequestHeader;

use crate::config::schema::Hash;
use crate::message::cookie;
use crate::message::host::authority;
use crate::route::host;
use crate::upstream::balance::rng;

/// The key. `None` if the request does not have the configured value, or if it is empty.
pub(crate) fn of(hash: &Hash, request: &RequestHeader, client: Option<IpAddr>) -> Option<u64> {
    let some = |value: &[u8]| (!value.is_empty()).then(|| rng::hash(value));
    if let Some(name) = &hash.header {
        return request.headers.get(name.as_str()).and_then(|value| some(value.as_bytes()));
    }
    if let Some(name) = &hash.cookie {
        return cookie::values(&request.headers, name.as_bytes()).next().and_then(some);
    }
    if let Some(name) = &hash.query {
        return parameter(request.uri.query()?.as_bytes(), name.as_bytes()).and_then(some);
    }
    if hash.path.is_some() {
        return some(request.uri.path().as_bytes());
    }
    if hash.host.is_some() {
        return authority(request).and_then(host::normalise).and_then(|host| some(host.as_bytes()));
    }
    match client?.to_canonical() {
        IpAddr::V4(address) => some(&address.octets()),
        IpAddr::V6(address) => some(&address.octets()),
    }
}

/// The raw value of the first query parameter with that name.
fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn key(yaml: &str, request: &RequestHeader) -> Option<u64> {
        of(&serde_yaml::from_str(yaml).unwrap(), request, Some("192.0.2.1".parse().unwrap()))
    }

    #[test]
    fn each_part_of_a_request_gives_its_hash() {
        let request =
            request("/a/b?user=u1&users=u2", &[("Host", "Api.Example:80"), ("Cookie", "s=c1; t=c2"), ("X-User", "h1")]);
        let wanted = |text: &str| Some(rng::hash(text.as_bytes()));
        assert_eq!(key("{header: x-user}", &request), wanted("h1"));
        assert_eq!(key("{cookie: t}", &request), wanted("c2"));
        assert_eq!(key("{query: user}", &request), wanted("u1"));
        assert_eq!(key("{path: {}}", &request), wanted("/a/b"));
        assert_eq!(key("{host: {}}", &request), wanted("api.example"));
        assert_eq!(key("{client: {}}", &request), Some(rng::hash(&[192, 0, 2, 1])));
        let mapped =
            of(&serde_yaml::from_str("{client: {}}").unwrap(), &request, Some("::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(key("{client: {}}", &request), mapped, "one client on both kinds of listener");
    }

    #[test]
    fn an_absent_or_empty_value_gives_no_key() {
        let empty = request("/?user&x=", &[("Cookie", "ss=c1; s"), ("X-Empty", "")]);
        for yaml in
            ["{header: x-user}", "{header: x-empty}", "{cookie: s}", "{query: user}", "{query: x}", "{host: {}}"]
        {
            assert_eq!(key(yaml, &empty), None, "{yaml}");
        }
        assert_eq!(key("{query: x}", &request("/", &[])), None);
        let first = request("/", &[("Cookie", "a=1"), ("Cookie", "s=2; s=3")]);
        assert_eq!(key("{cookie: s}", &first), Some(rng::hash(b"2")));
    }
}
