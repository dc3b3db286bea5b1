//! A real DNS server on a port of its own: Debian's dnsmasq, with a zone that a test changes. It ends with the value.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::child::send_signal;
use super::{eventually, spare};

/// The zone that it knows everything about: names in it that it does not have do not exist.
pub const ZONE: &str = "zone.test";

pub struct Dns {
    folder: tempfile::TempDir,
    address: SocketAddr,
    server: Child,
    services: Vec<String>,
}

impl Dns {
    /// With these addresses of `NAME.zone.test`.
    pub fn start(hosts: &[(&str, &[IpAddr])]) -> Self {
        Self::start_with(hosts, &[])
    }

    /// And these services: `_http._tcp.zone.test,TARGET,PORT,PRIORITY,WEIGHT`.
    pub fn start_with(hosts: &[(&str, &[IpAddr])], services: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), hosts);
        let address = spare();
        let server = spawn(folder.path(), address, services);
        let dns = Self { folder, address, server, services: services.to_vec() };
        dns.wait();
        dns
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other addresses from now on.
    pub fn set(&self, hosts: &[(&str, &[IpAddr])]) {
        write(self.folder.path(), hosts);
        self.signal(libc::SIGHUP);
    }

    /// Other services from now on: dnsmasq has to be started again for that.
    pub fn set_services(&mut self, services: &[String]) {
        self.end();
        self.services = services.to_vec();
        self.server = spawn(self.folder.path(), self.address, &self.services);
        self.wait();
    }

    /// It hears questions and does not answer.
    pub fn stop_answering(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// It answers again.
    pub fn resume_answering(&self) {
        self.signal(libc::SIGCONT);
    }

    fn wait(&self) {
        eventually("dnsmasq listens", || TcpStream::connect(self.address).ok());
    }

    fn signal(&self, signal: i32) {
        send_signal(&self.server, signal);
    }

    fn end(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.end();
    }
}

fn write(folder: &Path, hosts: &[(&str, &[IpAddr])]) {
    let lines = hosts.iter().flat_map(|(name, ips)| ips.iter().map(move |ip| format!("{ip} {name}.{ZONE}\n")));
    let new = folder.join("new");
    std::fs::write(&new, lines.collect::<String>()).unwrap();
    std::fs::rename(new, folder.join("hosts")).unwrap();
}

fn spawn(folder: &Path, address: SocketAddr, services: &[String]) -> Child {
    // Servers live in sbin, which is not on every PATH.
    let binary = Some(PathBuf::from("/usr/sbin/dnsmasq")).filter(|path| path.exists());
    Command::new(binary.unwrap_or_else(|| "dnsmasq".into()))
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local-ttl=0", "--user=root"])
        .arg(format!("--local=/{ZONE}/"))
        .arg(format!("--port={}", address.port()))
        .arg(format!("--addn-hosts={}", folder.join("hosts").display()))
        .args(services.iter().map(|service| format!("--srv-host={service}")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("dnsmasq: {error}; Debian's package dnsmasq-base has it"))
}
