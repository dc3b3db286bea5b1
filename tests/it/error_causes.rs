//! The logs name the cause of each failed request: in the access log, and in the process log at `info`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::files::folder;
use crate::support::tls::listen;
use crate::support::{Client, Config, Origin, Pki, Reply, Weir, spare};

/// The line of the access log of one request, and the lines of the process log with its id.
fn failed(weir: &Weir, method: &str, status: u16) -> (Value, Vec<String>) {
    let mut client = Client::connect(weir.web());
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(client.response(method).status, status);
    let line = weir.access_log_of(1).remove(0);
    let id = line["request_id"].as_str().unwrap().to_owned();
    weir.wait_for_log(&id);
    let lines = weir.stderr().lines().filter(|line| line.contains(&id)).map(str::to_owned).collect();
    (line, lines)
}

/// The cause is in `attempts[].error`, and in one warning that names the request, the route, the upstream and the backend.
fn names_the_cause(weir: &Weir, status: u16, fault: &str, cause: &str) {
    let (line, warnings) = failed(weir, "POST", status);
    assert_eq!(line["fault"], fault, "{line}");
    assert_eq!(line["attempts"].as_array().unwrap().last().unwrap()["error"], cause, "{line}");
    assert_eq!(line["passed_over"], Value::Null, "{line}");
    let warning = warnings.iter().find(|line| line.contains(" WARN attempts fail ")).expect("a warning");
    let fault = format!("fault=\"{fault}\"");
    let cause = format!("error={cause:?}");
    for part in ["upstream=\"up\"", "backend=\"a\"", "route=\"all\"", "count=1", &fault, &cause] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
}

fn before(backend: impl std::fmt::Display, upstream: &str) -> Weir {
    Weir::start(Config::to(backend).set("upstreams.up", upstream))
}

#[test]
fn a_refused_connection_is_named_in_both_logs() {
    names_the_cause(&before(spare(), ""), 502, "connect", "refused");
}

#[test]
fn a_missing_unix_socket_is_named_in_both_logs() {
    names_the_cause(&before("unix:/nonexistent/x.sock", ""), 502, "connect", "there is no such socket");
}

#[test]
fn a_timeout_names_the_setting_in_both_logs() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(3)));
    let read = Config::to(&origin).set("routes.all", "timeouts: { read: 150ms }");
    names_the_cause(&Weir::start(read), 504, "timeout", "timed out: no response for timeouts.first_byte");
    let whole = Config::to(&origin).set("routes.all", "timeouts: { request: 150ms }");
    names_the_cause(&Weir::start(whole), 504, "timeout", "timed out: timeouts.request is over");
}

#[test]
fn a_broken_connection_is_named_in_both_logs() {
    let closes = Origin::start(|_| Reply::hang_up());
    names_the_cause(&before(&closes, ""), 502, "reset", "closed before the response header was complete");
    let resets = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = resets.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in resets.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            // With a linger of zero the kernel sends RST.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    names_the_cause(&before(address, ""), 502, "reset", "reset by peer");
}

#[test]
fn a_response_that_is_not_http_is_named_in_both_logs_without_its_bytes() {
    let origin = Origin::start(|_| Reply::raw("SSH-2.0-secret\r\n\r\n").and_close());
    let weir = before(&origin, "");
    names_the_cause(&weir, 502, "protocol", "invalid response: invalid HTTP version");
    assert!(!weir.stderr().contains("secret") && !weir.stdout().contains("secret"));
}

/// Weir before a backend with a certificate for `names`, which it takes for `server.test`.
fn before_tls(names: &[&str], known: bool, protocol: &str) -> Weir {
    let pki = Pki::new();
    let issued = pki.issue(names);
    let alpn = if protocol == "h2" { "h2" } else { "http/1.1" };
    let backend = listen(Some(&issued), alpn, |_stream| async {});
    let folder = folder(&[]);
    std::fs::write(folder.path().join("ca.pem"), if known { pki.ca() } else { another_authority() }).unwrap();
    let config = Config::to(backend)
        .set("upstreams.up.protocol", protocol)
        .set("upstreams.up", "tls: { server_name: server.test, ca: ca.pem }");
    Weir::start_in(folder, config)
}

fn another_authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn a_certificate_that_is_not_valid_is_named_in_both_logs() {
    for protocol in ["http1", "h2"] {
        let weir = before_tls(&["other.test"], true, protocol);
        names_the_cause(&weir, 502, "tls", "certificate not valid for server.test");
        let weir = before_tls(&["server.test"], false, protocol);
        names_the_cause(&weir, 502, "tls", "certificate of an unknown authority");
    }
}

#[test]
fn a_backend_that_does_not_speak_tls_is_named_in_both_logs() {
    let origin = Origin::raw(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let folder = folder(&[]);
    std::fs::write(folder.path().join("ca.pem"), Pki::new().ca()).unwrap();
    let config = Config::to(&origin).set("upstreams.up", "tls: { server_name: server.test, ca: ca.pem }");
    names_the_cause(&Weir::start_in(folder, config), 502, "tls", "the backend does not speak TLS");
}

/// The backends that could not be picked are in `passed_over`, and in one warning that names the request.
fn names_those_passed_over(weir: &Weir, fault: &str, passed_over: &[(&str, &str)], line: &Value, warnings: &[String]) {
    let expected: Vec<_> = passed_over.iter().map(|(name, why)| json!({ "backend": name, "why": why })).collect();
    assert_eq!((&line["fault"], &line["attempts"]), (&fault.into(), &json!([])), "{line}");
    assert_eq!(line["passed_over"], json!(expected), "{line}");
    let list: Vec<_> = passed_over.iter().map(|(name, why)| format!("{name} {why}")).collect();
    let warning = warnings.iter().find(|line| line.contains(" WARN requests get no backend ")).expect("a warning");
    let parts = [format!("fault=\"{fault}\""), format!("passed_over=\"{}\"", list.join(", "))];
    assert!(parts.iter().all(|part| warning.contains(part)) && warning.contains("upstream=\"up\""), "{warning}");
    assert!(warning.contains("route=\"all\""), "{warning} {}", weir.stderr());
}

#[test]
fn a_request_that_gets_no_backend_names_those_that_could_not_be_picked() {
    let backends = [("a", spare().to_string()), ("b", spare().to_string()), ("c", "nowhere.invalid:80".to_owned())];
    let weir = Weir::start(Config::to_all(&backends));
    for command in [["drain", "up/a"], ["disable", "up/b"]] {
        assert_eq!(weir.command(&command).code, Some(0));
    }
    let (line, warnings) = failed(&weir, "GET", 503);
    let passed = [("a", "draining"), ("b", "disabled"), ("c", "unresolved")];
    names_those_passed_over(&weir, "no_backend", &passed, &line, &warnings);
}

#[test]
fn a_request_that_finds_all_backends_full_names_them() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(2)));
    let weir = before(&origin, "max_in_flight: 1");
    let mut first = Client::connect(weir.web());
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    let (line, warnings) = failed(&weir, "GET", 503);
    names_those_passed_over(&weir, "queue_full", &[("a", "full")], &line, &warnings);
}

#[test]
fn a_backend_that_responds_with_errors_is_named_in_the_process_log() {
    let origin = Origin::start(|_| Reply::new(500, "no"));
    let weir = before(&origin, "");
    let (line, warnings) = failed(&weir, "GET", 500);
    assert_eq!((&line["fault"], &line["attempts"][0]["error"]), (&Value::Null, &Value::Null), "{line}");
    let warning = warnings.iter().find(|line| line.contains(" WARN the backend responds with errors ")).unwrap();
    assert!(warning.contains("backend=\"a\"") && warning.contains("status=500"), "{warning}");
}

#[test]
fn repeated_failures_of_a_backend_are_one_warning() {
    let weir = before(spare(), "outlier: off");
    let mut client = Client::connect(weir.web());
    (0..50).for_each(|_| assert_eq!(client.get("/").status, 502));
    weir.access_log_of(50);
    assert_eq!(weir.stderr().matches("attempts fail").count(), 1, "{}", weir.stderr());
}

#[test]
fn lines_about_an_attempt_at_debug_name_request_route_and_upstream() {
    let weir = Weir::start(Config::to(spare()).set("log.level", "debug"));
    let (_, lines) = failed(&weir, "GET", 502);
    let line = lines.iter().find(|line| line.contains("DEBUG an attempt failed")).unwrap();
    assert!(line.contains("route=\"all\"") && line.contains("upstream=\"up\"") && line.contains("refused"), "{line}");
}

#[test]
fn a_client_that_sends_plain_http_to_a_tls_port_is_told_to_use_https() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let files = folder(&[("edge", &pki.issue(&["a.test"]))]);
    let weir = Weir::start_in(files, Config::to(&origin).certificates(&["edge"]).set("log.level", "debug"));
    let response = Client::connect(weir.web()).get("/");
    assert_eq!(response.status, 400);
    assert!(response.text().contains("Plain HTTP was sent to a port of HTTPS. Use https://"), "{}", response.text());
    weir.wait_for_log("plain HTTP on a port of TLS");
}

#[test]
fn a_request_that_succeeds_has_no_cause() {
    let origin = Origin::named("a");
    let weir = before(&origin, "");
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    let line = weir.access_log_of(1).remove(0);
    assert_eq!((&line["attempts"][0]["error"], &line["passed_over"]), (&Value::Null, &Value::Null), "{line}");
    assert!(!weir.stderr().contains("WARN"), "{}", weir.stderr());
}

#[test]
fn a_retry_on_another_backend_leaves_the_cause_of_the_first_attempt() {
    let (origin, gone) = (Origin::named("b"), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = gone.local_addr().unwrap();
    drop(gone);
    let weir = Weir::start(Config::to_all(&[("a", address), ("b", origin.address())]));
    let mut client = Client::connect(weir.web());
    (0..2).for_each(|_| assert_eq!(client.get("/").status, 200));
    let log = weir.access_log_of(2);
    let retried = log.iter().find(|line| line["attempts"].as_array().unwrap().len() == 2).expect("a retry");
    let errors: Vec<_> = retried["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["error"]).collect();
    assert_eq!(errors, [&json!("refused"), &Value::Null], "{retried}");
}
