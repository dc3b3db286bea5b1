//! HTTP/2 by prior knowledge on the same port.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::support::frames::{ACK, DATA, END_HEADERS, END_STREAM, Frames, GET, HEADERS, PING, WINDOW_UPDATE, frame};
use crate::support::http2::{connect, rest, run, send_all};
use crate::support::{Client, Config, Origin, Reply, Weir, delay, wait_until};

fn before(origin: &Origin) -> Weir {
    Weir::start(Config::to(origin))
}

fn request(method: &str, path: &str) -> http::Request<()> {
    http::Request::builder().method(method).uri(format!("http://example.org{path}")).body(()).unwrap()
}

async fn body(response: http::Response<h2::RecvStream>) -> Vec<u8> {
    rest(&mut response.into_body()).await
}

#[test]
fn http2_and_http1_are_distinguished_on_one_port() {
    let origin = Origin::start(|request| Reply::new(200, &request.target));
    let weir = before(&origin);
    run(async {
        let mut client = connect(weir.web()).await;
        for path in ["/1", "/2"] {
            let (response, _) = client.send_request(request("GET", path), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.headers().get("connection").is_none());
            assert_eq!(body(response).await, path.as_bytes());
        }
    });
    assert_eq!(Client::connect(weir.web()).get("/3").text(), "/3");
    assert_eq!(origin.requests()[0].header("host"), Some("example.org"));
    // A request that begins like the preface is HTTP/1 all the same.
    let mut client = Client::connect(weir.web());
    client.send("P");
    client.send("ROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("PROPFIND").status, 200);
}

#[test]
fn an_empty_last_data_frame_leaves_the_pooled_connection_clean() {
    let origin = Origin::start(|request| Reply::new(200, &request.body));
    let weir = before(&origin);
    run(async {
        let mut client = connect(weir.web()).await;
        for _ in 0..5 {
            let (response, mut stream) = client.send_request(request("POST", "/"), false).unwrap();
            stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
            assert_eq!(body(response.await.unwrap()).await, b"hello");
            // Then the backend's connection is back in the pool.
            weir.wait_for(&["weir_requests_in_flight"], 0.0);
        }
    });
    assert_eq!(origin.requests().len(), 5);
    assert_eq!(origin.connections(), 1, "one connection served them all: no stray byte broke it");
}

#[test]
fn many_streams_and_large_bodies_share_a_connection() {
    let origin = Origin::start(|request| Reply::new(200, &request.body));
    let weir = before(&origin);
    let large: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 253) as u8).collect();
    run(async {
        let client = connect(weir.web()).await;
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (client, large) = (client.clone(), large.clone());
                tokio::spawn(async move {
                    let mut client = client.ready().await.unwrap();
                    let (response, mut stream) = client.send_request(request("POST", "/"), false).unwrap();
                    send_all(&mut stream, large.clone().into(), true).await;
                    assert!(body(response.await.unwrap()).await == large);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_stream_that_is_reset_lets_its_backend_go() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(5)));
    let weir = before(&origin);
    run(async {
        let mut client = connect(weir.web()).await;
        let (response, mut stream) = client.send_request(request("GET", "/"), true).unwrap();
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::from_millis(300), response).await.unwrap_err();
        weir.wait_for(&["weir_backend_in_flight"], 1.0);
        stream.send_reset(h2::Reason::CANCEL);
        wait_until("its backend is let go", || weir.sum(&["weir_backend_in_flight"]) == 0.0).await;
    });
}

#[test]
fn faults_and_cookies_are_right_over_http2() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    run(async {
        let mut client = connect(weir.web()).await;
        let mut crumbs = request("GET", "/");
        crumbs.headers_mut().append("cookie", "a=1".parse().unwrap());
        crumbs.headers_mut().append("cookie", "b=2".parse().unwrap());
        client.send_request(crumbs, true).unwrap().0.await.unwrap();
        let mut star = request("GET", "/");
        *star.uri_mut() = "*".parse().unwrap();
        star.headers_mut().append("host", "a".parse().unwrap());
        assert_eq!(client.send_request(star, true).unwrap().0.await.unwrap().status(), 400);
        let long = request("GET", &format!("/{}", "x".repeat(9000)));
        assert_eq!(client.send_request(long, true).unwrap().0.await.unwrap().status(), 414);
    });
    assert_eq!(origin.last_request().all("cookie"), ["a=1; b=2"]);
}

#[test]
fn an_idle_http2_connection_does_not_delay_the_shutdown() {
    let origin = Origin::named("a");
    let mut weir = before(&origin);
    run(async {
        let mut client = connect(weir.web()).await;
        client.send_request(request("GET", "/"), true).unwrap().0.await.unwrap();
        let start = Instant::now();
        weir.signal(libc::SIGTERM);
        let status = tokio::task::spawn_blocking(move || weir.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    });
}

#[test]
fn a_stream_whose_body_stops_gets_408_and_its_backend_is_released() {
    let origin = Origin::named("a");
    let config =
        Config::to(&origin).set("listeners.web.timeouts.body", "300ms").set("routes.all.timeouts.write", "300ms");
    let weir = Weir::start(config);
    run(async {
        let mut client = connect(weir.web()).await;
        let (response, mut stream) = client.send_request(request("POST", "/"), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 408);
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "408"], 1.0);
}

#[test]
fn backends_may_speak_http2_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        run(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let path = request.uri().path().to_owned();
                        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
                        stream.send_data(Bytes::from(path), true).unwrap();
                    }
                });
            }
        });
    });
    let weir =
        Weir::start(Config::to(address).set("upstreams.up", "protocol: h2c, health_check: { http: { path: / } }"));
    weir.wait_for_state("a", "up");
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/one").text(), "/one");
    assert_eq!(client.get("/two").text(), "/two");
    run(async {
        let mut client = connect(weir.web()).await;
        let (response, _) = client.send_request(request("GET", "/three"), true).unwrap();
        assert_eq!(body(response.await.unwrap()).await, b"/three");
    });
}

#[test]
fn a_stream_that_is_reset_while_it_waits_frees_its_place() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_millis(1500)));
    let weir = Weir::start(Config::to(&origin).set("upstreams.up", "max_in_flight: 1, queue: { timeout: 20s }"));
    let depth = async |count: f64| {
        wait_until("the depth of the queue", || weir.sum(&["weir_upstream_queue_depth"]) == count).await;
    };
    run(async {
        let mut sender = connect(weir.web()).await;
        let (held, _) = sender.send_request(request("GET", "/held"), true).unwrap();
        wait_until("the first is under way", || !origin.requests().is_empty()).await;
        let (waits, mut stream) = sender.send_request(request("GET", "/reset"), true).unwrap();
        let mut other = connect(weir.web()).await;
        let (cut, _) = other.send_request(request("GET", "/cut"), true).unwrap();
        depth(2.0).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(waits);
        depth(1.0).await;
        drop((cut, other));
        depth(0.0).await;
        assert_eq!(held.await.unwrap().status(), 200);
    });
    assert_eq!(origin.requests().len(), 1);
}

/// Clients whose answer comes only after the process was asked to stop.
fn answered_at_the_end(weir: &Weir, clients: usize) -> Vec<Frames> {
    let ask = |_| {
        let mut client = Frames::connect(weir.web());
        assert!(client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET)));
        client
    };
    let mut clients: Vec<_> = (0..clients).map(ask).collect();
    weir.wait_for(&["weir_backend_in_flight"], clients.len() as f64);
    weir.signal(libc::SIGTERM);
    for client in &mut clients {
        let ping = client.next_of(PING).unwrap();
        assert!(client.send(&frame(PING, ACK, 0, &ping.payload)));
        let data = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == DATA && frame.flags == END_STREAM);
        assert!(data.is_some_and(|data| data.stream == 1), "the response was cut");
    }
    clients
}

#[test]
fn http2_requests_in_flight_at_shutdown_are_answered_whole() {
    let origin = Origin::start(|_| Reply::new(200, "a").after(Duration::from_millis(700)));
    let mut weir = before(&origin);
    let clients = answered_at_the_end(&weir, 12);
    drop(clients);
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn at_shutdown_an_http2_client_may_finish_sending_before_the_close() {
    let origin = Origin::start(|_| Reply::new(200, "a").after(Duration::from_millis(700)));
    let mut weir = before(&origin);
    let mut clients = answered_at_the_end(&weir, 1);
    let client = &mut clients[0];
    while client.next().is_some() {}
    for _ in 0..10 {
        assert!(client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])), "reset while it spoke");
        delay(Duration::from_millis(20));
    }
    drop(clients);
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn an_idle_http2_client_that_stays_does_not_delay_the_shutdown() {
    let origin = Origin::named("a");
    let mut weir = before(&origin);
    let mut client = Frames::connect(weir.web());
    assert!(client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET)));
    client.next_of(DATA).unwrap();
    let start = Instant::now();
    weir.signal(libc::SIGTERM);
    let ping = client.next_of(PING).unwrap();
    client.send(&frame(PING, ACK, 0, &ping.payload));
    assert_eq!(weir.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn interim_responses_of_a_backend_reach_a_client_of_http2() {
    let origin = Origin::start(|_| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
        Reply::raw(format!("{hints}{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    });
    let weir = Weir::start(Config::to(&origin));
    run(async {
        let mut client = connect(weir.web()).await;
        let (mut response, _) = client.send_request(request("GET", "/"), true).unwrap();
        let mut hints = Vec::new();
        while let Some(hint) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
            let hint = hint.unwrap();
            hints.push((hint.status().as_u16(), hint.headers()["link"].to_str().unwrap().to_owned()));
        }
        assert_eq!(hints, vec![(103, "</a.css>; rel=preload".to_owned()); 2]);
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(rest(&mut response.into_body()).await, b"ok");
    });
}

#[test]
fn a_request_that_two_readers_could_understand_differently_gets_400() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin));
    let other = "the host differs";
    for (why, fields) in [
        (other, &[("host", "other.example")][..]),
        ("two hosts", &[("host", "example.org"), ("host", "example.org")]),
        ("two lengths", &[("content-length", "0"), ("content-length", "0")]),
    ] {
        run(async {
            let mut client = connect(weir.web()).await;
            let mut request = request("POST", "/");
            for (name, value) in fields {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
            let (response, _) = client.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 400, "{why}");
        });
    }
    assert_eq!(origin.requests().len(), 0);
}
