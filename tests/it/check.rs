//! `weir check` and `weir run` agree: what passes `check --strict` starts, and what starts is never an error.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::files::{fifo, folder, set_mode};
use crate::support::weir::command;
use crate::support::{Config, Pki, Weir, spare};

const BINARY: &str = env!("CARGO_BIN_EXE_weir");
/// `nobody`, on most systems.
const UNPRIVILEGED: u32 = 65_534;

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// A host: a folder with `weir.yaml`, a user and a limit of open files.
struct Host {
    folder: tempfile::TempDir,
    user: Option<u32>,
    files: Option<u32>,
}

impl Host {
    fn new(yaml: &str) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), yaml)
    }

    fn in_folder(folder: tempfile::TempDir, yaml: &str) -> Self {
        // Readable for all, so that another user can run the check.
        set_mode(folder.path(), 0o755);
        fs::write(folder.path().join("weir.yaml"), yaml).unwrap();
        Self { folder, user: None, files: None }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let limit = self.files.map(|files| format!("ulimit -n {files} && ")).unwrap_or_default();
        command.arg("-c").arg(format!("{limit}exec \"$0\" \"$@\"")).arg(BINARY).args(arguments);
        command.arg("-c").arg(self.path().join("weir.yaml")).current_dir("/").stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// The exit status and standard output of `weir check`.
    fn check(&self, options: &[&str]) -> (Option<i32>, String) {
        let output = self.command(&[&["check"], options].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Whether `weir run` becomes ready. It is stopped then.
    fn starts(&self) -> bool {
        let mut command = self.command(&["run"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let ready = lines.any(|line| line == "ready");
        let _ = child.kill();
        child.wait().unwrap();
        ready
    }

    /// `check` reports a warning about this host that contains this text, `--strict` fails, and `run` does not start.
    fn is_warned(&self, what: &str) {
        let (code, told) = self.check(&[]);
        let warning = told.lines().find(|line| line.contains(": warning: ") && line.contains("this host: "));
        assert_eq!(code, Some(0), "{what}: {told}");
        assert!(warning.is_some_and(|line| line.contains(what)), "{what}: {told}");
        assert_eq!(self.check(&["--strict"]).0, Some(2), "{what}");
        assert!(!self.starts(), "{what}");
    }

    /// `check --strict` passes, and `run` starts.
    fn passes(&self, why: &str) {
        let (code, told) = self.check(&["--strict"]);
        assert_eq!(code, Some(0), "{why}: {told}");
        assert!(self.starts(), "{why}");
        assert_eq!(self.check(&["--strict"]).0, Some(0), "{why}: beside what the run left behind");
    }
}

/// As text: the places in it are told.
fn yaml(more: &str) -> String {
    const TEXT: &str = "\
listeners: [{ name: web, address: \"127.0.0.1:0\" }]
routes: [{ respond: { status: 204 } }]
";
    let admin = if more.contains("admin:") { "" } else { "admin: off\n" };
    format!("{admin}{TEXT}{more}\n")
}

fn sticky(key_file: &str) -> String {
    const TEXT: &str = "\
admin: off
listeners: [{ address: \"127.0.0.1:0\" }]
routes: [{ upstream: up }]
upstreams: { up: { sticky: { cookie: c, key_file: KEY }, backends: [{ address: \"127.0.0.1:1\" }] } }
";
    TEXT.replace("KEY", key_file)
}

/// The admin API on a Unix socket.
fn admin_at(socket: &Path) -> String {
    "admin: { address: \"unix:PATH\" }".replace("PATH", socket.to_str().unwrap())
}

#[test]
fn a_fact_about_this_host_that_stops_the_start_is_a_warning_with_its_place() {
    for (more, what) in [
        (
            "server: { user: doesnotexist }",
            "weir.yaml:4:17: warning: server.user: this host: there is no user `doesnotexist`",
        ),
        ("server: { user: \"65534\" }", "there is no user `65534`"),
        ("server: { pid_file: no/such/pid }", "weir.yaml:4:21: warning: server.pid_file: this host: "),
        ("server: { pid_file: . }", "it is a folder, not a regular file"),
        ("server: { state_dir: no/such/state }", "server.state_dir: this host: "),
        ("server: { state_dir: weir.yaml }", "server.state_dir: this host: "),
        ("access_log: { path: no/such/access.log }", "weir.yaml:4:21: warning: access_log.path: this host: "),
        ("access_log: { path: . }", "access_log.path: this host: "),
        ("admin: { address: \"unix:/no/such/admin.sock\" }", "its folder does not exist"),
        ("admin: { address: \"unix:/etc/hostname\" }", "there is a file that is not a socket"),
        (
            "admin: { address: \"192.0.2.1:9180\", insecure: true }",
            "admin.address: this host: cannot listen on 192.0.2.1:9180",
        ),
    ] {
        Host::new(&yaml(more)).is_warned(what);
    }
    let lacks = yaml("").replace("127.0.0.1:0", "192.0.2.1:8080");
    Host::new(&lacks).is_warned("listeners[0].address: this host: cannot listen on 192.0.2.1:8080");
    Host::new(&sticky("no/such/key")).is_warned("upstreams.up.sticky.key_file: this host: ");
    let open = Host::new(&sticky("key"));
    fs::write(open.path().join("key"), "a".repeat(64)).unwrap();
    set_mode(&open.path().join("key"), 0o644);
    open.is_warned("everybody on this machine may read");
    let few = Host { files: Some(60), ..Host::new(&yaml("server: { threads: 32 }")) };
    few.is_warned("server.threads: this host: 32 threads cannot be started");
}

#[test]
fn what_passes_strict_starts() {
    let key = sticky("state/key") + "server: { state_dir: state }\n";
    for text in [
        yaml(""),
        yaml("server: { pid_file: weir.pid, state_dir: state, threads: 2 }\naccess_log: { path: access.log }"),
        yaml("admin: { address: \"127.0.0.1:0\" }"),
        key,
    ] {
        Host::new(&text).passes(&text);
    }
    let stale = tempfile::tempdir().unwrap();
    let socket = stale.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    Host::in_folder(stale, &yaml(&admin_at(&socket))).passes("the socket of a process that has ended");
    let log = Host::new(&yaml("access_log: { path: fifo }"));
    fifo(&log.path().join("fifo"));
    let _reader = fs::File::options().read(true).write(true).open(log.path().join("fifo")).unwrap();
    log.passes("a FIFO with a reader");
}

#[test]
fn an_address_in_use_is_no_warning() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new(&yaml("").replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string()));
    assert_eq!(host.check(&["--strict"]).0, Some(0));
    assert!(!host.starts());
    let weir =
        Weir::start(Config::new().route("all", "respond: { status: 204 }").set("listeners.web.address", spare()));
    let file = weir.config_file();
    let beside = command(&["check", "--strict", "-c", file.to_str().unwrap()]);
    assert_eq!(beside.code, Some(0), "as before a reload: {}", beside.stdout);
}

#[test]
fn a_check_leaves_nothing_behind() {
    let text = sticky("state/key") + "server: { state_dir: state, pid_file: pid }\naccess_log: { path: access.log }\n";
    let host = Host::new(&text);
    assert_eq!(host.check(&["--strict"]).0, Some(0));
    let names: Vec<_> = fs::read_dir(host.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["weir.yaml"]);
}

#[test]
fn what_another_user_may_not_read_is_a_warning_and_no_error() {
    if !is_root() {
        return;
    }
    let folder = folder(&[("edge", &Pki::new().issue(&["a.test"]))]);
    set_mode(&folder.path().join("edge.key"), 0o600);
    let tls = "tls: { certificates: [{ cert: edge.pem, key: edge.key }] }";
    let text = yaml("").replace("127.0.0.1:0\" }", &format!("127.0.0.1:0\", {tls} }}"));
    let mut host = Host::in_folder(folder, &text);
    host.passes("as root");
    host.user = Some(UNPRIVILEGED);
    host.is_warned("certificates[0].key: this host: cannot be read: permission denied");
}

#[test]
fn a_user_without_the_privilege_is_warned_of_ports_users_and_folders() {
    if !is_root() {
        return;
    }
    let as_nobody = |text: &str| Host { user: Some(UNPRIVILEGED), ..Host::new(text) };
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim() != "0" {
        as_nobody(&yaml("").replace("127.0.0.1:0", "127.0.0.1:1")).is_warned("ports below 1024 need root");
    }
    as_nobody(&yaml("server: { user: root }")).is_warned("uid 65534 cannot become `root`");
    as_nobody(&yaml("server: { pid_file: pid }")).is_warned("server.pid_file: this host: ");
    as_nobody(&yaml("server: { state_dir: state }")).is_warned("server.state_dir: this host: ");
    as_nobody(&yaml("access_log: { path: log }")).is_warned("access_log.path: this host: ");
    as_nobody(&sticky("key")).is_warned("upstreams.up.sticky.key_file: this host: ");
    let socket = tempfile::tempdir().unwrap();
    let admin = admin_at(&socket.path().join("a.sock"));
    Host { user: Some(UNPRIVILEGED), ..Host::in_folder(socket, &yaml(&admin)) }.is_warned("admin.address: this host: ");
}

#[test]
fn files_are_checked_as_the_user_that_weir_becomes() {
    if !is_root() {
        return;
    }
    let nobody = "server: { user: nobody }";
    Host::new(&yaml(nobody)).passes("no file");
    Host::new(&yaml(&[nobody, "access_log: { path: log }"].join("\n"))).is_warned("access_log.path: this host: ");
    let state = Host::new(&yaml("server: { user: nobody, state_dir: state }"));
    state.passes("the folder is made for that user");
    set_mode(&state.path().join("state"), 0o700);
    std::os::unix::fs::chown(state.path().join("state"), Some(0), Some(0)).unwrap();
    let _ = fs::remove_dir_all(state.path().join("state/acme"));
    state.is_warned("server.state_dir: this host: nothing can be written in");
    let folder = folder(&[("edge", &Pki::new().issue(&["a.test"]))]);
    set_mode(&folder.path().join("edge.key"), 0o600);
    let tls = "tls: { certificates: [{ cert: edge.pem, key: edge.key }] }";
    let host = Host::in_folder(folder, &yaml(nobody).replace("127.0.0.1:0\" }", &format!("127.0.0.1:0\", {tls} }}")));
    let (code, told) = host.check(&[]);
    assert!(code == Some(0) && told.contains("`nobody` may not read") && told.contains("edge.key"), "{told}");
    assert!(host.starts(), "a reload would be refused, the start is not");
}

#[test]
fn warnings_fail_strict_alone_and_carry_their_severity_in_json() {
    let text = yaml("upstreams: { old: { backends: [{ address: \"127.0.0.1:1\" }] } }");
    let host = Host::new(&text);
    let (code, told) = host.check(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("weir.yaml:4:14: warning: upstreams.old: no route uses the upstream `old`."), "{told}");
    assert!(told.lines().last().unwrap().contains("weir.yaml: ok, 1 warning. 1 listener, "), "{told}");
    let (code, told) = host.check(&["--strict"]);
    assert!(code == Some(2) && told.lines().last().unwrap().contains("1 warning, and --strict allows none"), "{told}");
    assert!(host.starts());
    let json = |host: &Host| -> (Option<i32>, Value) {
        let (code, told) = host.check(&["--json"]);
        (code, serde_json::from_str(&told).unwrap())
    };
    let (code, told) = json(&host);
    assert_eq!((code, &told["errors"], &told["warnings"]), (Some(0), &0.into(), &1.into()), "{told}");
    let problem = &told["problems"][0];
    assert_eq!((&problem["severity"], &problem["path"]), (&"warning".into(), &"upstreams.old".into()), "{told}");
    assert_eq!((&problem["line"], &problem["column"]), (&4.into(), &14.into()), "{told}");
    let (code, told) = json(&Host::new("listeners: []\n"));
    assert_eq!((code, &told["problems"][0]["severity"]), (Some(2), &"error".into()), "{told}");
}

#[test]
fn a_listener_on_all_addresses_is_recognized_as_a_backend_by_an_address_of_this_host() {
    let own = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // No packet is sent: the system picks the address that it would send from.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Some(ip) = own.ok().map(|own| own.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()) else { return };
    let port = spare().port();
    let config =
        Config::to(std::net::SocketAddr::new(ip, port)).set("listeners.web.address", format!("0.0.0.0:{port}"));
    let text = config.set("admin", "off").to_string();
    let (code, told) = Host::new(&text).check(&[]);
    assert!(
        code == Some(0) && told.contains("is an address of this host, and a listener of Weir has its port"),
        "{told}"
    );
}

#[test]
fn the_reload_reply_and_the_log_carry_the_severity() {
    let config = Config::new().route("all", "respond: { status: 204 }");
    let weir = Weir::start(config.clone().upstream("old", &[("a", "127.0.0.1:1")]));
    weir.wait_for_log("no route uses the upstream `old`");
    let reply = |weir: &Weir| -> Value { serde_json::from_str(&weir.command(&["reload", "--json"]).stdout).unwrap() };
    let applied = reply(&weir);
    assert_eq!((&applied["result"], &applied["warnings"][0]["severity"]), (&"applied".into(), &"warning".into()));
    let told = weir.command(&["reload"]);
    assert!(told.code == Some(0) && told.stdout.contains(": warning: upstreams.old: "), "{}", told.stdout);
    fs::write(weir.config_file(), "listeners: []\n").unwrap();
    let rejected = reply(&weir);
    assert_eq!(rejected["result"], "rejected");
    assert_eq!(rejected["problems"][0]["severity"], "error", "{rejected}");
    let mut status = String::new();
    weir.status().to_string().as_bytes().read_to_string(&mut status).unwrap();
    assert!(status.contains("\"severity\":\"error\""), "{status}");
}
