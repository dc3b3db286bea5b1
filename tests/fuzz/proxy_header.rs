//! PROXY headers against the crate `ppp`.

use std::net::SocketAddr;

use weir::proxy_protocol::{AddressPair, MIN_PREFIX_LEN, V2, V2_FIXED, Version, encode_v2, parse_v1, version};

const TOKENS: &[&str] = &[
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    "127.0.0.1 ",
    "10.0.0.1 ",
    "::1 ",
    "::ffff:1.2.3.4 ",
    "80",
    "65535",
    "65536",
    " ",
    "\r\n",
    "0",
    "00",
    "\r\n\r\n\0\r\nQUIT\n",
    "\x21\x11\0\x0c",
    "\x21\x21\0\x24",
    "\x20\0\0\0",
    "+1",
];

fn of_ppp_v1(line: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    match ppp::v1::Header::try_from(line).ok()?.addresses {
        ppp::v1::Addresses::Tcp4(ip) => {
            Some(((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into()))
        }
        ppp::v1::Addresses::Tcp6(ip) => {
            Some(((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into()))
        }
        ppp::v1::Addresses::Unknown => None,
    }
}

fn of_ppp_v2(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    match ppp::v2::Header::try_from(header).ok()?.addresses {
        ppp::v2::Addresses::IPv4(ip) => {
            Some(((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into()))
        }
        ppp::v2::Addresses::IPv6(ip) => {
            Some(((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into()))
        }
        _ => None,
    }
}

fn pair(ends: AddressPair) -> (SocketAddr, SocketAddr) {
    (ends.source, ends.destination)
}

fn check(bytes: &[u8]) {
    let Some(start) = bytes.first_chunk::<MIN_PREFIX_LEN>() else { return };
    match version(start) {
        Ok(Version::One) => {
            let end = bytes.windows(2).position(|two| two == b"\r\n").map_or(bytes.len(), |at| at + 2);
            if let Ok(Some(ends)) = parse_v1(&bytes[..end]) {
                assert_eq!(of_ppp_v1(&bytes[..end]), Some(pair(ends)), "{:?}", String::from_utf8_lossy(&bytes[..end]));
                round_trip(ends);
            }
        }
        Ok(Version::Two) => version_2(bytes),
        Err(_) => {}
    }
}

fn version_2(bytes: &[u8]) {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED>() else { return };
    let Ok(v2) = V2::parse(fixed) else { return };
    assert!(v2.addresses() <= v2.length);
    let Some(rest) = bytes[V2_FIXED..].get(..v2.length) else { return };
    let Some(ends) = v2.ends(&rest[..v2.addresses()]) else { return };
    assert_eq!(of_ppp_v2(&bytes[..V2_FIXED + v2.length]), Some(pair(ends)));
    round_trip(ends);
}

/// The encoded header has the same addresses. IPv4 addresses that are mapped to IPv6 may change their form.
fn round_trip(ends: AddressPair) {
    let header = encode_v2(Some(ends));
    let v2 = V2::parse(header.first_chunk().unwrap()).unwrap();
    let again = v2.ends(&header[V2_FIXED..]).unwrap();
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    assert_eq!(
        (canonical(again.source), canonical(again.destination)),
        (canonical(ends.source), canonical(ends.destination))
    );
}

crate::fuzz_target!(proxy_header, TOKENS, check);
