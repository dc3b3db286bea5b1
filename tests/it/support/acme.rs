//! A real ACME server: Debian's pebble, with a DNS server for the names that it looks at. It ends with the value.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::dns::ZONE;
use super::files::put;
use super::{Dns, Pki, TlsClient, Weir, eventually, spare, tls_config};

/// The listeners that pebble looks for its challenges at.
pub struct Ports {
    pub http: u16,
    pub tls: u16,
}

impl Ports {
    /// The listeners `web` and `secure`.
    pub fn of(weir: &Weir) -> Self {
        Self { http: weir.address("web").port(), tls: weir.address("secure").port() }
    }
}

const ADVICE: &str = r#"{ "suggestedWindow": { "start": "2024-01-01T00:00:00Z", "end": "2024-01-02T00:00:00Z" } }"#;

pub struct Pebble {
    folder: tempfile::TempDir,
    dns: Dns,
    port: u16,
    management: u16,
    pki: Pki,
    server: Option<Child>,
}

impl Pebble {
    /// Not there yet, though its address is known; `hosts.zone.test` lead here.
    pub fn new(hosts: &[&str]) -> Self {
        let (folder, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        pki.issue(&["127.0.0.1"]).put(folder.path(), "pebble");
        let here: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let dns = Dns::start(&hosts.iter().map(|host| (*host, here)).collect::<Vec<_>>());
        let [port, management] = [(); 2].map(|()| spare().port());
        Self { folder, dns, port, management, pki, server: None }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The settings of `tls.acme` for these names; `ca.pem` is put into the folder.
    pub fn settings(&self, folder: &Path, names: &[&str]) -> String {
        put(folder, "ca.pem", self.pki.ca());
        let names = names.iter().map(|name| format!("{name}.{ZONE}")).collect::<Vec<_>>().join(", ");
        format!("names: [{names}], directory: \"https://127.0.0.1:{}/dir\", directory_ca: ca.pem", self.port)
    }

    /// Starts it: it looks at these ports, and issues certificates that are valid for so many seconds.
    pub fn start(&mut self, ports: &Ports, seconds: u64) {
        let of = |name| self.folder.path().join(name).display().to_string();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": of("pebble.pem"),
            "privateKey": of("pebble.key"),
            "httpPort": ports.http,
            "tlsPort": ports.tls,
            "certificateValidityPeriod": seconds,
        }});
        std::fs::write(of("pebble.json"), config.to_string()).unwrap();
        let server = Command::new("pebble")
            .args(["-config", &of("pebble.json"), "-dnsserver", &self.dns.address().to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdin(Stdio::null())
            .stdout(File::create(of("said")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("pebble: {error}; Debian's package pebble has it"));
        self.server = Some(server);
        for port in [self.port, self.management] {
            eventually("pebble listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        }
    }

    /// What it says of a certificate that it issued: `Valid` or `Revoked`.
    pub fn status(&self, certificate: &[u8]) -> String {
        let serial: String = serial(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = client(self.management).get(&format!("/cert-status-by-serial/{serial}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["Status"].as_str().unwrap().to_owned()
    }

    /// Has it revoke a certificate: `kept` is the file with it and its key, which is all that it takes (RFC 8555 section 7.6).
    pub fn revoke(&self, kept: &Path) {
        let pem = std::fs::read(kept).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        // 1: the key is known to others (RFC 5280 section 5.3.1).
        let payload = serde_json::json!({ "certificate": base64(&certificate), "reason": 1 }).to_string();
        eventually("it is revoked", || {
            let nonce = client(self.port).get("/nonce-plz").header("replay-nonce").unwrap().to_owned();
            let url = format!("https://127.0.0.1:{}/revoke-cert", self.port);
            let body = signed(&PrivateKeyDer::from_pem_slice(&pem).unwrap(), &nonce, &url, &payload);
            let mut client = client(self.port);
            client.send(format!("POST /revoke-cert HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", self.port));
            client.send(format!("Content-Type: application/jose+json\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            let answer = client.response("POST");
            // It refuses nonces now and then, so that clients learn to ask again (RFC 8555 section 6.5).
            assert!(answer.status == 200 || answer.text().contains("badNonce"), "{}", answer.text());
            answer.status == 200
        });
    }

    /// The DNS server that it asks where names lead.
    pub fn names(&self) -> &Dns {
        &self.dns
    }

    /// Ends it: what it knew is forgotten.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The number of a certificate (DER).
pub fn serial(certificate: &[u8]) -> Vec<u8> {
    X509Certificate::from_der(certificate).unwrap().1.raw_serial().to_vec()
}

fn client(port: u16) -> TlsClient {
    TlsClient::secure(([127, 0, 0, 1], port).into(), "127.0.0.1", &Arc::new(tls_config(None)))
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A request that this key signs (RFC 8555 section 6.2).
fn signed(key: &PrivateKeyDer, nonce: &str, url: &str, payload: &str) -> String {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der()).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let jwk = serde_json::json!({ "kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y) });
    let protected = serde_json::json!({ "alg": "ES256", "jwk": jwk, "nonce": nonce, "url": url });
    let (protected, payload) = (base64(protected.to_string().as_bytes()), base64(payload.as_bytes()));
    let signature = key.sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes()).unwrap();
    let signature = base64(signature.as_ref());
    serde_json::json!({ "protected": protected, "payload": payload, "signature": signature }).to_string()
}

/// An ACME server in its place that asks to be left alone for so many seconds, but says of every certificate that it should
/// have been renewed long ago; it ends with the process.
pub fn start_rate_limiting(pebble: &Pebble, seconds: u64) {
    let issued = pebble.pki.issue(&["127.0.0.1"]);
    let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", pebble.port)).unwrap();
    let of = |path| format!("https://127.0.0.1:{}/{path}", pebble.port);
    let directory = serde_json::json!({
        "newNonce": of("nonce"), "newAccount": of("account"), "newOrder": of("order"), "renewalInfo": of("advice"),
    });
    let directory = directory.to_string();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, tcp);
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
                "/dir" => ("200 OK", directory.clone()),
                path if path.starts_with("/advice/") => ("200 OK", ADVICE.to_owned()),
                _ => ("429 Too Many Requests", String::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
            let _ = write!(stream, "{head}Retry-After: {seconds}\r\n\r\n{body}");
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- pebble\n{}", std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default());
        }
    }
}
