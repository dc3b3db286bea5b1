//! Socket activation: listeners take sockets that systemd has opened.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::child::Process;
use crate::support::{Client, Config, Origin, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_weir");

/// A Weir with the sockets of a script. The script has the first socket as its standard input and the second one as its
/// standard output.
struct Activated {
    weir: Process,
    folder: tempfile::TempDir,
    sockets: [SocketAddr; 2],
}

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Starts `weir run` as systemd does. `config` gets the addresses of the two sockets; `variables` are for the shell.
fn activate(config: impl FnOnce([SocketAddr; 2]) -> Config, variables: &str) -> Activated {
    let folder = tempfile::tempdir().unwrap();
    let ((one, first), (two, second)) = (socket(), socket());
    let sockets = [first, second];
    std::fs::write(folder.path().join("weir.yaml"), config(sockets).to_string()).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let script = format!("export LISTEN_PID=$$ {variables}; exec \"$0\" run -c \"$1\" 3<&0 4<&1 </dev/null >/dev/null");
    let child = Command::new("sh")
        .args(["-c", &script, BINARY])
        .arg(folder.path().join("weir.yaml"))
        .stdin(Stdio::from(OwnedFd::from(one)))
        .stdout(Stdio::from(OwnedFd::from(two)))
        .stderr(log)
        .spawn()
        .unwrap();
    Activated { weir: Process(child), folder, sockets }
}

impl Activated {
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn wait_for_log(&mut self, text: &str) {
        eventually(text, || {
            assert_eq!(self.weir.0.try_wait().unwrap(), None, "it ended: {}", self.log());
            self.log().contains(text)
        });
    }
}

#[test]
fn listeners_take_sockets_by_name_then_by_address_and_bind_the_others() {
    let origin = Origin::named("a");
    let config = |sockets: [SocketAddr; 2]| {
        let by_address = format!("address: \"{}\"", sockets[1]);
        Config::to(&origin).listener("other", by_address).listener("own", "").set("admin", "off")
    };
    // The first socket has the name of a listener with another address.
    let mut activated = activate(config, "LISTEN_FDS=2 LISTEN_FDNAMES=web:weir.socket");
    activated.wait_for_log("\nready\n");
    let log = activated.log();
    assert!(log.contains(&format!("listening web {}", activated.sockets[0])), "{log}");
    assert!(log.contains(&format!("listening other {}", activated.sockets[1])), "{log}");
    assert!(log.contains("listening own 127.0.0.1:"), "{log}");
    for address in activated.sockets {
        assert_eq!(Client::connect(address).get("/").text(), "a");
    }
    activated.weir.signal(libc::SIGTERM);
    assert_eq!(activated.weir.wait().code(), Some(0));
}

#[test]
fn the_admin_listener_takes_the_socket_of_its_name() {
    let config = |_| Config::to("127.0.0.1:1").set("admin.address", "127.0.0.1:0");
    let mut activated = activate(config, "LISTEN_FDS=2 LISTEN_FDNAMES=admin:web");
    activated.wait_for_log("\nready\n");
    let response = Client::connect(activated.sockets[0]).get_with("/healthz", &[("Host", "localhost")]);
    assert_eq!((response.status, response.text().as_str()), (200, "ok\n"));
    assert!(activated.log().contains(&format!("listening web {}", activated.sockets[1])));
}

#[test]
fn sockets_that_no_listener_wants_are_logged_and_closed() {
    let config = |_| Config::to("127.0.0.1:1").set("admin", "off");
    let mut activated = activate(config, "LISTEN_FDS=2 LISTEN_FDNAMES=old:older");
    activated.wait_for_log("\nready\n");
    let log = activated.log();
    for (name, address) in ["old", "older"].iter().zip(activated.sockets) {
        assert!(log.contains(&format!("name=\"{name}\"")) && log.contains(&address.to_string()), "{log}");
        assert!(std::net::TcpStream::connect(address).is_err(), "it is closed");
    }
}

#[test]
fn variables_for_another_process_are_ignored_and_malformed_ones_end_the_start() {
    let config = |_| Config::to("127.0.0.1:1").set("admin", "off");
    let mut activated = activate(config, "LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=web:web");
    activated.wait_for_log("\nready\n");
    assert!(!activated.log().contains(&activated.sockets[0].to_string()), "{}", activated.log());
    let mut activated = activate(config, "LISTEN_FDS=many");
    assert_eq!(activated.weir.wait().code(), Some(1));
}

#[test]
fn connections_that_wait_during_a_restart_are_served_by_the_next_process() {
    let origin = Origin::named("a");
    let (socket, address) = socket();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, Config::to(&origin).set("admin", "off").to_string()).unwrap();
    let start = || {
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec \"$0\" run -c \"$1\" 3<&0 </dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script, BINARY]).arg(&file);
        let stdin = OwnedFd::from(socket.try_clone().unwrap());
        Process(command.stdin(Stdio::from(stdin)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let mut weir = start();
    assert_eq!(Client::connect(address).get("/").text(), "a");
    weir.signal(libc::SIGTERM);
    weir.wait();
    // systemd holds the socket, so the client waits in its queue.
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _weir = start();
    assert_eq!(client.response("GET").text(), "a");
}
