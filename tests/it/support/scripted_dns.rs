//! A DNS server over UDP whose every answer a test decides. It ends with the process.

use std::net::{IpAddr, SocketAddr, UdpSocket};

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const SRV: u16 = 33;

pub const NO_ERROR: u8 = 0;
pub const FORMERR: u8 = 1;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Without the final dot.
    pub name: String,
    pub kind: u16,
    /// It has an OPT record.
    pub edns: bool,
}

/// A record of the answer.
pub struct Record {
    name: String,
    kind: u16,
    data: Vec<u8>,
}

impl Record {
    pub fn address(name: &str, ip: &str) -> Self {
        let IpAddr::V4(v4) = ip.parse().unwrap() else { panic!("IPv4 only") };
        Self { name: name.into(), kind: A, data: v4.octets().to_vec() }
    }

    pub fn alias(name: &str, target: &str) -> Self {
        Self { name: name.into(), kind: CNAME, data: encode(target) }
    }

    pub fn service(name: &str, target: &str, port: u16) -> Self {
        let data = [&[0, 0, 0, 1], &port.to_be_bytes()[..], &encode(target)].concat();
        Self { name: name.into(), kind: SRV, data }
    }
}

/// Answers each question by this: a code and records.
pub fn serve(answer: impl Fn(&Question) -> (u8, Vec<Record>) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            let (question, end) = parse(&packet[..length]);
            let (code, records) = answer(&question);
            let count = u16::try_from(records.len()).unwrap().to_be_bytes();
            let mut out = [&packet[..2], &[0x84, code, 0, 1], &count, &[0, 0, 0, 0], &packet[12..end]].concat();
            for record in records {
                out.extend(encode(&record.name));
                out.extend(record.kind.to_be_bytes());
                out.extend([0, 1, 0, 0, 0, 1]);
                out.extend(u16::try_from(record.data.len()).unwrap().to_be_bytes());
                out.extend(record.data);
            }
            let _ = socket.send_to(&out, client);
        }
    });
    address
}

/// The question, and where it ends.
fn parse(packet: &[u8]) -> (Question, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while packet[at] > 0 {
        let length = usize::from(packet[at]);
        labels.push(String::from_utf8_lossy(&packet[at + 1..at + 1 + length]).to_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([packet[at + 1], packet[at + 2]]);
    (Question { name: labels.join("."), kind, edns: packet[11] > 0 }, at + 5)
}

fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.bytes());
    }
    out.push(0);
    out
}
