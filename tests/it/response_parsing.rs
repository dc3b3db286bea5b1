//! Responses that Weir reads itself, in whatever pieces they come, and the border to those that it leaves to Pingora.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use crate::support::{Client, Config, Origin, Reply, Weir, delay};

fn weir(origin: &Origin) -> Weir {
    Weir::start(Config::to(origin).set("server.threads", 1))
}

/// Bytes that say where they are.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Answers `/LENGTH/PIECE` with so many bytes, sent in pieces of so many.
fn in_pieces(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some(target) = line.strip_prefix("GET /") {
            let numbers: Vec<usize> = target.split([' ', '/']).take(2).map(|number| number.parse().unwrap()).collect();
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", numbers[0]).into_bytes();
            answer.extend(body(numbers[0]));
            for piece in answer.chunks(numbers[1]) {
                let _ = writer.write_all(piece);
            }
        }
        line.clear();
    }
}

#[test]
fn a_response_is_the_same_in_whatever_pieces_it_comes() {
    let origin = Origin::raw(in_pieces);
    let weir = weir(&origin);
    let mut client = Client::connect(weir.web());
    let few = [0, 1, 100].map(|length| (length, 1));
    let lengths = [0, 1, 4_000, 4_096, 16_383, 16_384, 16_385, 65_536, 131_071, 131_072, 131_073, 1_000_000];
    let many = lengths.iter().flat_map(|length| [700, 30_000, usize::MAX].map(|piece| (*length, piece)));
    for (length, piece) in few.into_iter().chain(many) {
        let response = client.get(&format!("/{length}/{piece}"));
        assert_eq!(response.status, 200, "{length} in pieces of {piece}");
        assert!(response.body == body(length), "{length} in pieces of {piece}: {} bytes", response.body.len());
    }
    assert_eq!(origin.connections(), 1, "each response ended where it ends");
}

#[test]
fn responses_outside_the_fast_path_are_read_too() {
    let fields: String = (0..70).map(|field| format!("X-{field}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let kept = [
        ("no body", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), 204, ""),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n".to_owned(),
            200,
            "ok",
        ),
        ("two equal lengths", with("Content-Length: 2\r\n"), 200, "ok"),
        ("a folded field", with("X-A: 1\r\n 2\r\n"), 200, "ok"),
        ("a space before the colon", with("X-A : 1\r\n"), 200, "ok"),
        ("more fields than usual", with(&fields), 200, "ok"),
        ("a head longer than usual", with(&long), 200, "ok"),
        ("a hint before it", format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}", with("")), 200, "ok"),
        ("fields that end here", with("Connection: X-A\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\n"), 200, "ok"),
        ("a reason of its own", "HTTP/1.1 299 So\r\nContent-Length: 2\r\n\r\nok".to_owned(), 299, "ok"),
    ];
    let lost = [
        ("the end of the connection as its end", "HTTP/1.0 200 OK\r\n\r\nok".to_owned(), 200, "ok"),
        ("a goodbye", with("Connection: close\r\n"), 200, "ok"),
        ("more than it said", format!("{}HTTP/1.1 200 OK\r\n", with("")), 200, "ok"),
        ("a length that is none", with("").replace(": 2", ": +2"), 502, ""),
        ("no HTTP", "220 ready\r\n\r\n".to_owned(), 502, ""),
        ("a byte that no field has", with("X-A: \u{1}\r\n"), 502, ""),
    ];
    for (all, kept) in [(&kept[..], true), (&lost[..], false)] {
        for (what, bytes, status, text) in all {
            let (bytes, status) = (bytes.clone(), *status);
            let ends = bytes.starts_with("HTTP/1.0");
            let origin = Origin::start(move |_| {
                let reply = Reply::raw(&bytes);
                if ends { reply.and_close() } else { reply }
            });
            let weir = weir(&origin);
            let mut client = Client::connect(weir.web());
            for _ in 0..2 {
                let response = client.get("/");
                assert_eq!(response.status, status, "{what}: {}", response.text());
                assert!(status == 502 || response.text() == *text, "{what}: {}", response.text());
                let field = match *what {
                    "a folded field" => Some("1 2"),
                    "a space before the colon" => Some("1"),
                    _ => None,
                };
                assert_eq!(response.header("x-a"), field, "{what}");
            }
            assert_eq!(origin.connections() == 1, kept, "{what}");
        }
    }
}

#[test]
fn a_response_that_breaks_off_is_never_taken_for_a_whole_one() {
    let origin = Origin::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Le").and_close());
    let response = Client::connect(weir(&origin).web()).get("/");
    assert_eq!(response.status, 502, "{}", response.text());
    for (length, sent) in [(5, 0), (5, 4), (200_000, 100_000)] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let origin = Origin::start(move |_| Reply::raw(format!("{head}{}", "x".repeat(sent))).and_close());
        let weir = weir(&origin);
        let mut client = Client::connect(weir.web());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // Nothing at all would look like a connection that was just being closed, and be sent again.
        let all = String::from_utf8(client.read_to_end()).unwrap();
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or_default();
        let said = head.to_ascii_lowercase().contains(&format!("content-length: {length}"));
        assert!(said && body.len() <= sent, "{} bytes, then the end", all.len());
        assert!(sent > 10 || body.len() == sent, "{} bytes of it", body.len());
        weir.wait_for(&["weir_faults_total", "reset"], 1.0);
    }
}

/// Pingora reads 4,096 bytes at first, and asks for no more where they end with the response.
#[test]
fn a_connection_with_unread_extra_bytes_is_not_reused() {
    let body = "x".repeat(4000);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: ";
    let tail = |room: usize| format!("\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n", room, &body[..room]);
    let room = 3000;
    let fill = 4096 - head.len() - tail(room).len();
    let all = format!("{head}{}{}HTTP/1.1 200 OK\r\n", "y".repeat(fill), tail(room));
    let origin = Origin::raw(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        writer.set_nodelay(true).unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if line.is_empty() {
                // In two pieces, so that Weir has room for more than Pingora reads.
                let _ = writer.write_all(&all.as_bytes()[..100]);
                delay(std::time::Duration::from_millis(50));
                let _ = writer.write_all(&all.as_bytes()[100..]);
            }
        }
    });
    let weir = weir(&origin);
    let mut client = Client::connect(weir.web());
    for _ in 0..2 {
        assert_eq!(client.get("/").body.len(), room);
    }
    assert_eq!(origin.connections(), 2);
}
