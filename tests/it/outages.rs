//! An outage is named wherever an operator looks: the status page, `weir status`, the access log, the process log at
//! `info`, the metrics, and the alerts of `grafana/`.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::files::folder;
use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::run;
use crate::support::promtool::firing;
use crate::support::tls::listen;
use crate::support::{Client, Config, Origin, Pki, Reply, Weir, eventually, spare};

/// The requests of an outage. The alerts are evaluated for as many each minute.
const REQUESTS: usize = 5;

/// How the six places name a cause.
struct Named<'a> {
    /// On the status page and in `weir status`.
    shown: &'a str,
    /// In the access log: JSON pointers and values.
    access: &'a [(&'a str, Value)],
    /// In one line of the process log.
    process: &'a [&'a str],
    /// The series that counts it.
    metric: &'a [&'a str],
    /// The alert that fires.
    alert: &'a str,
}

/// Sends requests by `send`, which makes the last lines of the access log, and looks at all six places.
fn is_named(weir: &Weir, send: impl Fn(), named: &Named<'_>) {
    let (lines, before) = (weir.access_log().len(), weir.scrape());
    (0..REQUESTS).for_each(|_| send());
    let is_named = |line: &Value| named.access.iter().all(|(at, value)| line.pointer(at) == Some(value));
    eventually(&format!("{:?} in {}", named.access, weir.stdout()), || {
        weir.access_log().iter().skip(lines).filter(|line| is_named(line)).count() == REQUESTS
    });
    let has_all = |line: &str| named.process.iter().all(|part| line.contains(part));
    eventually(&format!("{:?} in {}", named.process, weir.stderr()), || weir.stderr().lines().any(has_all));
    let page = weir.admin_get("/").text();
    assert!(page.contains(named.shown), "{page}");
    let (_, table) = weir.status_and_output(&["status"]);
    assert!(table.contains(named.shown), "{table}");
    assert!(weir.sum(named.metric) > 0.0, "{:?}", weir.scrape());
    let fires = firing(&before, &weir.scrape(), &[named.alert]);
    assert_eq!(fires, [true], "{} over {:?}", named.alert, weir.scrape());
}

fn get(weir: &Weir) {
    Client::connect(weir.web()).get("/");
}

/// The cause of failed attempts: in words, its fault, and its label.
fn is_named_as(weir: &Weir, words: &str, fault: &str, label: &str) {
    let (fault_part, words_part) = (format!("fault=\"{fault}\""), format!("error={words:?}"));
    let label_part = format!("cause=\"{label}\"");
    let named = Named {
        shown: &format!("{words} ("),
        access: &[("/fault", fault.into()), ("/attempts/0/error", words.into())],
        process: &[" WARN attempts fail ", "upstream=\"up\"", "backend=\"a\"", &fault_part, &words_part],
        metric: &["weir_backend_errors_total{", "backend=\"a\"", &label_part],
        alert: &format!("alertname=\"WeirBackendErrors\",upstream=\"up\",backend=\"a\",{label_part}"),
    };
    is_named(weir, || get(weir), &named);
}

fn before(backend: impl std::fmt::Display) -> Weir {
    Weir::start(Config::to(backend).set("upstreams.up.outlier", "off"))
}

#[test]
fn a_backend_that_refuses_connections_is_named_in_all_six_places() {
    is_named_as(&before(spare()), "refused", "connect", "refused");
}

#[test]
fn a_backend_that_does_not_answer_in_time_is_named_in_all_six_places() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(3)));
    let weir = Weir::start(Config::to(&origin).set("routes.all", "timeouts: { read: 100ms }"));
    is_named_as(&weir, "timed out: no response for timeouts.first_byte", "timeout", "timeout");
}

#[test]
fn a_backend_that_resets_connections_is_named_in_all_six_places() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            // With a linger of zero the kernel sends RST.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    is_named_as(&before(address), "reset by peer", "reset", "reset");
}

/// Weir before a backend with a certificate for this name. Weir expects `server.test`, of this authority.
fn before_tls(name: &str, authority: &str, pki: &Pki) -> Weir {
    let backend = listen(Some(&pki.issue(&[name])), "http/1.1", |_stream| async {});
    let folder = folder(&[]);
    std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
    let config = Config::to(backend).set("upstreams.up", "outlier: off, tls: { server_name: server.test, ca: ca.pem }");
    Weir::start_in(folder, config)
}

#[test]
fn a_certificate_for_another_name_is_named_in_all_six_places() {
    let pki = Pki::new();
    let weir = before_tls("other.test", &pki.ca(), &pki);
    is_named_as(&weir, "certificate not valid for server.test", "tls", "tls_name");
}

#[test]
fn a_certificate_of_an_unknown_authority_is_named_in_all_six_places() {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let another = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let weir = before_tls("server.test", &another, &Pki::new());
    is_named_as(&weir, "certificate of an unknown authority", "tls", "tls_authority");
}

#[test]
fn a_name_that_does_not_resolve_is_named_in_all_six_places() {
    let weir = before("no-such-host.invalid:80");
    weir.wait_for_state("a", "unresolved");
    let named = Named {
        shown: "name does not resolve",
        access: &[("/fault", "no_backend".into()), ("/passed_over", json!([{ "backend": "a", "why": "unresolved" }]))],
        process: &[" WARN requests get no backend ", "upstream=\"up\"", "passed_over=\"a unresolved\""],
        metric: &["weir_backend_state{", "backend=\"a\"", "state=\"unresolved\""],
        alert: "alertname=\"WeirBackendUnresolved\",upstream=\"up\",backend=\"a\"",
    };
    is_named(&weir, || get(&weir), &named);
}

#[test]
fn a_backend_that_does_not_speak_http_is_named_in_all_six_places() {
    let origin = Origin::start(|_| Reply::raw("SSH-2.0-server\r\n\r\n").and_close());
    is_named_as(&before(&origin), "invalid response: invalid HTTP version", "protocol", "protocol");
}

#[test]
fn a_backend_that_answers_500_is_named_in_all_six_places() {
    let origin = Origin::start(|_| Reply::new(500, "no"));
    let weir = before(&origin);
    let named = Named {
        shown: "status 500 (",
        access: &[("/status", 500.into()), ("/backend", "a".into()), ("/fault", Value::Null)],
        process: &[" WARN the backend responds with errors ", "backend=\"a\"", "status=500"],
        metric: &["weir_backend_errors_total{", "backend=\"a\"", "cause=\"status_5xx\""],
        alert: "alertname=\"WeirBackendErrors\",upstream=\"up\",backend=\"a\",cause=\"status_5xx\"",
    };
    is_named(&weir, || get(&weir), &named);
}

#[test]
fn a_grpc_service_that_answers_unavailable_is_named_in_all_six_places() {
    let server = Server::start();
    let weir = Weir::start(Config::to(server.address).set("upstreams.up", "outlier: off, protocol: h2c"));
    let call = || {
        run(async {
            let mut client = Caller::connect(weir.web(), false).await;
            let (response, mut out) = client.call("/unavailable").await;
            out.send_data(message(b"x"), true).unwrap();
            assert_eq!(status(response.await.unwrap()).await, "14");
        });
    };
    let named = Named {
        shown: "gRPC UNAVAILABLE (",
        access: &[("/grpc_status", "UNAVAILABLE".into()), ("/backend", "a".into()), ("/fault", Value::Null)],
        process: &[" WARN the backend ends calls with errors ", "backend=\"a\"", "grpc_status=\"UNAVAILABLE\""],
        metric: &["weir_backend_errors_total{", "backend=\"a\"", "cause=\"grpc_unavailable\""],
        alert: "alertname=\"WeirBackendErrors\",upstream=\"up\",backend=\"a\",cause=\"grpc_unavailable\"",
    };
    is_named(&weir, call, &named);
}

#[test]
fn a_queue_that_is_full_is_named_in_all_six_places() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(20)));
    let settings = "max_in_flight: 1, queue: { size: 1, timeout: 20s }";
    let weir = Weir::start(Config::to(&origin).set("upstreams.up", settings));
    let held = [0, 1].map(|_| {
        let mut client = Client::connect(weir.web());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    });
    weir.wait_for(&["weir_upstream_queue_depth"], 1.0);
    let named = Named {
        shown: "queue full: queue.size requests wait already (",
        access: &[("/fault", "queue_full".into()), ("/passed_over", json!([{ "backend": "a", "why": "full" }]))],
        process: &[
            " WARN requests get no backend ",
            "upstream=\"up\"",
            "fault=\"queue_full\"",
            "passed_over=\"a full\"",
        ],
        metric: &["weir_faults_total{", "route=\"all\"", "fault=\"queue_full\""],
        alert: "alertname=\"WeirQueueRefuses\",route=\"all\",fault=\"queue_full\"",
    };
    is_named(&weir, || get(&weir), &named);
    drop(held);
}

#[test]
fn backends_that_are_all_drained_are_named_in_all_six_places() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    assert_eq!(weir.command(&["drain", "up/a"]).code, Some(0));
    let named = Named {
        shown: "by operator",
        access: &[("/fault", "no_backend".into()), ("/passed_over", json!([{ "backend": "a", "why": "draining" }]))],
        process: &[" WARN requests get no backend ", "upstream=\"up\"", "passed_over=\"a draining\""],
        metric: &["weir_backend_state{", "backend=\"a\"", "state=\"draining\""],
        alert: "alertname=\"WeirUpstreamDrained\",upstream=\"up\"",
    };
    is_named(&weir, || get(&weir), &named);
}

#[test]
fn an_upstream_that_leads_back_to_weir_is_named_in_all_six_places() {
    let own = spare();
    let weir = Weir::start(Config::to(own).set("listeners.web.address", format!("\"{own}\"")));
    let named = Named {
        shown: "loop: the request returns to this process (",
        access: &[("/fault", "loop".into()), ("/status", 508.into()), ("/upstream", "up".into())],
        process: &[" WARN requests return to this process in a loop ", "upstream=\"up\"", "fault=\"loop\""],
        metric: &["weir_faults_total{", "route=\"all\"", "fault=\"loop\""],
        alert: "alertname=\"WeirLoop\",route=\"all\"",
    };
    is_named(&weir, || get(&weir), &named);
}

#[test]
fn requests_that_are_served_raise_no_alert_and_count_no_error() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let before = weir.scrape();
    (0..REQUESTS).for_each(|_| get(&weir));
    weir.access_log_of(REQUESTS);
    assert_eq!(firing(&before, &weir.scrape(), &[""]), [false]);
    assert_eq!(weir.sum(&["weir_backend_errors_total"]), 0.0);
}

#[test]
fn the_alerts_about_causes_name_the_cause_in_their_summary() {
    let rules = ["causes.yml", "alerts.yml"].map(|file| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/grafana/prometheus/rules/");
        std::fs::read_to_string(format!("{path}{file}")).unwrap()
    });
    let summary = |alert: &str| {
        let rules = rules.concat();
        let rule = rules.split(&format!("- alert: {alert}\n")).nth(1).unwrap();
        rule.lines().find(|line| line.contains("summary:")).unwrap().to_owned()
    };
    for (alert, part) in [
        ("WeirBackendErrors", "$labels.cause"),
        ("WeirBackendUnresolved", "does not resolve"),
        ("WeirQueueRefuses", "$labels.fault"),
        ("WeirUpstreamDrained", "drained or disabled"),
        ("WeirLoop", "return to"),
    ] {
        assert!(summary(alert).contains(part), "{}", summary(alert));
    }
}
