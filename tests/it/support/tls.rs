//! A client over TLS that says what became of its handshake.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::client::Client;
use super::pki::Issued;

/// A connection under TLS.
pub type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// What a client goes by: it trusts everybody, and shows this of itself.
pub fn tls_config(client: Option<&Issued>) -> ClientConfig {
    tls_config_with(client, rustls::ALL_VERSIONS, &[])
}

/// The same with these versions, and these signatures only (empty: all).
pub fn tls_config_with(
    client: Option<&Issued>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    schemes: &[SignatureScheme],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let trusting = Arc::new(TrustsAll(schemes.to_vec()));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(trusting);
    match client {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

impl TlsClient {
    /// Connects and asks for this name; an address asks for none.
    pub fn handshake(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(super::DEADLINE))?;
        tcp.set_write_timeout(Some(super::DEADLINE))?;
        tcp.set_nodelay(true)?;
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Self::over(StreamOwned::new(session, tcp)))
    }

    /// The same, which must work.
    pub fn secure(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Self {
        Self::handshake(address, name, config).unwrap()
    }

    pub fn was_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that the server showed.
    pub fn shown(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// Whether that is this one.
    pub fn was_shown(&self, issued: &Issued) -> bool {
        self.shown() == CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap().to_vec()
    }
}

#[derive(Debug)]
struct TrustsAll(Vec<SignatureScheme>);

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        if self.0.is_empty() {
            return default_provider().signature_verification_algorithms.supported_schemes();
        }
        self.0.clone()
    }
}
