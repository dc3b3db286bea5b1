//! Tunnels and long responses over many reloads: they keep no configuration in memory, and they go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::{Config, DEADLINE, Origin, Weir, size};

/// Routes that make a configuration large enough to be seen in the memory of the process.
const ROUTES: usize = 1_500;

fn config(origin: &Origin, generation: usize) -> Config {
    let settings = "match: { path_prefix: /rN/ }, upstream: up, request_headers: { set: { x-a: aN, x-b: bN } }";
    let add = |config: Config, n: usize| config.route(&format!("r{n}"), settings.replace('N', &n.to_string()));
    (0..ROUTES)
        .fold(Config::to(origin), add)
        .without_access_log()
        .set("upstreams.up.keep_alive", format!("{}s", 50 + generation))
}

/// Switches protocols and echoes, or begins a stream of events; then it holds the connection.
fn serve(mut stream: TcpStream) {
    let head = head_of(&mut stream);
    if head.contains("upgrade") {
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    } else {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    let mut bytes = [0; 64];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        let _ = stream.write_all(&bytes[..read]);
    }
}

fn head_of(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

fn open(address: SocketAddr, more: &str, status: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n").unwrap();
    let head = head_of(&mut stream);
    assert!(head.contains(status), "{head}");
    stream
}

fn tunnel(weir: &Weir) -> TcpStream {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    open(weir.web(), &format!("Connection: upgrade\r\nUpgrade: websocket\r\n{key}"), " 101 ")
}

fn events(weir: &Weir) -> TcpStream {
    open(weir.web(), "", " 200 ")
}

#[test]
fn tunnels_and_streams_of_many_generations_keep_no_configuration_in_memory() {
    let origin = Origin::raw(serve);
    let weir = Weir::start(config(&origin, 0));
    let (mut tunnels, mut streams, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (warm, reloads) = (10, size("WEIR_GENERATIONS", 18));
    for generation in 1..=warm + reloads {
        tunnels.push(tunnel(&weir));
        streams.push(events(&weir));
        assert!(weir.reload(config(&origin, generation)));
        memory.push(weir.resident_mib());
    }
    println!("MiB after each reload: {memory:.0?}");
    let (before, after) = (memory[..warm].iter().copied().fold(0.0, f64::max), memory[memory.len() - 1]);
    // A configuration of this size takes 4 MiB: each one that was kept would show.
    assert!(after - before < 1.5 * reloads as f64, "from {before:.0} to {after:.0} MiB over {reloads} reloads");
    for (n, tunnel) in tunnels.iter_mut().enumerate() {
        let mut echo = [0; 4];
        tunnel.write_all(b"ping").unwrap();
        tunnel.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ping", "the tunnel of generation {n}");
    }
    weir.wait_for(&["weir_backend_in_flight"], (tunnels.len() + streams.len()) as f64);
    drop((tunnels, streams));
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "route=\"all\"", "101"], (warm + reloads) as f64);
}
