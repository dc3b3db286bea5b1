//! A set of networks: sorted ranges that do not overlap. A look-up is one binary search.
//!
//! IPv4-mapped IPv6 addresses and networks are treated as IPv4.

use std::net::IpAddr;

use super::values::Cidr;

/// The first and the last address of a range.
type Range<T> = (T, T);

/// A set of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSet {
    v4: Box<[Range<u32>]>,
    v6: Box<[Range<u128>]>,
}

impl NetworkSet {
    /// The union of these networks.
    pub fn new(networks: impl IntoIterator<Item = Cidr>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            let (first, last) = network.range();
            match (first.to_canonical(), last.to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                _ => v6.push((bits(first), bits(last))),
            }
        }
        Self { v4: disjoint(v4), v6: disjoint(v6) }
    }

    /// Whether a network of the set contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_within(&self.v6, address.to_bits()),
        }
    }

    /// Whether the set contains no address.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Sorts the ranges and joins those that overlap.
fn disjoint<T: Copy + Ord>(mut ranges: Vec<Range<T>>) -> Box<[Range<T>]> {
    ranges.sort_unstable();
    let mut joined: Vec<Range<T>> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

fn is_within<T: Copy + Ord>(ranges: &[Range<T>], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|at| address <= ranges[at].1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn set(networks: &[&str]) -> NetworkSet {
        NetworkSet::new(networks.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn an_ipv4_mapped_address_or_network_is_ipv4() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(set(&["10.0.0.0/8"]).contains(ip("::ffff:10.1.2.3")));
        assert!(set(&["::ffff:10.0.0.0/104"]).contains(ip("10.1.2.3")));
        assert!(!set(&["::ffff:10.0.0.0/104"]).contains(ip("11.0.0.0")));
        assert!(!set(&["::/0"]).contains(ip("10.1.2.3")), "an IPv6 network has no IPv4 addresses");
        assert!(set(&["0.0.0.0/0"]).contains(ip("255.255.255.255")));
        assert!(set(&["::/0"]).contains(ip("ffff::")));
        assert!(!set(&[]).contains(ip("10.1.2.3")) && set(&[]).is_empty());
    }

    fn network() -> impl Strategy<Value = Cidr> {
        let v4 = (0_u32..4096, 20_u8..=32).prop_map(|(bits, len)| format!("{}/{len}", Ipv4Addr::from_bits(bits)));
        let v6 = (0_u128..4096, 116_u8..=128)
            .prop_map(|(bits, len)| format!("{}/{len}", Ipv6Addr::from_bits(0xfd << 120 | bits)));
        prop_oneof![v4, v6].prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn agrees_with_a_test_of_each_network(
            networks in prop::collection::vec(network(), 0..40),
            addresses in prop::collection::vec(0_u32..5000, 1..60),
        ) {
            let set = NetworkSet::new(networks.iter().copied());
            for bits in addresses {
                let v6 = Ipv6Addr::from_bits(0xfd << 120 | u128::from(bits));
                for address in [IpAddr::V4(Ipv4Addr::from_bits(bits)), IpAddr::V6(v6)] {
                    let expected = networks.iter().any(|network| network.contains(address));
                    prop_assert_eq!(set.contains(address), expected, "{}", address);
                }
            }
        }
    }
}
