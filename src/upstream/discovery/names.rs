//! Asks DNS: the addresses of a name, or a service's records and the addresses of their targets.
//!
//! Nothing is cached here but what `answer` keeps: when to ask again is `schedule`'s. The system's settings (resolv.conf,
//! hosts) are read anew after a look that failed, so that another server there needs no restart.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use super::Look;
use super::answer::{self, Addresses, Reply, Service, Services};
use crate::config::schema::Discover;
use crate::config::values::NameServer;

/// How long one server may take to answer, and how often it is asked again.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 1;

/// How long the questions about one name may take in all, whatever search lists and servers there are.
const WHOLE: Duration = Duration::from_secs(10);

/// Targets of one service that are asked for at once.
const AT_ONCE: usize = 16;

/// A name or a service, with its last good answers.
pub struct Names {
    server: Option<NameServer>,
    resolver: Option<TokioResolver>,
    wanted: Wanted,
}

enum Wanted {
    Name { name: String, port: u16, known: Addresses },
    Service { name: String, known: Services },
}

impl Names {
    /// As `discover` says; nothing where it names no name.
    pub fn of(settings: &Discover) -> Option<Self> {
        let wanted = match (&settings.dns, settings.port, &settings.srv) {
            (Some(name), Some(port), _) => {
                Wanted::Name { name: name.as_str().to_owned(), port, known: Addresses::default() }
            }
            (_, _, Some(name)) => Wanted::Service { name: name.as_str().to_owned(), known: Services::default() },
            _ => return None,
        };
        Some(Self { server: settings.resolver, resolver: None, wanted })
    }

    /// Looks once.
    pub async fn look(&mut self) -> Look {
        let resolver = match self.resolver.take().map_or_else(|| resolver(self.server), Ok) {
            Ok(resolver) => resolver,
            Err(error) => return Look { wrong: vec![format!("no DNS server to ask: {error}")], ..Look::default() },
        };
        let look = match &mut self.wanted {
            Wanted::Name { name, port, known } => {
                let (v4, v6) = addresses(&resolver, name).await;
                let judged = known.take(name, v4, v6);
                answer::look(known.backends(*port), judged)
            }
            Wanted::Service { name, known } => service(&resolver, name, known).await,
        };
        self.resolver = Some(resolver).filter(|_| look.wrong.is_empty());
        look
    }
}

async fn service(resolver: &TokioResolver, name: &str, known: &mut Services) -> Look {
    let (mut judged, targets) = known.take(name, services(resolver, name).await);
    let mut left: Vec<String> = targets.into_iter().collect();
    while !left.is_empty() {
        let mut asked = JoinSet::new();
        for target in left.split_off(left.len().saturating_sub(AT_ONCE)) {
            let resolver = resolver.clone();
            asked.spawn(async move {
                let answer = addresses(&resolver, &target).await;
                (target, answer)
            });
        }
        while let Some(answered) = asked.join_next().await {
            let Ok((target, (v4, v6))) = answered else { continue };
            judged.add(known.take_target(&target, v4, v6));
        }
    }
    answer::look(known.backends(), judged)
}

fn resolver(server: Option<NameServer>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        Some(server) => TokioResolver::builder_with_config(asking(server.get()), TokioRuntimeProvider::default()),
        None => TokioResolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts, options.cache_size) = (TIMEOUT, ATTEMPTS, 0);
    if server.is_some() {
        options.use_hosts_file = ResolveHosts::Never;
    }
    // The TTL of an alias counts as well.
    options.preserve_intermediates = true;
    builder.build()
}

/// UDP first, TCP for what does not fit.
fn asking(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

async fn addresses(resolver: &TokioResolver, name: &str) -> (Reply<IpAddr>, Reply<IpAddr>) {
    let v4 = ask(resolver, name, RecordType::A, |data| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    });
    let v6 = ask(resolver, name, RecordType::AAAA, |data| match data {
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    tokio::join!(v4, v6)
}

async fn services(resolver: &TokioResolver, name: &str) -> Reply<Service> {
    ask(resolver, name, RecordType::SRV, |data| match data {
        RData::SRV(record) => Some(Service {
            target: record.target.to_ascii().to_ascii_lowercase(),
            port: record.port,
            priority: record.priority,
            weight: record.weight,
        }),
        _ => None,
    })
    .await
}

async fn ask<T>(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
    wanted: impl Fn(&RData) -> Option<T>,
) -> Reply<T> {
    match tokio::time::timeout(WHOLE, resolver.lookup(name, kind)).await {
        Err(_) => Reply::Failed("no answer in time".into()),
        Ok(Err(error)) => refused(&error),
        Ok(Ok(lookup)) => {
            let records: Vec<T> = lookup.answers().iter().filter_map(|record| wanted(&record.data)).collect();
            let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
            if records.is_empty() { Reply::Nothing } else { Reply::Records(records, Duration::from_secs(ttl.into())) }
        }
    }
}

fn refused<T>(error: &NetError) -> Reply<T> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => Reply::Nothing,
        NetError::Dns(DnsError::ResponseCode(code)) => Reply::Failed(format!("the server says: {code}")),
        NetError::Timeout => Reply::Failed("no answer in time".into()),
        other => Reply::Failed(other.to_string()),
    }
}
