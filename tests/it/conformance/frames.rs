//! Frame by frame: RFC 7540, section 6.

use super::Case;
use super::peer::{
    ENABLE_PUSH, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, PROTOCOL_ERROR,
    STREAM_CLOSED,
};
use super::streams::unended;
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    reason,
};

const CANCEL: u32 = 8;
const MOST: u32 = (1 << 31) - 1;

pub const CASES: &[Case] = &[
    ("http2/6.1/1", "DATA on stream 0", |p| p.open().data(0, true, b"test").connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.1/2", "DATA on a stream not open", |p| {
        let block = p.request("POST", &[]);
        p.open().get_by(&block).data(1, true, b"test").stream_error(&[STREAM_CLOSED])
    }),
    ("http2/6.1/3", "DATA with more padding than there is", |p| {
        p.open().post(&[("content-length", "4")]);
        p.frame(DATA, END_STREAM | PADDED, 1, b"\x06test").connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.2/1", "HEADERS without end, then PRIORITY", |p| {
        unended(p).priority(1, 0, 255).continuation(1, true).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.2/2", "HEADERS without end, then others", |p| {
        unended(p).get(3).continuation(1, true).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.2/3", "HEADERS on stream 0", |p| p.open().get(0).connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.2/4", "HEADERS with more padding than there is", |p| {
        let block = p.request("GET", &[]);
        let padded = [&[block.len() as u8 + 2][..], &block].concat();
        p.open().frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded).stream_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.3/1", "PRIORITY on stream 0", |p| p.open().priority(0, 0, 255).connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.3/2", "PRIORITY of 4 bytes", |p| {
        p.open().get(1).frame(PRIORITY, 0, 1, b"\x80\0\0\x01").stream_error(&[FRAME_SIZE_ERROR])
    }),
    ("http2/6.3/3", "PRIORITY, then HEADERS of a lower stream", |p| p.open().priority(3, 0, 255).get(1).answers(1)),
    ("http2/6.4/1", "RST_STREAM on stream 0", |p| p.open().reset(0, CANCEL).connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.4/2", "RST_STREAM on an idle stream", |p| p.open().reset(1, CANCEL).connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.4/3", "RST_STREAM of 3 bytes", |p| {
        p.open().get(1).frame(RST_STREAM, 0, 1, &[0; 3]).stream_error(&[FRAME_SIZE_ERROR])
    }),
    ("http2/6.5/1", "an acknowledgement with a payload", |p| {
        p.open().frame(SETTINGS, ACK, 0, &[0]).connection_error(&[FRAME_SIZE_ERROR])
    }),
    ("http2/6.5/2", "SETTINGS on a stream", |p| {
        p.open().frame(SETTINGS, 0, 1, b"\0\x03\0\0\0\x64").connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.5/3", "SETTINGS of an odd length", |p| {
        p.open().frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64\0\x02").stream_error(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR])
    }),
    ("http2/6.5.2/1", "ENABLE_PUSH of 2", |p| p.open().set(&[(ENABLE_PUSH, 2)]).connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.5.2/2", "INITIAL_WINDOW_SIZE too large", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, MOST + 1)]).connection_error(&[FLOW_CONTROL_ERROR])
    }),
    ("http2/6.5.2/3", "MAX_FRAME_SIZE too small", |p| {
        p.open().set(&[(MAX_FRAME_SIZE, 16_383)]).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.5.2/4", "MAX_FRAME_SIZE too large", |p| {
        p.open().set(&[(MAX_FRAME_SIZE, 1 << 24)]).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.5.2/5", "an unknown setting", |p| p.open().set(&[(0xff, 1)]).ping().pongs()),
    ("http2/6.5.3/1", "one setting twice", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]).comes(SETTINGS)?;
        p.get(1).sends(1)
    }),
    ("http2/6.5.3/2", "settings are acknowledged", |p| p.open().set(&[(ENABLE_PUSH, 0)]).acknowledges()),
    ("http2/6.7/1", "PING", |p| p.open().ping().pongs()),
    ("http2/6.7/2", "an answer to no PING", |p| {
        let mut stray = false;
        p.open().frame(PING, ACK, 0, b"invalid\0").ping();
        p.until(false, |frame| {
            stray |= frame.kind == PING && frame.payload == b"invalid\0";
            frame.kind == PING
        })?;
        if stray { Err("it was answered".into()) } else { Ok(()) }
    }),
    ("http2/6.7/3", "PING on a stream", |p| p.open().frame(PING, 0, 1, &[0; 8]).connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.7/4", "PING of 6 bytes", |p| p.open().frame(PING, 0, 0, &[0; 6]).connection_error(&[FRAME_SIZE_ERROR])),
    ("http2/6.8/1", "GOAWAY on a stream", |p| {
        p.open().frame(GOAWAY, 0, 1, &[0; 8]).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.9/1", "WINDOW_UPDATE of 0", |p| p.open().window(0, 0).connection_error(&[PROTOCOL_ERROR])),
    ("http2/6.9/2", "WINDOW_UPDATE of 0 for a stream", |p| {
        p.open().post(&[]).window(1, 0).stream_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.9/3", "WINDOW_UPDATE of 3 bytes", |p| {
        p.open().frame(WINDOW_UPDATE, 0, 0, b"\0\0\x01").connection_error(&[FRAME_SIZE_ERROR])
    }),
    ("http2/6.9.1/1", "a window of 1", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, 1)]).comes(SETTINGS)?;
        p.get(1).sends(1)
    }),
    ("http2/6.9.1/2", "the connection's window beyond 2^31-1", |p| {
        p.open().window(0, MOST).window(0, MOST);
        p.until(false, |frame| frame.kind == GOAWAY && reason(frame) == FLOW_CONTROL_ERROR)
    }),
    ("http2/6.9.1/3", "a stream's window beyond 2^31-1", |p| {
        p.open().post(&[]).window(1, MOST).window(1, MOST);
        p.until(false, |frame| frame.kind == RST_STREAM && frame.stream == 1 && reason(frame) == FLOW_CONTROL_ERROR)
    }),
    ("http2/6.9.2/1", "a window that opens behind the request", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, 0)]).comes(SETTINGS)?;
        p.get(1).set(&[(INITIAL_WINDOW_SIZE, 1)]).comes(SETTINGS)?;
        p.sends(1)
    }),
    ("http2/6.9.2/2", "a window that turns negative", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, 3)]).comes(SETTINGS)?;
        p.get(1).comes(DATA)?;
        p.set(&[(INITIAL_WINDOW_SIZE, 2)]).comes(SETTINGS)?;
        p.window(1, 2).sends(1)
    }),
    ("http2/6.9.2/3", "INITIAL_WINDOW_SIZE beyond 2^31-1", |p| {
        p.open().set(&[(INITIAL_WINDOW_SIZE, MOST + 1)]).connection_error(&[FLOW_CONTROL_ERROR])
    }),
    ("http2/6.10/1", "CONTINUATION twice", |p| {
        let block = p.request("GET", &[]);
        p.open().frame(HEADERS, END_STREAM, 1, &block).continuation(1, false).continuation(1, true).comes(HEADERS)
    }),
    ("http2/6.10/2", "CONTINUATION, then DATA", |p| {
        unended(p).continuation(1, false).data(1, true, b"test").connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.10/3", "CONTINUATION on stream 0", |p| {
        unended(p).continuation(0, true).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.10/4", "CONTINUATION of a block that has ended", |p| {
        p.open().get(1).continuation(1, true).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.10/5", "CONTINUATION behind the last one", |p| {
        unended(p).continuation(1, true).continuation(1, true).connection_error(&[PROTOCOL_ERROR])
    }),
    ("http2/6.10/6", "CONTINUATION behind DATA", |p| {
        unended(p).data(1, true, b"test").continuation(1, false).continuation(0, true);
        p.connection_error(&[PROTOCOL_ERROR])
    }),
];
