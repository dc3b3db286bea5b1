//! TLS for tests: a client that says what became of its handshake, and sockets for libraries.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, ServerConfig, SignatureScheme, StreamOwned,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::AsyncReadExt;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::either::Either;

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
    match client.map(parsed) {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    }
}

fn parsed(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()];
    (chain, PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap())
}

/// A client's socket, plain or under TLS.
pub type Socket = Either<tokio::net::TcpStream, tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

/// Connects: under TLS, for `example.org`, if a protocol is to be agreed on.
pub async fn open(address: SocketAddr, protocol: Option<&str>) -> Socket {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let Some(protocol) = protocol else { return Either::Left(tcp) };
    let mut config = tls_config(None);
    config.alpn_protocols = vec![protocol.into()];
    let name = "example.org".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    Either::Right(stream)
}

/// A server's socket, plain or under TLS.
pub type Accepted = Either<tokio::net::TcpStream, tokio_rustls::server::TlsStream<tokio::net::TcpStream>>;

/// Listens on a port of its own, under TLS if there is a certificate, speaks this protocol there and does this with each
/// connection. It ends with the process.
pub fn listen<F: Future<Output = ()> + Send + 'static>(
    certificate: Option<&Issued>,
    protocol: &str,
    connection: impl Fn(Accepted) -> F + Send + Clone + 'static,
) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = certificate.map(|issued| acceptor(issued, protocol));
    let accepting = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, connection) = (tls.clone(), connection.clone());
            tokio::spawn(async move {
                match tls {
                    None => connection(Either::Left(tcp)).await,
                    Some(tls) => match tls.accept(tcp).await {
                        Ok(stream) => connection(Either::Right(stream)).await,
                        Err(error) => eprintln!("a handshake of a test's server: {error}"),
                    },
                }
            });
        }
    };
    std::thread::spawn(move || super::http2::run(accepting));
    address
}

/// The header of the next HTTP/1 request, with its empty line; nothing if the connection ends first.
pub async fn read_head(stream: &mut Accepted) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// The server side of a handshake, with this certificate and this protocol.
pub fn acceptor(issued: &Issued, protocol: &str) -> TlsAcceptor {
    let (chain, key) = parsed(issued);
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.into()];
    TlsAcceptor::from(Arc::new(config))
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
