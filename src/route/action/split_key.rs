//! The key of a user in a sticky split: the part of a request that identifies the user, as a number.
//!
//! The same value gives the same number in every process and version.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::config::schema::SplitKey;
use crate::message::cookie;

/// `routes[].split.by`, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompiledSplitKey {
    /// The value of this cookie. `ttl`: Weir sets it for clients that have none.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// How long the client keeps it.
        ttl: Option<Duration>,
    },
    /// The value of this header field.
    Header(HeaderName),
    /// The client's address; of IPv6 the /64 network, because hosts change the rest of their address.
    Client,
}

impl CompiledSplitKey {
    /// Compiles the key.
    ///
    /// # Errors
    /// The name of a field is not valid, or no key is written.
    pub fn compile(by: &SplitKey) -> Result<Self, String> {
        match (&by.cookie, &by.header, &by.client) {
            (Some(name), None, None) => {
                Ok(Self::Cookie { name: name.as_str().into(), ttl: by.ttl.map(|ttl| ttl.get()) })
            }
            (None, Some(name), None) => {
                let parsed = HeaderName::from_bytes(name.as_bytes());
                parsed.map(Self::Header).map_err(|_| format!("`{name}` is not a header name"))
            }
            (None, None, Some(_)) => Ok(Self::Client),
            _ => Err("`by` needs exactly one of `cookie`, `header` and `client`".to_owned()),
        }
    }

    /// The key of the user. `None` if the request does not have this part, or if it is empty.
    pub fn of(&self, headers: &HeaderMap, client: Option<IpAddr>) -> Option<u64> {
        let some = |value: &[u8]| (!value.is_empty()).then(|| hash(value));
        match self {
            Self::Cookie { name, .. } => cookie::values(headers, name.as_bytes()).next().and_then(some),
            Self::Header(name) => headers.get(name).and_then(|value| some(value.as_bytes())),
            Self::Client => match client?.to_canonical() {
                IpAddr::V4(address) => some(&address.octets()),
                IpAddr::V6(address) => some(&address.octets()[..8]),
            },
        }
    }
}

impl fmt::Display for CompiledSplitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie { name, .. } => write!(f, "cookie `{name}`"),
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Client => f.write_str("client address"),
        }
    }
}

/// FNV-1a, mixed.
pub fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The finalizer of SplitMix64: each bit of the result depends on each bit of the input.
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(yaml: &str, fields: &[(&'static str, &'static str)], client: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let by = CompiledSplitKey::compile(&serde_yaml::from_str(yaml).unwrap()).unwrap();
        by.of(&headers, client.parse().ok())
    }

    #[test]
    fn each_part_of_a_request_gives_its_key() {
        let fields = [("cookie", "a=1; user=ann"), ("x-user", "bob")];
        assert_eq!(key("{ cookie: user }", &fields, ""), Some(hash(b"ann")));
        assert_eq!(key("{ header: X-User }", &fields, ""), Some(hash(b"bob")));
        assert_eq!(key("{ client: {} }", &fields, "192.0.2.1"), Some(hash(&[192, 0, 2, 1])));
        let v6 = key("{ client: {} }", &fields, "2001:db8::1");
        assert_eq!(v6, key("{ client: {} }", &fields, "2001:db8::2"), "hosts change the last 64 bits");
        assert_ne!(v6, key("{ client: {} }", &fields, "2001:db8:0:1::1"));
        let mapped = key("{ client: {} }", &fields, "::ffff:192.0.2.1");
        assert_eq!(mapped, Some(hash(&[192, 0, 2, 1])), "one client on both kinds of listener");
    }

    #[test]
    fn an_absent_or_empty_part_gives_no_key() {
        let fields = [("cookie", "user=; users=1"), ("x-empty", "")];
        for yaml in
            ["{ cookie: user }", "{ cookie: none }", "{ header: x-empty }", "{ header: x-user }", "{ client: {} }"]
        {
            assert_eq!(key(yaml, &fields, ""), None, "{yaml}");
        }
    }

    #[test]
    fn the_hash_of_a_value_never_changes() {
        assert_eq!(hash(b"ann"), 0x8096_e52a_d559_ed80);
    }
}
