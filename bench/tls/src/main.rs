//! TLS 1.3 handshakes for the bench, each with one small GET on a connection of its own, on one thread. `openssl s_time` takes
//! longer for its side of one than any server does, and would measure itself.
//!
//! `tls IP:PORT CLIENTS SECONDS full|resumed PATH` prints `HANDSHAKES SECONDS P50-µs P99-µs`; each client does one after
//! another. It ends with a word and exit status 1 where one fails, or is resumed and should not be, or the other way round.
//! Keys are agreed on by X25519 with everybody: not all contestants know a hybrid one.

use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, clients, seconds, kind, path] = arguments.as_slice() else {
        eprintln!("usage: tls IP:PORT CLIENTS SECONDS full|resumed PATH");
        exit(64);
    };
    let (clients, seconds): (u32, f64) = (clients.parse().expect("a number"), seconds.parse().expect("seconds"));
    let request: Arc<str> = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").into();
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let run = |_| tokio::spawn(client(address.clone(), kind == "resumed", Arc::clone(&request), until));
    let running: Vec<_> = (0..clients).map(run).collect();
    let mut waits = Vec::new();
    for client in running {
        match client.await.expect("a client does not panic") {
            Ok(more) => waits.extend(more),
            Err(why) => {
                println!("failed: {why}");
                exit(1);
            }
        }
    }
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("{} {:.3} {} {}", waits.len(), started.elapsed().as_secs_f64(), at(0.5), at(0.99));
}

/// One after another until the time is over: how long each took with its GET, in microseconds.
async fn client(address: String, resumed: bool, request: Arc<str>, until: Instant) -> Result<Vec<u32>, String> {
    let connector = TlsConnector::from(Arc::new(config(resumed)));
    let wanted = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
    if resumed {
        exchange(&connector, &address, &request).await?;
    }
    let mut waits = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let kind = exchange(&connector, &address, &request).await?;
        if kind != Some(wanted) {
            return Err(format!("{kind:?} instead of {wanted:?}"));
        }
        waits.push(began.elapsed().as_micros() as u32);
    }
    Ok(waits)
}

async fn exchange(connector: &TlsConnector, address: &str, request: &str) -> Result<Option<HandshakeKind>, String> {
    let tcp = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = connector.connect(name, tcp).await.map_err(|error| format!("a handshake: {error}"))?;
    stream.write_all(request.as_bytes()).await.map_err(|error| format!("writing: {error}"))?;
    let mut answer = Vec::new();
    // Some servers end without TLS' goodbye.
    let end = stream.read_to_end(&mut answer).await;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("{end:?}: {}", String::from_utf8_lossy(&answer)));
    }
    Ok(stream.get_ref().1.handshake_kind())
}

fn config(resumed: bool) -> ClientConfig {
    let provider =
        Arc::new(CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() });
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&version::TLS13]).expect("a version that the provider knows");
    let anybody = Arc::new(Anybody(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
    if !resumed {
        config.resumption = Resumption::disabled();
    }
    config
}

/// Trusts every certificate, and checks that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
