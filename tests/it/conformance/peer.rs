//! A client's side of one case: it sends frames, and says whether the answer is one that the rules allow.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, reason,
};
use crate::support::{DEADLINE, tls_config};

/// Nothing, or what came instead.
pub type Verdict = Result<(), String>;

pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const COMPRESSION_ERROR: u32 = 9;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Where cases go.
pub struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    pub fn new(address: SocketAddr, tls: bool) -> Self {
        let mut config = tls_config(None);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { address, tls: tls.then(|| Arc::new(config)) }
    }
}

trait Socket: Read + Write {}
impl<S: Read + Write> Socket for S {}

/// A connection, and what the server has said of itself.
pub struct Peer {
    frames: Frames<Box<dyn Socket>>,
    scheme: &'static str,
    settings: Vec<(u16, u32)>,
}

impl Peer {
    /// On which nothing has been said yet.
    pub fn connect(target: &Target) -> Self {
        let tcp = TcpStream::connect(target.address).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let stream: Box<dyn Socket> = match &target.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = "example.org".try_into().unwrap();
                Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp))
            }
        };
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        Self { frames: Frames::over(stream), scheme, settings: Vec::new() }
    }

    /// Past the preface and the settings of both sides.
    pub fn open(&mut self) -> &mut Self {
        self.send(PREFACE);
        self.set(&[(INITIAL_WINDOW_SIZE, 65_535)]);
        let (mut ours, mut theirs) = (false, false);
        while !(ours && theirs) {
            let Some(frame) = self.frames.next() else { break };
            if frame.kind == SETTINGS && frame.flags & ACK != 0 {
                ours = true;
            } else if frame.kind == SETTINGS {
                theirs = true;
                self.settings = frame.payload.chunks(6).map(setting).collect();
                self.frame(SETTINGS, ACK, 0, &[]);
            }
        }
        self
    }

    /// What the server has set.
    pub fn setting(&self, id: u16) -> Option<u32> {
        self.settings.iter().find(|(it, _)| *it == id).map(|(_, value)| *value)
    }

    /// The header block of `METHOD /` with more fields.
    pub fn request(&self, method: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let pseudo = [(":method", method), (":scheme", self.scheme), (":path", "/"), (":authority", "example.org")];
        block(&[&pseudo[..], more].concat())
    }

    /// Sends these; that the other end has closed shows in what comes.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.frames.send(bytes);
        self
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.send(&frame(kind, flags, stream, payload))
    }

    /// A request without a body.
    pub fn get(&mut self, stream: u32) -> &mut Self {
        let block = self.request("GET", &[]);
        self.frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
    }

    /// The same with more fields.
    pub fn get_with(&mut self, more: &[(&str, &str)]) -> &mut Self {
        let block = self.request("GET", more);
        self.frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
    }

    /// The same with a header block of these bytes.
    pub fn get_by(&mut self, block: &[u8]) -> &mut Self {
        self.frame(HEADERS, END_STREAM | END_HEADERS, 1, block)
    }

    /// A request whose body is to come.
    pub fn post(&mut self, more: &[(&str, &str)]) -> &mut Self {
        let block = self.request("POST", more);
        self.frame(HEADERS, END_HEADERS, 1, &block)
    }

    pub fn data(&mut self, stream: u32, end: bool, bytes: &[u8]) -> &mut Self {
        self.frame(DATA, if end { END_STREAM } else { 0 }, stream, bytes)
    }

    /// A header's continuation, with a field of the size that h2spec sends.
    pub fn continuation(&mut self, stream: u32, end: bool) -> &mut Self {
        let block = block(&[("x-dummy0", &"x".repeat(4000))]);
        self.frame(CONTINUATION, if end { END_HEADERS } else { 0 }, stream, &block)
    }

    /// PRIORITY: `on` the connection itself with the highest bit.
    pub fn priority(&mut self, stream: u32, on: u32, weight: u8) -> &mut Self {
        self.frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat())
    }

    pub fn reset(&mut self, stream: u32, code: u32) -> &mut Self {
        self.frame(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub fn window(&mut self, stream: u32, more: u32) -> &mut Self {
        self.frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    }

    pub fn set(&mut self, settings: &[(u16, u32)]) -> &mut Self {
        let bytes = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(bytes).collect();
        self.frame(SETTINGS, 0, 0, &payload)
    }

    pub fn ping(&mut self) -> &mut Self {
        self.frame(PING, 0, 0, b"12345678")
    }

    /// The connection ends, or GOAWAY says one of these.
    pub fn connection_error(&mut self, codes: &[u32]) -> Verdict {
        self.until(true, |frame| frame.kind == GOAWAY && codes.contains(&reason(frame)))
    }

    /// The same, or the stream is reset with one of these.
    pub fn stream_error(&mut self, codes: &[u32]) -> Verdict {
        self.until(true, |frame| matches!(frame.kind, GOAWAY | RST_STREAM) && codes.contains(&reason(frame)))
    }

    /// The connection ends.
    pub fn closes(&mut self) -> Verdict {
        self.until(true, |_| false)
    }

    /// A frame of this kind comes.
    pub fn comes(&mut self, kind: u8) -> Verdict {
        self.until(false, |frame| frame.kind == kind)
    }

    /// The header of a response comes on this stream.
    pub fn answers(&mut self, stream: u32) -> Verdict {
        self.until(false, |frame| frame.kind == HEADERS && frame.stream == stream)
    }

    /// A response comes whole.
    pub fn answers_whole(&mut self) -> Verdict {
        self.until(false, |frame| matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0)
    }

    /// The ping is answered.
    pub fn pongs(&mut self) -> Verdict {
        self.until(false, is_pong)
    }

    /// The same, or the connection ends.
    pub fn pongs_or_closes(&mut self) -> Verdict {
        self.until(true, is_pong)
    }

    /// The next settings frame acknowledges ours.
    pub fn acknowledges(&mut self) -> Verdict {
        let mut last = None;
        self.until(false, |frame| {
            last = (frame.kind == SETTINGS).then_some(frame.flags & ACK);
            frame.kind == SETTINGS
        })?;
        if last == Some(ACK) { Ok(()) } else { Err("settings, not their acknowledgement".into()) }
    }

    /// The next piece of a body has this length.
    pub fn sends(&mut self, length: usize) -> Verdict {
        let mut came = 0;
        self.until(false, |frame| {
            came = frame.payload.len();
            frame.kind == DATA
        })?;
        if came == length { Ok(()) } else { Err(format!("{came} bytes, not {length}")) }
    }

    /// Reads until a frame is the right one; `or_end`: the end of the connection is right too.
    pub fn until(&mut self, or_end: bool, mut right: impl FnMut(&Frame) -> bool) -> Verdict {
        let mut came = Vec::new();
        let begin = std::time::Instant::now();
        loop {
            match self.frames.try_next() {
                Ok(Some(frame)) if right(&frame) => return Ok(()),
                Ok(Some(frame)) => came.push(format!("{}:{}:{}", frame.kind, frame.flags, frame.stream)),
                Ok(None) if or_end => return Ok(()),
                Ok(None) => return Err(format!("the end after {came:?}")),
                Err(error) => return Err(format!("{error} in {:?} after {came:?}", begin.elapsed())),
            }
        }
    }
}

fn is_pong(frame: &Frame) -> bool {
    frame.kind == PING && frame.flags & ACK != 0 && frame.payload == b"12345678"
}

fn setting(bytes: &[u8]) -> (u16, u32) {
    (u16::from_be_bytes([bytes[0], bytes[1]]), u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
}
