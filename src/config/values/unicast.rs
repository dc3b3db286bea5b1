//! Classification of IP addresses: addresses of a single host.

use std::net::IpAddr;

/// Whether the address can belong to a single host. It is not the unspecified address, a multicast group or the
/// broadcast address. The kernel treats 0.0.0.0 and `::` as the local host, so such a backend would be Weir's own
/// machine.
pub fn is_unicast(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_multicast_and_broadcast_addresses_are_not_unicast() {
        let is = |text: &str| is_unicast(text.parse().unwrap());
        for none in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.1.2.3", "ff02::1", "255.255.255.255"] {
            assert!(!is(none), "{none}");
        }
        for one in ["127.0.0.1", "10.0.0.1", "::1", "fe80::1", "2001:db8::1", "::ffff:10.0.0.1", "169.254.1.1"] {
            assert!(is(one), "{one}");
        }
    }
}
