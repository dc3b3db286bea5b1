//! Start and stop: ready lines, exit codes, drain.

use std::time::{Duration, Instant};

use crate::support::weir::command;
use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

fn config(origin: &Origin) -> Config {
    Config::to(origin).listener("six", "address: \"[::1]:0\"")
}

#[test]
fn it_says_where_it_listens_then_ready_on_ipv4_and_ipv6() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
    assert_eq!(Client::connect(weir.address("six")).get("/").text(), "a");
    let status = weir.status();
    assert_eq!(
        (&status["ready"], &status["draining"], &status["generation"]),
        (&true.into(), &false.into(), &1.into())
    );
    assert_eq!(status["listeners"][0]["bound"], true, "{status}");
}

#[test]
fn an_idle_process_is_gone_within_a_second_of_sigterm() {
    let origin = Origin::named("a");
    let mut weir = Weir::start(config(&origin));
    let mut idle = Client::connect(weir.web());
    idle.get("/");
    let start = Instant::now();
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_silent_connection_does_not_delay_the_shutdown() {
    let origin = Origin::named("a");
    let mut weir = Weir::start(config(&origin));
    let _silent = Client::connect(weir.web());
    weir.wait_for(&["weir_listener_connections{", "web"], 1.0);
    let start = Instant::now();
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn requests_in_flight_at_shutdown_finish_with_connection_close() {
    let origin = Origin::start(|_| Reply::new(200, "a").after(Duration::from_millis(700)));
    let mut weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    weir.signal(libc::SIGTERM);
    eventually("not ready", || weir.admin_get("/readyz").status == 503);
    let response = client.response("GET");
    assert_eq!((response.text().as_str(), response.header("connection")), ("a", Some("close")));
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn requests_that_outlive_shutdown_grace_are_cut_and_the_exit_status_is_1() {
    let origin = Origin::start(|_| Reply::new(200, "a").after(Duration::from_secs(10)));
    let mut weir = Weir::start(config(&origin).set("server.shutdown_grace", "300ms"));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    weir.signal(libc::SIGTERM);
    let response = client.response("GET");
    assert_eq!((response.status, response.header("connection")), (503, Some("close")), "nothing was sent yet");
    assert_eq!(weir.wait().code(), Some(1));
    let line = weir.access_log_of(1).pop().unwrap();
    assert_eq!((&line["path"], &line["status"]), (&"/".into(), &503.into()), "what was cut is recorded: {line}");
    assert_eq!(line["fault"], "shutdown", "{line}");
}

#[test]
fn during_lame_duck_it_is_not_ready_but_serves() {
    let origin = Origin::named("a");
    let mut weir = Weir::start(config(&origin).set("server.lame_duck", "800ms"));
    weir.signal(libc::SIGTERM);
    eventually("not ready", || weir.admin_get("/readyz").status == 503);
    let response = Client::connect(weir.web()).get("/");
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn a_drain_uses_the_times_of_the_last_reload() {
    let origin = Origin::named("a");
    let mut weir = Weir::start(config(&origin).set("server.lame_duck", "10m"));
    assert!(weir.reload(config(&origin).set("server.lame_duck", "0s")));
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_now() {
    let origin = Origin::start(|_| Reply::new(200, "a").after(Duration::from_secs(10)));
    let mut weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    weir.signal(libc::SIGINT);
    eventually("draining", || weir.admin_get("/readyz").status == 503);
    let start = Instant::now();
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_address_in_use_is_exit_1_and_nothing_is_half_started() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config::new()
        .listener("b", "")
        .set("listeners.b.address", taken.local_addr().unwrap())
        .route("all", "respond: { status: 204 }");
    let ended = Weir::start_and_end(&tempfile::tempdir().unwrap(), config);
    assert_eq!(ended.code, Some(1));
    assert!(!ended.stderr.contains("ready"), "{}", ended.stderr);
    assert!((ended.stdout + &ended.stderr).contains("in use"));
}

#[test]
fn problems_are_exit_2_all_listed_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, "listeners:\n  - { name: web, adress: x }\nroutes:\n  - { upstream: nowhere }\n").unwrap();
    for verb in ["check", "run"] {
        let output = command(&[verb, "-c", file.to_str().unwrap()]);
        assert_eq!(output.code, Some(2), "{}{}", output.stdout, output.stderr);
        assert!(output.stdout.contains(&format!("{}:2:", file.display())), "{}", output.stdout);
        assert!(output.stdout.contains("address") && output.stdout.contains("nowhere"), "{}", output.stdout);
    }
}

#[test]
fn check_schema_and_usage_have_their_exit_codes() {
    let good = command(&["check", "-c", "conf/weir.yaml"]);
    assert_eq!((good.code, good.stdout.lines().count()), (Some(0), 1), "{}", good.stdout);
    let schema = command(&["schema"]);
    assert_eq!(schema.code, Some(0));
    serde_json::from_str::<serde_json::Value>(&schema.stdout).unwrap();
    assert_eq!(command(&["no-such-command"]).code, Some(64));
    assert_eq!(command(&["--help"]).code, Some(0));
    let unreachable = command(&["status", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(unreachable.code, Some(1), "{}{}", unreachable.stdout, unreachable.stderr);
}

#[test]
fn variables_of_the_environment_are_put_in_and_never_shown() {
    let origin = Origin::named("a");
    let config = Config::to_all(&[("${BACKEND}", &origin)])
        .set("routes.all.response_headers.set.x-secret", "\"${SECRET:-none}\"");
    let weir = Weir::start_with_env(tempfile::tempdir().unwrap(), config, [("BACKEND", "from-env")]);
    assert_eq!(Client::connect(weir.web()).get("/").header("x-secret"), Some("none"));
    assert!(weir.status().to_string().contains("from-env"));
}

#[test]
fn the_access_log_file_is_reopened_on_sigusr1() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let (log, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let weir = Weir::start_in(folder, config(&origin).set("access_log.path", "access.log"));
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    Client::connect(weir.web()).get("/");
    eventually("a line", || lines(&log) == 1);
    std::fs::rename(&log, &moved).unwrap();
    weir.signal(libc::SIGUSR1);
    eventually("a new file", || log.exists());
    Client::connect(weir.web()).get("/");
    eventually("a line in the new file", || lines(&log) == 1);
    assert_eq!(lines(&moved), 1);
}

#[test]
fn connections_of_a_removed_listener_do_not_delay_the_shutdown() {
    let origin = Origin::named("a");
    let mut weir = Weir::start(config(&origin).listener("more", ""));
    let mut idle = Client::connect(weir.address("more"));
    idle.get("/");
    assert!(weir.reload(config(&origin)));
    let start = Instant::now();
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// The kernel clears a huge page when it is first touched, and all that its processor should carry waits for that.
#[test]
fn it_asks_for_no_huge_pages() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
    let maps = weir.kernel_says("smaps");
    let flags: Vec<&str> = maps.lines().filter(|line| line.starts_with("VmFlags:")).collect();
    assert!(!flags.is_empty(), "{maps}");
    assert!(flags.iter().all(|line| !line.split(' ').any(|flag| flag == "hg")), "{maps}");
}
