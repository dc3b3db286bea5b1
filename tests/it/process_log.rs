//! The process log while stderr is not read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use crate::support::child::Process;
use crate::support::{Client, Config, eventually, spare};

const MARGIN: Duration = Duration::from_secs(5);
const PIPE_BYTES: i32 = 4096;

/// Runs it at this level, and reads stderr up to `ready` and no further.
fn start(level: &str) -> (tempfile::TempDir, Process, BufReader<ChildStderr>, SocketAddr, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weir.yaml");
    let text =
        Config::to("127.0.0.1:1").without_access_log().set("admin.address", "127.0.0.1:0").set("log.level", level);
    std::fs::write(&config, text.to_string()).unwrap();
    let mut weir = Process::start(&["run", "-c", config.to_str().unwrap()], Stdio::null(), Stdio::piped());
    let stderr = weir.0.stderr.take().unwrap();
    shrink(&stderr);
    let mut stderr = BufReader::with_capacity(1, stderr);
    let (mut web, mut admin) = (None, None);
    loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended");
        web = line.strip_prefix("listening web ").map(|address| address.trim().parse().unwrap()).or(web);
        admin = line.strip_prefix("listening admin ").map(|address| address.trim().parse().unwrap()).or(admin);
        if line == "ready\n" {
            return (folder, weir, stderr, web.unwrap(), admin.unwrap());
        }
    }
}

fn shrink(pipe: impl AsFd) {
    assert!(fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).unwrap() >= PIPE_BYTES);
}

/// Makes it log more than the pipe holds: each attempt that fails is a line at `debug`.
fn fill(web: SocketAddr) {
    let mut client = Client::connect(web);
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 502);
    }
}

fn scrape(admin: SocketAddr) -> String {
    Client::connect(admin).get_with("/metrics", &[("Host", "localhost")]).text()
}

#[test]
fn an_unread_stderr_stops_neither_traffic_nor_admin_nor_the_end() {
    let (_folder, mut weir, _stderr, web, admin) = start("debug");
    fill(web);
    assert!(scrape(admin).contains("\nweir_process_log_dropped_total 0\n"));
    let began = Instant::now();
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(began.elapsed() < MARGIN, "{:?}", began.elapsed());
}

#[test]
fn the_last_lines_arrive_once_stderr_is_read_again() {
    let (_folder, mut weir, mut stderr, web, _) = start("debug");
    fill(web);
    weir.signal(libc::SIGTERM);
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(weir.wait().code(), Some(0));
    assert!(text.contains("an attempt failed"), "{text}");
    assert!(text.trim_end().ends_with("stopped: nothing was under way any more"), "{text}");
}

/// A pipe without room.
fn full_pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    shrink(&reader);
    let mut writer = File::from(OwnedFd::from(writer));
    std::io::Write::write_all(&mut writer, &[b'x'; PIPE_BYTES as usize]).unwrap();
    (File::from(OwnedFd::from(reader)), writer.into())
}

#[test]
fn with_a_full_stderr_the_demo_starts_serves_and_ends() {
    let (_reader, writer) = full_pipe();
    let arguments = ["demo", "--backends", "1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut weir = Process::start(&arguments, Stdio::null(), writer);
    let mut stdout = BufReader::new(weir.0.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C") {
        assert!(stdout.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    let web = said.split("POST http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    assert_eq!(Client::connect(web).get("/healthz").status, 200);
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn with_a_full_stderr_it_starts_serves_and_can_be_stopped() {
    let (_reader, writer) = full_pipe();
    let (folder, web) = (tempfile::tempdir().unwrap(), spare());
    let config = folder.path().join("weir.yaml");
    let text = Config::new()
        .without_access_log()
        .set("admin.address", "127.0.0.1:0")
        .set("listeners.web.address", web)
        .route("all", "respond: { status: 200, body: here }");
    std::fs::write(&config, text.to_string()).unwrap();
    let mut weir = Process::start(&["run", "-c", config.to_str().unwrap()], Stdio::null(), writer);
    eventually("it listens", || std::net::TcpStream::connect(web).ok());
    assert_eq!(Client::connect(web).get("/").text(), "here");
    let began = Instant::now();
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(began.elapsed() < MARGIN, "{:?}", began.elapsed());
}

#[test]
fn with_the_json_format_every_line_of_the_process_log_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weir.yaml");
    let text =
        Config::to("127.0.0.1:1").without_access_log().set("admin.address", "127.0.0.1:0").set("log.format", "json");
    std::fs::write(&config, text.to_string()).unwrap();
    let mut weir = Process::start(&["run", "-c", config.to_str().unwrap()], Stdio::null(), Stdio::piped());
    let stderr = BufReader::new(weir.0.stderr.take().unwrap());
    let mut messages = Vec::new();
    for line in stderr.lines().map_while(Result::ok) {
        let object: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["timestamp"].is_string() && object["level"].is_string(), "{line}");
        messages.push(object["message"].as_str().unwrap().to_owned());
        if messages.last().unwrap() == "ready" {
            break;
        }
    }
    assert!(messages.iter().any(|message| message.starts_with("listening web 127.0.0.1:")), "{messages:?}");
    assert!(messages.iter().any(|message| message.starts_with("listening admin ")), "{messages:?}");
    assert_eq!(messages.last().unwrap(), "ready");
}
