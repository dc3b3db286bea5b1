//! A backend for measurements of balancing: answers each request after a fixed time with a fixed status, and counts.
//!
//! `origin ADDRESS MICROSECONDS STATUS`. A thread a connection and nothing but the standard library: `rustc -O` makes it in seconds.
//! `GET /count` says at once how many requests were answered, itself not counted. It reads no bodies: no request here has one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("origin ADDRESS MICROSECONDS STATUS");
    let listener = TcpListener::bind(next()).expect("a free address");
    let delay = Duration::from_micros(next().parse().expect("microseconds"));
    let status = next();
    let answer = Arc::new(format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok").into_bytes());
    let count = Arc::new(AtomicU64::new(0));
    for stream in listener.incoming().flatten() {
        let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
        // A client that goes is no news.
        let serve = move || drop(serve(stream, delay, &answer, &count));
        std::thread::Builder::new().stack_size(64 << 10).spawn(serve).expect("a thread");
    }
}

fn serve(mut stream: TcpStream, delay: Duration, answer: &[u8], count: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut filled) = ([0; 8192], 0);
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        let came = Instant::now();
        filled += read;
        // Heads that come in pieces are put together; what follows a head is not looked for, nobody pipelines.
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        let asks = buffer.starts_with(b"GET /count ");
        filled = 0;
        if asks {
            let body = count.load(Ordering::Relaxed).to_string();
            write!(stream, "HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            return Ok(());
        }
        std::thread::sleep(delay.saturating_sub(came.elapsed()));
        count.fetch_add(1, Ordering::Relaxed);
        stream.write_all(answer)?;
    }
}
