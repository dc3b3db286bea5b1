//! Parser and encoder of the PROXY protocol header, versions 1 and 2, without I/O.
//!
//! It follows HAProxy's specification (proxy-protocol.txt, sections 2.1 and 2.2). It never reads a socket and never
//! decides whether a peer is trusted. It reports the length of a header, so that the caller reads no byte beyond it. No
//! crate is used: the available ones accept only a complete header of up to 64 KiB. The caller would have to find the
//! end of the header itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Maximum length of a version 1 line, including CR LF.
pub const V1_MAX_LEN: usize = 107;
/// Number of bytes that identify the version. Every header of either version is longer.
pub const MIN_PREFIX_LEN: usize = 12;
/// Length of the fixed part of a version 2 header: signature, version and command, family, length.
pub const V2_FIXED: usize = 16;
/// Maximum number of address bytes that are parsed (two IPv6 addresses with their ports).
pub const V2_ADDRESSES: usize = 36;

const V1_START: &[u8] = b"PROXY ";
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The two addresses of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPair {
    /// The client's address.
    pub source: SocketAddr,
    /// The address to which the client connected.
    pub destination: SocketAddr,
}

/// Why bytes are not a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHeader {
    /// The bytes start like neither version.
    #[error("no PROXY header")]
    Start,
    /// A version 1 line has a wrong syntax.
    #[error("a malformed line of version 1")]
    Line,
    /// A version 1 line does not end within 107 bytes.
    #[error("a line of version 1 without its end")]
    Endless,
    /// The version is not 2, or the command, family or transport does not exist.
    #[error("an unknown version, command, family or transport")]
    Unknown,
    /// The length is too small for the addresses.
    #[error("a length too small for its addresses")]
    Length,
}

/// The version of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Version 1, a line of text.
    One,
    /// Version 2, binary.
    Two,
}

/// Detects the version from the first `MIN_PREFIX_LEN` bytes.
///
/// # Errors
/// It is neither version.
pub fn version(start: &[u8; MIN_PREFIX_LEN]) -> Result<Version, MalformedHeader> {
    match start {
        start if *start == V2_SIGNATURE => Ok(Version::Two),
        start if start.starts_with(V1_START) => Ok(Version::One),
        _ => Err(MalformedHeader::Start),
    }
}

/// Parses a version 1 line, including its CR LF. Returns `None` for `UNKNOWN`: then the addresses of the socket apply.
///
/// # Errors
/// The line is malformed.
pub fn parse_v1(line: &[u8]) -> Result<Option<AddressPair>, MalformedHeader> {
    if line.len() > V1_MAX_LEN {
        return Err(MalformedHeader::Endless);
    }
    let inner = line.strip_prefix(V1_START).and_then(|line| line.strip_suffix(b"\r\n")).ok_or(MalformedHeader::Line)?;
    // The specification requires that everything after UNKNOWN is ignored.
    if inner == b"UNKNOWN" || inner.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let text = std::str::from_utf8(inner).map_err(|_| MalformedHeader::Line)?;
    let words: Vec<&str> = text.split(' ').collect();
    let [family, source, destination, from, to] = words[..] else { return Err(MalformedHeader::Line) };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let end = |ip: &str, number: &str| Some(SocketAddr::new(address(ip)?, port(number)?));
    match (end(source, from), end(destination, to)) {
        (Some(source), Some(destination)) => Ok(Some(AddressPair { source, destination })),
        _ => Err(MalformedHeader::Line),
    }
}

/// A port from 0 to 65535 without leading zeros.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let leads = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| digits && !leads)
}

/// The fixed part of a version 2 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V2 {
    family: AddressFamily,
    /// Number of bytes that follow the fixed part, of any kind.
    pub length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressFamily {
    /// The proxy's own connection, or a family other than IP: the addresses of the socket apply.
    None,
    V4,
    V6,
}

impl V2 {
    /// Parses the fixed part.
    ///
    /// # Errors
    /// A field has an undefined value, or the length is too small.
    pub fn parse(fixed: &[u8; V2_FIXED]) -> Result<Self, MalformedHeader> {
        if fixed[..MIN_PREFIX_LEN] != V2_SIGNATURE {
            return Err(MalformedHeader::Start);
        }
        let family = match (fixed[12], fixed[13]) {
            // LOCAL: the proxy's own connection. The address bytes must be ignored.
            (0x20, _) => AddressFamily::None,
            (0x21, 0x11) => AddressFamily::V4,
            (0x21, 0x21) => AddressFamily::V6,
            // UNSPEC, datagrams and Unix sockets: a client of a TCP listener never uses them.
            (0x21, 0x00..=0x02 | 0x10 | 0x12 | 0x20 | 0x22 | 0x30..=0x32) => AddressFamily::None,
            _ => return Err(MalformedHeader::Unknown),
        };
        let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        let v2 = Self { family, length };
        if length < v2.addresses() { Err(MalformedHeader::Length) } else { Ok(v2) }
    }

    /// Number of the following bytes that hold addresses. The caller skips the others (TLVs).
    pub fn addresses(self) -> usize {
        match self.family {
            AddressFamily::None => 0,
            AddressFamily::V4 => 12,
            AddressFamily::V6 => V2_ADDRESSES,
        }
    }

    /// The addresses in those bytes; `None` if the addresses of the socket apply.
    pub fn ends(self, addresses: &[u8]) -> Option<AddressPair> {
        let (source, destination): (IpAddr, IpAddr) = match self.family {
            AddressFamily::None => return None,
            AddressFamily::V4 => (four(addresses)?.into(), four(addresses.get(4..)?)?.into()),
            AddressFamily::V6 => (six(addresses)?.into(), six(addresses.get(16..)?)?.into()),
        };
        let ports = addresses.get(self.addresses() - 4..)?.first_chunk::<4>()?;
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        Some(AddressPair {
            source: SocketAddr::new(source, port(0)),
            destination: SocketAddr::new(destination, port(2)),
        })
    }
}

fn four(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

fn six(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes))
}

/// Encodes a version 2 header for a client's connection. Without addresses it is LOCAL: a connection of Weir itself.
pub fn encode_v2(ends: Option<AddressPair>) -> Vec<u8> {
    let mut header = Vec::with_capacity(V2_FIXED + V2_ADDRESSES);
    header.extend(V2_SIGNATURE);
    let Some(AddressPair { source, destination }) = ends else {
        header.extend([0x20, 0x00, 0, 0]);
        return header;
    };
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        // Both addresses must have the same family, so an IPv4 address is mapped to IPv6.
        (from, to) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend(mapped(from).octets());
            header.extend(mapped(to).octets());
        }
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
