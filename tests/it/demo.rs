//! `weir demo`: what it prints works.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;

use crate::support::Client;
use crate::support::child::Process;
use crate::support::weir::command;

/// A running demo and what it has said up to the line that begins with `until`.
fn start() -> (Process, BufReader<std::process::ChildStdout>, String) {
    let arguments = ["demo", "--backends", "2", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut demo = Process::start(&arguments, Stdio::null(), Stdio::null());
    let mut stdout = BufReader::new(demo.0.stdout.take().unwrap());
    let said = read_to(&mut stdout, "Stop");
    (demo, stdout, said)
}

fn read_to(from: &mut impl BufRead, until: &str) -> String {
    let mut said = String::new();
    while !said.lines().last().is_some_and(|line| line.trim_start().starts_with(until)) {
        assert!(from.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    said
}

fn address(said: &str, after: &str) -> SocketAddr {
    let rest = said.split(after).nth(1).unwrap_or_else(|| panic!("no {after:?} in {said}"));
    rest.split(['/', ' ', '\n']).next().unwrap().parse().unwrap()
}

#[test]
fn the_commands_that_the_demo_prints_work() {
    let (mut demo, mut stdout, said) = start();
    let web = address(&said, "POST http://");
    let mut client = Client::connect(web);
    let body = br#"{"name":"Ada"}"#;
    for (backend, id) in [("backend-1", 1), ("backend-2", 2), ("backend-1", 3)] {
        let stored = client.post("/api/data", body);
        let expected = serde_json::json!({ "message": "Data stored successfully", "id": id, "backend": backend });
        assert_eq!((stored.status, stored.json()), (201, expected));
    }
    let listed = client.get("/api/data").json();
    let data: Vec<_> = (1..=3).map(|id| serde_json::json!({ "id": id, "data": { "name": "Ada" } })).collect();
    assert_eq!(listed, serde_json::json!({ "backend": "backend-2", "data": data }), "whichever backend stored it");
    assert_eq!(client.post("/api/data", b"no json").status, 400);
    assert_eq!(client.get("/healthz").status, 200);

    let shares = read_to(&mut stdout, "backend-2");
    assert!(shares.contains("backend-1") && shares.contains('%') && !shares.contains('█'), "{shares}");

    let admin = address(&said, " status --admin http://");
    assert_eq!(Client::connect(admin).get_with("/", &[("Host", "localhost")]).status, 200);
    let status = command(&["status", "--admin", &format!("http://{admin}")]);
    assert!(status.code == Some(0) && status.stdout.contains("backend-2"), "{}", status.stdout);
    let file = said.lines().find_map(|line| line.strip_prefix("Configuration  ")).unwrap();
    let diff = command(&["diff", "-c", file, "--admin", &format!("http://{admin}")]);
    assert_eq!((diff.code, diff.stdout.as_str()), (Some(0), "no changes\n"));

    demo.signal(libc::SIGINT);
    assert_eq!(demo.wait().code(), Some(0));
    assert!(!std::path::Path::new(file).exists(), "it leaves nothing behind");
}

/// Runs a line in a shell, in a folder that has nothing to do with the demo. Returns its output.
fn shell(line: &str) -> String {
    let mut shell = std::process::Command::new("bash");
    let output = shell.args(["-c", line]).current_dir("/").env_remove("WEIR_ADMIN").output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_lines_that_the_demo_prints_work_when_they_are_copied_into_a_shell() {
    let (mut demo, _stdout, said) = start();
    let line = |begin: &str| said.lines().map(str::trim).find(|line| line.starts_with(begin)).unwrap();
    let stored = shell(line("curl -s -X POST"));
    assert!(stored.contains("\"id\":1") && stored.contains("backend-1"), "{stored}");
    let listed = shell(line("curl -s http"));
    assert!(listed.contains("{\"id\":1,\"data\":{\"name\":\"Ada\"}}") && listed.contains("backend-2"), "{listed}");
    assert!(shell(line("Status  ").trim_start_matches("Status")).contains("backend-2"));
    let change = line("change it, then: ").trim_start_matches("change it, then: ");
    assert!(change.contains("; kill -HUP ") && shell(change).contains("no changes"), "{change}");
    demo.signal(libc::SIGINT);
    assert_eq!(demo.wait().code(), Some(0));
}

#[test]
fn the_root_of_the_demo_is_a_page_that_names_the_backend() {
    let (_demo, _stdout, said) = start();
    let mut client = Client::connect(address(&said, "POST http://"));
    // A backend that has just come up may begin the order again, so no particular backend is wanted.
    let name = |page: String| page.split("<b>").nth(1).unwrap().split("</b>").next().unwrap().to_owned();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let page = client.get("/");
        assert!(page.header("content-type").unwrap().starts_with("text/html"));
        names.insert(name(page.text()));
    }
    assert!(names.len() > 1 && names.iter().all(|name| name.starts_with("backend-")), "{names:?}");
}

#[test]
fn an_interrupt_ends_the_demo_cleanly_while_a_browser_keeps_its_connections_open() {
    let (mut demo, _stdout, said) = start();
    let mut page = Client::connect(address(&said, "POST http://"));
    assert_eq!(page.get("/").status, 200);
    let mut status = Client::connect(address(&said, " status --admin http://"));
    assert_eq!(status.get_with("/", &[("Host", "localhost")]).status, 200);
    demo.signal(libc::SIGINT);
    assert_eq!(demo.wait().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let output = command(&["demo", flag, &taken, other, "127.0.0.1:0"]);
        assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
        assert!(output.stdout.contains(&taken) && output.stdout.contains(flag), "{}", output.stdout);
        assert!(!output.stderr.contains("ready"), "{}", output.stderr);
    }
}
