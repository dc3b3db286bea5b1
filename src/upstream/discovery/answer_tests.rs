//! Tests of DNS answers: which are accepted, which keep the last good list, and how weights are scaled.

use proptest::prelude::*;

use super::*;

fn ips<const N: usize>(texts: [&str; N]) -> DnsReply<IpAddr> {
    DnsReply::Records(texts.iter().map(|text| text.parse().unwrap()).collect(), Duration::from_secs(30))
}

fn failed() -> DnsReply<IpAddr> {
    DnsReply::Failed("timed out".into())
}

fn shown(addresses: &AddressRecords) -> Vec<String> {
    addresses.iter().map(|ip| ip.to_string()).collect()
}

fn service(target: &str, port: u16, priority: u16, weight: u16) -> SrvRecord {
    SrvRecord { target: target.into(), port, priority, weight }
}

fn listed(services: &SrvRecords) -> Vec<String> {
    let list = services.backends();
    list.iter().map(|b| format!("{} weight {} tier {}", b.address, b.weight, b.tier)).collect()
}

#[test]
fn both_families_are_listed_in_a_stable_order() {
    let mut one = AddressRecords::default();
    let merged = one.take("a", ips(["10.0.0.2", "10.0.0.1", "10.0.0.2"]), ips(["fd00::1"]));
    assert_eq!(merged, MergedRecords { wrong: vec![], ttl: Some(Duration::from_secs(30)) });
    let mut two = AddressRecords::default();
    two.take("a", ips(["10.0.0.1", "10.0.0.2"]), ips(["fd00::1"]));
    assert_eq!(one, two);
    assert_eq!(shown(&one), ["10.0.0.1", "10.0.0.2", "fd00::1"]);
    let backends = one.backends(80);
    assert_eq!(backends[2].address.to_string(), "[fd00::1]:80");
    assert!(backends.iter().all(|backend| (backend.weight, backend.tier) == (1, 0)));
}

#[test]
fn a_failed_query_keeps_the_last_good_answer_of_its_family() {
    let mut known = AddressRecords::default();
    known.take("a", ips(["10.0.0.1", "10.0.0.2"]), ips(["fd00::1"]));
    let merged = known.take("a", failed(), ips(["fd00::2"]));
    assert_eq!(merged.wrong, ["a (A): timed out"]);
    assert_eq!(shown(&known), ["10.0.0.1", "10.0.0.2", "fd00::2"]);
    assert_eq!(
        known.take("a", failed(), failed()),
        MergedRecords { wrong: vec!["a (A): timed out".into(), "a (AAAA): timed out".into()], ttl: None }
    );
    assert_eq!(shown(&known), ["10.0.0.1", "10.0.0.2", "fd00::2"]);
    // One family has no records while the other has some: the empty answer is accepted.
    known.take("a", ips(["10.0.0.2"]), DnsReply::Nothing);
    assert_eq!(shown(&known), ["10.0.0.2"]);
}

#[test]
fn an_empty_answer_does_not_empty_the_list() {
    let mut known = AddressRecords::default();
    assert_eq!(known.take("a", DnsReply::Nothing, DnsReply::Nothing).wrong, ["a: has no address"]);
    known.take("a", ips(["10.0.0.1"]), DnsReply::Nothing);
    assert_eq!(known.take("a", DnsReply::Nothing, DnsReply::Nothing).wrong, ["a: has no address"]);
    known.take("a", DnsReply::Nothing, failed());
    assert_eq!(shown(&known), ["10.0.0.1"]);
}

#[test]
fn srv_priorities_become_tiers_and_weights_are_scaled() {
    let mut services = SrvRecords::default();
    let records = vec![service("b", 81, 20, 0), service("a", 80, 10, 60), service("c", 80, 10, 20)];
    let (merged, targets) = services.take("s", DnsReply::Records(records, Duration::from_secs(5)));
    assert_eq!((merged.ttl, targets.len()), (Some(Duration::from_secs(5)), 3));
    assert!(listed(&services).is_empty(), "before the targets are known");
    services.take_target("a", ips(["10.0.0.1", "10.0.0.3"]), DnsReply::Nothing);
    services.take_target("b", ips(["10.0.0.2"]), DnsReply::Nothing);
    let merged = services.take_target("c", failed(), failed());
    assert_eq!(merged.wrong.len(), 2);
    let two = ["10.0.0.1:80 weight 60 tier 0", "10.0.0.3:80 weight 60 tier 0", "10.0.0.2:81 weight 1 tier 1"];
    assert_eq!(listed(&services), two);
    // No answer, or an answer without a usable record: the list stays.
    for reply in [
        DnsReply::Failed("refused".into()),
        DnsReply::Nothing,
        DnsReply::Records(vec![service(".", 0, 0, 0)], Duration::ZERO),
    ] {
        let (merged, targets) = services.take("s", reply);
        assert_eq!((merged.wrong.len(), targets.len()), (1, 3));
        assert_eq!(listed(&services), two);
    }
    // If a target is gone, its addresses go with it.
    let (_, targets) = services.take("s", DnsReply::Records(vec![service("b", 81, 20, 0)], Duration::ZERO));
    assert_eq!(targets.into_iter().collect::<Vec<_>>(), ["b"]);
    assert_eq!(listed(&services), ["10.0.0.2:81 weight 1 tier 0"]);
}

#[test]
fn one_address_of_two_records_is_one_backend() {
    let mut services = SrvRecords::default();
    let records = vec![service("a", 80, 1, 10), service("b", 80, 1, 5), service("b", 80, 2, 9), service("b", 81, 2, 9)];
    services.take("s", DnsReply::Records(records, Duration::ZERO));
    services.take_target("a", ips(["10.0.0.1"]), DnsReply::Nothing);
    services.take_target("b", ips(["10.0.0.1"]), DnsReply::Nothing);
    assert_eq!(listed(&services), ["10.0.0.1:80 weight 15 tier 0", "10.0.0.1:81 weight 9 tier 1"]);
}

#[test]
fn srv_weights_are_scaled_to_backend_weights() {
    assert_eq!(scale(&[]), [0; 0]);
    assert_eq!(scale(&[0, 0]), [1, 1], "no preference");
    assert_eq!(scale(&[1, 2, 256]), [1, 2, 256], "as they are where they fit");
    assert_eq!(scale(&[0, 1]), [1, 256], "a very small chance is not an equal one");
    assert_eq!(scale(&[0, 5, 10]), [1, 128, 256]);
    assert_eq!(scale(&[65_535, 32_768, 1]), [256, 128, 1]);
}

#[test]
fn a_list_is_bounded_and_an_empty_list_is_none() {
    let many =
        AddressRecords { v4: (0..5_000u32).map(|n| IpAddr::from(n.to_be_bytes())).collect(), v6: BTreeSet::new() };
    let cut = to_result(many.backends(80), MergedRecords::default());
    assert_eq!((cut.list.unwrap().len(), cut.wrong.len()), (MAX_BACKENDS, 1));
    assert_eq!(to_result(Vec::new(), MergedRecords::default()).list, None);
}

/// A reply of a random kind, from a small set of addresses.
fn reply() -> impl Strategy<Value = DnsReply<IpAddr>> {
    let some = proptest::collection::vec(0u8..6, 1..5).prop_map(|octets| {
        DnsReply::Records(
            octets.into_iter().map(|octet| IpAddr::from([10, 0, 0, octet])).collect(),
            Duration::from_secs(1),
        )
    });
    prop_oneof![3 => some, 1 => Just(DnsReply::Nothing), 1 => Just(DnsReply::Failed("no".into()))]
}

proptest! {
    #[test]
    fn a_discovered_list_never_becomes_empty(replies in proptest::collection::vec((reply(), reply()), 1..20)) {
        let mut known = AddressRecords::default();
        let mut any = false;
        for (v4, v6) in replies {
            any |= matches!(v4, DnsReply::Records(..)) || matches!(v6, DnsReply::Records(..));
            let merged = known.take("a", v4.clone(), v6.clone());
            prop_assert_eq!(any, known.iter().next().is_some());
            let both = matches!((&v4, &v6), (DnsReply::Records(..), DnsReply::Records(..)));
            prop_assert!(!both || merged.wrong.is_empty());
            if let (DnsReply::Records(v4, _), DnsReply::Records(v6, _)) = (v4, v6) {
                let expected: BTreeSet<_> = v4.into_iter().chain(v6).collect();
                prop_assert_eq!(known.iter().collect::<BTreeSet<_>>(), expected);
            }
        }
    }

    #[test]
    fn scaled_weights_are_positive_and_keep_their_order(weights in proptest::collection::vec(0u64..=65_535, 1..600)) {
        let scaled = scale(&weights);
        prop_assert_eq!(scaled.len(), weights.len());
        prop_assert!(scaled.iter().all(|weight| (1..=256).contains(weight)));
        prop_assert!(scaled.iter().map(|weight| u64::from(*weight)).sum::<u64>() <= MAX_SEQUENCE_LENGTH);
        for (a, b) in weights.iter().zip(&scaled) {
            for (c, d) in weights.iter().zip(&scaled) {
                prop_assert!(a > c || b <= d);
            }
        }
    }
}
