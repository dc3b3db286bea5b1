//! WebSockets through Weir, with and without TLS on either side, spoken by a real library on both: messages, fragments,
//! pings, closes, and many at once while the configuration changes.

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::http2::run;
use crate::support::tls::{Accepted, Socket as Stream, listen};
use crate::support::websocket::{chat, next};
use crate::support::{
    Client, Config, EDGE, Origin, PLAIN, Pace, THROUGHOUT, TlsClient, WAYS, Way, Weir, delayed, eventually, size, tls,
    tls_config,
};

/// A Weir before a backend that echoes.
struct Setup {
    way: Way,
    backend: SocketAddr,
    weir: Weir,
}

impl Setup {
    fn start(way: Way, timeouts: &str) -> Self {
        let (folder, certificate) = way.files();
        let backend = listen(certificate.as_ref(), "http/1.1", echo);
        let weir = Weir::start_in(folder, config(way, backend).set("routes.all.timeouts", timeouts));
        Self { way, backend, weir }
    }

    async fn open(&self) -> Socket {
        open(self.weir.web(), self.way).await
    }
}

/// Does it each way.
fn each_way(test: impl AsyncFn(&Setup)) {
    for way in WAYS {
        let setup = Setup::start(way, "");
        run(test(&setup));
        setup.weir.wait_for(&["weir_backend_in_flight"], 0.0);
        let faults: Vec<_> =
            setup.weir.scrape().into_iter().filter(|(name, _)| name.contains("weir_faults_total")).collect();
        assert!(faults.is_empty(), "{way:?} {faults:?}");
    }
}

/// What makes the backend close its connection without another word.
const LEAVE: &str = "leave";

/// Echoes text and binary messages; answers pings and closes as the library does.
async fn echo(stream: Accepted) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message == Message::text(LEAVE) {
            return;
        }
        let echoed = message.is_text() || message.is_binary();
        if echoed && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn config(way: Way, backend: impl Display) -> Config {
    way.config(backend).without_access_log().set("upstreams.up.balance", "weighted_round_robin")
}

type Socket = WebSocketStream<Stream>;

async fn open(address: SocketAddr, way: Way) -> Socket {
    let stream = tls::open(address, way.client.then_some("http/1.1")).await;
    let url = if way.client { "wss://example.org/chat" } else { "ws://example.org/chat" };
    client_async(url, stream).await.unwrap().0
}

#[test]
fn text_binary_fragments_and_pings_pass_both_ways() {
    each_way(async |setup| {
        let mut socket = setup.open().await;
        socket.send(Message::text("grüße")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("grüße"));
        let large: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        socket.send(Message::binary(large.clone())).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::binary(large));
        let piece = |text: &'static str, code, end| Message::Frame(Frame::message(text, OpCode::Data(code), end));
        socket.send(piece("one ", Data::Text, false)).await.unwrap();
        socket.send(Message::Ping("now".into())).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::Pong("now".into()), "between fragments");
        socket.send(piece("two ", Data::Continue, false)).await.unwrap();
        socket.send(piece("three", Data::Continue, true)).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("one two three"));
        socket.close(None).await.unwrap();
        assert!(next(&mut socket).await.is_close());
    });
}

#[test]
fn a_websocket_close_passes_with_its_code_and_reason() {
    each_way(async |setup| {
        for code in [CloseCode::Normal, CloseCode::Away, CloseCode::Library(4242)] {
            let mut socket = setup.open().await;
            let frame = CloseFrame { code, reason: "bye".into() };
            socket.send(Message::Close(Some(frame.clone()))).await.unwrap();
            assert_eq!(next(&mut socket).await, Message::Close(Some(frame)));
            assert!(socket.next().await.is_none_or(|end| end.is_err()));
        }
        setup.weir.wait_for(&["weir_requests_total", "status=\"101\""], 3.0);
    });
}

#[test]
fn a_connection_that_ends_without_a_close_frame_ends_the_tunnel() {
    each_way(async |setup| {
        // The client just goes away.
        let mut socket = setup.open().await;
        socket.send(Message::text("one")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("one"));
        drop(socket);
        // The backend goes at a word.
        let mut socket = setup.open().await;
        socket.send(Message::text(LEAVE)).await.unwrap();
        assert!(socket.next().await.is_none_or(|end| end.is_err()));
        setup.weir.wait_for(&["weir_requests_total", "status=\"101\""], 2.0);
    });
}

#[test]
fn compression_is_agreed_on_by_the_ends_and_its_frames_pass_as_they_are() {
    let origin = Origin::raw(|mut stream| {
        let mut head = String::new();
        let mut byte = [0];
        while !head.ends_with("\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(char::from(byte[0]));
        }
        assert!(head.contains("permessage-deflate; client_max_window_bits"), "{head}");
        let _ = stream.write_all(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12\r\n\r\n",
        );
        while stream.read(&mut byte).is_ok_and(|read| read == 1) {
            let _ = stream.write_all(&byte);
        }
    });
    let ask = "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    // A text frame, the last of its message, compressed (RFC 7692 section 7.2.3.1), masked by zeros.
    let frame = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
    for way in [PLAIN, EDGE] {
        let (folder, _) = way.files();
        let weir = Weir::start_in(folder, config(way, &origin));
        if way.client {
            deflated(TlsClient::secure(weir.web(), "example.org", &Arc::new(tls_config(None))), ask, frame);
        } else {
            deflated(Client::connect(weir.web()), ask, frame);
        }
    }
}

fn deflated<S: Read + Write>(mut client: Client<S>, ask: &str, frame: &[u8]) {
    client.send(ask);
    let response = client.response("GET");
    assert_eq!(response.status, 101);
    let agreed = response.header("sec-websocket-extensions");
    assert_eq!(agreed, Some("permessage-deflate; client_max_window_bits=12"));
    client.send(frame);
    assert_eq!(client.exactly(frame.len()).unwrap(), frame);
}

#[test]
fn a_silent_tunnel_ends_after_its_timeout_and_a_ping_resets_it() {
    std::thread::scope(|scope| {
        for way in WAYS {
            scope.spawn(move || silence(way));
        }
    });
}

fn silence(way: Way) {
    let setup = Setup::start(way, "read: 1s, tunnel: 2s");
    run(async {
        let mut socket = setup.open().await;
        // Longer than `read`, and in all longer than `tunnel`.
        for _ in 0..3 {
            delayed(Duration::from_millis(1200)).await;
            socket.send(Message::Ping("x".into())).await.unwrap();
            assert!(next(&mut socket).await.is_pong());
        }
        let silent = Instant::now();
        let end = tokio::time::timeout(crate::support::DEADLINE, socket.next()).await.unwrap();
        assert!(end.is_none_or(|end| end.is_err()));
        assert!(silent.elapsed() >= Duration::from_millis(1500), "{:?}", silent.elapsed());
    });
    setup.weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

/// So many sockets, talking while the configuration is reloaded: none breaks, none is lost count of.
fn outlive_reloads(way: Way, sockets: usize, reloads: usize, every: Duration) {
    let Setup { backend, weir, .. } = Setup::start(way, "");
    let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (address, flag, count) = (weir.web(), Arc::clone(&stop), Arc::clone(&turns));
    let clients = std::thread::spawn(move || {
        run(async move {
            let pace = Duration::from_millis(sockets as u64);
            let chats = (0..sockets).map(|_| {
                let (stop, turns) = (Arc::clone(&flag), Arc::clone(&count));
                async move { chat(&mut open(address, way).await, stop, turns, pace).await }
            });
            let chats: Vec<_> = chats.map(tokio::spawn).collect();
            for chat in chats {
                chat.await.unwrap();
            }
        });
    });
    weir.wait_for(&["weir_backend_in_flight"], sockets as f64);
    let mut pace = Pace::every(every);
    for round in 0..reloads {
        let changed = config(way, backend).set("upstreams.up.backends.a.weight", 2 + round % 2);
        assert!(weir.reload(changed), "{}", weir.stderr());
        pace.tick();
        assert_eq!(weir.sum(&["weir_backend_in_flight"]), sockets as f64);
    }
    eventually("each has had a word", || turns.load(Ordering::Acquire) >= sockets);
    stop.store(true, Ordering::Release);
    clients.join().unwrap();
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "status=\"101\""], sockets as f64);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
}

#[test]
fn a_thousand_at_once_outlive_reloads() {
    outlive_reloads(PLAIN, 1000, 2, Duration::from_millis(500));
}

#[test]
fn hundreds_under_tls_outlive_reloads() {
    outlive_reloads(THROUGHOUT, 300, 2, Duration::from_millis(500));
}

#[test]
#[ignore = "long: 1,000 WebSockets each way and a reload a second for two minutes"]
fn a_thousand_at_once_outlive_reloads_for_two_minutes() {
    let (sockets, reloads) = (size("WEIR_SOAK_WEBSOCKETS", 1000), size("WEIR_SOAK_RELOADS", 120));
    for way in WAYS {
        outlive_reloads(way, sockets, reloads, Duration::from_secs(1));
    }
}

#[test]
#[ignore = "long: two minutes of silence"]
fn a_websocket_that_is_idle_for_two_minutes_is_still_open() {
    let setups = WAYS.map(|way| Setup::start(way, ""));
    run(async {
        let mut sockets = Vec::new();
        for setup in &setups {
            sockets.push(setup.open().await);
        }
        delayed(Duration::from_secs(120)).await;
        for socket in &mut sockets {
            socket.send(Message::text("still")).await.unwrap();
            assert_eq!(next(socket).await, Message::text("still"));
        }
    });
}
