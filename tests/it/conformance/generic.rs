//! What every server must take: h2spec's generic part.

use super::Case;
use super::peer::{
    ENABLE_PUSH, HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE,
    Peer, Verdict,
};
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PREFACE, WITH_PRIORITY, block};

const CANCEL: u32 = 8;
const EXCLUSIVE: u32 = 1 << 31;

pub const CASES: &[Case] = &[
    ("generic/1/1", "preface", |p| p.send(PREFACE).set(&[(INITIAL_WINDOW_SIZE, 65_535)]).comes(4)),
    ("generic/2/1", "PRIORITY on an idle stream", |p| p.open().priority(1, 0, 255).ping().pongs()),
    ("generic/2/2", "WINDOW_UPDATE on a stream half closed", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, 0)]).get(1).window(1, 1).comes(DATA)
    }),
    ("generic/2/3", "PRIORITY on a stream half closed", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, 0)]).get(1).priority(1, 0, 255).window(1, 1).comes(DATA)
    }),
    ("generic/2/4", "RST_STREAM on a stream half closed", |p| {
        p.open().get(1).reset(1, CANCEL).ping().pongs_or_closes()
    }),
    ("generic/2/5", "PRIORITY on a closed stream", |p| {
        p.open().get(1).answers_whole()?;
        p.priority(1, 0, 255).ping().pongs()
    }),
    ("generic/3.1/1", "DATA", |p| p.open().post(&[]).data(1, true, b"test").answers(1)),
    ("generic/3.1/2", "DATA twice", |p| p.open().post(&[]).data(1, false, b"test").data(1, true, b"test").answers(1)),
    ("generic/3.1/3", "DATA with padding", |p| {
        p.open().post(&[]).frame(DATA, END_STREAM | PADDED, 1, b"\x06test\0\0\0\0\0\0").answers(1)
    }),
    ("generic/3.2/1", "HEADERS", |p| p.open().get(1).answers(1)),
    ("generic/3.2/2", "HEADERS with padding", |p| {
        let block = [&[8][..], &p.request("GET", &[]), &[0; 8]].concat();
        p.open().frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &block).answers(1)
    }),
    ("generic/3.2/3", "HEADERS with a priority", |p| {
        let block = [&[0, 0, 0, 0, 255][..], &p.request("GET", &[])].concat();
        p.open().frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &block).answers(1)
    }),
    ("generic/3.3/1", "PRIORITY 1", |p| p.open().priority(1, 0, 0).get(1).answers(1)),
    ("generic/3.3/2", "PRIORITY 256", |p| p.open().priority(1, 0, 255).get(1).answers(1)),
    ("generic/3.3/3", "PRIORITY on another stream", |p| p.open().priority(3, 1, 0).get(1).answers(1)),
    ("generic/3.3/4", "PRIORITY, exclusive", |p| p.open().priority(1, EXCLUSIVE, 0).get(1).answers(1)),
    ("generic/3.3/5", "PRIORITY, then HEADERS of a lower stream", |p| p.open().priority(3, 0, 255).get(1).answers(1)),
    ("generic/3.4/1", "RST_STREAM", |p| p.open().post(&[]).reset(1, CANCEL).ping().pongs_or_closes()),
    ("generic/3.5/1", "SETTINGS, all of them", |p| {
        p.open().set(&[
            (HEADER_TABLE_SIZE, 4096),
            (ENABLE_PUSH, 1),
            (MAX_CONCURRENT_STREAMS, 100),
            (INITIAL_WINDOW_SIZE, 65_535),
            (MAX_FRAME_SIZE, 16_384),
            (MAX_HEADER_LIST_SIZE, 100),
        ]);
        p.acknowledges()
    }),
    ("generic/3.7/1", "PING", |p| p.open().ping().pongs()),
    ("generic/3.8/1", "GOAWAY", |p| p.open().frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0h2spec").closes()),
    ("generic/3.9/1", "WINDOW_UPDATE of the connection", |p| p.open().window(0, 1).ping().pongs()),
    ("generic/3.9/2", "WINDOW_UPDATE of a stream", |p| p.open().get(1).window(1, 1).answers(1)),
    ("generic/3.10/1", "CONTINUATION", |p| {
        let block = p.request("GET", &[]);
        p.open().frame(HEADERS, END_STREAM, 1, &block).continuation(1, true).answers(1)
    }),
    ("generic/3.10/2", "CONTINUATION twice", |p| {
        let block = p.request("GET", &[]);
        p.open().frame(HEADERS, END_STREAM, 1, &block).continuation(1, false).continuation(1, true).answers(1)
    }),
    ("generic/4/1", "GET", |p| p.open().get(1).answers(1)),
    ("generic/4/2", "HEAD", |p| {
        let block = p.request("HEAD", &[]);
        p.open().get_by(&block).answers(1)
    }),
    ("generic/4/3", "POST", |p| p.open().post(&[]).data(1, true, b"test").answers(1)),
    ("generic/4/4", "POST with trailers", |p| {
        p.open().post(&[("trailer", "x-test")]).data(1, false, b"test");
        p.frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x-test", "ok")])).answers(1)
    }),
    ("generic/5/1", "an indexed field", |p| literal(p, b"\xba")),
    ("generic/5/2", "with indexing, Huffman", |p| {
        literal(p, b"\x40\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4")
    }),
    ("generic/5/3", "with indexing", |p| literal(p, b"\x40\x0auser-agent\x06h2spec")),
    ("generic/5/4", "with indexing, new name", |p| literal(p, b"\x40\x06x-test\x06h2spec")),
    ("generic/5/5", "with indexing, new name, Huffman", |p| {
        literal(p, b"\x40\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4")
    }),
    ("generic/5/6", "without indexing", |p| literal(p, b"\x00\x0auser-agent\x06h2spec")),
    ("generic/5/7", "without indexing, Huffman", |p| {
        literal(p, b"\x00\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4")
    }),
    ("generic/5/8", "without indexing, new name", |p| literal(p, b"\x00\x06x-test\x06h2spec")),
    ("generic/5/9", "without indexing, new name, Huffman", |p| {
        literal(p, b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4")
    }),
    ("generic/5/10", "never indexed", |p| literal(p, b"\x10\x0auser-agent\x06h2spec")),
    ("generic/5/11", "never indexed, Huffman", |p| {
        literal(p, b"\x10\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4")
    }),
    ("generic/5/12", "never indexed, new name", |p| literal(p, b"\x10\x06x-test\x06h2spec")),
    ("generic/5/13", "never indexed, new name, Huffman", |p| {
        literal(p, b"\x10\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4")
    }),
    ("generic/5/14", "a new size of the table", |p| sized(p, b"\x20")),
    ("generic/5/15", "two new sizes of the table", |p| sized(p, b"\x20\x3f\xe1\x1f")),
];

fn literal(p: &mut Peer, field: &[u8]) -> Verdict {
    let block = [&p.request("GET", &[]), field].concat();
    p.open().get_by(&block).answers(1)
}

fn sized(p: &mut Peer, sizes: &[u8]) -> Verdict {
    let block = [sizes, &p.request("GET", &[])].concat();
    p.open().get_by(&block).answers(1)
}
