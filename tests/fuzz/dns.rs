//! DNS answers: any sequence of answers leaves a usable list of backends, and no answer empties it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use weir::upstream::discovery::records::{AddressRecords, DnsReply, SrvRecord, SrvRecords, scale, to_result};

use crate::Numbers;

fn address(input: &mut Numbers<'_>, v6: bool) -> IpAddr {
    let byte = input.byte();
    match (v6, byte) {
        (false, 0..4) => Ipv4Addr::new(byte * 85, 0, 0, 0).into(),
        (false, _) => Ipv4Addr::new(10, 0, 0, byte % 8).into(),
        (true, 0..4) => Ipv6Addr::new(u16::from(byte) << 14, 0, 0, 0, 0, 0, 0, 0).into(),
        (true, _) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(byte % 8)).into(),
    }
}

fn reply<T>(input: &mut Numbers<'_>, mut one: impl FnMut(&mut Numbers<'_>) -> T) -> DnsReply<T> {
    match input.byte() % 4 {
        0 => DnsReply::Nothing,
        1 => DnsReply::Failed("SERVFAIL".into()),
        _ => {
            let count = usize::from(input.byte() % 6);
            DnsReply::Records((0..count).map(|_| one(input)).collect(), Duration::from_secs(input.below(100_000)))
        }
    }
}

fn check(bytes: &[u8]) {
    let mut input = Numbers(bytes);
    let (mut name, mut service) = (AddressRecords::default(), SrvRecords::default());
    while !input.is_empty() {
        let had = (name.iter().count(), service.backends().len());
        if input.byte().is_multiple_of(2) {
            let (v4, v6) =
                (reply(&mut input, |input| address(input, false)), reply(&mut input, |input| address(input, true)));
            let merged = name.take("app.test", v4, v6);
            assert!(name.iter().count() > 0 || had.0 == 0, "an answer emptied the list");
            let result = to_result(name.backends(80), merged);
            assert_eq!(result.list.is_none(), name.iter().next().is_none());
            assert!(result.list.is_some() || !result.wrong.is_empty(), "no list and no reason");
        } else {
            srv(&mut input, &mut service, had.1);
        }
    }
}

fn srv(input: &mut Numbers<'_>, service: &mut SrvRecords, had: usize) {
    let record = |input: &mut Numbers<'_>| SrvRecord {
        target: ["a.test", "b.test", "c.test", "."][usize::from(input.byte() % 4)].into(),
        port: 8080 + u16::from(input.byte() % 2),
        priority: u16::from(input.byte() % 3),
        weight: u16::from(input.byte()) << 8,
    };
    let (_, targets) = service.take("_http._tcp.test", reply(input, record));
    for target in &targets {
        let (v4, v6) = (reply(input, |input| address(input, false)), reply(input, |input| address(input, true)));
        service.take_target(target, v4, v6);
    }
    let backends = service.backends();
    let addresses: BTreeSet<_> = backends.iter().map(|backend| backend.address.clone()).collect();
    assert_eq!(addresses.len(), backends.len(), "an address twice");
    assert!(backends.iter().all(|backend| (1..=256).contains(&backend.weight)), "{backends:?}");
    // New targets may have no address yet.
    assert!(!backends.is_empty() || had == 0 || !targets.is_empty());
    let weights: Vec<u64> = backends.iter().map(|backend| backend.weight.into()).collect();
    assert_eq!(scale(&weights).len(), weights.len());
}

crate::fuzz_target!(dns, &[], check);
