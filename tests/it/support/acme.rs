//! A real ACME server: Debian's pebble, with a DNS server for the names that it looks at. It ends with the value.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
    }
}
