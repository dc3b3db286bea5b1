//! Parser of the PEM files that a document names: certificates with keys, certificate authorities, revocation lists.
//!
//! It never prints the content of a key. It never checks whether a certificate has expired, because that needs a clock.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, sign::any_supported_type};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, X509Version};

pub use super::authority::FileFault;
use super::authority::{PeerRole, never_verifies};
use super::pem_blocks;
use super::schema::ClientAuthMode;

/// The invalid file of a pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPair {
    /// The certificate file.
    #[error("{0}")]
    Cert(String, &'static str),
    /// The key file.
    #[error("{0}")]
    Key(String, &'static str),
}

impl BadPair {
    /// The hint.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Cert(_, hint) | Self::Key(_, hint) => hint,
        }
    }
}

const WANT_CERTIFICATE: &str = "Write a PEM file with one or more blocks `BEGIN CERTIFICATE`";
const WANT_KEY: &str = "Write a PEM file with one block `BEGIN PRIVATE KEY`";

/// Parses a certificate chain and its private key.
///
/// # Errors
/// One of the two files is invalid, or they do not belong together.
pub fn pair(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, BadPair> {
    let chain = certificates(cert).map_err(|(what, hint)| BadPair::Cert(what, hint))?;
    let key = private_key(key).map_err(|(what, hint)| BadPair::Key(what, hint))?;
    let unsupported = |_| BadPair::Key("this kind of key is not spoken".into(), "Make an ECDSA, Ed25519 or RSA key");
    let signer = any_supported_type(&key).map_err(unsupported)?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let later = pair
                .cert
                .iter()
                .skip(1)
                .any(|other| CertifiedKey::new(vec![other.clone()], Arc::clone(&pair.key)).keys_match().is_ok());
            Err(if later {
                BadPair::Cert("the key belongs to a later certificate of the file".into(), "Put that one first")
            } else {
                BadPair::Key("the key does not belong to the certificate".into(), "Write the pair as it was issued")
            })
        }
        Err(_) if pair.cert.first().is_some_and(|first| is_version_1(first)) => Err(BadPair::Cert(
            "the first certificate is X.509 version 1, which no client takes".into(),
            "Have it issued as version 3, with the names in subjectAltName",
        )),
        Err(error) => Err(BadPair::Cert(
            format!("the first certificate cannot be used: {error}"),
            "Have it issued anew; `openssl x509 -text -noout -in …` shows what is in it",
        )),
    }
}

/// RFC 5280 section 4.1: a certificate of version 1 has no version field.
fn is_version_1(certificate: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, certificate)| certificate.version() == X509Version::V1)
}

/// All certificates of a file.
///
/// # Errors
/// There is no certificate, or the file is not PEM.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    whole_blocks(bytes)?;
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|_| ("this file is not PEM to its end".to_owned(), WANT_CERTIFICATE))?;
    if all.is_empty() {
        return Err(("there is no certificate in this file".to_owned(), WANT_CERTIFICATE));
    }
    Ok(all)
}

/// The PEM parser silently skips a marker that belongs to no complete block, and the block with it.
fn whole_blocks(bytes: &[u8]) -> Result<(), FileFault> {
    let first = pem_blocks::strays(bytes).into_iter().next();
    first.map_or(Ok(()), |stray| Err((format!("line {}: {}", stray.line, stray.what), stray.hint)))
}

fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, FileFault> {
    whole_blocks(bytes)?;
    const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    if ENCRYPTED.iter().any(|mark| bytes.windows(mark.len()).any(|window| window == *mark)) {
        let hint = "Decrypt it (`openssl pkey -in … -out …`) and guard the file by its mode";
        return Err(("the key is encrypted".to_owned(), hint));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| ("there is no private key in this file".to_owned(), WANT_KEY))
}

/// Parses certificate authorities and checks that each can be used as a trust anchor.
///
/// # Errors
/// There is no certificate, one of them cannot be a trust anchor, or none of them can verify a peer with this role.
pub(super) fn authorities(bytes: &[u8], peer: PeerRole) -> Result<RootCertStore, FileFault> {
    let mut roots = RootCertStore::empty();
    let certificates = certificates(bytes)?;
    if let Some(fault) = never_verifies(&certificates, peer) {
        return Err(fault);
    }
    for certificate in certificates {
        let none = |_| ("a certificate in this file is no authority's".to_owned(), WANT_CERTIFICATE);
        roots.add(certificate).map_err(none)?;
    }
    Ok(roots)
}

fn revoked(bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, FileFault> {
    whole_blocks(bytes)?;
    let hint = "Write a PEM file with one or more blocks `BEGIN X509 CRL`";
    let all: Result<Vec<_>, pem::Error> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|_| ("this file is not PEM to its end".to_owned(), hint))?;
    if all.is_empty() { Err(("there is no revocation list in this file".to_owned(), hint)) } else { Ok(all) }
}

/// A verifier of client certificates, from the files of `client_auth`.
///
/// # Errors
/// A file has invalid content. If `ca` is valid, the error concerns `crl`.
pub fn client_verifier(
    mode: ClientAuthMode,
    ca: &[u8],
    crl: Option<&[u8]>,
) -> Result<Arc<dyn ClientCertVerifier>, FileFault> {
    let roots = authorities(ca, PeerRole::Client)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(crl) = crl {
        builder = builder.with_crls(revoked(crl)?);
    }
    if mode == ClientAuthMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| (format!("cannot be used: {error}"), "Fetch it from its authority anew"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(super) mod tests {
    use super::*;

    /// The output of `openssl x509 -req` without `-extfile`. The test crates cannot create certificates of version 1.
    pub(in crate::config) const VERSION_1: [&str; 2] = [
        "-----BEGIN CERTIFICATE-----\n\
         MIIBMTCB1wIUami4AyKm7iAeoWhX4FPxMoS2wBUwCgYIKoZIzj0EAwIwGjEYMBYG\n\
         A1UEAwwPb2xkLmV4YW1wbGUuY29tMCAXDTI2MTEyMzA1MjQ0OVoYDzIxMjYxMDMw\n\
         MDUyNDQ5WjAaMRgwFgYDVQQDDA9vbGQuZXhhbXBsZS5jb20wWTATBgcqhkjOPQIB\n\
         BggqhkjOPQMBBwNCAASEcVhNymNCPRhOynK55GihKzVrar1w/oJNhp4NKUi8SBtw\n\
         5QAPzQshD44+TBJLGn0Nay4NRSBlVmNj2EHR0tFEMAoGCCqGSM49BAMCA0kAMEYC\n\
         IQDjyafuGAXCKVWg9QjeBGnaLP5ihaAdi3r+Jqky47NvUwIhALdbHzuzu14ZrB60\n\
         oWRSAG8jfh8ldW+sw4Q3+VUvFoTL\n\
         -----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\n\
         MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJPn2df5K5AqIjl6o\n\
         x8ep1LtNkkBIB2C/RuVWtNXCwzChRANCAASEcVhNymNCPRhOynK55GihKzVrar1w\n\
         /oJNhp4NKUi8SBtw5QAPzQshD44+TBJLGn0Nay4NRSBlVmNj2EHR0tFE\n\
         -----END PRIVATE KEY-----\n",
    ];

    #[test]
    fn a_certificate_of_version_1_is_rejected_as_such() {
        let bad = pair(VERSION_1[0].as_bytes(), VERSION_1[1].as_bytes()).unwrap_err();
        assert!(matches!(bad, BadPair::Cert(..)) && bad.to_string().contains("X.509 version 1"), "{bad}");
        assert!(bad.hint().contains("version 3"), "{}", bad.hint());
    }
}
