//! A real ACME server: Debian's pebble, with a DNS server for the names that it looks at. It ends with the value.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::dns::ZONE;
use super::pki::put;
use super::{Dns, Pki, Weir, eventually};

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
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, dns, port, pki, server: None }
    }

    /// What `tls.acme` needs to know of it; `ca.pem` is put into the folder.
    pub fn section(&self, folder: &Path, names: &[&str], more: &str) -> String {
        put(folder, "ca.pem", &self.pki.ca());
        let names = names.iter().map(|name| format!("{name}.{ZONE}")).collect::<Vec<_>>().join(", ");
        format!(
            "acme: {{ names: [{names}], directory: \"https://127.0.0.1:{}/dir\", directory_ca: ca.pem{more} }}",
            self.port
        )
    }

    /// Starts it: it looks at these ports, and issues certificates that are valid for so many seconds.
    pub fn start(&mut self, ports: &Ports, seconds: u64) {
        let of = |name| self.folder.path().join(name).display().to_string();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
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
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("pebble: {error}; Debian's package pebble has it"));
        self.server = Some(server);
        eventually("pebble listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Ends it: what it knew is forgotten.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// An ACME server in its place that asks to be left alone for so many seconds, but says of every certificate that it should
/// have been renewed long ago; it ends with the process.
pub fn start_grudging(pebble: &Pebble, seconds: u64) {
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
    }
}
