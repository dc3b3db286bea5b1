//! Upgrades in place: the process is replaced by the program on disk, and no request and no connection is lost.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::child::Process;
use crate::support::files::{folder, put, set_mode};
use crate::support::http2::{self, rest, run};
use crate::support::weir::Output;
use crate::support::{
    Client, Config, DEADLINE, Echo, Gate, Origin, Pki, TlsClient, Weir, eventually, size, stays, tls_config,
};

const BINARY: &str = env!("CARGO_BIN_EXE_weir");

/// A Weir and its new processes, which are no children of the test.
struct Chain {
    weir: Weir,
    /// Unique to this test: it is in the arguments of each process.
    config: PathBuf,
}

impl Chain {
    fn of(weir: Weir) -> Self {
        let config = weir.config_file();
        Self { weir, config }
    }

    fn start(config: impl std::fmt::Display) -> Self {
        Self::of(Weir::start(config))
    }

    fn upgrade(&self) -> Output {
        self.weir.command(&["upgrade"])
    }

    /// Upgrades, and returns the id of the new process.
    fn upgraded(&self) -> i32 {
        let output = self.upgrade();
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
        let pid = self.pid();
        assert!(output.stdout.contains(&format!("pid {pid}")), "{}", output.stdout);
        pid
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.weir.status()["pid"].as_i64().unwrap()).unwrap()
    }

    /// The states of all processes, as in the status.
    fn states(&self) -> Vec<String> {
        let status = self.weir.status();
        let processes = status["processes"].as_array().unwrap();
        processes.iter().map(|process| process["state"].as_str().unwrap().to_owned()).collect()
    }

    /// The ids of all processes that live.
    fn alive(&self) -> Vec<i32> {
        let folders = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok());
        let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_run_of(*pid, &self.config)).collect()
    }

    fn signal(pid: i32, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    fn wait_for_end(&mut self, pid: i32) {
        eventually("the end of a process", || {
            // The first process is a child of the test.
            !is_run_of(pid, &self.config)
        });
    }
}

fn is_run_of(pid: i32, config: &Path) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes())
}

impl Drop for Chain {
    fn drop(&mut self) {
        for pid in self.alive() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A copy of the binary that a test can replace.
fn copy_of_binary(folder: &Path) -> PathBuf {
    let copy = folder.join("weir");
    std::fs::copy(BINARY, &copy).unwrap();
    copy
}

/// Puts a script in the place of the binary.
fn replace_by_script(binary: &Path, script: &str) {
    let new = binary.with_extension("new");
    std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    set_mode(&new, 0o755);
    std::fs::rename(new, binary).unwrap();
}

/// Starts from a copy of the binary in a folder that lives as long as the returned value.
fn start_copy(config: impl std::fmt::Display) -> (Chain, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let binary = copy_of_binary(folder.path());
    (Chain::of(Weir::start_by(Command::new(&binary), config)), binary, folder)
}

/// Clients that send one request after another. A client connects again after `Connection: close`; everything else but
/// 200 fails the test.
fn http1_clients(weir: &Weir, count: usize, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<usize>> {
    let address = weir.web();
    let one = move |stop: Arc<AtomicBool>, keeps: bool| {
        let (mut client, mut served) = (Client::connect(address), 0);
        while !stop.load(Ordering::Acquire) {
            let response = client.post("/", b"ping");
            assert_eq!((response.status, response.body.as_slice()), (200, &b"ping"[..]));
            served += 1;
            if !keeps || response.header("connection") == Some("close") {
                client = Client::connect(address);
            }
        }
        served
    };
    (0..count)
        .map(|n| (n, Arc::clone(stop)))
        .map(|(n, stop)| std::thread::spawn(move || one(stop, n % 2 == 0)))
        .collect()
}

fn tls_client(weir: &Weir, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (address, stop) = (weir.address("secure"), Arc::clone(stop));
    std::thread::spawn(move || {
        let config = Arc::new(tls_config(None));
        let (mut client, mut served) = (TlsClient::secure(address, "a.test", &config), 0);
        while !stop.load(Ordering::Acquire) {
            let response = client.get_with("/", &[("Host", "a.test")]);
            assert_eq!(response.status, 200);
            served += 1;
            if response.header("connection") == Some("close") {
                client = TlsClient::secure(address, "a.test", &config);
            }
        }
        served
    })
}

fn http2_client(weir: &Weir, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (address, stop) = (weir.web(), Arc::clone(stop));
    std::thread::spawn(move || {
        run(async move {
            let (mut sender, mut served) = (http2::connect(address).await, 0);
            while !stop.load(Ordering::Acquire) {
                // After a GOAWAY a client sends further requests on another connection.
                let request = http::Request::get("http://a.test/").body(()).unwrap();
                let Ok((response, _)) = sender.send_request(request, true) else {
                    sender = http2::connect(address).await;
                    continue;
                };
                match response.await {
                    Ok(response) => {
                        assert_eq!(response.status(), 200);
                        rest(&mut response.into_body()).await;
                        served += 1;
                    }
                    // A request that the server has not taken (RFC 9113 section 6.8).
                    Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => {
                        sender = http2::connect(address).await;
                    }
                    Err(error) => panic!("{error}"),
                }
                if sender.clone().ready().await.is_err() {
                    sender = http2::connect(address).await;
                }
            }
            served
        })
    })
}

/// Opens a tunnel through the echo.
fn open_tunnel(weir: &Weir) -> Client {
    let mut client = Client::connect(weir.web());
    client.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response("GET").status, 101);
    client
}

fn echoes(tunnel: &mut Client, text: &str) {
    tunnel.send(text);
    assert_eq!(tunnel.exactly(text.len()).unwrap(), text.as_bytes());
}

#[test]
fn upgrades_under_load_fail_no_request_and_streams_go_on_in_the_old_process() {
    let (echo, pki) = (Echo::start("a", Default::default()), Pki::new());
    let issued = pki.issue(&["a.test"]);
    let config = Config::to(&echo)
        .without_access_log()
        .listener("secure", "")
        .set("listeners.secure.tls.certificates", "[{ cert: site.pem, key: site.key }]");
    let chain = Chain::of(Weir::start_in(folder(&[("site", &issued)]), config));
    let weir = &chain.weir;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = http1_clients(weir, 4, &stop);
    clients.extend([tls_client(weir, &stop), http2_client(weir, &stop), http2_client(weir, &stop)]);
    let mut tunnel = open_tunnel(weir);
    let mut upload = Client::connect(weir.web());
    upload.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    upload.send(vec![b'x'; 100_000]);
    eventually("the upload is at the backend", || weir.metric("weir_requests_in_flight") >= 2.0);
    let first = chain.pid();
    for _ in 0..size("WEIR_UPGRADES", 2) {
        chain.upgraded();
        echoes(&mut tunnel, "still there");
        eventually("requests in the new process", || weir.sum(&["weir_requests_total"]) >= 50.0);
    }
    assert!(chain.alive().contains(&first), "the first process still has the tunnel");
    assert!(chain.states().contains(&"draining".to_owned()), "{:?}", chain.states());
    upload.send(vec![b'y'; 100_000]);
    let response = upload.response("POST");
    assert_eq!((response.status, response.body.len()), (200, 200_000));
    assert_eq!(response.header("connection"), Some("close"));
    stop.store(true, Ordering::Release);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    echoes(&mut tunnel, "and to the end");
    drop(tunnel);
    eventually("only the last process", || chain.alive() == [chain.pid()] && chain.states() == ["serving"]);
    assert_eq!(weir.metric("weir_processes{state=\"draining\"}"), 0.0);
}

#[test]
fn sigusr2_upgrades_and_the_pid_file_names_the_new_process() {
    let origin = Origin::named("a");
    let mut chain = Chain::start(Config::to(&origin).set("server.pid_file", "weir.pid"));
    let file = chain.config.with_file_name("weir.pid");
    let first = chain.pid();
    chain.weir.signal(libc::SIGUSR2);
    // A reload that comes meanwhile is not lost.
    chain.weir.signal(libc::SIGHUP);
    let written = || std::fs::read_to_string(&file).unwrap_or_default().trim().parse::<i32>().unwrap_or(0);
    eventually("the pid file names another process", || ![0, first].contains(&written()));
    chain.wait_for_end(first);
    assert_eq!(written(), chain.pid(), "the old process leaves the file alone");
    assert_eq!(Client::connect(chain.weir.web()).get("/").text(), "a");
    eventually("ready lines of both", || chain.weir.stderr().lines().filter(|line| *line == "ready").count() == 2);
    Chain::signal(chain.pid(), nix::sys::signal::Signal::SIGTERM);
    eventually("no pid file", || !file.exists());
}

/// The process serves as before, and no other one is there.
fn nothing_has_changed(chain: &Chain, pid: i32) {
    assert_eq!((chain.pid(), chain.states()), (pid, vec!["serving".to_owned()]));
    eventually("no other process", || chain.alive() == [pid]);
    assert_eq!(Client::connect(chain.weir.web()).get("/").status, 200);
    assert_eq!(chain.weir.metric("weir_processes{state=\"starting\"}"), 0.0);
}

#[test]
fn a_program_that_fails_changes_nothing_and_its_last_messages_are_shown() {
    let origin = Origin::named("a");
    let (chain, binary, _folder) = start_copy(Config::to(&origin).set("server.pid_file", "weir.pid"));
    let pid = chain.pid();
    let scripts = [
        ("echo 'a library is missing' >&2; exit 1", "a library is missing", "exit status: 1"),
        ("kill -SEGV $$", "", "signal: 11"),
        ("echo '{\"kind\":\"later\"}' >&$(echo $WEIR_UPGRADE_FD | cut -d- -f1); sleep 60", "", "protocol"),
    ];
    for (script, message, reason) in scripts {
        replace_by_script(&binary, script);
        let output = chain.upgrade();
        assert_eq!(output.code, Some(1), "{script}: {}", output.stdout);
        let text = &output.stdout;
        assert!(text.contains(message) && text.contains(reason), "{script}: {text}");
        assert!(text.contains("nothing has changed"), "{text}");
        nothing_has_changed(&chain, pid);
    }
    std::fs::remove_file(&binary).unwrap();
    let output = chain.upgrade();
    assert!(output.code == Some(1) && output.stdout.contains("cannot start"), "{}", output.stdout);
    let json = chain.weir.command(&["upgrade", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["result"], "failed");
    let written = std::fs::read_to_string(chain.config.with_file_name("weir.pid")).unwrap();
    assert_eq!(written.trim(), pid.to_string());
    // The same process can still be upgraded.
    copy_of_binary(binary.parent().unwrap());
    assert_ne!(chain.upgraded(), pid);
}

#[test]
fn a_configuration_that_does_not_load_changes_nothing_and_its_problems_are_shown() {
    let origin = Origin::named("a");
    let chain = Chain::start(Config::to(&origin));
    let (pid, valid) = (chain.pid(), std::fs::read_to_string(&chain.config).unwrap());
    std::fs::write(&chain.config, "routes: 7\n").unwrap();
    let output = chain.upgrade();
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("weir.yaml:1:9: routes"), "{}", output.stdout);
    nothing_has_changed(&chain, pid);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("address: \"{}\"", taken.local_addr().unwrap());
    let more = Config::to(&origin).set("admin.address", "127.0.0.1:0").listener("more", address).to_string();
    std::fs::write(&chain.config, more).unwrap();
    let output = chain.upgrade();
    assert!(output.code == Some(1) && output.stdout.contains("cannot listen on"), "{}", output.stdout);
    nothing_has_changed(&chain, pid);
    std::fs::write(&chain.config, valid).unwrap();
    chain.upgraded();
}

#[test]
fn a_new_process_that_hangs_is_killed_and_a_second_upgrade_meanwhile_is_refused() {
    let origin = Origin::named("a");
    let (chain, binary, _folder) = start_copy(Config::to(&origin));
    let pid = chain.pid();
    replace_by_script(&binary, "echo waiting >&2; exec sleep 600");
    let url = chain.weir.admin_url();
    let first =
        std::thread::spawn(move || crate::support::weir::command(&["upgrade", "--timeout", "6s", "--admin", &url]));
    eventually("it starts", || chain.states() == ["serving", "starting"]);
    assert_eq!(chain.weir.metric("weir_processes{state=\"starting\"}"), 1.0);
    let second = chain.upgrade();
    assert!(second.code == Some(1) && second.stdout.contains("an upgrade is under way"), "{}", second.stdout);
    let first = first.join().unwrap();
    assert_eq!(first.code, Some(1));
    assert!(first.stdout.contains("not ready within 6s") && first.stdout.contains("waiting"), "{}", first.stdout);
    nothing_has_changed(&chain, pid);
}

#[test]
fn a_stop_during_an_upgrade_kills_the_new_process_that_does_not_serve_yet() {
    let (mut chain, binary, _folder) = start_copy(Config::to("127.0.0.1:1"));
    replace_by_script(&binary, "echo $$ >&2; exec sleep 600");
    let pid = chain.pid();
    chain.weir.signal(libc::SIGUSR2);
    let new = eventually("the new process", || chain.weir.stderr().lines().find_map(|line| line.parse::<i32>().ok()));
    Chain::signal(pid, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(chain.weir.wait().code(), Some(0));
    eventually("its end", || !Path::new(&format!("/proc/{new}")).exists());
}

#[test]
fn changes_by_the_operator_budgets_and_debts_survive_an_upgrade() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = Config::to_all(&[("a", &a), ("b", &b)])
        .set("upstreams.up.balance", "weighted_round_robin")
        .set("rate_limits.strict", "rate: 2/1h, burst: 2, key: { header: x-key }")
        .route("limited", "match: { path_prefix: /limited }, rate_limits: [strict], respond: { status: 200 }");
    let chain = Chain::start(config);
    assert_eq!(chain.weir.command(&["drain", "up/a"]).code, Some(0));
    assert_eq!(chain.weir.command(&["weight", "up/b", "7"]).code, Some(0));
    let limited = |key: &str| Client::connect(chain.weir.web()).get_with("/limited", &[("X-Key", key)]).status;
    assert_eq!([limited("one"), limited("one"), limited("one"), limited("two")], [200, 200, 429, 200]);
    for _ in 0..2 {
        chain.upgraded();
        chain.weir.wait_for_state("a", "draining");
        let backends = chain.weir.status()["upstreams"][0]["backends"].clone();
        assert_eq!((&backends[0]["reason"], &backends[1]["effective_weight"]), (&"by operator".into(), &7.into()));
        assert_eq!((0..4).filter(|_| Client::connect(chain.weir.web()).get("/").text() == "b").count(), 4);
        assert_eq!(limited("one"), 429, "the debt is the same");
    }
    assert_eq!([limited("two"), limited("two")], [200, 429]);
    assert_eq!(chain.weir.command(&["enable", "up/a"]).code, Some(0));
    chain.upgraded();
    assert_ne!(chain.weir.status()["upstreams"][0]["backends"][0]["state"], "draining");
}

#[test]
fn a_runtime_state_of_an_unknown_version_is_dropped_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let config = Config::to("127.0.0.1:1").set("admin", "off");
    std::fs::write(&file, config.to_string()).unwrap();
    // The test is the old process.
    let (old, new) = UnixStream::pair().unwrap();
    old.set_read_timeout(Some(DEADLINE)).unwrap();
    let child = Command::new(BINARY)
        .args(["run", "-c", file.to_str().unwrap()])
        .env("WEIR_UPGRADE_FD", "0")
        .stdin(Stdio::from(OwnedFd::from(new)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Process(child);
    let (mut out, mut lines) = (old.try_clone().unwrap(), BufReader::new(old).lines());
    let mut expect = |kind: &str| {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["kind"], kind, "{line}");
    };
    out.write_all(
        b"{\"kind\":\"hello\",\"pid\":1,\"version\":\"99.0.0\",\"new\":{\"field\":1},\"timeout_ms\":20000}\n",
    )
    .unwrap();
    expect("prepared");
    out.write_all(b"{\"kind\":\"take\",\"state\":{\"version\":99,\"overrides\":\"other\"}}\n").unwrap();
    expect("ready");
    out.write_all(b"{\"kind\":\"main\"}\n").unwrap();
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut log = Vec::new();
    while log.last().is_none_or(|line| line != "ready") {
        log.push(stderr.next().expect("it goes on"));
    }
    assert!(log.iter().any(|line| line.contains("unknown version") && line.contains("99")), "{log:#?}");
    // A second stop signal reaches the old process through the channel.
    child.signal(libc::SIGTERM);
    assert!(stderr.any(|line| line.contains("stopping")));
    child.signal(libc::SIGTERM);
    expect("stop");
    child.wait();
}

#[test]
fn the_new_process_ends_after_the_old_ones_and_a_stop_leaves_them_their_grace() {
    let echo = Echo::start("a", Default::default());
    let mut chain = Chain::start(Config::to(&echo).set("server.shutdown_grace", "20s"));
    let first = chain.pid();
    let mut tunnel = open_tunnel(&chain.weir);
    let second = chain.upgraded();
    Chain::signal(second, nix::sys::signal::Signal::SIGTERM);
    eventually("it drains", || chain.states() == ["draining", "draining"]);
    stays("both live", Duration::from_millis(300), || chain.alive().len() == 2);
    echoes(&mut tunnel, "still there");
    drop(tunnel);
    chain.wait_for_end(second);
    assert_eq!(chain.weir.wait().code(), Some(0), "the old process has cut nothing");
    assert!(chain.alive().is_empty(), "{first} {second}");
}

#[test]
fn an_old_process_cuts_at_the_end_of_its_grace_and_at_a_second_stop_signal_to_the_new_one() {
    let echo = Echo::start("a", Default::default());
    let mut chain = Chain::start(Config::to(&echo).set("server.shutdown_grace", "2s"));
    let tunnel = open_tunnel(&chain.weir);
    chain.upgraded();
    assert_eq!(chain.weir.wait().code(), Some(1), "the tunnel was cut");
    drop(tunnel);
    let mut chain = Chain::start(Config::to(&echo).set("server.shutdown_grace", "60s"));
    let _tunnel = open_tunnel(&chain.weir);
    let second = chain.upgraded();
    Chain::signal(second, nix::sys::signal::Signal::SIGTERM);
    eventually("it drains", || chain.states() == ["draining", "draining"]);
    Chain::signal(second, nix::sys::signal::Signal::SIGTERM);
    chain.wait_for_end(second);
    assert_eq!(chain.weir.wait().code(), Some(1));
}

#[test]
fn at_most_eight_old_processes_drain_and_status_lists_them() {
    let echo = Echo::start("a", Default::default());
    let chain = Chain::start(Config::to(&echo).set("server.shutdown_grace", "10m").set("server.threads", "1"));
    let mut tunnels = Vec::new();
    for old in 1..=8 {
        tunnels.push(open_tunnel(&chain.weir));
        chain.upgraded();
        eventually("each old process is listed", || {
            chain.weir.metric("weir_processes{state=\"draining\"}") == f64::from(old)
        });
    }
    let refused = chain.upgrade();
    assert!(refused.code == Some(1) && refused.stdout.contains("8 old processes still drain"), "{}", refused.stdout);
    eventually("one tunnel each", || {
        let text = chain.weir.command(&["status"]).stdout;
        text.lines().filter(|line| line.contains("  draining  1 ")).count() == 8
    });
    tunnels.iter_mut().for_each(|tunnel| echoes(tunnel, "still there"));
    tunnels.remove(0);
    chain.weir.wait_for(&["weir_processes{state=\"draining\"}"], 7.0);
    chain.upgraded();
}

#[test]
fn descriptors_and_memory_do_not_grow_over_upgrades() {
    let origin = Origin::named("a");
    let chain = Chain::start(Config::to(&origin).without_access_log());
    let usage = |pid: i32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        (fds, resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
    };
    let settled = || {
        let pid = chain.pid();
        (0..20).for_each(|_| assert_eq!(Client::connect(chain.weir.web()).get("/").status, 200));
        eventually("no old process", || chain.states() == ["serving"]);
        usage(pid)
    };
    chain.upgraded();
    let (fds, memory) = settled();
    for _ in 0..5 {
        chain.upgraded();
    }
    eventually("the same descriptors", || settled().0 <= fds);
    assert!(settled().1 <= memory * 3 / 2, "{memory} kB became {} kB", settled().1);
}

#[test]
fn systemd_learns_the_new_main_process_before_that_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let next = || {
        let mut message = [0; 1024];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", &path);
    let chain = Chain::of(Weir::start_by(command, Config::to("127.0.0.1:1")));
    assert_eq!(next(), "READY=1");
    let pid = chain.upgraded();
    assert_eq!((next(), next()), (format!("MAINPID={pid}"), "READY=1".to_owned()));
}

#[test]
fn a_unix_admin_socket_passes_and_the_last_process_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let url = format!("unix:{}", path.display());
    let config = Config::to("127.0.0.1:1").set("admin.address", format!("\"{url}\""));
    let chain = Chain::of(Weir::start(config));
    let run = |arguments: &[&str]| crate::support::weir::command(&[arguments, &["--admin", &url]].concat());
    for _ in 0..2 {
        let before = chain.alive();
        let output = run(&["upgrade"]);
        assert_eq!(output.code, Some(0), "{}", output.stdout);
        eventually("one other process", || chain.alive().len() == 1 && chain.alive() != before);
        assert_eq!(run(&["status"]).code, Some(0));
    }
    Chain::signal(chain.alive()[0], nix::sys::signal::Signal::SIGTERM);
    eventually("the file is removed", || !path.exists());
}

#[test]
fn an_upgrade_applies_what_a_reload_cannot() {
    let origin = Origin::named("a");
    let chain = Chain::start(Config::to(&origin).set("server.threads", "1"));
    let more = Config::to(&origin).set("server.threads", "2").listener("more", "").without("listeners.web");
    let more = more.listener("web", "").set("admin.address", "127.0.0.1:0");
    put(chain.config.parent().unwrap(), "weir.yaml", more.to_string());
    let pid = chain.upgraded();
    let names = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim().to_owned());
    assert_eq!(names.filter(|name| name.starts_with("weir-traffic")).count(), 2);
    assert_eq!(Client::connect(chain.weir.web()).get("/").text(), "a", "the same socket");
    assert_eq!(chain.weir.status()["listeners"].as_array().unwrap().len(), 2);
}

#[test]
fn as_another_user_the_new_process_keeps_the_user_and_writes_the_pid_file() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let binary = copy_of_binary(folder.path());
    let config = Config::to("127.0.0.1:1").set("server.user", "nobody").set("server.pid_file", "weir.pid");
    // Only root could make the file in this folder.
    let home = tempfile::tempdir().unwrap();
    set_mode(home.path(), 0o755);
    let chain = Chain::of({
        let mut command = Command::new("sh");
        command.arg("-c").arg("exec \"$0\" \"$@\"").arg(&binary);
        Weir::start_by(command, config)
    });
    set_mode(chain.config.parent().unwrap(), 0o755);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    for _ in 0..2 {
        let pid = chain.upgraded();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert!(field("Uid:").split('\t').all(|uid| uid == nobody.to_string()), "{status}");
        // CAP_NET_BIND_SERVICE alone.
        assert_eq!(field("CapEff:"), format!("{:016x}", 1 << 10));
        let file = chain.config.with_file_name("weir.pid");
        eventually("the pid file", || std::fs::read_to_string(&file).unwrap().trim() == pid.to_string());
    }
}

#[test]
fn requests_in_flight_finish_in_the_old_process() {
    let gate = Gate::default();
    let origin = gate.origin();
    let mut chain = Chain::start(Config::to(&origin));
    let first = chain.pid();
    let mut client = Client::connect(chain.weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    chain.weir.wait_for(&["weir_backend_in_flight"], 1.0);
    let mut idle = Client::connect(chain.weir.web());
    idle.send("G");
    chain.upgraded();
    gate.open();
    assert_eq!(client.response("GET").status, 200);
    idle.send("ET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = idle.response("GET");
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    chain.wait_for_end(first);
}
