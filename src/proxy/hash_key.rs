//! What of a request `consistent_hash` goes by, as a number: the same for the same value in every process.
//!
//! It decodes nothing and allocates only to bring a host to lower case; who gets the request is the balancer's business.

use std::net::IpAddr;

use pingora::http::RequestHeader;

use crate::config::schema::Hash;
use crate::message::cookie;
use crate::message::host::authority;
use crate::route::host;
use crate::upstream::balance::rng;

/// The key; nothing where the request does not have it, or has it empty.
pub(super) fn of(hash: &Hash, request: &RequestHeader, client: Option<IpAddr>) -> Option<u64> {
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

/// The value of the first parameter of that name, as it is written.
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
    fn each_part_of_a_request_has_its_value() {
        let asked =
            request("/a/b?user=u1&users=u2", &[("Host", "Api.Example:80"), ("Cookie", "s=c1; t=c2"), ("X-User", "h1")]);
        let wanted = |text: &str| Some(rng::hash(text.as_bytes()));
        assert_eq!(key("{header: x-user}", &asked), wanted("h1"));
        assert_eq!(key("{cookie: t}", &asked), wanted("c2"));
        assert_eq!(key("{query: user}", &asked), wanted("u1"));
        assert_eq!(key("{path: {}}", &asked), wanted("/a/b"));
        assert_eq!(key("{host: {}}", &asked), wanted("api.example"));
        assert_eq!(key("{client: {}}", &asked), Some(rng::hash(&[192, 0, 2, 1])));
        let mapped =
            of(&serde_yaml::from_str("{client: {}}").unwrap(), &asked, Some("::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(key("{client: {}}", &asked), mapped, "one client on both kinds of listener");
    }

    #[test]
    fn what_is_absent_or_empty_is_no_key() {
        let asked = request("/?user&x=", &[("Cookie", "ss=c1; s"), ("X-Empty", "")]);
        for yaml in
            ["{header: x-user}", "{header: x-empty}", "{cookie: s}", "{query: user}", "{query: x}", "{host: {}}"]
        {
            assert_eq!(key(yaml, &asked), None, "{yaml}");
        }
        assert_eq!(key("{query: x}", &request("/", &[])), None);
        let first = request("/", &[("Cookie", "a=1"), ("Cookie", "s=2; s=3")]);
        assert_eq!(key("{cookie: s}", &first), Some(rng::hash(b"2")));
    }
}
