//! Compression and decompression of responses. curl and other decoders that are not Weir's read the bodies.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use crate::support::client::chunks;
use crate::support::decoders::Decoder;
use crate::support::{Client, Config, DEADLINE, LISTENER_TLS, Origin, PLAIN, Random, Reply, WAYS, Way, Weir, size};

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];
const ALL: &str = "compress: {}";

/// How curl connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

/// A curl that asks Weir for a path.
fn curl(weir: &Weir, way: Way, http: Http, path: &str, options: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-s", "-S", "-k", "-N", "--max-time", "60"]);
    let scheme = if way.client { "https" } else { "http" };
    command.arg(match (http, way.client) {
        (Http::One, _) => "--http1.1",
        (Http::Two, true) => "--http2",
        (Http::Two, false) => "--http2-prior-knowledge",
    });
    let port = weir.web().port();
    command.args(options).arg(format!("{scheme}://example.org:{port}{path}"));
    command.args(["--resolve", &format!("example.org:{port}:127.0.0.1")]);
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("curl is installed by `make test`")
}

/// Text that compresses, but not to nothing.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = ["status", "\"id\":", "true", ", ", "{", "}", "value-", "0x7f", "\n", "lorem ipsum "];
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        text.extend_from_slice(words[random.below(words.len())].as_bytes());
    }
    text.truncate(length);
    text
}

/// The forms of a body: with a length, in chunks, in chunks of 1 to 99 bytes, in chunks with a trailer.
const FORMS: [&str; 4] = ["length", "chunked", "split", "trailer"];

/// Answers a path such as `/chunked/5000/17`: 5,000 bytes of the seed 17 in this form.
fn bodies() -> Origin {
    Origin::start(|request| {
        let parts: Vec<&str> = request.target.split('/').skip(1).collect();
        let [form, length, seed] = parts[..] else { return Reply::new(404, "") };
        let body = text(seed.parse().unwrap(), length.parse().unwrap());
        let kind = [("Content-Type", "application/json"), ("ETag", "\"v1\"")];
        match form {
            "length" => Reply::with(200, &kind, body),
            _ => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                let mut chunks = chunks(&body, if form == "split" { 1 + body.len() % 99 } else { 3_000 });
                if form == "trailer" {
                    chunks.truncate(chunks.len() - 2);
                    chunks.extend(b"X-Checksum: 17\r\n\r\n");
                }
                Reply::raw([head.as_bytes(), &chunks].concat())
            }
        }
    })
}

/// Weir in front of Weir in front of the origin: the second hop is HTTP/2.
fn with_backend_of_http2(origin: &Origin) -> (Weir, Weir) {
    let inner = Weir::start(Config::to(origin));
    let config = Config::to(inner.web()).set("upstreams.up.protocol", "h2c").set("routes.all", ALL);
    (Weir::start(config), inner)
}

/// The body of a response, and its encoding.
fn coded_body(weir: &Weir, way: Way, http: Http, path: &str, coding: &str) -> (Vec<u8>, String) {
    let accept = format!("Accept-Encoding: {coding}");
    let got = output(curl(weir, way, http, path, &["-H", &accept, "-w", "%{stderr}%header{content-encoding}"]));
    let encoding = String::from_utf8_lossy(&got.stderr).into_owned();
    assert!(got.status.success(), "{way:?} {http:?} {coding} {path}: {encoding}");
    (got.stdout, encoding)
}

fn decodes_each_coding(weir: &Weir, way: Way, cases: u64, seed: u64) {
    let (mut random, mut decoders) = (Random::new(seed), Decoder::installed());
    for case in 0..cases {
        let http = if random.below(2) == 0 { Http::One } else { Http::Two };
        let (coding, form) = (CODINGS[random.below(3)], FORMS[random.below(4)]);
        let length = [0, 1, 1_023, 1_024, 5_000, 70_000, 600_000][random.below(7)] + random.below(50);
        // Chunks of a few bytes are slow to build and to send.
        let length = if form == "split" { length % 100_000 } else { length };
        let path = format!("/{form}/{length}/{case}");
        let (coded, encoding) = coded_body(weir, way, http, &path, coding);
        let body = text(case, length);
        if encoding.is_empty() {
            assert!(form == "length" && length < 1_024 && coded == body, "{way:?} {http:?} {coding} {path}: not coded");
            continue;
        }
        assert_eq!(encoding, coding, "{way:?} {http:?} {path}");
        for decoder in decoders.iter_mut().filter(|decoder| decoder.supports(coding)) {
            let decoded = decoder.decode(coding, &coded);
            assert!(decoded.as_deref() == Some(&body[..]), "{} {way:?} {http:?} {coding} {path}", decoder.name);
        }
        let accept = format!("Accept-Encoding: {coding}");
        let got = output(curl(weir, way, http, &path, &["--compressed", "-H", &accept]));
        let error = String::from_utf8_lossy(&got.stderr);
        assert!(got.status.success() && got.stdout == body, "curl {way:?} {http:?} {coding} {path}: {error}");
    }
    let counts: Vec<_> = decoders.iter().map(|decoder| format!("{} {}", decoder.name, decoder.decoded)).collect();
    println!("{way:?}: {cases} cases; decoded: {}", counts.join(", "));
}

#[test]
fn independent_decoders_read_each_body_on_each_way() {
    for way in WAYS {
        let (folder, certificate) = way.files();
        let origin = bodies();
        if let Some(certificate) = certificate {
            // The TLS hop to the backend ends in a Weir too.
            let inside = tempfile::tempdir().unwrap();
            certificate.put(inside.path(), "edge");
            let inner = Weir::start_in(inside, Config::to(&origin).set("listeners.web", LISTENER_TLS));
            let config = way.config(inner.web()).set("routes.all", ALL).set("routes.all.host", "server.test");
            decodes_each_coding(&Weir::start_in(folder, config), way, 40, 3);
        } else {
            let weir = Weir::start_in(folder, way.config(&origin).set("routes.all", ALL));
            decodes_each_coding(&weir, way, 60, if way.client { 1 } else { 2 });
            assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
        }
    }
    let origin = bodies();
    let (weir, _inner) = with_backend_of_http2(&origin);
    decodes_each_coding(&weir, PLAIN, 40, 4);
}

#[test]
#[ignore = "long: 10,000 bodies"]
fn independent_decoders_read_10_000_bodies() {
    for (way, seed) in WAYS.into_iter().filter(|way| !way.backend).zip(10..) {
        let origin = bodies();
        let weir = Weir::start_in(way.files().0, way.config(&origin).set("routes.all", ALL));
        decodes_each_coding(&weir, way, 3_500, seed);
    }
    let origin = bodies();
    let (weir, _inner) = with_backend_of_http2(&origin);
    decodes_each_coding(&weir, PLAIN, 3_000, 20);
}

#[test]
#[ignore = "long: bodies of 100 MiB"]
fn independent_decoders_read_bodies_of_100_mib() {
    let length = size("WEIR_BODY_MIB", 100) << 20;
    let origin = bodies();
    let body = text(1, length);
    for way in [PLAIN, WAYS[1]] {
        let weir = Weir::start_in(way.files().0, way.config(&origin).set("routes.all", ALL));
        for (http, form) in [(Http::One, "length"), (Http::Two, "chunked")] {
            for coding in CODINGS {
                let (path, accept) = (format!("/{form}/{length}/1"), format!("Accept-Encoding: {coding}"));
                let got = output(curl(&weir, way, http, &path, &["--compressed", "-m", "300", "-H", &accept]));
                assert!(got.status.success() && got.stdout == body, "{way:?} {http:?} {coding} {path}");
            }
        }
    }
}

/// An origin that sends the next event when the test says so.
fn events() -> (Origin, std::sync::mpsc::Sender<&'static str>) {
    let (send, receive) = channel::<&'static str>();
    let receive: Arc<Mutex<Receiver<&'static str>>> = Arc::new(Mutex::new(receive));
    let origin = Origin::raw(move |mut stream| {
        let mut head = Vec::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        while let Ok(event) = receive.lock().unwrap().recv_timeout(DEADLINE) {
            let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
    });
    (origin, send)
}

/// The lines that curl prints, as they come.
fn lines(child: &mut Child) -> Receiver<String> {
    let (send, receive) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

#[test]
fn each_event_of_a_compressed_stream_arrives_before_the_next_one_is_sent() {
    for (way, http) in [(PLAIN, Http::One), (PLAIN, Http::Two), (WAYS[1], Http::One), (WAYS[1], Http::Two)] {
        for coding in CODINGS {
            let (origin, send) = events();
            let config = way.config(&origin).set("routes.all", "compress: { streams: true }");
            let weir = Weir::start_in(way.files().0, config);
            let accept = format!("Accept-Encoding: {coding}");
            let mut command = curl(&weir, way, http, "/", &["--compressed", "-H", &accept]);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = lines(&mut child);
            for event in ["data: one\n", "data: two\n", "data: three\n"] {
                send.send(event).unwrap();
                let line = lines.recv_timeout(DEADLINE);
                assert_eq!(line.as_deref(), Ok(event.trim_end()), "{way:?} {http:?} {coding}");
            }
            assert_eq!(weir.sum(&["weir_content_coding_failures_total"]), 0.0);
            let _ = child.kill();
            let _ = child.wait();
            weir.wait_for(&["weir_content_coding_responses_total", &format!("coding=\"{coding}\"")], 1.0);
        }
    }
}

#[test]
fn a_cut_body_of_the_backend_is_incomplete_for_the_client() {
    let body = text(5, 50_000);
    let cut = {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
        let length = format!("{head}Content-Length: 50000\r\n\r\n");
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let some = chunks(&body, 3_000);
        move |form: &str| match form {
            "/length" => [length.as_bytes(), &body[..30_000]].concat(),
            _ => [chunked.as_bytes(), &some[..30_000]].concat(),
        }
    };
    let origin = Origin::start(move |request| Reply::raw(cut(&request.target)).and_close());
    for way in [PLAIN, WAYS[1]] {
        let weir = Weir::start_in(way.files().0, way.config(&origin).set("routes.all", ALL));
        for http in [Http::One, Http::Two] {
            for (coding, form) in
                CODINGS.into_iter().flat_map(|coding| ["/length", "/chunked"].map(|form| (coding, form)))
            {
                let accept = format!("Accept-Encoding: {coding}");
                let got = output(curl(&weir, way, http, form, &["--compressed", "-H", &accept]));
                assert!(!got.status.success(), "{way:?} {http:?} {coding} {form}: {} bytes", got.stdout.len());
            }
        }
    }
}

fn plain_text(fields: &[(&str, &str)]) -> Origin {
    let fields: Vec<(String, String)> = fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    Origin::start(move |_| {
        let mut all: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        all.push(("Content-Type", "text/plain"));
        Reply::with(200, &all, text(1, 5_000))
    })
}

#[test]
fn the_header_of_a_compressed_response_describes_the_coded_body() {
    let digest = ("Content-Digest", "sha-256=:AAAA:");
    let origin = plain_text(&[("ETag", "\"v1\""), ("Accept-Ranges", "bytes"), ("Vary", "Origin"), digest]);
    let weir = Weir::start(Config::to(&origin).set("routes.all", ALL));
    let mut client = Client::connect(weir.web());
    let coded = client.get_with("/", &[("Host", "a"), ("Accept-Encoding", "gzip")]);
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    assert_eq!(coded.header("etag"), Some("W/\"v1\""));
    assert_eq!(coded.header("transfer-encoding"), Some("chunked"));
    for absent in ["content-length", "accept-ranges", "content-digest"] {
        assert_eq!(coded.header(absent), None, "{absent}");
    }
    let plain = client.get_with("/", &[("Host", "a")]);
    assert_eq!((plain.header("content-encoding"), plain.header("content-length")), (None, Some("5000")));
    assert_eq!(plain.header("etag"), Some("\"v1\""));
    for response in [&coded, &plain] {
        let vary = &response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary")).count();
        assert_eq!(*vary, 2, "Origin and Accept-Encoding: {:?}", response.headers);
    }
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.response("HEAD");
    assert_eq!((head.header("content-encoding"), head.header("content-length")), (None, Some("5000")));
    assert_eq!(weir.access_log_of(3)[0]["bytes_out"].as_u64(), Some(coded_length(&weir)));
}

/// The bytes that clients got of compressed bodies, with the framing of one chunk and the end.
fn coded_length(weir: &Weir) -> u64 {
    let bytes = weir.sum(&["weir_content_coding_bytes_total", "side=\"after\""]) as u64;
    assert!((50..4_000).contains(&bytes), "{bytes}");
    bytes
}

#[test]
fn an_http_1_0_client_and_an_upgrade_get_no_coding() {
    let origin = plain_text(&[]);
    let weir = Weir::start(Config::to(&origin).set("routes.all", ALL));
    let response = crate::support::exchange(weir.web(), "GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(response.contains("Content-Length: 5000"), "{}", &response[..200]);
}

#[test]
fn a_fixed_response_is_compressed_too() {
    let body = "a line of text. ".repeat(200);
    let config = Config::new().listener("web", "").route("all", ALL).set("routes.all.respond", "status: 200");
    let weir = Weir::start(config.set("routes.all.respond.body", format!("{body:?}")));
    for (http, coding) in [Http::One, Http::Two].into_iter().flat_map(|http| CODINGS.map(|coding| (http, coding))) {
        let accept = format!("Accept-Encoding: {coding}");
        let got = output(curl(&weir, PLAIN, http, "/", &["--compressed", "-H", &accept]));
        assert_eq!(String::from_utf8_lossy(&got.stdout), body, "{http:?} {coding}");
    }
    assert_eq!(weir.sum(&["weir_content_coding_responses_total"]), 6.0);
}

/// The same bytes, coded by a tool that is not Weir.
fn coded_by(tool: &str, body: &[u8]) -> Vec<u8> {
    let mut child = Command::new(tool).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, body) = (child.stdin.take().unwrap(), body.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

#[test]
fn a_coded_response_is_decoded_for_clients_that_do_not_accept_the_coding() {
    let body = text(9, 300_000);
    let coded = [("gzip", coded_by("gzip", &body)), ("zstd", coded_by("zstd", &body))];
    let origin = Origin::start(move |request| {
        let (coding, bytes) = coded.iter().find(|(coding, _)| request.target.contains(coding)).unwrap();
        let bytes = if request.target.ends_with("cut") { &bytes[..bytes.len() - 9] } else { &bytes[..] };
        Reply::with(200, &[("Content-Type", "text/plain"), ("Content-Encoding", coding)], bytes)
    });
    for way in [PLAIN, WAYS[1]] {
        let weir = Weir::start_in(way.files().0, way.config(&origin).set("routes.all", "decompress: true"));
        for http in [Http::One, Http::Two] {
            for path in ["/gzip", "/zstd"] {
                let got = output(curl(&weir, way, http, path, &[]));
                assert!(got.status.success() && got.stdout == body, "{way:?} {http:?} {path}");
                let cut = output(curl(&weir, way, http, &format!("{path}-cut"), &["-f"]));
                assert!(!cut.status.success(), "{way:?} {http:?} {path}: a cut body is incomplete, or 502");
                let accept = format!("Accept-Encoding: {}", &path[1..]);
                let got = output(curl(&weir, way, http, path, &["-H", &accept]));
                assert!(got.stdout.len() < body.len() / 2, "{path}: the client accepts the coding");
            }
        }
        assert!(weir.sum(&["weir_content_coding_failures_total"]) >= 4.0);
    }
}

#[test]
fn a_body_that_expands_beyond_all_measure_ends_as_incomplete() {
    let bomb = coded_by("gzip", &vec![0; 64 << 20]);
    let origin = Origin::start(move |_| Reply::with(200, &[("Content-Encoding", "gzip")], &bomb));
    let weir = Weir::start(Config::to(&origin).set("routes.all", "decompress: true"));
    for http in [Http::One, Http::Two] {
        let got = output(curl(&weir, PLAIN, http, "/", &["-f"]));
        assert!(!got.status.success() && got.stdout.len() < 8 << 20, "{http:?}: {} bytes", got.stdout.len());
    }
    assert!(weir.sum(&["weir_content_coding_failures_total", "decompress"]) >= 2.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_reload_turns_compression_on_and_off() {
    let origin = plain_text(&[]);
    let weir = Weir::start(Config::to(&origin));
    let mut client = Client::connect(weir.web());
    let mut coding = || {
        let response = client.get_with("/", &[("Host", "a"), ("Accept-Encoding", "br")]);
        response.header("content-encoding").map(str::to_owned)
    };
    assert_eq!(coding(), None);
    assert!(weir.reload(Config::to(&origin).set("routes.all", ALL)));
    assert_eq!(coding().as_deref(), Some("br"));
    assert!(weir.reload(Config::to(&origin)));
    assert_eq!(coding(), None);
}
