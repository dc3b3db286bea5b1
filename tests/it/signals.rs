//! Signals during the start and during a reload, and files that hang.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::child::Process;
use crate::support::files::fifo;
use crate::support::{Client, Config, Origin, Weir, delay, eventually};

const MARGIN: Duration = Duration::from_secs(5);

fn config(backend: impl Display) -> Config {
    Config::to(backend).set("admin.address", "127.0.0.1:0")
}

/// With a backend that does not listen.
fn yaml() -> String {
    config("127.0.0.1:1").to_string()
}

/// Reads stderr up to the line `ready`; gives the admin's address.
fn ready(stderr: &mut impl BufRead) -> std::net::SocketAddr {
    let (mut said, mut admin) = (String::new(), None);
    loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
        admin = line.strip_prefix("listening admin ").map(|address| address.trim().parse().unwrap()).or(admin);
        if line == "ready\n" {
            return admin.unwrap();
        }
        said += &line;
    }
}

fn metric(admin: std::net::SocketAddr, series: &str) -> f64 {
    let text = Client::connect(admin).get_with("/metrics", &[("Host", "localhost")]).text();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
}

#[test]
fn signals_are_caught_before_the_configuration_is_read_and_take_effect_once_it_is_ready() {
    let mut weir = Process::start(&["run", "-c", "/dev/stdin"], Stdio::piped(), Stdio::piped());
    let signals = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
    signals.iter().for_each(|signal| weir.wait_for_handler(*signal));
    signals.iter().for_each(|signal| weir.signal(*signal));
    let mut stdin = weir.0.stdin.take().unwrap();
    stdin.write_all(yaml().as_bytes()).unwrap();
    drop(stdin);
    let mut stderr = BufReader::new(weir.0.stderr.take().unwrap());
    let admin = ready(&mut stderr);
    // Standard input has nothing more to give, so the reload is refused.
    let refused = || metric(admin, "weir_config_reloads_total{result=\"rejected\"}") == 1.0;
    eventually("the reload that was asked for", refused);
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn signals_that_come_once_the_pid_file_is_there_do_not_kill_the_process() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let (file, pid) = (folder.path().join("weir.yaml"), folder.path().join("pid"));
        std::fs::write(&file, config("127.0.0.1:1").set("server.pid_file", "pid").to_string()).unwrap();
        let mut weir = Process::start(&["run", "-c", file.to_str().unwrap()], Stdio::null(), Stdio::piped());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !pid.exists() {
            assert!(Instant::now() < deadline && weir.0.try_wait().unwrap().is_none());
        }
        for signal in [libc::SIGUSR1, libc::SIGHUP] {
            weir.signal(signal);
        }
        let mut stderr = BufReader::new(weir.0.stderr.take().unwrap());
        let admin = ready(&mut stderr);
        let applied = || metric(admin, "weir_config_reloads_total{result=\"applied\"}") >= 1.0;
        eventually("the reload that was asked for", applied);
        assert_eq!(weir.0.try_wait().unwrap(), None);
    }
}

#[test]
fn a_stop_ends_a_start_that_hangs_and_a_second_one_ends_it_at_once() {
    for stops in [1, 2] {
        let mut weir = Process::start(&["run", "-c", "/dev/stdin"], Stdio::piped(), Stdio::piped());
        weir.wait_for_handler(libc::SIGTERM);
        let began = Instant::now();
        weir.signal(libc::SIGTERM);
        if stops == 2 {
            // Two of the same kind that wait are one to the kernel.
            eventually("the first is taken", || weir.has_thread("weir-stop"));
            weir.signal(libc::SIGTERM);
        }
        assert_eq!(weir.wait().code(), Some(stops - 1));
        assert!(began.elapsed() < MARGIN, "{:?}", began.elapsed());
    }
}

#[test]
fn a_stop_and_scrapes_do_not_wait_for_a_reload_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("fifo");
    fifo(&pipe);
    // A FIFO as standard input: whoever opens it by name again waits for a writer.
    let stdin = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    let mut writer = File::options().write(true).open(&pipe).unwrap();
    let mut weir = Process::start(&["run", "-c", "/dev/stdin"], stdin, Stdio::piped());
    writer.write_all(yaml().as_bytes()).unwrap();
    eventually("the configuration is read", || rustix::io::ioctl_fionread(&writer).unwrap() == 0);
    drop(writer);
    let mut stderr = BufReader::new(weir.0.stderr.take().unwrap());
    let admin = ready(&mut stderr);
    eventually("the reader of the start is gone", || !weir.has_thread("weir-files"));
    weir.signal(libc::SIGHUP);
    eventually("the reload reads", || weir.has_thread("weir-files"));
    let began = Instant::now();
    weir.signal(libc::SIGUSR1);
    assert_eq!(metric(admin, "weir_config_reloads_total{result=\"rejected\"}"), 0.0);
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(began.elapsed() < MARGIN, "{:?}", began.elapsed());
}

#[test]
fn a_reload_that_names_a_fifo_or_a_device_is_refused_at_its_key() {
    let folder = tempfile::tempdir().unwrap();
    fifo(&folder.path().join("pipe"));
    let origin = Origin::named("a");
    let weir = Weir::start_in(folder, config(&origin));
    for (upstream, key, kind) in [
        ("tls: { server_name: a, ca: pipe }", "tls.ca", "a FIFO"),
        ("sticky: { cookie: c, key_file: pipe }", "sticky.key_file", "a FIFO"),
        ("discover: { file: pipe }", "discover.file", "a FIFO"),
        ("discover: { file: /dev/zero }", "discover.file", "a device"),
        ("discover: { file: . }", "discover.file", "a folder"),
    ] {
        assert!(!weir.reload(config(&origin).set("upstreams.up", upstream)), "{upstream}");
        let told = format!("upstreams.up.{key}: cannot be read: it is {kind}, not a regular file. Name a regular file");
        weir.wait_for_log(&told);
    }
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
}

#[test]
fn a_configuration_that_is_no_regular_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    fifo(&pipe);
    for path in [&*pipe, Path::new("/dev/zero"), folder.path()] {
        let checked = crate::support::weir::command(&["check", "-c", path.to_str().unwrap()]);
        assert!(checked.code == Some(2) && checked.stdout.contains("not a regular file"), "{}", checked.stdout);
    }
}

#[test]
fn once_the_listeners_are_closed_a_reload_is_refused() {
    let origin = Origin::start(|_| crate::support::Reply::new(200, "a").after(Duration::from_secs(3)));
    let mut weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    weir.signal(libc::SIGTERM);
    eventually("closed", || std::net::TcpStream::connect(weir.web()).is_err());
    let reload = |admin| {
        let mut admin = Client::connect(admin);
        admin.send("POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
        admin.response("POST")
    };
    let refused = reload(weir.admin());
    assert!(refused.status == 422 && refused.text().contains("the process is stopping"), "{}", refused.text());
    assert_eq!(client.response("GET").text(), "a");
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn an_access_log_fifo_without_a_reader_refuses_the_reload_and_blocks_no_later_one() {
    let folder = tempfile::tempdir().unwrap();
    fifo(&folder.path().join("pipe"));
    let weir = Weir::start_in(folder, yaml());
    assert!(!weir.reload(config("127.0.0.1:1").set("access_log.path", "pipe")));
    let told = "access_log.path: cannot be opened: its file system did not answer";
    weir.wait_for_log(told);
    assert!(weir.reload(yaml()), "{}", weir.stderr());
}

#[test]
fn a_stop_at_any_moment_of_the_start_logs_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weir.yaml");
    std::fs::write(&config, yaml()).unwrap();
    for turn in 0..60 {
        let mut weir = Process::start(&["run", "-c", config.to_str().unwrap()], Stdio::null(), Stdio::piped());
        weir.wait_for_handler(libc::SIGTERM);
        // The moment is what differs from turn to turn.
        delay(Duration::from_millis(turn % 30));
        weir.signal(libc::SIGTERM);
        assert_eq!(weir.wait().code(), Some(0));
        let mut said = String::new();
        std::io::Read::read_to_string(&mut weir.0.stderr.take().unwrap(), &mut said).unwrap();
        assert!(!said.contains("ERROR"), "{said}");
    }
}
