//! What a listener lets one client have: connections, requests on one of them, streams.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;

use crate::support::http2::run;
use crate::support::{Client, Config, Origin, Reply, Weir, eventually, wait_until};

fn config(limits: &str, origin: &Origin) -> Config {
    Config::to(origin).set("listeners.web.limits", limits)
}

async fn connect(weir: &Weir) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = tokio::net::TcpStream::connect(weir.web()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender.ready().await.unwrap(), tokio::spawn(connection))
}

fn get() -> http::Request<()> {
    http::Request::get("http://example.org/").body(()).unwrap()
}

#[test]
fn a_client_may_have_so_many_connections_and_those_it_closes_count_no_longer() {
    let origin = Origin::named("a");
    let weir = Weir::start(config("connections_per_ip: 2", &origin));
    let mut first = Client::connect(weir.web());
    let mut second = Client::connect(weir.web());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let refused = String::from_utf8_lossy(&Client::connect(weir.web()).read_to_end()).into_owned();
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503"), "{refused}");
    weir.wait_for(&["weir_listener_connections_total", "refused_limit"], 1.0);
    // Under other settings the count goes on.
    assert!(weir.reload(config("connections_per_ip: 1", &origin)));
    drop(first);
    weir.wait_for(&["weir_listener_connections{"], 1.0);
    Client::connect(weir.web()).read_to_end();
    weir.wait_for(&["weir_listener_connections_total", "refused_limit"], 2.0);
    drop(second);
    weir.wait_for(&["weir_listener_connections{"], 0.0);
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
}

#[test]
fn the_last_request_that_a_connection_may_bring_says_close() {
    let origin = Origin::named("a");
    let weir = Weir::start(config("requests_per_connection: 3", &origin));
    let mut client = Client::connect(weir.web());
    for _ in 0..2 {
        assert_eq!(client.get("/").header("connection"), Some("keep-alive"));
    }
    let last = client.get("/");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(client.is_closed_within(Duration::from_secs(10)));
    // Those that came along are not served.
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
    for _ in 0..3 {
        assert_eq!(client.response("GET").status, 200);
    }
    assert!(client.try_response("GET").is_none());
    assert_eq!(origin.requests().len(), 6);
}

#[test]
fn an_http2_connection_says_goaway_after_its_last_request_and_serves_it() {
    let origin = Origin::named("a");
    let weir = Weir::start(config("requests_per_connection: 3", &origin));
    run(async {
        let (mut client, connection) = connect(&weir).await;
        for _ in 0..3 {
            client = client.ready().await.unwrap();
            assert_eq!(client.send_request(get(), true).unwrap().0.await.unwrap().status(), 200);
        }
        drop(client);
        tokio::time::timeout(Duration::from_secs(10), connection).await.unwrap().unwrap().unwrap();
    });
    weir.wait_for(&["weir_listener_connections{"], 0.0);
}

#[test]
fn a_client_may_have_so_many_streams_at_once() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_millis(700)));
    let weir = Weir::start(config("streams: 2", &origin));
    run(async {
        let (mut client, _connection) = connect(&weir).await;
        // The client knows the limit once it has seen SETTINGS.
        client.send_request(get(), true).unwrap().0.await.unwrap();
        let responses: Vec<_> = (0..6)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move {
                    client = client.ready().await.unwrap();
                    client.send_request(get(), true).unwrap().0.await.unwrap().status()
                })
            })
            .collect();
        let mut most = 0.0_f64;
        let answered = || {
            most = most.max(weir.sum(&["weir_requests_in_flight"]));
            responses.iter().all(|response| response.is_finished())
        };
        wait_until("all are answered", answered).await;
        assert!(most <= 2.0, "{most} at once");
        for response in responses {
            assert_eq!(response.await.unwrap(), 200);
        }
    });
    eventually("all served", || origin.requests().len() == 7);
}

#[test]
fn a_connection_that_is_only_being_closed_counts_under_both_limits() {
    for limit in ["connections: 1", "connections_per_ip: 1"] {
        let origin = Origin::named("a");
        let weir = Weir::start(config(limit, &origin));
        let mut first = Client::connect(weir.web());
        // It may be sending still, so its end is waited for.
        first.send("GET / HTTP/9.9\r\nHost: a\r\n\r\nmore");
        assert_eq!(first.response("GET").status, 505);
        Client::connect(weir.web()).read_to_end();
        weir.wait_for(&["weir_listener_connections_total", "refused_limit"], 1.0);
        drop(first);
        weir.wait_for(&["weir_listener_connections{"], 0.0);
        assert_eq!(Client::connect(weir.web()).get("/").status, 200, "{limit}");
    }
}

#[test]
fn split_cookie_fields_count_as_one_and_the_authority_counts_too() {
    let origin = Origin::named("a");
    let weir = Weir::start(config("headers: 10", &origin));
    for (fields, status) in [(8, 200), (9, 431)] {
        run(async {
            let (mut client, _connection) = connect(&weir).await;
            let mut request = get();
            for at in 0..fields {
                let name: http::HeaderName = format!("x-{at}").parse().unwrap();
                request.headers_mut().insert(name, "1".parse().unwrap());
            }
            for at in 0..40 {
                request.headers_mut().append("cookie", format!("c{at}=1").parse().unwrap());
            }
            assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), status);
        });
        // The same over HTTP/1.
        let mut client = Client::connect(weir.web());
        let lines: String = (0..fields).map(|at| format!("X-{at}: 1\r\n")).collect();
        client.send(format!("GET / HTTP/1.1\r\nHost: example.org\r\n{lines}Cookie: a=1; b=2\r\n\r\n"));
        assert_eq!(client.response("GET").status, status);
    }
    let cookie = origin.requests()[0].all("cookie").join("");
    assert_eq!(cookie.matches("; ").count(), 39, "{cookie}");
}
