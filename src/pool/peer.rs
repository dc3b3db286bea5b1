//! Prebuilt `HttpPeer` templates, one per upstream and route. An attempt copies one and sets the address.
//!
//! It never opens a connection and never resolves a name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::upstreams::peer::HttpPeer;

use super::addresses::Destination;
use super::backend_addr::BackendAddr;
use super::checkout::{IoTimeouts, PendingCheckout};
use super::connection_pool::{ConnectionPool, PoolKey};
use super::connector;
use super::transport_settings::{TransportSettings, any_address};
use crate::config::schema::{Protocol, RouteTimeouts};

/// Idle timeout of a connection in Pingora's pool that is not reused. Zero means unlimited in Pingora.
const NOT_POOLED_IDLE: Duration = Duration::from_millis(1);

/// The peer that an attempt copies, with the timeouts of a route.
#[derive(Debug, Clone)]
pub struct PeerTemplate {
    peer: HttpPeer,
    settings: PoolSettings,
}

/// Settings of the checkouts.
#[derive(Debug, Clone)]
struct PoolSettings {
    settings: u64,
    http2: bool,
    /// Maximum idle time. Zero: each request has its own connection.
    keep: Duration,
    limits: IoTimeouts,
}

impl PeerTemplate {
    /// The template for one upstream and one route.
    pub fn new(transport: &TransportSettings, timeouts: &RouteTimeouts) -> Self {
        let mut peer = transport.peer(any_address());
        peer.options.connection_timeout = timeouts.connect.limit();
        peer.options.total_connection_timeout = timeouts.connect.limit();
        peer.options.alpn = connector::alpn();
        // Pingora keeps no connection, except where a backend of HTTP/2 chooses HTTP/1 in the TLS handshake.
        peer.options.idle_timeout = Some(NOT_POOLED_IDLE);
        let settings = PoolSettings {
            settings: transport.group_key(),
            http2: transport.protocol != Protocol::Http1,
            keep: if transport.send_proxy { Duration::ZERO } else { transport.keep_alive },
            // Weir's sessions apply these timeouts, so that Pingora starts no timers.
            limits: IoTimeouts {
                first_byte: timeouts.first_byte(),
                read: timeouts.read.limit(),
                write: timeouts.write.limit(),
                tunnel: timeouts.tunnel.limit(),
            },
        };
        Self { peer, settings }
    }

    /// Checks out a connection for an attempt at this backend.
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
    ) -> PendingCheckout {
        let settings = &self.settings;
        let key = PoolKey { backend: address.generation(), settings: settings.settings };
        let fresh = fresh || settings.keep.is_zero();
        let limits = settings.limits.within(left);
        let pending = PendingCheckout::new(pool, key, settings.keep, limits, fresh, now);
        pending.to(address.addresses()).over_http2(settings.http2)
    }

    /// The peer for an attempt at this backend. `None` while its name is unresolved.
    pub fn peer(&self, address: &BackendAddr) -> Option<Box<HttpPeer>> {
        let destination = address.current()?;
        let mut peer = Box::new(self.peer.clone());
        // The checkout has the addresses of a host name.
        if let Destination::One(address) = destination {
            peer._address = address;
        }
        Some(peer)
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
        assert_eq!(plain.options.total_connection_timeout, Some(Duration::from_secs(3)));
        assert_eq!(plain.options.read_timeout, None, "the lease's");
        let tls = peer("tls: {server_name: a}", None, "127.0.0.1:80");
        assert!(tls.is_tls() && matches!(tls.options.alpn, ALPN::Custom(_)), "leased as well");
        let none = RouteTimeouts { connect: Period::ZERO, read: Period::ZERO, ..RouteTimeouts::default() };
        let template = PeerTemplate::new(&TransportSettings::new(&settings("{}"), &|_| None), &none);
        assert_eq!((template.peer.options.read_timeout, template.peer.options.connection_timeout), (None, None));
        let h2c = peer("protocol: h2c", None, "unix:/tmp/a.sock");
        assert!(!h2c.is_tls() && matches!(h2c.options.alpn, ALPN::Custom(_)), "leased as well");
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
