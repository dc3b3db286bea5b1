//! Lines of the access log, parsed by serde_json: each is one JSON object on one line that has the bytes of the request.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use weir::telemetry::{AccessLog, Metrics, Record, Recorder, Sink};

const TOKENS: &[&str] = &[
    "\"",
    "\\",
    "\n",
    "\u{0}",
    "\u{1f}",
    "\u{7f}",
    "\u{2028}",
    "\u{1f600}",
    "\\u0000",
    "</script>",
    "/a?b=c",
    "é",
    "\r\n",
    "\t",
    "{",
    "}",
];

/// Passes on what the writer thread writes.
struct Pipe(Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static LOG: LazyLock<(Recorder, Mutex<Receiver<Vec<u8>>>)> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    let log = AccessLog::start(Sink::to(Box::new(Pipe(sender))), Arc::default()).unwrap();
    (Recorder::new(Metrics::new("0", "fuzz"), Arc::new(log)), Mutex::new(receiver))
});

/// The line of a request with these bytes in each place that a client fills.
fn line(bytes: &[u8], method: &http::Method) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let (recorder, receiver) = &*LOG;
    let receiver = receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    recorder.record(&Record {
        started: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(u64::from(bytes.first().copied().unwrap_or(0))),
        stream_header: None,
        grpc_status: None,
        request_id: &text,
        listener: "web",
        scheme: "http",
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method,
        host: Some(bytes),
        path: bytes,
        version: http::Version::HTTP_11,
        route: None,
        upstream: Some("app"),
        backend: None,
        status: 200,
        bytes_in: 0,
        bytes_out: bytes.len() as u64,
        attempts: &[],
        passed_over: None,
        limits: &[],
        user: None,
        fault: None,
        user_agent: Some(bytes),
        referer: None,
        trace_id: None,
    });
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend(receiver.recv_timeout(Duration::from_secs(10)).expect("a line"));
    }
    line
}

fn check(bytes: &[u8]) {
    let method = http::Method::from_bytes(bytes.get(..8).unwrap_or(bytes)).unwrap_or(http::Method::GET);
    let line = line(bytes, &method);
    let text = std::str::from_utf8(&line).expect("UTF-8");
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let lossy = String::from_utf8_lossy(bytes);
    for key in ["host", "path", "user_agent", "request_id"] {
        assert_eq!(value[key].as_str(), Some(&*lossy), "{key}: {text}");
    }
    assert_eq!(
        (value["method"].as_str(), value["bytes_out"].as_u64()),
        (Some(method.as_str()), Some(bytes.len() as u64))
    );
}

crate::fuzz_target!(access_log, TOKENS, check);
