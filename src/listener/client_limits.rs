//! Open connections per client on one listener.
//!
//! A client without a connection has no entry. So the table never has more entries than the listener has connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// The table has this many shards, each with its own lock. All connections of one client use the same shard.
const SHARD_COUNT: usize = 16;

/// The number of open connections of each client.
#[derive(Debug, Default)]
pub(super) struct ClientConnections([Mutex<HashMap<IpAddr, usize>>; SHARD_COUNT]);

/// One counted connection. Its drop lowers the count.
#[derive(Debug)]
pub(super) struct ClientConnectionGuard(Arc<ClientConnections>, IpAddr);

impl ClientConnections {
    /// Counts one more connection. `None` if the client would then have more than `most`.
    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr, most: usize) -> Option<ClientConnectionGuard> {
        let client = client(ip);
        let mut counts = self.shard(client);
        let count = counts.entry(client).or_default();
        // The first connection of a client is always accepted, because the limit is 1 or more.
        if *count >= most.max(1) {
            return None;
        }
        *count += 1;
        Some(ClientConnectionGuard(Arc::clone(self), client))
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let last = match client {
            IpAddr::V4(v4) => v4.octets()[3],
            // The last byte of the /64 prefix.
            IpAddr::V6(v6) => v6.octets()[7],
        };
        self.0[usize::from(last) % SHARD_COUNT].lock()
    }
}

/// The unit that counts as one client: an IPv4 address or an IPv6 /64 network. A client usually controls all addresses
/// of its /64.
fn client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

impl Drop for ClientConnectionGuard {
    fn drop(&mut self) {
        let mut counts = self.0.shard(self.1);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
                if counts.is_empty() {
                    // Returns the memory that a burst of clients has used.
                    counts.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_its_own_count_and_empty_entries_are_removed() {
        let all = Arc::<ClientConnections>::default();
        let first = [all.enter(ip("192.0.2.1"), 2).unwrap(), all.enter(ip("::ffff:192.0.2.1"), 2).unwrap()];
        assert!(all.enter(ip("192.0.2.1"), 2).is_none());
        let other = all.enter(ip("192.0.2.2"), 2).unwrap();
        drop(first);
        let again = all.enter(ip("192.0.2.1"), 1).unwrap();
        assert!(all.enter(ip("192.0.2.1"), 1).is_none());
        drop((other, again));
        assert!(all.0.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_client() {
        let all = Arc::<ClientConnections>::default();
        let _one = all.enter(ip("2001:db8:0:1::1"), 1).unwrap();
        assert!(all.enter(ip("2001:db8:0:1:ffff::2"), 1).is_none());
        assert!(all.enter(ip("2001:db8:0:2::1"), 1).is_some());
    }
}
