//! WebSockets through Weir, spoken by a real library on both sides: messages, fragments, pings, closes, and many at once
//! while the configuration changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::{Weir, eventually, size};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Echoes text and binary messages; answers pings and closes as the library does.
fn echo() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        run(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut socket) = accept_async(stream).await else { return };
                    while let Some(Ok(message)) = socket.next().await {
                        let echoed = message.is_text() || message.is_binary();
                        if echoed && socket.send(message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    address
}

fn yaml(backend: SocketAddr, timeouts: &str, weight: u16) -> String {
    format!(
        "access_log: {{ path: \"off\" }}\nlisteners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: all, upstream: up, timeouts: {{ {timeouts} }} }}]\n\
         upstreams: {{ up: {{ balance: weighted_round_robin, backends: [{{ name: a, address: \"{backend}\", weight: {weight} }}] }} }}"
    )
}

type Socket = WebSocketStream<TcpStream>;

async fn open(address: SocketAddr) -> Socket {
    let stream = TcpStream::connect(address).await.unwrap();
    client_async("ws://example.org/chat", stream).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(crate::support::DEADLINE, socket.next()).await.unwrap().unwrap().unwrap()
}

#[test]
fn text_binary_fragments_and_pings_pass_both_ways() {
    let weir = Weir::start(&yaml(echo(), "", 1));
    run(async {
        let mut socket = open(weir.web()).await;
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
    });
}

#[test]
fn a_close_passes_with_its_code_and_its_words() {
    let weir = Weir::start(&yaml(echo(), "", 1));
    run(async {
        for code in [CloseCode::Normal, CloseCode::Away, CloseCode::Library(4242)] {
            let mut socket = open(weir.web()).await;
            let frame = CloseFrame { code, reason: "bye".into() };
            socket.send(Message::Close(Some(frame.clone()))).await.unwrap();
            assert_eq!(next(&mut socket).await, Message::Close(Some(frame)));
            assert!(socket.next().await.is_none_or(|end| end.is_err()));
        }
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "status=\"101\""], 3.0);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
}

#[test]
fn silence_ends_it_only_after_its_own_time_and_a_ping_is_no_silence() {
    let weir = Weir::start(&yaml(echo(), "read: 1s, tunnel: 2s", 1));
    run(async {
        let mut socket = open(weir.web()).await;
        // Longer than `read`, and in all longer than `tunnel`.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1200)).await;
            socket.send(Message::Ping("x".into())).await.unwrap();
            assert!(next(&mut socket).await.is_pong());
        }
        let silent = Instant::now();
        let end = tokio::time::timeout(crate::support::DEADLINE, socket.next()).await.unwrap();
        assert!(end.is_none_or(|end| end.is_err()));
        assert!(silent.elapsed() >= Duration::from_millis(1500), "{:?}", silent.elapsed());
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

/// Each says its turn and waits for it to come back, until told to stop; then closes. How many turns in all.
async fn chat(address: SocketAddr, stop: Arc<AtomicBool>, turns: Arc<AtomicUsize>, pace: Duration) {
    let mut socket = open(address).await;
    let mut turn = 0_u64;
    while !stop.load(Ordering::Acquire) {
        turn += 1;
        let message = Message::binary(turn.to_be_bytes().to_vec());
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, message);
        turns.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pace).await;
    }
    socket.close(None).await.unwrap();
    assert!(next(&mut socket).await.is_close());
}

/// So many sockets, talking while the configuration is reloaded: none breaks, none is lost count of.
fn outlive_reloads(sockets: usize, reloads: usize, every: Duration) {
    let backend = echo();
    let weir = Weir::start(&yaml(backend, "", 1));
    let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (address, flag, count) = (weir.web(), Arc::clone(&stop), Arc::clone(&turns));
    let clients = std::thread::spawn(move || {
        run(async move {
            let pace = Duration::from_millis(sockets as u64);
            let chats = (0..sockets).map(|_| chat(address, Arc::clone(&flag), Arc::clone(&count), pace));
            let chats: Vec<_> = chats.map(tokio::spawn).collect();
            for chat in chats {
                chat.await.unwrap();
            }
        });
    });
    weir.wait_for(&["weir_backend_in_flight"], sockets as f64);
    for round in 0..reloads {
        let next = Instant::now() + every;
        assert!(weir.reload(&yaml(backend, "", 2 + (round % 2) as u16)), "{}", weir.stderr());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        assert_eq!(weir.sum(&["weir_backend_in_flight"]), sockets as f64);
    }
    eventually("each has had a word", || (turns.load(Ordering::Acquire) >= sockets).then_some(()));
    stop.store(true, Ordering::Release);
    clients.join().unwrap();
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "status=\"101\""], sockets as f64);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
}

#[test]
fn a_thousand_at_once_outlive_reloads() {
    outlive_reloads(1000, 2, Duration::from_millis(500));
}

#[test]
#[ignore = "long: 1,000 WebSockets and a reload a second for two minutes"]
fn a_thousand_at_once_outlive_reloads_for_two_minutes() {
    outlive_reloads(size("WEIR_SOAK_WEBSOCKETS", 1000), size("WEIR_SOAK_RELOADS", 120), Duration::from_secs(1));
}

#[test]
#[ignore = "long: two minutes of silence"]
fn one_that_is_idle_for_two_minutes_is_still_there() {
    let weir = Weir::start(&yaml(echo(), "", 1));
    run(async {
        let mut socket = open(weir.web()).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        socket.send(Message::text("still")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("still"));
    });
}
