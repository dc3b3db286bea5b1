//! The memory of compressed responses whose clients read slowly.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::support::http2::run;
use crate::support::{Client, Config, Origin, Pace, Random, Weir, size};

/// MiB that docs/compress.md documents for a response at the default level of each encoding.
const DOCUMENTED: [(&str, f64); 3] = [("zstd", 2.0), ("gzip", 0.5), ("br", 1.8)];

/// MiB that Weir may have besides the encoders.
const BESIDES_MIB: f64 = 30.0;

/// An origin that sends text as long as it is taken, and the bytes that it has sent.
fn endless() -> (Origin, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let text: Vec<u8> = Random::new(1).bytes(32 << 10).into_iter().map(|byte| b'a' + byte % 26).collect();
    let piece = [format!("{:x}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat();
    let origin = Origin::raw(move |stream| {
        let mut client = Client::over(stream);
        if client.until(b"\r\n\r\n").is_none() {
            return;
        }
        let mut stream = client.stream;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        while stream.write_all(&piece).is_ok() {
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    (origin, sent)
}

/// A client that has sent a request. Its receive buffer is small.
async fn slow_reader(address: SocketAddr, coding: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut stream = socket.connect(address).await.unwrap().into_std().unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads the bytes that are there, at most 1 KiB.
fn read_some(stream: &mut TcpStream) -> usize {
    match stream.read(&mut [0; 1024]) {
        Ok(0) => panic!("the response ended"),
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

/// The memory at the start, and its peak while so many clients read 1 KiB in each of these rounds.
fn peak_with_slow_readers(coding: &str, readers: usize, rounds: usize) -> (f64, f64) {
    let (origin, sent) = endless();
    let config = Config::to(&origin).without_access_log().set("routes.all", "compress: {}");
    let weir = Weir::start(config);
    let at_start = weir.resident_mib();
    let mut clients = Vec::new();
    // Fifty must have begun before the next ones, so the deadline is one of progress.
    for count in 1..=readers {
        clients.push(run(slow_reader(weir.web(), coding)));
        if count % 50 == 0 || count == readers {
            weir.wait_for(&["weir_backend_in_flight"], count as f64);
        }
    }
    let (mut pace, mut peak, mut read) = (Pace::every(Duration::from_millis(250)), 0.0_f64, 0);
    for _ in 0..rounds {
        read += clients.iter_mut().map(read_some).sum::<usize>();
        peak = peak.max(weir.resident_mib());
        pace.tick();
    }
    weir.wait_for(&["weir_backend_in_flight"], readers as f64);
    let sent = sent.load(Ordering::Relaxed) as f64 / 1_048_576.0;
    println!(
        "{readers} readers of {coding}: {at_start:.1} MiB at start, {peak:.1} MiB at most, {:.3} MiB for each response; the backend \
         has sent {sent:.0} MiB, and the clients have read {:.1} MiB",
        (peak - at_start) / readers as f64,
        read as f64 / 1_048_576.0
    );
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    (at_start, peak)
}

#[test]
fn slow_readers_of_compressed_responses_cost_the_documented_memory() {
    let (coding, documented) = DOCUMENTED[0];
    let (at_start, peak) = peak_with_slow_readers(coding, 50, 8);
    // A debug build has more at the start than the build that is shipped.
    let allowed = at_start + BESIDES_MIB + 50.0 * documented;
    assert!(peak <= allowed, "{peak:.1} MiB, {allowed:.1} allowed");
}

#[test]
#[ignore = "long: 1,000 slow readers of each encoding"]
fn a_thousand_slow_readers_of_compressed_responses_cost_30_mib_and_the_documented_memory() {
    let (readers, rounds) = (size("WEIR_SOAK_READERS", 1000), size("WEIR_SOAK_ROUNDS", 80));
    let mut findings = Vec::new();
    for (coding, documented) in DOCUMENTED {
        let (_, peak) = peak_with_slow_readers(coding, readers, rounds);
        let allowed = BESIDES_MIB + readers as f64 * documented;
        if peak > allowed {
            findings.push(format!("{coding}: {peak:.1} MiB, {allowed:.1} allowed"));
        }
    }
    assert!(findings.is_empty(), "{findings:?}");
}
