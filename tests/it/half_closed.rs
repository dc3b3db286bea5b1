//! Clients of HTTP/1 that close: the whole connection, which is noticed in every state of a request, or their sending side
//! only, which still get their response. Bytes behind the request change neither.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use crate::support::{Client, KINDS, Kind, TlsClient, Weir, tls_config};

/// How many bytes of the next requests are behind a request: none, one, and more than Weir reads ahead.
const BEHIND: [usize; 3] = [0, 1, 200_000];
const NEXT: &str = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";

fn ask(address: SocketAddr, kind: Kind, path: &str, behind: usize) -> Client {
    let mut client = Client::connect(address);
    let next = NEXT.repeat(behind / NEXT.len() + 1);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n{}", kind.field(), &next[..behind]));
    client
}

fn each_kind(test: impl Fn(Kind) + Sync) {
    std::thread::scope(|scope| {
        for kind in KINDS {
            let test = &test;
            scope.spawn(move || test(kind));
        }
    });
}

/// All have left, and nothing was served to them.
fn noticed(weir: &Weir, status: u16, count: f64) {
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_in_flight"], 0.0);
    weir.wait_for(&["weir_listener_connections{"], 0.0);
    assert_eq!(weir.sum(&["weir_requests_total", &status.to_string()]), count);
    assert_eq!(weir.sum(&["weir_requests_total"]), count);
}

#[test]
fn a_client_that_closes_while_its_backend_thinks_is_noticed() {
    each_kind(|kind| {
        let weir = kind.weir("");
        let clients = BEHIND.map(|behind| ask(weir.web(), kind, "/hold", behind));
        weir.wait_for(&["weir_backend_in_flight"], 3.0);
        drop(clients);
        noticed(&weir, 499, 3.0);
    });
}

#[test]
fn a_client_that_closes_in_the_middle_of_its_response_is_noticed() {
    each_kind(|kind| {
        let weir = kind.weir("");
        let clients = BEHIND.map(|behind| {
            let mut client = ask(weir.web(), kind, "/begin", behind);
            assert!(client.until(b"first").is_some());
            client
        });
        weir.wait_for(&["weir_backend_in_flight"], 3.0);
        drop(clients);
        noticed(&weir, 499, 3.0);
    });
}

#[test]
fn a_client_that_closes_while_it_is_queued_is_noticed() {
    each_kind(|kind| {
        let weir = kind.weir("max_in_flight: 1, queue: { size: 9, timeout: 20s },");
        let held = ask(weir.web(), kind, "/hold", 0);
        weir.wait_for(&["weir_backend_in_flight"], 1.0);
        let clients = BEHIND.map(|behind| ask(weir.web(), kind, "/echo", behind));
        let mut body = Client::connect(weir.web());
        body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        weir.wait_for(&["weir_upstream_queue_depth"], 4.0);
        drop((clients, body));
        weir.wait_for(&["weir_upstream_queue_depth"], 0.0);
        drop(held);
        noticed(&weir, 499, 5.0);
    });
}

#[test]
fn a_client_that_closes_under_tls_is_noticed() {
    let weir = Kind::Own.weir("");
    let config = Arc::new(tls_config(None));
    let clients = [0, 1].map(|behind| {
        let mut client = TlsClient::secure(weir.address("secure"), "example.org", &config);
        client.send(format!("GET /hold HTTP/1.1\r\nHost: example.org\r\n\r\n{}", &NEXT[..behind]));
        client
    });
    weir.wait_for(&["weir_backend_in_flight"], 2.0);
    for mut client in clients {
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
    }
    noticed(&weir, 499, 2.0);
}

fn half_close(client: &Client) {
    client.stream.shutdown(Shutdown::Write).unwrap();
}

fn is_served<S: Read + Write>(client: &mut Client<S>, body: &str, about: &str) {
    let response = client.try_response("GET").unwrap_or_else(|| panic!("no response: {about}"));
    assert_eq!((response.status, response.text()), (200, body.to_owned()), "{about}");
}

#[test]
fn a_client_that_half_closes_gets_its_response() {
    each_kind(|kind| {
        let weir = kind.weir("");
        for (path, body) in [("/echo", ""), ("/late", ""), ("/slow", "first-then-last")] {
            let mut clients = [0, 1, NEXT.len() * 3].map(|behind| {
                let client = ask(weir.web(), kind, path, behind);
                half_close(&client);
                (behind, client)
            });
            for (behind, client) in &mut clients {
                let about = format!("{kind:?} {path} {behind}");
                is_served(client, body, &about);
                for _ in 0..*behind / NEXT.len() {
                    is_served(client, "", &about);
                }
                assert!(client.try_response("GET").is_none(), "{about}");
            }
        }
        assert_eq!(weir.sum(&["weir_requests_total", "499"]), 0.0);
        assert_eq!(weir.sum(&["weir_requests_total", "200"]), 18.0);
    });
}

#[test]
fn a_client_of_1_0_that_half_closes_gets_its_response_and_no_interim_one() {
    each_kind(|kind| {
        let weir = kind.weir("");
        let mut client = Client::connect(weir.web());
        client.send(format!("GET /late HTTP/1.0\r\n{}\r\n", kind.field()));
        half_close(&client);
        assert_eq!(client.any_response("GET").unwrap().status, 200);
    });
}

#[test]
fn a_client_that_half_closes_while_it_is_queued_gets_its_response() {
    let weir = Kind::Own.weir("max_in_flight: 1, queue: { size: 9, timeout: 20s },");
    let held = ask(weir.web(), Kind::Own, "/hold", 0);
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    let mut clients = [0, 1, NEXT.len() * 3].map(|behind| {
        let client = ask(weir.web(), Kind::Own, "/echo", behind);
        half_close(&client);
        client
    });
    let mut body = Client::connect(weir.web());
    body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    half_close(&body);
    weir.wait_for(&["weir_upstream_queue_depth"], 4.0);
    // Asked whether they are there, they are.
    assert_eq!(body.any_response("POST").unwrap().status, 100);
    drop(held);
    for client in &mut clients {
        is_served(client, "", "queued");
    }
    is_served(&mut body, "hello", "queued, with a body");
    assert_eq!(weir.sum(&["weir_requests_total", "499"]), 1.0);
}

#[test]
fn a_client_that_half_closes_under_tls_gets_its_response() {
    let weir = Kind::Own.weir("");
    let config = Arc::new(tls_config(None));
    for path in ["/echo", "/late"] {
        let mut client = TlsClient::secure(weir.address("secure"), "example.org", &config);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n\r\n"));
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
        is_served(&mut client, "", path);
    }
}

#[test]
fn a_client_that_resets_its_connection_is_noticed_at_once() {
    let weir = Kind::Own.weir("");
    let mut client = ask(weir.web(), Kind::Own, "/hold", 1);
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    let socket: &TcpStream = &client.stream;
    socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    client.stream.flush().unwrap();
    drop(client);
    noticed(&weir, 499, 1.0);
}
