//! DNS discovery: looks up the addresses of a name, or the SRV records of a service and the addresses of their targets.
//!
//! It caches nothing except the last good answers in `records`. `schedule` decides when the next lookup is due.
//! `dns_query` sends a single query.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use super::DiscoveryResult;
use super::dns_query::Asker;
use super::records::{self, AddressRecords, DnsReply, SrvRecord, SrvRecords};
use crate::config::schema::Discover;
use crate::config::values::NameServer;

/// Maximum number of SRV targets that are looked up concurrently.
const MAX_CONCURRENT_LOOKUPS: usize = 16;

/// Maximum length of a CNAME chain to a service.
const MAX_ALIASES: usize = 8;

/// A name or a service, with its last good answers.
pub struct DnsClient {
    server: Option<NameServer>,
    asker: Option<Asker>,
    wanted: RecordKind,
}

enum RecordKind {
    Name { name: String, port: u16, known: AddressRecords },
    Service { name: String, known: SrvRecords },
}

impl DnsClient {
    /// Creates a client for `discover`; `None` if it configures no DNS name.
    pub fn of(settings: &Discover) -> Option<Self> {
        let wanted = match (&settings.dns, settings.port, &settings.srv) {
            (Some(name), Some(port), _) => {
                RecordKind::Name { name: name.as_str().to_owned(), port, known: AddressRecords::default() }
            }
            (_, _, Some(name)) => RecordKind::Service { name: name.as_str().to_owned(), known: SrvRecords::default() },
            _ => return None,
        };
        Some(Self { server: settings.resolver, asker: None, wanted })
    }

    /// Looks up once. After a failure the system configuration (resolv.conf, hosts) is read again, so a changed server
    /// needs no restart.
    pub async fn lookup(&mut self) -> DiscoveryResult {
        let asker = match self.asker.take().map_or_else(|| Asker::new(self.server), Ok) {
            Ok(asker) => asker,
            Err(error) => {
                return DiscoveryResult {
                    wrong: vec![format!("no DNS server to ask: {error}")],
                    ..DiscoveryResult::default()
                };
            }
        };
        let result = match &mut self.wanted {
            RecordKind::Name { name, port, known } => {
                let (v4, v6) = addresses(&asker, name).await;
                let merged = known.take(name, v4, v6);
                records::to_result(known.backends(*port), merged)
            }
            RecordKind::Service { name, known } => service(&asker, name, known).await,
        };
        self.asker = Some(asker).filter(|_| result.wrong.is_empty());
        result
    }
}

async fn service(asker: &Asker, name: &str, known: &mut SrvRecords) -> DiscoveryResult {
    let (mut merged, targets) = known.take(name, services(asker, name).await);
    let mut remaining: Vec<String> = targets.into_iter().collect();
    while !remaining.is_empty() {
        let mut lookups = JoinSet::new();
        for target in remaining.split_off(remaining.len().saturating_sub(MAX_CONCURRENT_LOOKUPS)) {
            let asker = asker.clone();
            lookups.spawn(async move {
                let answer = addresses(&asker, &target).await;
                (target, answer)
            });
        }
        while let Some(joined) = lookups.join_next().await {
            let Ok((target, (v4, v6))) = joined else { continue };
            merged.add(known.take_target(&target, v4, v6));
        }
    }
    records::to_result(known.backends(), merged)
}

async fn addresses(asker: &Asker, name: &str) -> (DnsReply<IpAddr>, DnsReply<IpAddr>) {
    let v4 = asker.ask(name, RecordType::A, |data| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    });
    let v6 = asker.ask(name, RecordType::AAAA, |data| match data {
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    tokio::join!(v4, v6)
}

/// Looks up SRV records. The resolver library follows a CNAME only for addresses, so this follows it for SRV.
async fn services(asker: &Asker, name: &str) -> DnsReply<SrvRecord> {
    let mut alias: (String, Option<Duration>) = (name.to_owned(), None);
    for _ in 0..=MAX_ALIASES {
        let (name, ttl) = &alias;
        let reply = asker.ask(name, RecordType::SRV, service_of).await;
        match reply {
            DnsReply::Records(records, own) => return DnsReply::Records(records, ttl.map_or(own, |ttl| own.min(ttl))),
            DnsReply::Failed(why) => return DnsReply::Failed(why),
            DnsReply::Nothing => {}
        }
        let next = asker.ask(name, RecordType::CNAME, |data| match data {
            RData::CNAME(target) => Some(target.0.to_ascii()),
            _ => None,
        });
        match next.await {
            DnsReply::Records(targets, own) => {
                let ttl = Some(ttl.map_or(own, |ttl| own.min(ttl)));
                let Some(target) = targets.into_iter().next() else { return DnsReply::Nothing };
                alias = (target, ttl);
            }
            DnsReply::Nothing => return DnsReply::Nothing,
            DnsReply::Failed(why) => return DnsReply::Failed(why),
        }
    }
    DnsReply::Failed(format!("more than {MAX_ALIASES} aliases"))
}

fn service_of(data: &RData) -> Option<SrvRecord> {
    match data {
        RData::SRV(record) => Some(SrvRecord {
            target: record.target.to_ascii().to_ascii_lowercase(),
            port: record.port,
            priority: record.priority,
            weight: record.weight,
        }),
        _ => None,
    }
}
