//! Whether a client is who it should be: what rustls does not ask again when a session is resumed.

use std::fmt;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, HandshakeKind, ServerConnection};
use rustls_pki_types::UnixTime;

use super::certificate::{Digest, digest_of};
use super::client_cert_headers::ClientIdentity;
use crate::config::pem;
use crate::config::schema::ClientAuthMode;

/// What a listener asks of its clients.
#[derive(Clone)]
pub(super) struct ClientAuthorities {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Of the mode and the authorities: under which sessions may be resumed.
    pub(super) terms: Digest,
    /// Of all files.
    pub(super) digest: Digest,
}

impl ClientAuthorities {
    /// From the bytes of `client_auth`'s files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(mode: ClientAuthMode, ca: &[u8], crl: Option<&[u8]>) -> Result<Self, String> {
        let verifier = pem::client_verifier(mode, ca, crl).map_err(|(what, _)| what)?;
        let mandatory = [u8::from(mode == ClientAuthMode::Required)];
        let digest = digest_of(&[ca, crl.unwrap_or_default()]);
        Ok(Self { verifier, terms: digest_of(&[&mandatory, ca]), digest })
    }

    /// Who the client is, as far as it showed. A resumed session brings a certificate that was verified when the session
    /// began; meanwhile it may have expired or been revoked.
    ///
    /// # Errors
    /// It is not let in (any more).
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
