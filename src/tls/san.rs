//! The subject names of a certificate, and the match of a host against them (RFC 9525 section 6.3).

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The subject alternative names of a certificate. If there are none, its common names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SubjectNames {
    /// In lower case, without a final dot.
    pub(super) exact: Vec<Box<str>>,
    /// Wildcard names, without `*.`.
    pub(super) wild: Vec<Box<str>>,
    /// IP addresses.
    pub(super) addresses: Vec<IpAddr>,
}

impl SubjectNames {
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self::default();
        let san = certificate.subject_alternative_name().ok().flatten();
        for name in san.iter().flat_map(|san| &san.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.add(name),
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        if names == Self::default() {
            let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
            common.for_each(|name| match name.parse() {
                Ok(address) => names.addresses.push(address),
                Err(_) => names.add(name),
            });
        }
        names
    }

    fn add(&mut self, name: &str) {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => self.wild.push(parent.into()),
            None => self.exact.push(name.into()),
        }
    }

    /// Whether the host matches. It must be in lower case, an IPv6 address in brackets. A wildcard matches exactly one
    /// label.
    pub(super) fn cover(&self, host: &str) -> bool {
        let below = host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
        self.exact.iter().any(|name| **name == *host)
            || below.is_some_and(|parent| self.wild.iter().any(|wild| **wild == *parent))
            || (!self.addresses.is_empty() && host_address(host).is_some_and(|ip| self.addresses.contains(&ip)))
    }

    /// The names as text, for the admin API.
    pub(super) fn shown(&self) -> Vec<String> {
        let exact = self.exact.iter().map(ToString::to_string);
        let wild = self.wild.iter().map(|parent| format!("*.{parent}"));
        exact.chain(wild).chain(self.addresses.iter().map(ToString::to_string)).collect()
    }
}

/// Parses a host that is an IP address.
pub(super) fn host_address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// Parses an iPAddress name of 4 or 16 octets (RFC 5280 section 4.2.1.6).
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let mut names = SubjectNames::default();
        ["a.example", "*.b.example", "C.Example."].into_iter().for_each(|name| names.add(name));
        names.addresses.push("2001:db8::1".parse().unwrap());
        for host in ["a.example", "x.b.example", "c.example", "[2001:db8::1]"] {
            assert!(names.cover(host), "{host}");
        }
        for host in ["b.example", "x.y.b.example", ".b.example", "aa.example", "x.a.example", "[2001:db8::2]", ""] {
            assert!(!names.cover(host), "{host}");
        }
        assert_eq!(names.shown(), ["a.example", "c.example", "*.b.example", "2001:db8::1"]);
    }
}
