//! Client certificate authentication, including the checks that rustls skips when a session is resumed.

use std::fmt;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, HandshakeKind, ServerConnection};
use rustls_pki_types::UnixTime;

use super::certificate::{Digest, digest_of};
use super::client_cert_headers::ClientIdentity;
use crate::config::pem;
use crate::config::schema::ClientAuthMode;

/// The client authentication of a listener.
#[derive(Clone)]
pub(super) struct ClientAuthorities {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Digest of the mode and the CAs. A session is resumable only under the same digest.
    pub(super) terms: Digest,
    /// Digest of all files.
    pub(super) digest: Digest,
}

impl ClientAuthorities {
    /// Parses the bytes of the files of `client_auth`.
    ///
    /// # Errors
    /// One of the files is invalid.
    pub(super) fn read(mode: ClientAuthMode, ca: &[u8], crl: Option<&[u8]>) -> Result<Self, String> {
        let verifier = pem::client_verifier(mode, ca, crl).map_err(|(what, _)| what)?;
        let mandatory = [u8::from(mode == ClientAuthMode::Required)];
        let digest = digest_of(&[ca, crl.unwrap_or_default()]);
        Ok(Self { verifier, terms: digest_of(&[&mandatory, ca]), digest })
    }

    /// Identifies the client by its certificate, if it sent one. A resumed session has the certificate that was
    /// verified in the first handshake. It is verified again, because it may have expired or been revoked since.
    ///
    /// # Errors
    /// The certificate is required and missing, is no longer valid, or cannot be parsed.
    pub(super) fn identify(&self, connection: &ServerConnection) -> Result<ClientIdentity, Error> {
        let Some([first, others @ ..]) = connection.peer_certificates() else {
            let none = Error::NoCertificatesPresented;
            return if self.verifier.client_auth_mandatory() { Err(none) } else { Ok(ClientIdentity::none()) };
        };
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.verifier.verify_client_cert(first, others, UnixTime::now())?;
        }
        ClientIdentity::of(first).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }
}

impl fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("mandatory", &self.verifier.client_auth_mandatory()).finish_non_exhaustive()
    }
}
