//! Prebuilt `HttpPeer` templates, one per upstream and route. An attempt copies one and sets the address.
//!
//! It never opens a connection and never resolves a name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::upstreams::peer::HttpPeer;

use super::addresses::{Addresses, Destination};
use super::backend_addr::BackendAddr;
use super::checkout::{IoTimeouts, PendingCheckout};
use super::connection_pool::{ConnectionPool, PoolKey};
use super::connector;
use super::dial::Dialer;
use super::transport_settings::{TransportSettings, any_address};
use crate::config::schema::{Protocol, RouteTimeouts};

/// Idle timeout of a connection in Pingora's pool that is not reused. Zero means unlimited in Pingora.
pub const NOT_POOLED_IDLE: Duration = Duration::from_millis(1);

/// The peer that an attempt copies, with the timeouts of a route.
#[derive(Debug, Clone)]
pub struct PeerTemplate {
    peer: HttpPeer,
    /// Set for HTTP/1. Pingora's pool keeps all other connections.
    settings: Option<PoolSettings>,
    /// Each request has its own connection.
    exclusive: bool,
}

/// Settings of the checkouts.
#[derive(Debug, Clone)]
struct PoolSettings {
    settings: u64,
    keep: Duration,
    limits: IoTimeouts,
}

impl PeerTemplate {
    /// The template for one upstream and one route.
    pub fn new(transport: &TransportSettings, timeouts: &RouteTimeouts) -> Self {
        let mut peer = transport.peer(any_address());
        peer.options.connection_timeout = timeouts.connect.limit();
        peer.options.total_connection_timeout = timeouts.connect.limit();
        peer.options.read_timeout = timeouts.read.limit();
        peer.options.write_timeout = timeouts.write.limit();
        if transport.send_proxy {
            peer.options.idle_timeout = Some(NOT_POOLED_IDLE);
        }
        let settings = (transport.protocol == Protocol::Http1).then(|| {
            peer.options.alpn = connector::alpn();
            // `PooledStream` applies these timeouts, so that Pingora starts no timers.
            let limits =
                IoTimeouts { read: peer.options.read_timeout.take(), write: peer.options.write_timeout.take() };
            let keep = if transport.send_proxy { Duration::ZERO } else { transport.keep_alive };
            PoolSettings { settings: transport.group_key(), keep, limits }
        });
        Self { peer, settings, exclusive: transport.send_proxy }
    }

    /// The template for upgrade requests. A tunnel has no other timeout than `timeouts.tunnel`.
    pub fn tunnel(transport: &TransportSettings, timeouts: &RouteTimeouts) -> Self {
        let mut template = Self::new(transport, timeouts);
        let limit = timeouts.tunnel.limit();
        match &mut template.settings {
            Some(settings) => settings.limits = IoTimeouts { read: limit, write: limit },
            None => {
                let options = &mut template.peer.options;
                (options.read_timeout, options.write_timeout) = (limit, limit);
            }
        }
        template
    }

    /// Checks out a connection for an attempt at this backend. `None` if Pingora's pool keeps the connections.
    ///
    /// `left` bounds all timeouts of the checkout. `fresh`: a new connection, which is not pooled afterwards. Call this
    /// before `peer`: otherwise a connection to an outdated address could be pooled under the new generation.
    pub fn checkout(
        &self,
        address: &BackendAddr,
        pool: &Arc<ConnectionPool>,
        left: Option<Duration>,
        fresh: bool,
        now: Instant,
    ) -> Option<PendingCheckout> {
        let settings = self.settings.as_ref()?;
        let key = PoolKey { backend: address.generation(), settings: settings.settings };
        let fresh = fresh || settings.keep.is_zero();
        let limits = settings.limits.within(left);
        Some(PendingCheckout::new(pool, key, settings.keep, limits, fresh, now).to(address.addresses()))
    }

    /// The peer for an attempt at this backend. `None` while its name is unresolved.
    pub fn peer(&self, address: &BackendAddr) -> Option<Box<HttpPeer>> {
        let generation = address.generation();
        let destination = address.current()?;
        let mut peer = Box::new(self.peer.clone());
        match destination {
            Destination::One(address) => peer._address = address,
            // The checkout has the addresses.
            Destination::Any(_) if self.settings.is_some() => {}
            Destination::Any(addresses) => self.aim(&mut peer, addresses, generation),
        }
        Some(peer)
    }

    fn aim(&self, peer: &mut HttpPeer, addresses: Arc<Addresses>, generation: u64) {
        // Multiplied, because generations are small numbers that could cancel each other in the XOR.
        peer.group_key ^= generation.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        peer.options.custom_l4 = Some(Arc::new(Dialer::to(Some(addresses))));
    }

    /// Whether each request has its own connection.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use pingora_core::upstreams::peer::{ALPN, Peer};

    use super::*;
    use crate::config::schema;
    use crate::config::values::Period;

    fn settings(yaml: &str) -> schema::UpstreamSettings {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn peer(yaml: &str, ca: Option<&[u8]>, address: &str) -> HttpPeer {
        let template = PeerTemplate::new(
            &TransportSettings::new(&settings(yaml), &|_| ca.map(<[u8]>::to_vec)),
            &RouteTimeouts::default(),
        );
        *template.peer(&BackendAddr::new(&address.parse().unwrap())).unwrap()
    }

    #[test]
    fn deadlines_and_protocol_come_from_the_document() {
        let plain = peer("{}", None, "127.0.0.1:80");
        assert_eq!(plain.address().to_string(), "127.0.0.1:80");
        assert!(!plain.is_tls() && matches!(plain.options.alpn, ALPN::Custom(_)), "leased");
        assert_eq!(plain.options.idle_timeout, Some(Duration::from_secs(50)));
        assert_eq!(plain.options.total_connection_timeout, Some(Duration::from_secs(3)));
        assert_eq!(plain.options.read_timeout, None, "the lease's");
        let tls = peer("tls: {server_name: a}", None, "127.0.0.1:80");
        assert!(tls.is_tls() && matches!(tls.options.alpn, ALPN::Custom(_)), "leased as well");
        let none = RouteTimeouts { connect: Period::ZERO, read: Period::ZERO, ..RouteTimeouts::default() };
        let template = PeerTemplate::new(&TransportSettings::new(&settings("{}"), &|_| None), &none);
        assert_eq!((template.peer.options.read_timeout, template.peer.options.connection_timeout), (None, None));
        let h2c = peer("protocol: h2c", None, "unix:/tmp/a.sock");
        assert!(!h2c.is_tls() && h2c.options.alpn == ALPN::H2 && h2c.options.max_h2_streams >= 100);
        assert_eq!(h2c.address().to_string(), "/tmp/a.sock");
        let h2 = peer("{protocol: h2, tls: {server_name: api.internal}}", None, "127.0.0.1:80");
        assert!(h2.is_tls() && h2.options.verify_cert && h2.options.verify_hostname && h2.sni == "api.internal");
        let unresolved = BackendAddr::new(&"name.invalid:80".parse().unwrap());
        assert!(template.peer(&unresolved).is_none());
    }

    #[test]
    fn connections_are_not_shared_between_settings() {
        let tls = "tls: {server_name: a}";
        let hash = |yaml: &str, ca: Option<&[u8]>| peer(yaml, ca, "127.0.0.1:80").reuse_hash();
        let hashes = [
            hash("{}", None),
            hash("protocol: h2c", None),
            hash("keep_alive: 1s", None),
            hash(tls, None),
            hash("{protocol: h2, tls: {server_name: a}}", None),
            hash("tls: {server_name: a, ca: x.pem}", Some(b"one")),
            hash("tls: {server_name: a, ca: x.pem}", Some(b"two")),
        ];
        let distinct: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_eq!(hash(tls, None), hash(tls, None));
    }
}
