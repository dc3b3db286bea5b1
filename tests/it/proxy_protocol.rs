//! The PROXY protocol: required of trusted peers where a listener says so, and sent to backends that ask for it.

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::support::http2::run;
use crate::support::pki::Issued;
use crate::support::tls::acceptor;
use crate::support::{Client, Config, Origin, Reply, THROUGHOUT, UPSTREAM_TLS, Weir, eventually};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn config(backend: impl Display) -> Config {
    Config::to(backend).set("trusted_proxies", "[127.0.0.1/32]").set("listeners.web.proxy_protocol", true)
}

/// A backend that wants the header, too.
fn sending(backend: impl Display) -> Config {
    config(backend).set("upstreams.up.send_proxy", "v2")
}

fn before(origin: &Origin) -> Weir {
    Weir::start(config(origin))
}

/// A header of version 2 for an IPv4 client, with so many bytes of TLVs behind the addresses.
fn v2(client: [u8; 4], port: u16, tlvs: usize) -> Vec<u8> {
    let length = u16::try_from(12 + tlvs).unwrap().to_be_bytes();
    let addresses = [&client[..], &[198, 51, 100, 7], &port.to_be_bytes(), &443_u16.to_be_bytes()].concat();
    [SIGNATURE, &[0x21, 0x11], &length, &addresses, &vec![0xee; tlvs]].concat()
}

fn with_header(weir: &Weir, header: &[u8]) -> Client {
    let mut client = Client::connect(weir.web());
    client.send(header);
    client
}

fn errors(weir: &Weir, count: f64) {
    weir.wait_for(&["weir_listener_connections_total", "proxy_error"], count);
}

#[test]
fn the_proxy_header_gives_the_client_address_to_fields_and_log() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let headers = [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 4000 443\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 443\r\n".to_vec(), "2001:db8::1"),
        (v2([192, 0, 2, 3], 4000, 0), "192.0.2.3"),
        (v2([192, 0, 2, 4], 4000, 60_000), "192.0.2.4"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ([SIGNATURE, &[0x20, 0, 0, 0]].concat(), "127.0.0.1"),
    ];
    for (at, (header, client)) in headers.iter().enumerate() {
        let mut connection = with_header(&weir, header);
        for _ in 0..2 {
            assert_eq!(connection.get("/").status, 200);
            assert_eq!(origin.last_request().header("x-forwarded-for"), Some(*client));
            assert_eq!(origin.last_request().header("x-real-ip"), Some(*client));
        }
        assert_eq!(weir.access_log_of(2 * at + 2).last().unwrap()["client"], *client);
    }
    errors(&weir, 0.0);
}

#[test]
fn fields_are_believed_from_a_client_that_is_a_trusted_proxy_itself() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let forwarded = [("X-Forwarded-For", "203.0.113.9")];
    with_header(&weir, b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n").get_with("/", &forwarded);
    assert_eq!(origin.last_request().header("x-real-ip"), Some("192.0.2.1"));
    with_header(&weir, b"PROXY TCP4 127.0.0.1 198.51.100.7 1 2\r\n").get_with("/", &forwarded);
    assert_eq!(origin.last_request().header("x-real-ip"), Some("203.0.113.9"));
}

#[test]
fn the_header_may_come_byte_by_byte_and_with_the_request_in_one() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for header in [b"PROXY TCP4 192.0.2.1 198.51.100.7 4000 443\r\n".to_vec(), v2([192, 0, 2, 3], 1, 9)] {
        let whole = [&header[..], request].concat();
        assert_eq!(with_header(&weir, &whole).response("GET").status, 200);
        let mut client = Client::connect(weir.web());
        for byte in whole {
            client.send([byte]);
        }
        assert_eq!(client.response("GET").status, 200);
    }
}

#[test]
fn http2_follows_the_header_too() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut stream = TcpStream::connect(weir.web()).unwrap();
    stream.write_all(&v2([192, 0, 2, 3], 4000, 0)).unwrap();
    stream.set_nonblocking(true).unwrap();
    run(async {
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://example.org/").body(()).unwrap();
        let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
    assert_eq!(origin.last_request().header("x-forwarded-for"), Some("192.0.2.3"));
}

#[test]
fn a_connection_without_a_valid_proxy_header_is_closed_without_a_response_and_counted() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut unknown = v2([192, 0, 2, 3], 1, 0);
    unknown[13] = 0x41;
    let mut short = v2([192, 0, 2, 3], 1, 0);
    short[15] = 11;
    let bad = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.7 4000 443\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.7 99999 443\r\n".to_vec(),
        format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)).into_bytes(),
        unknown,
        short,
    ];
    for (at, bytes) in bad.iter().enumerate() {
        assert_eq!(with_header(&weir, bytes).read_to_end(), b"", "{at}");
        errors(&weir, at as f64 + 1.0);
    }
    // One that breaks off is no better; one that never says anything is only a look at the port.
    let half = with_header(&weir, b"PROXY TCP4 192.0.2.1");
    half.stream.shutdown(std::net::Shutdown::Write).unwrap();
    errors(&weir, bad.len() as f64 + 1.0);
    drop(Client::connect(weir.web()));
    weir.wait_for(&["weir_listener_connections{"], 0.0);
    errors(&weir, bad.len() as f64 + 1.0);
    assert!(origin.requests().is_empty());
    assert!(weir.access_log().is_empty());
}

#[test]
fn a_proxy_header_that_stalls_is_cut_at_its_deadline() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin).set("listeners.web.timeouts.header", "300ms"));
    for start in [&b""[..], b"PROXY TCP4 ", SIGNATURE] {
        let mut client = with_header(&weir, start);
        assert!(client.is_closed_within(Duration::from_secs(10)));
    }
    weir.wait_for(&["weir_listener_connections_total", "timeout"], 3.0);
}

#[test]
fn an_untrusted_peer_is_closed_and_a_reload_may_change_the_trusted_ones() {
    let origin = Origin::named("a");
    let trusting = config(&origin);
    let others = config(&origin).set("trusted_proxies", "[192.0.2.0/24]");
    let weir = Weir::start(&others);
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.7 4000 443\r\n";
    // Closed before it has sent anything: its own write may fail.
    let closed = |weir: &Weir| Client::connect(weir.web()).is_closed_within(Duration::from_secs(10));
    assert!(closed(&weir));
    errors(&weir, 1.0);
    assert!(weir.reload(&trusting));
    assert_eq!(with_header(&weir, header).get("/").status, 200);
    assert!(weir.reload(&others));
    assert!(closed(&weir));
    errors(&weir, 2.0);
}

#[test]
fn connections_are_limited_by_the_address_in_the_header() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin).set("listeners.web.limits.connections_per_ip", 1));
    let mut first = with_header(&weir, &v2([192, 0, 2, 1], 1, 0));
    let mut second = with_header(&weir, &v2([192, 0, 2, 2], 1, 0));
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let third = with_header(&weir, &v2([192, 0, 2, 1], 2, 0)).read_to_end();
    assert!(third.is_empty() || third.starts_with(b"HTTP/1.1 503"), "{third:?}");
    weir.wait_for(&["weir_listener_connections_total", "refused_limit"], 1.0);
}

#[test]
fn a_hash_of_the_client_goes_by_the_header() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let [a, b, c] = &origins;
    let config = config(a).backend("up.b", b, "").backend("up.c", c, "");
    let weir = Weir::start(config.set("upstreams.up", "balance: consistent_hash, hash: { client: {} }"));
    let of = |client: u8| with_header(&weir, &v2([192, 0, 2, client], 4000, 0)).get("/").text();
    let first: Vec<_> = (0..30).map(of).collect();
    assert_eq!((0..30).map(of).collect::<Vec<_>>(), first, "a client stays where it is");
    assert!(["a", "b", "c"].iter().all(|name| first.iter().any(|answer| answer == name)), "{first:?}");
}

#[test]
fn a_connection_without_its_proxy_header_does_not_delay_the_shutdown() {
    let origin = Origin::named("a");
    let mut weir = before(&origin);
    let client = Client::connect(weir.web());
    weir.wait_for(&["weir_listener_connections{"], 1.0);
    let start = std::time::Instant::now();
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "not at the deadline of the header: {:?}", start.elapsed());
    drop(client);
}

/// Reads a header of version 2 and the head of a request behind it; then answers.
fn announced(mut stream: TcpStream) -> Option<(Vec<u8>, String)> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).ok()?;
    assert_eq!(&fixed[..12], SIGNATURE);
    let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
    stream.read_exact(&mut rest).ok()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    // What comes next on this connection would go by the same name: there must be nothing.
    let mut more = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.read_to_end(&mut more);
    assert!(more.is_empty(), "{}", String::from_utf8_lossy(&more));
    Some(([&fixed[12..14], &rest].concat(), String::from_utf8_lossy(&head).into_owned()))
}

type Seen = std::sync::Arc<std::sync::Mutex<Vec<(Vec<u8>, String)>>>;

fn backend() -> (Origin, Seen) {
    let seen = Seen::default();
    let mine = std::sync::Arc::clone(&seen);
    let origin = Origin::raw(move |stream| {
        if let Some(one) = announced(stream) {
            mine.lock().unwrap().push(one);
        }
    });
    (origin, seen)
}

/// By their paths: they are seen when their connections end, and which of two ends first is nobody's promise.
fn requests(seen: &Seen, count: usize) -> Vec<(Vec<u8>, String)> {
    eventually(&format!("{count} announced requests"), || {
        let mut seen: Vec<_> = seen.lock().unwrap().iter().filter(|(_, head)| !head.is_empty()).cloned().collect();
        seen.sort_by(|(_, one), (_, other)| one.cmp(other));
        (seen.len() >= count).then_some(seen)
    })
}

#[test]
fn a_backend_gets_both_addresses_in_a_proxy_header_on_a_connection_per_request() {
    let (origin, seen) = backend();
    let weir = Weir::start(sending(&origin));
    let mut client = with_header(&weir, &v2([192, 0, 2, 1], 4000, 30));
    assert_eq!((client.get("/1").text(), client.get("/2").text()), ("ok".into(), "ok".into()));
    let other = with_header(&weir, b"PROXY TCP6 2001:db8::1 2001:db8::2 7 8\r\n").get("/3");
    assert_eq!(other.status, 200);
    let seen = requests(&seen, 3);
    let four = [&[0x21, 0x11, 192, 0, 2, 1, 198, 51, 100, 7][..], &4000_u16.to_be_bytes(), &443_u16.to_be_bytes()];
    assert_eq!((&seen[0].0, &seen[1].0), (&four.concat(), &four.concat()));
    let ip = |last: u8| [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
    assert_eq!(seen[2].0, [&[0x21, 0x21][..], &ip(1), &ip(2), &[0, 7, 0, 8]].concat());
    assert_eq!(origin.connections(), 3);
}

#[test]
fn the_sent_proxy_header_names_direct_and_forwarded_clients() {
    let (origin, seen) = backend();
    let weir = Weir::start(sending(&origin).without("listeners.web.proxy_protocol"));
    let mut client = Client::connect(weir.web());
    let port = client.stream.local_addr().unwrap().port();
    client.get("/1");
    client.get_with("/2", &[("X-Forwarded-For", "203.0.113.9")]);
    let local = Ipv4Addr::LOCALHOST.octets();
    let header = |from: [u8; 4], port: u16| {
        [&[0x21, 0x11][..], &from, &local, &port.to_be_bytes(), &weir.web().port().to_be_bytes()].concat()
    };
    let seen = requests(&seen, 2);
    assert_eq!(seen[0].0, header(local, port));
    assert_eq!(seen[1].0, header([203, 0, 113, 9], 0), "its port is not known");
}

#[test]
fn probes_of_both_kinds_say_local() {
    for check in ["http: { path: / }", "tcp: {}"] {
        let (origin, seen) = backend();
        let config = sending(&origin).set("upstreams.up.health_check", check);
        let weir = Weir::start(config.set("upstreams.up.health_check.interval", "1s"));
        weir.wait_for_state("a", "up");
        let first = eventually("a probe", || seen.lock().unwrap().first().cloned());
        assert_eq!(first.0, [0x20, 0x00], "{check}");
    }
}

#[test]
fn a_websocket_begins_with_the_header_too() {
    let origin = Origin::raw(|mut stream| {
        let mut fixed = [0; 28];
        stream.read_exact(&mut fixed).unwrap();
        assert_eq!(&fixed[12..16], [0x21, 0x11, 0, 12]);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        while stream.read(&mut byte).is_ok_and(|read| read == 1) {
            let _ = stream.write_all(&byte);
        }
    });
    let weir = Weir::start(sending(&origin));
    let mut client = with_header(&weir, &v2([192, 0, 2, 1], 4000, 0));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    assert_eq!(client.response("GET").status, 101);
    client.send("echo");
    assert_eq!(client.exactly(4).unwrap(), b"echo");
}

/// A backend that reads the header in plain and speaks TLS behind it; what it was told.
fn announced_under_tls(issued: &Issued) -> (SocketAddr, Seen) {
    let (seen, tls) = (Seen::default(), acceptor(issued, "http/1.1"));
    let mine = std::sync::Arc::clone(&seen);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move |mut tcp: tokio::net::TcpStream, tls: TlsAcceptor, seen: Seen| -> std::io::Result<()> {
        let mut fixed = [0; 16];
        tcp.read_exact(&mut fixed).await?;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
        tcp.read_exact(&mut rest).await?;
        let mut stream = tls.accept(tcp).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        seen.lock().unwrap().push(([&fixed[12..14], &rest].concat(), String::from_utf8_lossy(&head).into_owned()));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
        stream.flush().await?;
        // Nothing else may come by this name.
        assert!(stream.read_u8().await.is_err());
        Ok(())
    };
    std::thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, tls.clone(), std::sync::Arc::clone(&mine)));
            }
        });
    });
    (address, seen)
}

#[test]
fn the_header_goes_before_the_handshake_with_a_backend_under_tls() {
    let (folder, issued) = THROUGHOUT.files();
    let (backend, seen) = announced_under_tls(&issued.unwrap());
    let config = sending(backend)
        .set("upstreams.up", UPSTREAM_TLS)
        .set("upstreams.up.health_check", "http: { path: /healthz }, interval: 1s");
    let weir = Weir::start_in(folder, config);
    weir.wait_for_state("a", "up");
    let mut client = with_header(&weir, &v2([192, 0, 2, 1], 4000, 0));
    assert_eq!((client.get("/1").text(), client.get("/2").text()), ("ok".into(), "ok".into()));
    let seen = seen.lock().unwrap().clone();
    let of = |path: &str| seen.iter().find(|(_, head)| head.starts_with(&format!("GET {path} "))).unwrap().0.clone();
    let four = [&[0x21, 0x11, 192, 0, 2, 1, 198, 51, 100, 7][..], &4000_u16.to_be_bytes(), &443_u16.to_be_bytes()];
    assert_eq!((of("/1"), of("/2")), (four.concat(), four.concat()));
    assert_eq!(of("/healthz"), [0x20, 0], "probes say LOCAL");
}

#[test]
fn a_backend_may_be_another_weir() {
    let origin = Origin::start(|_| Reply::new(200, "behind two"));
    let inner = before(&origin);
    let outer = Weir::start(sending(inner.web()));
    let mut client = with_header(&outer, &v2([192, 0, 2, 1], 4000, 0));
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "behind two");
    }
    // The outer one's own word for the client comes from a peer that the inner one does not trust.
    assert_eq!(origin.last_request().header("x-forwarded-for"), Some("192.0.2.1"));
    assert_eq!(inner.access_log_of(3)[0]["client"], "192.0.2.1");
}
