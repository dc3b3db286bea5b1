//! Scalar types of `discover`: DNS names and DNS servers.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A DNS name in lower case, such as `api.internal` or `_http._tcp.api.internal`. With a final dot, search lists are
/// not used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(String);

impl DnsName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(format!("`{text}` is an address and no name; write it into `backends`"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(plain);
        if text.len() > 253 || !text.strip_suffix('.').unwrap_or(text).split('.').all(label) {
            return Err(format!("`{text}` is not a name; write one such as `api.internal`, without a port"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(DnsName, "DnsName", r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$", "a name such as `api.internal`");

/// A DNS server: `10.0.0.53`, `10.0.0.53:5353`, `[fd00::53]:5353`; the default port is 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NameServer(SocketAddr);

impl NameServer {
    /// Its address.
    pub fn get(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = text.parse::<std::net::IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        match whole.or_else(|_| text.parse::<SocketAddr>()) {
            Ok(address) if address.port() > 0 => Ok(Self(address)),
            _ => Err(format!("`{text}` is not the address of a DNS server; write `10.0.0.53` or `10.0.0.53:5353`")),
        }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == 53 { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

text_value!(NameServer, "NameServer", r"^[0-9A-Fa-f:.\[\]]+$", "a DNS server's address such as `10.0.0.53`");

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let written = |text: &str| text.parse::<DnsName>().map(|name| name.to_string());
        for name in ["api", "api.internal", "api.internal.", "_http._tcp.api.internal"] {
            assert_eq!(written(name).unwrap(), name);
        }
        assert_eq!(written("API.Internal").unwrap(), "api.internal");
        assert!(written("10.0.0.1").unwrap_err().contains("`backends`"));
        for wrong in ["", ".", "a..b", "a b", "api:80", "::1", "*.a"] {
            assert!(written(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers() {
        let written = |text: &str| text.parse::<NameServer>().map(|server| (server.to_string(), server.get().port()));
        assert_eq!(written("10.0.0.53").unwrap(), ("10.0.0.53".to_owned(), 53));
        assert_eq!(written("127.0.0.1:5353").unwrap(), ("127.0.0.1:5353".to_owned(), 5353));
        assert_eq!(written("fd00::53").unwrap().1, 53);
        assert_eq!(written("[fd00::53]:5353").unwrap().1, 5353);
        assert!(["", "dns.internal", "10.0.0.1:0", "10.0.0.1:x"].iter().all(|wrong| written(wrong).is_err()));
    }
}
