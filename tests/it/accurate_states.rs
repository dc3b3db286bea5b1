//! The shown state of a backend tells what is known: checked, unchecked or unresolved, and its recent errors with their cause.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

fn backend(weir: &Weir, name: &str) -> Value {
    let status = weir.status();
    let upstreams = status["upstreams"].as_array().unwrap();
    let mut backends = upstreams.iter().flat_map(|upstream| upstream["backends"].as_array().unwrap());
    backends.find(|backend| backend["name"] == name).unwrap().clone()
}

/// The states of the backend whose series is 1, and the value of `weir_backend_up`.
fn in_metrics(weir: &Weir, name: &str) -> (Vec<String>, f64) {
    let scrape = weir.scrape();
    let label = format!("backend=\"{name}\"");
    let one = |(series, value): (&String, &f64)| {
        (series.starts_with("weir_backend_state{") && series.contains(&label) && *value == 1.0)
            .then(|| series.split("state=\"").nth(1).unwrap().split('"').next().unwrap().to_owned())
    };
    (scrape.iter().filter_map(one).collect(), weir.sum(&["weir_backend_up{", &label]))
}

fn page(weir: &Weir) -> String {
    weir.admin_get("/").text()
}

/// An address that refuses connections.
fn refusing() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_backend_without_a_check_is_unchecked_and_serves() {
    let origin = Origin::start(|_| Reply::new(200, "a"));
    let weir = Weir::start(Config::to_all(&[("a", &origin)]));
    assert_eq!(backend(&weir, "a")["state"], "unchecked");
    assert_eq!(in_metrics(&weir, "a"), (vec!["unchecked".to_owned()], 1.0));
    assert!(page(&weir).contains(">unchecked<") && !page(&weir).contains("state up"), "{}", page(&weir));
    let (code, text) = weir.status_and_output(&["status"]);
    assert!(code == 0 && text.contains(" unchecked "), "{text}");
    assert_eq!(weir.admin_get("/readyz").status, 200);
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
}

#[test]
fn a_check_that_a_reload_adds_or_removes_changes_the_state() {
    let (origin, _) = Origin::with_health("a");
    let plain = || Config::to_all(&[("a", &origin)]);
    let checked =
        || plain().set("upstreams.up.health_check", "interval: 50ms, timeout: 50ms, http: { path: /healthz }");
    let weir = Weir::start(plain());
    weir.wait_for_state("a", "unchecked");
    assert!(weir.reload(checked()));
    weir.wait_for_state("a", "up");
    assert!(weir.reload(plain()));
    weir.wait_for_state("a", "unchecked");
    assert_eq!(in_metrics(&weir, "a"), (vec!["unchecked".to_owned()], 1.0));
}

#[test]
fn a_name_that_does_not_resolve_is_unresolved_with_and_without_a_check() {
    for check in [false, true] {
        let mut config = Config::to_all(&[("n", "no-such-host.invalid:80")]);
        if check {
            config = config.set("upstreams.up.health_check", "interval: 50ms, timeout: 50ms, tcp: {}");
        }
        let weir = Weir::start(config);
        weir.wait_for_state("n", "unresolved");
        assert_eq!(in_metrics(&weir, "n"), (vec!["unresolved".to_owned()], 0.0));
        eventually("the resolver's reason", || {
            backend(&weir, "n")["reason"].as_str().unwrap().starts_with("name does not resolve: ")
        });
        let page = page(&weir);
        assert!(page.contains("state unresolved") && page.contains("by weight 0 %"), "{page}");
        assert_eq!(Client::connect(weir.web()).get("/").status, 503);
        // An operator's decision is shown first.
        assert_eq!(weir.status_and_output(&["disable", "up/n"]).0, 0);
        weir.wait_for_state("n", "disabled");
    }
}

#[test]
fn errors_of_the_last_minute_and_the_last_cause_are_shown_beside_a_backend() {
    let flaky = Origin::start(|_| Reply::new(503, "no"));
    let config = Config::to_all(&[("dead", refusing().to_string()), ("flaky", flaky.address().to_string())])
        .set("upstreams.up.outlier", "off");
    let weir = Weir::start(config);
    assert_eq!(backend(&weir, "dead")["errors_last_minute"], 0);
    assert!(backend(&weir, "dead")["last_error"].is_null());
    let mut client = Client::connect(weir.web());
    (0..4).for_each(|_| assert_eq!(client.get("/").status, 503));
    for (name, cause) in [("dead", "refused"), ("flaky", "status 503")] {
        let shown = backend(&weir, name);
        assert!(shown["errors_last_minute"].as_u64().unwrap() >= 2, "{shown}");
        assert_eq!(shown["last_error"]["cause"], cause);
        assert!(shown["last_error"]["time"].as_str().unwrap().starts_with("20"), "{shown}");
        assert!(page(&weir).contains(&format!("{cause} (")), "{}", page(&weir));
        let (_, text) = weir.status_and_output(&["status"]);
        assert!(text.contains("ERRORS/MIN") && text.contains(cause), "{text}");
    }
}

#[test]
fn a_response_of_404_is_no_error_of_the_backend() {
    let origin = Origin::start(|_| Reply::new(404, "no"));
    let weir = Weir::start(Config::to_all(&[("a", &origin)]));
    let mut client = Client::connect(weir.web());
    (0..3).for_each(|_| assert_eq!(client.get("/").status, 404));
    assert_eq!(backend(&weir, "a")["errors_last_minute"], 0);
}
