//! Clients of HTTP/2 that ask for much and pay little: what they get is an end, and the others are served meanwhile.

use std::time::Duration;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame,
    reason,
};
use crate::support::{Client, Config, Origin, Reply, Weir};

const ENHANCE_YOUR_CALM: u32 = 11;

fn before(origin: &Origin) -> Weir {
    Weir::start(Config::to(origin).set("listeners.web.timeouts.write", "1s"))
}

fn ask(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// Everything is as if nothing had been: others are served, nothing is left open.
fn all_is_well(weir: &Weir) {
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    weir.wait_for(&["weir_requests_in_flight"], 0.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_listener_connections{"], 0.0);
    assert_eq!(weir.sum(&["weir_panics_total"]), 0.0);
}

#[test]
fn streams_that_are_opened_and_reset_at_once_end_the_connection() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_millis(100)));
    let weir = before(&origin);
    let mut client = Frames::connect(weir.web());
    let flood: Vec<u8> = (0..5000).flat_map(|turn| [ask(2 * turn + 1), reset(2 * turn + 1)].concat()).collect();
    let _ = client.send(&flood);
    // What was said before the close may be lost with it; that it is closed is what counts.
    if let Some(goaway) = client.next_of(GOAWAY) {
        assert_eq!(reason(&goaway), ENHANCE_YOUR_CALM);
    }
    drop(client);
    all_is_well(&weir);
    assert!(origin.requests().len() < 1000, "{} of 5000 got through", origin.requests().len());
}

#[test]
fn requests_that_are_begun_and_given_up_again_and_again_end_the_connection() {
    let origin = Origin::start(|request| {
        let slow = if request.header("host") == Some("example.org") { 2000 } else { 0 };
        Reply::new(200, "").after(Duration::from_millis(slow))
    });
    let weir = before(&origin);
    let mut client = Frames::connect(weir.web());
    let mut asked = 0;
    // Each is taken up before it is given up, so h2's own bound does not see it.
    while asked < 400 && client.send(&ask(2 * asked + 1)) {
        let begun = f64::from(asked + 1);
        let is_begun = || weir.sum(&["weir_requests_in_flight"]) + weir.sum(&["weir_requests_total"]) >= begun;
        let patience = std::time::Instant::now() + Duration::from_millis(300);
        while !is_begun() && std::time::Instant::now() < patience {}
        if !client.send(&reset(2 * asked + 1)) {
            break;
        }
        asked += 1;
    }
    assert!((100..400).contains(&asked), "{asked}");
    drop(client);
    all_is_well(&weir);
    assert!(weir.stderr().contains("resets most of its requests"), "{}", weir.stderr());
}

#[test]
fn a_header_without_end_is_refused_long_before_it_fills_memory() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Frames::connect(weir.web());
    let mut sent = 0;
    let mut open = client.send(&frame(HEADERS, END_STREAM, 1, GET));
    // Literals that are not indexed, 16 KiB a frame, and no END_HEADERS.
    let literal = [b"\0\x01x\x7f\x81\x7f".to_vec(), vec![b'y'; 16_000]].concat();
    while open && sent < 100_000_000 {
        sent += literal.len();
        open = client.send(&frame(CONTINUATION, 0, 1, &literal));
    }
    assert!(sent < 50_000_000, "{sent} bytes were taken");
    drop(client);
    all_is_well(&weir);
    assert!(origin.requests().len() <= 1);
}

#[test]
fn small_continuations_without_end_are_refused_too() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Frames::connect(weir.web());
    let mut open = client.send(&frame(HEADERS, END_STREAM, 1, GET));
    let empty: Vec<u8> = (0..100).flat_map(|_| frame(CONTINUATION, 0, 1, &[])).collect();
    let mut frames = 0;
    while open && frames < 1_000_000 {
        frames += 100;
        open = client.send(&empty);
    }
    assert!(frames < 1_000_000, "no bound on frames");
    drop(client);
    all_is_well(&weir);
}

#[test]
fn pings_and_settings_whose_answers_are_not_read_end_the_connection() {
    let origin = Origin::named("a");
    for kind in [PING, SETTINGS] {
        let weir = before(&origin);
        let mut client = Frames::connect(weir.web());
        let payload: &[u8] = if kind == PING { &[7; 8] } else { &[] };
        let many: Vec<u8> = (0..1000).flat_map(|_| frame(kind, 0, 0, payload)).collect();
        let mut sent = 0;
        // The answers fill what the sockets hold; then nothing more is read, and `timeouts.write` ends it.
        while sent < 1_000_000_000 && client.send(&many) {
            sent += many.len();
        }
        assert!(sent < 1_000_000_000, "{kind}: no bound");
        drop(client);
        all_is_well(&weir);
    }
}

#[test]
fn pings_and_settings_whose_answers_are_read_are_answered() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Frames::connect(weir.web());
    for turn in 0..500_u64 {
        assert!(client.send(&frame(PING, 0, 0, &turn.to_be_bytes())));
        let pong = client.next_of(PING).unwrap();
        assert_eq!((pong.flags, pong.stream, pong.payload), (1, 0, turn.to_be_bytes().to_vec()));
    }
    assert!(client.send(&ask(1)));
    assert_eq!(client.next_of(HEADERS).unwrap().stream, 1);
}

#[test]
fn empty_data_frames_without_end_do_not_hold_the_others_up() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Frames::connect(weir.web());
    assert!(client.send(&frame(HEADERS, END_HEADERS, 1, &[b"\x83\x84\x86", &GET[3..]].concat())));
    let empty: Vec<u8> = (0..1000).flat_map(|_| frame(DATA, 0, 1, &[])).collect();
    for _ in 0..200 {
        if !client.send(&empty) {
            break;
        }
    }
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    drop(client);
    all_is_well(&weir);
}
