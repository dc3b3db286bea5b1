//! `weir drain UPSTREAM`: one backend after the other is drained, worked on and enabled again.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Stdio};

use crate::support::child::Process;
use crate::support::weir::command;
use crate::support::{Client, Config, Gate, Origin, Reply, Weir, eventually};

fn weir(a: &Origin, b: &Origin, c: &Origin) -> Weir {
    let config = Config::new().route("all", "upstream: api").upstream("api", &[("a", a), ("b", b), ("c", c)]);
    Weir::start(config.set("upstreams.api.balance", "round_robin"))
}

/// The command with its pipes in the hands of the test.
fn drain(weir: &Weir, arguments: &[&str]) -> (Process, BufReader<ChildStdout>) {
    let admin = format!("http://{}", weir.admin());
    let arguments = [&["drain", "api", "--admin", &admin], arguments].concat();
    let mut process = Process::start(&arguments, Stdio::piped(), Stdio::piped());
    let stdout = BufReader::new(process.0.stdout.take().unwrap());
    (process, stdout)
}

fn line(stdout: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn states(weir: &Weir) -> Vec<String> {
    let upstreams = weir.status()["upstreams"].as_array().unwrap().clone();
    let api = upstreams.iter().find(|upstream| upstream["name"] == "api").unwrap();
    api["backends"].as_array().unwrap().iter().map(|b| b["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_backend_is_drained_the_command_runs_and_it_is_enabled_before_the_next() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir(&a, &b, &c);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // The command sees the states of all backends while it runs.
    let exec = format!(
        "echo $WEIR_UPSTREAM $WEIR_BACKEND $WEIR_ADDRESS >> {0}; {1} status --admin http://{2} >> {0}",
        log.display(),
        env!("CARGO_BIN_EXE_weir"),
        weir.admin()
    );
    let (code, said) = weir.status_and_output(&["drain", "api", "--exec", &exec]);
    assert_eq!(code, 0, "{said}");
    for name in ["a", "b", "c"] {
        let steps = format!(
            "api/{name}: draining\napi/{name}: drained\napi/{name}: exec: {exec}\napi/{name}: enabled\napi/{name}: unchecked\n"
        );
        assert!(said.contains(&steps), "{said}");
    }
    let log = std::fs::read_to_string(log).unwrap();
    let runs: Vec<_> = log.split("api ").skip(1).filter(|run| run.contains('\n')).collect();
    for (name, origin) in [("a", &a), ("b", &b), ("c", &c)] {
        assert!(log.contains(&format!("api {name} {}\n", origin.address())), "{log}");
    }
    assert_eq!(log.matches("draining").count(), 3, "never two at once: {runs:?}");
    assert_eq!(states(&weir), ["unchecked"; 3]);
}

#[test]
fn it_waits_for_requests_in_flight_and_times_out_with_the_backend_enabled() {
    let gate = Gate::default();
    let (a, b, c) = (gate.origin(), Origin::named("b"), Origin::named("c"));
    let weir = weir(&a, &b, &c);
    let mut client = Client::connect(weir.web());
    client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("a request is in flight", || a.requests().len() == 1);
    let (code, said) = weir.status_and_output(&["drain", "api", "--timeout", "300ms", "--exec", "true"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("timed out: api/a has 1 in flight; it takes requests again; not drained: b, c"), "{said}");
    assert_eq!(states(&weir), ["unchecked"; 3]);
    let (mut process, mut stdout) = drain(&weir, &["--exec", "true"]);
    assert_eq!(line(&mut stdout), "api/a: draining");
    gate.let_through(1);
    assert_eq!(line(&mut stdout), "api/a: drained");
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn without_a_command_enter_or_weir_enable_goes_on() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir(&a, &b, &c);
    let (mut process, mut stdout) = drain(&weir, &[]);
    let waits = |name: &str| format!("api/{name}: waiting: press Enter, or run `weir enable api/{name}`");
    let up_to = |stdout: &mut BufReader<ChildStdout>, wanted: &str| {
        eventually("the line", || (line(stdout) == wanted).then_some(()));
    };
    up_to(&mut stdout, &waits("a"));
    assert_eq!(states(&weir), ["draining", "unchecked", "unchecked"]);
    assert_eq!(weir.command(&["enable", "api/a"]).code, Some(0));
    up_to(&mut stdout, &waits("b"));
    assert_eq!(states(&weir), ["unchecked", "draining", "unchecked"]);
    process.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    up_to(&mut stdout, &waits("c"));
    // The end of standard input is no Enter.
    drop(process.0.stdin.take());
    assert_eq!(states(&weir), ["unchecked", "unchecked", "draining"]);
    assert_eq!(weir.command(&["enable", "api/c"]).code, Some(0));
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn a_signal_enables_the_backend_that_is_draining_and_stops() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir(&a, &b, &c);
    for (signal, arguments) in [(libc::SIGINT, &[][..]), (libc::SIGTERM, &["--exec", "exec sleep 600"])] {
        let (mut process, mut stdout) = drain(&weir, arguments);
        assert_eq!([line(&mut stdout), line(&mut stdout)], ["api/a: draining", "api/a: drained"]);
        line(&mut stdout);
        assert_eq!(states(&weir)[0], "draining");
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(1));
        assert_eq!(line(&mut stdout), "weir: interrupted; api/a takes requests again; not drained: b, c");
        assert_eq!(states(&weir), ["unchecked"; 3]);
    }
}

#[test]
fn a_command_that_fails_leaves_its_backend_draining_and_stops() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir(&a, &b, &c);
    let (code, said) = weir.status_and_output(&["drain", "api", "--exec", "test $WEIR_BACKEND = a"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("exit status: 1; api/b stays draining; `weir enable api/b` ends that; not drained: c"),
        "{said}"
    );
    assert_eq!(states(&weir), ["unchecked", "draining", "unchecked"]);
    let (code, said) = weir.status_and_output(&["drain", "api", "--exec", "true"]);
    assert!(code == 1 && said.contains("api/b is draining already; `weir enable api/b` ends that"), "{said}");
    assert_eq!(states(&weir), ["unchecked", "draining", "unchecked"]);
}

#[test]
fn the_last_backend_that_is_up_is_not_drained_and_a_disabled_one_is_skipped() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir(&a, &b, &c);
    assert_eq!(weir.command(&["disable", "api/b"]).code, Some(0));
    let (code, said) = weir.status_and_output(&["drain", "api", "--exec", "true"]);
    assert!(code == 0 && said.contains("api/b: skipped: it is disabled"), "{said}");
    assert_eq!(weir.command(&["disable", "api/c"]).code, Some(0));
    let (code, said) = weir.status_and_output(&["drain", "api", "--exec", "true"]);
    assert!(code == 1 && said.contains("api/a is not drained, because no other backend is up"), "{said}");
    assert_eq!(states(&weir), ["unchecked", "disabled", "disabled"]);
}

#[test]
fn it_waits_until_the_health_check_passes_again() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let address = a.address();
    let config = Config::new()
        .route("all", "upstream: api")
        .upstream("api", &[("a", &a), ("b", &b)])
        .set("upstreams.api.health_check", "{ tcp: {}, interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }");
    let weir = Weir::start(config);
    weir.wait_for_state("a", "up");
    weir.wait_for_state("b", "up");
    drop(a);
    weir.wait_for_state("a", "down");
    let (code, said) = weir.status_and_output(&["drain", "api", "--timeout", "300ms", "--exec", "true"]);
    assert!(code == 1 && said.contains("timed out: api/a is down: "), "{said}");
    let _again = Origin::start_on(address, |_| Reply::new(200, "a"));
    let (code, said) = weir.status_and_output(&["drain", "api", "--exec", "true"]);
    assert!(code == 0 && said.contains("api/a: up\n") && said.contains("api/b: up\n"), "{said}");
}

#[test]
fn its_progress_is_json_lines_and_its_options_are_checked() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir(&a, &b, &c);
    let (code, said) = weir.status_and_output(&["drain", "api", "--exec", "echo noise", "--json"]);
    assert_eq!(code, 0, "{said}");
    let events: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = events.iter().map(|event| format!("{} {}", event["backend"], event["event"])).collect();
    assert_eq!(events[..3], [r#""a" "draining""#, r#""a" "drained""#, r#""a" "exec""#]);
    let (code, said) = weir.status_and_output(&["drain", "nowhere"]);
    assert!(code == 1 && said.contains("there is no upstream `nowhere`; known are `api`"), "{said}");
    for arguments in [&["drain", "api/a", "--timeout", "1s"][..], &["drain", "api/a", "--exec", "true"]] {
        let output = command(arguments);
        assert_eq!((output.code, output.stdout.as_str()), (Some(64), ""), "{arguments:?}");
    }
}
