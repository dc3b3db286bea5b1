//! A certificate chain with its private key, and the facts that handshakes, metrics and the admin API need.
//!
//! It never changes: a renewed certificate is a new value.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::SignatureAlgorithm;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use super::san::SubjectNames;
use crate::config::pem;

/// A certificate chain with its private key.
pub struct Certificate {
    /// The name in metrics and logs: the path of its file as configured, or `acme:` and the DNS name.
    pub(super) label: Arc<str>,
    pub(super) names: SubjectNames,
    /// Unix seconds.
    not_before: i64,
    pub(super) not_after: i64,
    pub(super) key: Arc<CertifiedKey>,
    /// Digest of the files' bytes.
    pub(super) digest: Digest,
}

/// SHA-256 of file contents, to detect changes.
pub(super) type Digest = [u8; 32];

/// SHA-256 of several byte strings. Each is prefixed by its length, so that the boundaries count.
pub(super) fn digest_of(pieces: &[&[u8]]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for piece in pieces {
        context.update(&(piece.len() as u64).to_be_bytes());
        context.update(piece);
    }
    let mut out = Digest::default();
    out.copy_from_slice(context.finish().as_ref());
    out
}

impl Certificate {
    /// Parses the bytes of the certificate file and of the key file.
    ///
    /// # Errors
    /// One of the files is invalid, or the key does not fit the certificate.
    pub(super) fn read(label: &str, cert: &[u8], key: &[u8]) -> Result<Self, String> {
        let pair = pem::pair(cert, key).map_err(|bad| bad.to_string())?;
        let first = pair.cert.first().ok_or("there is no certificate in this file")?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|error| format!("cannot be read: {error}"))?;
        Ok(Self {
            label: label.into(),
            names: SubjectNames::of(&parsed),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            digest: digest_of(&[cert, key]),
            key: Arc::new(pair),
        })
    }

    /// Start of validity, in Unix seconds.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// End of validity, in Unix seconds.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The authority key identifier and the encoded serial number, which identify the certificate to its issuer (RFC
    /// 9773 section 4.1).
    pub fn issued_as(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (_, parsed) = X509Certificate::from_der(self.key.cert.first()?).ok()?;
        let authority = parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
            _ => None,
        });
        Some((authority?.0.to_vec(), parsed.tbs_certificate.raw_serial().to_vec()))
    }

    /// Whether the certificate is valid for a host. The host must be normalised as for routes.
    pub fn covers(&self, host: &str) -> bool {
        self.names.cover(host)
    }

    /// The algorithm of its key.
    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.key.key.algorithm()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("label", &self.label).field("names", &self.names).finish_non_exhaustive()
    }
}
