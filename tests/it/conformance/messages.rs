//! Requests that are malformed, and pushes: RFC 7540, section 8.

use super::Case;
use super::peer::{PROTOCOL_ERROR, Peer, Verdict};
use super::streams::malformed;
use crate::support::frames::{END_HEADERS, HEADERS, PUSH_PROMISE, block};

const PSEUDO: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "example.org")];

pub const CASES: &[Case] = &[
    ("http2/8.1.2/1", "a name with capitals", |p| with(p, ("X-TEST", "ok"))),
    ("http2/8.1.2.1/1", "an unknown pseudo field", |p| with(p, (":test", "ok"))),
    ("http2/8.1.2.1/2", "a response's pseudo field", |p| with(p, (":status", "200"))),
    ("http2/8.1.2.1/3", "a pseudo field as trailer", |p| {
        p.open().post(&[]).data(1, false, b"test");
        p.frame(HEADERS, END_HEADERS, 1, &block(&[(":method", "POST")])).stream_error(&[PROTOCOL_ERROR])
    }),
    ("http2/8.1.2.1/4", "a pseudo field behind others", |p| {
        malformed(p, &block(&[&[("x-test", "ok")][..], &PSEUDO].concat()))
    }),
    ("http2/8.1.2.2/1", "Connection", |p| with(p, ("connection", "keep-alive"))),
    ("http2/8.1.2.2/2", "TE with more than trailers", |p| with(p, ("te", "trailers, deflate"))),
    ("http2/8.1.2.3/1", "an empty :path", |p| {
        let mut fields = PSEUDO;
        fields[2].1 = "";
        malformed(p, &block(&fields))
    }),
    ("http2/8.1.2.3/2", "no :method", |p| malformed(p, &block(&PSEUDO[1..]))),
    ("http2/8.1.2.3/3", "no :scheme", |p| malformed(p, &block(&[PSEUDO[0], PSEUDO[2], PSEUDO[3]]))),
    ("http2/8.1.2.3/4", "no :path", |p| malformed(p, &block(&[PSEUDO[0], PSEUDO[1], PSEUDO[3]]))),
    ("http2/8.1.2.3/5", "two :method", |p| with(p, PSEUDO[0])),
    ("http2/8.1.2.3/6", "two :scheme", |p| with(p, PSEUDO[1])),
    ("http2/8.1.2.3/7", "two :path", |p| with(p, PSEUDO[2])),
    ("http2/8.1.2.6/1", "another length than announced", |p| {
        p.open().post(&[("content-length", "1")]).data(1, true, b"test").stream_error(&[PROTOCOL_ERROR])
    }),
    ("http2/8.1.2.6/2", "another length in several pieces", |p| {
        p.open().post(&[("content-length", "1")]).data(1, false, b"test").data(1, true, b"test");
        p.stream_error(&[PROTOCOL_ERROR])
    }),
    ("http2/8.2/1", "PUSH_PROMISE", |p| {
        let promise = [&3_u32.to_be_bytes()[..], &p.request("GET", &[])].concat();
        p.open().frame(PUSH_PROMISE, END_HEADERS, 1, &promise).connection_error(&[PROTOCOL_ERROR])
    }),
];

fn with(p: &mut Peer, field: (&str, &str)) -> Verdict {
    let block = p.request("GET", &[field]);
    malformed(p, &block)
}
