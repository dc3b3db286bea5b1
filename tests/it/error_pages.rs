//! Error pages: chosen by status and Accept, watched for changes, and in place of responses of backends.

use http::Request;

use crate::support::files::put;
use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::{connect, rest, run};
use crate::support::weir::command;
use crate::support::{Client, Config, Origin, Reply, Weir, eventually, spare};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const APPLIED: &str = "weir_body_file_reloads_total{result=\"applied\"}";
const REJECTED: &str = "weir_body_file_reloads_total{result=\"rejected\"}";

/// A route whose backend cannot be reached.
fn unreachable() -> Config {
    Config::to(spare())
}

fn get(weir: &Weir, path: &str, accept: &str) -> crate::support::Response {
    Client::connect(weir.web()).get_with(path, &[("Accept", accept), ("X-Request-Id", "r-1")])
}

#[test]
fn the_default_page_is_html_for_browsers_and_problem_json_for_programs() {
    let weir = Weir::start(unreachable());
    let page = get(&weir, "/", BROWSER);
    assert_eq!((page.status, page.header("content-type")), (502, Some("text/html; charset=utf-8")));
    for part in ["<!DOCTYPE html>", "r-1", "Please try again", "prefers-color-scheme", "width=device-width"] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    let problem = get(&weir, "/", "application/json");
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    let json = problem.json();
    assert_eq!(
        (&json["status"], &json["title"], &json["type"]),
        (&502.into(), &"Bad Gateway".into(), &"about:blank".into())
    );
    assert_eq!((&json["error"], &json["request_id"]), (&"connect".into(), &"r-1".into()));
    let text = get(&weir, "/", "*/*");
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(text.text().contains("request id: r-1"));
}

#[test]
fn the_page_of_the_operator_is_chosen_by_status_and_accept() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "502.html", "<h1>{status} at {host}</h1>{request_id} {header.x-evil}");
    put(folder.path(), "502.json", "{\"title\": \"sorry\", \"id\": \"{request_id}\", \"evil\": \"{header.x-evil}\"}");
    let config = unreachable()
        .set("defaults.errors", "{ 4xx: { text: 'nothing at {path}' } }")
        .set("routes.all.match.path_prefix", "/api")
        .set("routes.all.errors", "{ 502: { file: [502.html, 502.json] }, 5xx: { text: unused } }");
    let weir = Weir::start_in(folder, config);
    let evil = "\"><script>";
    let ask = |accept: &str| {
        Client::connect(weir.web()).get_with("/api", &[("Accept", accept), ("X-Request-Id", "r-1"), ("X-Evil", evil)])
    };
    for accept in [BROWSER, "*/*"] {
        let page = ask(accept);
        assert_eq!((page.status, page.header("content-type")), (502, Some("text/html; charset=utf-8")));
        assert!(
            page.text().contains("<h1>502 at ") && page.text().ends_with("r-1 &quot;&gt;&lt;script&gt;"),
            "{}",
            page.text()
        );
    }
    let json = ask("application/json").json();
    assert_eq!((&json["title"], &json["id"], &json["evil"]), (&"sorry".into(), &"r-1".into(), &evil.into()));
    let missing = get(&weir, "/other", BROWSER);
    assert_eq!(
        (missing.status, missing.text()),
        (404, "nothing at /other".to_owned()),
        "no route: the page of `defaults`"
    );
    run(async {
        let mut client = connect(weir.web()).await;
        for (method, empty) in [("GET", false), ("HEAD", true)] {
            let request = Request::builder().method(method).uri("http://a/api").body(()).unwrap();
            let response = client.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
                (502, "text/html; charset=utf-8")
            );
            assert_eq!(rest(&mut response.into_body()).await.is_empty(), empty);
        }
    });
}

#[test]
fn a_backends_own_error_is_replaced_only_if_the_page_says_so() {
    let origin = Origin::start(|request| {
        let status = request.target[1..4].parse().unwrap();
        let fields = [("Retry-After", "7"), ("Set-Cookie", "a=b"), ("ETag", "\"x\""), ("Content-Encoding", "gzip")];
        if request.target.ends_with("empty") { Reply::new(status, "") } else { Reply::with(status, &fields, "theirs") }
    });
    let config = Config::to(&origin)
        .set("routes.all.errors", "{ 503: { text: 'ours {status}', replace: true }, 500: { text: ours }, 404: { html: '<p>', replace: true } }")
        .set("routes.all.response_headers", "{ set: { x-a: b } }");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    for path in ["/503", "/503/empty"] {
        let replaced = client.get(path);
        assert_eq!((replaced.status, replaced.text()), (503, "ours 503".to_owned()), "{path}");
        assert_eq!((replaced.header("etag"), replaced.header("content-encoding")), (None, None));
        assert_eq!(replaced.header("x-a"), Some("b"));
    }
    let replaced = client.get("/503");
    assert_eq!((replaced.header("retry-after"), replaced.header("set-cookie")), (Some("7"), Some("a=b")));
    assert_eq!((client.get("/500").text(), client.get("/502").text()), ("theirs".to_owned(), "theirs".to_owned()));
    assert_eq!(client.get("/404").text(), "<p>");
    let json = client.get_with("/404", &[("Accept", "application/json")]);
    assert_eq!((json.status, &json.json()["error"]), (404, &"backend_error".into()));
    run(async {
        let mut client = connect(weir.web()).await;
        let request = Request::builder().method("POST").uri("http://a/503").body(()).unwrap();
        let (response, mut out) = client.send_request(request, false).unwrap();
        out.send_data("body".into(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(rest(&mut response.into_body()).await, b"ours 503");
    });
    let log = weir.access_log_of(8);
    assert!(log.iter().all(|line| line["fault"].is_null()), "a response of a backend is no fault of Weir: {log:?}");
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    assert_eq!(weir.sum(&["weir_backend_requests_total", "5xx"]), 6.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_call_of_grpc_never_gets_a_page() {
    let server = Server::start();
    let config = Config::to(server.address)
        .set("upstreams.up.protocol", "h2c")
        .set("defaults.errors", "{ 4xx: { text: page, replace: true }, 5xx: { text: page, replace: true } }")
        .set("routes.refused", "match: { path: /refused }, upstream: up, deny: [127.0.0.0/8]");
    let weir = Weir::start(config);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/refused").await;
        let _ = out.send_data(message(b"one"), true);
        assert_eq!(status(response.await.unwrap()).await, "7");
    });
}

#[test]
fn a_refused_websocket_gets_the_page() {
    let weir = Weir::start(unreachable().set("routes.all.errors", "{ 5xx: { text: page } }"));
    let fields =
        [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let response = Client::connect(weir.web()).get_with("/", &fields);
    assert_eq!((response.status, response.text()), (502, "page".to_owned()));
}

#[test]
fn a_changed_file_is_served_and_an_unfit_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "5xx.html", "old {status}");
    let weir = Weir::start_in(folder, unreachable().set("defaults.errors", "{ 5xx: { file: 5xx.html } }"));
    let folder = weir.config_file().parent().unwrap().to_owned();
    let page = || get(&weir, "/", BROWSER).text();
    assert_eq!(page(), "old 502");
    put(&folder, "5xx.html", "new {status}");
    eventually("the new page", || page() == "new 502");
    assert_eq!(weir.metric(APPLIED), 1.0);
    put(&folder, "5xx.html", "bad {stats}");
    weir.wait_for(&[REJECTED], 1.0);
    weir.wait_for_log("5xx.html:1: unknown variable `{stats}`");
    assert_eq!(page(), "new 502");
    assert!(weir.reload(unreachable().set("defaults.errors", "{ 5xx: { text: 'inline' } }")));
    assert_eq!(page(), "inline");
}

#[test]
fn check_reports_a_bad_page_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "404.html", "<p>\n<p>{host_name}\n");
    put(folder.path(), "large.txt", vec![b'a'; (256 << 10) + 1]);
    let config = unreachable().set("defaults.errors", "{ 404: { file: 404.html }, 5xx: { file: large.txt } }");
    put(folder.path(), "weir.yaml", config.to_string());
    let output = command(&["check", folder.path().join("weir.yaml").to_str().unwrap()]);
    assert!(
        output.stdout.contains("404.html:2:1: ") && output.stdout.contains("unknown variable `{host_name}`"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("an error page has at most 256KiB"), "{}", output.stdout);
}
