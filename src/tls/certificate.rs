//! A certificate with its key, as handshakes use it, and what people ask of it. Immutable: a renewed one is another.

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

/// A certificate with its key.
pub struct Certificate {
    /// What it is called: the path of its file as configured.
    pub(super) label: Arc<str>,
    pub(super) names: SubjectNames,
    /// Seconds since 1970.
    not_before: i64,
    pub(super) not_after: i64,
    pub(super) key: Arc<CertifiedKey>,
    /// Of the bytes it was read from.
    pub(super) digest: Digest,
}

/// What tells files apart by their content.
pub(super) type Digest = [u8; 32];

/// Of several pieces; where one ends and the next begins counts.
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
    /// From the bytes of its files.
    ///
    /// # Errors
    /// What is wrong with one of them, or that they do not belong together.
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

    /// From when on it is valid, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Until when it is valid, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// What it is known by to who issued it: the identifier of that one's key, and its serial number as it is encoded (RFC
    /// 9773 section 4.1).
    pub fn issued_as(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (_, parsed) = X509Certificate::from_der(self.key.cert.first()?).ok()?;
        let authority = parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
            _ => None,
        });
        Some((authority?.0.to_vec(), parsed.tbs_certificate.raw_serial().to_vec()))
    }

    /// Whether a host, normalised as routes have it, is one of its names.
    pub fn covers(&self, host: &str) -> bool {
        self.names.cover(host)
    }

    /// The kind of its key.
    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.key.key.algorithm()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("label", &self.label).field("names", &self.names).finish_non_exhaustive()
    }
}
