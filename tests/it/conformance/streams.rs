//! Connections and streams: RFC 7540, sections 3 to 5.

use super::Case;
use super::peer::{
    COMPRESSION_ERROR, FRAME_SIZE_ERROR, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, PROTOCOL_ERROR,
    Peer, REFUSED_STREAM, STREAM_CLOSED, Verdict,
};
use crate::support::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, SETTINGS, WITH_PRIORITY, block,
};

const CANCEL: u32 = 8;
const UNKNOWN: u8 = 22;
const EITHER: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];

pub const CASES: &[Case] = &[
    ("http2/3.5/1", "preface", |p| p.send(PREFACE).set(&[(INITIAL_WINDOW_SIZE, 65_535)]).comes(SETTINGS)),
    ("http2/3.5/2", "a preface that is none", |p| p.send(b"INVALID CONNECTION PREFACE\r\n\r\n").closes()),
    ("http2/4.1/1", "an unknown type", |p| p.open().frame(UNKNOWN, 0, 0, &[0; 8]).ping().pongs()),
    ("http2/4.1/2", "an undefined flag", |p| p.open().frame(PING, 0x16, 0, &[0; 8]).comes(PING)),
    ("http2/4.1/3", "the reserved bit", |p| p.open().frame(PING, 0x16, 1 << 31, &[0; 8]).comes(PING)),
    ("http2/4.2/1", "DATA of 2^14 bytes", |p| {
        let most = p.open().setting(MAX_FRAME_SIZE).unwrap_or(16_384) as usize;
        p.post(&[]).data(1, true, &vec![b'x'; most]).comes(HEADERS)
    }),
    ("http2/4.2/2", "DATA beyond the largest frame", |p| {
        let most = p.open().setting(MAX_FRAME_SIZE).unwrap_or(16_384) as usize;
        p.post(&[]).data(1, true, &vec![b'x'; most + 1]).stream_error(&[FRAME_SIZE_ERROR])
    }),
    ("http2/4.2/3", "HEADERS beyond the largest frame", |p| {
        let most = p.open().setting(MAX_FRAME_SIZE).unwrap_or(16_384) as usize;
        let long = "x".repeat(most / 4 + 1);
        p.get_with(&[("x-dummy0", &long), ("x-dummy1", &long), ("x-dummy2", &long), ("x-dummy3", &long)]);
        p.connection_error(&[FRAME_SIZE_ERROR])
    }),
    ("http2/4.3/1", "a broken block", |p| {
        p.open().frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x40").connection_error(&[COMPRESSION_ERROR])
    }),
    ("http2/4.3/2", "PRIORITY within a block", |p| {
        unended(p).priority(1, 0, 255).continuation(1, true).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/4.3/3", "HEADERS of another stream within a block", |p| {
        unended(p).get(3).continuation(1, true).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/5.1/1", "idle: DATA", |p| p.open().data(1, true, b"test").connection_error(&[PROTOCOL_ERROR])),
    ("http2/5.1/2", "idle: RST_STREAM", |p| p.open().reset(1, CANCEL).connection_error(&[PROTOCOL_ERROR])),
    ("http2/5.1/3", "idle: WINDOW_UPDATE", |p| p.open().window(1, 100).connection_error(&[PROTOCOL_ERROR])),
    ("http2/5.1/4", "idle: CONTINUATION", |p| {
        let block = p.request("GET", &[]);
        p.open().frame(CONTINUATION, END_HEADERS, 1, &block).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/5.1/5", "half closed: DATA", |p| p.open().get(1).data(1, true, b"test").stream_error(&[STREAM_CLOSED])),
    ("http2/5.1/6", "half closed: HEADERS", |p| p.open().get(1).get(1).stream_error(&[STREAM_CLOSED])),
    ("http2/5.1/7", "half closed: CONTINUATION", |p| {
        let block = p.request("GET", &[]);
        p.open().get(1).frame(CONTINUATION, END_HEADERS, 1, &block).stream_error(EITHER)
    }),
    ("http2/5.1/8", "reset: DATA", |p| {
        p.open().post(&[]).reset(1, CANCEL).data(1, true, b"test").stream_error(&[STREAM_CLOSED])
    }),
    ("http2/5.1/9", "reset: HEADERS", |p| p.open().post(&[]).reset(1, CANCEL).get(1).stream_error(&[STREAM_CLOSED])),
    ("http2/5.1/10", "reset: CONTINUATION", |p| {
        p.open().post(&[]).reset(1, CANCEL).continuation(1, true).stream_error(EITHER)
    }),
    ("http2/5.1/11", "closed: DATA", |p| {
        p.open().get(1).answers_whole()?;
        p.data(1, true, b"test").stream_error(&[STREAM_CLOSED])
    }),
    ("http2/5.1/12", "closed: HEADERS", |p| {
        p.open().get(1).answers_whole()?;
        p.get(1).connection_error(&[STREAM_CLOSED])
    }),
    ("http2/5.1/13", "closed: CONTINUATION", |p| {
        p.open().get(1).answers_whole()?;
        p.continuation(1, true).connection_error(EITHER)
    }),
    ("http2/5.1.1/1", "an even stream", |p| p.open().get(2).connection_error(&[PROTOCOL_ERROR])),
    ("http2/5.1.1/2", "a stream below the last", |p| p.open().get(5).get(3).connection_error(&[PROTOCOL_ERROR])),
    ("http2/5.1.1/3", "HEADERS of a stream half closed", |p| p.open().get(5).get(5).stream_error(&[STREAM_CLOSED])),
    ("http2/5.1.2/1", "more streams than allowed", |p| {
        let most = p.open().setting(MAX_CONCURRENT_STREAMS).expect("a bound");
        p.set(&[(INITIAL_WINDOW_SIZE, 0)]);
        for stream in 0..=most {
            p.get(2 * stream + 1);
        }
        p.stream_error(&[PROTOCOL_ERROR, REFUSED_STREAM])
    }),
    ("http2/5.3.1/1", "HEADERS that depend on themselves", |p| {
        let block = [&[0, 0, 0, 1, 255][..], &p.request("GET", &[])].concat();
        p.open().frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &block).stream_error(&[PROTOCOL_ERROR])
    }),
    ("http2/5.3.1/2", "PRIORITY that depends on itself", |p| {
        p.open().priority(1, 1, 255).stream_error(&[PROTOCOL_ERROR])
    }),
    ("http2/5.4.1/1", "an error ends the connection", |p| p.open().frame(PING, 0, 3, &[0; 8]).closes()),
    ("http2/5.4.1/2", "an error is told first", |p| p.open().frame(PING, 0, 3, &[0; 8]).comes(GOAWAY)),
    ("http2/5.5/1", "an extension's frame", |p| p.open().frame(UNKNOWN, 0, 0, &[0; 8]).ping().pongs()),
    ("http2/5.5/2", "an extension's frame within a block", |p| {
        unended(p).frame(UNKNOWN, 0, 0, &[0; 8]).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/7/1", "GOAWAY for an unknown reason", |p| p.open().frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\xff").closes()),
    ("http2/7/2", "RST_STREAM for an unknown reason", |p| p.open().post(&[]).reset(1, 0xff).ping().pongs()),
    ("http2/8.1/1", "a second header that is no end", |p| {
        p.open().post(&[]).data(1, false, b"test");
        p.frame(HEADERS, END_HEADERS, 1, &block(&[("x-test", "ok")])).stream_error(&[PROTOCOL_ERROR])
    }),
];

/// Opens, and begins a header that does not end.
pub fn unended(p: &mut Peer) -> &mut Peer {
    let block = p.request("POST", &[]);
    p.open().frame(HEADERS, 0, 1, &block)
}

/// A request with this header block is refused.
pub fn malformed(p: &mut Peer, block: &[u8]) -> Verdict {
    p.open().get_by(block).stream_error(&[PROTOCOL_ERROR])
}
