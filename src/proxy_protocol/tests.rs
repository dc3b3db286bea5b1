//! Headers line by line and byte by byte, and properties that hold beside another reader of the same format.

use proptest::prelude::*;

use super::*;

fn ends(source: &str, destination: &str) -> AddressPair {
    AddressPair { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A whole header of version 2, read as the listener does it.
fn parse_v2(header: &[u8]) -> Result<Option<AddressPair>, MalformedHeader> {
    let v2 = V2::parse(header.first_chunk().ok_or(MalformedHeader::Start)?)?;
    let rest = &header[V2_FIXED..];
    if rest.len() < v2.length { Err(MalformedHeader::Length) } else { Ok(v2.ends(rest)) }
}

#[test]
fn lines_of_version_1() {
    let four = ends("192.0.2.1:56324", "198.51.100.2:443");
    let six = ends("[2001:db8::1]:1", "[2001:db8::2]:65535");
    for (line, want) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", Ok(Some(four))),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Ok(Some(six))),
        ("PROXY UNKNOWN\r\n", Ok(None)),
        ("PROXY UNKNOWN ffff::1 whatever, it is ignored\r\n", Ok(None)),
        ("PROXY UNKNOWNS\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n", Err(MalformedHeader::Line)),
        ("PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n", Err(MalformedHeader::Line)),
        ("PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n", Err(MalformedHeader::Line)),
        ("proxy TCP4 192.0.2.1 198.51.100.2 1 443\r\n", Err(MalformedHeader::Line)),
        ("", Err(MalformedHeader::Line)),
    ] {
        assert_eq!(parse_v1(line.as_bytes()), want, "{line:?}");
    }
}

#[test]
fn a_line_of_version_1_has_a_longest() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX_LEN - 16));
    assert_eq!((longest.len(), parse_v1(longest.as_bytes())), (107, Ok(None)));
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX_LEN - 15));
    assert_eq!(parse_v1(longer.as_bytes()), Err(MalformedHeader::Endless));
}

#[test]
fn headers_of_version_2() {
    let header = |command: u8, family: u8, length: u16, rest: &[u8]| {
        [&V2_SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    };
    let four = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
    let with_tlv = [&four[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    let want = ends("192.0.2.1:56324", "198.51.100.2:443");
    assert_eq!(parse_v2(&header(0x21, 0x11, 12, &four)), Ok(Some(want)));
    assert_eq!(parse_v2(&header(0x21, 0x11, 18, &with_tlv)), Ok(Some(want)), "TLVs are skipped");
    assert_eq!(parse_v2(&header(0x20, 0x11, 12, &four)), Ok(None), "LOCAL");
    assert_eq!(parse_v2(&header(0x20, 0xff, 0, &[])), Ok(None), "what LOCAL says of a family is ignored");
    for family in [0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x31, 0x32] {
        assert_eq!(parse_v2(&header(0x21, family, 0, &[])), Ok(None), "{family:#x}");
    }
    for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x2f, 0x11), (0x21, 0x13), (0x21, 0x41), (0x21, 0xff)] {
        assert_eq!(
            parse_v2(&header(command, family, 12, &four)),
            Err(MalformedHeader::Unknown),
            "{command:#x} {family:#x}"
        );
    }
    assert_eq!(parse_v2(&header(0x21, 0x11, 11, &four[..11])), Err(MalformedHeader::Length));
    assert_eq!(parse_v2(&header(0x21, 0x21, 35, &[0; 35])), Err(MalformedHeader::Length));
}

#[test]
fn versions_are_told_apart() {
    assert_eq!(version(&V2_SIGNATURE), Ok(Version::Two));
    assert_eq!(version(b"PROXY TCP4 1"), Ok(Version::One));
    assert_eq!(version(b"GET / HTTP/1"), Err(MalformedHeader::Start));
    assert_eq!(version(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0"), Err(MalformedHeader::Start));
}

#[test]
fn ends_of_two_families_are_both_ipv6() {
    let mixed = ends("192.0.2.1:1", "[2001:db8::2]:2");
    let want = ends("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2");
    assert_eq!(parse_v2(&encode_v2(Some(mixed))), Ok(Some(want)));
}

/// The `ppp` crate's reading of the same bytes.
fn by_ppp(header: &[u8]) -> Option<(IpAddr, u16, IpAddr, u16)> {
    use ppp::v2::Addresses;
    match ppp::v2::Header::try_from(header).ok()?.addresses {
        Addresses::IPv4(a) => {
            Some((a.source_address.into(), a.source_port, a.destination_address.into(), a.destination_port))
        }
        Addresses::IPv6(a) => {
            Some((a.source_address.into(), a.source_port, a.destination_address.into(), a.destination_port))
        }
        _ => None,
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

proptest! {
    #[test]
    fn what_is_written_is_read_here_and_by_others(source in any_address(), destination in any_address()) {
        let header = encode_v2(Some(AddressPair { source, destination }));
        let read = parse_v2(&header).unwrap().unwrap();
        prop_assert_eq!((read.source.ip().to_canonical(), read.source.port()), (source.ip(), source.port()));
        prop_assert_eq!(read.destination.ip().to_canonical(), destination.ip());
        let other = by_ppp(&header).unwrap();
        prop_assert_eq!(other, (read.source.ip(), read.source.port(), read.destination.ip(), read.destination.port()));
    }

    #[test]
    fn a_line_is_read_as_others_read_it(source in any_address(), destination in any_address()) {
        let (from, to) = match (source.is_ipv4(), destination.is_ipv4()) {
            (true, true) => (source, destination),
            _ => (SocketAddr::new(mapped(source.ip()).into(), source.port()),
                  SocketAddr::new(mapped(destination.ip()).into(), destination.port())),
        };
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        prop_assert_eq!(parse_v1(line.as_bytes()), Ok(Some(AddressPair { source: from, destination: to })));
        prop_assert!(ppp::v1::Header::try_from(line.as_bytes()).is_ok());
    }

    #[test]
    fn no_bytes_panic_and_what_both_read_is_equal(command in any::<u8>(), family in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..80)) {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let header = [&V2_SIGNATURE[..], &[command, family], &length, &rest].concat();
        let _ = parse_v1(&rest);
        if let (Ok(Some(mine)), Some(other)) = (parse_v2(&header), by_ppp(&header)) {
            prop_assert_eq!((mine.source.ip(), mine.source.port(), mine.destination.ip(), mine.destination.port()), other);
        }
    }
}
