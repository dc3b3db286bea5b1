//! `client_certificate`: which of the verified client certificates may pass.

use std::net::IpAddr;

/// A verified client certificate, as far as policies look at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifiedCertificate {
    /// SHA-256 of the certificate, in lower-case hexadecimal.
    pub fingerprint: String,
    /// The issuer in the form of RFC 4514.
    pub issuer: String,
    /// The subject in the form of RFC 4514.
    pub subject: String,
    /// The subject alternative names.
    pub names: Vec<AlternativeName>,
}

/// A subject alternative name (RFC 5280 section 4.2.1.6). Its kind keeps a URI from passing for a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlternativeName {
    /// A DNS name, in lower case.
    Dns(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
    /// A mail address.
    Email(String),
    /// An address.
    Ip(IpAddr),
}

impl VerifiedCertificate {
    /// The name of its holder: the first alternative name, otherwise the subject.
    pub fn holder(&self) -> String {
        match self.names.first() {
            Some(AlternativeName::Dns(name) | AlternativeName::Uri(name) | AlternativeName::Email(name)) => {
                name.clone()
            }
            Some(AlternativeName::Ip(address)) => address.to_string(),
            None => self.subject.clone(),
        }
    }
}

/// `client_certificate`, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRule {
    san: Vec<NamePattern>,
    issuer: Vec<String>,
    fingerprint: Vec<String>,
}

/// An entry of a list that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// The key of the list.
    pub list: &'static str,
    /// The position in the list, from 0.
    pub index: usize,
    /// The problem.
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NamePattern {
    /// Exactly this name.
    Exact(AlternativeName),
    /// A DNS name with any one label before this suffix, which begins with a dot.
    AnyLabel(String),
}

impl CertificateRule {
    /// Compiles the lists of a policy. An empty list admits every certificate.
    ///
    /// # Errors
    /// The problem, with the list and the index of the value.
    pub fn compile(san: &[String], issuer: &[String], fingerprint: &[String]) -> Result<Self, BadEntry> {
        if let Some(index) = issuer.iter().position(|issuer| issuer.trim().is_empty()) {
            return Err(BadEntry {
                list: "issuer",
                index,
                what: "an issuer has a name, such as `CN=Devices`".to_owned(),
            });
        }
        let pattern =
            |(index, text): (usize, &String)| pattern(text).map_err(|what| BadEntry { list: "san", index, what });
        let normal = |(index, text): (usize, &String)| {
            let bad = || BadEntry { list: "fingerprint", index, what: bad_fingerprint(text) };
            normal_fingerprint(text).ok_or_else(bad)
        };
        Ok(Self {
            san: san.iter().enumerate().map(pattern).collect::<Result<_, _>>()?,
            issuer: issuer.iter().map(|issuer| issuer.trim().to_owned()).collect(),
            fingerprint: fingerprint.iter().enumerate().map(normal).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the certificate may pass.
    pub fn admits(&self, certificate: &VerifiedCertificate) -> bool {
        let san = |pattern: &NamePattern| certificate.names.iter().any(|name| pattern.fits(name));
        (self.san.is_empty() || self.san.iter().any(san))
            && (self.issuer.is_empty() || self.issuer.contains(&certificate.issuer))
            && (self.fingerprint.is_empty() || self.fingerprint.contains(&certificate.fingerprint))
    }
}

impl NamePattern {
    fn fits(&self, name: &AlternativeName) -> bool {
        match (self, name) {
            (Self::Exact(exact), name) => exact == name,
            (Self::AnyLabel(suffix), AlternativeName::Dns(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            (Self::AnyLabel(_), _) => false,
        }
    }
}

fn pattern(text: &str) -> Result<NamePattern, String> {
    let text = text.trim();
    if text.contains("://") || text.starts_with("urn:") {
        return Ok(NamePattern::Exact(AlternativeName::Uri(text.to_owned())));
    }
    if let Ok(address) = text.parse() {
        return Ok(NamePattern::Exact(AlternativeName::Ip(address)));
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@".contains(&b))
            && !name.contains("..")
    };
    match text.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') && !suffix.contains('@') && is_name(&suffix[1..]) => {
            Ok(NamePattern::AnyLabel(suffix.to_ascii_lowercase()))
        }
        None if text.contains('@') && is_name(text) => Ok(NamePattern::Exact(AlternativeName::Email(text.to_owned()))),
        None if is_name(text) => Ok(NamePattern::Exact(AlternativeName::Dns(text.to_ascii_lowercase()))),
        _ => Err(format!("`{text}` is not an alternative name: write `a.example`, `*.example`, an address or a URI")),
    }
}

fn normal_fingerprint(text: &str) -> Option<String> {
    let hex: String = text.chars().filter(|c| *c != ':').collect();
    let is_sha256 = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_sha256.then(|| hex.to_ascii_lowercase())
}

fn bad_fingerprint(text: &str) -> String {
    format!("`{text}` is not a SHA-256 of 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn compile(san: &[&str], issuer: &[&str], fingerprint: &[&str]) -> Result<CertificateRule, BadEntry> {
        let [san, issuer, fingerprint] =
            [san, issuer, fingerprint].map(|list| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        CertificateRule::compile(&san, &issuer, &fingerprint)
    }

    fn certificate(names: Vec<AlternativeName>) -> VerifiedCertificate {
        let (issuer, subject) = ("CN=Devices,O=Ex".to_owned(), "CN=a".to_owned());
        VerifiedCertificate { fingerprint: "ab".repeat(32), issuer, subject, names }
    }

    #[test]
    fn a_wildcard_stands_for_one_label_of_a_dns_name_only() {
        let rule = compile(&["*.corp.example"], &[], &[]).unwrap();
        let admits = |name| rule.admits(&certificate(vec![name]));
        assert!(admits(AlternativeName::Dns("a.corp.example".into())));
        for bad in ["corp.example", "a.b.corp.example", ".corp.example", "acorp.example", "a.corp.example.evil"] {
            assert!(!admits(AlternativeName::Dns(bad.into())), "{bad}");
        }
        assert!(!admits(AlternativeName::Uri("a.corp.example".into())));
        assert!(!admits(AlternativeName::Email("a.corp.example".into())));
        assert!(!rule.admits(&certificate(Vec::new())));
    }

    #[test]
    fn each_key_that_is_set_must_fit() {
        let both = compile(&["a", "spiffe://x/y"], &["CN=Devices,O=Ex"], &[]).unwrap();
        let uri = || vec![AlternativeName::Uri("spiffe://x/y".into())];
        assert!(both.admits(&certificate(uri())));
        assert!(!both.admits(&VerifiedCertificate { issuer: "CN=Other".into(), ..certificate(uri()) }));
        let colons = ["AB"; 32].join(":");
        assert!(compile(&[], &[], &[&colons]).unwrap().admits(&certificate(Vec::new())));
        let address = compile(&["2001:db8::1"], &[], &[]).unwrap();
        assert!(address.admits(&certificate(vec![AlternativeName::Ip("2001:db8::1".parse().unwrap())])));
        assert!(compile(&[], &[], &[]).unwrap().admits(&certificate(Vec::new())), "any verified certificate");
    }

    #[test]
    fn a_bad_value_is_named_with_its_place() {
        assert_eq!(compile(&["a", "*"], &[], &[]).unwrap_err().index, 1);
        assert_eq!(compile(&["a b"], &[], &[]).unwrap_err().list, "san");
        assert_eq!(compile(&[], &[], &["abcd"]).unwrap_err().list, "fingerprint");
        assert_eq!(compile(&[], &[""], &[]).unwrap_err().list, "issuer");
    }

    #[test]
    fn the_holder_is_the_first_name_or_the_subject() {
        assert_eq!(certificate(Vec::new()).holder(), "CN=a");
        assert_eq!(certificate(vec![AlternativeName::Dns("d".into())]).holder(), "d");
    }
}
