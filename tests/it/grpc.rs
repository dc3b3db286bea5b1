//! gRPC through Weir, with and without TLS on either side: all kinds of calls with their trailers, errors and deadlines,
//! Weir's own faults in gRPC's words, and the health check.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::support::grpc::{Caller, Server, message, next_message, status};
use crate::support::http2::{next, rest, run, send_all};
use crate::support::{
    Client, Config, Origin, PLAIN, Pace, THROUGHOUT, WAYS, Way, Weir, delayed, eventually, size, spare, wait_until,
};

fn config(way: Way, backend: impl Display) -> Config {
    way.config(backend)
        .without_access_log()
        .set("routes.all.match.hosts", "[example.org]")
        .set("upstreams.up.protocol", if way.backend { "h2" } else { "h2c" })
}

/// A server, and Weir before it.
fn start(way: Way, route: &str) -> (Server, Weir) {
    let (folder, certificate) = way.files();
    let server = Server::start_with(certificate.as_ref());
    let weir = Weir::start_in(folder, config(way, server.address).set("routes.all", route));
    (server, weir)
}

async fn connect(way: Way, weir: &Weir) -> Caller {
    Caller::connect(weir.web(), way.client).await
}

/// Does it each way.
fn each_way(test: impl AsyncFn(Way, &Server, &Weir)) {
    for way in WAYS {
        let (server, weir) = start(way, "");
        run(test(way, &server, &weir));
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
    }
}

#[test]
fn all_four_kinds_of_calls_end_in_their_trailers() {
    each_way(async |way, _, weir| {
        let mut client = connect(way, weir).await;
        for (path, sent, want) in [
            ("/unary", vec![&b"one"[..]], vec![&b"one"[..]]),
            ("/server-stream", vec![b""], vec![b"\x00", b"\x01", b"\x02", b"\x03", b"\x04"]),
            ("/client-stream", vec![b"a", b"b", b"c"], vec![b"\x03"]),
            ("/both", vec![b"a", b"bc", b""], vec![b"a", b"bc", b""]),
        ] {
            let (response, mut out) = client.call(path).await;
            for (at, one) in sent.iter().enumerate() {
                out.send_data(message(one), at + 1 == sent.len()).unwrap();
            }
            let response = response.await.unwrap();
            assert_eq!(response.headers()["x-te"], "trailers", "{path}");
            assert_eq!(response.headers()["x-timeout"], "60S", "{path}");
            let mut body = response.into_body();
            let mut inbox = BytesMut::new();
            for one in want {
                assert_eq!(next_message(&mut body, &mut inbox).await.unwrap(), one, "{path}");
            }
            assert_eq!(next(&mut body).await, None, "{path}");
            let trailers = body.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "0", "{path}");
            assert_eq!(trailers["grpc-message"], "as%20asked", "{path}");
        }
    });
}

#[test]
fn a_stream_both_ways_carries_each_message_as_it_comes() {
    each_way(async |way, _, weir| {
        let mut client = connect(way, weir).await;
        let (response, mut out) = client.call("/chat").await;
        out.send_data(message(b"one"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut inbox = BytesMut::new();
        assert_eq!(next_message(&mut body, &mut inbox).await.unwrap(), "one");
        for text in ["two", "three"] {
            out.send_data(message(text.as_bytes()), false).unwrap();
            assert_eq!(next_message(&mut body, &mut inbox).await.unwrap(), text, "before the request has ended");
        }
        out.send_data(Bytes::new(), true).unwrap();
        assert_eq!(next(&mut body).await, None);
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn errors_of_the_server_pass_alone_and_behind_messages() {
    each_way(async |way, _, weir| {
        let mut client = connect(way, weir).await;
        for (path, want) in [("/fails", "5"), ("/breaks", "13")] {
            let (response, mut out) = client.call(path).await;
            out.send_data(message(b"x"), true).unwrap();
            assert_eq!(status(response.await.unwrap()).await, want);
        }
    });
}

#[test]
fn a_message_of_10_mib_passes_both_ways() {
    let large: Vec<u8> = (0..10 << 20_u32).map(|i: u32| (i % 251) as u8).collect();
    each_way(async |way, _, weir| {
        let mut client = connect(way, weir).await;
        let (response, mut out) = client.call("/unary").await;
        let sending = message(&large);
        let sender = tokio::spawn(async move { send_all(&mut out, sending, true).await });
        let mut body = response.await.unwrap().into_body();
        assert!(rest(&mut body).await[5..] == large[..]);
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        sender.await.unwrap();
    });
}

#[test]
fn a_call_that_its_client_gives_up_is_given_up_at_the_server() {
    each_way(async |way, server, weir| {
        let mut client = connect(way, weir).await;
        for count in 1..=3 {
            let (response, mut out) = client.call("/silent").await;
            out.send_data(message(b"x"), count % 2 == 0).unwrap();
            tokio::time::timeout(Duration::from_millis(100), response).await.unwrap_err();
            out.send_reset(h2::Reason::CANCEL);
            wait_until("the server has heard of it", || server.cancelled() == count).await;
        }
        // The connection to the server has outlived it.
        let (response, mut out) = client.call("/unary").await;
        out.send_data(message(b"x"), true).unwrap();
        assert_eq!(status(response.await.unwrap()).await, "0");
    });
}

#[test]
fn an_unreachable_server_is_grpc_status_unavailable() {
    let weir = Weir::start(config(PLAIN, spare()));
    run(async {
        let mut client = connect(PLAIN, &weir).await;
        let (response, mut out) = client.call("/unary").await;
        out.send_data(message(b"x"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-message"], "The server could not be reached.");
        assert!(response.headers().contains_key("x-request-id"));
        assert_eq!(status(response).await, "14");
    });
    // It is what it was for everybody else.
    assert_eq!(Client::connect(weir.web()).get_with("/", &[("Host", "example.org")]).status, 502);
    weir.wait_for(&["weir_faults_total", "connect"], 2.0);
}

#[test]
fn a_route_deadline_and_a_missing_route_have_their_grpc_statuses() {
    for way in WAYS {
        let (_server, weir) = start(way, "timeouts: { request: 500ms }");
        run(async {
            let mut client = connect(way, &weir).await;
            for ends in [true, false] {
                let (response, mut out) = client.call("/silent").await;
                out.send_data(message(b"x"), ends).unwrap();
                assert_eq!(status(response.await.unwrap()).await, "4", "DEADLINE_EXCEEDED");
            }
            let (response, mut out) = client.call_at("example.com", "/").await;
            out.send_data(message(b"x"), true).unwrap();
            assert_eq!(status(response.await.unwrap()).await, "12", "UNIMPLEMENTED");
        });
        weir.wait_for(&["weir_faults_total", "timeout"], 2.0);
    }
}

#[test]
fn a_deadline_has_its_grpc_status_whatever_the_client_is_sending() {
    for way in WAYS {
        let (_server, weir) = start(way, "timeouts: { request: 500ms }");
        run(async {
            let mut client = connect(way, &weir).await;
            // It goes on talking.
            let (response, mut out) = client.call("/silent").await;
            let talking = tokio::spawn(async move {
                while out.send_data(message(b"x"), false).is_ok() {
                    delayed(Duration::from_millis(20)).await;
                }
            });
            assert_eq!(status(response.await.unwrap()).await, "4", "{way:?}: talking");
            talking.await.unwrap();
            // It cannot get rid of what it has to say.
            let (response, mut out) = client.call("/silent").await;
            let sender = tokio::spawn(async move {
                let _ = out.send_data(message(&vec![7; 10 << 20]), true);
                std::future::poll_fn(|cx| out.poll_reset(cx)).await
            });
            assert_eq!(status(response.await.unwrap()).await, "4", "{way:?}: stuck");
            sender.abort();
        });
        weir.wait_for(&["weir_faults_total", "timeout"], 2.0);
    }
}

#[test]
fn the_health_service_decides() {
    let server = Server::start();
    let check = |service: &str| {
        config(PLAIN, server.address)
            .set("upstreams.up.health_check.grpc.service", service)
            .set("upstreams.up.health_check", "interval: 200ms, timeout: 200ms, rise: 1, fall: 1")
    };
    let weir = Weir::start(check("shop"));
    weir.wait_for_state("a", "up");
    server.set_health(2);
    weir.wait_for_state("a", "down");
    let reason = |weir: &Weir, want: &str| {
        eventually(want, || weir.status().to_string().contains(want));
    };
    reason(&weir, "health status NOT_SERVING, expected SERVING");
    server.set_health(1);
    weir.wait_for_state("a", "up");
    assert!(weir.reload(check("other")));
    weir.wait_for_state("a", "down");
    reason(&weir, "NOT_FOUND");
    assert!(weir.reload(check("\"\"")));
    weir.wait_for_state("a", "up");
}

#[test]
fn a_server_without_grpc_fails_the_health_check() {
    let origin = Origin::named("not even HTTP/2");
    let weir = Weir::start(config(PLAIN, &origin).set("upstreams.up.health_check", "grpc: {}, interval: 1s"));
    weir.wait_for_state("a", "down");
}

/// Says its turn and waits for it to come back, until told to stop; then ends the stream and reads its status.
async fn chat(mut client: Caller, stop: Arc<AtomicBool>) {
    let (response, mut out) = client.call("/chat").await;
    out.send_data(message(b"first"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut inbox = BytesMut::new();
    assert_eq!(next_message(&mut body, &mut inbox).await.unwrap(), "first");
    let mut turn = 0_u64;
    while !stop.load(Ordering::Acquire) {
        turn += 1;
        out.send_data(message(&turn.to_be_bytes()), false).unwrap();
        assert_eq!(next_message(&mut body, &mut inbox).await.unwrap(), turn.to_be_bytes()[..]);
        delayed(Duration::from_millis(50)).await;
    }
    out.send_data(Bytes::new(), true).unwrap();
    assert_eq!(next(&mut body).await, None);
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

fn outlive_reloads(way: Way, streams: usize, reloads: usize, every: Duration) {
    let (server, weir) = start(way, "");
    let stop = Arc::new(AtomicBool::new(false));
    let (address, flag) = (weir.web(), Arc::clone(&stop));
    let clients = std::thread::spawn(move || {
        run(async move {
            let mut chats = Vec::new();
            let mut client = Caller::connect(address, way.client).await;
            for stream in 0..streams {
                if stream % 50 == 0 {
                    client = Caller::connect(address, way.client).await;
                }
                chats.push(tokio::spawn(chat(client.clone(), Arc::clone(&flag))));
            }
            for chat in chats {
                chat.await.unwrap();
            }
        });
    });
    weir.wait_for(&["weir_backend_in_flight"], streams as f64);
    let mut pace = Pace::every(every);
    for round in 0..reloads {
        let keep_alive = format!("{}s", 10 + round % 2);
        assert!(weir.reload(config(way, server.address).set("upstreams.up.keep_alive", keep_alive)));
        pace.tick();
    }
    stop.store(true, Ordering::Release);
    clients.join().unwrap();
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "status=\"200\""], streams as f64);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
}

#[test]
fn streams_outlive_reloads() {
    outlive_reloads(PLAIN, 100, 3, Duration::from_millis(300));
}

#[test]
fn streams_under_tls_outlive_reloads() {
    outlive_reloads(THROUGHOUT, 100, 3, Duration::from_millis(300));
}

#[test]
#[ignore = "long: 300 streams each way and a reload a second for two minutes"]
fn streams_outlive_reloads_for_two_minutes() {
    let (streams, reloads) = (size("WEIR_SOAK_STREAMS", 300), size("WEIR_SOAK_RELOADS", 120));
    std::thread::scope(|scope| {
        for way in WAYS {
            scope.spawn(move || outlive_reloads(way, streams, reloads, Duration::from_secs(1)));
        }
    });
}
