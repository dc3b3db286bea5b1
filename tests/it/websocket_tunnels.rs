//! The ends of tunnels: one side ends before the other, or breaks off, with clients of HTTP/1 and HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::either::Either;

use crate::support::http2::run;
use crate::support::http2_socket::{self, Http2Socket};
use crate::support::tls::{Accepted, listen};
use crate::support::websocket::accept;
use crate::support::{Config, DEADLINE, PLAIN, WAYS, Way, Weir, delayed, tls, wait_until};

/// A Weir before a backend that does this in its tunnels.
fn start<F: Future<Output = ()> + Send + 'static>(
    way: Way,
    timeouts: &str,
    tunnel: impl Fn(Accepted) -> F + Send + Clone + 'static,
) -> Weir {
    let (folder, certificate) = way.files();
    let backend = listen(certificate.as_ref(), "http/1.1", move |mut stream: Accepted| {
        let tunnel = tunnel.clone();
        async move {
            if accept(&mut stream).await {
                tunnel(stream).await;
            }
        }
    });
    Weir::start_in(folder, way.config(backend).set("routes.all.timeouts", timeouts))
}

/// A client's end of a tunnel.
enum Tunnel {
    Http1(Box<tls::Socket>),
    Http2(Http2Socket),
}

impl Tunnel {
    async fn open(address: SocketAddr, tls: bool, http2: bool) -> Self {
        if http2 {
            let mut sender = http2_socket::connect(address, tls).await;
            let (response, socket) = http2_socket::open(&mut sender, http2_socket::request("/chat")).await.unwrap();
            assert_eq!(response.status(), 200);
            return Self::Http2(socket);
        }
        let mut socket = tls::open(address, tls.then_some("http/1.1")).await;
        let ask = "GET /chat HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        socket.write_all(ask.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self::Http1(Box::new(socket))
    }

    async fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Http1(socket) => socket.write_all(bytes).await.unwrap(),
            Self::Http2(socket) => socket.write_all(bytes).await.unwrap(),
        }
    }

    async fn end(&mut self) {
        match self {
            Self::Http1(socket) => socket.shutdown().await.unwrap(),
            Self::Http2(socket) => socket.shutdown().await.unwrap(),
        }
    }

    /// Breaks off. Not under TLS.
    fn reset(self) {
        match self {
            Self::Http1(socket) => match *socket {
                Either::Left(tcp) => tcp.set_zero_linger().unwrap(),
                Either::Right(_) => panic!("a reset under TLS"),
            },
            Self::Http2(mut socket) => socket.send.send_reset(Reason::CANCEL),
        }
    }

    /// All bytes up to the end.
    async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let read = async {
            match self {
                Self::Http1(socket) => socket.read_to_end(&mut all).await,
                Self::Http2(socket) => socket.read_to_end(&mut all).await,
            }
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap()?;
        Ok(all)
    }
}

/// Does it each way, with both versions of HTTP.
fn each_way(test: impl AsyncFn(Way, bool)) {
    for way in WAYS {
        for http2 in [false, true] {
            run(test(way, http2));
        }
    }
}

async fn all(stream: &mut Accepted) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[test]
fn bytes_of_the_backend_reach_a_client_that_has_ended_its_own() {
    each_way(async |way, http2| {
        let weir = start(way, "", async |mut stream| {
            // Only the end of the client's bytes lets it answer, in two parts.
            let mut answer = all(&mut stream).await;
            answer.extend_from_slice(b" and more");
            stream.write_all(&answer[..4]).await.unwrap();
            delayed(Duration::from_millis(100)).await;
            stream.write_all(&answer[4..]).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut client = Tunnel::open(weir.web(), way.client, http2).await;
        client.send(b"last words").await;
        client.end().await;
        assert_eq!(client.rest().await.unwrap(), b"last words and more", "{way:?} {http2}");
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{way:?} {http2}");
    });
}

#[test]
fn a_client_that_ends_in_its_handshake_gets_the_bytes_of_the_backend() {
    let weir = start(PLAIN, "", async |mut stream| {
        assert!(all(&mut stream).await.is_empty());
        stream.write_all(b"hello").await.unwrap();
    });
    run(async {
        let mut sender = http2_socket::connect(weir.web(), false).await;
        let (response, _) = sender.send_request(http2_socket::request("/"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(crate::support::http2::rest(&mut response.into_body()).await, b"hello");
    });
}

#[test]
fn a_half_closed_tunnel_ends_after_the_timeout_of_tunnels() {
    each_way(async |way, http2| {
        let weir = start(way, "tunnel: 500ms", async |mut stream| {
            stream.write_all(b"hello").await.unwrap();
            all(&mut stream).await;
            // It never ends its own bytes.
            delayed(DEADLINE).await;
        });
        let mut client = Tunnel::open(weir.web(), way.client, http2).await;
        client.end().await;
        let rest = client.rest().await;
        assert!(rest.is_err() || rest.is_ok_and(|rest| rest == b"hello"));
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
    });
}

#[test]
fn the_end_of_the_backend_ends_the_tunnel_after_its_last_bytes() {
    each_way(async |way, http2| {
        let weir = start(way, "", async |mut stream| {
            stream.write_all(&[7; 100_000]).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut client = Tunnel::open(weir.web(), way.client, http2).await;
        assert_eq!(client.rest().await.unwrap().len(), 100_000, "{way:?} {http2}");
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{way:?} {http2}");
    });
}

#[test]
fn a_backend_that_closes_without_a_close_notify_ends_the_tunnel_too() {
    each_way(async |way, http2| {
        let weir = start(way, "", async |mut stream| {
            stream.write_all(b"last words").await.unwrap();
            stream.flush().await.unwrap();
            // Dropped as it is: under TLS, without close_notify.
        });
        let mut client = Tunnel::open(weir.web(), way.client, http2).await;
        assert_eq!(client.rest().await.unwrap(), b"last words", "{way:?} {http2}");
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{way:?} {http2}");
    });
}

#[test]
fn a_reset_of_the_backend_resets_the_stream_of_the_client() {
    let weir = start(PLAIN, "", async |stream| {
        let Either::Left(tcp) = stream else { return };
        tcp.set_zero_linger().unwrap();
    });
    run(async {
        let Tunnel::Http2(mut socket) = Tunnel::open(weir.web(), false, true).await else { return };
        let end = tokio::time::timeout(DEADLINE, socket.receive.data()).await.unwrap();
        assert_eq!(end.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_reset_of_the_client_closes_the_connection_of_the_backend() {
    let (told, tells) = std::sync::mpsc::channel();
    let weir = start(PLAIN, "", move |mut stream| {
        let told = told.clone();
        async move {
            let mut byte = [0];
            while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
            told.send(()).unwrap();
        }
    });
    run(async {
        for ended in [false, true] {
            // Over HTTP/2: before and after the end of the client's bytes.
            let mut client = Tunnel::open(weir.web(), false, true).await;
            client.send(b"x").await;
            if ended {
                client.end().await;
            }
            client.reset();
            wait_until("the backend's connection ends", || tells.try_recv().is_ok()).await;
            // Over HTTP/1.
            let mut client = Tunnel::open(weir.web(), false, false).await;
            client.send(b"x").await;
            if ended {
                client.end().await;
            }
            client.reset();
            wait_until("the backend's connection ends", || tells.try_recv().is_ok()).await;
        }
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_client_that_breaks_off_after_its_end_frees_the_backend_at_once() {
    // The backend ignores the end of the client's bytes.
    let weir = start(PLAIN, "", async |mut stream| {
        all(&mut stream).await;
        delayed(DEADLINE).await;
    });
    run(async {
        for http2 in [false, true] {
            let mut client = Tunnel::open(weir.web(), false, http2).await;
            client.end().await;
            wait_until("in flight", || weir.sum(&["weir_backend_in_flight"]) == 1.0).await;
            client.reset();
            wait_until("freed", || weir.sum(&["weir_backend_in_flight"]) == 0.0).await;
        }
    });
}

#[test]
fn trailers_in_a_tunnel_are_a_protocol_error() {
    let weir = start(PLAIN, "", async |mut stream| drop(all(&mut stream).await));
    run(async {
        let Tunnel::Http2(mut socket) = Tunnel::open(weir.web(), false, true).await else { return };
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        socket.send.send_trailers(trailers).unwrap();
        let end = tokio::time::timeout(DEADLINE, socket.receive.data()).await.unwrap();
        assert_eq!(end.unwrap().unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR));
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_tunnel_may_carry_more_than_the_limit_of_a_body() {
    each_way(async |way, http2| {
        let (folder, certificate) = way.files();
        let backend = listen(certificate.as_ref(), "http/1.1", async |mut stream: Accepted| {
            if accept(&mut stream).await {
                let length = all(&mut stream).await.len().to_string();
                stream.write_all(length.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        let config: Config = way.config(backend).set("routes.all.limits", "body: 1KiB");
        let weir = Weir::start_in(folder, config);
        let mut client = Tunnel::open(weir.web(), way.client, http2).await;
        for _ in 0..10 {
            client.send(&[1; 1000]).await;
        }
        client.end().await;
        assert_eq!(client.rest().await.unwrap(), b"10000", "{way:?} {http2}");
    });
}
