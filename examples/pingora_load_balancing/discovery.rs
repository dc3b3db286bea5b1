//! Discovery: implements `ServiceDiscovery` of `pingora_load_balancing` with Weir's `DiscoverySource`.
//!
//! Pingora refreshes at its own interval (`update_frequency`) and knows neither TTLs nor tiers. Only the backends of
//! the lowest tier are returned, and only those with an IP address.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use async_trait::async_trait;
use http::Extensions;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use tokio::sync::Mutex;

use weir::config::schema;
use weir::config::values::BackendAddress;
use weir::upstream::discovery::DiscoverySource;

/// A source of backends. The last good list stays in use through failures.
pub struct Discovery(Mutex<(DiscoverySource, Vec<schema::BackendSettings>)>);

impl Discovery {
    /// The source of the upstream's `discover`; `None` if it has none. A file's path is relative to `folder`.
    pub fn of(upstream: &schema::UpstreamSettings, folder: &Path) -> Option<Box<Self>> {
        let source = DiscoverySource::of(upstream, folder)?;
        Some(Box::new(Self(Mutex::new((source, Vec::new())))))
    }
}

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut state = self.0.lock().await;
        let look = state.0.discover().await;
        match look.list {
            Some(list) => state.1 = list,
            None if state.1.is_empty() => return Error::e_explain(ErrorType::InternalError, look.wrong.join("; ")),
            None => {}
        }
        let first = state.1.iter().map(|backend| backend.tier).min();
        let of_first = state.1.iter().filter(|backend| Some(backend.tier) == first);
        Ok((of_first.filter_map(shown).collect(), HashMap::new()))
    }
}

fn shown(backend: &schema::BackendSettings) -> Option<Backend> {
    match backend.address {
        BackendAddress::Socket(address) => {
            Some(Backend { addr: SocketAddr::Inet(address), weight: backend.weight.into(), ext: Extensions::new() })
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use pingora_load_balancing::selection::RoundRobin;
    use pingora_load_balancing::{Backends, LoadBalancer};

    use super::*;

    #[tokio::test]
    async fn a_pingora_load_balancer_discovers_its_backends() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.yaml");
        std::fs::write(
            &list,
            "[{address: '10.0.0.1:80'}, {address: '10.0.0.2:80'}, {address: '10.0.0.3:80', tier: 1}]",
        )
        .unwrap();
        let upstream: schema::UpstreamSettings = serde_yaml::from_str("discover: {file: list.yaml}").unwrap();
        let discovery = Discovery::of(&upstream, folder.path()).unwrap();
        let balancer = LoadBalancer::<RoundRobin>::from_backends(Backends::new(discovery));
        balancer.update().await.unwrap();
        let picked =
            || -> BTreeSet<String> { (0..4).map(|_| balancer.select(b"", 16).unwrap().addr.to_string()).collect() };
        assert_eq!(picked(), ["10.0.0.1:80", "10.0.0.2:80"].map(str::to_owned).into());
        std::fs::write(&list, "[{address").unwrap();
        balancer.update().await.unwrap();
        assert_eq!(picked().len(), 2, "the last good list");
        assert!(Discovery::of(&schema::UpstreamSettings::default(), folder.path()).is_none());
    }
}
