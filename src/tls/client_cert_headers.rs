//! Request header fields that describe a client's verified certificate.
//!
//! They never contain anything that the CA has not signed. Values are escaped so that one value cannot look like two.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::san::address;
use crate::auth::client_certificate::{AlternativeName, VerifiedCertificate};

/// Maximum length of the subject and of the list of names, in bytes.
const MAX_FIELD_BYTES: usize = 4096;

const VERIFY: HeaderName = HeaderName::from_static("x-client-cert-verify");
const FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");
const SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
const SAN: HeaderName = HeaderName::from_static("x-client-cert-san");

/// A client: the header fields that backends get, and the certificate that access policies look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientIdentity {
    fields: Vec<(HeaderName, HeaderValue)>,
    certificate: Option<VerifiedCertificate>,
}

impl ClientIdentity {
    /// The fields for a client without a certificate.
    pub(super) fn none() -> Self {
        Self { fields: vec![(VERIFY, HeaderValue::from_static("NONE"))], certificate: None }
    }

    /// The fields for a verified certificate. `None` if it cannot be parsed.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let facts = VerifiedCertificate {
            fingerprint: fingerprint(certificate),
            issuer: distinguished_name(parsed.issuer()),
            subject: distinguished_name(parsed.subject()),
            names: alternative_names(&parsed),
        };
        let mut fields =
            vec![(VERIFY, HeaderValue::from_static("SUCCESS")), (FINGERPRINT, value(facts.fingerprint.clone())?)];
        let texts = [(SUBJECT, facts.subject.clone()), (SAN, san(&parsed))];
        for (name, text) in texts {
            if !text.is_empty() {
                fields.push((name, value(text)?));
            }
        }
        Some(Self { fields, certificate: Some(facts) })
    }

    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    pub(super) fn certificate(&self) -> Option<&VerifiedCertificate> {
        self.certificate.as_ref()
    }
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// SHA-256 of the certificate, in hexadecimal.
fn fingerprint(certificate: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, certificate).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A name in RFC 4514 form: the last RDN first, bytes that are not printable ASCII as `\XX`. Empty if it is too
/// long.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let part = |attributes: Vec<String>| attributes.join("+");
    let text = parts.iter().rev().map(|rdn| part(rdn.iter().map(attribute).collect())).collect::<Vec<_>>().join(",");
    if text.len() <= MAX_FIELD_BYTES { text } else { String::new() }
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = match oid2abbrev(attribute.attr_type(), oid_registry()) {
        Ok(name) => name.to_owned(),
        Err(_) => attribute.attr_type().to_id_string(),
    };
    match attribute.as_str() {
        Ok(text) => format!("{kind}={}", escaped(text)),
        Err(_) => format!("{kind}=#{}", hex(attribute.as_slice())),
    }
}

/// Escapes an attribute value (RFC 4514 section 2.4).
fn escaped(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let outer = (at == 0 && matches!(byte, b' ' | b'#')) || (at == last && byte == b' ');
        if outer || b"\"+,;<>\\=".contains(&byte) {
            out.extend(['\\', char::from(byte)]);
        } else if byte.is_ascii_graphic() || byte == b' ' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\{byte:02X}");
        }
    }
    out
}

/// The subject alternative names in the order of the certificate, for example `DNS:a.example, URI:spiffe://a/b`.
/// Commas, blanks and bytes that are not allowed in a URI are percent-encoded. Names that exceed the maximum length are
/// left out.
fn san(certificate: &X509Certificate<'_>) -> String {
    let names = certificate.subject_alternative_name().ok().flatten();
    let mut list = String::new();
    for name in names.iter().flat_map(|san| &san.value.general_names) {
        let entry = match name {
            GeneralName::DNSName(name) => format!("DNS:{}", encoded(name)),
            GeneralName::URI(uri) => format!("URI:{}", encoded(uri)),
            GeneralName::RFC822Name(mail) => format!("email:{}", encoded(mail)),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => format!("IP:{address}"),
                None => continue,
            },
            _ => continue,
        };
        let comma = if list.is_empty() { "" } else { ", " };
        if list.len() + comma.len() + entry.len() > MAX_FIELD_BYTES {
            break;
        }
        list.extend([comma, &entry]);
    }
    list
}

/// The names that access policies look at.
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<AlternativeName> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let known = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(AlternativeName::Dns(name.to_ascii_lowercase())),
        GeneralName::URI(uri) => Some(AlternativeName::Uri((*uri).to_owned())),
        GeneralName::RFC822Name(mail) => Some(AlternativeName::Email((*mail).to_owned())),
        GeneralName::IPAddress(bytes) => address(bytes).map(AlternativeName::Ip),
        _ => None,
    };
    names.iter().flat_map(|san| &san.value.general_names).filter_map(known).collect()
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b",\"\\".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn header_fields(name: &str, names: Vec<SanType>) -> Vec<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Ex, Inc.");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = ClientIdentity::of(certificate.der()).unwrap();
        identity.fields().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn a_value_cannot_look_like_two_values() {
        let names = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::URI("spiffe://x/y, URI:spiffe://admin".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
        ];
        let fields = header_fields("Zoë\r\nX-Admin: 1+CN=root", names);
        assert_eq!(fields[0], ("x-client-cert-verify".to_owned(), "SUCCESS".to_owned()));
        assert_eq!((&*fields[1].0, fields[1].1.len()), ("x-client-cert-fingerprint", 64));
        assert_eq!(fields[2].1, "CN=Zo\\C3\\AB\\0D\\0AX-Admin: 1\\+CN\\=root,O=Ex\\, Inc.");
        assert_eq!(fields[3].1, "DNS:a.example, URI:spiffe://x/y%2C%20URI:spiffe://admin, IP:192.0.2.1");
    }

    #[test]
    fn a_long_list_of_names_is_cut_between_names() {
        let name = |n: usize| SanType::DnsName(format!("{n:0>60}.example").try_into().unwrap());
        let fields = header_fields("a", (0..200).map(name).collect());
        let list = &fields[3].1;
        assert!(list.len() <= MAX_FIELD_BYTES && list.ends_with(".example"), "{}", list.len());
    }
}
