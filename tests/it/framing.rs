//! Where messages end: what a client and a backend could measure differently is refused or made plain.

use std::fmt::Display;
use std::time::Duration;

use crate::support::echo::Faults;
use crate::support::{Client, Config, Echo, Origin, Reply, Weir, delay, exchange};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn before(address: impl Display) -> Weir {
    Weir::start(Config::to(address))
}

#[test]
fn a_chunked_body_that_is_none_is_refused_and_never_taken_for_a_shorter_one() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    for body in
        ["\r\nabc\r\n0\r\n\r\n", ";\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n", "0\r\nX: a\0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n"]
    {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answer = exchange(weir.web(), request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "nothing after it is a request: {answer}");
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    weir.wait_for(&["weir_faults_total", "bad_request"], 5.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_response_whose_end_could_be_misread_is_refused() {
    let weird = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ];
    let origin =
        Origin::start(move |request| Reply::raw(weird[request.target[1..].parse::<usize>().unwrap()]).and_close());
    let weir = before(&origin);
    for (turn, answer) in weird.iter().enumerate() {
        let response = Client::connect(weir.web()).get(&format!("/{turn}"));
        assert_eq!(response.status, 502, "{answer}: {}", response.text());
    }
    weir.wait_for(&["weir_faults_total", "protocol"], weird.len() as f64);
}

#[test]
fn a_length_that_a_backend_repeats_reaches_the_client_once() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/two" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
    });
    let weir = before(&origin);
    for path in ["/two", "/list"] {
        let response = Client::connect(weir.web()).get(path);
        let lengths: Vec<_> =
            response.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("content-length")).collect();
        assert_eq!((lengths.len(), lengths[0].1.as_str(), response.text().as_str()), (1, "2", "ok"));
    }
}

#[test]
fn a_backend_gets_a_host_from_a_client_that_had_none_to_give() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    assert!(exchange(weir.web(), "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200"));
    assert_eq!(origin.last_request().header("host"), Some(origin.address().to_string().as_str()));
}

#[test]
fn an_upgrade_that_connection_does_not_name_or_that_is_no_websocket_is_none() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    for fields in ["Upgrade: websocket\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n"] {
        let mut client = Client::connect(weir.web());
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.response("GET").text(), "a");
        assert_eq!(origin.last_request().header("upgrade"), None, "{fields}");
        assert_eq!(client.get("/").status, 200, "the connection goes on");
    }
}

#[test]
fn a_response_to_a_declined_upgrade_takes_the_time_it_needs() {
    let origin = Origin::raw(|mut stream| {
        use std::io::{Read, Write};
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
        for _ in 0..6 {
            delay(Duration::from_millis(200));
            let _ = stream.write_all(b"x");
        }
    });
    let weir = Weir::start(Config::to(&origin).set("routes.all.timeouts.read", "600ms"));
    let mut client = Client::connect(weir.web());
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n"));
    assert_eq!(client.response("GET").text(), "xxxxxx");
}

/// The quicker the backend, the sooner Pingora mistook the end of the request for the end of the tunnel.
#[test]
fn a_tunnel_opens_however_quick_the_backend_is() {
    let echo = Echo::start("a", Faults::default());
    let weir = before(&echo);
    for turn in 0..300_u32 {
        let mut client = Client::connect(weir.web());
        assert_eq!(client.get("/").status, 200);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n"));
        assert_eq!(client.response("HEAD").status, 101);
        let words = turn.to_be_bytes();
        client.send(words);
        assert_eq!(client.exactly(4).as_deref(), Some(&words[..]), "tunnel {turn}");
    }
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}
